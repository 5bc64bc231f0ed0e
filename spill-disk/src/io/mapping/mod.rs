//! Files of the operating system, mapped into memory to be read.
//!
//! To read a short range out of a mapping takes no call of the system. But where a page cannot be had, since the file was
//! cut short or the device fails, the system sends the thread a signal (`SIGBUS`) in the middle of the copy. So the
//! instructions that [copy](copy) are few and known, and a [handler](bus_errors) recognises them: it has the copy end and
//! say so. Any other bus error goes where it went before.
#![expect(unsafe_code, reason = "mappings, and a handler of signals, have no safe binding")]

mod bus_errors;
mod copy;

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use self::copy::{Copying, copy_summed};
use super::Mapping;
use super::page_cache::pages;

/// The first bytes of a file, mapped. The file may be shorter.
pub(super) struct FileMapping {
    start: *mut c_void,
    len: usize,
    copying: Copying,
}

// SAFETY: the mapping is the same for all threads, nothing but the destructor changes it, and what it leads to is read
// by `copy_summed` alone.
unsafe impl Send for FileMapping {}
// SAFETY: as above.
unsafe impl Sync for FileMapping {}

impl FileMapping {
    pub(super) fn new(file: &File, len: u64) -> io::Result<Self> {
        bus_errors::recover()?;
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping, at a place that the system chooses.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(FileMapping { start, len, copying: Copying::best() })
    }

    /// Where a range begins, if all of it is mapped.
    fn place(&self, offset: u64, len: usize) -> Option<*mut u8> {
        let offset = usize::try_from(offset).ok()?;
        let is_mapped = offset.checked_add(len)? <= self.len;
        is_mapped.then(|| self.start.cast::<u8>().wrapping_add(offset))
    }
}

impl Mapping for FileMapping {
    fn read(&self, buffer: &mut [u8], offset: u64, unsummed: usize) -> Option<u32> {
        let from = self.place(offset, buffer.len())?;
        // SAFETY: the source is mapped, and the buffer is none of it, since nothing may be written there. The
        // kind of copying is one that the processor can do.
        unsafe { copy_summed(buffer, from, unsummed, self.copying) }
    }

    fn release(&self, offset: u64, len: u64) {
        let Some((from, len)) = pages(offset, len) else { return };
        let len = len.get().min((self.len as u64).saturating_sub(from)) as usize;
        if let Some(place) = self.place(from, len) {
            // SAFETY: a range of the mapping, which can be read again: pages of a file come back from it. Where the
            // system refuses, it keeps them.
            _ = unsafe { libc::madvise(place.cast(), len, libc::MADV_DONTNEED) };
        }
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody reads it any more.
        _ = unsafe { libc::munmap(self.start, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    /// Wherever the copy meets a page that is gone, it ends.
    #[test]
    fn a_page_that_is_gone_is_told_of() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * PAGE as u64).unwrap();
        for copying in [Copying::Plain, Copying::best()] {
            let mut mapping = FileMapping::new(&file, 3 * PAGE as u64).unwrap();
            mapping.copying = copying;
            for left in [3, 2, 1, 0] {
                file.set_len((left * PAGE) as u64).unwrap();
                for offset in (0..2 * PAGE).step_by(1000).chain([PAGE - 40, PAGE - 8, PAGE - 1, PAGE]) {
                    for len in [1, 30, 32, 40, 72, 100, 136, 1000, 4096, 4128] {
                        let read = mapping.read(&mut vec![1; len], offset as u64, 8);
                        let zeros = crc32fast::hash(&vec![0; len.saturating_sub(8)]);
                        let is_there = offset + len <= left * PAGE;
                        assert_eq!(read, is_there.then_some(zeros), "{copying:?} {left} {offset} {len}");
                    }
                }
            }
            file.set_len(3 * PAGE as u64).unwrap();
        }
    }

    #[test]
    fn what_is_not_mapped_is_not_read() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * PAGE as u64).unwrap();
        let mapping = FileMapping::new(&file, PAGE as u64).unwrap();
        assert_eq!(mapping.read(&mut [0; 10], PAGE as u64 - 9, 0), None);
        assert_eq!(mapping.read(&mut [0; 10], u64::MAX, 0), None);
        assert_eq!(mapping.read(&mut [], PAGE as u64, 0), Some(0));
    }
}
