//! What the API says: names and meanings that stay, whatever changes inside.

use schemars::JsonSchema;
use serde::Serialize;
use spill_worker::{ActivityKind, EventKind, Status, WorkerState};

use crate::rates::Rates;

/// The version of everything below `/api/v1`. Fields may be added within it.
pub(crate) const VERSION: u32 = 1;

/// Running tasks of one worker are listed up to here.
const MOST_RUNNING: usize = 64;

/// Everything that is known at one moment.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct State {
    /// Version of this format: 1.
    pub version: u32,
    /// Tells one start of the server from another.
    pub instance: String,
    /// When this was, in seconds on the server's own clock, which all times are on.
    pub at: f64,
    /// Sums over all workers.
    pub total: Memory,
    /// Sum of the limits in bytes; null when a worker has none.
    pub limit: Option<u64>,
    /// The workers.
    pub workers: Vec<Worker>,
}

/// Memory in bytes. `managed + unmanaged + unmanaged_recent == process`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Memory {
    /// Resident memory, as the operating system measures it.
    pub process: u64,
    /// Weight of the values held in RAM.
    pub managed: u64,
    /// The rest, as far as it was there for longer than the recent window.
    pub unmanaged: u64,
    /// The rest that appeared lately.
    pub unmanaged_recent: u64,
    /// Bytes of the records of values that are on disk only.
    pub spilled: u64,
}

impl Memory {
    pub(crate) fn add(&mut self, other: &Memory) {
        self.process = self.process.saturating_add(other.process);
        self.managed = self.managed.saturating_add(other.managed);
        self.unmanaged = self.unmanaged.saturating_add(other.unmanaged);
        self.unmanaged_recent = self.unmanaged_recent.saturating_add(other.unmanaged_recent);
        self.spilled = self.spilled.saturating_add(other.spilled);
    }
}

/// One worker.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Worker {
    /// Its name, which no other worker here has.
    pub name: String,
    /// Its process, 0 while there is none.
    pub pid: u32,
    /// Threads that run its tasks.
    pub nthreads: usize,
    /// What it is about.
    pub status: WorkerStatus,
    /// How its memory is shown.
    pub colour: Colour,
    /// Its memory limit in bytes, or null.
    pub limit: Option<u64>,
    /// The thresholds in bytes.
    pub levels: Levels,
    /// Its memory.
    pub memory: Memory,
    /// Tasks that run.
    pub running_tasks: usize,
    /// Those of them that it lists, at most 64.
    pub running: Vec<RunningTask>,
    /// Transfers under way, to it.
    pub incoming_transfers: usize,
    /// Transfers under way, from it.
    pub outgoing_transfers: usize,
    /// Seconds since it started.
    pub uptime: f64,
    /// How often its nanny started it again.
    pub restarts: u64,
    /// Its storage: the parts that it names, or all of it.
    pub backends: Vec<Backend>,
}

/// What a worker is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerStatus {
    /// Tasks start.
    Running,
    /// Memory is above the `pause` threshold: no task starts.
    Paused,
    /// It was asked to end.
    Retiring,
    /// It has ended or is being ended.
    Terminated,
}

impl WorkerStatus {
    pub(crate) const ALL: [(WorkerStatus, &str); 4] = [
        (WorkerStatus::Running, "running"),
        (WorkerStatus::Paused, "paused"),
        (WorkerStatus::Retiring, "retiring"),
        (WorkerStatus::Terminated, "terminated"),
    ];
}

impl From<Status> for WorkerStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Running => WorkerStatus::Running,
            Status::Paused => WorkerStatus::Paused,
            Status::Retiring => WorkerStatus::Retiring,
            Status::Terminated => WorkerStatus::Terminated,
        }
    }
}

/// The colours of Dask's dashboard. Values on disk are grey whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// All is well.
    Blue,
    /// Memory is so high that values may be on their way to disk.
    Orange,
    /// Paused, retiring, or being ended.
    Red,
}

impl Colour {
    /// The colour of a worker: red unless it runs; orange from the `target` threshold on, from `spill` where
    /// that is off, and while values are being evicted.
    pub(crate) fn of(worker: &WorkerState) -> Self {
        if worker.status != Status::Running {
            return Colour::Red;
        }
        let threshold = worker.thresholds.target.or(worker.thresholds.spill);
        let level = threshold.and_then(|fraction| Some(fraction * worker.limit? as f64));
        let high = level.is_some_and(|level| worker.readings.process as f64 >= level);
        let evicting = worker.events.iter().rev().find_map(|event| match event.kind {
            EventKind::Spilling => Some(true),
            EventKind::Spilled | EventKind::Started | EventKind::Ended => Some(false),
            _ => None,
        });
        if high || evicting == Some(true) { Colour::Orange } else { Colour::Blue }
    }
}

/// The thresholds in bytes of process memory; null where one is off or there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Levels {
    /// Values in RAM are kept below this.
    pub target: Option<u64>,
    /// Above this values are evicted whatever they weigh.
    pub spill: Option<u64>,
    /// Above this no task starts.
    pub pause: Option<u64>,
    /// Above this a nanny ends the process.
    pub terminate: Option<u64>,
}

impl Levels {
    fn of(worker: &WorkerState) -> Self {
        let level = |fraction: Option<f64>| Some((fraction? * worker.limit? as f64) as u64);
        let thresholds = &worker.thresholds;
        Levels {
            target: level(thresholds.target),
            spill: level(thresholds.spill),
            pause: level(thresholds.pause),
            terminate: level(thresholds.terminate),
        }
    }
}

