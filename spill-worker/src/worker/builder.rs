//! Builds a [`Worker`].

use std::sync::Arc;

use spill_core::{Clock, Result, SystemClock};

use super::{Core, Inner, OnEvent, Worker};
use crate::activity::ActivityLog;
use crate::data::{DataContext, IntoData};
use crate::events::EventLog;
use crate::{
    Data, EventKind, Gate, MemoryMonitor, MemorySource, Pressure, Readings, Settings, TransferLimiter,
};

/// Builds a [`Worker`].
#[must_use]
pub struct WorkerBuilder {
    settings: Settings,
    clock: Arc<dyn Clock>,
    source: Option<Box<dyn MemorySource>>,
    data: Option<Data>,
    collect: Option<Box<dyn Fn() + Send + Sync>>,
    on_event: Option<OnEvent>,
    listens: bool,
    signals: bool,
}

impl WorkerBuilder {
    pub(super) fn new(settings: Settings) -> Self {
        WorkerBuilder {
            settings,
            clock: Arc::new(SystemClock::new()),
            source: None,
            data: None,
            collect: None,
            on_event: None,
            listens: true,
            signals: false,
        }
    }

    /// The mapping to look after: a [`Data`], a function that makes one, or a function with its arguments. A
    /// function is called now. Without one nothing is evicted.
    ///
    /// # Errors
    /// What the function fails with, and [`Config`](spill_core::ErrorKind::Config) when the mapping is not empty.
    pub fn data(mut self, data: impl IntoData) -> Result<Self> {
        let context = DataContext {
            limit: self.settings.memory_limit.bytes(),
            target: self.settings.target_bytes(),
            local_directories: self.settings.local_directories.clone(),
        };
        self.data = Some(data.into_data(&context)?.checked()?);
        Ok(self)
    }

    /// The clock of the monitor and of events.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What says how much memory is in use, [`ProcessMemory`](crate::ProcessMemory) unless set.
    pub fn source(mut self, source: impl MemorySource + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// Collects garbage before a pause, see [`MonitorBuilder::collect`](crate::MonitorBuilder::collect).
    pub fn collect(mut self, f: impl Fn() + Send + Sync + 'static) -> Self {
        self.collect = Some(Box::new(f));
        self
    }

    /// Called for each event of the monitor, after gate and transfers follow it, with the last sample. Runs on
    /// the monitor's threads: it must be quick.
    pub fn on_event(mut self, f: impl Fn(EventKind, &Readings) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Box::new(f));
        self
    }

    /// Whether there is a control socket; there is unless this says no. One process has one: a second worker
    /// goes without, with a warning.
    pub fn control_socket(mut self, listens: bool) -> Self {
        self.listens = listens;
        self
    }

    /// Retires at SIGTERM and SIGINT (Linux). The second of them ends the process at once, as if nobody
    /// listened.
    pub fn retire_on_signals(mut self) -> Self {
        self.signals = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// As [`MonitorBuilder::start`](crate::MonitorBuilder::start);
    /// [`Io`](spill_core::ErrorKind::Io) when signals cannot be listened to.
    pub fn start(self) -> Result<Worker> {
        let settings = self.settings;
        let transfers = TransferLimiter::new(settings.transfer_bytes());
        let events = EventLog::new(Arc::clone(&self.clock), settings.name.clone());
        let activity = Arc::new(ActivityLog::new(Arc::clone(&self.clock)));
        let core = Arc::new(Core {
            started: self.clock.now(),
            clock: self.clock,
            data: self.data,
            gate: Gate::noted_in(Arc::clone(&activity)),
            transfers,
            events,
            activity: Arc::clone(&activity),
            on_event: self.on_event,
            pressure: Pressure::find(),
            retirement: parking_lot::Mutex::default(),
            retiring: parking_lot::Condvar::new(),
            settings,
        });
        let limit = core.settings.memory_limit;
        let shown = limit.bytes().map_or("no memory limit".to_owned(), |bytes| {
            format!("a memory limit of {}", bytesize::ByteSize(bytes))
        });
        core.tell(
            EventKind::Started,
            &format!("process {}, {shown}", std::process::id()),
            &Readings::default(),
        );

        let told = Arc::clone(&core);
        let mut monitor = MemoryMonitor::builder(limit)
            .thresholds(core.settings.thresholds)
            .interval(core.settings.monitor_interval)
            .recent_to_old(core.settings.recent_to_old)
            .pause_alarm(core.settings.pause_alarm)
            .clock(Arc::clone(&core.clock))
            .on_event(move |event, readings| told.monitored(event, readings));
        if let Some(data) = &core.data {
            let shown = data.clone();
            // The sampler asks for it at each reading.
            monitor = monitor.usage(move || {
                let stats = shown.stats();
                activity.look(stats.write, stats.read);
                shown.usage()
            });
            if let Some(evict) = data.evict() {
                monitor = monitor.data(evict);
            }
        }
        if let Some(source) = self.source {
            monitor = monitor.source(move || source.read());
        }
        if let Some(collect) = self.collect {
            monitor = monitor.collect(collect);
        }
        let inner = Arc::new(Inner { monitor: monitor.start()?, core });
        #[cfg(target_os = "linux")]
        return Ok(Worker {
            _signals: if self.signals { Some(super::signals::Signals::listen(&inner.core)?) } else { None },
            _server: if self.listens { server(&inner) } else { None },
            inner,
        });
        #[cfg(not(target_os = "linux"))]
        Ok(Worker { inner })
    }
}

/// A worker without a control socket works too.
#[cfg(target_os = "linux")]
fn server(inner: &Arc<Inner>) -> Option<crate::control::Server> {
    let serve = Arc::downgrade(&(Arc::clone(inner) as Arc<dyn crate::control::Serve>));
    crate::control::Server::start(serve)
        .inspect_err(|error| tracing::warn!("nobody can look at this worker from outside: {error}"))
        .ok()
}
