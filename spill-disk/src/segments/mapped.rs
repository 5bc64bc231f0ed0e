//! Segments that are mapped into memory, so that reading a short record takes no call of the system.
//!
//! The pages of a mapping that were read count as memory of the process, though they are the page cache's, which
//! the system takes back when it needs them. So it is for the caller to say how much may be mapped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::file::SegmentFile;
use crate::io::Mapping;

/// What is mapped of the files of one store.
pub(super) struct Mappings {
    /// The most bytes that may be mapped.
    limit: u64,
    /// Bytes of each mapping.
    each: u64,
    used: Arc<AtomicU64>,
    /// The system maps nothing.
    refused: AtomicBool,
}

/// A mapping of one file, until that is done with.
pub(super) struct Mapped {
    mapping: Box<dyn Mapping>,
    bytes: u64,
    used: Arc<AtomicU64>,
}

impl Drop for Mapped {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Relaxed);
    }
}

impl Mapped {
    /// See [`Mapping::release`].
    pub(super) fn release(&self, offset: u64, len: u64) {
        self.mapping.release(offset, len);
    }
}

impl Mappings {
    pub(super) fn new(limit: u64, segment_bytes: u64) -> Self {
        Mappings { limit, each: segment_bytes, used: Arc::default(), refused: AtomicBool::new(false) }
    }

    /// Reads a range of the file, if it is mapped or may be. Whether that was done; if not, a call of the system has to.
    #[inline]
    pub(super) fn read(&self, file: &SegmentFile, buffer: &mut [u8], offset: u64) -> bool {
        // what the page cache was made to forget would stay in it
        self.limit != 0 && offset >= file.forgotten.load(Relaxed) && self.read_mapped(file, buffer, offset)
    }

    fn read_mapped(&self, file: &SegmentFile, buffer: &mut [u8], offset: u64) -> bool {
        if let Some(mapped) = file.mapped.get() {
            return mapped.mapping.read(buffer, offset);
        }
        let Some(mapped) = self.map(file) else { return false };
        let done = mapped.mapping.read(buffer, offset);
        _ = file.mapped.set(mapped); // where another thread was first, that mapping stays
        done
    }

    /// Maps the file, within the limit.
    fn map(&self, file: &SegmentFile) -> Option<Mapped> {
        let within = |used: u64| used.checked_add(self.each).filter(|used| *used <= self.limit);
        if self.refused.load(Relaxed) || self.used.fetch_update(Relaxed, Relaxed, within).is_err() {
            return None;
        }
        match file.file.map(self.each) {
            Ok(mapping) => Some(Mapped { mapping, bytes: self.each, used: Arc::clone(&self.used) }),
            Err(error) => {
                self.used.fetch_sub(self.each, Relaxed);
                self.refused.store(true, Relaxed);
                tracing::debug!(file = %file.path.display(), %error, "files are not mapped, and read by calls");
                None
            }
        }
    }
}
