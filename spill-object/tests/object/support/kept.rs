//! A mapping together with what must outlive it.

use spill_core::{Frames, Key, MutableMapping, Result, SpilledSize, Stats, Usage};

/// A mapping, closed when it is dropped, and then what it needs: a directory, a server.
pub(crate) struct Kept<M: MutableMapping<u64, Frames>, G> {
    mapping: M,
    _needs: G,
}

impl<M: MutableMapping<u64, Frames>, G> Kept<M, G> {
    pub(crate) fn new(mapping: M, needs: G) -> Self {
        Kept { mapping, _needs: needs }
    }
}

impl<M: MutableMapping<u64, Frames>, G> Drop for Kept<M, G> {
    fn drop(&mut self) {
        let closed = self.mapping.close();
        if !std::thread::panicking() {
            closed.unwrap();
        }
    }
}

impl<M: MutableMapping<u64, Frames>, G: Send + Sync> MutableMapping<u64, Frames> for Kept<M, G>
where
    u64: Key,
{
    fn get(&self, key: &u64) -> Result<Option<Frames>> {
        self.mapping.get(key)
    }
    fn insert(&self, key: u64, value: Frames) -> Result<()> {
        self.mapping.insert(key, value)
    }
    fn remove(&self, key: &u64) -> Result<bool> {
        self.mapping.remove(key)
    }
    fn take(&self, key: &u64) -> Result<Option<Frames>> {
        self.mapping.take(key)
    }
    fn contains_key(&self, key: &u64) -> bool {
        self.mapping.contains_key(key)
    }
    fn len(&self) -> usize {
        self.mapping.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        self.mapping.for_each_key(f);
    }
    fn get_many(&self, keys: &[u64]) -> Vec<Result<Option<Frames>>> {
        self.mapping.get_many(keys)
    }
    fn insert_many(&self, pairs: Vec<(u64, Frames)>) -> Vec<Result<()>> {
        self.mapping.insert_many(pairs)
    }
    fn remove_many(&self, keys: &[u64]) -> Vec<Result<bool>> {
        self.mapping.remove_many(keys)
    }
    fn usage(&self) -> Usage {
        self.mapping.usage()
    }
    fn stored_size(&self, key: &u64) -> Option<SpilledSize> {
        self.mapping.stored_size(key)
    }
    fn stats(&self) -> Stats {
        self.mapping.stats()
    }
    fn flush(&self) -> Result<()> {
        self.mapping.flush()
    }
    fn close(&self) -> Result<()> {
        self.mapping.close()
    }
}
