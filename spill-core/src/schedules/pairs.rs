//! Every pair of operations on one key, from every state a key can be in, beside an evicter.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use super::history::{Answer, History, Op, updated};
use super::iterations;
use super::store::{Faults, Store};
use crate::{Buffer, BufferBuilder, FastMemory, ManualEvict, MutableMapping, Ram, Result};

pub(super) const KEY: u8 = 1;
pub(super) const FIRST: u64 = 7;

/// After this long whatever failed is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(60);

/// The states in which a key can be found at rest.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    Absent,
    Fast,
    Slow,
    Clean,
    /// A value that is hit without the lock.
    Hot,
    /// A value whose old slow copy could not be removed.
    Stale,
    /// No value, and an old slow copy that could not be removed.
    Tombstone,
}
const STARTS: [Start; 7] =
    [Start::Absent, Start::Fast, Start::Slow, Start::Clean, Start::Hot, Start::Stale, Start::Tombstone];

pub(super) type Shared<F = Ram> = Arc<Buffer<u8, u64, Store, F>>;

/// A buffer whose `KEY` is in state `start`, with up to two faults to come.
pub(super) fn buffer(start: Start, faults: Faults) -> (Shared, Option<u64>) {
    let store = Store::new(faults);
    let clock = Arc::clone(&store.clock);
    let builder = BufferBuilder::weighed_by(|_: &u8, _: &u64| 8).clock(clock);
    let map = Arc::new(builder.over(store).unwrap());
    let first = match start {
        Start::Absent => None,
        Start::Fast | Start::Hot => Some(FIRST),
        Start::Slow | Start::Clean => Some(FIRST),
        Start::Stale => Some(FIRST),
        Start::Tombstone => None,
    };
    match start {
        Start::Absent => {}
        Start::Fast => map.insert(KEY, FIRST).unwrap(),
        Start::Hot => {
            map.insert(KEY, FIRST).unwrap();
            map.heat(&KEY);
        }
        Start::Slow => {
            map.insert(KEY, FIRST).unwrap();
            assert_eq!(map.evict(), 8);
        }
        Start::Clean => {
            map.insert(KEY, FIRST).unwrap();
            assert_eq!(map.evict(), 8);
            assert_eq!(map.get(&KEY).unwrap(), Some(FIRST));
        }
        Start::Stale | Start::Tombstone => {
            map.insert(KEY, 3).unwrap();
            assert_eq!(map.evict(), 8);
            map.slow().refuse_removal(true);
            match start {
                Start::Stale => map.insert(KEY, FIRST).unwrap(),
                _ => assert!(map.remove(&KEY).unwrap()),
            }
            map.slow().refuse_removal(false);
            assert_eq!(map.slow().holds(KEY), Some(3));
        }
    }
    map.slow().left.store(2, SeqCst);
    map.slow().clock.advance(RETRY);
    (map, first)
}

/// Does `op` and says what it answered.
pub(super) fn run<F: FastMemory<u8, u64>>(map: &Shared<F>, op: Op) -> Answer {
    fn answer<T>(result: Result<T>, answer: impl FnOnce(T) -> Answer) -> Answer {
        result.map_or(Answer::Error, answer)
    }
    fn only<T>(mut results: Vec<Result<T>>) -> Result<T> {
        results.swap_remove(0)
    }
    let batch = thread_rng().gen_bool(0.3);
    match op {
        Op::Get if batch => answer(only(map.get_many(&[KEY, KEY])), Answer::Value),
        Op::Insert(tag) if batch => answer(only(map.insert_many(vec![(KEY, tag)])), |()| Answer::Done),
        Op::Remove if batch => answer(only(map.remove_many(&[KEY, KEY])), Answer::Bool),
        Op::Get => answer(map.get(&KEY), Answer::Value),
        Op::Peek => answer(map.peek(&KEY), Answer::Value),
        Op::Contains => Answer::Bool(map.contains_key(&KEY)),
        Op::Insert(tag) => answer(map.insert(KEY, tag), |()| Answer::Done),
        Op::Remove => answer(map.remove(&KEY), Answer::Bool),
        Op::Take => answer(map.take(&KEY), Answer::Value),
        Op::Update(tag) => {
            let change = |value: &mut u64| {
                thread::yield_now();
                *value = updated(*value, tag);
                *value
            };
            answer(map.update(&KEY, change), Answer::Value)
        }
        Op::Upsert(tag) => {
            let change = |value: &mut u64| *value = updated(*value, tag);
            answer(map.upsert(KEY, || tag, change), |()| Answer::Done)
        }
        Op::GetOr(tag) => answer(map.get_or_try_insert_with(KEY, || Ok(tag)), |v| Answer::Value(Some(v))),
    }
}

