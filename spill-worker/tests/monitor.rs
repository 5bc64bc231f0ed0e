//! The monitor on its real threads. Every step waits for an event of the step before; nothing sleeps.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Barrier, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use spill_core::{Clock, Error, ErrorKind, ManualClock, ManualEvict, Result, SystemClock};
use spill_worker::{
    MemoryLimit, MemoryMonitor, MonitorBuilder, MonitorEvent, Readings, State, SystemMemory, Thresholds,
    Trimmed,
};

/// Readings come when a test asks for them.
const NEVER: Duration = Duration::from_secs(3600);

/// What a test waits for at most before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A clock that stands still: without time there is no slope, and no reading comes early because of one.
fn still() -> Arc<ManualClock> {
    Arc::default()
}

/// Nothing is ever handed back.
fn trim() -> Result<Trimmed> {
    Ok(Trimmed { allocator: None, released: None, before: 0, after: 0 })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Read(u64),
    Evicted,
    Paused,
    Resumed,
}

/// A process whose memory the test sets; half of it is in pairs of 5.
#[derive(Clone)]
struct Process {
    memory: Arc<AtomicU64>,
    evictions: Arc<AtomicU64>,
    events: Sender<Event>,
}

impl Process {
    fn new() -> (Self, Receiver<Event>) {
        let (events, receiver) = channel();
        (Process { memory: Arc::default(), evictions: Arc::default(), events }, receiver)
    }

    fn set(&self, memory: u64) {
        self.memory.store(memory, SeqCst);
    }

    /// A test that has seen enough listens no longer.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// A monitor of this process with a limit of 100 KiB and pairs of 5 KiB.
    fn monitor(&self) -> MonitorBuilder {
        let limit = MemoryLimit::from_bytes(100 << 10, &SystemMemory::from_bytes(1 << 30)).unwrap();
        let (source, told) = (self.clone(), self.clone());
        MemoryMonitor::builder(limit)
            .interval(NEVER)
            .clock(still())
            .source(move || {
                let memory = source.memory.load(SeqCst);
                source.tell(Event::Read(memory));
                Ok(memory << 10)
            })
            .trim(trim)
            .on_event(move |event, _| match event {
                MonitorEvent::Paused => told.tell(Event::Paused),
                MonitorEvent::Resumed => told.tell(Event::Resumed),
                _ => {}
            })
    }
}

impl ManualEvict for Process {
    fn evict(&self) -> i64 {
        self.memory.fetch_sub(5, SeqCst);
        self.evictions.fetch_add(1, SeqCst);
        self.tell(Event::Evicted);
        5 << 10
    }
    fn fast(&self) -> bool {
        true
    }
}

/// Waits for an event, passing over others.
#[track_caller]
fn wait_for(events: &Receiver<Event>, event: Event) {
    while events.recv_timeout(PATIENCE).unwrap() != event {}
}

/// S10: memory is read every 200 ms where there is room.
#[test]
fn a_trace_of_readings_has_one_every_200_ms() {
    let clock = SystemClock::new();
    let (readings, trace) = channel();
    let limit = MemoryLimit::from_bytes(100 << 10, &SystemMemory::from_bytes(1 << 30)).unwrap();
    let source = move || {
        let _ = readings.send(clock.now());
        Ok(10 << 10)
    };
    let monitor = MemoryMonitor::builder(limit).source(source).start().unwrap();
    let interval = Duration::from_millis(200);
    let mut last = trace.recv_timeout(PATIENCE).unwrap();
    let (end, mut apart) = (last + PATIENCE, Vec::<Duration>::new());
    // A busy machine may be late many times, but not for ever.
    while apart.len() < 5 || (last < end && apart.iter().all(|gap| *gap >= 2 * interval)) {
        let next = trace.recv_timeout(PATIENCE).unwrap();
        apart.push(next - last);
        last = next;
    }
    monitor.stop();
    let least = apart.iter().min().unwrap();
    assert!(*least >= interval && *least < 2 * interval, "{apart:?}");
}

