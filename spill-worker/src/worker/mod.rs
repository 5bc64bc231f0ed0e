//! `Worker`: everything that keeps a program within its memory limit, put together.

mod builder;
#[cfg(target_os = "linux")]
mod signals;

use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use parking_lot::{Condvar, Mutex};
use spill_core::{Clock, Result};

use crate::activity::ActivityLog;
#[cfg(target_os = "linux")]
use crate::control::{Serve, Server};
use crate::events::EventLog;
use crate::{
    Data, Direction, EventKind, Gate, MemoryMonitor, MonitorEvent, Observe, Pressure, Readings, Settings,
    State, Status, StorageStats, TransferLimiter, Trimmed, WorkerState,
};

pub use builder::WorkerBuilder;

/// A program that keeps to a memory limit. It has
///
/// - a [`MemoryMonitor`] that evicts from its mapping and says when work should pause,
/// - a [`Gate`] that tasks ask before they start,
/// - a [`TransferLimiter`] that transfers to and from others ask,
/// - a list of events, and a control socket (Linux) by which `overspill`, a nanny or a dashboard looks at it.
///
/// Dropping it stops all of that; an eviction that is under way is given five seconds and then left to itself.
///
/// ```
/// use std::sync::Arc;
///
/// use bytes::Bytes;
/// use spill_core::{BufferBuilder, Lru, MutableMapping};
/// use spill_worker::{Data, Observe, Settings, Worker};
///
/// let values: Arc<Lru<u32, Bytes>> = Arc::new(BufferBuilder::new().alone()?);
/// let worker = Worker::builder(Settings::default()).data(Data::plain(&values))?.start()?;
///
/// let task = worker.gate().enter()?; // waits while memory is short
/// values.insert(1, Bytes::from(vec![0; 1000]))?;
/// drop(task);
///
/// worker.retire(); // as a signal or `overspill` would
/// worker.wait(|| Ok(()))?; // moves the values elsewhere
/// assert!(worker.gate().enter().is_err());
/// assert_eq!(worker.workers()[0].name, "worker");
/// # Ok::<_, spill_core::Error>(())
/// ```
pub struct Worker {
    // Dropped in this order: nobody is answered by a worker that is half gone.
    #[cfg(target_os = "linux")]
    _signals: Option<signals::Signals>,
    #[cfg(target_os = "linux")]
    _server: Option<Server>,
    inner: Arc<Inner>,
}

/// What the control socket serves.
struct Inner {
    core: Arc<Core>,
    monitor: MemoryMonitor,
}

/// What the monitor's callbacks use.
struct Core {
    settings: Settings,
    clock: Arc<dyn Clock>,
    started: Duration,
    data: Option<Data>,
    gate: Gate,
    transfers: TransferLimiter,
    events: EventLog,
    activity: Arc<ActivityLog>,
    on_event: Option<OnEvent>,
    pressure: Pressure,
    retirement: Mutex<Retirement>,
    retiring: Condvar,
}

type OnEvent = Box<dyn Fn(EventKind, &Readings) + Send + Sync>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Retirement {
    #[default]
    No,
    /// Asked to end.
    Asked,
    /// Asked again: tasks are not waited for.
    AtOnce,
    /// It has ended.
    Done,
}

/// How a [`Worker::wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retired {
    /// Every task has ended and the values were handed over.
    Gracefully,
    /// It was asked twice: tasks may still run, and no value was handed over.
    AtOnce,
}

impl Worker {
    /// A worker with these settings.
    pub fn builder(settings: Settings) -> WorkerBuilder {
        WorkerBuilder::new(settings)
    }

    /// The permission to start a task.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.inner.core.gate
    }

    /// The permission to transfer values.
    #[must_use]
    pub fn transfers(&self) -> &TransferLimiter {
        &self.inner.core.transfers
    }

    /// The monitor.
    #[must_use]
    pub fn monitor(&self) -> &MemoryMonitor {
        &self.inner.monitor
    }

    /// The settings that it runs with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.core.settings
    }

    /// Everything that is known of it now.
    #[must_use]
    pub fn state(&self) -> WorkerState {
        self.inner.state()
    }

    /// Hands unused memory back to the system, see [`trim`](crate::trim()).
    ///
    /// # Errors
    /// As there.
    pub fn trim(&self) -> Result<Trimmed> {
        self.inner.core.trim()
    }

    /// Asks the worker to end: no task starts from now on, and [`wait`](Self::wait) ends once those that run
    /// have. Asked a second time, `wait` ends at once. Returns at once.
    pub fn retire(&self) {
        self.inner.core.retire();
    }

    /// Whether it was asked to end.
    #[must_use]
    pub fn is_retiring(&self) -> bool {
        *self.inner.core.retirement.lock() != Retirement::No
    }

    /// Waits until the worker is asked to end ([`retire`](Self::retire), the control socket, or a signal where
    /// [`WorkerBuilder::retire_on_signals`] is set) and the tasks that run have ended; then calls `hand_over`,
    /// which moves the values elsewhere. A program ends after it, with exit code 0, so that its nanny does not
    /// start it again.
    ///
    /// # Errors
    /// What `hand_over` fails with. The values are where they were, and it can be called again.
    pub fn wait(&self, hand_over: impl FnOnce() -> Result<()>) -> Result<Retired> {
        let core = &self.inner.core;
        {
            let mut retirement = core.retirement.lock();
            core.retiring.wait_while(&mut retirement, |retirement| *retirement == Retirement::No);
        }
        while !core.gate.wait_idle(Some(Duration::from_millis(100))) {
            if *core.retirement.lock() == Retirement::AtOnce {
                break;
            }
        }
        let at_once = *core.retirement.lock() == Retirement::AtOnce;
        if !at_once {
            hand_over()?;
        }
        *core.retirement.lock() = Retirement::Done;
        let (end, text) = match at_once {
            true => (Retired::AtOnce, "at once, as asked"),
            false => (Retired::Gracefully, "no task runs, and the values were handed over"),
        };
        core.tell(EventKind::Ended, text, &self.inner.readings());
        Ok(end)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let core = &self.inner.core;
        let before = std::mem::replace(&mut *core.retirement.lock(), Retirement::Done);
        core.gate.close();
        if before != Retirement::Done {
            core.tell(EventKind::Ended, "the program is done with it", &self.inner.readings());
        }
        self.inner.monitor.stop_or_leave();
    }
}

