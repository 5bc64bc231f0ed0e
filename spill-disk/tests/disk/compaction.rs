//! Compaction beside the traffic.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use spill_core::{Clock, MutableMapping, SystemClock};
use spill_disk::io::{Fault, FaultyIo, Operation, Rule};
use spill_disk::{Segments, SegmentsConfig};

use crate::common::{assert_same, config, gate, memory, value};

const SEGMENT: u64 = 10_000;

/// Ten records fill a segment.
const LEN: usize = 900;

fn filled(io: &FaultyIo, settings: impl FnOnce(SegmentsConfig) -> SegmentsConfig) -> Segments<u64> {
    let config = settings(config(io.clone()).segment_bytes(SEGMENT).stage_bytes(0));
    let segments = Segments::open(config).unwrap();
    (0..60).for_each(|key| segments.insert(key, value(key, LEN)).unwrap());
    segments
}

fn check(segments: &Segments<u64>, key: u64) {
    assert_same(&segments.get(&key).unwrap().unwrap(), &value(key, LEN));
}

/// One record in `many` lives on: of two, and there is room to move it; of ten, and the files are above their bound.
fn thin_out(segments: &Segments<u64>, many: u64) {
    (0..60).filter(|key| key % many != 1).for_each(|key| assert!(segments.remove(&key).unwrap()));
}

/// A thread of its own does it. While it waits for the device nobody else does.
#[test]
fn a_thread_compacts_and_holds_up_nobody() {
    const COMPACTS: &str = "overspill-compact";
    let io = FaultyIo::new(Arc::new(memory()));
    let segments = filled(&io, |config| config);
    let (reach, reached) = mpsc::channel();
    let (open, opened) = mpsc::channel::<()>();
    let opened = parking_lot::Mutex::new(opened);
    let device = move |_: &spill_disk::io::Call<'_>| {
        if std::thread::current().name() == Some(COMPACTS) {
            _ = reach.send(());
            _ = opened.lock().recv(); // until the test lets go, once and for all
        }
    };
    io.inject(Rule::from(1, Fault::Delay(Arc::new(device))).on(Operation::Read));
    thin_out(&segments, 2);
    reached.recv_timeout(Duration::from_secs(60)).expect("nobody compacts");
    check(&segments, 1);
    segments.insert(100, value(100, LEN)).unwrap();
    assert!(segments.remove(&11).unwrap());
    assert_same(&segments.take(&100).unwrap().unwrap(), &value(100, LEN));
    assert_eq!(segments.stats().moved.count, 0, "it still waits");
    drop(open);
    segments.settle().unwrap();
    assert!(segments.stats().moved.count > 0);
    (1..60).step_by(2).filter(|key| *key != 11).for_each(|key| check(&segments, key));
}

/// Who reads a record has its bytes, though it was moved meanwhile, and its file is to be used again.
#[test]
fn a_segment_compacted_under_a_reader_is_not_overwritten() {
    let io = FaultyIo::new(Arc::new(memory()));
    let segments = filled(&io, |config| config.compactor(false));
    let gate = gate(&io, Operation::Read);
    std::thread::scope(|scope| {
        let open = gate.open_on_drop();
        let reader = scope.spawn(|| segments.get(&1).unwrap());
        gate.wait_for(1);
        thin_out(&segments, 10);
        segments.settle().unwrap();
        assert!(segments.stats().moved.count >= 3, "{:?}", segments.stats().moved);
        for key in 100..200 {
            segments.insert(key, value(key, LEN)).unwrap();
            segments.remove(&key).unwrap();
        }
        drop(open);
        assert_same(&reader.join().unwrap().unwrap(), &value(1, LEN));
    });
    (1..60).step_by(10).for_each(|key| check(&segments, key));
}

/// A device that hangs does not hold up the end of a store for ever.
#[test]
fn a_store_ends_though_compaction_hangs_in_the_device() {
    let io = FaultyIo::new(Arc::new(memory()));
    let segments = filled(&io, |config| config);
    let gate = gate(&io, Operation::Read);
    thin_out(&segments, 2);
    let clock = SystemClock::new();
    while gate.arrived() == 0 {
        assert!(clock.now() < Duration::from_secs(60), "nobody compacts");
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let (ends, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        let open = gate.open_on_drop();
        scope.spawn(move || {
            drop(segments);
            ends.send(()).unwrap();
        });
        assert!(ended.recv_timeout(Duration::from_secs(60)).is_ok(), "it waits for ever");
        drop(open);
    });
}
