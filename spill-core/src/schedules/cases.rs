//! Cases by name: each rule of the design, and the races of zict that PARITY lists.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use shuttle::thread;

use super::history::{Answer, History, Op};
use super::iterations;
use super::pairs::{FIRST, KEY, Shared, Start, at_rest, buffer, quiet_panics, run};
use super::store::Faults;
use crate::{Buffer, BufferBuilder, ErrorKind, ManualEvict, MutableMapping};

/// Runs `a` and `b` at the same time on a buffer in state `start`, and checks what is left.
fn race(
    start: Start,
    faults: Faults,
    a: impl Fn(&Shared, &History) + Send + Sync + 'static,
    b: impl Fn(&Shared, &History) + Send + Sync + 'static,
) {
    quiet_panics();
    let (a, b) = (Arc::new(a), Arc::new(b));
    shuttle::check_random(
        move || {
            let (map, first) = buffer(start, faults);
            let history = Arc::new(History::default());
            let (a, b) = (Arc::clone(&a), Arc::clone(&b));
            let (other_map, other_history) = (Arc::clone(&map), Arc::clone(&history));
            let other = thread::spawn(move || b(&other_map, &other_history));
            a(&map, &history);
            other.join().unwrap();
            at_rest(&map, &history, first);
        },
        iterations(2_000),
    );
}

fn op(op: Op) -> impl Fn(&Shared, &History) + Send + Sync + 'static {
    move |map, history| history.record(op, || run(map, op))
}

fn evict(map: &Shared, _history: &History) {
    let moved = map.evict();
    assert!(moved == 8 || moved == -1);
}

/// R1: a key is present at every moment of its spilling and of its reading back.
#[test]
fn r1_presence_does_not_flicker_while_a_key_moves() {
    let watch = |map: &Shared, _: &History| {
        for _ in 0..3 {
            assert!(map.contains_key(&KEY));
            assert_eq!(map.len(), 1);
            thread::yield_now();
        }
    };
    for faults in [Faults::Never, Faults::Errors, Faults::Panics] {
        race(Start::Fast, faults, evict, watch);
        race(
            Start::Slow,
            faults,
            |map, _| {
                _ = map.get(&KEY);
                _ = map.evict();
            },
            watch,
        );
    }
}

/// R2: `insert` and `remove` wait for nobody: they return while a spill of their key cannot end.
#[test]
fn r2_a_write_does_not_wait_for_a_spill_of_its_key() {
    for remove in [false, true] {
        shuttle::check_random(
            move || {
                let gate = Arc::new((shuttle::sync::Mutex::new(false), shuttle::sync::Condvar::new()));
                let hold = Arc::clone(&gate);
                let map: Buffer<u8, u64, _> = BufferBuilder::weighed_by(|_: &u8, _: &u64| 8)
                    .on_evict(move |_, _| {
                        let mut open = hold.0.lock().unwrap();
                        while !*open {
                            open = hold.1.wait(open).unwrap();
                        }
                        Ok(())
                    })
                    .over(super::store::Store::new(Faults::Never))
                    .unwrap();
                let map = Arc::new(map);
                map.insert(KEY, FIRST).unwrap();
                let evicter = Arc::clone(&map);
                let evicter = thread::spawn(move || evicter.evict());
                thread::yield_now();
                if remove {
                    assert!(map.remove(&KEY).unwrap());
                } else {
                    map.insert(KEY, 2).unwrap();
                }
                *gate.0.lock().unwrap() = true;
                gate.1.notify_all();
                evicter.join().unwrap();
                assert_eq!(map.get(&KEY).unwrap(), (!remove).then_some(2));
            },
            iterations(1_000),
        );
    }
}

