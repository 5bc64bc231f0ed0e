//! A buffer whose fast memory is a mapping: a level of RAM over disk over an object store (R9).
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use spill_core::conformance::{Fault, Gate, Operation, Plan};
use spill_core::{
    Buffer, BufferBuilder, Compose, Error, Lru, ManualClock, ManualEvict, MappingExt, MutableMapping,
    Overflow, SpilledSize, Stored,
};
use support::{
    LONGEST_WAIT, Slow, Store, Val, builder, even, eventually, is_closed, is_io, quiet_injected_panics,
    record, records, slow, sorted_keys, val,
};

type Level = Buffer<u64, Val, Slow, Stored<Slow>>;

/// A level whose fast memory holds `target` bytes of records, each of which takes what its value weighs.
fn level(target: u64) -> (Level, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    (builder(target).clock(clock.clone()).stored(even(), slow()).unwrap(), clock)
}

fn fail(storage: &Slow, operations: &[Operation]) {
    storage.inject(Plan::always().on(operations.iter().copied()), Fault::io());
}

/// S05: what fast memory stores is held to the target, in exact order; it is stored when `insert` returns.
#[test]
fn the_least_recently_used_records_go_to_slow_memory() {
    let (level, _) = level(30);
    for key in 1..=3 {
        level.insert(key, val(key, 10)).unwrap();
        assert_eq!(level.stored().inner().held(key), Some(val(key, 10)));
    }
    level.get(&1).unwrap();
    level.peek(&2).unwrap();
    level.insert(4, val(4, 10)).unwrap();
    assert_eq!(level.fast_keys(), [4, 1, 3]);
    assert_eq!(sorted_keys(level.stored()), [1, 3, 4]);
    assert_eq!(sorted_keys(level.slow()), [2]);
    assert_eq!(level.get(&2).unwrap(), Some(val(2, 10)), "and it is promoted");
    assert_eq!(sorted_keys(level.stored()), [1, 2, 4]);
    let stats = level.stats();
    assert_eq!((stats.hits, stats.misses, stats.promotions, stats.evictions), (2, 1, 1, 2));
}

/// The target counts bytes of records where the mapping knows them, which compression makes differ from weights.
#[test]
fn the_target_is_in_bytes_of_records() {
    let level = builder(60).stored(slow(), slow()).unwrap();
    for key in 1..=4 {
        level.insert(key, val(key, 8)).unwrap(); // a record of 20 bytes
    }
    assert_eq!(level.fast_keys(), [4, 3, 2]);
    assert_eq!((level.stats().fast_bytes, level.target()), (60, 60));
    assert_eq!(level.evict(), 20);
    let light: Buffer<u64, Val, _, _> =
        builder(16).stored(spill_core::conformance::Memory::new(), slow()).unwrap();
    (1..=3).for_each(|key| light.insert(key, val(key, 8)).unwrap());
    assert_eq!(light.fast_keys(), [3, 2], "a mapping that does not know them: weights");
}

/// Z04: both memories may hold something already. It is present, weighed, and not evicted until the next insert; of a
/// key that both have the fast value counts, and the other is removed.
#[test]
fn filled_memories_are_taken_as_they_are() {
    let (fast, below) = (even(), slow());
    for key in 1..=4 {
        fast.insert(key, val(key, 10)).unwrap();
    }
    for key in [4, 5] {
        below.insert(key, val(100 + key, 10)).unwrap();
    }
    let clock = Arc::new(ManualClock::new());
    let level = builder(25).clock(clock.clone()).stored(fast, below).unwrap();
    assert_eq!(level.len(), 5);
    assert_eq!(level.stats().fast_bytes, 40);
    assert_eq!(level.peek(&4).unwrap(), Some(val(4, 10)));
    assert_eq!(level.peek(&5).unwrap(), Some(val(105, 10)));
    assert_eq!(level.usage().spilled.memory, 50, "no key counts twice");
    assert_eq!(level.stats().evictions, 0);
    level.insert(6, val(6, 10)).unwrap();
    assert_eq!(level.stats().fast_bytes, 20);
    assert_eq!(level.peek(&4).unwrap(), Some(val(4, 10)));
    level.clear().unwrap();
    clock.advance(LONGEST_WAIT);
    assert_eq!(level.evict(), -1);
    assert_eq!((level.stored().len(), level.slow().len()), (0, 0));
}

