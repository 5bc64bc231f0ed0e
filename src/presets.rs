//! Whole chains in one call.
//!
//! [`disk`] and [`compressed_disk`] take bytes or text as values. [`Preset`] takes any value with a codec, a
//! weigher of your own, and writer threads. Whoever wants another shape puts the layers together with
//! [`Compose`].

use std::path::{Path, PathBuf};

use spill_codec::Raw;
#[cfg(feature = "compress")]
use spill_compress::{Compress, Compression};
#[cfg(feature = "object")]
use spill_core::{Blocking, Compose, Stored};
use spill_core::{
    Buffer, BufferBuilder, Codec, Frames, Func, HeapSize, HeapWeigher, Key, MutableMapping, Pool, Result,
    Value, Weigh,
};
use spill_disk::{Segments, SegmentsConfig, Workspace};
#[cfg(feature = "object")]
use spill_object::ObjectsConfig;

/// RAM over frames in `M`.
type Spilling<K, V, C, M> = Buffer<K, V, Func<K, V, Frames, C, M>>;

/// RAM over segment files.
pub type Disk<K, V, C = Raw> = Buffer<K, V, Func<K, V, Frames, C, Segments<K>>>;

/// RAM over compressed segment files.
#[cfg(feature = "compress")]
pub type CompressedDisk<K, V, C = Raw> = Buffer<K, V, Func<K, V, Frames, C, Compress<Segments<K>>>>;

/// RAM over an object store.
#[cfg(feature = "object")]
pub type Objects<K, V, C = Raw> = Buffer<K, V, Func<K, V, Frames, C, Blocking<spill_object::Objects<K>>>>;

/// RAM over segment files over an object store.
#[cfg(feature = "object")]
pub type Tiers<K, V, C = Raw> = Spilling<K, V, C, FilesOverObjects<K>>;

/// Segment files over an object store: what [`Tiers`] has below RAM.
#[cfg(feature = "object")]
pub type FilesOverObjects<K> = Buffer<K, Frames, Blocking<spill_object::Objects<K>>, Stored<Segments<K>>>;

/// Keeps up to `target` bytes of values in RAM and spills the rest to `directory`, or to the operating
/// system's temporary directory.
///
/// # Errors
/// [`Io`](crate::ErrorKind::Io) when the directory cannot be written.
///
/// ```
/// use bytes::Bytes;
/// use overspill::{MutableMapping, presets};
///
/// let map = presets::disk::<u64, Bytes>(1 << 20, None)?;
/// for n in 0..100 {
///     map.insert(n, Bytes::from(vec![n as u8; 100_000]))?;
/// }
/// assert_eq!(map.get(&3)?, Some(Bytes::from(vec![3; 100_000])));
/// assert!(map.usage().fast < 1 << 20);
/// # Ok::<_, overspill::Error>(())
/// ```
pub fn disk<K: Key, V: Value + HeapSize>(target: u64, directory: Option<&Path>) -> Result<Disk<K, V>>
where
    Raw: Codec<V>,
{
    Preset::new(target).directory(directory).disk(Raw)
}

/// [`disk`], with values compressed on their way: by one compressor for all, or as
/// [`Adaptive`](crate::Adaptive) chooses (`Compression::default()`).
///
/// # Errors
/// As [`disk`].
///
/// ```
/// use overspill::{Compression, MutableMapping, presets};
///
/// let map = presets::compressed_disk::<u64, String>(1 << 20, None, Compression::default())?;
/// for n in 0..100 {
///     map.insert(n, format!("{n} ").repeat(50_000))?;
/// }
/// map.flush()?;
/// let spilled = map.usage().spilled;
/// assert!(spilled.disk < spilled.memory / 10);
/// # Ok::<_, overspill::Error>(())
/// ```
#[cfg(feature = "compress")]
pub fn compressed_disk<K: Key, V: Value + HeapSize>(
    target: u64,
    directory: Option<&Path>,
    compression: impl Into<Compression>,
) -> Result<CompressedDisk<K, V>>
where
    Raw: Codec<V>,
{
    Preset::new(target).directory(directory).compressed_disk(Raw, compression)
}

