//! Process memory, as the operating system measures it.

use spill_core::Result;

/// Something that says how much memory the process uses, in bytes. A function is one.
pub trait MemorySource: Send + Sync {
    /// The memory in use now, in bytes. Called every few milliseconds near the limit and after each
    /// eviction, so it should be quick and must not wait for storage.
    ///
    /// # Errors
    /// When it could not be read; the monitor goes on as after the last reading.
    fn read(&self) -> Result<u64>;
}

impl<F: Fn() -> Result<u64> + Send + Sync> MemorySource for F {
    fn read(&self) -> Result<u64> {
        self()
    }
}

/// The resident memory (RSS) of this process, as the kernel counts it.
///
/// It keeps `/proc/self/statm` open: a reading is one system call of a few microseconds and takes no memory.
/// After a fork the child must open its own, since the file belongs to the process that opened it.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// use spill_worker::{MemorySource, ProcessMemory};
///
/// let bytes = ProcessMemory::open()?.read()?;
/// assert!(bytes > 0);
/// # }
/// # Ok::<_, spill_core::Error>(())
/// ```
#[derive(Debug)]
pub struct ProcessMemory(imp::Reader);

impl ProcessMemory {
    /// Opens the reading.
    ///
    /// # Errors
    /// [`Io`](spill_core::ErrorKind::Io) when `/proc` is not there, of kind `Unsupported` on systems other
    /// than Linux.
    pub fn open() -> Result<Self> {
        imp::Reader::open().map(ProcessMemory)
    }
}

impl MemorySource for ProcessMemory {
    fn read(&self) -> Result<u64> {
        self.0.read()
    }
}

#[cfg(target_os = "linux")]
mod imp {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::FileExt;

    use spill_core::{Error, Result};

    const STATM: &str = "/proc/self/statm";

    #[derive(Debug)]
    pub(super) struct Reader {
        statm: File,
        page: u64,
    }

    impl Reader {
        pub(super) fn open() -> Result<Self> {
            let statm = File::open(STATM).map_err(|error| Error::io("open", STATM, error))?;
            Ok(Reader { statm, page: rustix::param::page_size() as u64 })
        }

        pub(super) fn read(&self) -> Result<u64> {
            // Seven numbers of at most 20 digits.
            let mut text = [0; 160];
            let len = self.statm.read_at(&mut text, 0).map_err(|error| Error::io("read", STATM, error))?;
            let pages = text.get(..len).and_then(resident).ok_or_else(|| {
                let error = io::Error::new(io::ErrorKind::InvalidData, "no second number");
                Error::io("understand", STATM, error)
            })?;
            Ok(pages.saturating_mul(self.page))
        }
    }

    /// The second number of `statm`: resident pages, see proc_pid_statm(5).
    fn resident(statm: &[u8]) -> Option<u64> {
        std::str::from_utf8(statm).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_second_number_counts_resident_pages() {
            assert_eq!(resident(b"765 418 390 5 0 123 0\n"), Some(418));
            for bad in ["", "765", "765 x 1", "765 -1 1"] {
                assert_eq!(resident(bad.as_bytes()), None, "{bad:?}");
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;

    use spill_core::{Error, Result};

    #[derive(Debug)]
    pub(super) struct Reader;

    impl Reader {
        pub(super) fn open() -> Result<Self> {
            let unsupported =
                io::Error::new(io::ErrorKind::Unsupported, "process memory is read on Linux only");
            Err(Error::io("open", "/proc/self/statm", unsupported))
        }

        pub(super) fn read(&self) -> Result<u64> {
            Reader::open().map(|_| 0)
        }
    }
}