/// W06: above `spill` the evictor evicts until process memory is down to `target`.
#[test]
fn high_process_memory_is_brought_down_to_the_target() {
    let (process, events) = Process::new();
    process.set(65);
    let monitor = process.monitor().data(Arc::new(process.clone())).start().unwrap();
    wait_for(&events, Event::Read(65));
    assert_eq!(process.evictions.load(SeqCst), 0, "between target and spill nothing is evicted");

    process.set(75);
    monitor.sample_now();
    for memory in [75, 70, 65, 60] {
        wait_for(&events, Event::Read(memory));
    }
    monitor.stop();
    let status = monitor.status();
    assert_eq!((status.evictions, status.evicted_bytes), (3, 15 << 10));
    assert_eq!(process.memory.load(SeqCst), 60);
    assert_eq!((status.samples, monitor.last_reading()), (2, Some(75 << 10)));
    assert_eq!(status.state, State::Running);
}

/// W07: callbacks come once for each change, after the state says so.
#[test]
fn pause_and_resume_are_called_once_for_each_change() {
    let (process, events) = Process::new();
    let monitor = process.monitor().start().unwrap();
    wait_for(&events, Event::Read(0));
    for (memory, called, state) in [
        (80, None, State::Running),
        (81, Some(Event::Paused), State::Paused),
        (95, None, State::Paused),
        (79, Some(Event::Resumed), State::Running),
    ] {
        process.set(memory);
        monitor.sample_now();
        wait_for(&events, Event::Read(memory));
        if let Some(event) = called {
            assert_eq!(events.recv_timeout(PATIENCE).unwrap(), event);
            assert_eq!(monitor.state(), state, "at {memory}");
        }
    }
    monitor.stop();
    assert_eq!(events.try_recv().ok(), None, "no call without a change");
    assert_eq!(process.evictions.load(SeqCst), 0, "nothing is evicted without a mapping");
}

/// W04: where one reading asks for both, the pause comes first and eviction then.
#[test]
fn the_pause_comes_before_the_eviction() {
    let (process, events) = Process::new();
    let monitor = process.monitor().data(Arc::new(process.clone())).start().unwrap();
    wait_for(&events, Event::Read(0));
    process.set(90);
    monitor.sample_now();
    wait_for(&events, Event::Read(90));
    assert_eq!(events.recv_timeout(PATIENCE).unwrap(), Event::Paused);
    wait_for(&events, Event::Evicted);
    monitor.stop();
}

/// A mapping whose eviction takes until the test lets it end.
struct Stuck {
    begun: Sender<()>,
    release: Mutex<Receiver<()>>,
}

impl ManualEvict for Stuck {
    fn evict(&self) -> i64 {
        let _ = self.begun.send(());
        let _ = self.release.lock().recv();
        -1
    }
    fn fast(&self) -> bool {
        true
    }
}

#[test]
fn a_pause_does_not_wait_for_an_eviction_that_takes_long() {
    let (process, events) = Process::new();
    let (begun, evicting) = channel();
    let (release, released) = channel();
    let monitor =
        process.monitor().data(Arc::new(Stuck { begun, release: Mutex::new(released) })).start().unwrap();
    process.set(75);
    monitor.sample_now();
    evicting.recv_timeout(PATIENCE).unwrap();

    process.set(90);
    monitor.sample_now();
    wait_for(&events, Event::Paused);
    process.set(50);
    monitor.sample_now();
    wait_for(&events, Event::Resumed);

    release.send(()).unwrap();
    monitor.stop();
    assert_eq!(monitor.status().failed_rounds, 1);
}

/// A mapping over a device of 10 MB/s: an eviction of 4 MB takes 400 ms, two intervals of the monitor. The
/// test holds each until it lets it end.
///
/// W06, W07: memory that leaps from below `spill` past `pause` during one slow eviction pauses work at the
/// first reading after the leap, which comes within one interval.
#[test]
fn distributed_6182_memory_past_pause_during_a_slow_spill_pauses_within_two_intervals() {
    let (process, events) = Process::new();
    let (begun, evicting) = channel();
    let (release, released) = channel();
    process.set(75);
    let monitor =
        process.monitor().data(Arc::new(Stuck { begun, release: Mutex::new(released) })).start().unwrap();
    evicting.recv_timeout(PATIENCE).unwrap();
    let before = monitor.status().samples;
    // The evictor is within its eviction and stays there; its reading was the last before the leap.
    for memory in [78, 95] {
        process.set(memory);
        monitor.sample_now();
        wait_for(&events, Event::Read(memory));
    }
    assert_eq!(events.recv_timeout(PATIENCE).unwrap(), Event::Paused);
    assert!(monitor.status().samples <= before + 2, "two readings");
    assert_eq!((monitor.state(), monitor.status().evictions), (State::Paused, 0));
    release.send(()).unwrap();
    monitor.stop();
}

