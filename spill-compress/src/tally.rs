//! What each setting did, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::shuffle::Width;

/// What one setting of a compressor did so far, on the way to storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The compressor with its setting, such as "zstd:3"; "none" for frames stored as they are.
    pub compressor: String,
    /// What frames were shuffled by before.
    pub width: Width,
    /// Frames it was chosen for.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes that were stored for them, headers not counted.
    pub stored: u64,
    /// Time spent on them by all threads, shuffling and compressing.
    pub time: Duration,
}

impl Tally {
    /// Bytes before over bytes after; 1 where nothing was stored.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.stored == 0 { 1.0 } else { self.bytes as f64 / self.stored as f64 }
    }
}

/// One [`Tally`], added to by any thread.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    frames: AtomicU64,
    bytes: AtomicU64,
    stored: AtomicU64,
    nanos: AtomicU64,
}

impl Counter {
    pub(crate) fn add(&self, bytes: usize, stored: usize, time: Duration) {
        self.frames.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.stored.fetch_add(stored as u64, Relaxed);
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn read(&self, compressor: String, width: Width) -> Tally {
        Tally {
            compressor,
            width,
            frames: self.frames.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            stored: self.stored.load(Relaxed),
            time: Duration::from_nanos(self.nanos.load(Relaxed)),
        }
    }
}
