//! `Cache`: what it answers, what it never answers, and what becomes of its failures.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use spill_core::conformance::contract::{Trial, failed_calls_change_nothing};
use spill_core::conformance::{Fault, Faulty, Gate, Memory, Operation, Plan, Ready, model};
use spill_core::{
    BufferBuilder, Cache, Compose, Frames, Lru, ManualClock, MutableMapping, Result, conformance_tests,
};
use support::log::Log;
use support::{is_closed, is_io, quiet_injected_panics, sorted_keys};

type Side = Faulty<u64, u64, Memory<u64, u64>>;
type Cached = Cache<u64, u64, Side, Side>;

fn side() -> Side {
    Faulty::new(Memory::new())
}

fn cached() -> Cached {
    Cache::new(side(), side())
}

/// Both ways of writing.
fn both() -> [Cached; 2] {
    [cached(), cached().update_on_set(false)]
}

/// Every way in which a call can go wrong.
fn faults() -> [Fault<u64>; 6] {
    [
        Fault::io(),
        Fault::io().after(),
        Fault::full(),
        Fault::full().after(),
        Fault::panic("injected"),
        Fault::panic("injected").after(),
    ]
}

fn frames_in(target: u64) -> Lru<u64, Frames> {
    BufferBuilder::new().target(target).alone().unwrap()
}

conformance_tests!(over_memory, || Cache::new(Memory::<u64, Frames>::new(), Memory::new()));
conformance_tests!(losing_pairs, || Cache::new(Memory::new(), frames_in(2000)));
conformance_tests!(written_past, || Cache::new(Memory::new(), frames_in(2000)).update_on_set(false));
conformance_tests!(over_a_buffer, || {
    let data = BufferBuilder::new().target(2000).over(Memory::<u64, Frames>::new()).unwrap();
    data.cached(frames_in(4000))
});
conformance_tests!(below_a_buffer, || {
    Memory::new().cached(frames_in(4000)).buffered(BufferBuilder::new().target(2000)).unwrap()
});
conformance_tests!(over_a_func, || {
    let codec = (
        |n: &u64| -> Result<String> { Ok(n.to_string()) },
        |text: String| -> Result<u64> { Ok(text.parse().unwrap_or(u64::MAX)) },
    );
    Memory::<u64, String>::new().coded(codec).cached(Memory::new())
});
conformance_tests!(with_a_cache_that_fails, || {
    let cache = side();
    cache.inject(Plan::every(3).on(Operation::WRITES), Fault::io());
    cache.inject(Plan::every(4).on(Operation::READS), Fault::io());
    Cache::new(Memory::new(), cache)
});

/// Z18: a write goes to the data and to the cache, or only to the data where it is told so; a read fills it.
#[test]
fn writes_go_through() {
    let map = cached();
    map.insert(1, 10).unwrap();
    assert_eq!((map.data().get(&1).unwrap(), map.cache().get(&1).unwrap()), (Some(10), Some(10)));
    map.insert(1, 11).unwrap();
    assert_eq!(map.get(&1).unwrap(), Some(11));
    assert_eq!((map.data().calls(Operation::Get), map.cache().calls(Operation::Get)), (1, 2));
    assert_eq!((map.stats().hits, map.stats().misses), (1, 0));

    let map = cached().update_on_set(false);
    map.insert(1, 10).unwrap();
    assert_eq!(map.cache().len(), 0);
    assert_eq!(map.peek(&1).unwrap(), Some(10));
    assert_eq!(map.cache().len(), 0, "a peek fills nothing");
    assert_eq!(map.get(&1).unwrap(), Some(10));
    assert_eq!(map.cache().peek(&1).unwrap(), Some(10));
    map.insert(1, 11).unwrap();
    assert_eq!(map.cache().len(), 0, "a write drops the old value");
    assert_eq!(map.get(&1).unwrap(), Some(11));
    assert_eq!((map.stats().hits, map.stats().misses), (0, 3));
}

