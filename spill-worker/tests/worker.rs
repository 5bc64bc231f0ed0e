//! A worker as a whole: what it does with its data, its gate, and how it ends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use spill_core::{Buffer, BufferBuilder, Func, Lru, ManualClock, MutableMapping, Result};
use spill_worker::{
    Data, DataContext, EventKind, MemoryLimit, Observe, Retired, Settings, Status, SystemMemory, Thresholds,
    Worker, WorkerBuilder,
};

const PATIENCE: Duration = Duration::from_secs(60);
const KIB: u64 = 1 << 10;

type Map = Buffer<u32, Bytes, Lru<u32, Bytes>>;

/// A buffer over a mapping that stands for storage.
fn buffer(target: Option<u64>) -> Arc<Map> {
    let slow: Lru<u32, Bytes> = BufferBuilder::new().alone().unwrap();
    let builder = BufferBuilder::new();
    Arc::new(match target {
        Some(target) => builder.target(target).over(slow).unwrap(),
        None => builder.over(slow).unwrap(),
    })
}

/// A limit of 100 KiB; readings come when a test asks for them.
fn settings(thresholds: Thresholds) -> Settings {
    Settings {
        memory_limit: MemoryLimit::from_bytes(100 * KIB, &SystemMemory::from_bytes(1 << 30)).unwrap(),
        monitor_interval: Duration::from_secs(3600),
        thresholds,
        ..Settings::default()
    }
}

/// Process memory that a test sets, and the events of a worker that reads it.
struct Trial {
    memory: Arc<AtomicU64>,
    events: Receiver<EventKind>,
}

impl Trial {
    fn of(builder: WorkerBuilder) -> (Worker, Self) {
        let memory = Arc::new(AtomicU64::new(0));
        let (told, events) = channel();
        let source = Arc::clone(&memory);
        let worker = builder
            .clock(Arc::new(ManualClock::new()))
            .control_socket(false)
            .source(move || Ok(source.load(SeqCst)))
            .on_event(move |kind, _| _ = told.send(kind))
            .start()
            .unwrap();
        // The first reading comes unasked. After it each `set` has exactly its own.
        while worker.monitor().status().samples == 0 {
            std::thread::yield_now();
        }
        (worker, Trial { memory, events })
    }

    fn set(&self, worker: &Worker, kib: u64) {
        let samples = worker.monitor().status().samples;
        self.memory.store(kib * KIB, SeqCst);
        worker.monitor().sample_now();
        while worker.monitor().status().samples == samples {
            std::thread::yield_now();
        }
    }

    #[track_caller]
    fn wait_for(&self, kind: EventKind) {
        while self.events.recv_timeout(PATIENCE).unwrap() != kind {}
    }
}

fn fill(map: &impl MutableMapping<u32, Bytes>, n: u32) {
    for key in 0..n {
        map.insert(key, Bytes::from(vec![key as u8; 1000])).unwrap();
    }
}

/// S32, W01: `data` is an instance, a function that is told limit, target and directories, or a function with
/// arguments.
#[test]
fn data_is_an_instance_a_function_or_a_function_with_arguments() {
    let with = || {
        let directories = vec!["/spill/one".into()];
        Worker::builder(Settings { local_directories: directories, ..settings(Thresholds::new()) })
    };
    let instance = buffer(None);
    let by_instance = with().data(Data::evictable(&instance)).unwrap();
    let by_function = with().data(|context: &DataContext| {
        assert_eq!((context.limit, context.target), (Some(100 * KIB), Some(60 * KIB)));
        assert_eq!(context.local_directories, [std::path::PathBuf::from("/spill/one")]);
        Ok(Data::evictable(&buffer(context.target)))
    });
    let made = |context: &DataContext, extra: u64| {
        Ok(Data::evictable(&buffer(Some(context.target.unwrap_or(0) + extra))))
    };
    let by_function_with_arguments = with().data((made, 7_u64));
    fill(&*instance, 3);
    for builder in [by_instance, by_function.unwrap(), by_function_with_arguments.unwrap()] {
        let (worker, _trial) = Trial::of(builder);
        assert!(worker.state().storage.fast_count == 3 || worker.state().storage.fast_count == 0);
    }
    assert_eq!(instance.len(), 3);
}

/// W01: a mapping that already holds something is refused, and a function's error is passed on.
#[test]
fn data_must_be_empty() {
    let full = buffer(None);
    fill(&*full, 2);
    let refused = Worker::builder(Settings::default()).data(Data::plain(&full)).err().unwrap();
    assert!(refused.to_string().contains("2 keys"), "{refused}");
    let fails = |_: &DataContext| Err(spill_core::Error::config("disk", "gone", "a disk"));
    assert!(Worker::builder(Settings::default()).data(fails).is_err());
}