/// What fast memory holds already and gives no size of is weighed when the buffer is made; an error is the builder's.
#[test]
fn a_filled_memory_that_cannot_be_read_is_refused() {
    let fast: Arc<dyn MutableMapping<u64, Val>> = Arc::new(spill_core::conformance::Memory::new());
    fast.insert(1, val(1, 10)).unwrap();
    let level = builder(25).stored(Arc::clone(&fast), slow()).unwrap();
    assert_eq!(level.stats().fast_bytes, 10);
    let heavy = BufferBuilder::weighed_by(|_: &u64, _: &Val| -> u64 { panic!("injected") });
    quiet_injected_panics();
    assert!(heavy.stored(fast, slow()).is_err());
}

/// Where fast memory refuses a value, it goes to slow memory; observers are told.
#[test]
fn what_fast_memory_refuses_goes_to_slow_memory() {
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let observed = builder(30).on_evict(move |key, _| {
        count.fetch_add(*key, SeqCst);
        Ok(())
    });
    let level = observed.stored(even(), slow()).unwrap();
    fail(level.stored(), &[Operation::Insert]);
    level.insert(7, val(7, 10)).unwrap();
    assert_eq!((level.fast(), level.usage().fast), (false, 0));
    assert_eq!(level.slow().inner().held(7), Some(val(7, 10)));
    assert_eq!(told.load(SeqCst), 7);
    assert_eq!(level.get(&7).unwrap(), Some(val(7, 10)), "served, since it cannot be promoted");
    level.stored().heal();
    assert_eq!(level.get(&7).unwrap(), Some(val(7, 10)));
    assert_eq!(level.stored().inner().held(7), Some(val(7, 10)), "promoted");
}

/// Where slow memory refuses it too it stays in RAM, which `Usage.fast` says; it is stored when that works again.
#[test]
fn what_both_refuse_stays_in_ram_until_it_is_stored() {
    let (level, clock) = level(30);
    fail(level.stored(), &[Operation::Insert]);
    fail(level.slow(), &[Operation::Insert]);
    for key in 1..=2 {
        level.insert(key, val(key, 10)).unwrap();
    }
    assert_eq!((level.len(), level.usage().fast, level.usage().spilled), (2, 20, SpilledSize::default()));
    assert_eq!((level.fast(), level.evict()), (true, -1));
    assert!(is_io(&level.flush().unwrap_err()));
    assert_eq!(level.get(&1).unwrap(), Some(val(1, 10)));
    assert_eq!(level.update(&2, |value| value.id).unwrap(), Some(2));
    level.stored().heal();
    clock.advance(Duration::from_secs(1));
    level.flush().unwrap();
    assert_eq!((level.usage().fast, level.usage().spilled.memory), (0, 20));
    assert_eq!(sorted_keys(level.stored()), [1, 2]);
    assert_eq!(level.slow().len(), 0);
}

/// What is kept in RAM that way is bounded: past it values are refused with the reason, and nothing changes. So a level
/// above keeps its pair, and its `evict` says -1.
#[test]
fn what_both_refuse_is_bounded() {
    let clock = Arc::new(ManualClock::new());
    let lower = builder(100).stage_bytes(25).clock(clock.clone()).stored(even(), slow()).unwrap();
    let map = lower.buffered(builder(u64::MAX).clock(clock.clone())).unwrap();
    (1..=5).for_each(|key| map.insert(key, val(key, 10)).unwrap());
    fail(map.slow().stored(), &[Operation::Insert]);
    fail(map.slow().slow(), &[Operation::Insert]);
    assert_eq!((map.evict(), map.evict(), map.evict()), (10, 10, -1));
    assert_eq!((map.fast_keys(), map.slow().usage().fast), (vec![5, 4, 3], 20));
    let lower = map.slow();
    assert!(is_io(&lower.insert(9, val(9, 10)).unwrap_err()));
    assert!(is_io(&lower.insert(1, val(9, 10)).unwrap_err()), "the old value stays");
    assert!(lower.insert_many(vec![(8, val(8, 10)), (9, val(9, 10))]).iter().all(Result::is_err));
    assert_eq!(lower.peek(&1).unwrap(), Some(val(1, 10)));
    assert!(lower.remove(&2).unwrap());
    lower.insert(9, val(9, 10)).unwrap(); // there is room again
    lower.stored().heal();
    clock.advance(LONGEST_WAIT);
    assert!(map.evict() > 0);
    for _ in 0..3 {
        clock.advance(LONGEST_WAIT);
        _ = lower.evict_until_below(100);
        lower.insert(7, val(7, 1)).unwrap();
    }
    lower.flush().unwrap();
    assert_eq!(lower.usage().fast, 0);
    assert_eq!(lower.stored().inner().held(9), Some(val(9, 10)));
}