/// Keeps up to `target` bytes of values in RAM and spills the rest to an object store. Close the mapping to have its
/// objects deleted.
///
/// # Errors
/// [`Io`](crate::ErrorKind::Io) when the system gives no thread for the requests.
///
/// ```
/// use overspill::{MutableMapping, object::Store, presets};
///
/// let store = Store::open("memory:///")?; // or "s3://bucket/prefix", with feature `aws`
/// let map = presets::objects::<u64, String>(1 << 20, store)?;
/// for n in 0..100 {
///     map.insert(n, format!("{n} ").repeat(10_000))?;
/// }
/// assert_eq!(map.get(&3)?, Some("3 ".repeat(10_000)));
/// assert!(map.usage().managed() < 1 << 20);
/// map.close()?;
/// # Ok::<_, overspill::Error>(())
/// ```
#[cfg(feature = "object")]
pub fn objects<K: Key, V: Value + HeapSize>(target: u64, store: spill_object::Store) -> Result<Objects<K, V>>
where
    Raw: Codec<V>,
{
    Preset::new(target).objects(Raw, store)
}

/// Keeps up to `target` bytes of values in RAM, spills the rest to files that take up to `quota` bytes, and what they
/// have no room for to an object store. What is read comes back to disk and RAM. Close the mapping to have its objects
/// deleted.
///
/// # Errors
/// [`Io`](crate::ErrorKind::Io) when the directory cannot be written, or the system gives no thread for the requests.
///
/// ```
/// use bytes::Bytes;
/// use overspill::{ManualEvict, MutableMapping, object::Store, presets};
///
/// let store = Store::open("memory:///")?; // or "s3://bucket/prefix", with feature `aws`
/// let map = presets::tiers::<u64, Bytes>(1 << 20, None, 4 << 20, store)?;
/// for n in 0..1000 {
///     map.insert(n, Bytes::from(vec![n as u8; 10_000]))?;
/// }
/// let disk = map.slow().inner(); // the level below RAM
/// assert!(map.usage().managed() <= 1 << 20 && disk.stored().usage().physical <= 4 << 20);
/// assert!(disk.slow().usage().count > 500); // in the object store
/// assert_eq!(map.get(&3)?, Some(Bytes::from(vec![3; 10_000])));
/// assert!(map.evict() > 0 && disk.evict() > 0); // each level evicts by hand
/// map.close()?;
/// # Ok::<_, overspill::Error>(())
/// ```
#[cfg(feature = "object")]
pub fn tiers<K: Key, V: Value + HeapSize>(
    target: u64,
    directory: Option<&Path>,
    quota: u64,
    store: spill_object::Store,
) -> Result<Tiers<K, V>>
where
    Raw: Codec<V>,
{
    Preset::new(target).directory(directory).quota_bytes(quota).tiers(Raw, store)
}

/// What [`tiers`] has below RAM, for those who put a level of their own above it: segment files of up to `quota` bytes
/// in the directories of `files`, and what they have no room for in an object store. `target` is the RAM above with
/// what values take there that are being uploaded: whoever puts a buffer above takes [`upload_bytes`]
/// off its target. With `u64::MAX` as the quota, values go to the object store while the devices are full.
///
/// # Errors
/// As [`tiers`].
///
/// ```
/// use bytes::Bytes;
/// use overspill::{Frames, MutableMapping, Pool, SegmentsConfig, Workspace, object::Store, presets};
///
/// let files = SegmentsConfig::new(Workspace::open(None)?);
/// let map = presets::files_over_objects(files, 1 << 20, 1 << 20, Store::open("memory:///")?, &Pool::default())?;
/// for n in 0..300_u64 {
///     map.insert(n, Frames::from(Bytes::from(vec![n as u8; 10_000])))?;
/// }
/// assert!(map.stored().usage().physical <= 1 << 20 && map.slow().usage().count > 200);
/// map.close()?;
/// # Ok::<_, overspill::Error>(())
/// ```
#[cfg(feature = "object")]
pub fn files_over_objects<K: Key>(
    files: SegmentsConfig,
    quota: u64,
    target: u64,
    store: spill_object::Store,
    pool: &Pool,
) -> Result<FilesOverObjects<K>> {
    let segment = (quota / 16).clamp(1, 64 << 20);
    // files take up to half again what lives in them, one segment that fills and one that is kept for compaction
    let live = match quota {
        u64::MAX => u64::MAX,
        quota => quota.saturating_sub(3 * segment) / 3 * 2,
    };
    let segments = Segments::open(files.quota_bytes(quota).segment_bytes(segment).pool(pool.clone()))?;
    let objects = Packs::of(target).objects(store, pool)?;
    objects.behind(segments, BufferBuilder::new().target(live))
}

