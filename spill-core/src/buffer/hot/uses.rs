//! When hot keys were used last.
//!
//! Apart from what hits lock, and close together: who looks through them all takes none of the lines of those locks away,
//! and asks the processor's cache for few others.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::MOST;

/// Stamps that are allocated together.
const CHUNK: usize = 256;

/// The stamp of the last use of each hot key, by its place.
#[derive(Debug)]
pub(super) struct Uses([OnceLock<Box<[AtomicU64]>>; MOST / CHUNK]);

fn split(place: u32) -> (usize, usize) {
    (place as usize / CHUNK, place as usize % CHUNK)
}

impl Uses {
    pub(super) fn new() -> Self {
        Uses([const { OnceLock::new() }; MOST / CHUNK])
    }

    /// There was none yet of the key that gets this place, which is below [`MOST`].
    pub(super) fn begin(&self, place: u32) {
        let (chunk, at) = split(place);
        let made = self.0[chunk].get_or_init(|| (0..CHUNK).map(|_| AtomicU64::new(0)).collect());
        made[at].store(0, Relaxed);
    }

    fn stamp(&self, place: u32) -> Option<&AtomicU64> {
        let (chunk, at) = split(place);
        self.0.get(chunk)?.get()?.get(at)
    }

    /// Notes a use of the key that has this place.
    #[inline]
    pub(super) fn note(&self, place: u32, stamp: u64) {
        if let Some(last) = self.stamp(place) {
            last.store(stamp, Relaxed);
        }
    }

    /// The stamp of the last use; 0 where there was none.
    pub(super) fn last(&self, place: u32) -> u64 {
        self.stamp(place).map_or(0, |last| last.load(Relaxed))
    }
}
