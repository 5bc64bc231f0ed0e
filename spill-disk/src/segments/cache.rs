//! How much of the files the system keeps in main memory.
//!
//! Writing leaves pages in the page cache, dirty at first. They are what makes reading back fast, and they are also
//! memory that the machine has not got for anything else; and where too many of them are dirty, the system stops
//! every writer until the device has caught up. So write-back begins once half of the limit is written (not before:
//! what dies young need not reach the device at all), some MiB at a time, and what is beyond the limit is forgotten,
//! the oldest first, once it is on the device: whoever writes waits for that, at the speed of the device.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::file::SegmentFile;
use super::mapped::Mapped;
use crate::io::File;

/// Bytes that are brought to the device together.
const TOGETHER: u64 = 8 << 20;

/// What may be in the page cache of the files of one store.
pub(super) struct PageCache {
    limit: u64,
    spans: Mutex<Spans>,
}

#[derive(Default)]
struct Spans {
    /// In the order in which they were written.
    queue: VecDeque<Span>,
    total: u64,
}

/// A range of a file that was written.
struct Span {
    file: Arc<dyn File>,
    /// See [`SegmentFile`].
    forgotten: Arc<AtomicU64>,
    mapped: Arc<OnceLock<Mapped>>,
    from: u64,
    to: u64,
}

impl Span {
    fn is_of(&self, file: &SegmentFile) -> bool {
        Arc::ptr_eq(&self.file, &file.file)
    }
}

impl PageCache {
    pub(super) fn new(limit: u64) -> Self {
        PageCache { limit, spans: Mutex::default() }
    }

    /// A range of the file was written.
    pub(super) fn written(&self, file: &SegmentFile, offset: u64, bytes: u64) {
        let (mut complete, mut over) = (None, Vec::new());
        let is_half_full;
        {
            let mut spans = self.spans.lock();
            spans.total += bytes;
            let last = spans.queue.back_mut().filter(|last| last.is_of(file) && last.to == offset);
            match last {
                Some(last) if last.to - last.from < TOGETHER => last.to += bytes,
                last => {
                    complete = last.map(|last| (last.from, last.to - last.from));
                    spans.queue.push_back(Span {
                        file: Arc::clone(&file.file),
                        forgotten: Arc::clone(&file.forgotten),
                        mapped: Arc::clone(&file.mapped),
                        from: offset,
                        to: offset + bytes,
                    });
                }
            }
            is_half_full = spans.total > self.limit / 2;
            while spans.total > self.limit
                && let Some(oldest) = spans.queue.pop_front()
            {
                spans.total -= oldest.to - oldest.from;
                over.push(oldest);
            }
        }
        // Advice: where it fails there is nothing to be done, and nothing is lost.
        if let Some((from, length)) = complete.filter(|_| is_half_full) {
            let _ = file.file.begin_write_back(from, length);
        }
        for span in over {
            span.forgotten.fetch_max(span.to, Relaxed);
            let length = span.to - span.from;
            let _ = span.file.uncache(span.from, length);
            if let Some(mapped) = span.mapped.get() {
                // pages that are mapped were not forgotten
                mapped.release(span.from, length);
                let _ = span.file.begin_write_back(span.from, length);
            }
        }
    }

    /// What was read of a range that had been forgotten.
    pub(super) fn forget_read(&self, file: &SegmentFile, offset: u64, bytes: u64) {
        let _ = file.file.begin_write_back(offset, bytes);
    }

    /// The file's content is gone.
    pub(super) fn gone(&self, file: &SegmentFile) {
        let mut spans = self.spans.lock();
        spans.queue.retain(|span| !span.is_of(file));
        spans.total = spans.queue.iter().map(|span| span.to - span.from).sum();
    }

    /// All files are gone.
    pub(super) fn clear(&self) {
        *self.spans.lock() = Spans::default();
    }
}