/// Something that leaves fast memory makes room: what was refused there is tried again at once, not when it is time.
#[test]
fn room_that_returns_is_used_at_once() {
    let clock = Arc::new(ManualClock::new());
    let level = builder(100).stage_bytes(10).clock(clock).stored(even(), slow()).unwrap();
    level.insert(1, val(1, 10)).unwrap();
    fail(level.stored(), &[Operation::Insert]);
    fail(level.slow(), &[Operation::Insert]);
    level.insert(2, val(2, 10)).unwrap();
    level.stored().heal();
    assert!(is_io(&level.insert(3, val(3, 10)).unwrap_err()), "it is not time");
    assert!(level.remove(&1).unwrap());
    level.insert(3, val(3, 10)).unwrap();
    assert_eq!((sorted_keys(level.stored()), level.usage().fast), (vec![2, 3], 0));
}

/// What a failed write left in fast memory was no room before it: the next try waits.
#[test]
fn what_a_failed_write_left_is_no_room() {
    let clock = Arc::new(ManualClock::new());
    let level = builder(100).stage_bytes(10).clock(clock.clone()).stored(even(), slow()).unwrap();
    level.stored().inject(Plan::always().on([Operation::Insert]), Fault::io().after());
    fail(level.slow(), &[Operation::Insert]);
    level.insert(2, val(2, 10)).unwrap();
    assert!(sorted_keys(level.stored()).is_empty(), "what was applied is removed");
    let tries = level.stored().calls(Operation::Insert);
    assert!(is_io(&level.insert(4, val(4, 10)).unwrap_err()));
    assert_eq!(level.stored().calls(Operation::Insert), tries, "it is not time");
    clock.advance(Duration::from_secs(1));
    level.stored().heal();
    level.insert(4, val(4, 10)).unwrap();
    assert_eq!(sorted_keys(level.stored()), [2, 4]);
}

/// Old copies that cannot be removed are tried again in turn: one that never goes does not hold up the others.
#[test]
fn old_copies_are_removed_in_rotation() {
    let (level, clock) = level(u64::MAX);
    for key in 1..=3 {
        level.insert(key, val(key, 10)).unwrap();
        level.evict_key(&key).unwrap();
    }
    fail(level.slow(), &[Operation::Remove]);
    (1..=3).for_each(|key| assert!(level.remove(&key).unwrap()));
    assert_eq!((level.len(), level.slow().len()), (0, 3));
    level.slow().heal();
    level.slow().inject(Plan::always().on([Operation::Remove]).key(1), Fault::io());
    for _ in 0..6 {
        clock.advance(Duration::from_secs(1));
        assert_eq!(level.evict(), -1);
    }
    assert_eq!(sorted_keys(level.slow()), [1]);
}

/// A read that fails in fast memory is answered by slow memory where that has the same value, else by the error.
#[test]
fn a_failed_read_of_fast_memory_falls_back_on_slow_memory() {
    let (level, _) = level(30);
    level.insert(1, val(1, 10)).unwrap();
    level.insert(2, val(2, 10)).unwrap();
    level.evict_key(&1).unwrap();
    level.get(&1).unwrap();
    fail(level.stored(), &[Operation::Get, Operation::Peek]);
    assert_eq!(level.get(&1).unwrap(), Some(val(1, 10)));
    assert_eq!(level.peek(&1).unwrap(), Some(val(1, 10)));
    assert!(is_io(&level.get(&2).unwrap_err()));
    assert!(is_io(&level.evict_key(&2).unwrap_err()), "it cannot be read to be spilled");
    assert!(level.contains_key(&2) && level.fast());
    assert_eq!(level.evict(), 10, "of the other");
    level.get(&1).unwrap();
    assert_eq!(level.update(&1, |value| value.id).unwrap(), Some(1));
    level.stored().heal();
    assert_eq!(level.take(&2).unwrap(), Some(val(2, 10)));
    assert_eq!(level.take(&1).unwrap(), Some(val(1, 10)));
    assert_eq!((level.len(), level.usage()), (0, Default::default()));
}

/// An observer is told of a value that slow memory has already, and of one that only slow memory can still give.
#[test]
fn observers_are_told_of_unchanged_values() {
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    let observed = builder(100).on_evict(move |_, value: &Val| {
        count.fetch_add(value.id, SeqCst);
        Ok(())
    });
    let level = observed.stored(even(), slow()).unwrap();
    level.insert(1, val(5, 10)).unwrap();
    for (times, fails) in [(1, false), (2, false), (3, true)] {
        if fails {
            fail(level.stored(), &[Operation::Peek]);
        }
        assert_eq!((level.evict(), told.load(SeqCst)), (10, 5 * times));
        assert_eq!(level.get(&1).unwrap(), Some(val(5, 10)));
    }
    assert_eq!(support::writes(level.slow()), 1);
}

