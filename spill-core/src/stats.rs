//! What a mapping has done: plain counts, and time and bytes for each step of a value's way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::Clock;

/// One step of a value's way, summed over all its runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// How many values went through it.
    pub count: u64,
    /// Bytes that went in.
    pub bytes: u64,
    /// Time spent, over all threads.
    pub time: Duration,
}

impl std::ops::Add for Step {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Step {
            count: self.count + other.count,
            bytes: self.bytes + other.bytes,
            time: self.time + other.time,
        }
    }
}

/// What a mapping and those below it have done since they were made, and what they hold now.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Reads answered from fast memory.
    pub hits: u64,
    /// Reads that went to storage.
    pub misses: u64,
    /// Values that left fast memory.
    pub evictions: u64,
    /// Their weight in bytes.
    pub evicted_bytes: u64,
    /// Of them, those whose copy on storage was still good, so that nothing was written.
    pub clean_evictions: u64,
    /// Values read back into fast memory.
    pub promotions: u64,
    /// Evictions given up because the key was written or removed meanwhile.
    pub cancelled: u64,
    /// Storage operations that failed.
    pub failures: u64,
    /// Keys that could not be spilled and are waiting to be tried again.
    pub deferred: u64,
    /// Values in fast memory.
    pub fast_count: u64,
    /// Their weight in bytes.
    pub fast_bytes: u64,
    /// Values whose only copy is in slow memory.
    pub slow_count: u64,
    /// Their weight in bytes.
    pub slow_bytes: u64,
    /// Value to frames.
    pub encode: Step,
    /// Frames to compressed frames.
    pub compress: Step,
    /// Records written to storage.
    pub write: Step,
    /// Live records that storage wrote again elsewhere to get the room of dead ones back.
    pub moved: Step,
    /// Records read from storage.
    pub read: Step,
    /// Compressed frames to frames. What was stored as it is needs no step.
    pub decompress: Step,
    /// Frames to value.
    pub decode: Step,
}

impl Stats {
    /// Bytes written to storage for each byte of records handed to it: 1 when nothing had to be moved.
    #[must_use]
    pub fn write_amplification(&self) -> f64 {
        if self.write.bytes == 0 {
            return 1.0;
        }
        1.0 + self.moved.bytes as f64 / self.write.bytes as f64
    }
}

impl std::ops::Add for Stats {
    type Output = Self;
    /// The sums of two mappings that stand side by side.
    fn add(self, other: Self) -> Self {
        Stats {
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            evictions: self.evictions + other.evictions,
            evicted_bytes: self.evicted_bytes + other.evicted_bytes,
            clean_evictions: self.clean_evictions + other.clean_evictions,
            promotions: self.promotions + other.promotions,
            cancelled: self.cancelled + other.cancelled,
            failures: self.failures + other.failures,
            deferred: self.deferred + other.deferred,
            fast_count: self.fast_count + other.fast_count,
            fast_bytes: self.fast_bytes + other.fast_bytes,
            slow_count: self.slow_count + other.slow_count,
            slow_bytes: self.slow_bytes + other.slow_bytes,
            encode: self.encode + other.encode,
            compress: self.compress + other.compress,
            write: self.write + other.write,
            moved: self.moved + other.moved,
            read: self.read + other.read,
            decompress: self.decompress + other.decompress,
            decode: self.decode + other.decode,
        }
    }
}

/// Sums one [`Step`] from any thread. A layer holds one for each thing it does.
#[derive(Debug, Default)]
pub struct Meter {
    count: AtomicU64,
    bytes: AtomicU64,
    nanos: AtomicU64,
}

impl Meter {
    /// Adds `count` values of `bytes` bytes in all that took `time`.
    #[inline]
    pub fn add(&self, count: u64, bytes: u64, time: Duration) {
        let add = |sum: &AtomicU64, more: u64| {
            // an addition waits for all memory that was asked for before it
            if more > 0 {
                sum.fetch_add(more, Relaxed);
            }
        };
        add(&self.count, count);
        add(&self.bytes, bytes);
        add(&self.nanos, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Runs `f` and books its time as one value of `bytes` bytes.
    pub fn time<T>(&self, clock: &dyn Clock, bytes: u64, f: impl FnOnce() -> T) -> T {
        let start = clock.now();
        let result = f();
        self.add(1, bytes, clock.now().saturating_sub(start));
        result
    }

    /// The sums so far.
    #[must_use]
    pub fn read(&self) -> Step {
        Step {
            count: self.count.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            time: Duration::from_nanos(self.nanos.load(Relaxed)),
        }
    }
}
