//! `Buffer`: fast memory over slow memory, one mapping.
//!
//! `slot.rs` holds the states of one key and all transitions; `state.rs`, `moves.rs`, `sums.rs` and `copies.rs` what
//! the lock guards; `core.rs`, `read.rs`, `spill.rs`, `settle.rs`, `compute.rs` and `inline.rs` what callers do
//! around them; `writers.rs` the threads; `memories.rs` what lies below; `hot/` hits without the lock.

mod builder;
mod compute;
mod copies;
mod core;
mod flight;
mod flying;
mod hot;
#[cfg(feature = "tokio")]
mod inline;
mod lru;
mod many;
mod memories;
mod moves;
mod observe;
mod pending;
mod read;
mod rotation;
mod settle;
mod shared;
mod slot;
mod spans;
mod spill;
mod state;
mod sums;
mod turns;
mod writers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use builder::{BufferBuilder, Overflow};
#[cfg(feature = "tokio")]
pub(crate) use inline::Attempt;
pub use lru::Lru;
use lru::Nothing;
use memories::{Below, Memories};
pub use memories::{FastMemory, Ram, Stored};
pub use shared::Shared;

use self::core::{Core, Hit};
use self::slot::Memory;
use self::writers::Writers;
use crate::sync::Mutex;
use crate::{Key, ManualEvict, MutableMapping, Result, SpilledSize, Stats, Usage, Value};

/// A mapping that keeps its values in RAM up to a target weight, and moves the least recently used ones to
/// slow memory past it. They stay present, and come back when they are read.
///
/// Slow memory `S` is any mapping: a chain of [`Func`](crate::Func), compression and segment files, an
/// object store, another buffer. Built by a [`BufferBuilder`]; shared between threads in an
/// `Arc`.
///
/// # Threads: what is locked, what is not, who wins
///
/// One lock guards the table. A hit takes it once; a value that is hit while others insert or spill is kept once more,
/// behind another lock, so that its hits do not wait for those. Storage, codecs, weighing, observers and the dropping
/// of values run without it, so a slow device delays only those who wait for it.
///
/// - After `insert` returned, every thread sees the new value and never an older one. An `insert` or
///   `remove` during a spill or a read of the same key wins at once and waits for neither.
/// - Simultaneous reads of one slow key read storage once; all get the value.
/// - A value that is being spilled is read from RAM.
/// - A value heavier than the whole target is served without being promoted.
/// - A value read back keeps its copy on storage until it is changed; evicting it again writes nothing.
/// - A spill that fails keeps the pair in RAM, never fails the call of another key, is logged at most once in
///   10 s for one cause, and is tried again later. Other keys are spilled meanwhile.
///
/// # Fast memory in a mapping
///
/// With [`Stored`] fast memory ([`BufferBuilder::stored`]) the values are in a mapping of their own, and RAM over disk
/// over an object store is a buffer over a buffer. What was said holds, and:
///
/// - The caller of `insert` writes the value to fast memory before it returns, readable from RAM meanwhile. Where
///   fast memory refuses it, it goes to slow memory at once; where that refuses it too it is kept in RAM, counted
///   in [`Usage::fast`], and tried again later. When [`stage_bytes`](BufferBuilder::stage_bytes) are kept that way,
///   further values are refused.
/// - Reads go to fast memory and, when that fails and slow memory has the same value, there. Those of one key at
///   the same time are one read.
/// - A spill reads the value from fast memory, writes it to slow memory, and removes it from fast memory. A read
///   meanwhile is answered from RAM.
pub struct Buffer<K: Key, V: Value, S: MutableMapping<K, V>, F: FastMemory<K, V> = Ram> {
    core: Arc<Core<K, V, Memories<F, S>>>,
    writers: Mutex<Writers>,
}

impl<K: Key, V: Value, S: MutableMapping<K, V>, M: MutableMapping<K, V> + 'static>
    Buffer<K, V, S, Stored<M>>
{
    /// The mapping that is fast memory. What is written to it behind the buffer's back is not seen.
    pub fn stored(&self) -> &M {
        self.core.below.fast()
    }
}

impl<K: Key, V: Value, S: MutableMapping<K, V>> Buffer<K, V, S> {
    /// The value of `key` if it is in fast memory, as a use. It never waits: for callers that hold what a
    /// flight may need.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed).
    #[inline]
    pub fn get_fast(&self, key: &K) -> Result<Option<V>> {
        match self.core.hit(key) {
            Hit::Value(value) => Ok(Some(value)),
            Hit::None(state) if state.closed => Err(core::closed()),
            Hit::None(mut state) => Ok(state.hit(key)),
        }
    }
}

impl<K: Key, V: Value, S: MutableMapping<K, V>, F: FastMemory<K, V>> Buffer<K, V, S, F> {
    /// The mapping below. What is written to it behind the buffer's back may not be seen.
    pub fn slow(&self) -> &S {
        &self.core.below.slow
    }

    /// The target weight of fast memory, in bytes.
    pub fn target(&self) -> u64 {
        self.core.state.lock().target
    }

