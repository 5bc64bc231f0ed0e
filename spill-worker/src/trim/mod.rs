//! Handing unused memory back to the operating system.
//!
//! An allocator keeps what was freed: between pages that are still used, or because asking again is cheap.
//! Evicting values then frees nothing that the system sees. Each allocator has its own call to hand back what
//! it can; which one is in use is found out when the process runs, since it may come by `LD_PRELOAD`.

#[cfg(target_os = "linux")]
mod allocator;

use std::fmt;

use serde::{Deserialize, Serialize};
use spill_core::Result;

use crate::MemorySource;
use crate::process::ProcessMemory;

/// An allocator that can be told to hand memory back.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allocator {
    /// The GNU C library's, by `malloc_trim(0)`.
    Glibc,
    /// jemalloc, linked or preloaded, by purging all its arenas.
    Jemalloc,
    /// mimalloc, linked or preloaded, by a forced collection.
    Mimalloc,
}

impl fmt::Display for Allocator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Allocator::Glibc => "glibc",
            Allocator::Jemalloc => "jemalloc",
            Allocator::Mimalloc => "mimalloc",
        })
    }
}

impl Allocator {
    /// The allocator that serves `malloc` in this process; `None` when it is not one of these, or the system
    /// is not Linux.
    #[must_use]
    pub fn in_use() -> Option<Self> {
        #[cfg(target_os = "linux")]
        return allocator::found().map(|found| found.allocator());
        #[cfg(not(target_os = "linux"))]
        None
    }
}

/// What a [`trim`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trimmed {
    /// The allocator that was asked; `None`: one that has no such call, so that nothing was done.
    pub allocator: Option<Allocator>,
    /// Whether the allocator says that memory was handed back; `None` where it does not say.
    pub released: Option<bool>,
    /// Process memory before, in bytes.
    pub before: u64,
    /// Process memory after, in bytes.
    pub after: u64,
}

impl fmt::Display for Trimmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = bytesize::ByteSize;
        match self.allocator {
            Some(allocator) => {
                write!(f, "{allocator}: {} before, {} after", size(self.before), size(self.after))
            }
            None => f.write_str("the allocator in use is not one that can be asked"),
        }
    }
}

/// Hands memory that the allocator keeps unused back to the operating system, as the page's `malloc_trim(0)`.
/// Takes time in proportion to the heap, some milliseconds a GiB, during which other threads' allocations may
/// wait.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// let trimmed = spill_worker::trim()?;
/// println!("{trimmed}");
/// # }
/// # Ok::<_, spill_core::Error>(())
/// ```
///
/// # Errors
/// [`Io`](spill_core::ErrorKind::Io) when process memory cannot be read, and
/// [`Backend`](spill_core::ErrorKind::Backend) when the allocator refuses.
pub fn trim() -> Result<Trimmed> {
    let memory = ProcessMemory::open()?;
    let before = memory.read()?;
    #[cfg(target_os = "linux")]
    let (allocator, released) = match allocator::found() {
        Some(found) => (Some(found.allocator()), found.release()?),
        None => (None, None),
    };
    #[cfg(not(target_os = "linux"))]
    let (allocator, released) = (None, None);
    Ok(Trimmed { allocator, released, before, after: memory.read()? })
}