/// S33: from a mapping without manual eviction nothing is evicted, whatever the process uses.
#[test]
fn nothing_is_evicted_from_a_plain_mapping() {
    let map = buffer(None);
    let (worker, trial) =
        Trial::of(Worker::builder(settings(Thresholds::new())).data(Data::plain(&map)).unwrap());
    fill(&*map, 10);
    trial.set(&worker, 90);
    trial.wait_for(EventKind::Paused);
    trial.set(&worker, 50);
    drop(worker);
    assert_eq!((map.stats().fast_count, map.stats().evictions), (10, 0));
}

/// S34: with manual eviction the `spill` threshold acts, while the target stays the mapping's own affair.
#[test]
fn an_evictable_mapping_spills_above_the_spill_threshold_only() {
    let map = buffer(None);
    let (worker, trial) =
        Trial::of(Worker::builder(settings(Thresholds::new())).data(Data::evictable(&map)).unwrap());
    fill(&*map, 70);
    let managed = map.usage().managed();
    trial.set(&worker, 69);
    assert_eq!(
        map.stats().evictions,
        0,
        "70,000 bytes are above the worker's target, which is not the map's"
    );
    trial.set(&worker, 75);
    trial.wait_for(EventKind::Spilling);
    trial.wait_for(EventKind::UnmanagedHigh);
    assert_eq!(map.stats().fast_count, 0);
    assert_eq!(worker.state().readings.managed, managed, "as of the last sample");
}

/// S31, W08: with spill, pause and terminate off nothing acts on process memory, and managed memory still has its
/// target.
#[test]
fn only_managed_memory_acts_when_process_memory_is_ignored() {
    let off = Thresholds::new().spill(None).pause(None).terminate(None);
    let target = settings(off).target_bytes();
    assert_eq!(target, Some(60 * KIB));
    let own = buffer(target);
    let (worker, trial) = Trial::of(Worker::builder(settings(off)).data(Data::evictable(&own)).unwrap());
    fill(&*own, 100);
    trial.set(&worker, 200);
    assert_eq!(worker.state().status, Status::Running);
    assert!(worker.gate().try_enter().unwrap().is_some());
    let fast = own.stats().fast_bytes;
    assert!((59 * KIB..=60 * KIB).contains(&fast), "{fast}");
    assert_eq!(settings(off.target(None)).target_bytes(), None);
}

/// S12, S13, W07: at the pause the gate closes and transfers go one by one; the permit that is held stays good; the
/// resume opens both. The order is that of the events.
#[test]
fn a_pause_holds_tasks_and_transfers_and_a_resume_releases_them() {
    use spill_worker::Direction::Incoming;
    let (worker, trial) = Trial::of(Worker::builder(settings(Thresholds::new())));
    let running = worker.gate().enter().unwrap();
    trial.set(&worker, 85);
    trial.wait_for(EventKind::Paused);
    assert!(worker.gate().try_enter().unwrap().is_none());
    let one = worker.transfers().begin(Incoming, 1);
    assert!(worker.transfers().try_begin(Incoming, 1).is_none());
    let state = worker.state();
    assert_eq!((state.status, state.running_tasks, state.incoming_transfers), (Status::Paused, 1, 1));

    trial.set(&worker, 75);
    trial.wait_for(EventKind::Resumed);
    assert!(worker.gate().try_enter().unwrap().is_some());
    assert!(worker.transfers().try_begin(Incoming, 1).is_some());
    drop((running, one));
    assert_eq!(worker.transfers().limit(), Some(10 * KIB));
    let kinds: Vec<_> = worker.state().events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [EventKind::Started, EventKind::Paused, EventKind::Resumed]);
}

/// S26: the sum holds in every sample, while values come, spill and go.
#[test]
fn the_readings_sum_up_to_the_process_in_every_sample() {
    let map = buffer(Some(20 * KIB));
    let (worker, trial) =
        Trial::of(Worker::builder(settings(Thresholds::new())).data(Data::evictable(&map)).unwrap());
    for round in 0..50 {
        fill(&*map, round % 40);
        trial.set(&worker, u64::from(round * 7 % 100));
        let state = worker.state();
        let readings = state.readings;
        assert_eq!(readings.managed + readings.unmanaged + readings.unmanaged_recent, readings.process);
    }
}

