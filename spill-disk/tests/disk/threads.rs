//! Several threads at once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use bytes::Bytes;
use spill_core::{Frames, MutableMapping};
use spill_disk::io::{Fault, FaultyIo, Io, MemoryIo, Operation, RealIo, Rule};
use spill_disk::{Segments, SegmentsConfig, Workspace};

use crate::common::{PARENT, assert_same, config, gate, memory, unstaged, value};

const KEYS: u64 = 5;

/// Its first bytes say key and version, and the rest follows from them.
fn versioned(key: u64, version: u64) -> Frames {
    let seed = key << 32 | version;
    let words = 2 + version as usize * 97 % 900;
    let bytes: Vec<u8> = (0..words as u64).flat_map(|at| (seed + at).to_le_bytes()).collect();
    Frames::from(Bytes::from(bytes)).with_weight(version)
}

#[track_caller]
fn version_of(key: u64, frames: &Frames) -> u64 {
    assert_same(frames, &versioned(key, frames.weight()));
    frames.weight()
}

/// Each key's versions are written in order by the thread that owns it, so no reader may see one that is
/// older than the last finished before it began, or one that was not begun.
fn storm(segments: &Segments<u64>, rounds: u64) {
    let begun: Vec<_> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let finished: Vec<_> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let running = AtomicU64::new(2);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let (begun, finished, running) = (&begun, &finished, &running);
            scope.spawn(move || {
                for version in 1..=rounds {
                    for key in (writer..KEYS).step_by(2) {
                        begun[key as usize].store(version, Ordering::SeqCst);
                        if version % 7 == 3 {
                            let taken = segments.take(&key).unwrap().map(|frames| version_of(key, &frames));
                            assert_eq!(taken, (version > 1).then(|| version - 1));
                        } else if version % 7 == 5 {
                            segments.remove(&key).unwrap();
                        }
                        segments.insert(key, versioned(key, version)).unwrap();
                        finished[key as usize].store(version, Ordering::SeqCst);
                    }
                    if version % 50 == 0 {
                        segments.flush().unwrap();
                    }
                }
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        for reader in 0..2 {
            let (begun, finished, running) = (&begun, &finished, &running);
            scope.spawn(move || {
                while running.load(Ordering::SeqCst) > 0 {
                    for key in 0..KEYS {
                        let least = finished[key as usize].load(Ordering::SeqCst);
                        let found = if reader == 0 {
                            segments.get(&key).unwrap()
                        } else {
                            segments.get_many(&[key]).pop().unwrap().unwrap()
                        };
                        if let Some(frames) = found {
                            let version = version_of(key, &frames);
                            assert!(
                                version >= least && version <= begun[key as usize].load(Ordering::SeqCst)
                            );
                        }
                    }
                }
            });
        }
    });
    let wanted: HashMap<u64, u64> = (0..KEYS).map(|key| (key, rounds)).collect();
    let found = (0..KEYS).map(|key| (key, version_of(key, &segments.get(&key).unwrap().unwrap()))).collect();
    assert_eq!(wanted, found);
    assert_eq!(segments.usage().spilled.memory, KEYS * rounds);
}

#[test]
fn readers_see_each_key_move_forward_only() {
    for (segment, stage) in [(20_000, 30_000), (9_000, 0), (64 << 20, 2 << 20)] {
        for behind in [false, true] {
            let config = config(memory()).segment_bytes(segment).stage_bytes(stage);
            storm(&Segments::open(config.write_behind(behind)).unwrap(), 700);
        }
    }
}

#[test]
fn readers_see_each_key_move_forward_only_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let workspace = Workspace::open_with(Arc::new(RealIo), Some(directory.path())).unwrap();
    let config = SegmentsConfig::new(workspace).segment_bytes(20_000).stage_bytes(30_000);
    storm(&Segments::open(config).unwrap(), 400);
}