    /// Changes the target; evicts nothing by itself (PARITY Z05). Writer threads follow at once.
    pub fn set_target(&self, bytes: u64) {
        self.core.state.lock().target = bytes;
        self.core.work.notify_all();
    }

    /// Changes the bytes counted on top of the weight; evicts nothing by itself (PARITY Z05).
    pub fn set_offset(&self, bytes: u64) {
        self.core.state.lock().offset = bytes;
        self.core.work.notify_all();
    }

    /// Evicts in the caller until fast memory weighs at most `target` bytes, 0 meaning all; stops early when
    /// several candidates in a row cannot be spilled. Returns the bytes moved. Problems are logged.
    pub fn evict_until_below(&self, target: u64) -> u64 {
        self.core.evict_until_below(target)
    }

    /// Whether fast memory weighs more than its target, so that something is or should be spilled.
    pub fn is_above_target(&self) -> bool {
        let state = self.core.state.lock();
        state.above(state.target)
    }

    /// Evicts in the caller until values of at least `bytes` bytes have left fast memory, least recently used first;
    /// stops early when several candidates in a row cannot be spilled, or nothing is left. Returns the bytes moved.
    /// Problems are logged.
    pub fn reclaim(&self, bytes: u64) -> u64 {
        self.core.reclaim(bytes)
    }

    /// Brings the values of `keys` to fast memory, for reads to come, in one call of slow memory for many; others make
    /// room. It ends with the first key for which there is no room beside those before it, so that it never evicts
    /// what it has just brought. It counts as a use; absent keys are left out, and those that are on the way already.
    ///
    /// With [`writers`](BufferBuilder::writers) they do it behind the caller, who does not wait; without, it is done
    /// when this returns. A value that cannot be read is counted and logged, and the error is given to who gets it.
    pub fn prefetch(&self, keys: &[K]) {
        if self.core.ceiling.is_some() {
            let Ok(mut state) = self.core.open() else { return };
            state.wanted.push_back(keys.to_vec());
            drop(state);
            self.core.work.notify_all();
        } else {
            self.core.prefetch(keys);
        }
    }

    /// Spills the value of `key` now. Returns the bytes it weighed, or `None` when it is not in fast memory
    /// or was written or removed meanwhile.
    ///
    /// # Errors
    /// Why it could not be spilled; the pair is still in fast memory.
    pub fn evict_key(&self, key: &K) -> Result<Option<u64>> {
        self.core.evict_key(key)
    }

    /// Sets the value of `key` and lets fast memory grow past its target (PARITY Z07). The next ordinary
    /// insert evicts.
    ///
    /// # Errors
    /// When the value cannot be weighed; the old value stays.
    pub fn insert_without_evicting(&self, key: K, value: V) -> Result<()> {
        self.core.insert(key, value, true)
    }

    /// The values of all `keys`, or `None` when one is absent; then nothing counts as used (PARITY Z06).
    ///
    /// # Errors
    /// The first read that failed.
    pub fn get_all_or_nothing(&self, keys: &[K]) -> Result<Option<Vec<V>>> {
        if !keys.iter().all(|key| self.contains_key(key)) {
            return Ok(None);
        }
        self.core.get_many(keys).into_iter().collect()
    }

    /// Lets `change` alter the value of `key` in place, alone with it, and returns what it returned; `None`
    /// when the key is absent. It runs once. A write meanwhile wins over it: the update came just before.
    /// It must not touch its own key, and holds no lock.
    ///
    /// # Errors
    /// When the value cannot be read back; `change` did not run. When the changed value cannot be weighed;
    /// it is kept, with its old weight.
    ///
    /// # Panics
    /// With the panic of `change`; the value stays as that left it.
    pub fn update<R>(&self, key: &K, change: impl FnOnce(&mut V) -> R) -> Result<Option<R>> {
        self.core.update(key, change)
    }

    /// [`update`](Self::update), or where `key` is absent sets it to what `make` returns.
    ///
    /// # Errors
    /// As `update`.
    ///
    /// # Panics
    /// With the panic of `make` or `change`.
    pub fn upsert(&self, key: K, make: impl FnOnce() -> V, change: impl FnOnce(&mut V)) -> Result<()> {
        self.core.upsert(key, make, change)
    }

    /// The value of `key`; where it is absent, the one that `load` makes, which is set. Of several callers
    /// one loads; the others wait for it.
    ///
    /// # Errors
    /// What `load` returned, given to all who waited for it; or a failed read.
    ///
    /// # Panics
    /// With the panic of `load`, in its own caller; those who waited get
    /// [`Panicked`](crate::ErrorKind::Panicked).
    pub fn get_or_try_insert_with(&self, key: K, load: impl FnOnce() -> Result<V>) -> Result<V> {
        self.core.get_or_try_insert_with(key, load)
    }

