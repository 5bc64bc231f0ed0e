//! Storage in RAM that reports what a leaf reports: the weight of its values and the bytes of their records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use parking_lot::Mutex;
use spill_core::{Frames, MutableMapping, Result, SpilledSize, Usage};

/// Clones share the storage, so that mappings with different compressors can stand over one.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    records: Arc<Mutex<BTreeMap<u64, Frames>>>,
    pub(crate) batches: Arc<AtomicU32>,
    pub(crate) flushed: Arc<AtomicU32>,
    pub(crate) closed: Arc<AtomicU32>,
}

fn size(record: &Frames) -> SpilledSize {
    SpilledSize { memory: record.weight(), disk: record.byte_len() }
}

impl MutableMapping<u64, Frames> for Memory {
    fn get(&self, key: &u64) -> Result<Option<Frames>> {
        Ok(self.records.lock().get(key).cloned())
    }
    fn insert(&self, key: u64, value: Frames) -> Result<()> {
        self.records.lock().insert(key, value);
        Ok(())
    }
    fn remove(&self, key: &u64) -> Result<bool> {
        Ok(self.records.lock().remove(key).is_some())
    }
    fn take(&self, key: &u64) -> Result<Option<Frames>> {
        Ok(self.records.lock().remove(key))
    }
    fn contains_key(&self, key: &u64) -> bool {
        self.records.lock().contains_key(key)
    }
    fn len(&self) -> usize {
        self.records.lock().len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        let keys: Vec<u64> = self.records.lock().keys().copied().collect();
        keys.iter().for_each(f);
    }
    fn insert_many(&self, pairs: Vec<(u64, Frames)>) -> Vec<Result<()>> {
        self.batches.fetch_add(1, SeqCst);
        pairs.into_iter().map(|(key, value)| self.insert(key, value)).collect()
    }
    fn usage(&self) -> Usage {
        let records = self.records.lock();
        let mut spilled = SpilledSize::default();
        records.values().for_each(|record| spilled += size(record));
        Usage { count: records.len(), spilled, physical: spilled.disk, ..Usage::default() }
    }
    fn stored_size(&self, key: &u64) -> Option<SpilledSize> {
        self.records.lock().get(key).map(size)
    }
    fn flush(&self) -> Result<()> {
        self.flushed.fetch_add(1, SeqCst);
        Ok(())
    }
    fn close(&self) -> Result<()> {
        self.closed.fetch_add(1, SeqCst);
        Ok(())
    }
}
