//! `Sieve`: where pairs go, how they move, and what becomes of a move that fails.
#![expect(clippy::unwrap_used, reason = "tests")]

#[macro_use]
#[path = "support/forwarded.rs"]
mod forwarded;
mod support;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use spill_core::conformance::contract::{Trial, failed_calls_change_nothing};
use spill_core::conformance::{Fault, Faulty, Gate, Memory, Operation, Plan, Ready};
use spill_core::{
    BufferBuilder, Compose, ErrorKind, Frames, Key, ManualClock, MappingExt, MutableMapping, Result, Sieve,
    SpilledSize, Usage, Value, conformance_tests,
};
use support::log::Log;
use support::{
    Slow, Val, is_closed, is_io, is_panicked, locked, quiet_injected_panics, slow, sorted_keys, val,
};

/// Which of three mappings a value belongs to is its id, modulo 10; from 3 on there is none.
fn by_id(_: &u64, value: &Val) -> usize {
    (value.id % 10) as usize
}

type Sieved = Sieve<u64, Val, fn(&u64, &Val) -> usize, Slow>;

fn sieve() -> Sieved {
    Sieve::new(vec![slow(), slow(), slow()], by_id)
}

/// The value that belongs to mapping `index`, in some version.
fn version(index: u64, version: u64) -> Val {
    val(version * 10 + index, 100 + version)
}

/// The indices of the mappings that hold `key`, asked behind the sieve's back.
fn holders(map: &Sieved, key: u64) -> Vec<usize> {
    let held = |index: &usize| map.mappings()[*index].inner().held(key).is_some();
    (0..map.mappings().len()).filter(held).collect()
}

/// Everything the sieve says of its one key 1.
#[track_caller]
fn holds_one(map: &Sieved, value: Val) {
    for _ in 0..2 {
        assert_eq!(map.get(&1).unwrap(), Some(value));
        assert_eq!(map.peek(&1).unwrap(), Some(value));
        assert_eq!(map.get_many(&[1, 2]).remove(0).unwrap(), Some(value));
    }
    assert!(map.contains_key(&1));
    assert_eq!((map.len(), map.keys()), (1, vec![1]));
    let usage = map.usage();
    assert_eq!((usage.count, usage.spilled), (1, support::record(value)));
    assert_eq!(map.stored_size(&1), Some(support::record(value)));
}

#[track_caller]
fn holds_nothing(map: &Sieved) {
    assert_eq!(map.get(&1).unwrap(), None);
    assert_eq!(map.get_many(&[1]).remove(0).unwrap(), None);
    assert!(!map.contains_key(&1));
    assert_eq!((map.len(), map.keys()), (0, vec![]));
    assert_eq!(map.usage(), Usage::default());
    assert_eq!(map.stored_size(&1), None);
}

fn faults() -> [Fault<Val>; 6] {
    [
        Fault::io(),
        Fault::io().after(),
        Fault::full(),
        Fault::full().after(),
        Fault::panic("injected"),
        Fault::panic("injected").after(),
    ]
}

/// Routes that change with each new value of a key.
fn scattered<K: Key, V: Value>(
    number: impl Fn(&V) -> u64 + Send + Sync + 'static,
) -> impl Fn(&K, &V) -> usize + Send + Sync + 'static {
    move |_: &K, value: &V| (number(value) % 2) as usize
}

fn bytes_of(frames: &Frames) -> u64 {
    frames.iter().map(|frame| frame.first().map_or(1, |byte| u64::from(*byte))).sum()
}

