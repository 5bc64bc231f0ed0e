//! Memory beside the mapping, and what the system says about all of it.

use std::fs;
use std::time::Duration;

use overspill::{Clock, SystemClock};

/// What is taken at a time.
pub(crate) const CHUNK: u64 = 1 << 20;

/// Keeps something to so many bytes a second.
pub(crate) struct Pace {
    clock: SystemClock,
    rate: Option<u64>,
    done: u64,
}

impl Pace {
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Pace { clock: SystemClock::new(), rate, done: 0 }
    }

    /// How long to wait after `bytes` more.
    pub(crate) fn after(&mut self, bytes: u64) -> Duration {
        self.done += bytes;
        let due = self.rate.map_or(0.0, |rate| self.done as f64 / rate as f64);
        Duration::try_from_secs_f64(due).unwrap_or_default().saturating_sub(self.clock.now())
    }
}

/// The most memory that the process has had, in bytes.
pub(crate) fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
