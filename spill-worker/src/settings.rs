//! The settings of a worker and its nanny, with Dask's defaults.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::time::Duration;

use spill_core::{Error, Result};

use crate::{
    DEFAULT_INTERVAL, DEFAULT_PAUSE_ALARM, DEFAULT_RECENT_TO_OLD, Measure, MemoryLimit, SystemMemory,
    Thresholds,
};

/// The environment variable with the directories of a worker's own, separated as in `PATH`. A nanny sets it.
pub const LOCAL_DIRECTORY_VARIABLE: &str = "OVERSPILL_LOCAL_DIRECTORY";

/// The environment variable with the number of a worker's threads. A nanny sets it.
pub const NTHREADS_VARIABLE: &str = "OVERSPILL_NTHREADS";

/// The environment variable with a worker's name. A nanny sets it.
pub const NAME_VARIABLE: &str = "OVERSPILL_WORKER_NAME";

/// The settings of a worker.
///
/// ```
/// use spill_worker::{MemoryLimit, Settings, SystemMemory};
///
/// let system = SystemMemory::from_bytes(16 << 30);
/// let settings = Settings { memory_limit: MemoryLimit::parse("4 GiB", &system, 1, 1)?, ..Settings::default() };
/// assert_eq!(settings.target_bytes(), Some(2_576_980_377)); // 0.60 of it
/// # Ok::<_, spill_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The worker's name.
    pub name: String,
    /// Threads that run its tasks.
    pub nthreads: usize,
    /// What the process may use.
    pub memory_limit: MemoryLimit,
    /// At which fractions of the limit something is done.
    pub thresholds: Thresholds,
    /// How long unmanaged memory counts as recent.
    pub recent_to_old: Duration,
    /// Time between two readings while there is room.
    pub monitor_interval: Duration,
    /// How long a pause may last before somebody is told.
    pub pause_alarm: Duration,
    /// The fraction of the limit that may be on its way to the worker, and from it; `None`: no bound.
    pub transfer: Option<f64>,
    /// Bytes that may be spilled at most; `None`: no bound.
    pub max_spill: Option<u64>,
    /// How spilled values are compressed: `auto`, `none`, or the name of a compressor.
    pub spill_compression: String,
    /// What decides on moving values between workers.
    pub rebalance: Rebalance,
    /// Directories for spilled values; empty: the system's temporary directory. Where that lives in main memory the
    /// program `overspill nanny` names another; who makes a [`Nanny`](crate::nanny::Nanny) names one itself.
    pub local_directories: Vec<PathBuf>,
    /// Environment variables that a nanny sets for its workers.
    pub nanny_environ: BTreeMap<String, String>,
}

/// Dask's `worker.memory.rebalance`: fractions of the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rebalance {
    /// Which memory counts.
    pub measure: Measure,
    /// Workers below this send nothing.
    pub sender_min: f64,
    /// Workers above this receive nothing.
    pub recipient_max: f64,
    /// Half of this lies between a sender and the mean, and between the mean and a recipient.
    pub sender_recipient_gap: f64,
}

impl Default for Rebalance {
    fn default() -> Self {
        Rebalance {
            measure: Measure::Optimistic,
            sender_min: 0.30,
            recipient_max: 0.60,
            sender_recipient_gap: 0.10,
        }
    }
}

impl Default for Settings {
    /// Dask's defaults, and no memory limit.
    fn default() -> Self {
        Settings {
            name: "worker".to_owned(),
            nthreads: std::thread::available_parallelism().map_or(1, usize::from),
            memory_limit: MemoryLimit::NONE,
            thresholds: Thresholds::new(),
            recent_to_old: DEFAULT_RECENT_TO_OLD,
            monitor_interval: DEFAULT_INTERVAL,
            pause_alarm: DEFAULT_PAUSE_ALARM,
            transfer: Some(0.10),
            max_spill: None,
            spill_compression: "auto".to_owned(),
            rebalance: Rebalance::default(),
            local_directories: Vec::new(),
            nanny_environ: BTreeMap::from([("MALLOC_TRIM_THRESHOLD_".to_owned(), "65536".to_owned())]),
        }
    }
}

impl Settings {
    /// Takes over what a nanny says in the environment: limit, threads, name and directories.
    ///
    /// # Errors
    /// [`Config`](spill_core::ErrorKind::Config) naming the variable that cannot be understood.
    pub fn with_environment(mut self, system: &SystemMemory) -> Result<Self> {
        if let Ok(text) = env::var(NTHREADS_VARIABLE) {
            let refused = || Error::config(NTHREADS_VARIABLE, &text, "a number of threads from 1");
            self.nthreads = text.parse().ok().filter(|n| *n > 0).ok_or_else(refused)?;
        }
        if let Some(limit) = MemoryLimit::from_env(system, self.nthreads, machine_threads())? {
            self.memory_limit = limit;
        }
        if let Ok(name) = env::var(NAME_VARIABLE) {
            self.name = name;
        }
        if let Some(directories) = env::var_os(LOCAL_DIRECTORY_VARIABLE) {
            self.local_directories =
                env::split_paths(&directories).filter(|path| !path.as_os_str().is_empty()).collect();
        }
        Ok(self)
    }

    /// What values in RAM should weigh at most, in bytes: the `target` threshold of the limit.
    #[must_use]
    pub fn target_bytes(&self) -> Option<u64> {
        share(self.memory_limit.bytes(), self.thresholds.target)
    }

    /// The bytes of [`transfer`](Self::transfer).
    #[must_use]
    pub fn transfer_bytes(&self) -> Option<u64> {
        share(self.memory_limit.bytes(), self.transfer)
    }
}

/// Threads of the machine, or of what the container grants.
pub(crate) fn machine_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn share(limit: Option<u64>, fraction: Option<f64>) -> Option<u64> {
    Some((limit? as f64 * fraction?) as u64)
}