conformance_tests!(over_memories, || {
    Sieve::new(vec![Memory::<u64, Frames>::new(), Memory::new()], scattered(bytes_of))
});
conformance_tests!(of_numbers, || {
    Sieve::new(vec![Memory::<u64, u64>::new(), Memory::new()], scattered(|n: &u64| *n))
});
conformance_tests!(by_name, || {
    let length = |text: &String| text.len() as u64;
    Sieve::new(vec![Memory::<String, String>::new(), Memory::new()], scattered(length))
});
conformance_tests!(of_different_mappings, || {
    let buffer = BufferBuilder::new().target(2000).over(Memory::<u64, Frames>::new()).unwrap();
    let mappings: Vec<Arc<dyn MutableMapping<u64, Frames>>> = vec![Arc::new(buffer), Arc::new(Memory::new())];
    Sieve::new(mappings, scattered(bytes_of))
});
conformance_tests!(below_a_buffer, || {
    let sieve = Sieve::new(vec![Memory::<u64, Frames>::new(), Memory::new()], scattered(bytes_of));
    sieve.buffered(BufferBuilder::new().target(2000).writers(2)).unwrap()
});
conformance_tests!(that_cannot_remove, || {
    let clingy = || {
        let memory = Faulty::new(Memory::<u64, u64>::new());
        memory.inject(Plan::every(2).on([Operation::Remove]), Fault::full());
        memory
    };
    // Removals that the caller asked for are asked again: only those of moves fail.
    Retrying(Sieve::new(vec![clingy(), clingy()], scattered(|n: &u64| *n)))
});

/// Asks for a failed removal once more.
struct Retrying<M>(M);

impl<M: MutableMapping<u64, u64>> MutableMapping<u64, u64> for Retrying<M> {
    fn get(&self, key: &u64) -> Result<Option<u64>> {
        self.0.get(key)
    }
    fn insert(&self, key: u64, value: u64) -> Result<()> {
        self.0.insert(key, value)
    }
    fn remove(&self, key: &u64) -> Result<bool> {
        (0..20).map(|_| self.0.remove(key)).find(Result::is_ok).unwrap_or_else(|| self.0.remove(key))
    }
    fn take(&self, key: &u64) -> Result<Option<u64>> {
        self.0.take(key)
    }
    fn contains_key(&self, key: &u64) -> bool {
        self.0.contains_key(key)
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        self.0.for_each_key(f);
    }
    fn flush(&self) -> Result<()> {
        self.0.flush()
    }
    fn close(&self) -> Result<()> {
        self.0.close()
    }
}

/// Z22: a pair goes where the selector says, and moves when it says otherwise.
#[test]
fn pairs_go_where_they_belong_and_move_when_that_changes() {
    let map = sieve();
    for to in [0, 1, 1, 2, 0] {
        map.insert(1, version(to, 7)).unwrap();
        assert_eq!(holders(&map, 1), [to as usize]);
        holds_one(&map, version(to, 7));
    }
    assert_eq!(map.take(&1).unwrap(), Some(version(0, 7)));
    holds_nothing(&map);
    map.insert(1, version(2, 8)).unwrap();
    assert!(map.remove(&1).unwrap());
    assert!(!map.remove(&1).unwrap());
    holds_nothing(&map);
}

/// Z22: when the old copy is removed the new one is written already.
#[test]
fn the_new_copy_is_written_before_the_old_one_is_removed() {
    let new = Arc::new(slow());
    let old = Arc::new(slow());
    let written_first = Arc::new(AtomicBool::new(false));
    let (seen, to) = (Arc::clone(&written_first), Arc::clone(&new));
    let look = move || seen.store(to.inner().held(1) == Some(version(1, 2)), SeqCst);
    old.inject(Plan::always().on([Operation::Remove]), Fault::delay(look));
    let map = Sieve::new(vec![Arc::clone(&old), Arc::clone(&new)], by_id);
    map.insert(1, version(0, 1)).unwrap();
    map.insert(1, version(1, 2)).unwrap();
    assert!(written_first.load(SeqCst));
    assert_eq!(old.inner().held(1), None);
}

