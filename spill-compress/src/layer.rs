//! `Compress`: the layer.

use std::sync::Arc;

use bytes::Bytes;
use spill_core::{
    Clock, Error, ErrorKind, Frames, Key, Meter, MutableMapping, Pool, Result, SpilledSize, Stats,
    SystemClock, Usage,
};

use crate::compressor::{self, Compressor, damaged};
use crate::header::{self, Entry};

/// The largest value that a layer takes unless told otherwise, in bytes before compression: 16 GiB.
pub const DEFAULT_MAX_VALUE_BYTES: u64 = 16 << 30;

/// Results shorter than this are kept in memory of exactly their size; for longer ones the pool's buffers,
/// which waste an eighth at most, spare the page faults of fresh memory.
const POOLED: usize = 4096;

/// A mapping of frames over a mapping of compressed frames.
///
/// It holds no lock and no value, so any number of threads compress at once, each in its own call. Between an
/// encoding layer and storage it sees every value once on the way in and once on the way out. The weight of a
/// value passes unchanged; sizes that the layers below report are those of the compressed bytes.
///
/// Memory: while a frame is compressed, scratch memory of about its length; what goes down is of the length
/// the result has. Frames read back lie in buffers of the [`Pool`], except those stored as they are, which
/// pass through.
pub struct Compress<M, C> {
    compressor: C,
    inner: M,
    /// Reads what zstd wrote, where another compressor writes; it keeps contexts, so it is kept.
    #[cfg(feature = "zstd")]
    zstd: crate::Zstd,
    pool: Pool,
    clock: Arc<dyn Clock>,
    max_value_bytes: u64,
    compress: Meter,
    decompress: Meter,
}

impl<M, C: Compressor> Compress<M, C> {
    /// Compresses by `compressor` what goes into `inner`, and reads whatever any compiled-in compressor wrote.
    pub fn new(compressor: C, inner: M) -> Self {
        Compress {
            compressor,
            inner,
            #[cfg(feature = "zstd")]
            zstd: crate::Zstd::default(),
            pool: Pool::default(),
            clock: Arc::new(SystemClock::new()),
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
            compress: Meter::default(),
            decompress: Meter::default(),
        }
    }

    /// Takes memory from `pool`, which the layers of a chain should share.
    #[must_use]
    pub fn with_pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// Takes times from `clock` instead of the operating system.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Refuses values of more than `bytes` bytes before compression, on the way in and on the way out: damaged
    /// storage can never make a read take more memory than this. [`DEFAULT_MAX_VALUE_BYTES`] unless set.
    #[must_use]
    pub fn with_max_value_bytes(mut self, bytes: u64) -> Self {
        self.max_value_bytes = bytes;
        self
    }

    /// The mapping below.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    /// The compressor of new values.
    pub fn compressor(&self) -> &C {
        &self.compressor
    }

    fn compress(&self, value: &Frames) -> Result<Frames> {
        let bytes = value.byte_len();
        self.check_size(bytes)?;
        self.compress.time(&*self.clock, bytes, || {
            let mut entries = Vec::with_capacity(value.as_slice().len());
            let mut stored = Vec::with_capacity(value.as_slice().len() + 1);
            stored.push(Bytes::new());
            for frame in value {
                let (compressor, bytes) = match self.compress_frame(frame)? {
                    Some(compressed) => (self.compressor.id(), compressed),
                    None => (compressor::NONE, frame.clone()),
                };
                entries.push(Entry { compressor, len: frame.len() as u64 });
                stored.push(bytes);
            }
            stored[0] = header::write(&entries);
            Ok(Frames::from(stored).with_weight(value.weight()))
        })
    }

    /// The compressed frame in memory of its own length, or `None` when it did not shrink.
    fn compress_frame(&self, frame: &[u8]) -> Result<Option<Bytes>> {
        let scratch_len = self.compressor.scratch_len(frame.len());
        if scratch_len == 0 {
            return Ok(None);
        }
        let mut scratch = self.pool.take(scratch_len, 0);
        let Some(len) = self.compressor.compress(frame, &mut scratch)? else { return Ok(None) };
        if len >= frame.len() {
            return Ok(None);
        }
        let compressed = scratch.get(..len).ok_or_else(|| {
            let reason = format!("said {len} bytes of a scratch of {scratch_len}");
            Error::codec(self.compressor.name(), reason)
        })?;
        Ok(Some(self.copy(compressed)))
    }

    fn copy(&self, bytes: &[u8]) -> Bytes {
        if bytes.len() < POOLED {
            return Bytes::copy_from_slice(bytes);
        }
        let mut buffer = self.pool.take(bytes.len(), 0);
        buffer.copy_from_slice(bytes);
        buffer.freeze()
    }

    fn decompress(&self, stored: &Frames) -> Result<Frames> {
        self.decompress.time(&*self.clock, stored.byte_len(), || {
            let (header, frames) = stored
                .as_slice()
                .split_first()
                .ok_or_else(|| header::corrupt("a header frame", "a value without frames"))?;
            let entries = header::read(header, frames.len())?;
            // Every frame is checked before memory is taken for any.
            let mut total: u64 = 0;
            for (entry, frame) in entries.iter().zip(frames) {
                total = total.saturating_add(entry.len);
                self.check_size(total)?;
                self.check_frame(entry, frame)?;
            }
            let frames = entries.iter().zip(frames).map(|(entry, frame)| self.decompress_frame(entry, frame));
            Ok(frames.collect::<Result<Frames>>()?.with_weight(stored.weight()))
        })
    }