/// What [`files_over_objects`] and the presets with an object store take of a target for values that are being
/// uploaded, in bytes: three sixteenths, and 72 MiB at most.
#[cfg(feature = "object")]
#[must_use]
pub fn upload_bytes(target: u64) -> u64 {
    Packs::of(target).stage()
}

/// The settings of a preset chain. What the chain itself needs in RAM, buffers for reading and the stage of
/// values that wait to be written, is taken off the target.
pub struct Preset<K, V> {
    target: u64,
    directories: Vec<PathBuf>,
    quota: u64,
    mapped: u64,
    writers: usize,
    buffer: BufferBuilder<K, V>,
}

impl<K: Key, V: Value + HeapSize> Preset<K, V> {
    /// Up to `target` bytes in RAM, values weighed by [`HeapWeigher`].
    #[must_use]
    pub fn new(target: u64) -> Self {
        Self::weighed_by(target, HeapWeigher)
    }
}

impl<K: Key, V: Value> Preset<K, V> {
    /// Up to `target` bytes in RAM, values weighed by `weigher`.
    #[must_use]
    pub fn weighed_by(target: u64, weigher: impl Weigh<K, V>) -> Self {
        Preset {
            target,
            directories: Vec::new(),
            quota: u64::MAX,
            mapped: 0,
            writers: 0,
            buffer: BufferBuilder::weighed_by(weigher),
        }
    }

    /// Where to spill; without it, the operating system's temporary directory.
    #[must_use]
    pub fn directory(mut self, directory: Option<&Path>) -> Self {
        self.directories = directory.map(Path::to_owned).into_iter().collect();
        self
    }

    /// Several directories to spill to, each best on a device of its own: see
    /// [`SegmentsConfig::across`](crate::SegmentsConfig::across).
    #[must_use]
    pub fn directories(mut self, directories: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.directories = directories.into_iter().map(Into::into).collect();
        self
    }