/// R3: simultaneous reads of a slow key read storage once, and all get the value.
#[test]
fn r3_simultaneous_reads_read_storage_once() {
    let get = |map: &Shared, _: &History| assert_eq!(map.get(&KEY).unwrap(), Some(FIRST));
    quiet_panics();
    shuttle::check_random(
        move || {
            let (map, _) = buffer(Start::Slow, Faults::Never);
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    let map = Arc::clone(&map);
                    thread::spawn(move || get(&map, &History::default()))
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(map.slow().reads.load(SeqCst), 1);
        },
        iterations(2_000),
    );
}

/// R3: of several loaders of one key one runs, and all get its value.
#[test]
fn r3_one_loader_runs_for_all() {
    shuttle::check_random(
        || {
            let (map, _) = buffer(Start::Absent, Faults::Never);
            let threads: Vec<_> = (0..3)
                .map(|n| {
                    let map = Arc::clone(&map);
                    thread::spawn(move || {
                        let load = || {
                            thread::yield_now();
                            Ok(n)
                        };
                        map.get_or_try_insert_with(KEY, load).unwrap()
                    })
                })
                .collect();
            let mut got: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            got.dedup();
            assert_eq!(got.len(), 1, "{got:?}");
        },
        iterations(2_000),
    );
}

/// R4: an error about an old value is not given to those who read the new one.
#[test]
fn r4_a_failed_read_of_an_old_value_does_not_fail_the_new_one() {
    race(Start::Slow, Faults::Errors, op(Op::Insert(2)), |map, history| {
        _ = map.get(&KEY);
        history.record(Op::Get, || run(map, Op::Get));
    });
}

/// R4: an update that a write superseded ran once, and came just before that write.
#[test]
fn r4_a_superseded_update_returns_what_it_made() {
    for start in [Start::Fast, Start::Slow, Start::Clean, Start::Stale] {
        race(start, Faults::Never, op(Op::Update(1)), op(Op::Insert(2)));
        race(start, Faults::Never, op(Op::Update(1)), op(Op::Remove));
        race(start, Faults::Never, op(Op::Update(1)), op(Op::Update(2)));
    }
}

/// R5: a write that failed and was applied all the same leaves no copy behind.
#[test]
fn r5_a_failed_write_leaves_nothing_behind() {
    race(Start::Fast, Faults::Errors, evict, op(Op::Remove));
    race(Start::Fast, Faults::Panics, evict, op(Op::Insert(2)));
}

/// R6: a key whose old copy cannot be removed is absent, and its copy does not come back.
#[test]
fn r6_a_tombstone_hides_the_old_copy() {
    race(Start::Slow, Faults::Errors, op(Op::Remove), op(Op::Get));
    race(Start::Tombstone, Faults::Errors, op(Op::Get), evict);
    race(Start::Tombstone, Faults::Errors, op(Op::GetOr(2)), evict);
}

/// R7: a loader's panic passes to its own caller; those who wait get an error, and the key can be loaded.
#[test]
fn r7_a_panicking_loader_does_not_strand_the_others() {
    quiet_panics();
    shuttle::check_random(
        || {
            let (map, _) = buffer(Start::Absent, Faults::Never);
            let other = Arc::clone(&map);
            let waiter = thread::spawn(move || other.get_or_try_insert_with(KEY, || Ok(2)));
            let mine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                map.get_or_try_insert_with(KEY, || {
                    thread::yield_now();
                    panic!("as planned")
                })
            }));
            match (mine, waiter.join().unwrap()) {
                (Err(_), Ok(2)) | (Ok(Ok(2)), Ok(2)) => {}
                (Err(_), Err(error)) => assert!(matches!(error.kind(), ErrorKind::Panicked { .. })),
                other => panic!("{other:?}"),
            }
            assert_eq!(map.get_or_try_insert_with(KEY, || Ok(2)).unwrap(), 2);
        },
        iterations(1_000),
    );
}