/// Runs lists of operations beside an evicter, then checks what happened.
fn explore(start: Start, faults: Faults, programs: &[Vec<Op>]) {
    let (map, first) = buffer(start, faults);
    let history = side_by_side(&map, programs);
    at_rest(&map, &history, first);
}

/// Runs each list of operations in a thread of its own beside an evicter.
pub(super) fn side_by_side<F: FastMemory<u8, u64>>(map: &Shared<F>, programs: &[Vec<Op>]) -> Arc<History> {
    let history = Arc::new(History::default());
    let mut threads = Vec::new();
    for program in programs.iter().cloned() {
        let (map, history) = (Arc::clone(map), Arc::clone(&history));
        threads.push(thread::spawn(move || {
            for op in program {
                history.record(op, || run(&map, op));
            }
        }));
    }
    let evicter = Arc::clone(map);
    threads.push(thread::spawn(move || {
        for _ in 0..2 {
            let moved = evicter.evict();
            assert!(moved == 8 || moved == -1, "evict gave {moved}");
        }
        if thread_rng().gen_bool(0.25) {
            _ = evicter.flush();
        }
    }));
    for thread in threads {
        thread.join().unwrap();
    }
    history
}

/// Checks that the buffer at rest agrees with the history and with itself, and leaks nothing.
pub(super) fn at_rest<F: FastMemory<u8, u64>>(map: &Shared<F>, history: &History, first: Option<u64>) {
    map.slow().left.store(0, SeqCst);
    map.slow().clock.advance(RETRY);
    let (contains, len) = (map.contains_key(&KEY), map.len());
    assert_eq!(len, usize::from(contains), "len disagrees with contains_key");
    let last = map.peek(&KEY).unwrap();
    assert_eq!(last.is_some(), contains, "contains_key disagrees with peek");
    history.check(first, last);
    let usage = map.usage();
    assert_eq!(usage.fast + usage.spilled.memory, 8 * len as u64, "{usage:?} with {len} values");
    while map.fast() {
        assert_eq!(map.evict(), 8, "what is fast can be evicted");
    }
    assert_eq!(map.peek(&KEY).unwrap(), last, "evicting changed the value");
    assert_eq!(map.usage().fast, 0);
    assert_eq!(map.remove(&KEY).unwrap(), last.is_some());
    _ = map.evict(); // also tries again what could not be removed
    assert_eq!(map.slow().holds(KEY), None, "a copy was left behind");
    assert!(map.is_idle(), "a slot was left behind");
}

pub(super) fn operations() -> [fn(u64) -> Op; 9] {
    [
        |_| Op::Get,
        |_| Op::Peek,
        |_| Op::Contains,
        Op::Insert,
        |_| Op::Remove,
        |_| Op::Take,
        Op::Update,
        Op::Upsert,
        Op::GetOr,
    ]
}

fn all_pairs(faults: Faults) {
    for start in STARTS {
        for (a, first) in operations().into_iter().enumerate() {
            for second in operations().into_iter().skip(a) {
                let programs = [vec![first(1)], vec![second(2)]];
                shuttle::check_random(move || explore(start, faults, &programs), iterations(300));
            }
        }
    }
}

#[test]
fn each_pair_of_operations_is_linearizable() {
    all_pairs(Faults::Never);
}

#[test]
fn each_pair_is_linearizable_while_storage_fails() {
    all_pairs(Faults::Errors);
}

#[test]
fn each_pair_is_linearizable_while_storage_panics() {
    quiet_panics();
    all_pairs(Faults::Panics);
}

/// Lists of operations drawn by chance, one for each thread.
pub(super) fn any_programs(threads: usize, length: usize) -> Vec<Vec<Op>> {
    let mut tag = 0;
    (0..threads)
        .map(|_| {
            (0..length)
                .map(|_| {
                    tag += 1;
                    operations()[thread_rng().gen_range(0..9)](tag)
                })
                .collect()
        })
        .collect()
}

#[test]
fn three_callers_with_two_operations_each() {
    quiet_panics();
    for faults in [Faults::Never, Faults::Errors, Faults::Panics] {
        let any = move || {
            let start = STARTS[thread_rng().gen_range(0..STARTS.len())];
            explore(start, faults, &any_programs(3, 2));
        };
        shuttle::check_random(any, iterations(20_000));
        shuttle::check_pct(any, iterations(10_000), 3);
    }
}

/// Planned panics are caught; their messages would drown the others.
pub(super) fn quiet_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let planned = info.payload().downcast_ref::<&str>().is_some_and(|m| m.contains("as planned"));
            if !planned {
                usual(info);
            }
        }));
    });
}