    /// The most bytes that the files may take; without it, what the devices have.
    #[must_use]
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.quota = bytes;
        self
    }

    /// How much of the files may be mapped into memory for reading, in bytes, on top of the target: see
    /// [`SegmentsConfig::mapped_bytes`](crate::SegmentsConfig::mapped_bytes).
    #[must_use]
    pub fn mapped_bytes(mut self, bytes: u64) -> Self {
        self.mapped = bytes;
        self
    }

    /// Threads that spill behind the caller; with 0, the default, the caller spills itself.
    #[must_use]
    pub fn writers(mut self, threads: usize) -> Self {
        self.writers = threads;
        self
    }

    /// RAM over segment files, values stored by `codec`.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the directory cannot be written.
    pub fn disk<C: Codec<V>>(self, codec: C) -> Result<Disk<K, V, C>> {
        let share = Share::of(self.target);
        let segments = self.segments(&share)?;
        self.buffered(&share, Func::new(codec, segments))
    }

    /// RAM over compressed segment files, values stored by `codec`.
    ///
    /// # Errors
    /// As [`disk`](Self::disk).
    #[cfg(feature = "compress")]
    pub fn compressed_disk<C: Codec<V>>(
        self,
        codec: C,
        compression: impl Into<Compression>,
    ) -> Result<CompressedDisk<K, V, C>> {
        let share = Share::of(self.target);
        let segments = self.segments(&share)?;
        let compressed = Compress::new(compression, segments).with_pool(share.pool.clone());
        self.buffered(&share, Func::new(codec, compressed))
    }

    /// RAM over an object store, values stored by `codec`.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when the system gives no thread for the requests.
    #[cfg(feature = "object")]
    pub fn objects<C: Codec<V>>(self, codec: C, store: spill_object::Store) -> Result<Objects<K, V, C>> {
        let packs = Packs::of(self.target);
        let share = Share::without(self.target, packs.stage());
        let objects = packs.objects(store, &share.pool)?;
        self.buffered(&share, Func::new(codec, objects))
    }

    /// RAM over segment files over an object store, values stored by `codec`. With a
    /// [quota](Self::quota_bytes) the values that were not used for longest go from the files to the store before the
    /// quota is reached; without one, new values go there while the devices are full.
    ///
    /// # Errors
    /// As [`disk`](Self::disk) and [`objects`](Self::objects).
    #[cfg(feature = "object")]
    pub fn tiers<C: Codec<V>>(self, codec: C, store: spill_object::Store) -> Result<Tiers<K, V, C>> {
        let share = Share::with_files(self.target, upload_bytes(self.target));
        let config = self.segments_config(&share)?;
        let below = files_over_objects(config, self.quota, self.target, store, &share.pool)?;
        self.buffered(&share, Func::new(codec, below))
    }

    fn segments(&self, share: &Share) -> Result<Segments<K>> {
        Segments::open(self.segments_config(share)?.write_behind(true))
    }

    fn segments_config(&self, share: &Share) -> Result<SegmentsConfig> {
        let workspaces = match &*self.directories {
            [] => vec![Workspace::open(None)?],
            [one] => vec![Workspace::open(Some(one))?],
            several => Workspace::open_all(several)?,
        };
        let config = SegmentsConfig::across(workspaces).quota_bytes(self.quota).mapped_bytes(self.mapped);
        Ok(config.stage_bytes(share.stage).pool(share.pool.clone()))
    }

    fn buffered<C: Codec<V>, M: MutableMapping<K, Frames> + 'static>(
        self,
        share: &Share,
        func: Func<K, V, Frames, C, M>,
    ) -> Result<Spilling<K, V, C, M>> {
        let weigher = self.buffer.weigher();
        let func = func.weighed_by(move |key: &K, value: &V| weigher.weigh(key, value));
        self.buffer.target(share.fast).writers(self.writers).over(func)
    }
}

/// How a target is shared out.
struct Share {
    /// What values in fast memory may weigh.
    fast: u64,
    /// What values that wait to be written to files may weigh.
    stage: u64,
    pool: Pool,
}

impl Share {
    /// For files below.
    fn of(target: u64) -> Self {
        Self::with_files(target, 0)
    }

    /// For files below, with `more` bytes for something else. The stage takes its own size again to put records together.
    fn with_files(target: u64, more: u64) -> Self {
        let stage = (target / 16).min(4 << 20);
        Share { stage, ..Self::without(target, 2 * stage + more) }
    }

    /// Without what is `taken`.
    fn without(target: u64, taken: u64) -> Self {
        let pool = (target / 8).min(256 << 20);
        Share { fast: target.saturating_sub(pool + taken), stage: 0, pool: Pool::new(pool) }
    }
}

/// How much of a target an object store's packs take: the one that fills, and those being uploaded.
#[cfg(feature = "object")]
struct Packs {
    pack: u64,
    uploads: u64,
}

#[cfg(feature = "object")]
impl Packs {
    fn of(target: u64) -> Self {
        Packs { pack: (target / 16).clamp(1, 8 << 20), uploads: (target / 8).min(64 << 20) }
    }

    fn stage(&self) -> u64 {
        self.pack + self.uploads
    }

    fn objects<K: Key>(
        &self,
        store: spill_object::Store,
        pool: &Pool,
    ) -> Result<Blocking<spill_object::Objects<K>>> {
        let config = ObjectsConfig::new(store).pack_bytes(self.pack).stage_bytes(self.uploads);
        spill_object::Objects::blocking(config.pool(pool.clone()))
    }
}