/// An unchanged value that was read back is evicted without being read or written.
#[test]
fn an_unchanged_value_is_spilled_for_nothing() {
    let (level, _) = level(30);
    level.insert(1, val(1, 10)).unwrap();
    assert_eq!(level.evict(), 10);
    assert_eq!(level.get(&1).unwrap(), Some(val(1, 10)));
    assert_eq!(level.usage().spilled, support::even_record(val(1, 10)), "the copy beside it does not count");
    let (reads, writes) = (support::reads(level.stored()), support::writes(level.slow()));
    assert_eq!(level.evict(), 10);
    assert_eq!((support::reads(level.stored()), support::writes(level.slow())), (reads, writes));
    assert_eq!((level.stored().len(), level.stats().clean_evictions), (0, 1));
    assert_eq!(level.usage().spilled, record(val(1, 10)));
}

/// S07: while it is spilled a value is read, replaced and removed; what was written of it never comes back.
#[test]
fn a_write_wins_over_a_spill() {
    for remove in [false, true] {
        let (level, clock) = level(30);
        level.insert(1, val(1, 10)).unwrap();
        let gate = Gate::closed();
        level.slow().inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&gate));
        thread::scope(|scope| {
            let evicts = scope.spawn(|| level.evict());
            gate.wait_for(1);
            assert_eq!(level.get(&1).unwrap(), Some(val(1, 10)));
            assert_eq!(level.usage().fast, 10, "it is in RAM too while it is written");
            if remove {
                assert!(level.remove(&1).unwrap());
            } else {
                level.insert(1, val(2, 10)).unwrap();
            }
            assert_eq!(level.get(&1).unwrap(), (!remove).then_some(val(2, 10)));
            gate.open();
            _ = evicts.join().unwrap();
        });
        clock.advance(LONGEST_WAIT);
        _ = level.evict();
        assert_eq!(level.get(&1).unwrap(), (!remove).then_some(val(2, 10)));
        assert_eq!(level.usage().fast, 0);
        assert_eq!(
            level.stored().len() + level.slow().len(),
            usize::from(!remove) * 2,
            "and the copy beside it"
        );
    }
}

/// `flush` keeps what is stored where it is: it is not RAM's.
#[test]
fn flush_spills_nothing() {
    let (level, _) = level(100);
    (1..=3).for_each(|key| level.insert(key, val(key, 10)).unwrap());
    level.flush().unwrap();
    assert_eq!((level.stored().len(), level.slow().len()), (3, 0));
    assert_eq!((level.stored().calls(Operation::Flush), level.slow().calls(Operation::Flush)), (1, 1));
}

/// Compound operations go where the value is, and store what they made.
#[test]
fn compound_operations_store_what_they_make() {
    let (level, _) = level(100);
    level.upsert(1, || val(1, 10), |value| value.id += 1).unwrap();
    level.upsert(1, || val(9, 10), |value| value.id += 1).unwrap();
    assert_eq!(level.evict(), 10);
    level.upsert(1, || val(9, 10), |value| value.id += 1).unwrap();
    assert_eq!(level.stored().inner().held(1), Some(val(3, 10)));
    assert_eq!(level.slow().len(), 0);
    assert_eq!(level.get_or_try_insert_with(2, || Ok(val(5, 10))).unwrap(), val(5, 10));
    assert_eq!(level.get_or_try_insert_with(2, || Err(Error::codec("x", "y"))).unwrap(), val(5, 10));
    assert_eq!(level.update(&3, |_| ()).unwrap(), None);
    assert_eq!(level.get_all_or_nothing(&[1, 2]).unwrap(), Some(vec![val(3, 10), val(5, 10)]));
    assert_eq!(level.usage().fast, 0);
}

/// When slow memory is full, copies of what fast memory has make room in it.
#[test]
fn copies_beside_stored_values_make_room_in_slow_memory() {
    let (level, _) = level(u64::MAX);
    for key in 1..=3 {
        level.insert(key, val(key, 10)).unwrap();
        level.evict_key(&key).unwrap();
        level.get(&key).unwrap();
    }
    level.insert(4, val(4, 10)).unwrap();
    level.slow().inner().set_limit(30);
    assert_eq!(level.evict_key(&4).unwrap(), Some(10));
    assert_eq!(sorted_keys(level.slow()), [4]);
    assert_eq!(level.len(), 4);
}

