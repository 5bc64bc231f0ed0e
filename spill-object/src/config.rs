//! How a mapping over an object store is set up.

use std::sync::Arc;
use std::time::Duration;

use spill_core::{Clock, Error, Pool, Result, SystemClock};

use crate::Store;
use crate::stage::Limits;

/// The settings of [`Objects`](crate::Objects).
///
/// ```
/// use spill_object::{Objects, ObjectsConfig, Store};
///
/// let config = ObjectsConfig::new(Store::open("memory:///")?).pack_bytes(4 << 20).requests(8);
/// let objects: Objects<String> = Objects::new(config)?;
/// # Ok::<_, spill_core::Error>(())
/// ```
pub struct ObjectsConfig {
    pub(crate) store: Store,
    pub(crate) pack_bytes: u64,
    pub(crate) large_bytes: u64,
    pub(crate) part_bytes: u64,
    pub(crate) stage_bytes: u64,
    pub(crate) pack_age: Duration,
    pub(crate) gap_bytes: u64,
    pub(crate) requests: usize,
    pub(crate) deadline: Duration,
    pub(crate) try_timeout: Duration,
    pub(crate) lease_interval: Duration,
    pub(crate) pool: Pool,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The smallest part of an upload in parts that S3 takes.
const SMALLEST_PART: u64 = 5 << 20;

impl ObjectsConfig {
    /// The defaults, as each setting says them, in this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        ObjectsConfig {
            store,
            pack_bytes: 8 << 20,
            large_bytes: 1 << 20,
            part_bytes: 16 << 20,
            stage_bytes: 64 << 20,
            pack_age: Duration::from_secs(10),
            gap_bytes: 256 << 10,
            requests: 16,
            deadline: Duration::from_secs(60),
            try_timeout: Duration::from_secs(20),
            lease_interval: Duration::from_secs(300),
            pool: Pool::default(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Where the objects will be.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Bytes of an object that small values are packed into: 8 MiB. So much RAM fills before the first of them is
    /// uploaded.
    #[must_use]
    pub fn pack_bytes(mut self, bytes: u64) -> Self {
        self.pack_bytes = bytes;
        self
    }

    /// From this many bytes on a value is an object of its own: 1 MiB.
    #[must_use]
    pub fn large_bytes(mut self, bytes: u64) -> Self {
        self.large_bytes = bytes;
        self
    }

    /// Bytes of one part of a value that is larger than that, which is uploaded in parts side by side: 16 MiB, at
    /// least 5 MiB. Values of more than ten thousand parts get larger ones.
    #[must_use]
    pub fn part_bytes(mut self, bytes: u64) -> Self {
        self.part_bytes = bytes;
        self
    }

    /// Bytes of RAM that accepted values may take while they are uploaded, beside the pack that fills: 64 MiB. A
    /// value larger than that is uploaded while no other is. It bounds how many uploads run at once, too.
    #[must_use]
    pub fn stage_bytes(mut self, bytes: u64) -> Self {
        self.stage_bytes = bytes;
        self
    }

    /// After this time a pack is uploaded though it is not full, which frees its RAM: 10 s.
    #[must_use]
    pub fn pack_age(mut self, age: Duration) -> Self {
        self.pack_age = age;
        self
    }

    /// Values of one object that are read together come with one request where no more than this many other bytes
    /// lie between them: 256 KiB.
    #[must_use]
    pub fn gap_bytes(mut self, bytes: u64) -> Self {
        self.gap_bytes = bytes;
        self
    }

    /// Requests in flight at once, at most: 16.
    #[must_use]
    pub fn requests(mut self, count: usize) -> Self {
        self.requests = count;
        self
    }

    /// How long a request that fails in a way that may pass is tried again: no try begins later than this after the
    /// first. 60 s.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// What one try may take before it is given up; for a value being read, until its next bytes arrive. 20 s.
    #[must_use]
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.try_timeout = timeout;
        self
    }

    /// How often the lease object is written, which tells others that this process lives: 5 minutes.
    #[must_use]
    pub fn lease_interval(mut self, interval: Duration) -> Self {
        self.lease_interval = interval;
        self
    }

    /// Where the memory for values read comes from.
    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// Takes times from `clock` instead of the operating system. Waiting itself is done by tokio's timer.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            pack: self.pack_bytes,
            large: self.large_bytes.min(self.pack_bytes),
            uploads: self.stage_bytes,
            count: self.requests,
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let longest = u64::from(u32::MAX);
        if !(1..=longest).contains(&self.pack_bytes) {
            return Err(Error::config("pack_bytes", self.pack_bytes, format!("1 to {longest} bytes")));
        }
        if self.part_bytes < SMALLEST_PART {
            return Err(Error::config("part_bytes", self.part_bytes, "5 MiB or more, which S3 asks for"));
        }
        if self.requests == 0 {
            return Err(Error::config("requests", 0, "at least 1"));
        }
        for (name, time) in [("try_timeout", self.try_timeout), ("lease_interval", self.lease_interval)] {
            if time.is_zero() {
                return Err(Error::config(name, "0", "more than no time"));
            }
        }
        Ok(())
    }
}