    fn decompress_frame(&self, entry: &Entry, frame: &Bytes) -> Result<Bytes> {
        if entry.compressor == compressor::NONE {
            return Ok(frame.clone());
        }
        let len = usize::try_from(entry.len).map_err(|_| self.too_large(entry.len))?;
        let mut output = self.pool.take(len, 0);
        self.decompressor(entry.compressor)?.decompress(frame, &mut output)?;
        Ok(output.freeze())
    }

    fn check_size(&self, bytes: u64) -> Result<()> {
        if bytes > self.max_value_bytes { Err(self.too_large(bytes)) } else { Ok(()) }
    }

    fn too_large(&self, size: u64) -> Error {
        let what = "a value before compression".to_owned();
        let setting = "the compression layer's max_value_bytes";
        ErrorKind::TooLarge { what, size, limit: self.max_value_bytes.min(usize::MAX as u64), setting }.into()
    }

    /// Whether `frame` can be `entry.len` bytes, told without decompressing it.
    fn check_frame(&self, entry: &Entry, frame: &[u8]) -> Result<()> {
        if entry.compressor == compressor::NONE {
            if entry.len == frame.len() as u64 {
                return Ok(());
            }
            return Err(damaged("none", format!("{} bytes", entry.len), format!("{} bytes", frame.len())));
        }
        let compressor = self.decompressor(entry.compressor)?;
        let most = compressor.largest_output(frame);
        if entry.len > most {
            let expected = format!("{} bytes when decompressed", entry.len);
            let found = format!("{} bytes, which can become {most} at most", frame.len());
            return Err(damaged(compressor.name(), expected, found));
        }
        Ok(())
    }

    fn decompressor(&self, id: u8) -> Result<&dyn Compressor> {
        if id == self.compressor.id() {
            return Ok(&self.compressor);
        }
        match id {
            #[cfg(feature = "lz4")]
            compressor::LZ4 => Ok(&crate::Lz4),
            #[cfg(feature = "zstd")]
            compressor::ZSTD => Ok(&self.zstd),
            #[cfg(not(feature = "lz4"))]
            compressor::LZ4 => Err(not_compiled_in("lz4")),
            #[cfg(not(feature = "zstd"))]
            compressor::ZSTD => Err(not_compiled_in("zstd")),
            _ => Err(Error::codec(
                self.compressor.name(),
                format!("a frame was stored by compressor number {id}, which this layer does not have"),
            )),
        }
    }
}

#[cfg(not(all(feature = "lz4", feature = "zstd")))]
fn not_compiled_in(name: &'static str) -> Error {
    let reason = format!("a frame was compressed by it, and it is not compiled in; enable feature {name:?}");
    Error::codec(name, reason)
}

impl<K: Key, M: MutableMapping<K, Frames>, C: Compressor> MutableMapping<K, Frames> for Compress<M, C> {
    fn get(&self, key: &K) -> Result<Option<Frames>> {
        self.inner.get(key)?.map(|stored| self.decompress(&stored)).transpose()
    }
    fn insert(&self, key: K, value: Frames) -> Result<()> {
        let stored = self.compress(&value)?;
        // What is compressed need not be in memory twice while storage works.
        drop(value);
        self.inner.insert(key, stored)
    }
    fn remove(&self, key: &K) -> Result<bool> {
        self.inner.remove(key)
    }
    /// A value that cannot be decompressed stays: it is read before it is taken. Of two that take at once, one
    /// gets the value.
    fn take(&self, key: &K) -> Result<Option<Frames>> {
        let Some(read) = self.inner.peek(key)? else { return Ok(None) };
        let value = self.decompress(&read)?;
        match self.inner.take(key)? {
            None => Ok(None),
            // The usual case. Comparing the stored bytes costs less than decompressing them again.
            Some(taken) if taken == read => Ok(Some(value.with_weight(taken.weight()))),
            Some(replaced) => self.decompress(&replaced).map(Some),
        }
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
        self.inner.peek(key)?.map(|stored| self.decompress(&stored)).transpose()
    }
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Frames>>> {
        let stored = self.inner.get_many(keys);
        stored.into_iter().map(|stored| stored?.map(|stored| self.decompress(&stored)).transpose()).collect()
    }
    /// Compresses the whole batch and hands it down as one. A value that cannot be compressed fails alone.
    fn insert_many(&self, pairs: Vec<(K, Frames)>) -> Vec<Result<()>> {
        let mut batch = Vec::with_capacity(pairs.len());
        let failed: Vec<Option<Error>> = pairs
            .into_iter()
            .map(|(key, value)| match self.compress(&value) {
                Ok(stored) => {
                    batch.push((key, stored));
                    None
                }
                Err(error) => Some(error),
            })
            .collect();
        let mut inserted = self.inner.insert_many(batch).into_iter();
        let missing = || Err(Error::codec(self.compressor.name(), "the mapping below gave too few results"));
        failed
            .into_iter()
            .map(|failed| failed.map_or_else(|| inserted.next().unwrap_or_else(missing), Err))
            .collect()
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
        let mut stats = self.inner.stats();
        stats.compress = stats.compress + self.compress.read();
        stats.decompress = stats.decompress + self.decompress.read();
        stats
    }
    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}
