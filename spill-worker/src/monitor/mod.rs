//! `MemoryMonitor`: watches process memory and acts on it.

mod evictor;
mod sampler;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use spill_core::{Clock, Error, ManualEvict, Result, SystemClock};

use crate::{MemoryLimit, MemorySource, ProcessMemory, Thresholds};
use evictor::{Evictor, Throttle};
use sampler::{Levels, Sampler};

/// The time between two readings of process memory while there is room.
pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(200);

/// How often a reading that fails is logged.
const UNREAD_EVERY: Duration = Duration::from_secs(10);

/// How long dropping a monitor waits for an eviction that is under way.
const DROP_WAIT: Duration = Duration::from_secs(5);

/// Whether new work should start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Process memory is not above the `pause` threshold.
    #[default]
    Running,
    /// Process memory is above the `pause` threshold: what runs goes on, nothing new should start.
    Paused,
}

/// What a monitor has seen and done.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MonitorStatus {
    /// Whether new work should start.
    pub state: State,
    /// The last reading of process memory, in bytes.
    pub last_reading: Option<u64>,
    /// Readings made by the sampler.
    pub samples: u64,
    /// Readings of the sampler that failed.
    pub failed_readings: u64,
    /// Pairs evicted.
    pub evictions: u64,
    /// What they weighed, in bytes.
    pub evicted_bytes: u64,
    /// Rounds of evictions that ended because the mapping could not evict.
    pub failed_rounds: u64,
}

/// Watches the memory of this process on two threads of its own.
///
/// The **sampler** reads process memory every 200 ms, more often as the limit comes nearer or is approached
/// faster, down to every 5 ms. It decides whether work is paused and never waits for storage, so a pause does
/// not come late because of a slow disk. The **evictor** wakes when process memory is above `spill` and asks
/// the mapping to evict pair by pair, reading memory anew each time, until it is down to `target`. It stops at
/// the first eviction that fails and, when nothing is left to evict, warns that unmanaged memory is high, once
/// in 300 s.
///
/// Without a mapping ([`MonitorBuilder::data`]) nothing is ever evicted; without a limit nothing is done but
/// reading. Dropping a monitor stops it, see [`stop`](Self::stop).
pub struct MemoryMonitor {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    data: Option<Arc<dyn ManualEvict>>,
    source: Box<dyn MemorySource>,
    clock: Arc<dyn Clock>,
    levels: Levels,
    interval: Duration,
    on_pause: Option<Callback>,
    on_resume: Option<Callback>,
    signals: Mutex<Signals>,
    /// For the sampler: `stop` or `sample` was set.
    sampler: Condvar,
    /// For the evictor: `stop` or `evict` was set.
    evictor: Condvar,
    /// For whoever stops the monitor: `running` fell.
    ended: Condvar,
    status: Mutex<MonitorStatus>,
}

type Callback = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Signals {
    stop: bool,
    sample: bool,
    evict: bool,
    /// Threads that have not ended.
    running: usize,
}

/// Builds a [`MemoryMonitor`].
#[must_use]
pub struct MonitorBuilder {
    limit: MemoryLimit,
    thresholds: Thresholds,
    data: Option<Arc<dyn ManualEvict>>,
    source: Option<Box<dyn MemorySource>>,
    clock: Arc<dyn Clock>,
    interval: Duration,
    on_pause: Option<Callback>,
    on_resume: Option<Callback>,
}

impl MonitorBuilder {
    /// The mapping to evict from. Without one nothing is evicted.
    pub fn data(mut self, data: Arc<dyn ManualEvict>) -> Self {
        self.data = Some(data);
        self
    }

