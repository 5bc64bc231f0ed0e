//! `MonitorBuilder`: what a monitor is told before it starts.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use spill_core::{Clock, Error, ManualEvict, Result, SystemClock, Usage};

use super::sampler::Levels;
use super::{
    DEFAULT_INTERVAL, DEFAULT_PAUSE_ALARM, DEFAULT_RECENT_TO_OLD, MemoryMonitor, MonitorEvent, Shared,
};
use crate::{MemoryLimit, MemorySource, ProcessMemory, Readings, Thresholds, Trimmed};

type OnEvent = Box<dyn Fn(MonitorEvent, &Readings) + Send + Sync>;

/// What the threads of a monitor go by.
pub(super) struct Settings {
    pub(super) data: Option<Arc<dyn ManualEvict>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) interval: Duration,
    pub(super) recent_to_old: Duration,
    pub(super) pause_alarm: Duration,
    pub(super) usage: Box<dyn Fn() -> Usage + Send + Sync>,
    pub(super) collect: Option<Box<dyn Fn() + Send + Sync>>,
    pub(super) trim: Box<dyn Fn() -> Result<Trimmed> + Send + Sync>,
    pub(super) on_event: Option<OnEvent>,
}

/// Builds a [`MemoryMonitor`].
#[must_use]
pub struct MonitorBuilder {
    limit: MemoryLimit,
    thresholds: Thresholds,
    source: Option<Box<dyn MemorySource>>,
    settings: Settings,
}

impl MonitorBuilder {
    pub(super) fn new(limit: MemoryLimit) -> Self {
        let settings = Settings {
            data: None,
            clock: Arc::new(SystemClock::new()),
            interval: DEFAULT_INTERVAL,
            recent_to_old: DEFAULT_RECENT_TO_OLD,
            pause_alarm: DEFAULT_PAUSE_ALARM,
            usage: Box::new(Usage::default),
            collect: None,
            trim: Box::new(crate::trim),
            on_event: None,
        };
        MonitorBuilder { limit, thresholds: Thresholds::new(), source: None, settings }
    }

    /// The mapping to evict from. Without one nothing is evicted.
    pub fn data(mut self, data: Arc<dyn ManualEvict>) -> Self {
        self.settings.data = Some(data);
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
        self.settings.clock = clock;
        self
    }

    /// The time between two readings while there is room, [`DEFAULT_INTERVAL`] unless set.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval;
        self
    }

    /// What the mapping holds, for the managed and spilled parts of the [`Readings`]; nothing unless set. Must
    /// answer from RAM, as [`MutableMapping::usage`](spill_core::MutableMapping::usage) does.
    pub fn usage(mut self, usage: impl Fn() -> Usage + Send + Sync + 'static) -> Self {
        self.settings.usage = Box::new(usage);
        self
    }

    /// How long unmanaged memory counts as recent, [`DEFAULT_RECENT_TO_OLD`] unless set.
    pub fn recent_to_old(mut self, time: Duration) -> Self {
        self.settings.recent_to_old = time;
        self
    }

    /// How long a pause may last before [`MonitorEvent::PausedLong`], [`DEFAULT_PAUSE_ALARM`] unless set.
    pub fn pause_alarm(mut self, time: Duration) -> Self {
        self.settings.pause_alarm = time;
        self
    }

    /// Called before a pause, at most once a second, to collect garbage where the program has any; memory is
    /// read again after it, and the pause does not come when it is not above `pause` any more.
    pub fn collect(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.settings.collect = Some(Box::new(f));
        self
    }

    /// What hands unused memory back to the system, [`trim`](crate::trim()) unless set.
    pub fn trim(mut self, f: impl Fn() -> Result<Trimmed> + Send + Sync + 'static) -> Self {
        self.settings.trim = Box::new(f);
        self
    }

    /// Called for each event with the last sample, after [`MemoryMonitor::status`] shows it. Pauses and
    /// resumes come from the sampler's thread, so no memory is read until it returns; the others from the
    /// evictor's. A panic is caught and logged.
    pub fn on_event(mut self, f: impl Fn(MonitorEvent, &Readings) + Send + Sync + 'static) -> Self {
        self.settings.on_event = Some(Box::new(f));
        self
    }

    /// Starts the threads.
    ///
    /// # Errors
    /// [`Config`](spill_core::ErrorKind::Config) for a threshold that is no fraction or an interval of zero;
    /// [`Io`](spill_core::ErrorKind::Io) when process memory cannot be read or a thread not be started.
    pub fn start(self) -> Result<MemoryMonitor> {
        self.thresholds.check()?;
        if self.settings.interval.is_zero() {
            return Err(Error::config("monitor interval", "0 s", "a time above zero, such as 200 ms"));
        }
        let source = match self.source {
            Some(source) => source,
            None => Box::new(ProcessMemory::open()?),
        };
        let levels = Levels::new(self.limit, &self.thresholds);
        let shared = Arc::new(Shared {
            settings: self.settings,
            source,
            levels,
            signals: Mutex::default(),
            sampler: Condvar::new(),
            evictor: Condvar::new(),
            ended: Condvar::new(),
            status: Mutex::default(),
        });
        let monitor = MemoryMonitor { shared, threads: Mutex::default() };
        // Dropping the monitor stops what was started when something after it fails.
        if let (Some(data), Some(level)) = (&monitor.shared.settings.data, levels.evict_to) {
            let data = Arc::clone(data);
            monitor.spawn("overspill-evictor", move |shared| shared.evict(&*data, level))?;
        }
        monitor.spawn("overspill-sampler", |shared| shared.sample())?;
        Ok(monitor)
    }
}