/// A value for which no room can be made is refused, and nothing changed.
#[test]
fn reject_refuses_what_cannot_be_made_room_for() {
    let level = builder(20).overflow(Overflow::Reject).stored(even(), slow()).unwrap();
    (1..=2).for_each(|key| level.insert(key, val(key, 10)).unwrap());
    fail(level.slow(), &[Operation::Insert]);
    assert!(level.insert(3, val(3, 10)).unwrap_err().is_full());
    assert_eq!(sorted_keys(&level), [1, 2]);
    level.slow().heal();
}

/// Writers keep the target behind the caller; nothing is left in RAM when they are done.
#[test]
fn writers_keep_the_target() {
    let level = builder(50).writers(2).stored(even(), slow()).unwrap();
    for key in 0..200 {
        level.insert(key, val(key, 10)).unwrap();
    }
    eventually("the target is reached", || level.stats().fast_bytes <= 50);
    eventually("no value is in RAM", || level.usage().fast == 0);
    for key in 0..200 {
        assert_eq!(level.peek(&key).unwrap(), Some(val(key, 10)));
    }
    level.close().unwrap();
    assert!(is_closed(&level.insert(1, val(1, 1)).unwrap_err()));
    assert_eq!((level.stored().calls(Operation::Close), level.slow().calls(Operation::Close)), (1, 1));
}

/// Reading all pairs without using them moves nothing, in any level, and costs the same for each.
#[test]
fn peeking_moves_nothing_in_any_level() {
    let lower = builder(100).stored(even(), slow()).unwrap();
    let map = lower.buffered(builder(50)).unwrap();
    (0..40).for_each(|key| map.insert(key, val(key, 10)).unwrap());
    let order = (map.fast_keys(), map.slow().fast_keys());
    let mut seen = 0;
    map.try_for_each(|key, value| {
        assert_eq!(value, val(*key, 10));
        seen += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!((seen, (map.fast_keys(), map.slow().fast_keys())), (40, order));
}

/// A three-level chain holds each level to its target and reports each; `evict` works by level and ends at the last.
#[test]
fn three_levels_hold_their_targets() {
    let lower = builder(100).stored(even(), slow()).unwrap();
    let map = lower.buffered(builder(50)).unwrap();
    for key in 0..40 {
        map.insert(key, val(key, 10)).unwrap();
        assert!(map.stats().fast_bytes <= 50 && map.slow().stats().fast_bytes <= 100);
    }
    let (stats, usage) = (map.stats(), map.usage());
    assert_eq!((stats.fast_count, stats.slow_count, usage.fast), (5, 35, 50));
    let lower = map.slow();
    assert_eq!((lower.stats().fast_count, lower.stats().slow_count, lower.usage().fast), (10, 25, 0));
    let disk = SpilledSize { memory: 100, disk: 100 };
    assert_eq!(lower.usage().spilled, disk + records((0..25).map(|key| val(key, 10))));
    assert_eq!(usage.spilled, lower.usage().spilled);
    for key in (0..40).rev() {
        assert_eq!(map.get(&key).unwrap(), Some(val(key, 10)));
    }
    while map.fast() {
        assert_eq!(map.evict(), 10);
    }
    while map.slow().fast() {
        assert_eq!(map.slow().evict(), 10);
    }
    assert_eq!((map.evict(), map.slow().evict()), (-1, -1));
    assert_eq!((map.slow().slow().len(), map.len()), (40, 40));
}

/// A level can stand over another level, and be shared behind `dyn`.
#[test]
fn levels_nest() {
    let alone = || -> Lru<u64, u64> { BufferBuilder::new().alone().unwrap() };
    let lower = BufferBuilder::new().target(80).stored(alone(), alone()).unwrap();
    let middle = BufferBuilder::new().target(40).stored(alone(), lower).unwrap();
    let map: Arc<dyn MutableMapping<u64, u64>> =
        Arc::new(middle.buffered(BufferBuilder::new().target(16)).unwrap());
    (0..100).for_each(|n| map.insert(n, n).unwrap());
    assert!((0..100).all(|n| map.get(&n).unwrap() == Some(n)));
    assert_eq!(map.keys().len(), 100);
    map.clear().unwrap();
    assert_eq!((map.len(), map.usage()), (0, Default::default()));
}

/// The store of these tests is what it says.
#[test]
fn even_records_take_what_values_weigh() {
    let store = Store::even();
    store.insert(1, val(1, 10)).unwrap();
    assert_eq!(store.stored_size(&1), Some(SpilledSize { memory: 10, disk: 10 }));
}
