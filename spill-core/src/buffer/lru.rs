//! `Lru`: fast memory alone.

use super::Buffer;
use crate::{Key, ManualEvict, MutableMapping, Result, Stats, Usage, Value};

/// A mapping in RAM that drops its least recently used pairs when it weighs more than its target.
///
/// It is a [`Buffer`] with no slow memory, so everything said there of threads, weights and observers holds;
/// an observer given to [`on_evict`](super::BufferBuilder::on_evict) is told of each pair before it is
/// dropped, and keeps it by an error (zict's `LRU`, PARITY Z02 to Z09). Without a target it is a plain map
/// that knows its order.
///
/// Threads: as for a `Buffer`, with storage that takes no time. One lock guards the table; weighing, observers and the
/// dropping of values run without it; a write during the eviction of its key wins.
///
/// Built by [`BufferBuilder::alone`](super::BufferBuilder::alone).
pub struct Lru<K: Key, V: Value>(pub(super) Buffer<K, V, Nothing>);

impl<K: Key, V: Value> Lru<K, V> {
    /// The buffer that it is, for targets, offsets, compound operations.
    pub fn as_buffer(&self) -> &Buffer<K, V, impl MutableMapping<K, V>> {
        &self.0
    }
}

impl<K: Key, V: Value> MutableMapping<K, V> for Lru<K, V> {
    #[inline]
    fn get(&self, key: &K) -> Result<Option<V>> {
        self.0.get(key)
    }
    fn insert(&self, key: K, value: V) -> Result<()> {
        self.0.insert(key, value)
    }
    fn remove(&self, key: &K) -> Result<bool> {
        self.0.remove(key)
    }
    fn take(&self, key: &K) -> Result<Option<V>> {
        self.0.take(key)
    }
    fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        self.0.for_each_key(f);
    }
    fn peek(&self, key: &K) -> Result<Option<V>> {
        self.0.peek(key)
    }
    fn usage(&self) -> Usage {
        self.0.usage()
    }
    fn stats(&self) -> Stats {
        self.0.stats()
    }
    fn close(&self) -> Result<()> {
        self.0.close()
    }
}

impl<K: Key, V: Value> ManualEvict for Lru<K, V> {
    fn evict(&self) -> i64 {
        self.0.evict()
    }
    fn fast(&self) -> bool {
        self.0.fast()
    }
}

/// Slow memory that keeps nothing: it accepts every value and has none.
#[derive(Debug)]
pub struct Nothing;

impl<K: Key, V: Value> MutableMapping<K, V> for Nothing {
    fn get(&self, _key: &K) -> Result<Option<V>> {
        Ok(None)
    }
    fn insert(&self, _key: K, _value: V) -> Result<()> {
        Ok(())
    }
    fn remove(&self, _key: &K) -> Result<bool> {
        Ok(false)
    }
    fn take(&self, _key: &K) -> Result<Option<V>> {
        Ok(None)
    }
    #[inline]
    fn contains_key(&self, _key: &K) -> bool {
        false
    }
    fn len(&self) -> usize {
        0
    }
    fn for_each_key(&self, _f: &mut dyn FnMut(&K)) {}
}
