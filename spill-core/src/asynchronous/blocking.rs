//! `Blocking`: an asynchronous mapping, callable from any thread.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc;

use tokio::runtime::Builder;

use super::each;
use super::host::{Closing, Host, caught};
use crate::{AsyncMutableMapping, Key, MutableMapping, Result, SpilledSize, Stats, Usage, Value};

/// Makes an [`AsyncMutableMapping`] a [`MutableMapping`], so that it can be storage below a
/// [`Buffer`](crate::Buffer) and be called from any thread: a plain one, a task of any runtime, one that a
/// runtime keeps for blocking calls.
///
/// Futures run on threads of its own; the caller sleeps until they have answered. A call from inside a runtime
/// is allowed, since it starts no runtime there; it holds up its own thread as every blocking call does.
/// Readings from RAM (`contains_key`, `len`, `usage`, ...) are answered in the caller.
///
/// What ends a call early, and what a panic becomes, is told at [`AsyncMutableMapping`]. A future that blocks
/// its thread instead of waiting cannot be ended by `close`.
///
/// ```
/// use spill_core::{Blocking, BufferBuilder, Lru, MutableMapping, Offload};
///
/// let storage: Lru<u32, String> = BufferBuilder::new().alone()?;
/// let asynchronous = Offload::new(storage, 2)?; // stands for a client of some service
/// let mapping = Blocking::new(asynchronous, 1)?;
/// mapping.insert(1, "one".to_owned())?;
/// assert_eq!(mapping.get(&1)?.as_deref(), Some("one"));
/// mapping.close()?;
/// # Ok::<_, spill_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Blocking<M> {
    inner: Arc<M>,
    host: Host,
}

impl<M> Blocking<M> {
    /// `inner`, with `threads` threads that poll its futures; one is enough unless they compute. The runtime
    /// on them has timers and sockets where those features of tokio are compiled in.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for no thread, [`Io`](crate::ErrorKind::Io) or
    /// [`Panicked`](crate::ErrorKind::Panicked) when the system does not give them.
    pub fn new(inner: M, threads: usize) -> Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads.max(1)).thread_name("overspill-await").enable_all();
        Ok(Blocking {
            inner: Arc::new(inner),
            host: Host::own("the blocking adapter", threads, &mut builder)?,
        })
    }

    /// The mapping below.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    /// Runs the future that `call` makes of the mapping below and waits for its answer.
    fn call<T, F>(&self, during: &'static str, call: impl FnOnce(Arc<M>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let closing = self.host.open()?;
        self.wait(Some(closing), caught(during, call(Arc::clone(&self.inner))))
    }

    /// Runs `call` on the runtime and waits for its answer, or, with `closing`, until that comes first.
    fn wait<T: Send + 'static>(
        &self,
        closing: Option<Closing>,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.host.handle.spawn(async move {
            let outcome = match closing {
                Some(closing) => closing.or(call).await,
                None => call.await,
            };
            // the caller is there: it waits until this end of the channel is gone
            _ = reply.send(outcome);
        });
        answer.recv().unwrap_or_else(|_| Err(self.host.ended()))
    }
}

impl<K: Key, V: Value, M: AsyncMutableMapping<K, V> + 'static> MutableMapping<K, V> for Blocking<M> {
    fn get(&self, key: &K) -> Result<Option<V>> {
        let key = key.clone();
        self.call("getting a value", |inner| async move { inner.get(&key).await })
    }
    fn insert(&self, key: K, value: V) -> Result<()> {
        self.call("inserting a value", |inner| async move { inner.insert(key, value).await })
    }
    fn remove(&self, key: &K) -> Result<bool> {
        let key = key.clone();
        self.call("removing a key", |inner| async move { inner.remove(&key).await })
    }
    fn take(&self, key: &K) -> Result<Option<V>> {
        let key = key.clone();
        self.call("taking a value", |inner| async move { inner.take(&key).await })
    }
    fn contains_key(&self, key: &K) -> bool {
        self.inner.contains_key(key)
    }
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        self.inner.for_each_key(f);
    }
    fn peek(&self, key: &K) -> Result<Option<V>> {
        let key = key.clone();
        self.call("peeking at a value", |inner| async move { inner.peek(&key).await })
    }
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
        let (count, keys) = (keys.len(), keys.to_vec());
        each(count, self.call("getting values", |inner| async move { Ok(inner.get_many(&keys).await) }))
    }
    fn insert_many(&self, pairs: Vec<(K, V)>) -> Vec<Result<()>> {
        let count = pairs.len();
        each(count, self.call("inserting values", |inner| async move { Ok(inner.insert_many(pairs).await) }))
    }
    fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        let (count, keys) = (keys.len(), keys.to_vec());
        each(count, self.call("removing keys", |inner| async move { Ok(inner.remove_many(&keys).await) }))
    }
    fn clear(&self) -> Result<()> {
        self.call("clearing", |inner| async move { inner.clear().await })
    }
    fn usage(&self) -> Usage {
        self.inner.usage()
    }
    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        self.inner.stored_size(key)
    }
    fn stats(&self) -> Stats {
        self.inner.stats()
    }
    fn flush(&self) -> Result<()> {
        self.call("flushing", |inner| async move { inner.flush().await })
    }
    fn close(&self) -> Result<()> {
        if !self.host.close() {
            return Ok(());
        }
        let inner = Arc::clone(&self.inner);
        let closed = self.wait(None, caught("closing", async move { inner.close().await }));
        self.host.shut_down();
        closed
    }
}