/// Z18: what the data held before is there.
#[test]
fn data_that_is_there_before_is_known() {
    let data = side();
    (0..5).for_each(|key| data.insert(key, key + 10).unwrap());
    let map = Cache::new(data, side());
    assert_eq!((map.len(), map.usage().count), (5, 5));
    assert!(map.contains_key(&3));
    assert_eq!(sorted_keys(&map), [0, 1, 2, 3, 4]);
    assert_eq!(
        map.get_many(&[3, 9, 3]).into_iter().map(Result::unwrap).collect::<Vec<_>>(),
        [Some(13), None, Some(13)]
    );
    assert_eq!(map.cache().len(), 1, "what was read is cached");
    assert_eq!(map.take(&3).unwrap(), Some(13));
    assert!(map.remove(&4).unwrap());
    assert_eq!(map.data().len(), 3);
    assert_eq!(map.get(&3).unwrap(), None);
}

/// Z18: a write that fails leaves what the data has, and no cached value beside it.
#[test]
fn a_failed_write_leaves_no_stale_entry() {
    quiet_injected_panics();
    type Call = fn(&Cached) -> Result<()>;
    let calls: [Call; 5] = [
        |map| map.insert(1, 11),
        |map| map.insert_many(vec![(1, 11)]).remove(0),
        |map| map.remove(&1).map(drop),
        |map| map.remove_many(&[1]).remove(0).map(drop),
        |map| map.take(&1).map(drop),
    ];
    for fault in faults() {
        for call in calls {
            for map in both() {
                map.insert(1, 10).unwrap();
                map.get(&1).unwrap();
                map.data().inject(Plan::always().on(Operation::WRITES), fault.clone());
                call(&map).unwrap_err();
                assert_eq!(map.cache().len(), 0);
                map.data().heal();
                let held = map.data().peek(&1).unwrap();
                for _ in 0..2 {
                    assert_eq!(map.get(&1).unwrap(), held);
                }
                assert_eq!(map.len(), usize::from(held.is_some()));
            }
        }
    }
}

#[test]
fn a_failing_cache_fails_no_call() {
    quiet_injected_panics();
    for fault in faults() {
        for every in [1, 2, 3] {
            for map in both() {
                map.cache().inject(Plan::every(every), fault.clone());
                let mut reference = model::Reference::new(&Ready);
                for op in model::ops(every, 600, 12) {
                    reference.step(&op, &map).unwrap();
                }
                assert_eq!(reference.errors(), 0);
                assert!(map.stats().failures > 20, "{}", map.stats().failures);
                map.cache().heal();
                map.flush().unwrap();
                reference.agrees(&map).unwrap();
            }
        }
    }
}

#[test]
fn a_failing_cache_is_logged_once_in_ten_seconds_for_one_cause() {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let clock = Arc::new(ManualClock::new());
        let map = cached().with_clock(clock.clone());
        map.cache().inject(Plan::always().on(Operation::READS), Fault::io());
        for _ in 0..5 {
            map.get(&1).unwrap();
            clock.advance(Duration::from_millis(1999));
        }
        let messages = log.take();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].contains("injected fault"), "{messages:?}");
        clock.advance(Duration::from_secs(1));
        map.get(&1).unwrap();
        assert_eq!(log.take().len(), 1);
        assert_eq!(map.stats().failures, 6);
    });
}

