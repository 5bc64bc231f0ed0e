//! What lies below: compressed segment files in a private directory, bounded by `max_spill`, and below those an
//! object store.

use std::path::PathBuf;
use std::sync::Arc;

use pyo3::prelude::*;
use spill_compress::{Compress, Compression};
use spill_core::{Error, ErrorKind, Frames, Key, MutableMapping, Pool, Result, SpilledSize, Stats, Usage};
use spill_disk::{Segments, SegmentsConfig, Workspace};

use crate::error::{MAX_SPILL, raised};
use crate::names::Id;

/// What storage takes comes on top of the target, so it is a share of it, but this at least.
const LEAST: u64 = 64 << 10;

/// Bytes that may wait in memory to be written together: more of them gain nothing beside what the interpreter takes.
fn stage_bytes(target: u64) -> u64 {
    (target / 1024).clamp(LEAST, 512 << 10)
}

/// The most bytes of a value that are compressed at once.
fn longest_block(target: u64) -> usize {
    usize::try_from((target / 256).max(LEAST)).unwrap_or(usize::MAX)
}

/// Storage of frames, whatever it is made of.
pub(crate) type Store = Arc<dyn MutableMapping<Id, Frames>>;

/// The object store below the disk.
pub(crate) struct ObjectLevel {
    #[cfg(feature = "object")]
    below: Arc<overspill::presets::FilesOverObjects<Id>>,
    /// What values take of the target while they are being uploaded, in bytes.
    pub(crate) uploads: u64,
}

impl ObjectLevel {
    /// What is in it.
    #[cfg(feature = "object")]
    pub(crate) fn held(&self) -> SpilledSize {
        self.below.slow().usage().spilled
    }

    /// Why it takes no value, where that is known; nothing is asked. What the disk says then is no more than that it is
    /// full.
    #[cfg(feature = "object")]
    pub(crate) fn problem(&self) -> Option<Error> {
        self.below.slow().inner().upload_error()
    }

    #[cfg(not(feature = "object"))]
    pub(crate) fn held(&self) -> SpilledSize {
        SpilledSize::default()
    }

    #[cfg(not(feature = "object"))]
    pub(crate) fn problem(&self) -> Option<Error> {
        None
    }
}

/// Which storage, and how much of it.
pub(crate) struct Settings {
    /// Where segment files are; the temporary directory of the operating system where none is given.
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) compressor: String,
    /// The most bytes on disk.
    pub(crate) max_spill: Option<u64>,
    /// The URL of where values go that the disk has no room for.
    pub(crate) object_store: Option<String>,
    /// What values may weigh in memory above.
    pub(crate) target: u64,
}

/// Opens storage, and gives the object store beside it, should there be one.
pub(crate) fn open(settings: &Settings, pool: &Pool) -> PyResult<(Store, Option<ObjectLevel>)> {
    build(settings, pool).map_err(|error| raised(&error))
}

fn build(settings: &Settings, pool: &Pool) -> Result<(Store, Option<ObjectLevel>)> {
    let compression: Compression = settings.compressor.parse()?;
    let files = || -> Result<SegmentsConfig> {
        let workspaces = match &*settings.directories {
            [] => vec![Workspace::open(None)?],
            directories => Workspace::open_all(directories)?,
        };
        Ok(SegmentsConfig::across(workspaces).stage_bytes(stage_bytes(settings.target)).pool(pool.clone()))
    };
    if let Some(url) = &settings.object_store {
        let (below, level) = over_objects(url, settings, files, pool)?;
        return Ok((Arc::new(compress(compression, below, settings, pool)), Some(level)));
    }
    let segments = Segments::open(files()?)?;
    let capped = Capped { inner: segments, limit: settings.max_spill, setting: MAX_SPILL };
    Ok((Arc::new(compress(compression, capped, settings, pool)), None))
}

fn compress<M>(compression: Compression, inner: M, settings: &Settings, pool: &Pool) -> Compress<M> {
    let layer = Compress::new(compression, inner).with_pool(pool.clone());
    layer.with_longest_block(longest_block(settings.target))
}

#[cfg(feature = "object")]
fn over_objects(
    url: &str,
    settings: &Settings,
    files: impl FnOnce() -> Result<SegmentsConfig>,
    pool: &Pool,
) -> Result<(Store, ObjectLevel)> {
    // a URL that is not understood leaves no directory behind
    let objects = spill_object::Store::open(url)?;
    let quota = settings.max_spill.unwrap_or(u64::MAX);
    let below =
        Arc::new(overspill::presets::files_over_objects(files()?, quota, settings.target, objects, pool)?);
    let uploads = overspill::presets::upload_bytes(settings.target);
    Ok((Arc::clone(&below) as Store, ObjectLevel { below, uploads }))
}

#[cfg(not(feature = "object"))]
fn over_objects(
    url: &str,
    _: &Settings,
    _: impl FnOnce() -> Result<SegmentsConfig>,
    _: &Pool,
) -> Result<(Store, ObjectLevel)> {
    Err(Error::config("object_store", url, "a build with the feature `object`"))
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
            if used.saturating_add(value.byte_len()) > limit {
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
    fn peek(&self, key: &K) -> Result<Option<Frames>> {
        self.inner.peek(key)
    }
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Frames>>> {
        self.inner.get_many(keys)
    }
    /// A batch that fits goes down whole; of one that does not, each pair is judged by itself.
    fn insert_many(&self, pairs: Vec<(K, Frames)>) -> Vec<Result<()>> {
        let fits = self.limit.is_none_or(|limit| {
            let bytes: u64 = pairs.iter().map(|(_, value)| value.byte_len()).sum();
            self.inner.usage().spilled.disk.saturating_add(bytes) <= limit
        });
        if fits {
            return self.inner.insert_many(pairs);
        }
        pairs.into_iter().map(|(key, value)| self.insert(key, value)).collect()
    }
    fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        self.inner.remove_many(keys)
    }
    fn clear(&self) -> Result<()> {
        self.inner.clear()
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