#[test]
fn a_worker_retires_once_its_tasks_have_ended_and_its_values_are_elsewhere() {
    let map = buffer(None);
    let (worker, _trial) =
        Trial::of(Worker::builder(settings(Thresholds::new())).data(Data::evictable(&map)).unwrap());
    fill(&*map, 5);
    let task = worker.gate().enter().unwrap();
    worker.retire();
    assert!(worker.gate().enter().is_err(), "no task starts");
    assert_eq!(worker.workers()[0].status, Status::Retiring);
    let (moved, moves) = channel();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            worker.wait(|| {
                moved.send(map.len()).unwrap();
                map.clear()
            })
        });
        assert!(moves.try_recv().is_err(), "the task runs");
        drop(task);
        assert_eq!(moves.recv_timeout(PATIENCE).unwrap(), 5);
        assert_eq!(waiting.join().unwrap().unwrap(), Retired::Gracefully);
    });
    assert_eq!(worker.state().status, Status::Terminated);
}

#[test]
fn a_hand_over_that_fails_leaves_the_values_and_can_be_tried_again() {
    let map = buffer(None);
    let (worker, _trial) =
        Trial::of(Worker::builder(settings(Thresholds::new())).data(Data::plain(&map)).unwrap());
    fill(&*map, 5);
    worker.retire();
    let fails = || Err(spill_core::Error::config("peer", "gone", "a peer"));
    assert!(worker.wait(fails).is_err());
    assert_eq!((map.len(), worker.state().status), (5, Status::Retiring));
    assert_eq!(worker.wait(|| map.clear()).unwrap(), Retired::Gracefully);
}

#[test]
fn asked_twice_a_worker_ends_at_once() {
    let (worker, _trial) = Trial::of(Worker::builder(settings(Thresholds::new())));
    let _task = worker.gate().enter().unwrap();
    worker.retire();
    worker.retire();
    assert_eq!(worker.wait(|| panic!("no value is handed over")).unwrap(), Retired::AtOnce);
}

/// A disk that answers no more cannot hang the end of a program: an eviction is given five seconds.
#[test]
fn a_worker_is_dropped_although_an_eviction_does_not_end() {
    let ((begun, evicting), (release, released)) = (channel(), channel::<()>());
    let released = Mutex::new(released);
    let encode = move |value: &Bytes| -> Result<Bytes> {
        let _ = begun.send(());
        let _ = released.lock().recv();
        Ok(value.clone())
    };
    let decode = |stored: Bytes| -> Result<Bytes> { Ok(stored) };
    let disk: Lru<u32, Bytes> = BufferBuilder::new().alone().unwrap();
    let stuck: Func<u32, Bytes, Bytes, _, _> = Func::new((encode, decode), disk);
    let map = Arc::new(BufferBuilder::<u32, Bytes>::new().over(stuck).unwrap());
    let (worker, trial) =
        Trial::of(Worker::builder(settings(Thresholds::new())).data(Data::evictable(&map)).unwrap());
    fill(&*map, 3);
    trial.set(&worker, 75);
    evicting.recv_timeout(PATIENCE).unwrap();

    let (dropped, drops) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            drop(worker);
            let _ = dropped.send(());
        });
        let in_time = drops.recv_timeout(PATIENCE);
        drop(release);
        in_time.unwrap();
    });
}

/// What tasks did is shown to a watcher once, with the names they gave; running ones each time.
#[cfg(target_os = "linux")]
#[test]
fn a_watcher_sees_each_task_once_and_the_named_storage() {
    use spill_worker::control::{Client, list};

    let map = buffer(None);
    let lru: Arc<Lru<u32, Bytes>> = Arc::new(BufferBuilder::new().alone().unwrap());
    let data = Data::plain(&map).backend("a disk", &lru);
    let builder = Worker::builder(settings(Thresholds::new())).data(data).unwrap();
    let worker = builder.source(|| Ok(0)).start().unwrap(); // a real process is far above the limit, so paused
    assert!(list().unwrap().contains(&std::process::id()));
    drop(worker.gate().enter().unwrap().named("first"));
    let running = worker.gate().enter().unwrap().named("second");

    let mut seen = Vec::new();
    Client::connect(std::process::id())
        .unwrap()
        .watch(|state| {
            assert_eq!(state.running.len(), 1);
            assert_eq!(state.running[0].name, "second");
            assert_eq!(state.backends[0].name, "a disk");
            seen.extend(state.activity.into_iter().map(|activity| activity.name));
            worker.retire(); // an event, so that the watch goes on at once
            seen.len() < 2 && state.events.len() < 4
        })
        .unwrap();
    assert_eq!(seen, ["first"]);
    drop(running);
}