/// W06: an evictor that is busy with very many small values keeps no reading of the sampler waiting.
#[test]
fn evicting_many_small_values_does_not_starve_the_pause() {
    let (process, events) = Process::new();
    let small = Arc::new(Small(AtomicU64::new(0)));
    process.set(75);
    let monitor = process.monitor().data(Arc::clone(&small) as Arc<dyn ManualEvict>).start().unwrap();
    for (memory, expected) in [(90, Event::Paused), (75, Event::Resumed), (90, Event::Paused)] {
        let evicted = small.0.load(SeqCst);
        while small.0.load(SeqCst) < evicted + 1000 {
            std::thread::yield_now();
        }
        process.set(memory);
        monitor.sample_now();
        wait_for(&events, expected);
    }
    monitor.stop();
}

/// A mapping of values so small that evicting one is not seen in process memory.
struct Small(AtomicU64);

impl ManualEvict for Small {
    fn evict(&self) -> i64 {
        self.0.fetch_add(1, SeqCst);
        1
    }
    fn fast(&self) -> bool {
        true
    }
}

/// W07: distributed 5999: a pause without relief calls back with the readings, again and again.
#[test]
fn distributed_5999_a_pause_without_relief_raises_an_alarm_with_the_readings() {
    let (process, events) = Process::new();
    let clock = still();
    let (alarm, alarms) = channel();
    let told = process.clone();
    let monitor = process
        .monitor()
        .clock(Arc::clone(&clock) as Arc<dyn spill_core::Clock>)
        .usage(|| spill_core::Usage { fast: 30 << 10, ..Default::default() })
        .pause_alarm(Duration::from_secs(300))
        .on_event(move |event, readings| match event {
            MonitorEvent::PausedLong => drop(alarm.send(*readings)),
            MonitorEvent::Paused => told.tell(Event::Paused),
            _ => {}
        })
        .start()
        .unwrap();
    process.set(90);
    monitor.sample_now();
    wait_for(&events, Event::Paused);
    for _ in 0..2 {
        clock.advance(Duration::from_secs(299));
        monitor.sample_now();
        wait_for(&events, Event::Read(90));
        assert!(alarms.try_recv().is_err(), "not yet");
        clock.advance(Duration::from_secs(1));
        monitor.sample_now();
        let readings = alarms.recv_timeout(PATIENCE).unwrap();
        assert_eq!((readings.process, readings.managed), (90 << 10, 30 << 10));
    }
    monitor.stop();
}

/// W07: garbage is collected before a pause, which does not come where that was enough.
#[test]
fn garbage_is_collected_before_a_pause() {
    let (process, events) = Process::new();
    let (garbage, kept) = (process.clone(), Arc::new(AtomicU64::new(50)));
    let keeps = Arc::clone(&kept);
    let clock = still();
    let monitor = process
        .monitor()
        .clock(Arc::clone(&clock) as Arc<dyn spill_core::Clock>)
        .collect(move || garbage.set(keeps.load(SeqCst)))
        .start()
        .unwrap();
    wait_for(&events, Event::Read(0));
    process.set(90);
    monitor.sample_now();
    wait_for(&events, Event::Read(90));
    wait_for(&events, Event::Read(50));
    assert_eq!(monitor.state(), State::Running);
    kept.store(85, SeqCst);
    clock.advance(Duration::from_secs(1));
    process.set(90);
    monitor.sample_now();
    wait_for(&events, Event::Paused);
    monitor.stop();
}

/// W08: with `spill` and `pause` off, nothing acts on process memory.
#[test]
fn with_spill_and_pause_off_nothing_is_done() {
    let (process, events) = Process::new();
    process.set(99);
    let off = Thresholds::new().spill(None).pause(None);
    let monitor = process.monitor().thresholds(off).data(Arc::new(process.clone())).start().unwrap();
    for _ in 0..3 {
        wait_for(&events, Event::Read(99));
        monitor.sample_now();
    }
    monitor.stop();
    assert_eq!(process.evictions.load(SeqCst), 0);
    assert_eq!(monitor.state(), State::Running);
    assert!(events.try_iter().all(|event| event == Event::Read(99)));
}