/// An old value that the cache does not let go of is never served, neither after a write nor after a removal.
#[test]
fn a_value_that_cannot_be_invalidated_is_not_served() {
    quiet_injected_panics();
    for fault in [Fault::io(), Fault::panic("injected")] {
        for map in both() {
            map.insert(1, 10).unwrap();
            map.get(&1).unwrap();
            map.cache().inject(Plan::always().on(Operation::WRITES), fault.clone());
            map.insert(1, 11).unwrap();
            assert_eq!(map.cache().peek(&1).unwrap(), Some(10), "the cache kept the old value");
            for read in [Cached::get, Cached::peek, Cached::get] {
                assert_eq!(read(&map, &1).unwrap(), Some(11));
            }
            assert_eq!(map.get_many(&[1]).remove(0).unwrap(), Some(11));
            assert!(map.remove(&1).unwrap());
            assert_eq!(map.cache().peek(&1).unwrap(), Some(10), "it still has it");
            assert_eq!((map.get(&1).unwrap(), map.len()), (None, 0));

            map.cache().heal();
            assert_eq!(map.get(&1).unwrap(), None, "that it works again does not make the value right");
            map.flush().unwrap();
            assert_eq!(map.cache().len(), 0, "what it would not let go of is removed when it can be");
            map.insert(1, 12).unwrap();
            map.get(&1).unwrap();
            assert_eq!(map.cache().peek(&1).unwrap(), Some(12), "and the key is cached again");
        }
    }
}

/// The cache has an old value that it did not let go of; a read puts the present one in its place.
#[test]
fn a_read_makes_a_stale_entry_good() {
    let map = cached().update_on_set(false);
    map.insert(1, 10).unwrap();
    map.get(&1).unwrap();
    map.cache().inject(Plan::nth(1).on([Operation::Remove]), Fault::io());
    map.insert(1, 11).unwrap();
    assert_eq!(map.cache().peek(&1).unwrap(), Some(10));
    assert_eq!(map.get(&1).unwrap(), Some(11));
    assert_eq!(map.cache().peek(&1).unwrap(), Some(11));
    let hits = map.stats().hits;
    assert_eq!(map.get(&1).unwrap(), Some(11));
    assert_eq!(map.stats().hits, hits + 1);
}

/// What a slow reader read does not become the cached value once the key was written.
#[test]
fn a_slow_reader_never_caches_an_old_value() {
    type Call = fn(&Cached);
    let writes: [(Call, Option<u64>); 4] = [
        (|map| map.insert(1, 11).unwrap(), Some(11)),
        (|map| map.insert_many(vec![(1, 11)]).remove(0).unwrap(), Some(11)),
        (|map| assert!(map.remove(&1).unwrap()), None),
        (|map| assert_eq!(map.take(&1).unwrap(), Some(10)), None),
    ];
    let reads: [fn(&Cached) -> Option<u64>; 2] =
        [|map| map.get(&1).unwrap(), |map| map.get_many(&[1]).remove(0).unwrap()];
    for (write, after) in writes {
        for read in reads {
            for map in both() {
                map.data().insert(1, 10).unwrap();
                let gate = Gate::closed();
                map.data().inject(Plan::nth(1).on([Operation::Get]), Fault::block(&gate).after());
                thread::scope(|scope| {
                    let open = gate.open_on_drop();
                    let reader = scope.spawn(|| read(&map));
                    gate.wait_for(1);
                    write(&map);
                    assert_eq!(map.peek(&1).unwrap(), after);
                    drop(open);
                    assert_eq!(reader.join().unwrap(), Some(10), "it asked before the write");
                });
                assert_ne!(map.cache().peek(&1).unwrap(), Some(10));
                assert_eq!(map.get(&1).unwrap(), after);
            }
        }
    }
}

/// While a write waits for the data, readers do not wait, and cache nothing.
#[test]
fn readers_do_not_wait_for_a_write_and_keep_nothing_of_it() {
    for map in both() {
        map.insert(1, 10).unwrap();
        let gate = Gate::closed();
        map.data().inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&gate));
        thread::scope(|scope| {
            let open = gate.open_on_drop();
            let writer = scope.spawn(|| map.insert(1, 11));
            gate.wait_for(1);
            assert_eq!(map.get(&1).unwrap(), Some(10));
            assert_eq!(map.peek(&1).unwrap(), Some(10));
            assert_eq!(map.cache().len(), 0);
            assert!(map.contains_key(&1));
            assert_eq!(map.get(&2).unwrap(), None);
            map.insert(2, 20).unwrap(); // other keys are not in its way
            drop(open);
            writer.join().unwrap().unwrap();
        });
        assert_eq!(map.get(&1).unwrap(), Some(11));
    }
}

