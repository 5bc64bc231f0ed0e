//! `MemoryMonitor`: watches process memory and acts on it.

mod builder;
mod evictor;
mod sampler;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytesize::ByteSize;
use parking_lot::{Condvar, Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use spill_core::{Clock, Error, ManualEvict, Result};

use crate::readings::Recent;
use crate::{MemoryLimit, MemorySource, Readings, Trimmed};
pub use builder::MonitorBuilder;
use builder::Settings;
use evictor::{End, Evictor, Surroundings, Throttle};
use sampler::{Levels, Sampler};

/// The time between two readings of process memory while there is room.
pub const DEFAULT_INTERVAL: Duration = Duration::from_millis(200);

/// The default of [`MonitorBuilder::recent_to_old`], Dask's.
pub const DEFAULT_RECENT_TO_OLD: Duration = Duration::from_secs(30);

/// The default of [`MonitorBuilder::pause_alarm`].
pub const DEFAULT_PAUSE_ALARM: Duration = Duration::from_secs(60);

/// How often memory is asked whether garbage keeps it from staying below `pause`.
const COLLECT_EVERY: Duration = Duration::from_secs(1);

/// How often a reading that fails is logged.
const UNREAD_EVERY: Duration = Duration::from_secs(10);

/// How long dropping a monitor, or a worker, waits for an eviction that is under way.
const DROP_WAIT: Duration = Duration::from_secs(5);

/// Whether new work should start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Process memory is not above the `pause` threshold.
    #[default]
    Running,
    /// Process memory is above the `pause` threshold: what runs goes on, nothing new should start.
    Paused,
}

/// What a monitor has seen and done.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorStatus {
    /// Whether new work should start.
    pub state: State,
    /// The last sample.
    pub readings: Option<Readings>,
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
    /// How often the allocator was asked to hand memory back.
    pub trims: u64,
}

/// Something that a monitor saw or did.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MonitorEvent {
    /// Memory is above `pause`: no new work should start. [`MemoryMonitor::state`] says so already.
    Paused,
    /// Memory is no longer above `pause`: work may start.
    Resumed,
    /// It has been paused for as long as [`MonitorBuilder::pause_alarm`] says, or again as long.
    PausedLong,
    /// Memory is above `spill`, and values are being evicted.
    Spilling,
    /// Evicting ended.
    Spilled {
        /// Pairs evicted since it began.
        evictions: u64,
        /// What they weighed, in bytes.
        bytes: u64,
    },
    /// Memory is above `spill` and nothing is left to evict. Said once in 300 s, as in Dask.
    UnmanagedHigh,
    /// The allocator was asked to hand memory back. Of several trims in a row that were of no use only the first
    /// is told.
    Trimmed(Trimmed),
}

/// Watches the memory of this process on two threads of its own.
///
/// The **sampler** reads process memory every 200 ms, more often as the limit comes nearer or is approached
/// faster, down to every 5 ms. It decides whether work is paused and never waits for storage, so a pause does
/// not come late because of a slow disk. The **evictor** wakes when process memory is above `spill` and asks
/// the mapping to evict pair by pair, reading memory anew each time, until it is down to `target`. It stops at
/// the first eviction that fails. When as much was evicted as there was too much and memory is still high, or
/// when nothing is left to evict, it [trims](crate::trim) the heap; after that it warns that unmanaged memory is
/// high, once in 300 s.
///
/// Without a mapping ([`MonitorBuilder::data`]) nothing is ever evicted; without a limit nothing is done but
/// reading. Dropping a monitor stops it, see [`stop`](Self::stop).
pub struct MemoryMonitor {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    settings: Settings,
    source: Box<dyn MemorySource>,
    levels: Levels,
    signals: Mutex<Signals>,
    /// For the sampler: `stop` or `sample` was set.
    sampler: Condvar,
    /// For the evictor: `stop` or `evict` was set.
    evictor: Condvar,
    /// For whoever stops the monitor: `running` fell.
    ended: Condvar,
    status: Mutex<MonitorStatus>,
}

#[derive(Default)]
struct Signals {
    stop: bool,
    sample: bool,
    evict: bool,
    /// Threads that have not ended.
    running: usize,
    /// They were waited for long enough, and end by themselves.
    left: bool,
}

impl MemoryMonitor {
    /// A monitor that keeps process memory below `limit`.
    pub fn builder(limit: MemoryLimit) -> MonitorBuilder {
        MonitorBuilder::new(limit)
    }

    /// Whether new work should start.
    #[must_use]
    pub fn state(&self) -> State {
        self.status().state
    }

    /// The last reading of process memory in bytes, or `None` before the first.
    #[must_use]
    pub fn last_reading(&self) -> Option<u64> {
        self.status().readings.map(|readings| readings.process)
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
    /// under way. Stopping twice does nothing. Called from a callback, it waits for neither: two callbacks may
    /// stop it at once.
    ///
    /// Dropping the monitor does the same, but gives an eviction five seconds and then lets its thread end by
    /// itself, so that a dead disk cannot hang the process's exit.
    pub fn stop(&self) {
        drop(self.signal_stop());
        if !self.is_own_thread() {
            self.join();
        }
    }

    /// Stops both threads as dropping the monitor does. Those that were left to themselves are not waited for
    /// again.
    pub(crate) fn stop_or_leave(&self) {
        if self.is_own_thread() {
            drop(self.signal_stop());
            return;
        }
        let mut signals = self.signal_stop();
        let busy = |signals: &mut Signals| signals.running > 0 && !signals.left;
        self.shared.ended.wait_while_for(&mut signals, busy, DROP_WAIT);
        if signals.running == 0 {
            drop(signals);
            self.join();
        } else if !std::mem::replace(&mut signals.left, true) {
            drop(signals);
            tracing::warn!(
                "the memory monitor is dropped while it waits for storage; its thread ends by itself"
            );
        }
    }

    fn signal_stop(&self) -> MutexGuard<'_, Signals> {
        let mut signals = self.shared.signals.lock();
        signals.stop = true;
        self.shared.sampler.notify_all();
        self.shared.evictor.notify_all();
        signals
    }

