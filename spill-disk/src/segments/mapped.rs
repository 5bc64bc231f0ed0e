//! Segments that are mapped into memory, so that reading a short record takes no call of the system.
//!
//! The pages of a mapping that were read count as memory of the process, though they are the page cache's, which
//! the system takes back when it needs them. So it is for the caller to say how much may be mapped.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::file::SegmentFile;
use super::sum::{Sum, UNSUMMED, read_summed};
use crate::io::Mapping;

/// What is mapped of the files of one store.
pub(super) struct Mappings {
    /// The most bytes that may be mapped.
    limit: u64,
    /// Bytes of each mapping.
    each: u64,
    books: Arc<Books>,
}

/// What mappings and their store tell each other.
#[derive(Default)]
struct Books {
    /// Bytes that are mapped.
    used: AtomicU64,
    /// The system refused to map a file, and is not asked again before a mapping is gone.
    refused: AtomicBool,
}

/// A mapping of one file, until that is done with.
pub(super) struct Mapped {
    mapping: Box<dyn Mapping>,
    /// Given back once the mapping is gone, as fields are dropped in their order.
    _share: Share,
}

/// Bytes of the limit.
struct Share {
    bytes: u64,
    books: Arc<Books>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.books.used.fetch_sub(self.bytes, Relaxed);
        self.books.refused.store(false, Relaxed);
    }
}

impl Mapped {
    /// `None` where not all of the record could be had.
    fn read(&self, record: &mut [u8], offset: u64) -> Option<Sum> {
        self.mapping.read(record, offset, UNSUMMED).map(Sum::of_crc)
    }

    /// See [`Mapping::release`].
    pub(super) fn release(&self, offset: u64, len: u64) {
        self.mapping.release(offset, len);
    }
}

impl Mappings {
    pub(super) fn new(limit: u64, segment_bytes: u64) -> Self {
        Mappings { limit, each: segment_bytes, books: Arc::default() }
    }

    /// Reads a record of the file and sums it, from the file's mapping, if it has one or may have.
    ///
    /// # Errors
    /// As [`read_summed`].
    #[inline]
    pub(super) fn read(&self, file: &SegmentFile, record: &mut [u8], offset: u64) -> io::Result<Sum> {
        if self.limit != 0
            && self.is_for_mappings(file, record.len(), offset)
            && let Some(sum) = self.read_mapped(file, record, offset)
        {
            return Ok(sum);
        }
        // what a mapping did not give, calls read, or say why not
        read_summed(&*file.file, record, offset)
    }

    /// Whether the range lies in what is mapped of a file, not in one that is longer than segments are; and the page cache
    /// was not made to forget it, in which it would stay.
    fn is_for_mappings(&self, file: &SegmentFile, length: usize, offset: u64) -> bool {
        offset + length as u64 <= self.each && offset >= file.forgotten.load(Relaxed)
    }

    fn read_mapped(&self, file: &SegmentFile, record: &mut [u8], offset: u64) -> Option<Sum> {
        if let Some(mapped) = file.mapped.get() {
            return mapped.read(record, offset);
        }
        let mapped = self.map(file)?;
        let sum = mapped.read(record, offset);
        _ = file.mapped.set(mapped); // where another thread was first, that mapping stays
        sum
    }

    /// Maps the file, within the limit.
    fn map(&self, file: &SegmentFile) -> Option<Mapped> {
        let within = |used: u64| used.checked_add(self.each).filter(|used| *used <= self.limit);
        let Books { used, refused } = &*self.books;
        if refused.load(Relaxed) || used.fetch_update(Relaxed, Relaxed, within).is_err() {
            return None;
        }
        let share = Share { bytes: self.each, books: Arc::clone(&self.books) };
        match file.file.map(self.each) {
            Ok(mapping) => Some(Mapped { mapping, _share: share }),
            Err(error) => {
                drop(share);
                refused.store(true, Relaxed);
                tracing::debug!(file = %file.path.display(), %error, "files are not mapped, and read by calls");
                None
            }
        }
    }
}
