//! The same machine with `Stored` fast memory (R9): every pair of operations on one key, from every state that a key
//! can be in, beside an evicter, while both memories fail.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use shuttle::rand::{Rng, thread_rng};

use super::history::{Answer, History, Op};
use super::iterations;
use super::pairs::{
    FIRST, KEY, RETRY, Shared, any_programs, at_rest, operations, quiet_panics, run, side_by_side,
};
use super::store::{Faults, Store};
use crate::{BufferBuilder, ManualEvict, MutableMapping, Stored};

type Map = Shared<Stored<Store>>;

/// The states in which a key can be found at rest.
#[derive(Clone, Copy, Debug)]
enum Start {
    Absent,
    /// Fast memory has it.
    Fast,
    /// Slow memory has it.
    Slow,
    /// Both have it.
    Both,
    /// Neither took it: it is a stage, and both may hold something old.
    Staged,
    /// Fast memory has it, and slow memory something old that could not be removed.
    FastOverOld,
    /// Slow memory has it, and fast memory something old.
    SlowOverOld,
    /// It is absent, and both hold something old.
    Tombstone,
}
const STARTS: [Start; 8] = [
    Start::Absent,
    Start::Fast,
    Start::Slow,
    Start::Both,
    Start::Staged,
    Start::FastOverOld,
    Start::SlowOverOld,
    Start::Tombstone,
];

fn buffer(start: Start, faults: Faults) -> (Map, Option<u64>) {
    let (fast, slow) = (Store::new(faults), Store::new(faults));
    let clock = Arc::clone(&slow.clock);
    let builder = BufferBuilder::weighed_by(|_: &u8, _: &u64| 8).clock(clock);
    let map = Arc::new(builder.stored(fast, slow).unwrap());
    let both = |refuse: bool| {
        map.stored().refuse_removal(refuse);
        map.slow().refuse_removal(refuse);
    };
    let evict = || assert_eq!(map.evict(), 8);
    match start {
        Start::Absent => {}
        Start::Fast => map.insert(KEY, FIRST).unwrap(),
        Start::Slow => {
            map.insert(KEY, FIRST).unwrap();
            evict();
        }
        Start::Both => {
            map.insert(KEY, FIRST).unwrap();
            evict();
            assert_eq!(map.get(&KEY).unwrap(), Some(FIRST));
        }
        Start::Staged => {
            map.insert(KEY, 3).unwrap();
            map.stored().refuse_writes(true);
            map.slow().refuse_writes(true);
            both(true);
            map.insert(KEY, FIRST).unwrap();
            map.stored().refuse_writes(false);
            map.slow().refuse_writes(false);
            assert_eq!(map.stored().holds(KEY), Some(3));
            assert_eq!(map.usage().fast, 8);
        }
        Start::FastOverOld => {
            map.insert(KEY, 3).unwrap();
            evict();
            both(true);
            map.insert(KEY, FIRST).unwrap();
            assert_eq!(map.slow().holds(KEY), Some(3));
        }
        Start::SlowOverOld => {
            map.insert(KEY, FIRST).unwrap();
            both(true);
            evict();
            assert_eq!(map.stored().holds(KEY), Some(FIRST));
        }
        Start::Tombstone => {
            map.insert(KEY, 3).unwrap();
            evict();
            assert_eq!(map.get(&KEY).unwrap(), Some(3));
            both(true);
            assert!(map.remove(&KEY).unwrap());
            assert_eq!((map.stored().holds(KEY), map.slow().holds(KEY)), (Some(3), Some(3)));
        }
    }
    both(false);
    map.stored().left.store(2, SeqCst);
    map.slow().left.store(2, SeqCst);
    map.slow().clock.advance(RETRY);
    let present = !matches!(start, Start::Absent | Start::Tombstone);
    (map, present.then_some(FIRST))
}

fn explore(start: Start, faults: Faults, programs: &[Vec<Op>]) {
    let (map, first) = buffer(start, faults);
    let history = side_by_side(&map, programs);
    rests(&map, &history, first);
}

fn rests(map: &Map, history: &History, first: Option<u64>) {
    map.stored().left.store(0, SeqCst);
    at_rest(map, history, first);
    assert_eq!(map.stored().holds(KEY), None, "a copy was left behind in fast memory");
}

fn all_pairs(faults: Faults) {
    for start in STARTS {
        for (a, first) in operations().into_iter().enumerate() {
            for second in operations().into_iter().skip(a) {
                let programs = [vec![first(1)], vec![second(2)]];
                shuttle::check_random(move || explore(start, faults, &programs), iterations(200));
            }
        }
    }
}

#[test]
fn r9_each_pair_of_operations_is_linearizable() {
    all_pairs(Faults::Never);
}

#[test]
fn r9_each_pair_is_linearizable_while_storage_fails() {
    all_pairs(Faults::Errors);
}

#[test]
fn r9_each_pair_is_linearizable_while_storage_panics() {
    quiet_panics();
    all_pairs(Faults::Panics);
}

#[test]
fn r9_three_callers_with_two_operations_each() {
    quiet_panics();
    for faults in [Faults::Never, Faults::Errors, Faults::Panics] {
        let any = move || {
            let start = STARTS[thread_rng().gen_range(0..STARTS.len())];
            explore(start, faults, &any_programs(3, 2));
        };
        shuttle::check_random(any, iterations(15_000));
        shuttle::check_pct(any, iterations(7_500), 3);
    }
}

/// R9: a stage that is replaced while it is written is stored in its turn: nothing stays in RAM.
#[test]
fn r9_a_replaced_stage_is_stored_again() {
    shuttle::check_random(
        || {
            let (map, first) = buffer(Start::Fast, Faults::Never);
            let history = Arc::new(History::default());
            let threads: Vec<_> = (2..4)
                .map(|tag| {
                    let (map, history) = (Arc::clone(&map), Arc::clone(&history));
                    shuttle::thread::spawn(move || {
                        history.record(Op::Insert(tag), || run(&map, Op::Insert(tag)));
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(map.usage().fast, 0, "a stage was left in RAM");
            assert_eq!(map.usage().spilled.memory, 8);
            rests(&map, &history, first);
        },
        iterations(2_000),
    );
}

/// R9: a value that is spilled can be read at every moment, once from storage for all who read at once.
#[test]
fn r9_a_value_is_there_while_it_is_spilled() {
    shuttle::check_random(
        || {
            let (map, _) = buffer(Start::Fast, Faults::Never);
            let reader = Arc::clone(&map);
            let reader = shuttle::thread::spawn(move || {
                for _ in 0..2 {
                    assert_eq!(run(&reader, Op::Peek), Answer::Value(Some(FIRST)));
                    assert!(reader.contains_key(&KEY));
                }
            });
            assert_eq!(map.evict(), 8);
            reader.join().unwrap();
        },
        iterations(2_000),
    );
}
