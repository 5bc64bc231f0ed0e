//! Batches that a thread writes behind those who fill them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread;

use spill_core::conformance::Gate;
use spill_core::{ErrorKind, MutableMapping, Usage};
use spill_disk::Segments;
use spill_disk::io::{Fault, FaultyIo, Io, Operation, Rule};

use crate::common::{PARENT, assert_same, config, held, memory, value};

const STAGE: u64 = 8_000;
const LEN: usize = 300;

fn faulty() -> FaultyIo {
    FaultyIo::new(Arc::new(memory()))
}

fn open(io: FaultyIo) -> Segments<u64> {
    let config = config(io).segment_bytes(20_000).stage_bytes(STAGE);
    Segments::open(config.write_behind(true)).unwrap()
}

/// Holds every write at the gate.
fn hold_writes(io: &FaultyIo, gate: &Gate) {
    io.inject(Rule::from(1, held(gate)).on(Operation::Write));
}

/// Inserts keys from 0 on until the thread has arrived at the gate. How many.
fn fill(segments: &Segments<u64>, gate: &Gate) -> u64 {
    let half = (0..).take_while(|_| segments.usage().staged <= STAGE / 2).inspect(|n| {
        segments.insert(*n, value(*n, LEN)).unwrap();
    });
    let count = half.count() as u64;
    gate.wait_for(1);
    count
}

fn all_there(segments: &Segments<u64>, count: u64) {
    assert_eq!(segments.len() as u64, count);
    for n in 0..count {
        assert_same(&segments.get(&n).unwrap().unwrap(), &value(n, LEN));
    }
}

#[test]
fn one_half_fills_while_the_other_is_written() {
    let (io, gate) = (faulty(), Gate::closed());
    let segments = open(io.clone());
    hold_writes(&io, &gate);
    let open = gate.open_on_drop();
    let begun = fill(&segments, &gate);
    segments.insert(begun, value(begun, LEN)).unwrap();
    all_there(&segments, begun + 1);
    // One of the batch in flight, one of the half that fills.
    for key in [0, begun] {
        assert!(segments.remove(&key).unwrap());
        segments.insert(key, value(key, LEN)).unwrap();
    }
    all_there(&segments, begun + 1);
    drop(open);
    segments.flush().unwrap();
    assert_eq!(segments.usage().staged, 0);
    all_there(&segments, begun + 1);
}

#[test]
fn who_finds_both_halves_full_waits_and_the_stage_keeps_its_bound() {
    let (io, gate) = (faulty(), Gate::closed());
    let segments = open(io.clone());
    hold_writes(&io, &gate);
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let filler = scope.spawn(|| {
            for n in 0..200 {
                segments.insert(n, value(n, LEN)).unwrap();
                assert!(segments.usage().staged <= STAGE);
            }
        });
        gate.wait_for(1);
        assert!(segments.usage().staged <= STAGE);
        drop(open);
        filler.join().unwrap();
    });
    all_there(&segments, 200);
}

#[test]
fn what_failed_behind_is_told_to_the_next_insert_that_needs_room() {
    let io = faulty();
    let segments = open(io.clone());
    io.inject(Rule::from(1, Fault::Errno(5)).on(Operation::Write));
    let mut accepted = 0;
    let error = loop {
        match segments.insert(accepted, value(accepted, LEN)) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
    assert!(segments.usage().staged <= STAGE);
    assert!(segments.stats().failures >= 2, "the thread's try and that of the insert");
    all_there(&segments, accepted);
    io.heal();
    for n in accepted..accepted + 100 {
        segments.insert(n, value(n, LEN)).unwrap();
    }
    segments.flush().unwrap();
    all_there(&segments, accepted + 100);
}

#[test]
fn closing_waits_for_the_batch_that_is_being_written() {
    for drops in [false, true] {
        let (io, gate, written) = (faulty(), Gate::closed(), Arc::new(AtomicBool::new(false)));
        let segments = open(io.clone());
        let (passed, done) = (gate.clone(), Arc::clone(&written));
        let hold = Fault::Delay(Arc::new(move |_| {
            passed.pass();
            done.store(true, SeqCst);
        }));
        io.inject(Rule::from(1, hold).on(Operation::Write));
        let open = gate.open_on_drop();
        fill(&segments, &gate);
        thread::scope(|scope| {
            let (closes, closing) = mpsc::channel();
            let (written, segments) = (&written, segments);
            scope.spawn(move || {
                closes.send(()).unwrap();
                if drops {
                    drop(segments);
                } else {
                    segments.close().unwrap();
                    assert_eq!(segments.usage(), Usage::default());
                    let error = segments.insert(0, value(0, LEN)).unwrap_err();
                    assert!(matches!(error.kind(), ErrorKind::Closed { .. }));
                }
                assert!(written.load(SeqCst));
            });
            closing.recv().unwrap();
            drop(open);
        });
        assert_eq!(io.list(Path::new(PARENT)).unwrap().len(), 0, "nothing is left behind");
    }
}

/// Whatever panics while a batch is written, in a thread or in a caller: nobody waits for ever, and nothing is lost.
#[test]
fn a_panic_is_a_failure_like_others() {
    for behind in [false, true] {
        let io = faulty();
        let config = config(io.clone()).segment_bytes(20_000).stage_bytes(STAGE);
        let segments = Segments::open(config.write_behind(behind)).unwrap();
        let panics = Fault::Delay(Arc::new(|_| panic!("no file today")));
        io.inject(Rule::nth(1, panics).on(Operation::Create));
        let mut panicked = 0;
        for n in 0..100 {
            while let Err(error) = segments.insert(n, value(n, LEN)) {
                assert!(matches!(error.kind(), ErrorKind::Panicked { .. }), "{error}");
                panicked += 1;
            }
        }
        assert_eq!(panicked, usize::from(!behind), "what failed behind went well when it was tried again");
        segments.flush().unwrap();
        all_there(&segments, 100);
    }
}