/// A storage of a worker.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Backend {
    /// What the worker calls it; `storage` where it names none.
    pub name: String,
    /// Bytes a second written over the last seconds.
    pub write_rate: f64,
    /// Bytes a second read.
    pub read_rate: f64,
    /// Bytes written in all.
    pub written: u64,
    /// Bytes read in all.
    pub read: u64,
    /// What the values on it weighed in RAM for each byte of their records; null while there are none.
    pub ratio: Option<f64>,
    /// Bytes that it has accepted and not written yet.
    pub queue: u64,
    /// Keys that could not be spilled and wait to be tried again.
    pub deferred: u64,
    /// Operations that failed.
    pub failures: u64,
    /// Values on it, copies of values in RAM included where it is named.
    pub values: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Bytes that its files take.
    pub physical: u64,
}

/// A task that runs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RunningTask {
    /// Which of those that run side by side, from 0.
    pub lane: usize,
    /// When it began.
    pub start: f64,
    /// Its name, perhaps empty.
    pub name: String,
}

/// A piece of the time line: something that took time and is over.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Block {
    /// Counts the blocks of one instance, from 0.
    pub number: u64,
    /// The worker's name.
    pub worker: String,
    /// What.
    pub kind: BlockKind,
    /// Which of the tasks side by side, from 0.
    pub lane: usize,
    /// When it began.
    pub start: f64,
    /// When it ended.
    pub end: f64,
    /// The task's name, perhaps empty.
    pub name: String,
    /// How many tasks or values.
    pub count: u64,
    /// Bytes written or read.
    pub bytes: u64,
}

/// The kinds of [`Block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// A task.
    Task,
    /// Values were written to storage: orange.
    Write,
    /// Values were read from storage: orange.
    Read,
}

impl BlockKind {
    /// The kind of an activity, where this version knows it.
    pub(crate) fn of(kind: ActivityKind) -> Option<Self> {
        match kind {
            ActivityKind::Task => Some(BlockKind::Task),
            ActivityKind::Write => Some(BlockKind::Write),
            ActivityKind::Read => Some(BlockKind::Read),
            _ => None,
        }
    }
}

/// A line of the event log.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct LogEntry {
    /// Counts the entries of one instance, from 0.
    pub number: u64,
    /// When.
    pub at: f64,
    /// The worker's name.
    pub worker: String,
    /// What, as one word of snake_case.
    pub kind: String,
    /// The same for people.
    pub title: String,
    /// With the figures.
    pub text: String,
}

/// Memory over time.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct History {
    /// When this was asked.
    pub at: f64,
    /// For each moment, oldest first: its time, then managed, unmanaged, unmanaged recent and spilled bytes.
    pub samples: Vec<(f64, u64, u64, u64, u64)>,
}

/// The JSON schema of [`State`].
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(State).to_value()
}

impl Worker {
    /// The worker in this format. `ahead`: what the server's clock reads more than the worker's.
    pub(crate) fn of(worker: &WorkerState, rates: &mut Rates, now: f64, ahead: f64) -> Self {
        let readings = &worker.readings;
        let memory = Memory {
            process: readings.process,
            managed: readings.managed,
            unmanaged: readings.unmanaged,
            unmanaged_recent: readings.unmanaged_recent,
            spilled: readings.spilled,
        };
        let running = worker.running.iter().take(MOST_RUNNING).map(|task| RunningTask {
            lane: task.lane,
            start: task.start + ahead,
            name: task.name.clone(),
        });
        Worker {
            name: worker.name.clone(),
            pid: worker.pid,
            nthreads: worker.nthreads,
            status: worker.status.into(),
            colour: Colour::of(worker),
            limit: worker.limit,
            levels: Levels::of(worker),
            memory,
            running_tasks: worker.running_tasks,
            running: running.collect(),
            incoming_transfers: worker.incoming_transfers,
            outgoing_transfers: worker.outgoing_transfers,
            uptime: worker.uptime,
            restarts: worker.restarts,
            backends: rates.backends(worker, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spill_worker::{Event, Readings, Thresholds};

    fn worker(process: u64) -> WorkerState {
        let mut worker = WorkerState::default();
        worker.limit = Some(1000);
        worker.readings = Readings { process, ..Readings::default() };
        worker
    }

    /// S27: blue is normal, orange may be spilling, red is paused, retiring or ending.
    #[test]
    fn the_colour_follows_status_and_memory() {
        assert_eq!(Colour::of(&worker(599)), Colour::Blue);
        assert_eq!(Colour::of(&worker(600)), Colour::Orange);
        for status in [Status::Paused, Status::Retiring, Status::Terminated] {
            let mut worker = worker(100);
            worker.status = status;
            assert_eq!(Colour::of(&worker), Colour::Red, "{status:?}");
        }
        let mut off = worker(650);
        off.thresholds = Thresholds::new().target(None);
        assert_eq!(Colour::of(&off), Colour::Blue);
        off.thresholds = off.thresholds.spill(None);
        off.readings.process = 999;
        assert_eq!(Colour::of(&off), Colour::Blue, "nothing ever spills");
        off.limit = None;
        assert_eq!(Colour::of(&off), Colour::Blue);
    }

    #[test]
    fn while_values_are_evicted_it_is_orange() {
        let mut worker = worker(100);
        let event = |number, kind| Event { number, at: 0.0, kind, text: String::new() };
        worker.events = vec![event(0, EventKind::Spilling), event(1, EventKind::Trimmed)];
        assert_eq!(Colour::of(&worker), Colour::Orange);
        worker.events.push(event(2, EventKind::Spilled));
        assert_eq!(Colour::of(&worker), Colour::Blue);
    }

    #[test]
    fn levels_are_bytes_and_off_is_none() {
        let mut worker = worker(0);
        worker.thresholds = Thresholds::new().pause(None);
        let expected = Levels { target: Some(600), spill: Some(700), pause: None, terminate: Some(950) };
        assert_eq!(Levels::of(&worker), expected);
    }
}