/// A write that comes while a reader fills the cache waits for it, and what it wrote is cached at last.
#[test]
fn a_write_during_the_filling_of_the_cache_wins() {
    for map in both() {
        map.data().insert(1, 10).unwrap();
        let gate = Gate::closed();
        map.cache().inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&gate));
        thread::scope(|scope| {
            let open = gate.open_on_drop();
            let reader = scope.spawn(|| map.get(&1).unwrap());
            gate.wait_for(1);
            let writer = scope.spawn(|| map.insert(1, 11).unwrap());
            drop(open);
            assert_eq!(reader.join().unwrap(), Some(10));
            writer.join().unwrap();
        });
        assert_ne!(map.cache().peek(&1).unwrap(), Some(10));
        assert_eq!(map.get(&1).unwrap(), Some(11));
    }
}

/// Writers and readers of few keys at once: at rest the cache holds nothing that the data does not.
#[test]
fn cache_and_data_agree_after_many_threads() {
    const KEYS: u64 = 3;
    quiet_injected_panics();
    for map in both() {
        map.cache().inject(Plan::every(5).on([Operation::Remove]), Fault::io());
        map.cache().inject(Plan::every(7).on([Operation::Insert]), Fault::panic("injected").after());
        map.data().inject(Plan::every(11).on(Operation::WRITES), Fault::io());
        thread::scope(|scope| {
            for n in 0..4 {
                let map = &map;
                scope.spawn(move || {
                    for round in 0..300 * support::long_run(20) {
                        let key = (round + n) % KEYS;
                        match (round + n) % 5 {
                            0 => _ = map.insert(key, round * 4 + n),
                            1 => _ = map.remove(&key),
                            _ => _ = map.get(&key).unwrap(),
                        }
                    }
                });
            }
        });
        map.data().heal();
        for key in 0..KEYS {
            let held = map.data().peek(&key).unwrap();
            assert_eq!(map.peek(&key).unwrap(), held);
            assert_eq!(map.get(&key).unwrap(), held);
        }
        map.cache().heal();
        map.flush().unwrap();
        for key in sorted_keys(map.cache()) {
            assert_eq!(map.cache().peek(&key).unwrap(), map.data().peek(&key).unwrap());
        }
    }
}

#[test]
fn calls_that_the_data_fails_change_nothing() {
    for map in both() {
        failed_calls_change_nothing(&Trial::new(&map, &Ready), &|failing| {
            map.data().heal();
            if failing {
                map.data().inject(Plan::every(2), Fault::io());
            }
        });
    }
}

/// Z24: flushing and closing reach both mappings, whatever one of them says.
#[test]
fn flush_and_close_reach_both() {
    let map = cached();
    map.insert(1, 10).unwrap();
    map.flush().unwrap();
    assert_eq!((map.data().calls(Operation::Flush), map.cache().calls(Operation::Flush)), (1, 1));
    map.cache().inject(Plan::nth(1).on([Operation::Flush]), Fault::io());
    map.flush().unwrap();
    map.data().inject(Plan::nth(1).on([Operation::Flush]), Fault::io());
    assert!(is_io(&map.flush().unwrap_err()), "the data's failure is the caller's");
    assert_eq!((map.data().calls(Operation::Flush), map.cache().calls(Operation::Flush)), (3, 3));

    map.data().inject(Plan::nth(1).on([Operation::Close]), Fault::io());
    assert!(is_io(&map.close().unwrap_err()));
    assert_eq!((map.data().calls(Operation::Close), map.cache().calls(Operation::Close)), (1, 1));
    map.close().unwrap();
    assert!(is_closed(&map.insert(1, 11).unwrap_err()));
}