#[test]
fn a_source_that_fails_or_panics_is_asked_again() {
    let (asked, events) = channel();
    let asked = Mutex::new((0, asked));
    let source = move || -> Result<u64> {
        let mut asked = asked.lock();
        asked.0 += 1;
        let _ = asked.1.send(asked.0);
        match asked.0 {
            1 => Err(Error::config("memory", "nothing", "a reading")),
            2 => std::panic::panic_any("asked to panic"),
            _ => Ok(7),
        }
    };
    let monitor = MemoryMonitor::builder(MemoryLimit::NONE).interval(NEVER).source(source).start().unwrap();
    for n in 1..=3 {
        assert_eq!(events.recv_timeout(PATIENCE).unwrap(), n);
        monitor.sample_now();
    }
    assert_eq!(events.recv_timeout(PATIENCE).unwrap(), 4);
    monitor.stop();
    let status = monitor.status();
    assert_eq!((status.failed_readings, monitor.last_reading()), (2, Some(7)));
}

#[test]
fn a_callback_that_panics_does_not_end_the_monitor() {
    let (process, events) = Process::new();
    let told = process.clone();
    let panics = move |event, _: &Readings| match event {
        MonitorEvent::Paused => std::panic::panic_any("asked to panic"),
        _ => told.tell(Event::Resumed),
    };
    let monitor = process.monitor().on_event(panics).start().unwrap();
    process.set(90);
    monitor.sample_now();
    wait_for(&events, Event::Read(90));
    process.set(10);
    monitor.sample_now();
    wait_for(&events, Event::Resumed);
    monitor.stop();
}

#[test]
fn a_monitor_stops_while_it_waits_for_the_next_reading() {
    let (process, events) = Process::new();
    let monitor = process.monitor().data(Arc::new(process.clone())).start().unwrap();
    wait_for(&events, Event::Read(0));
    monitor.stop();
    monitor.stop();
    drop(monitor);
    drop(process);
    // The threads held the other senders.
    while let Ok(event) = events.recv_timeout(PATIENCE) {
        assert_eq!(event, Event::Read(0));
    }
}

#[test]
fn a_callback_may_stop_and_drop_the_monitor() {
    let (process, events) = Process::new();
    let slot: Arc<OnceLock<Mutex<Option<MemoryMonitor>>>> = Arc::default();
    let (inner, done) = (Arc::clone(&slot), process.events.clone());
    let stop = move |_, _: &Readings| {
        let monitor = inner.wait().lock().take().unwrap();
        monitor.stop();
        drop(monitor);
        let _ = done.send(Event::Paused);
    };
    process.set(90);
    let monitor = process.monitor().on_event(stop).data(Arc::new(process.clone())).start().unwrap();
    assert!(slot.set(Mutex::new(Some(monitor))).is_ok());
    wait_for(&events, Event::Paused);
}

/// Neither waits for the other's thread.
#[test]
fn callbacks_on_both_threads_may_stop_the_monitor_at_once() {
    let (process, events) = Process::new();
    let slot: Arc<OnceLock<MemoryMonitor>> = Arc::default();
    let (inner, told, both) = (Arc::clone(&slot), process.clone(), Barrier::new(2));
    let stop = move |event, _: &Readings| {
        if matches!(event, MonitorEvent::Spilling | MonitorEvent::Paused) {
            both.wait();
            inner.wait().stop();
            told.tell(Event::Paused);
        }
    };
    process.set(75);
    let monitor = process.monitor().on_event(stop).data(Arc::new(process.clone())).start().unwrap();
    assert!(slot.set(monitor).is_ok());
    wait_for(&events, Event::Read(75)); // which makes it spill, so that a pause keeps it from nothing
    process.set(90);
    slot.wait().sample_now();
    wait_for(&events, Event::Paused);
    wait_for(&events, Event::Paused);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let (process, _events) = Process::new();
    let thresholds = Thresholds::new().spill(Some(70.0));
    for builder in [process.monitor().thresholds(thresholds), process.monitor().interval(Duration::ZERO)] {
        let error = builder.start().map(|_| ()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Config { .. }), "{error}");
    }
}

