//! `AsyncBuffer`: a buffer for callers that must not block (PARITY Z17).

use std::sync::Arc;

use async_trait::async_trait;
use tokio::runtime::Handle;

use super::Offload;
use crate::buffer::Attempt;
use crate::sync::Mutex;
use crate::{
    AsyncMutableMapping, Buffer, ErrorKind, Key, MutableMapping, Result, SpilledSize, Stats, Usage, Value,
};

/// What [`AsyncBuffer::get_all`] does about keys that are absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It fails with [`Absent`](ErrorKind::Absent), which names the first of them.
    Raise,
    /// It leaves them out.
    Omit,
}

/// A [`Buffer`] as an [`AsyncMutableMapping`]: what fast memory can answer is answered at the first poll,
/// without a switch to another thread; the rest runs on the pool of an [`Offload`].
///
/// It is the same buffer, seen by tasks: others may use it at the same time through the `Arc`, among them a
/// memory monitor and plain threads, and all that its page says of threads and of who wins holds.
///
/// # What is answered at once
///
/// - `get` and `peek` of a value in fast memory, or of an absent key.
/// - `insert` that evicts nothing, waits for no room, and replaces no value of which storage has a copy. With
///   [`writers`](crate::BufferBuilder::writers) that is every new value up to the ceiling, without them up to
///   the target.
/// - `remove` and `take` of a value of which storage has no copy, or of an absent key.
///
/// Anything else is one call on the pool, where it does what the buffer's own call does; an `insert` that has
/// to evict returns when that is done, which is what keeps tasks from outrunning storage. A read holds its
/// thread while it waits for another reader of the same key, so give the pool as many threads as storage
/// serves at once.
///
/// What dropped futures, `close` and panics do is told at [`AsyncMutableMapping`].
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use spill_core::{AsyncBuffer, AsyncMutableMapping, BufferBuilder, Lru, Missing};
///
/// let storage: Lru<u32, u64> = BufferBuilder::new().alone()?; // stands for files
/// let buffer = Arc::new(BufferBuilder::new().target(64).over(storage)?);
/// let mapping = AsyncBuffer::new(buffer, 4)?;
/// for n in 0..100 {
///     mapping.insert(n, u64::from(n)).await?;
/// }
/// assert_eq!(mapping.stats().fast_count, 8); // eight numbers of eight bytes
/// assert_eq!(mapping.get_all(&[0, 1, 200], Missing::Omit).await?, [(0, 0), (1, 1)]);
/// mapping.close().await
/// # }).unwrap();
/// ```
pub struct AsyncBuffer<K: Key, V: Value, S: MutableMapping<K, V>> {
    offload: Offload<Buffer<K, V, S>>,
    /// The targets of the evictions in flight.
    evicting: Arc<Mutex<Vec<u64>>>,
}

impl<K: Key, V: Value, S: MutableMapping<K, V> + 'static> AsyncBuffer<K, V, S> {
    /// `buffer`, with a pool of at most `threads` threads of its own, which start when they are needed.
    ///
    /// # Errors
    /// As [`Offload::new`].
    pub fn new(buffer: Arc<Buffer<K, V, S>>, threads: usize) -> Result<Self> {
        Ok(Self::over(Offload::shared(buffer, threads)?))
    }

    /// `buffer`, with the threads that `runtime` keeps for blocking calls. The runtime is never shut down from
    /// here.
    pub fn on(buffer: Arc<Buffer<K, V, S>>, runtime: Handle) -> Self {
        Self::over(Offload::shared_on(buffer, runtime))
    }

    fn over(offload: Offload<Buffer<K, V, S>>) -> Self {
        AsyncBuffer { offload, evicting: Arc::default() }
    }

    /// The buffer.
    pub fn buffer(&self) -> &Arc<Buffer<K, V, S>> {
        self.offload.inner()
    }

    /// What runs the calls that block, for those of [`Buffer`] that are not here: compound operations and
    /// eviction by key, through [`Offload::run`].
    pub fn offload(&self) -> &Offload<Buffer<K, V, S>> {
        &self.offload
    }

    /// The pairs of all `keys`, in their order. If all are in fast memory they are given at once; otherwise
    /// they are read together in one call on the pool. None of them counts as used by a call
    /// that finds one absent at its start.
    ///
    /// # Errors
    /// [`Absent`](ErrorKind::Absent) with [`Missing::Raise`], also for a key that was removed meanwhile; the
    /// first read that failed; [`Closed`](ErrorKind::Closed).
    pub async fn get_all(&self, keys: &[K], missing: Missing) -> Result<Vec<(K, V)>> {
        let present: Vec<(usize, K)> =
            keys.iter().cloned().enumerate().filter(|(_, key)| self.contains_key(key)).collect();
        if missing == Missing::Raise
            && let Some(index) = first_gap(&present, keys.len())
        {
            return Err(ErrorKind::Absent { index }.into());
        }
        let (places, present): (Vec<usize>, Vec<K>) = present.into_iter().unzip();
        if let Attempt::Done(values) = self.buffer().try_get_all(&present)? {
            return Ok(present.into_iter().zip(values).collect());
        }
        let read = move |buffer: &Buffer<K, V, S>| {
            let mut pairs = Vec::with_capacity(present.len());
            let values = buffer.get_many(&present);
            for ((key, index), value) in present.into_iter().zip(places).zip(values) {
                match value? {
                    Some(value) => pairs.push((key, value)),
                    None if missing == Missing::Omit => {}
                    None => return Err(ErrorKind::Absent { index }.into()),
                }
            }
            Ok(pairs)
        };
        self.offload.run(read).await
    }

    /// [`Buffer::evict_until_below`] on the pool. It does nothing when fast memory is below `target` already,
    /// or while such an eviction to an equal or a lower target is in flight. Returns the bytes that this call
    /// moved.
    ///
    /// # Errors
    /// [`Closed`](ErrorKind::Closed); failing spills are logged and end the eviction early.
    pub async fn evict_until_below(&self, target: u64) -> Result<u64> {
        if self.buffer().is_below(target) {
            return Ok(0);
        }
        let Some(evicting) = Evicting::begin(&self.evicting, target) else { return Ok(0) };
        let evict = move |buffer: &Buffer<K, V, S>| {
            let moved = buffer.evict_until_below(target);
            drop(evicting);
            Ok(moved)
        };
        self.offload.run(evict).await
    }
}