    /// The thresholds, Dask's unless set.
    pub fn thresholds(mut self, thresholds: Thresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// What says how much memory is in use, [`ProcessMemory`] unless set.
    pub fn source(mut self, source: impl MemorySource + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The clock for slopes and for what is done once in a while. Waiting for the next reading is real.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The time between two readings while there is room, [`DEFAULT_INTERVAL`] unless set.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Called each time work should pause, after [`MemoryMonitor::state`] says so. It runs on the sampler's
    /// thread, so no memory is read until it returns. A panic is caught and logged.
    pub fn on_pause(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_pause = Some(Box::new(f));
        self
    }

    /// Called each time work may resume, as [`on_pause`](Self::on_pause).
    pub fn on_resume(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_resume = Some(Box::new(f));
        self
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// [`Config`](spill_core::ErrorKind::Config) for a threshold that is no fraction or an interval of zero;
    /// [`Io`](spill_core::ErrorKind::Io) when process memory cannot be read or a thread not be started.
    pub fn start(self) -> Result<MemoryMonitor> {
        self.thresholds.check()?;
        if self.interval.is_zero() {
            return Err(Error::config("monitor interval", "0 s", "a time above zero, such as 200 ms"));
        }
        let source = match self.source {
            Some(source) => source,
            None => Box::new(ProcessMemory::open()?),
        };
        let levels = Levels::new(self.limit, &self.thresholds);
        let shared = Arc::new(Shared {
            data: self.data,
            source,
            clock: self.clock,
            levels,
            interval: self.interval,
            on_pause: self.on_pause,
            on_resume: self.on_resume,
            signals: Mutex::default(),
            sampler: Condvar::new(),
            evictor: Condvar::new(),
            ended: Condvar::new(),
            status: Mutex::default(),
        });
        let monitor = MemoryMonitor { shared, threads: Mutex::default() };
        // Dropping the monitor stops what was started when something after it fails.
        if let (Some(data), Some(level)) = (&monitor.shared.data, levels.evict_to) {
            let data = Arc::clone(data);
            monitor.spawn("overspill-evictor", move |shared| shared.evict(&*data, level))?;
        }
        monitor.spawn("overspill-sampler", |shared| shared.sample())?;
        Ok(monitor)
    }
}

impl MemoryMonitor {
    /// A monitor that keeps process memory below `limit`.
    pub fn builder(limit: MemoryLimit) -> MonitorBuilder {
        MonitorBuilder {
            limit,
            thresholds: Thresholds::new(),
            data: None,
            source: None,
            clock: Arc::new(SystemClock::new()),
            interval: DEFAULT_INTERVAL,
            on_pause: None,
            on_resume: None,
        }
    }

    /// Whether new work should start.
    #[must_use]
    pub fn state(&self) -> State {
        self.status().state
    }

    /// The last reading of process memory in bytes, or `None` before the first.
    #[must_use]
    pub fn last_reading(&self) -> Option<u64> {
        self.status().last_reading
    }

    /// What the monitor has seen and done, as one snapshot.
    #[must_use]
    pub fn status(&self) -> MonitorStatus {
        *self.shared.status.lock()
    }

    /// Asks for a reading now instead of at the end of the interval, and returns at once. For callers who
    /// know that much memory was just taken or freed.
    pub fn sample_now(&self) {
        self.shared.signals.lock().sample = true;
        self.shared.sampler.notify_all();
    }

    /// Stops both threads and waits for them: for the reading, the callback and the one eviction that may be
    /// under way. Stopping twice does nothing. Called from a callback, it does not wait for the thread that
    /// it runs on.
    ///
    /// Dropping the monitor does the same, but gives an eviction five seconds and then lets its thread end by
    /// itself, so that a dead disk cannot hang the process's exit.
    pub fn stop(&self) {
        drop(self.signal_stop());
        self.join();
    }

    fn signal_stop(&self) -> MutexGuard<'_, Signals> {
        let mut signals = self.shared.signals.lock();
        signals.stop = true;
        self.shared.sampler.notify_all();
        self.shared.evictor.notify_all();
        signals
    }

    fn join(&self) {
        let is_own = |thread: &mut JoinHandle<()>| thread.thread().id() == thread::current().id();
        // Taken out first: a thread that is joined may be about to stop the monitor as well.
        let others: Vec<_> = self.threads.lock().extract_if(.., |thread| !is_own(thread)).collect();
        for thread in others {
            if thread.join().is_err() {
                tracing::error!("a thread of the memory monitor panicked");
            }
        }
    }

    fn is_own_thread(&self) -> bool {
        self.threads.lock().iter().any(|thread| thread.thread().id() == thread::current().id())
    }

    #[expect(clippy::disallowed_methods, reason = "the monitor owns its threads: `stop` and drop join them")]
    fn spawn(&self, name: &'static str, run: impl FnOnce(&Shared) + Send + 'static) -> Result<()> {
        self.shared.signals.lock().running += 1;
        let ended = Ended(Arc::clone(&self.shared));
        let body = move || run(&ended.0);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body).map_err(|error| {
            Error::io("start", name, io::Error::new(error.kind(), format!("a thread: {error}")))
        })?;
        self.threads.lock().push(thread);
        Ok(())
    }
}

impl Drop for MemoryMonitor {
    fn drop(&mut self) {
        if self.is_own_thread() {
            drop(self.signal_stop());
            return;
        }
        let mut signals = self.signal_stop();
        self.shared.ended.wait_while_for(&mut signals, |signals| signals.running > 0, DROP_WAIT);
        let ended = signals.running == 0;
        drop(signals);
        if ended {
            self.join();
        } else {
            tracing::warn!(
                "the memory monitor is dropped while it waits for storage; its thread ends by itself"
            );
        }
    }
}

/// Counts a thread out, however it ends; also one that never started.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.signals.lock().running -= 1;
        self.0.ended.notify_all();
    }
}

