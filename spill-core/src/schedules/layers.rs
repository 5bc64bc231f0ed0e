//! `Cache` and `Sieve`: every pair of operations on one key, with a cache that fails and moves that cannot remove.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use super::history::{Answer, History, Op};
use super::iterations;
use super::pairs::{FIRST, KEY, quiet_panics};
use super::store::{Faults, Store};
use crate::{Cache, MappingExt, MutableMapping, Result, Sieve};

type Layer = dyn MutableMapping<u8, u64>;

static OPERATIONS: [fn(u64) -> Op; 6] =
    [|_| Op::Get, |_| Op::Peek, |_| Op::Contains, Op::Insert, |_| Op::Remove, |_| Op::Take];
static WITHOUT_REMOVE: [fn(u64) -> Op; 5] =
    [|_| Op::Get, |_| Op::Peek, |_| Op::Contains, Op::Insert, |_| Op::Take];

fn run(map: &Layer, op: Op) -> Answer {
    fn answer<T>(result: Result<T>, answer: impl FnOnce(T) -> Answer) -> Answer {
        result.map_or(Answer::Error, answer)
    }
    match op {
        Op::Get => answer(map.get(&KEY), Answer::Value),
        Op::Peek => answer(map.peek(&KEY), Answer::Value),
        Op::Contains => Answer::Bool(map.contains_key(&KEY)),
        Op::Insert(tag) => answer(map.insert(KEY, tag), |()| Answer::Done),
        Op::Remove => answer(map.remove(&KEY), Answer::Bool),
        Op::Take => answer(map.take(&KEY), Answer::Value),
        Op::Update(_) | Op::Upsert(_) | Op::GetOr(_) => unreachable!("these are a buffer's own"),
    }
}

/// Runs each list of operations in a thread of its own and checks that some order explains the answers.
fn explore(map: &Arc<Layer>, first: Option<u64>, programs: &[Vec<Op>]) {
    let history = Arc::new(History::default());
    let threads: Vec<_> = programs
        .iter()
        .cloned()
        .map(|program| {
            let (map, history) = (Arc::clone(map), Arc::clone(&history));
            thread::spawn(move || program.into_iter().for_each(|op| history.record(op, || run(&*map, op))))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let last = map.peek(&KEY).unwrap();
    assert_eq!(map.get(&KEY).unwrap(), last);
    assert_eq!(map.contains_key(&KEY), last.is_some(), "contains_key disagrees with peek");
    assert_eq!(map.len(), usize::from(last.is_some()), "len disagrees with peek");
    assert_eq!(map.keys().len(), map.len(), "a walk disagrees with len");
    history.check(first, last);
}

/// Explores every pair of operations, and lists of them of three threads, on layers that `make` makes.
fn every_pair(make: fn(Option<u64>) -> Arc<Layer>, operations: &'static [fn(u64) -> Op]) {
    for first in [None, Some(FIRST)] {
        for (a, one) in operations.iter().enumerate() {
            for other in &operations[a..] {
                let programs = [vec![one(1)], vec![other(2)]];
                shuttle::check_random(move || explore(&make(first), first, &programs), iterations(300));
            }
        }
    }
    let any = move || {
        let first = thread_rng().gen_bool(0.7).then_some(FIRST);
        let mut tag = 0;
        let mut op = || {
            tag += 1;
            operations[thread_rng().gen_range(0..operations.len())](tag)
        };
        let programs: Vec<Vec<Op>> = (0..3).map(|_| vec![op(), op()]).collect();
        explore(&make(first), first, &programs);
    };
    shuttle::check_random(any, iterations(10_000));
    shuttle::check_pct(any, iterations(5_000), 3);
}

fn cache(first: Option<u64>, faults: Faults) -> Arc<Layer> {
    let (data, copies) = (Store::new(Faults::Never), Store::new(faults));
    let clock = Arc::clone(&data.clock);
    let cached = Cache::new(data, copies).update_on_set(thread_rng().gen_bool(0.5)).with_clock(clock);
    if let Some(first) = first {
        cached.data().insert(KEY, first).unwrap();
        if thread_rng().gen_bool(0.5) {
            cached.get(&KEY).unwrap();
        }
    }
    cached.cache().left.store(3, SeqCst);
    Arc::new(cached)
}

#[test]
fn a_cache_is_linearizable() {
    every_pair(|first| cache(first, Faults::Never), &OPERATIONS);
}

#[test]
fn a_cache_that_fails_is_linearizable() {
    every_pair(|first| cache(first, Faults::Errors), &OPERATIONS);
}

#[test]
fn a_cache_that_panics_is_linearizable() {
    quiet_panics();
    every_pair(|first| cache(first, Faults::Panics), &OPERATIONS);
}

/// Values go where their tag says, so that two inserts of which one follows the other move the key.
fn sieve(first: Option<u64>) -> Sieve<u8, u64, fn(&u8, &u64) -> usize, Store> {
    let mappings = vec![Store::new(Faults::Never), Store::new(Faults::Never)];
    let clock = Arc::clone(&mappings[0].clock);
    let sieve: Sieve<u8, u64, fn(&u8, &u64) -> usize, Store> =
        Sieve::new(mappings, |_, tag| (*tag % 2) as usize);
    if let Some(first) = first {
        sieve.insert(KEY, first).unwrap();
    }
    sieve.with_clock(clock)
}

#[test]
fn a_sieve_is_linearizable() {
    every_pair(|first| Arc::new(sieve(first)), &OPERATIONS);
}

/// Removals fail, so every move leaves its old copy behind. The caller's own removals are left out: they would
/// fail too.
#[test]
fn a_sieve_whose_moves_leave_copies_is_linearizable() {
    fn clingy(first: Option<u64>) -> Arc<Layer> {
        let sieve = sieve(first);
        sieve.mappings().iter().for_each(|mapping| mapping.refuse_removal(true));
        Arc::new(sieve)
    }
    every_pair(clingy, &WITHOUT_REMOVE);
}