/// Z22: a move whose write fails leaves the old value, readable and right, and nothing of the new one.
#[test]
fn a_move_that_cannot_write_keeps_the_old_value() {
    quiet_injected_panics();
    type Call = fn(&Sieved) -> Result<()>;
    let calls: [Call; 2] =
        [|map| map.insert(1, version(1, 2)), |map| map.insert_many(vec![(1, version(1, 2))]).remove(0)];
    for fault in faults() {
        for call in calls {
            let map = sieve();
            map.insert(1, version(0, 1)).unwrap();
            map.mappings()[1].inject(Plan::nth(1).on([Operation::Insert]), fault.clone());
            call(&map).unwrap_err();
            assert_eq!(holders(&map, 1), [0]);
            holds_one(&map, version(0, 1));

            // The same when what the failed write left cannot be removed either.
            map.mappings()[1].inject(Plan::nth(1).on([Operation::Insert]), fault.clone());
            map.mappings()[1].inject(Plan::nth(1).on([Operation::Remove]), Fault::io());
            call(&map).unwrap_err();
            holds_one(&map, version(0, 1));
            map.mappings()[1].heal();
            map.flush().unwrap();
            assert_eq!(holders(&map, 1), [0]);
            holds_one(&map, version(0, 1));
            call(&map).unwrap();
            holds_one(&map, version(1, 2));
        }
    }
}

/// A first insert that fails leaves nothing that counts, though storage may have kept it.
#[test]
fn an_insert_that_fails_half_way_is_no_key() {
    let map = sieve();
    map.mappings()[2].inject(Plan::always().on([Operation::Insert]), Fault::io().after());
    map.mappings()[2].inject(Plan::always().on([Operation::Remove]), Fault::io());
    map.insert(1, version(2, 1)).unwrap_err();
    assert_eq!(holders(&map, 1), [2], "storage kept what it refused");
    holds_nothing(&map);
    assert!(!map.remove(&1).unwrap());
    assert_eq!(map.take(&1).unwrap(), None);
    map.mappings()[2].heal();
    map.flush().unwrap();
    assert_eq!(holders(&map, 1), []);
    map.insert(1, version(2, 2)).unwrap();
    holds_one(&map, version(2, 2));
}

/// Z22: a move that cannot remove the old copy is well all the same; the copy never shows, and goes later.
#[test]
fn a_left_over_copy_never_shows_and_goes_later() {
    quiet_injected_panics();
    type Last = fn(&Sieved);
    let lasts: [Last; 4] = [
        |map| map.flush().unwrap(),
        |map| map.insert(1, version(1, 3)).unwrap(),
        |map| assert!(map.remove(&1).unwrap()),
        |map| assert_eq!(map.take(&1).unwrap(), Some(version(1, 2))),
    ];
    for fault in [Fault::io(), Fault::full(), Fault::panic("injected")] {
        for last in lasts {
            let map = sieve();
            map.insert(1, version(0, 1)).unwrap();
            map.mappings()[0].inject(Plan::always().on([Operation::Remove]), fault.clone());
            map.insert(1, version(1, 2)).unwrap();
            assert_eq!(holders(&map, 1), [0, 1]);
            holds_one(&map, version(1, 2));
            assert!(map.stats().failures > 0);
            map.flush().unwrap();
            assert_eq!(holders(&map, 1), [0, 1], "it still cannot be removed");
            holds_one(&map, version(1, 2));
            map.mappings()[0].heal();
            last(&map);
            assert!(map.mappings()[0].inner().held(1).is_none());
            assert_eq!(map.len(), holders(&map, 1).len());
        }
    }
}

/// A key that is removed while its old copy cannot be is gone: the copy does not bring it back.
#[test]
fn a_removed_key_does_not_come_back_from_a_left_over_copy() {
    let map = sieve();
    map.insert(1, version(0, 1)).unwrap();
    map.mappings()[0].inject(Plan::always().on([Operation::Remove]), Fault::io());
    map.insert(1, version(1, 2)).unwrap();
    assert!(map.remove(&1).unwrap());
    assert_eq!(holders(&map, 1), [0]);
    holds_nothing(&map);
    assert!(!map.remove(&1).unwrap());
    // It may go back to where the copy lies.
    map.insert(1, version(0, 3)).unwrap();
    holds_one(&map, version(0, 3));
    assert_eq!(holders(&map, 1), [0]);
}