/// R7: a closure's panic passes to its caller, and the value it had is put back.
#[test]
fn r7_a_panicking_update_keeps_the_value() {
    quiet_panics();
    for start in [Start::Fast, Start::Slow, Start::Stale] {
        shuttle::check_random(
            move || {
                let (map, _) = buffer(start, Faults::Never);
                let other = Arc::clone(&map);
                let reader = thread::spawn(move || other.get(&KEY).unwrap());
                let mine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    map.update(&KEY, |_| {
                        thread::yield_now();
                        panic!("as planned")
                    })
                }));
                assert!(mine.is_err());
                assert_eq!(reader.join().unwrap(), Some(FIRST));
                assert_eq!(map.get(&KEY).unwrap(), Some(FIRST));
            },
            iterations(1_000),
        );
    }
}

/// R8: a walk sees a key that was present all along exactly once, wherever it moves meanwhile.
#[test]
fn r8_a_walk_sees_a_moving_key_once() {
    for start in [Start::Fast, Start::Slow, Start::Clean, Start::Stale] {
        race(
            start,
            Faults::Never,
            |map, _| {
                let mut seen = 0;
                map.for_each_key(&mut |_| seen += 1);
                assert_eq!(seen, 1);
            },
            |map, history| {
                history.record(Op::Get, || run(map, Op::Get));
                evict(map, history);
                history.record(Op::Insert(2), || run(map, Op::Insert(2)));
                evict(map, history);
            },
        );
    }
}

/// Z11: two threads that get one spilled key both get its value, whatever its eviction does meanwhile.
#[test]
fn z11_two_threads_get_one_spilled_key() {
    race(
        Start::Slow,
        Faults::Never,
        |map, history| {
            assert_eq!(run(map, Op::Get), Answer::Value(Some(FIRST)));
            evict(map, history);
        },
        |map, _| assert_eq!(run(map, Op::Get), Answer::Value(Some(FIRST))),
    );
}

/// Z15: a set in the gap between an eviction's write and its end is not lost.
#[test]
fn z15_a_set_between_write_and_end_of_an_eviction_is_kept() {
    for faults in [Faults::Never, Faults::Errors, Faults::Panics] {
        race(Start::Fast, faults, evict, |map, history| {
            history.record(Op::Insert(2), || run(map, Op::Insert(2)));
            assert!(map.contains_key(&KEY));
            history.record(Op::Peek, || run(map, Op::Peek));
        });
    }
}

/// Z16: a second evicter takes the next key or waits; it neither spins nor moves one key twice.
#[test]
fn z16_two_evicters_share_the_work() {
    for keys in [1u8, 2, 3] {
        shuttle::check_random(
            move || {
                let (map, _) = buffer(Start::Absent, Faults::Never);
                (0..keys).for_each(|key| map.insert(key, FIRST).unwrap());
                let other = Arc::clone(&map);
                let other = thread::spawn(move || i64::max(other.evict(), 0));
                let moved = i64::max(map.evict(), 0) + other.join().unwrap();
                assert_eq!(moved, 8 * i64::from(keys.min(2)));
                assert_eq!(map.slow().writes.load(SeqCst), usize::from(keys.min(2)));
            },
            iterations(1_000),
        );
    }
}

/// Two batches over the same keys in opposite order do not wait for each other, whatever moves meanwhile.
#[test]
fn batches_in_opposite_order_do_not_wait_for_each_other() {
    shuttle::check_random(
        || {
            let (map, _) = buffer(Start::Absent, Faults::Never);
            map.insert_many(vec![(1, FIRST), (2, FIRST)]).into_iter().for_each(Result::unwrap);
            map.evict_until_below(0);
            let threads: Vec<_> = [[1, 2], [2, 1]]
                .into_iter()
                .map(|keys| {
                    let map = Arc::clone(&map);
                    thread::spawn(move || {
                        for _ in 0..2 {
                            let values: Vec<_> =
                                map.get_many(&keys).into_iter().map(Result::unwrap).collect();
                            assert_eq!(values, [Some(FIRST), Some(FIRST)]);
                            map.evict();
                        }
                    })
                })
                .collect();
            map.prefetch(&[2, 1]);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        },
        iterations(2_000),
    );
}