/// The first index below `count` that is not among the places, which ascend.
fn first_gap<K>(present: &[(usize, K)], count: usize) -> Option<usize> {
    let gap = present.iter().zip(0..).position(|((place, _), index)| *place != index);
    gap.or((present.len() < count).then_some(present.len()))
}

/// An eviction in flight. It ends with its call, also with one that never begins.
struct Evicting {
    targets: Arc<Mutex<Vec<u64>>>,
    target: u64,
}

impl Evicting {
    /// `None` when one to an equal or a lower target is in flight.
    fn begin(targets: &Arc<Mutex<Vec<u64>>>, target: u64) -> Option<Self> {
        let mut list = targets.lock();
        if list.iter().any(|other| *other <= target) {
            return None;
        }
        list.push(target);
        Some(Evicting { targets: Arc::clone(targets), target })
    }
}

impl Drop for Evicting {
    fn drop(&mut self) {
        let mut list = self.targets.lock();
        if let Some(place) = list.iter().position(|target| *target == self.target) {
            list.swap_remove(place);
        }
    }
}

#[async_trait]
impl<K: Key, V: Value, S: MutableMapping<K, V> + 'static> AsyncMutableMapping<K, V> for AsyncBuffer<K, V, S> {
    async fn get(&self, key: &K) -> Result<Option<V>> {
        match self.buffer().try_get(key)? {
            Attempt::Done(value) => Ok(value),
            Attempt::Blocks(()) => self.offload.get(key).await,
        }
    }
    async fn insert(&self, key: K, value: V) -> Result<()> {
        match self.buffer().try_insert(key, value)? {
            Attempt::Done(()) => Ok(()),
            Attempt::Blocks((key, value)) => self.offload.insert(key, value).await,
        }
    }
    async fn remove(&self, key: &K) -> Result<bool> {
        match self.buffer().try_take(key)? {
            Attempt::Done(value) => Ok(value.is_some()),
            Attempt::Blocks(()) => self.offload.remove(key).await,
        }
    }
    async fn take(&self, key: &K) -> Result<Option<V>> {
        match self.buffer().try_take(key)? {
            Attempt::Done(value) => Ok(value),
            Attempt::Blocks(()) => self.offload.take(key).await,
        }
    }
    fn contains_key(&self, key: &K) -> bool {
        self.buffer().contains_key(key)
    }
    fn len(&self) -> usize {
        self.buffer().len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        self.buffer().for_each_key(f);
    }
    async fn peek(&self, key: &K) -> Result<Option<V>> {
        match self.buffer().try_peek(key)? {
            Attempt::Done(value) => Ok(value),
            Attempt::Blocks(()) => self.offload.peek(key).await,
        }
    }
    async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
        if let Ok(Attempt::Done(values)) = self.buffer().try_get_all(keys) {
            return values.into_iter().map(|value| Ok(Some(value))).collect();
        }
        self.offload.get_many(keys).await
    }
    async fn insert_many(&self, pairs: Vec<(K, V)>) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(pairs.len());
        let mut pairs = pairs.into_iter();
        while let Some((key, value)) = pairs.next() {
            match self.buffer().try_insert(key, value) {
                Ok(Attempt::Done(())) => results.push(Ok(())),
                Err(error) => results.push(Err(error)),
                Ok(Attempt::Blocks(pair)) => {
                    let rest = std::iter::once(pair).chain(pairs).collect();
                    results.extend(self.offload.insert_many(rest).await);
                    break;
                }
            }
        }
        results
    }
    async fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        self.offload.remove_many(keys).await
    }
    async fn clear(&self) -> Result<()> {
        self.offload.clear().await
    }
    fn usage(&self) -> Usage {
        self.buffer().usage()
    }
    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        self.buffer().stored_size(key)
    }
    fn stats(&self) -> Stats {
        self.buffer().stats()
    }
    async fn flush(&self) -> Result<()> {
        self.offload.flush().await
    }
    async fn close(&self) -> Result<()> {
        self.offload.close().await
    }
}

impl<K: Key, V: Value, S: MutableMapping<K, V>> std::fmt::Debug for AsyncBuffer<K, V, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncBuffer").field("offload", &self.offload).finish_non_exhaustive()
    }
}