#[test]
fn a_failing_removal_is_logged_once_in_ten_seconds() {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let clock = Arc::new(ManualClock::new());
        let map = sieve().with_clock(clock.clone());
        map.mappings()[0].inject(Plan::always().on([Operation::Remove]), Fault::io());
        for key in 0..5 {
            map.insert(key, version(0, 1)).unwrap();
            map.insert(key, version(1, 1)).unwrap();
            clock.advance(Duration::from_millis(1999));
        }
        assert_eq!((log.take().len(), map.stats().failures), (1, 5));
    });
}

/// Z22: a selector that names no mapping, or panics, is an error, and the old value stays.
#[test]
fn an_unknown_mapping_is_an_error_and_the_old_value_stays() {
    quiet_injected_panics();
    let select = |_: &u64, value: &Val| if value.id == 99 { panic!("injected") } else { value.id as usize };
    let map = Sieve::new(vec![slow(), slow()], select);
    map.insert(1, val(1, 10)).unwrap();
    let error = map.insert(1, val(2, 10)).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Config { key, value, .. } if key == "selector" && value == "2")
    );
    assert!(is_panicked(&map.insert(1, val(99, 10)).unwrap_err()));
    let results = map.insert_many(vec![(1, val(7, 1)), (2, val(0, 1)), (1, val(99, 1)), (3, val(1, 1))]);
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false, true]);
    assert_eq!(map.get(&1).unwrap(), Some(val(1, 10)));
    assert_eq!(sorted_keys(&map), [1, 2, 3]);
}

/// Z22: what the mappings held before is there; of a key that two of them hold, the first one's value is it.
#[test]
fn what_the_mappings_hold_is_known() {
    let (a, b, c) = (slow(), slow(), slow());
    a.insert(1, val(10, 1)).unwrap();
    b.insert(2, val(21, 2)).unwrap();
    b.insert(3, val(31, 3)).unwrap();
    c.insert(3, val(32, 4)).unwrap();
    c.insert(4, val(42, 5)).unwrap();
    let map: Sieved = Sieve::new(vec![a, b, c], by_id);
    assert_eq!((map.len(), sorted_keys(&map)), (4, vec![1, 2, 3, 4]));
    assert_eq!(map.get(&3).unwrap(), Some(val(31, 3)));
    assert_eq!(map.usage().spilled, support::records([val(10, 1), val(21, 2), val(31, 3), val(42, 5)]));
    // One that moves from where it was found.
    map.insert(4, val(40, 6)).unwrap();
    assert_eq!(holders(&map, 4), [0]);
    assert!(map.remove(&3).unwrap());
    assert_eq!(holders(&map, 3), []);
    assert_eq!(map.len(), 3);
}

/// While the new copy is being written, readers get the old value, and the key counts once.
#[test]
fn a_key_that_moves_is_read_from_its_old_place_until_it_is_written() {
    let map = sieve();
    map.insert(1, version(0, 1)).unwrap();
    for after in [false, true] {
        let gate = Gate::closed();
        let held = Fault::block(&gate);
        let held = if after { held.after() } else { held };
        map.mappings()[1].inject(Plan::nth(1).on([Operation::Insert]), held);
        thread::scope(|scope| {
            let open = gate.open_on_drop();
            let mover = scope.spawn(|| map.insert(1, version(1, 2)).unwrap());
            gate.wait_for(1);
            assert_eq!(map.get(&1).unwrap(), Some(version(0, 1)));
            assert_eq!(map.peek(&1).unwrap(), Some(version(0, 1)));
            assert_eq!((map.len(), map.keys()), (1, vec![1]));
            assert_eq!(map.usage().spilled, support::record(version(0, 1)));
            map.insert(2, version(1, 1)).unwrap(); // others are not in its way
            map.remove(&2).unwrap();
            drop(open);
            mover.join().unwrap();
        });
        holds_one(&map, version(1, 2));
        map.insert(1, version(0, 1)).unwrap();
    }
}