    fn join(&self) {
        // Taken out first: a thread that is joined may be about to stop the monitor as well.
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
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
        self.stop_or_leave();
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
        let mut sampler = Sampler::new(self.levels, self.settings.interval, self.settings.pause_alarm);
        let mut recent = Recent::new(self.settings.recent_to_old);
        let mut unread = Throttle::new(UNREAD_EVERY);
        let mut collected = Throttle::new(COLLECT_EVERY);
        loop {
            let wait = match self.read_for(&sampler, &mut collected) {
                Ok(memory) => self.act(&mut sampler, &mut recent, memory),
                Err(error) => {
                    self.status.lock().failed_readings += 1;
                    if unread.pass(self.settings.clock.now()) {
                        tracing::warn!("process memory is not known: {error}");
                    }
                    self.settings.interval
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

    /// Process memory; without garbage where that would begin a pause.
    fn read_for(&self, sampler: &Sampler, collected: &mut Throttle) -> Result<u64> {
        let memory = self.read()?;
        match &self.settings.collect {
            Some(collect) if sampler.would_pause(memory) && collected.pass(self.settings.clock.now()) => {
                if catch_unwind(AssertUnwindSafe(collect)).is_err() {
                    tracing::error!("collecting garbage panicked");
                }
                self.read()
            }
            _ => Ok(memory),
        }
    }

    /// Does what a reading calls for, and returns how long to wait for the next.
    fn act(&self, sampler: &mut Sampler, recent: &mut Recent, memory: u64) -> Duration {
        let now = self.settings.clock.now();
        let actions = sampler.step(memory, now);
        let usage = catch_unwind(AssertUnwindSafe(&self.settings.usage)).unwrap_or_default();
        let readings = recent.divide(now, memory, &usage);
        {
            let mut status = self.status.lock();
            status.readings = Some(readings);
            status.samples += 1;
            status.state = actions.entered.unwrap_or(status.state);
        }
        match actions.entered {
            Some(State::Paused) => self.tell(MonitorEvent::Paused),
            Some(State::Running) => self.tell(MonitorEvent::Resumed),
            None => {}
        }
        if actions.alarm {
            tracing::warn!(
                "paused for long: {} of process memory, of which {} managed, {} unmanaged and {} recent; {} spilled",
                ByteSize(readings.process),
                ByteSize(readings.managed),
                ByteSize(readings.unmanaged),
                ByteSize(readings.unmanaged_recent),
                ByteSize(readings.spilled),
            );
            self.tell(MonitorEvent::PausedLong);
        }
        if actions.evict {
            self.signals.lock().evict = true;
            self.evictor.notify_all();
        }
        actions.wait
    }

    fn tell(&self, event: MonitorEvent) {
        let Some(on_event) = &self.settings.on_event else { return };
        let readings = self.status.lock().readings.unwrap_or_default();
        if catch_unwind(AssertUnwindSafe(|| on_event(event, &readings))).is_err() {
            tracing::error!("a callback of the memory monitor panicked");
        }
    }

    /// The evictor's thread.
    fn evict(&self, data: &dyn ManualEvict, level: u64) {
        let mut evictor = Evictor::new(level, self.settings.interval);
        loop {
            {
                let mut signals = self.signals.lock();
                self.evictor.wait_while(&mut signals, |signals| !(signals.stop || signals.evict));
                if signals.stop {
                    return;
                }
                signals.evict = false;
            }
            let before = *self.status.lock();
            let end = evictor.round(data, self);
            let after = {
                let mut status = self.status.lock();
                status.failed_rounds += u64::from(end == Some(End::Failed));
                *status
            };
            let evictions = after.evictions - before.evictions;
            if evictions > 0 {
                let bytes = after.evicted_bytes - before.evicted_bytes;
                self.tell(MonitorEvent::Spilled { evictions, bytes });
            }
            if let Some(End::UnmanagedHigh { memory }) = end {
                tracing::warn!(
                    "unmanaged memory is high: the process uses {}, more than {}, and no value is left to \
                     evict; something outside of the mapping holds it, or the allocator keeps it",
                    ByteSize(memory),
                    ByteSize(level),
                );
                self.tell(MonitorEvent::UnmanagedHigh);
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

impl Surroundings for Shared {
    fn read(&self) -> Result<u64> {
        Shared::read(self)
    }

    fn now(&self) -> Duration {
        self.settings.clock.now()
    }

    fn stopped(&self) -> bool {
        self.signals.lock().stop
    }

    fn begins(&self, _: u64) {
        self.tell(MonitorEvent::Spilling);
    }

    fn evicted(&self, weight: u64) {
        let mut status = self.status.lock();
        status.evictions += 1;
        status.evicted_bytes += weight;
    }

    fn trim(&self) -> Option<Trimmed> {
        self.status.lock().trims += 1;
        match catch_unwind(AssertUnwindSafe(&self.settings.trim)) {
            Ok(Ok(trimmed)) => return Some(trimmed),
            Ok(Err(error)) => tracing::warn!("unused memory cannot be handed back: {error}"),
            Err(_) => tracing::error!("handing unused memory back panicked"),
        }
        None
    }

    fn trimmed(&self, trimmed: Trimmed) {
        self.tell(MonitorEvent::Trimmed(trimmed));
    }
}