impl Observe for Worker {
    fn workers(&self) -> Vec<WorkerState> {
        vec![self.state()]
    }
}

impl Inner {
    fn readings(&self) -> Readings {
        self.monitor.status().readings.unwrap_or_default()
    }

    fn state(&self) -> WorkerState {
        let core = &self.core;
        let monitor = self.monitor.status();
        let status = match (*core.retirement.lock(), monitor.state) {
            (Retirement::Done, _) => Status::Terminated,
            (Retirement::Asked | Retirement::AtOnce, _) => Status::Retiring,
            (Retirement::No, State::Paused) => Status::Paused,
            (Retirement::No, State::Running) => Status::Running,
        };
        let (activity, running) = core.activity.list();
        let now = core.clock.now();
        WorkerState {
            name: core.settings.name.clone(),
            pid: std::process::id(),
            nthreads: core.settings.nthreads,
            status,
            limit: core.settings.memory_limit.bytes(),
            thresholds: core.settings.thresholds,
            readings: self.readings(),
            running_tasks: core.gate.running(),
            incoming_transfers: core.transfers.count(Direction::Incoming),
            outgoing_transfers: core.transfers.count(Direction::Outgoing),
            monitor,
            storage: core.data.as_ref().map(|d| StorageStats::new(d.stats(), d.usage())).unwrap_or_default(),
            backends: core.data.as_ref().map(Data::backends).unwrap_or_default(),
            uptime: now.saturating_sub(core.started).as_secs_f64(),
            restarts: 0,
            events: core.events.list(),
            activity,
            running,
            now: now.as_secs_f64(),
        }
    }
}

#[cfg(target_os = "linux")]
impl Serve for Inner {
    fn state(&self) -> WorkerState {
        Inner::state(self)
    }

    fn trim(&self) -> Result<Trimmed> {
        self.core.trim()
    }

    fn retire(&self) {
        self.core.retire();
    }

    fn wait_for_event(&self, seen: u64, time: Duration) -> u64 {
        self.core.events.wait_beyond(seen, time)
    }

    fn wait_no_more(&self) {
        self.core.events.close();
    }
}

impl Core {
    fn trim(&self) -> Result<Trimmed> {
        let trimmed = crate::trim()?;
        self.events.add(EventKind::Trimmed, format!("as asked; {trimmed}"));
        Ok(trimmed)
    }

    fn retire(&self) {
        let text = {
            let mut retirement = self.retirement.lock();
            *retirement = match *retirement {
                Retirement::No => Retirement::Asked,
                Retirement::Asked | Retirement::AtOnce => Retirement::AtOnce,
                Retirement::Done => return,
            };
            match *retirement {
                Retirement::Asked => "no task starts any more",
                _ => "asked again: it ends at once",
            }
        };
        self.gate.close();
        self.events.add(EventKind::Retiring, text);
        self.retiring.notify_all();
    }

    /// What the monitor saw or did.
    fn monitored(&self, event: MonitorEvent, readings: &Readings) {
        let memory = |text: &str| {
            let of = self.settings.memory_limit.bytes().map_or(String::new(), |limit| {
                format!(", {:.0}% of the limit", readings.process as f64 / limit as f64 * 100.0)
            });
            format!("{text} at {} of process memory{of}", ByteSize(readings.process))
        };
        match event {
            MonitorEvent::Paused => {
                self.gate.pause();
                self.transfers.pause();
                self.tell(EventKind::Paused, &memory("no task starts"), readings);
            }
            MonitorEvent::Resumed => {
                // First the log, so that no task seems to have started while paused.
                self.events.add(EventKind::Resumed, memory("tasks start again"));
                self.gate.resume();
                self.transfers.resume();
                self.call(EventKind::Resumed, readings);
            }
            MonitorEvent::PausedLong => {
                let stalled = self.pressure.stalled().map_or(String::new(), |share| {
                    format!("; {:.0}% of the last 10 s somebody waited for memory", share * 100.0)
                });
                self.tell(EventKind::PausedLong, &(memory("without relief") + &stalled), readings);
            }
            MonitorEvent::Spilling => self.tell(EventKind::Spilling, &memory("values go to disk"), readings),
            MonitorEvent::Spilled { evictions, bytes } => {
                self.tell(
                    EventKind::Spilled,
                    &format!("{evictions} values of {}", ByteSize(bytes)),
                    readings,
                );
            }
            MonitorEvent::UnmanagedHigh => {
                self.tell(EventKind::UnmanagedHigh, &memory("nothing is left to evict"), readings);
            }
            MonitorEvent::Trimmed(trimmed) => self.tell(EventKind::Trimmed, &trimmed.to_string(), readings),
        }
    }

    fn tell(&self, kind: EventKind, text: &str, readings: &Readings) {
        self.events.add(kind, text);
        self.call(kind, readings);
    }

    fn call(&self, kind: EventKind, readings: &Readings) {
        if let Some(on_event) = &self.on_event {
            on_event(kind, readings);
        }
    }
}