/// While the old copy is being removed, readers get the new value, and the key counts once.
#[test]
fn a_key_that_moves_is_read_from_its_new_place_once_it_is_written() {
    let map = sieve();
    map.insert(1, version(0, 1)).unwrap();
    let gate = Gate::closed();
    map.mappings()[0].inject(Plan::nth(1).on([Operation::Remove]), Fault::block(&gate));
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let mover = scope.spawn(|| map.insert(1, version(1, 2)).unwrap());
        gate.wait_for(1);
        holds_one(&map, version(1, 2));
        drop(open);
        mover.join().unwrap();
    });
    holds_one(&map, version(1, 2));
    assert_eq!(holders(&map, 1), [1]);
}

/// A reader that was about to read where the key no longer is follows it.
#[test]
fn a_reader_follows_a_key_that_moves_away() {
    type Read = fn(&Sieved) -> Option<Val>;
    let reads: [(Operation, Read); 3] = [
        (Operation::Get, |map| map.get(&1).unwrap()),
        (Operation::Peek, |map| map.peek(&1).unwrap()),
        (Operation::Get, |map| map.get_many(&[1]).remove(0).unwrap()),
    ];
    for (operation, read) in reads {
        for removed in [false, true] {
            let map = sieve();
            map.insert(1, version(0, 1)).unwrap();
            let gate = Gate::closed();
            map.mappings()[0].inject(Plan::nth(1).on([operation]), Fault::block(&gate));
            thread::scope(|scope| {
                let open = gate.open_on_drop();
                let reader = scope.spawn(|| read(&map));
                gate.wait_for(1);
                map.insert(1, version(1, 2)).unwrap();
                if removed {
                    map.remove(&1).unwrap();
                }
                drop(open);
                assert_eq!(reader.join().unwrap(), (!removed).then_some(version(1, 2)));
            });
        }
    }
}

/// A reader that comes late to where a key was, and finds there the value of a move that has not ended, does not
/// give it before that ends: else the next reader would be given an older one.
#[test]
fn a_late_reader_does_not_see_a_move_before_its_time() {
    type Read = fn(&Sieved) -> Option<Val>;
    let reads: [Read; 2] = [|map| map.get(&1).unwrap(), |map| map.get_many(&[1]).remove(0).unwrap()];
    for read in reads {
        let map = sieve();
        map.insert(1, version(1, 1)).unwrap();
        let (reading, writing) = (Gate::closed(), Gate::closed());
        map.mappings()[1].inject(Plan::nth(1).on([Operation::Get]), Fault::block(&reading));
        thread::scope(|scope| {
            let (read_on, write_on) = (reading.open_on_drop(), writing.open_on_drop());
            let reader = scope.spawn(|| read(&map));
            reading.wait_for(1);
            map.insert(1, version(0, 2)).unwrap(); // away, and
            map.mappings()[1].inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&writing).after());
            let mover = scope.spawn(|| map.insert(1, version(1, 3)).unwrap()); // on its way back
            writing.wait_for(1);
            drop(read_on);
            let early = (0..10_000).any(|_| {
                thread::yield_now();
                reader.is_finished()
            });
            assert_eq!(map.get(&1).unwrap(), Some(version(0, 2)));
            drop(write_on);
            mover.join().unwrap();
            let newest = if early { version(0, 2) } else { version(1, 3) };
            let read = reader.join().unwrap();
            assert!(
                read == Some(version(0, 2)) || read == Some(newest),
                "{read:?}, which others do not see yet"
            );
        });
    }
}

/// A key that moves from a mapping that a walk has yet to come to, into one that it has been at, is given.
#[test]
fn a_walk_gives_a_key_that_moves_behind_it() {
    let map = sieve();
    map.insert(1, version(1, 1)).unwrap();
    map.insert(2, version(1, 1)).unwrap();
    let gate = Gate::closed();
    map.mappings()[1].inject(Plan::nth(1).on([Operation::ForEachKey]), Fault::block(&gate));
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let walker = scope.spawn(|| sorted_keys(&map));
        gate.wait_for(1);
        map.insert(1, version(0, 2)).unwrap();
        drop(open);
        assert_eq!(walker.join().unwrap(), [1, 2]);
    });
}

