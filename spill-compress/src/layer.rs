//! `Compress`: the layer.

use std::sync::Arc;

use bytes::Bytes;
use spill_core::{
    Clock, Error, ErrorKind, Frames, Key, Meter, MutableMapping, Pool, Result, SpilledSize, Stats,
    SystemClock, Usage,
};

use crate::blocks::{self, Workshop};
use crate::compression::Compression;
use crate::compressor::{self, Compressor};
use crate::header::{self, Entry};
use crate::tally::Tally;
use crate::threads::Threads;

/// The largest value that a layer takes unless told otherwise, in bytes before compression: 16 GiB.
pub const DEFAULT_MAX_VALUE_BYTES: u64 = 16 << 30;

/// A mapping of frames over a mapping of compressed frames.
///
/// It holds no value, and no lock while it works, so any number of threads compress at once, each in its own
/// call; a long value is shared with cores that have nothing else to do here. Between an encoding layer and
/// storage it sees every value once on the way in and once on the way out. The weight of a value passes
/// unchanged; sizes that the layers below report are those of the compressed bytes.
///
/// Memory: while a frame is compressed, each thread has scratch memory for a block; what goes down is of the
/// length the result has. Frames read back lie in buffers of the [`Pool`], except those stored as they are,
/// which pass through.
pub struct Compress<M> {
    compression: Compression,
    inner: M,
    /// Reads what zstd wrote, where another compressor writes; it keeps contexts, so it is kept.
    #[cfg(feature = "zstd")]
    zstd: crate::Zstd,
    pool: Pool,
    clock: Arc<dyn Clock>,
    threads: Threads,
    longest_block: usize,
    max_value_bytes: u64,
    compress: Meter,
    decompress: Meter,
}

impl<M> Compress<M> {
    /// Compresses what goes into `inner` as `compression` says (a [`Compressor`], [`Adaptive`](crate::Adaptive)
    /// or a [`Compression`]), and reads whatever any compiled-in compressor wrote.
    pub fn new(compression: impl Into<Compression>, inner: M) -> Self {
        Compress {
            compression: compression.into(),
            inner,
            #[cfg(feature = "zstd")]
            zstd: crate::Zstd::default(),
            pool: Pool::default(),
            clock: Arc::new(SystemClock::new()),
            threads: Threads::new(std::thread::available_parallelism().map_or(1, usize::from)),
            longest_block: usize::MAX,
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
            compress: Meter::default(),
            decompress: Meter::default(),
        }
    }

    /// [`new`](Self::new) with [`Adaptive`](crate::Adaptive), which needs no setting.
    pub fn adaptive(inner: M) -> Self {
        Self::new(Compression::default(), inner)
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

    /// Lets a long value be shared by threads of this layer's own while fewer than `threads` work here, callers
    /// included; with 1, each caller works alone. As many as there are cores unless set.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Threads::new(threads);
        self
    }

    /// Cuts frames into blocks of at most `bytes` bytes, whatever length the compressor likes best, for less scratch memory
    /// and larger records. Rounded down to a power of two; 4 KiB at least.
    #[must_use]
    pub fn with_longest_block(mut self, bytes: usize) -> Self {
        self.longest_block = bytes;
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

    /// How new values are compressed.
    pub fn compression(&self) -> &Compression {
        &self.compression
    }

    /// What each setting of a compressor did so far.
    pub fn tallies(&self) -> Vec<Tally> {
        self.compression.tallies()
    }

    fn workshop(&self) -> Workshop<'_> {
        Workshop {
            pool: &self.pool,
            clock: &*self.clock,
            threads: &self.threads,
            longest_block: self.longest_block,
        }
    }

    fn compress(&self, value: &Frames) -> Result<Frames> {
        let bytes = value.byte_len();
        self.check_size(bytes)?;
        self.compress.time(&*self.clock, bytes, || {
            let mut entries = Vec::with_capacity(value.as_slice().len());
            let mut stored = Vec::with_capacity(value.as_slice().len() + 1);
            stored.push(Bytes::new());
            for frame in value {
                entries.push(self.compress_frame(frame, &mut stored)?);
            }
            stored[0] = header::write(&entries);
            Ok(Frames::from(stored).with_weight(value.weight()))
        })
    }

    /// Adds the blocks of `frame` to `stored`, or all of it as it is.
    fn compress_frame(&self, frame: &Bytes, stored: &mut Vec<Bytes>) -> Result<Entry> {
        let plain = |stored: &mut Vec<Bytes>| {
            stored.push(frame.clone());
            Ok(Entry::Plain)
        };
        let Some(pick) = self.compression.pick(frame, &self.pool, &*self.clock) else {
            self.compression.plain(frame.len());
            return plain(stored);
        };
        let compressor = self.compression.picked(&pick);
        note_compressor(|| compressor.setting());
        let (smaller, took) = self.workshop().pack(compressor, pick.width, frame)?;
        let Some(smaller) = smaller else {
            self.compression.packed(&pick, frame.len(), frame.len(), took);
            return plain(stored);
        };
        let result = smaller.blocks.iter().map(Bytes::len).sum();
        self.compression.packed(&pick, frame.len(), result, took);
        stored.extend(smaller.blocks);
        Ok(Entry::Packed { how: smaller.packed, len: frame.len() as u64 })
    }

    /// Runs `write`, which hands `bytes` bytes to storage, and tells the choice how long it waited for that. Only what
    /// `accepted` says went in tells how fast storage is: a refusal may take no time at all.
    fn written<R>(&self, bytes: u64, write: impl FnOnce() -> R, accepted: impl FnOnce(&R) -> bool) -> R {
        if !self.compression.follows_storage() {
            return write();
        }
        let begun = self.clock.now();
        let result = write();
        let waited = self.clock.now().saturating_sub(begun);
        if accepted(&result) {
            self.compression.written(bytes, waited);
        }
        result
    }

