//! What a worker shows of itself: to its nanny, to a dashboard, to `overspill`.

use serde::{Deserialize, Serialize};
use spill_core::{Stats, Step, Usage};

use crate::{Activity, MonitorStatus, Readings, Running, Thresholds};

/// Everything that is known of one worker at one moment. A worker makes it of itself
/// (`Worker::state`) and sends it over its control socket; a nanny makes it of each worker it looks
/// after, from what the worker sent and from what is seen from outside.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerState {
    /// The worker's name; of one nanny's workers each has its own.
    pub name: String,
    /// Its process, 0 while there is none.
    pub pid: u32,
    /// Threads that run its tasks.
    pub nthreads: usize,
    /// What it is about.
    pub status: Status,
    /// Its memory limit in bytes, or none.
    pub limit: Option<u64>,
    /// At which fractions of the limit something is done.
    pub thresholds: Thresholds,
    /// Its memory.
    pub readings: Readings,
    /// Tasks that run now.
    pub running_tasks: usize,
    /// Transfers under way, to this worker.
    pub incoming_transfers: usize,
    /// Transfers under way, from this worker.
    pub outgoing_transfers: usize,
    /// What its monitor did.
    pub monitor: MonitorStatus,
    /// What its mapping did, all layers together.
    pub storage: StorageStats,
    /// The parts of it that were named ([`Data::backend`](crate::Data::backend)).
    #[serde(default)]
    pub backends: Vec<BackendState>,
    /// Seconds since it started.
    pub uptime: f64,
    /// How often its nanny started it again.
    pub restarts: u64,
    /// What happened last, oldest first: at most [`EVENTS`](crate::EVENTS).
    pub events: Vec<Event>,
    /// What it did last, oldest first: at most [`ACTIVITIES`](crate::ACTIVITIES). A watch over the control socket
    /// sends each once.
    #[serde(default)]
    pub activity: Vec<Activity>,
    /// The tasks that run, those that passed its gate.
    #[serde(default)]
    pub running: Vec<Running>,
    /// When this state was made, in seconds on the clock of its events and activities.
    #[serde(default)]
    pub now: f64,
}

/// One storage of a worker's mapping.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BackendState {
    /// What the worker calls it.
    pub name: String,
    /// What it did.
    pub storage: StorageStats,
}

/// Gives the state of every worker it knows: a worker itself, or a nanny. What a dashboard is built over.
pub trait Observe: Send + Sync {
    /// The state of each worker now. Answers from RAM.
    fn workers(&self) -> Vec<WorkerState>;
}

impl<O: Observe + ?Sized> Observe for std::sync::Arc<O> {
    fn workers(&self) -> Vec<WorkerState> {
        (**self).workers()
    }
}

/// What a worker is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Tasks start.
    #[default]
    Running,
    /// Memory is above the `pause` threshold: tasks that run go on, none starts.
    Paused,
    /// It was asked to end: tasks that run go on, none starts, and its values move elsewhere.
    Retiring,
    /// It has ended, or is being ended.
    Terminated,
}

/// Something that happened to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts the events of one list, from 0; gaps never occur.
    pub number: u64,
    /// Seconds since the worker started; for events of a nanny, since the nanny did.
    pub at: f64,
    /// What.
    pub kind: EventKind,
    /// The same in words, with the figures.
    pub text: String,
}

/// The kinds of [`Event`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A worker began.
    Started,
    /// Process memory is above `spill`: values are being evicted.
    Spilling,
    /// Evicting ended.
    Spilled,
    /// Memory is high and nothing is left to evict.
    UnmanagedHigh,
    /// Unused memory was handed back to the system.
    Trimmed,
    /// No task starts any more.
    Paused,
    /// It stays so for long.
    PausedLong,
    /// Tasks start again.
    Resumed,
    /// The worker was asked to end.
    Retiring,
    /// The nanny asked the worker to end, since memory was above `terminate`.
    Terminating,
    /// The nanny ended the worker by force.
    Killed,
    /// The worker ended.
    Ended,
    /// The nanny starts it again.
    Restarting,
}

impl EventKind {
    /// The name in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Started => "started",
            EventKind::Spilling => "spilling",
            EventKind::Spilled => "spilled",
            EventKind::UnmanagedHigh => "unmanaged memory is high",
            EventKind::Trimmed => "trimmed",
            EventKind::Paused => "paused",
            EventKind::PausedLong => "paused for long",
            EventKind::Resumed => "resumed",
            EventKind::Retiring => "retiring",
            EventKind::Terminating => "terminating",
            EventKind::Killed => "killed",
            EventKind::Ended => "ended",
            EventKind::Restarting => "restarting",
        }
    }
}

/// [`Stats`] and [`Usage`] of a mapping in a form that can be sent. The names are those of [`Stats`], but for what
/// is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "each field is the one of `Stats` with the same name")]
pub struct StorageStats {
    pub hits: u64,
    pub misses: u64,
    pub evictions: u64,
    pub evicted_bytes: u64,
    pub clean_evictions: u64,
    pub promotions: u64,
    pub cancelled: u64,
    pub failures: u64,
    pub deferred: u64,
    pub fast_count: u64,
    pub fast_bytes: u64,
    pub slow_count: u64,
    pub slow_bytes: u64,
    pub encode: StepStats,
    pub compress: StepStats,
    pub write: StepStats,
    pub moved: StepStats,
    pub read: StepStats,
    pub decompress: StepStats,
    pub decode: StepStats,
    /// Keys present, wherever their values are.
    pub count: u64,
    /// Bytes that the values on storage weighed in RAM.
    pub spilled_memory: u64,
    /// Bytes of their records.
    pub spilled_disk: u64,
    /// Bytes that storage has accepted and not written yet.
    pub staged: u64,
    /// Bytes that the files take.
    pub physical: u64,
}

/// [`Step`] in a form that can be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepStats {
    /// How many values went through it.
    pub count: u64,
    /// Bytes that went in.
    pub bytes: u64,
    /// Seconds spent, over all threads.
    pub seconds: f64,
}

impl From<Step> for StepStats {
    fn from(step: Step) -> Self {
        StepStats { count: step.count, bytes: step.bytes, seconds: step.time.as_secs_f64() }
    }
}

impl From<Stats> for StorageStats {
    fn from(stats: Stats) -> Self {
        StorageStats {
            hits: stats.hits,
            misses: stats.misses,
            evictions: stats.evictions,
            evicted_bytes: stats.evicted_bytes,
            clean_evictions: stats.clean_evictions,
            promotions: stats.promotions,
            cancelled: stats.cancelled,
            failures: stats.failures,
            deferred: stats.deferred,
            fast_count: stats.fast_count,
            fast_bytes: stats.fast_bytes,
            slow_count: stats.slow_count,
            slow_bytes: stats.slow_bytes,
            encode: stats.encode.into(),
            compress: stats.compress.into(),
            write: stats.write.into(),
            moved: stats.moved.into(),
            read: stats.read.into(),
            decompress: stats.decompress.into(),
            decode: stats.decode.into(),
            ..StorageStats::default()
        }
    }
}

impl StorageStats {
    /// What a mapping did, and what it holds.
    #[must_use]
    pub fn new(stats: Stats, usage: Usage) -> Self {
        StorageStats {
            count: usage.count as u64,
            spilled_memory: usage.spilled.memory,
            spilled_disk: usage.spilled.disk,
            staged: usage.staged,
            physical: usage.physical,
            ..stats.into()
        }
    }
}
