//! Making a file without a lock: a device may take long over it, and the other writers have files to write in.
//!
//! Who removes the directories waits for the files that are being made in them, or one would be left behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use spill_core::Result;

use crate::segments::file::SegmentFile;
use crate::segments::index::STAGED;
use crate::segments::thread::PATIENCE;
use crate::segments::volumes::{Made, Volumes};

/// Who makes files of a store.
#[derive(Default)]
pub(super) struct Makers {
    /// How many are at it.
    count: Mutex<u32>,
    /// How many there were.
    named: AtomicU64,
    left: Condvar,
}

/// Who makes a file. It counts until what was made has its place, or is removed.
pub(super) struct Maker<'a> {
    makers: &'a Makers,
    /// The file's name ends so, whichever segments it will hold; no two files have the same.
    name: u64,
}

impl Makers {
    /// Counts one more, who was let in under the lock that a close takes to let no more in.
    pub(super) fn join(&self) -> Maker<'_> {
        *self.count.lock() += 1;
        Maker { makers: self, name: self.named.fetch_add(1, Relaxed) }
    }

    /// Waits until there is none, but not for ever: a device may hang.
    pub(super) fn wait(&self) {
        self.wait_for(PATIENCE);
    }

    fn wait_for(&self, patience: Duration) {
        let mut count = self.count.lock();
        self.left.wait_while_for(&mut count, |count| *count > 0, patience);
        if *count > 0 {
            tracing::warn!(files = *count, "no end to the making of files within {patience:?}");
        }
    }
}

impl Maker<'_> {
    /// Makes the file, in the directory whose turn it is; it is of no segment yet. `used` is how many bytes the store's files
    /// take.
    ///
    /// # Errors
    /// As [`Volumes::create`].
    pub(super) fn create(&self, volumes: &Volumes, used: u64) -> Result<Arc<SegmentFile>> {
        let Made { file, path, volume } = volumes.create(&format!("segment-{}.spill", self.name), used)?;
        Ok(Arc::new(SegmentFile {
            file: Arc::from(file),
            path,
            segment: STAGED,
            volume,
            extent: AtomicU64::new(0),
            forgotten: Arc::default(),
            mapped: Arc::default(),
        }))
    }
}

impl Drop for Maker<'_> {
    fn drop(&mut self) {
        *self.makers.count.lock() -= 1;
        self.makers.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maker_that_hangs_is_not_waited_for_for_ever() {
        let makers = Makers::default();
        let maker = makers.join();
        makers.wait_for(Duration::from_millis(1));
        assert_eq!(*makers.count.lock(), 1);
        drop(maker);
        assert_eq!(*makers.count.lock(), 0);
    }

    #[test]
    fn the_last_maker_ends_the_wait() {
        const LONG: Duration = Duration::from_secs(3600);
        let makers = Makers::default();
        let (first, second) = (makers.join(), makers.join());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| makers.wait_for(LONG));
            drop(first);
            std::thread::park_timeout(Duration::from_millis(20));
            assert!(!waits.is_finished(), "one is left");
            drop(second);
        });
    }
}