#[test]
fn a_segment_dropped_under_a_reader_is_not_overwritten() {
    let io = FaultyIo::new(Arc::new(memory()));
    let segments = unstaged(io.clone(), 1_000);
    segments.insert(1, value(1, 900)).unwrap();
    let gate = gate(&io, Operation::Read);
    std::thread::scope(|scope| {
        let open = gate.open_on_drop();
        let reader = scope.spawn(|| segments.get(&1).unwrap());
        gate.wait_for(1);
        // The value dies, its segment is sealed and dropped, and later segments look for files.
        segments.remove(&1).unwrap();
        for key in 2..10 {
            segments.insert(key, value(key, 900)).unwrap();
            segments.remove(&key).unwrap();
        }
        drop(open);
        assert_same(&reader.join().unwrap().unwrap(), &value(1, 900));
    });
    assert!(segments.get(&1).unwrap().is_none());
}

#[test]
fn while_a_batch_is_written_it_is_served_and_the_other_half_fills() {
    let io = FaultyIo::new(Arc::new(memory()));
    let segments: Segments<u64> = Segments::open(config(io.clone()).stage_bytes(4_000)).unwrap();
    for key in 0..3 {
        segments.insert(key, value(key, 500)).unwrap();
    }
    let gate = gate(&io, Operation::Write);
    std::thread::scope(|scope| {
        let open = gate.open_on_drop();
        scope.spawn(|| segments.insert(3, value(3, 500)).unwrap());
        gate.wait_for(1);
        for key in 0..3 {
            assert_same(&segments.get(&key).unwrap().unwrap(), &value(key, 500));
        }
        // Nobody waits while there is room, for replacing and removing what is being written either.
        segments.insert(10, value(10, 500)).unwrap();
        segments.insert(0, value(100, 500)).unwrap();
        assert!(segments.remove(&1).unwrap());
        assert_same(&segments.take(&2).unwrap().unwrap(), &value(2, 500));
        drop(open);
    });
    segments.flush().unwrap();
    assert_same(&segments.get(&0).unwrap().unwrap(), &value(100, 500));
    assert_same(&segments.get(&3).unwrap().unwrap(), &value(3, 500));
    assert_same(&segments.get(&10).unwrap().unwrap(), &value(10, 500));
    assert_eq!(segments.len(), 3);
    assert_eq!(segments.usage().spilled.disk, 3 * 536);
}

#[test]
fn who_finds_no_room_waits_for_the_batch() {
    let io = FaultyIo::new(Arc::new(memory()));
    let segments: Segments<u64> = Segments::open(config(io.clone()).stage_bytes(4_000)).unwrap();
    let gate = gate(&io, Operation::Write);
    let (done, waiting) = (AtomicBool::new(false), Barrier::new(2));
    std::thread::scope(|scope| {
        let open = gate.open_on_drop();
        scope.spawn(|| (0..4).for_each(|key| segments.insert(key, value(key, 500)).unwrap()));
        gate.wait_for(1);
        scope.spawn(|| {
            (10..13).for_each(|key| segments.insert(key, value(key, 500)).unwrap());
            waiting.wait();
            segments.insert(13, value(13, 500)).unwrap();
            done.store(true, Ordering::SeqCst);
        });
        waiting.wait();
        assert!(!done.load(Ordering::SeqCst), "both halves are full");
        assert!(segments.usage().staged <= 4_000);
        drop(open);
    });
    assert_eq!(segments.len(), 8);
    assert!((0..4).chain(10..14).all(|key| segments.get(&key).unwrap().is_some()));
}

#[test]
fn large_values_are_written_in_parallel() {
    let io = FaultyIo::new(Arc::new(memory()));
    let segments = unstaged(io.clone(), 1 << 20);
    let gate = gate(&io, Operation::Write);
    std::thread::scope(|scope| {
        let open = gate.open_on_drop();
        scope.spawn(|| segments.insert(1, value(1, 300_000)).unwrap());
        gate.wait_for(1);
        segments.insert(2, value(2, 300_000)).unwrap();
        assert_same(&segments.get(&2).unwrap().unwrap(), &value(2, 300_000));
        assert!(segments.get(&1).unwrap().is_none(), "not there before its write ended");
        drop(open);
    });
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 300_000));
    assert_eq!(io.calls_of(Operation::Create), 2 + 1, "lock files and one segment");
}