    /// Makes `key` hot, as a hit does that waits for a thread that spills; without effect where it is not in its slot.
    #[cfg(test)]
    pub(crate) fn heat(&self, key: &K) {
        let mut state = self.core.state.lock();
        if let Some(value) = state.hit_recent(key) {
            self.core.temper(state, key, &value, true);
        }
    }

    /// Whether the table holds no slot at all: everything is slow, nothing flies, nothing is left over.
    #[cfg(all(test, shuttle))]
    pub(crate) fn is_idle(&self) -> bool {
        self.core.state.lock().table.iter().next().is_none()
    }

    /// The keys in fast memory, the most recently used first. For diagnosis: it walks all of them locked.
    pub fn fast_keys(&self) -> Vec<K> {
        self.core.state.lock().fast_keys()
    }
}

impl<K: Key, V: Value, S: MutableMapping<K, V>, F: FastMemory<K, V>> MutableMapping<K, V>
    for Buffer<K, V, S, F>
{
    #[inline]
    fn get(&self, key: &K) -> Result<Option<V>> {
        self.core.get(key)
    }
    fn insert(&self, key: K, value: V) -> Result<()> {
        self.core.insert(key, value, false)
    }
    fn remove(&self, key: &K) -> Result<bool> {
        self.core.remove(key)
    }
    fn take(&self, key: &K) -> Result<Option<V>> {
        self.core.take(key)
    }
    fn contains_key(&self, key: &K) -> bool {
        self.core.contains_key(key)
    }
    fn len(&self) -> usize {
        self.core.state.lock().len
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        self.core.keys().iter().for_each(f);
    }
    fn peek(&self, key: &K) -> Result<Option<V>> {
        self.core.peek(key)
    }
    /// Reads what is slow in one call of slow memory, beside which values in fast memory stay readable.
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
        self.core.get_many(keys)
    }
    fn insert_many(&self, pairs: Vec<(K, V)>) -> Vec<Result<()>> {
        self.core.insert_many(pairs)
    }
    fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        self.core.remove_many(keys)
    }
    fn usage(&self) -> Usage {
        let mut state = self.core.state.lock();
        state.look_again(self.core.asks());
        let (fast, slow) = (self.core.below.fast().usage(), self.core.below.slow().usage());
        Usage {
            count: state.len,
            fast: state.ram_bytes + fast.fast + slow.fast,
            held: state.held.weight() + fast.held + slow.held,
            spilled: state.spilled(&self.core.below),
            staged: fast.staged + slow.staged,
            physical: fast.physical + slow.physical,
        }
    }
    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        self.core.state.lock().stored_size(&self.core.below, key)
    }
    fn stats(&self) -> Stats {
        let below = self.core.below.fast().stats() + self.core.below.slow().stats();
        let state = self.core.state.lock();
        let counts = state.counts;
        Stats {
            hits: counts.hits + self.core.hot.hits(),
            misses: counts.misses,
            evictions: counts.evictions,
            evicted_bytes: counts.evicted_bytes,
            clean_evictions: counts.clean_evictions,
            promotions: counts.promotions,
            cancelled: counts.cancelled,
            failures: counts.failures,
            deferred: (state.table.deferred() - state.held.len()) as u64,
            fast_count: state.fast_count as u64,
            fast_bytes: state.fast_bytes,
            slow_count: (state.len - state.fast_count.min(state.len)) as u64,
            slow_bytes: state.spilled_to(&self.core.below, Memory::Slow).memory,
            ..below
        }
    }
    fn flush(&self) -> Result<()> {
        drop(self.core.open()?);
        self.core.flush()
    }
    fn close(&self) -> Result<()> {
        if !self.core.state.lock().close() {
            return Ok(());
        }
        self.core.progress.notify_all();
        self.writers.lock().stop(&self.core);
        let fast = self.core.below.fast().close();
        fast.and(self.core.below.slow().close())
    }
}

impl<K: Key, V: Value, S: MutableMapping<K, V>, F: FastMemory<K, V>> ManualEvict for Buffer<K, V, S, F> {
    fn evict(&self) -> i64 {
        // user code is caught where it runs; this net is for values whose own drop panics
        let moved = catch_unwind(AssertUnwindSafe(|| self.core.evict_one()));
        match moved {
            Ok(Ok(weight)) => i64::try_from(weight).unwrap_or(i64::MAX),
            Ok(Err(_)) | Err(_) => -1,
        }
    }
    fn fast(&self) -> bool {
        self.core.state.lock().fast_count > 0
    }
}

impl<K: Key, V: Value, S: MutableMapping<K, V>, F: FastMemory<K, V>> Drop for Buffer<K, V, S, F> {
    fn drop(&mut self) {
        self.writers.lock().stop(&self.core);
    }
}

impl<K: Key, V: Value, S: MutableMapping<K, V>, F: FastMemory<K, V>> std::fmt::Debug for Buffer<K, V, S, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.core.state.lock();
        f.debug_struct("Buffer")
            .field("len", &state.len)
            .field("fast_count", &state.fast_count)
            .field("fast_bytes", &state.fast_bytes)
            .field("target", &state.target)
            .finish_non_exhaustive()
    }
}