impl Shared {
    /// The sampler's thread.
    fn sample(&self) {
        let mut sampler = Sampler::new(self.levels, self.interval);
        let mut unread = Throttle::new(UNREAD_EVERY);
        loop {
            let wait = match self.read() {
                Ok(memory) => self.act(&mut sampler, memory),
                Err(error) => {
                    self.status.lock().failed_readings += 1;
                    if unread.pass(self.clock.now()) {
                        tracing::warn!("process memory is not known: {error}");
                    }
                    self.interval
                }
            };
            let mut signals = self.signals.lock();
            let idle = |signals: &mut Signals| !(signals.stop || signals.sample);
            self.sampler.wait_while_for(&mut signals, idle, wait);
            signals.sample = false;
            if signals.stop {
                return;
            }
        }
    }

    /// Does what a reading calls for, and returns how long to wait for the next.
    fn act(&self, sampler: &mut Sampler, memory: u64) -> Duration {
        let actions = sampler.step(memory, self.clock.now());
        {
            let mut status = self.status.lock();
            status.last_reading = Some(memory);
            status.samples += 1;
            status.state = actions.entered.unwrap_or(status.state);
        }
        let callback = match actions.entered {
            Some(State::Paused) => &self.on_pause,
            Some(State::Running) => &self.on_resume,
            None => &None,
        };
        if let Some(callback) = callback
            && catch_unwind(AssertUnwindSafe(callback)).is_err()
        {
            tracing::error!("a callback of the memory monitor panicked");
        }
        if actions.evict {
            self.signals.lock().evict = true;
            self.evictor.notify_all();
        }
        actions.wait
    }

    /// The evictor's thread.
    fn evict(&self, data: &dyn ManualEvict, level: u64) {
        let mut evictor = Evictor::new(level, self.interval);
        loop {
            {
                let mut signals = self.signals.lock();
                self.evictor.wait_while(&mut signals, |signals| !(signals.stop || signals.evict));
                if signals.stop {
                    return;
                }
                signals.evict = false;
            }
            let evicted = |weight| {
                let mut status = self.status.lock();
                status.evictions += 1;
                status.evicted_bytes += weight;
            };
            let stopped = || self.signals.lock().stop;
            let end = evictor.round(data, || self.read(), || self.clock.now(), stopped, evicted);
            if end == Some(evictor::End::Failed) {
                self.status.lock().failed_rounds += 1;
            }
        }
    }

    fn read(&self) -> Result<u64> {
        catch_unwind(AssertUnwindSafe(|| self.source.read())).unwrap_or_else(|_| {
            let message = "the memory source panicked".to_owned();
            Err(spill_core::ErrorKind::Panicked { during: "reading process memory", message }.into())
        })
    }
}