#[test]
fn a_large_value_whose_write_ends_after_closing_is_refused() {
    let io = FaultyIo::new(Arc::new(memory()));
    let segments = unstaged(io.clone(), 1 << 20);
    let gate = gate(&io, Operation::Write);
    std::thread::scope(|scope| {
        let open = gate.open_on_drop();
        let inserting = scope.spawn(|| segments.insert(1, value(1, 900)));
        gate.wait_for(1);
        segments.close().unwrap();
        drop(open);
        let error = inserting.join().unwrap().unwrap_err();
        assert!(matches!(error.kind(), spill_core::ErrorKind::Closed { .. }));
    });
    assert_eq!(segments.len(), 0);
}

#[test]
fn a_value_taken_by_many_is_taken_once() {
    let segments = unstaged(memory(), 1 << 20);
    for round in 0..100 {
        segments.insert(1, value(round, 900)).unwrap();
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    if segments.take(&1).unwrap().is_some() {
                        taken.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(taken.into_inner(), 1);
    }
}

#[test]
fn a_value_replaced_while_it_is_taken_is_the_one_that_is_taken() {
    let io = FaultyIo::new(Arc::new(memory()));
    let segments = unstaged(io.clone(), 1 << 20);
    segments.insert(1, value(1, 900)).unwrap();
    let gate = gate(&io, Operation::Read);
    std::thread::scope(|scope| {
        let open = gate.open_on_drop();
        let taker = scope.spawn(|| segments.take(&1).unwrap());
        gate.wait_for(1);
        segments.insert(1, value(2, 900)).unwrap();
        drop(open);
        assert_same(&taker.join().unwrap().unwrap(), &value(2, 900));
    });
    assert!(!segments.contains_key(&1));
}

#[test]
fn closing_during_a_write_and_a_read_ends_both_well() {
    let memory: MemoryIo = memory();
    for operation in [Operation::Write, Operation::Read] {
        let io = FaultyIo::new(Arc::new(memory.clone()));
        let segments: Segments<u64> = Segments::open(config(io.clone()).stage_bytes(4_000)).unwrap();
        segments.insert(1, value(1, 9_000)).unwrap();
        segments.insert(2, value(2, 500)).unwrap();
        let gate = gate(&io, operation);
        std::thread::scope(|scope| {
            let open = gate.open_on_drop();
            let busy = scope.spawn(|| match operation {
                Operation::Write => segments.flush().map(|()| None),
                _ => segments.get(&1),
            });
            gate.wait_for(1);
            segments.close().unwrap();
            drop(open);
            if let Some(frames) = busy.join().unwrap().unwrap() {
                assert_same(&frames, &value(1, 9_000));
            }
        });
        assert_eq!(segments.usage(), spill_core::Usage::default());
        let left = spill_disk::io::Io::list(&memory, std::path::Path::new(PARENT)).unwrap();
        assert!(left.iter().all(|entry| !entry.is_dir), "{left:?}");
    }
}

/// Closing removes the workspace with all its files; who was about to remove one of them must not book it again.
#[test]
fn a_file_removed_while_the_store_closes_is_booked_once() {
    let io = FaultyIo::new(Arc::new(memory()));
    let segments = unstaged(io.clone(), 1_000);
    // Longer than a segment, so that its file is not kept for another use.
    segments.insert(1, value(1, 9_000)).unwrap();
    let gate = gate(&io, Operation::RemoveFile);
    std::thread::scope(|scope| {
        let open = gate.open_on_drop();
        let removing = scope.spawn(|| segments.remove(&1).unwrap());
        gate.wait_for(1);
        segments.close().unwrap();
        drop(open);
        assert!(removing.join().unwrap());
    });
    assert_eq!(segments.usage(), spill_core::Usage::default());
}

/// One that another thread removes while the workspace is removed is gone either way.
#[test]
fn closing_is_not_disturbed_by_a_file_that_is_being_removed() {
    let memory = memory();
    let io = FaultyIo::new(Arc::new(memory.clone()));
    let segments = unstaged(io.clone(), 1_000);
    (0..3).for_each(|key| segments.insert(key, value(key, 900)).unwrap());
    let removes = memory.clone();
    let first = Fault::Delay(Arc::new(move |call| removes.remove_file(call.path).unwrap()));
    io.inject(Rule::nth(1, first).on(Operation::RemoveFile));
    segments.close().unwrap();
    assert_eq!(segments.usage(), spill_core::Usage::default());
    assert!(memory.list(Path::new(PARENT)).unwrap().is_empty());
}