/// Writers of one key whose routes differ: the key lies in one mapping afterwards, with that one's value.
#[test]
fn writers_that_disagree_leave_one_copy() {
    let map = sieve();
    thread::scope(|scope| {
        for n in 0..4 {
            let map = &map;
            scope.spawn(move || {
                for round in 0..200 * support::long_run(20) {
                    let value = version((round + n) % 3, round * 4 + n);
                    match round % 7 {
                        5 => _ = map.remove(&1).unwrap(),
                        6 => {
                            map.insert_many(vec![(1, value), (2, value)]).into_iter().for_each(Result::unwrap)
                        }
                        _ => map.insert(1, value).unwrap(),
                    }
                    if let Some(found) = map.get(&1).unwrap() {
                        assert!(found.id % 10 < 3);
                    }
                }
            });
        }
    });
    for key in [1, 2] {
        let at = holders(&map, key);
        let value = map.get(&key).unwrap();
        assert_eq!(at, value.map(|value| by_id(&key, &value)).into_iter().collect::<Vec<_>>());
    }
    assert_eq!(map.len(), map.keys().len());
}

#[test]
fn calls_that_storage_fails_change_nothing() {
    let side = || Arc::new(Faulty::new(Memory::<u64, u64>::new()));
    let sides = [side(), side()];
    let map = Sieve::new(sides.to_vec(), scattered(|n: &u64| *n));
    failed_calls_change_nothing(&Trial::new(&map, &Ready), &|failing| {
        for side in &sides {
            side.heal();
            if failing {
                side.inject(Plan::every(2), Fault::io());
            }
        }
    });
}

/// Records how the batches it is given are cut.
#[derive(Default)]
struct Batches {
    inner: Memory<u64, Val>,
    sizes: Mutex<Vec<usize>>,
}

impl MutableMapping<u64, Val> for Batches {
    forwarded!(u64, Val);
    fn get_many(&self, keys: &[u64]) -> Vec<Result<Option<Val>>> {
        locked(&self.sizes).push(keys.len());
        keys.iter().map(|key| self.get(key)).collect()
    }
    fn insert_many(&self, pairs: Vec<(u64, Val)>) -> Vec<Result<()>> {
        locked(&self.sizes).push(pairs.len());
        pairs.into_iter().map(|(key, value)| self.insert(key, value)).collect()
    }
}

/// Z24: a bulk insert stays one on its way down, cut by mapping.
#[test]
fn batches_reach_each_mapping_as_batches() {
    let map = Sieve::new(vec![Batches::default(), Batches::default()], by_id);
    let pairs = (0..10).map(|key| (key, version(key % 2, key))).collect();
    map.insert_many(pairs).into_iter().for_each(Result::unwrap);
    let values = map.get_many(&[0, 1, 2, 3, 4, 99]);
    assert_eq!(values.into_iter().filter_map(Result::unwrap).count(), 5);
    assert_eq!(*locked(&map.mappings()[0].sizes), [5, 3]);
    assert_eq!(*locked(&map.mappings()[1].sizes), [5, 2]);
}

/// Z24: flushing and closing reach every mapping, whatever one of them says.
#[test]
fn flush_and_close_reach_all() {
    let map = sieve();
    map.insert(1, version(0, 1)).unwrap();
    map.mappings()[1].inject(Plan::nth(1).on([Operation::Flush]), Fault::io());
    map.mappings()[1].inject(Plan::nth(1).on([Operation::Close]), Fault::io());
    assert!(is_io(&map.flush().unwrap_err()));
    assert!(is_io(&map.close().unwrap_err()));
    for mapping in map.mappings() {
        assert_eq!((mapping.calls(Operation::Flush), mapping.calls(Operation::Close)), (1, 1));
    }
    map.close().unwrap();
    assert!(is_closed(&map.insert(2, version(0, 1)).unwrap_err()));
    assert_eq!(map.stored_size(&2), None::<SpilledSize>);
}
