//! `Offload`: a mapping whose calls block, for callers that must not.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::runtime::{Builder, Handle};

use super::each;
use super::host::Host;
use crate::guard::guarded;
use crate::{AsyncMutableMapping, Key, MutableMapping, Result, SpilledSize, Stats, Usage, Value};

/// Makes a [`MutableMapping`] an [`AsyncMutableMapping`], by running its calls on a pool of threads.
///
/// The futures need no runtime: any executor can poll them. Readings from RAM (`contains_key`, `len`,
/// `usage`, ...) are answered in the caller. Calls wait in line when all threads are busy, and so does what
/// `close` does below, after it told everybody in flight. What a dropped future and `close` end, and what a
/// panic becomes, is told at [`AsyncMutableMapping`].
///
/// A batch (`get_many`, `insert_many`, `remove_many`, `clear`) is one call: it takes one thread, and where it
/// panics all its results are [`Panicked`](crate::ErrorKind::Panicked), though some of it may have happened.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use spill_core::{AsyncMutableMapping, BufferBuilder, Lru, Offload};
///
/// let storage: Lru<u32, String> = BufferBuilder::new().alone()?;
/// let mapping = Offload::new(storage, 2)?;
/// mapping.insert(1, "one".to_owned()).await?;
/// assert_eq!(mapping.get(&1).await?.as_deref(), Some("one"));
/// mapping.close().await
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct Offload<M> {
    inner: Arc<M>,
    host: Host,
}

impl<M> Offload<M> {
    /// `inner`, with a pool of at most `threads` threads of its own, which start when they are needed.
    ///
    /// # Errors
    /// [`Config`](crate::ErrorKind::Config) for no thread, [`Io`](crate::ErrorKind::Io) when the system refuses
    /// what a pool needs.
    pub fn new(inner: M, threads: usize) -> Result<Self> {
        Self::shared(Arc::new(inner), threads)
    }

    /// `inner`, with the threads that `runtime` keeps for blocking calls. The runtime is never shut down from
    /// here; once its owner has done so, calls fail with [`Closed`](crate::ErrorKind::Closed).
    pub fn on(inner: M, runtime: Handle) -> Self {
        Self::shared_on(Arc::new(inner), runtime)
    }

    pub(super) fn shared(inner: Arc<M>, threads: usize) -> Result<Self> {
        // such a runtime has no thread but those of its pool
        let mut builder = Builder::new_current_thread();
        builder.max_blocking_threads(threads.max(1)).thread_name("overspill-offload");
        Ok(Offload { inner, host: Host::own("the offloading adapter", threads, &mut builder)? })
    }

    pub(super) fn shared_on(inner: Arc<M>, runtime: Handle) -> Self {
        Offload { inner, host: Host::given("the offloading adapter", runtime) }
    }

    /// The mapping below.
    pub fn inner(&self) -> &Arc<M> {
        &self.inner
    }
}

impl<M: Send + Sync + 'static> Offload<M> {
    /// What `call` returns of the mapping below, run on the pool: for what the trait does not have, such as
    /// [`Buffer::update`](crate::Buffer::update).
    ///
    /// # Errors
    /// What `call` returned, [`Panicked`](crate::ErrorKind::Panicked) when it did that,
    /// [`Closed`](crate::ErrorKind::Closed) when this was closed before it returned.
    pub async fn run<T, F>(&self, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&M) -> Result<T> + Send + 'static,
    {
        let (closing, begins) = (self.host.open()?, self.host.open()?);
        closing
            .or(self.start(move |inner| {
                begins.check()?;
                call(inner)
            }))
            .await
    }

    /// Runs `call` on the pool, whether or not this is closed.
    async fn start<T, F>(&self, call: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&M) -> Result<T> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let job = move || guarded("running an offloaded call", || call(&inner));
        // the runtime panics where the system refuses it the first thread
        let job = guarded("starting a thread", || Ok(self.host.handle.spawn_blocking(job)))?;
        // what was caught above cannot panic here: the runtime was shut down before the call began
        job.await.unwrap_or_else(|_| Err(self.host.ended()))
    }
}

#[async_trait]
impl<K: Key, V: Value, M: MutableMapping<K, V> + 'static> AsyncMutableMapping<K, V> for Offload<M> {
    async fn get(&self, key: &K) -> Result<Option<V>> {
        let key = key.clone();
        self.run(move |inner| inner.get(&key)).await
    }
    async fn insert(&self, key: K, value: V) -> Result<()> {
        self.run(move |inner| inner.insert(key, value)).await
    }
    async fn remove(&self, key: &K) -> Result<bool> {
        let key = key.clone();
        self.run(move |inner| inner.remove(&key)).await
    }
    async fn take(&self, key: &K) -> Result<Option<V>> {
        let key = key.clone();
        self.run(move |inner| inner.take(&key)).await
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
    async fn peek(&self, key: &K) -> Result<Option<V>> {
        let key = key.clone();
        self.run(move |inner| inner.peek(&key)).await
    }
    async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
        let (count, keys) = (keys.len(), keys.to_vec());
        each(count, self.run(move |inner| Ok(inner.get_many(&keys))).await)
    }
    async fn insert_many(&self, pairs: Vec<(K, V)>) -> Vec<Result<()>> {
        let count = pairs.len();
        each(count, self.run(move |inner| Ok(inner.insert_many(pairs))).await)
    }
    async fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        let (count, keys) = (keys.len(), keys.to_vec());
        each(count, self.run(move |inner| Ok(inner.remove_many(&keys))).await)
    }
    async fn clear(&self) -> Result<()> {
        self.run(|inner| inner.clear()).await
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
    async fn flush(&self) -> Result<()> {
        self.run(|inner| inner.flush()).await
    }
    async fn close(&self) -> Result<()> {
        if !self.host.close() {
            return Ok(());
        }
        let closed = self.start(|inner| inner.close()).await;
        self.host.shut_down();
        closed
    }
}
