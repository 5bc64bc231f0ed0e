//! What the system keeps of a file in main memory.
#![expect(unsafe_code, reason = "`sync_file_range` has no safe binding")]

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsRawFd;

/// What is smaller than the system's own page does no harm.
const PAGE: u64 = 4096;

/// Begins to write what is dirty of a range, and forgets what is clean, with the whole of the pages that it begins and
/// ends in.
pub(super) fn begin_write_back(file: &File, offset: u64, len: u64) -> io::Result<()> {
    match pages(offset, len) {
        // That is what this advice does.
        Some((from, len)) => Ok(rustix::fs::fadvise(file, from, Some(len), rustix::fs::Advice::DontNeed)?),
        None => Ok(()),
    }
}

/// Waits until a range is on the device, and forgets it.
pub(super) fn uncache(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let Some((from, pages)) = pages(offset, len) else { return Ok(()) };
    // Pages that are dirty or on their way to the device are not forgotten.
    match write_back(file, from, pages) {
        // A system or file system without ranges. This call waits for the whole file.
        Err(error) if has_no_ranges(&error) => file.sync_data()?,
        done => done?,
    }
    begin_write_back(file, offset, len)
}

/// Writes what is dirty of a range, and waits for that. It is no promise of durability: the device's own cache is
/// not written out, nor is what says where the file's blocks are.
fn write_back(file: &File, from: u64, len: NonZeroU64) -> io::Result<()> {
    let range = (libc::off64_t::try_from(from), libc::off64_t::try_from(len.get()));
    let (Ok(from), Ok(len)) = range else { return Err(io::ErrorKind::InvalidInput.into()) };
    let flags =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the descriptor is that of an open file, and the call is given no memory.
    let done = unsafe { libc::sync_file_range(file.as_raw_fd(), from, len, flags) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn has_no_ranges(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL | libc::ESPIPE))
}

/// Where the first page of a range begins, and the bytes of all its pages; `None` for an empty range, since a length of
/// zero would mean all that follows.
pub(super) fn pages(offset: u64, len: u64) -> Option<(u64, NonZeroU64)> {
    let from = offset / PAGE * PAGE;
    let to = offset.saturating_add(len).checked_next_multiple_of(PAGE)?;
    NonZeroU64::new(to.saturating_sub(from)).filter(|_| len > 0).map(|len| (from, len))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_range_is_that_of_its_pages() {
        let range = |offset, len| pages(offset, len).map(|(from, len)| (from, len.get()));
        assert_eq!(range(0, 1), Some((0, 4096)));
        assert_eq!(range(4095, 2), Some((0, 8192)));
        assert_eq!(range(8192, 4096), Some((8192, 4096)));
        assert_eq!(range(8192, 0), None);
        assert_eq!(range(u64::MAX, 1), None);
    }

    #[test]
    fn ranges_are_written_back_and_forgotten_in_any_order() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 20_000]).unwrap();
        for (offset, len) in [(0, 20_000), (5000, 100), (10_000, 50_000), (1 << 40, 10), (0, 0)] {
            begin_write_back(&file, offset, len).unwrap();
            uncache(&file, offset, len).unwrap();
        }
        assert_eq!(file.metadata().unwrap().len(), 20_000);
        assert!(write_back(&file, u64::MAX / 4096 * 4096, NonZeroU64::MAX).is_err());
    }
}