/// W05: at rest a reading every 200 ms costs at most a thousandth of a core. Counted is the processor time of the
/// sampler's thread, whatever else the machine does.
#[cfg(target_os = "linux")]
#[test]
fn the_sampler_costs_at_most_a_thousandth_of_a_core_at_rest() {
    let limit = MemoryLimit::from_bytes(1 << 40, &SystemMemory::from_bytes(1 << 40)).unwrap();
    let monitor = MemoryMonitor::builder(limit).interval(Duration::from_millis(1)).start().unwrap();
    let samples = || monitor.status().samples;
    let spent = || {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let sampler = threads.map(|thread| thread.path()).find(|path| {
            // The kernel keeps fifteen letters.
            std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "overspill-sampl")
        });
        let times = std::fs::read_to_string(sampler.unwrap().join("schedstat")).unwrap();
        times.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    while samples() == 0 {
        std::thread::yield_now();
    }
    let (first, before) = (samples(), spent());
    let (_never, silence) = channel::<()>();
    while samples() < first + 500 {
        let _ = silence.recv_timeout(Duration::from_millis(1));
    }
    let nanos = (spent() - before) / (samples() - first);
    assert!(nanos > 0, "the time is counted");
    assert!(nanos * 5 <= 1_000_000, "{nanos} ns a reading, five a second");
}

/// Real process memory: what a mapping holds shrinks by eviction, and the system sees it.
#[cfg(target_os = "linux")]
mod process_memory {
    use spill_worker::{MemorySource, ProcessMemory};

    use super::*;

    const MIB: u64 = 1 << 20;

    /// Larger than any threshold below which glibc keeps freed memory for itself (32 MiB).
    const CHUNK: u64 = 40 * MIB;

    /// Touched memory in chunks, which says that they weigh a tenth of what they do.
    struct Hoard(Mutex<Vec<Vec<u8>>>);

    impl ManualEvict for Hoard {
        fn evict(&self) -> i64 {
            self.0.lock().pop().map_or(-1, |chunk| chunk.len() as i64 / 10)
        }
        fn fast(&self) -> bool {
            !self.0.lock().is_empty()
        }
    }

    fn touched(bytes: u64) -> Vec<u8> {
        vec![1; usize::try_from(bytes).unwrap()]
    }

    /// S10, S11: managed memory stays below its target and weighs a tenth of what it says; memory outside of
    /// the mapping grows until the process is above 70%; values are evicted until it is below 60%.
    #[test]
    fn unmanaged_growth_is_answered_by_eviction_until_the_target() {
        let process = Arc::new(ProcessMemory::open().unwrap());
        let hoard = Arc::new(Hoard(Mutex::new((0..8).map(|_| touched(CHUNK)).collect())));
        // With the hoard the process is at half of the limit.
        let limit = 2 * process.read().unwrap();
        let (readings, events) = channel();
        let source = Arc::clone(&process);
        let monitor = MemoryMonitor::builder(
            MemoryLimit::from_bytes(limit, &SystemMemory::from_bytes(u64::MAX)).unwrap(),
        )
        .interval(NEVER)
        .clock(still())
        .data(Arc::clone(&hoard) as Arc<dyn ManualEvict>)
        .source(move || {
            let memory = source.read()?;
            let _ = readings.send(memory);
            Ok(memory)
        })
        .start()
        .unwrap();
        events.recv_timeout(PATIENCE).unwrap();
        assert_eq!(hoard.0.lock().len(), 8, "at half of the limit nothing is evicted");

        let leak = touched(limit / 4);
        monitor.sample_now();
        while events.recv_timeout(PATIENCE).unwrap() <= limit / 10 * 7 {}
        while events.recv_timeout(PATIENCE).unwrap() > limit / 10 * 6 {}
        monitor.stop();
        let left = hoard.0.lock().len() as u64;
        assert!((1..8).contains(&left), "{left} chunks left");
        assert_eq!(monitor.status().evictions, 8 - left);
        let (after, level) = (process.read().unwrap(), limit / 10 * 6);
        assert!(after <= level + MIB, "{after} is above {level}");
        drop(leak);
    }
}
