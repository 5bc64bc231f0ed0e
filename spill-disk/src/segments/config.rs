//! How a store of segments is set up.

use std::sync::Arc;

use spill_core::{Clock, Error, Pool, Result, SystemClock};

use super::format::LONGEST;
use crate::Workspace;

/// The settings of [`Segments`](super::Segments).
///
/// ```
/// use spill_disk::{Segments, SegmentsConfig, Workspace};
///
/// let config = SegmentsConfig::new(Workspace::open(None)?).segment_bytes(16 << 20);
/// let segments: Segments<String> = Segments::open(config)?;
/// # Ok::<_, spill_core::Error>(())
/// ```
pub struct SegmentsConfig {
    pub(super) workspaces: Vec<Workspace>,
    pub(super) segment_bytes: u64,
    pub(super) quota: u64,
    pub(super) stage_bytes: u64,
    pub(super) page_cache: u64,
    pub(super) mapped: u64,
    pub(super) compactor: bool,
    pub(super) write_behind: bool,
    pub(super) pool: Pool,
    pub(super) clock: Arc<dyn Clock>,
}

impl SegmentsConfig {
    /// The defaults: files of 64 MiB in this workspace, by way of its `Io`, and a stage of 2 MiB.
    #[must_use]
    pub fn new(workspace: Workspace) -> Self {
        Self::across(vec![workspace])
    }

    /// As [`new`](Self::new), over several workspaces, each best on a device of its own. Files are spread by the
    /// room that each device has. Where one fails (it is removed, read-only, full or broken), writes go to the
    /// others, and it is asked again after a second, then ever later up to a minute, until it works. What was written
    /// there before is read from there.
    ///
    /// ```
    /// use spill_disk::{Segments, SegmentsConfig, Workspace};
    ///
    /// # let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    /// let workspaces = Workspace::open_all(&[one.path(), other.path()])?;
    /// let segments: Segments<u64> = Segments::open(SegmentsConfig::across(workspaces))?;
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn across(workspaces: Vec<Workspace>) -> Self {
        SegmentsConfig {
            workspaces,
            segment_bytes: 64 << 20,
            quota: u64::MAX,
            stage_bytes: 2 << 20,
            page_cache: main_memory() / 4,
            mapped: 0,
            compactor: true,
            write_behind: false,
            pool: Pool::default(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The most bytes that the files may take, in all workspaces together; without it, what the devices have. A
    /// segment of it is kept for compaction, and segments are at most an eighth of it. What finds no room is
    /// [`Full`](spill_core::ErrorKind::Full), naming `quota_bytes`.
    #[must_use]
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.quota = bytes;
        self
    }

    /// The length of a segment file in bytes. A value that is longer gets a file of its own.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Bytes of RAM that accepted values may take until they are written. With 0 each value is written before
    /// `insert` returns. To put short records together takes as much again, and 7 MiB at most.
    #[must_use]
    pub fn stage_bytes(mut self, bytes: u64) -> Self {
        self.stage_bytes = bytes;
        self
    }

    /// How much of what was written the system may keep in its page cache, in bytes: a quarter of main memory unless
    /// this says otherwise. Beyond it, what was written longest ago is brought to the device and forgotten, and
    /// so is what is read of it: `docs/disk.md` says what that costs.
    #[must_use]
    pub fn page_cache_bytes(mut self, bytes: u64) -> Self {
        self.page_cache = bytes;
        self
    }

    /// How much of the files may be mapped into memory for reading, in bytes: 0, unless this says otherwise, and then
    /// reading takes calls of the system. Whole segments are mapped, as they are first read, until the next one would exceed
    /// this; the others are read by calls. Short records are read faster from a mapping. But its pages count as memory of
    /// the process (RSS), beside the values in fast memory, although they are the page cache's, which the system takes
    /// back when it needs them: leave so much room between a target and a memory limit. On systems other than
    /// Linux on x86-64 nothing is mapped.
    #[must_use]
    pub fn mapped_bytes(mut self, bytes: u64) -> Self {
        self.mapped = bytes;
        self
    }

    /// Whether a thread compacts beside the traffic, as it does unless this says otherwise. Without one, inserts
    /// that find the files at their bound compact.
    #[must_use]
    pub fn compactor(mut self, beside: bool) -> Self {
        self.compactor = beside;
        self
    }

    /// Whether a thread writes the batches of the stage, so that who fills one half goes on with the other: worth it
    /// where values are small and a processor is idle. Otherwise the insert that finds its half full writes it. A batch
    /// that the thread could not write stays staged, and the next insert that needs room tries again. Until the thread
    /// has seen to it the files may be above their bound by a batch.
    #[must_use]
    pub fn write_behind(mut self, behind: bool) -> Self {
        self.write_behind = behind;
        self
    }

    /// Where the memory for values read comes from.
    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// Takes times from `clock` instead of the operating system.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The length of segments, within the quota.
    pub(super) fn segment(&self) -> u64 {
        self.segment_bytes.min(self.quota / 8).max(1)
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.workspaces.is_empty() {
            return Err(Error::config("workspaces", "none", "one or more"));
        }
        if (1..=LONGEST).contains(&self.segment_bytes) {
            return Ok(());
        }
        Err(Error::config("segment_bytes", self.segment_bytes, format!("1 to {LONGEST} bytes")))
    }
}

/// Bytes of main memory in this machine.
#[cfg(target_os = "linux")]
fn main_memory() -> u64 {
    let info = rustix::system::sysinfo();
    // The width of the first number differs between processors.
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit.max(1)))
}

#[cfg(not(target_os = "linux"))]
fn main_memory() -> u64 {
    u64::MAX
}
