//! What lies below: compressed segment files in a private directory, bounded by `max_spill`.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use spill_compress::{Compress, Compression};
use spill_core::{ErrorKind, Frames, Key, MutableMapping, Pool, Result, SpilledSize, Stats, Usage};
use spill_disk::{Segments, SegmentsConfig, Workspace};

use crate::error::raised;
use crate::names::Id;

/// Storage of frames, whatever it is made of.
pub(crate) type Store = Arc<dyn MutableMapping<Id, Frames>>;

/// Opens segment files under `directories`, or under the temporary directory of the operating system.
pub(crate) fn open(
    directories: &[PathBuf],
    compressor: &str,
    max_spill: Option<u64>,
    pool: &Pool,
) -> PyResult<Store> {
    let build = || -> Result<Store> {
        let compression: Compression = compressor.parse()?;
        let workspaces = match directories {
            [] => vec![Workspace::open(None)?],
            directories => Workspace::open_all(directories)?,
        };
        let segments = Segments::open(SegmentsConfig::across(workspaces).pool(pool.clone()))?;
        let capped = Capped { inner: segments, limit: max_spill, setting: "max_spill" };
        Ok(Arc::new(Compress::new(compression, capped).with_pool(pool.clone())))
    };
    build().map_err(|error| raised(&error))
}

/// Refuses what would take the stored bytes above a limit (PARITY B04). Writes that race may pass it by one
/// value each.
pub(crate) struct Capped<M> {
    pub(crate) inner: M,
    pub(crate) limit: Option<u64>,
    /// What the limit is called.
    pub(crate) setting: &'static str,
}

impl<K: Key, M: MutableMapping<K, Frames>> MutableMapping<K, Frames> for Capped<M> {
    fn get(&self, key: &K) -> Result<Option<Frames>> {
        self.inner.get(key)
    }
    fn insert(&self, key: K, value: Frames) -> Result<()> {
        if let Some(limit) = self.limit {
            let old = self.inner.stored_size(&key).map_or(0, |size| size.disk);
            let used = self.inner.usage().spilled.disk.saturating_sub(old);
            if used + value.byte_len() > limit {
                return Err(
                    ErrorKind::Full { path: None, used, limit, free: None, setting: self.setting }.into()
                );
            }
        }
        self.inner.insert(key, value)
    }
    fn remove(&self, key: &K) -> Result<bool> {
        self.inner.remove(key)
    }
    fn take(&self, key: &K) -> Result<Option<Frames>> {
        self.inner.take(key)
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
        self.inner.flush()
    }
    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}