    /// Makes what was found stored the value behind it. What is stored as it is passes by: no step is counted, no
    /// memory taken, and nothing moved, since a hit of the mapping below may cost little more than that.
    fn restore(&self, found: &mut Result<Option<Frames>>) {
        let Ok(Some(stored)) = found else { return };
        let is_plain = |(header, frames): (&Bytes, &[Bytes])| header::says_plain(header, frames.len());
        if stored.as_slice().split_first().is_some_and(is_plain) {
            stored.skip_first();
            if let Err(error) = self.check_size(stored.byte_len()) {
                *found = Err(error);
            }
        } else {
            *found = self.decompress(stored).map(Some);
        }
    }

    /// [`restore`](Self::restore) of what a call gave; inlined, so that it is not moved here and back.
    #[inline(always)]
    fn restored(&self, mut found: Result<Option<Frames>>) -> Result<Option<Frames>> {
        self.restore(&mut found);
        found
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
            let mut parts = Vec::with_capacity(entries.len());
            let mut rest = frames;
            for entry in entries {
                // The header was held against the number of frames.
                let (blocks, others) =
                    rest.split_at(usize::try_from(entry.blocks()).unwrap_or(usize::MAX).min(rest.len()));
                rest = others;
                let len = match entry {
                    Entry::Plain => blocks.first().map_or(0, Bytes::len) as u64,
                    Entry::Packed { len, .. } => len,
                };
                total = total.saturating_add(len);
                self.check_size(total)?;
                if let Entry::Packed { how, len } = entry {
                    blocks::check(self.decompressor(how.compressor)?, how, blocks, len)?;
                }
                parts.push((entry, blocks));
            }
            let frames = parts.into_iter().map(|(entry, blocks)| self.decompress_frame(entry, blocks));
            Ok(frames.collect::<Result<Frames>>()?.with_weight(stored.weight()))
        })
    }

    fn decompress_frame(&self, entry: Entry, blocks: &[Bytes]) -> Result<Bytes> {
        let Entry::Packed { how, len } = entry else {
            return Ok(blocks.first().cloned().unwrap_or_default());
        };
        let len = usize::try_from(len).map_err(|_| self.too_large(len))?;
        let compressor = self.decompressor(how.compressor)?;
        note_compressor(|| compressor.name().to_owned());
        self.workshop().unpack(compressor, how, blocks, len)
    }

    fn check_size(&self, bytes: u64) -> Result<()> {
        if bytes > self.max_value_bytes { Err(self.too_large(bytes)) } else { Ok(()) }
    }

    fn too_large(&self, size: u64) -> Error {
        let what = "a value before compression".to_owned();
        let setting = "the compression layer's max_value_bytes";
        ErrorKind::TooLarge { what, size, limit: self.max_value_bytes.min(usize::MAX as u64), setting }.into()
    }

    fn decompressor(&self, id: u8) -> Result<&dyn Compressor> {
        if let Some(own) = self.compression.by_id(id) {
            return Ok(own);
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
                "compress",
                format!("a frame was stored by compressor number {id}, which this layer does not have"),
            )),
        }
    }
}

/// Tells whoever listens to the span of the spill or read back under way which compressor works.
fn note_compressor(setting: impl FnOnce() -> String) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        tracing::Span::current().record("compressor", setting());
    }
}

#[cfg(not(all(feature = "lz4", feature = "zstd")))]
fn not_compiled_in(name: &'static str) -> Error {
    let reason = format!("a frame was compressed by it, and it is not compiled in; enable feature {name:?}");
    Error::codec(name, reason)
}

impl<K: Key, M: MutableMapping<K, Frames>> MutableMapping<K, Frames> for Compress<M> {
    fn get(&self, key: &K) -> Result<Option<Frames>> {
        self.restored(self.inner.get(key))
    }
    fn insert(&self, key: K, value: Frames) -> Result<()> {
        let stored = self.compress(&value)?;
        // What is compressed need not be in memory twice while storage works.
        drop(value);
        self.written(stored.byte_len(), || self.inner.insert(key, stored), Result::is_ok)
    }
    fn remove(&self, key: &K) -> Result<bool> {
        self.inner.remove(key)
    }
    /// A value that cannot be decompressed stays: it is read before it is taken. Of two that take at once, one
    /// gets the value.
    fn take(&self, key: &K) -> Result<Option<Frames>> {
        let Some(read) = self.inner.peek(key)? else { return Ok(None) };
        let value = self.restored(Ok(Some(read.clone())))?;
        match self.inner.take(key)? {
            None => Ok(None),
            // The usual case. Comparing the stored bytes costs less than decompressing them again.
            Some(taken) if taken == read => Ok(value.map(|value| value.with_weight(taken.weight()))),
            Some(replaced) => self.restored(Ok(Some(replaced))),
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
        self.restored(self.inner.peek(key))
    }
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Frames>>> {
        let mut found = self.inner.get_many(keys);
        found.iter_mut().for_each(|found| self.restore(found));
        found
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
        let bytes = batch.iter().map(|(_, stored): &(K, Frames)| stored.byte_len()).sum();
        let count = batch.len();
        let all = |inserted: &Vec<Result<()>>| inserted.len() == count && inserted.iter().all(Result::is_ok);
        let mut inserted = self.written(bytes, || self.inner.insert_many(batch), all).into_iter();
        let missing = || Err(Error::codec("compress", "the mapping below gave too few results"));
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
