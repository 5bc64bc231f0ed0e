//! The nanny: starts workers, watches their memory from outside, and starts them again.

mod bound;
mod child;
mod directory;
mod guard;
mod restart;
mod seen;
mod slot;
mod tree;
mod watch;

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use spill_core::{Clock, Error, Result, SystemClock};

use crate::{Observe, Pressure, Settings, WorkerState};
use slot::Slot;

pub use child::GuardProgram;
pub use guard::{End, run_guard};

/// How long a worker that was asked to end has, as long as its memory does not grow.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(1);

/// Why a worker process is no more.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its memory was above `terminate`.
    Memory,
    /// The system killed it because the control group, or the machine, was out of memory.
    Watchdog,
    /// It ended by itself, or by somebody else.
    Ended,
    /// It could not be started, or its guard was lost.
    Failed,
}

/// The end of a worker process, for those who have to know which tasks and values went with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// The worker's name.
    pub name: String,
    /// Its process, 0 when it never ran.
    pub pid: u32,
    /// Why.
    pub cause: Cause,
    /// How; `None` when nobody saw it.
    pub end: Option<End>,
    /// Whether it is started again.
    pub restarts: bool,
}

/// Builds a [`Nanny`].
#[must_use]
pub struct NannyBuilder {
    plan: Plan,
    workers: usize,
}

/// What all workers of a nanny have in common.
struct Plan {
    guard: GuardProgram,
    command: Vec<OsString>,
    settings: Settings,
    environment: Vec<(String, OsString)>,
    once: bool,
    grace: Duration,
    clock: Arc<dyn Clock>,
    /// The workers are in the nanny's own control group.
    pressure: Pressure,
    on_death: Option<OnDeath>,
}

type OnDeath = Box<dyn Fn(&Death) + Send + Sync>;

impl NannyBuilder {
    /// How many workers, 1 unless set. Each has the whole limit of the settings.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// A variable for the environment of the workers, over those of the settings.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.plan.environment.push((name.into(), value.into()));
        self
    }

    /// Starts no worker again.
    pub fn once(mut self, once: bool) -> Self {
        self.plan.once = once;
        self
    }

    /// How long a worker that was asked to end has, [`DEFAULT_GRACE`] unless set.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.plan.grace = grace;
        self
    }

    /// The clock of the watch.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.plan.clock = clock;
        self
    }

    /// Called after a worker process ended, and before it is started again, on the thread that looks after it.
    pub fn on_death(mut self, f: impl Fn(&Death) + Send + Sync + 'static) -> Self {
        self.plan.on_death = Some(Box::new(f));
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// [`Config`](spill_core::ErrorKind::Config) for a threshold that is no fraction, no command or no worker;
    /// [`Io`](spill_core::ErrorKind::Io) when a thread cannot be started. A worker that cannot be started is
    /// tried again.
    pub fn start(self) -> Result<Nanny> {
        self.plan.settings.thresholds.check()?;
        if self.plan.command.is_empty() {
            return Err(Error::config("command", "nothing", "a program to start"));
        }
        if self.workers == 0 {
            return Err(Error::config("workers", 0, "at least one worker"));
        }
        let (plan, workers) = (Arc::new(self.plan), self.workers);
        let slots = (0..workers).map(|n| {
            let base = &plan.settings.name;
            let name = if workers == 1 { base.clone() } else { format!("{base}-{n}") };
            Arc::new(Slot::new(Arc::clone(&plan), name))
        });
        let nanny = Nanny { slots: slots.collect(), threads: Mutex::default() };
        nanny.spawn()?;
        Ok(nanny)
    }
}

/// Looks after worker processes: each has a thread here and a guard process of its own.
///
/// The memory of a worker is that of its process and all that it started. Above the `terminate` threshold it is
/// asked to end (SIGTERM), and ended by force (SIGKILL) when it stays, grows on, or rises so fast that asking is
/// too slow. A worker that ended is started again, with an empty directory, after a wait that doubles each time;
/// not so one that ended by itself with exit code 0, as one that [retires](crate::Worker::retire) does.
///
/// Dropping it ends all workers by force and leaves nothing behind; and so does the end of the process that holds
/// it, however it comes.
pub struct Nanny {
    slots: Vec<Arc<Slot>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Nanny {
    /// A nanny that starts `command` by `guard`, with the limit, thresholds, directories and environment of the
    /// settings.
    pub fn builder(guard: GuardProgram, settings: Settings, command: Vec<OsString>) -> NannyBuilder {
        let plan = Plan {
            guard,
            command,
            settings,
            environment: Vec::new(),
            once: false,
            grace: DEFAULT_GRACE,
            clock: Arc::new(SystemClock::new()),
            pressure: Pressure::find(),
            on_death: None,
        };
        NannyBuilder { plan, workers: 1 }
    }

    /// Sends a signal to each worker process.
    ///
    /// # Errors
    /// [`Config`](spill_core::ErrorKind::Config) for a number that is no signal.
    pub fn signal(&self, number: i32) -> Result<()> {
        let signal = Signal::from_named_raw(number)
            .ok_or_else(|| Error::config("signal", number, "the number of a signal"))?;
        self.slots.iter().for_each(|slot| slot.signal(signal));
        Ok(())
    }

    /// Starts no worker again from now on.
    pub fn retire(&self) {
        self.slots.iter().for_each(|slot| slot.retire());
    }

    /// Ends all workers by force.
    pub fn kill(&self) {
        self.slots.iter().for_each(|slot| slot.kill());
    }

    /// Waits until no worker runs or will run again. The exit code of the first that did not end with 0, else 0.
    pub fn wait(&self) -> u8 {
        self.join();
        let codes = self.slots.iter().map(|slot| slot.exit_code());
        codes.into_iter().find(|code| *code != 0).unwrap_or(0)
    }

    #[expect(clippy::disallowed_methods, reason = "the nanny owns its threads: `wait` and drop join them")]
    fn spawn(&self) -> Result<()> {
        for slot in &self.slots {
            let slot = Arc::clone(slot);
            let name = format!("overspill-{}", slot.name());
            let thread = thread::Builder::new().name(name).spawn(move || slot.run()).map_err(|error| {
                Error::io("start", "a nanny's thread", io::Error::new(error.kind(), error.to_string()))
            })?;
            self.threads.lock().push(thread);
        }
        Ok(())
    }

    fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the nanny panicked");
            }
        }
    }
}

impl Drop for Nanny {
    fn drop(&mut self) {
        self.kill();
        self.join();
    }
}

impl Observe for Nanny {
    fn workers(&self) -> Vec<WorkerState> {
        self.slots.iter().map(|slot| slot.state()).collect()
    }
}
