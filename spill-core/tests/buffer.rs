//! What a buffer holds where: the order in which it spills, what stays readable meanwhile, what its numbers
//! say.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use spill_core::conformance::model::{ModelLru, Op, Reference, ops};
use spill_core::conformance::{Fault, Gate, Memory, Operation, Plan, Ready};
use spill_core::{BufferBuilder, ManualEvict, MappingExt, MutableMapping, SpilledSize, Stats};
use support::{Val, buffer, builder, eventually, over, reads, record, records, sorted_keys, val, writes};

/// S05: above the target the least recently used values go to slow memory, in exactly that order; inserts,
/// reads and updates are uses, peeks are none.
#[test]
fn the_least_recently_used_values_go_first() {
    let buffer = buffer(3);
    for key in 1..=3 {
        buffer.insert(key, val(key, 1)).unwrap();
    }
    assert_eq!(buffer.fast_keys(), [3, 2, 1]);
    assert_eq!(writes(buffer.slow()), 0, "exactly at the target nothing is spilled");
    buffer.get(&1).unwrap();
    buffer.peek(&2).unwrap();
    assert!(buffer.contains_key(&2));
    buffer.insert(4, val(4, 1)).unwrap();
    assert_eq!(buffer.fast_keys(), [4, 1, 3]);
    assert_eq!(sorted_keys(buffer.slow()), [2]);
    buffer.update(&3, |value| value.id = 33).unwrap();
    buffer.insert(5, val(5, 2)).unwrap();
    assert_eq!(buffer.fast_keys(), [5, 3]);
    assert_eq!(sorted_keys(buffer.slow()), [1, 2, 4]);
    assert_eq!(buffer.get(&2).unwrap(), Some(val(2, 1)));
    assert_eq!(buffer.fast_keys(), [2, 5], "what is read back makes others leave");
    assert_eq!(buffer.slow().inner().held(3), Some(val(33, 1)));
}

/// S05: the exact order and the target hold after every one of two thousand calls.
#[test]
fn order_and_target_hold_after_every_call() {
    for (seed, target) in [(1, 0), (2, 1), (3, 9), (4, 20), (5, u64::MAX)] {
        let weigh = |value: u64| if value.is_multiple_of(11) { 30 } else { value % 5 };
        let buffer = BufferBuilder::weighed_by(move |_: &u64, value: &u64| weigh(*value))
            .target(target)
            .over(Memory::<u64, u64>::new())
            .unwrap();
        let (mut reference, mut order) = (Reference::new(&Ready), ModelLru::new(target));
        for (n, op) in ops(seed, 2000, 12).iter().enumerate() {
            reference.step(op, &buffer).unwrap();
            order.step(op, |_, value| weigh(value));
            let mut fast = buffer.fast_keys();
            fast.reverse();
            assert_eq!(fast, order.fast_keys(), "target {target}, call {n}, {op:?}");
            assert_eq!(buffer.usage().fast, order.fast_weight());
            assert!(buffer.usage().fast <= target, "target {target}, call {n}, {op:?}");
        }
        reference.agrees(&buffer).unwrap();
        assert_eq!(reference.errors(), 0);
    }
}

/// S07: a value can be read by any thread before, during and after its writing, while observers run, and while
/// it is being read back; it is present at each of these moments.
#[test]
fn a_value_is_readable_at_every_moment_of_its_movement() {
    let (before, after, observing, reading) =
        (Gate::closed(), Gate::closed(), Gate::closed(), Gate::closed());
    let observer = observing.clone();
    let buffer = over(builder(100).on_evict(move |_, _| {
        observer.pass();
        Ok(())
    }));
    buffer.slow().inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&before));
    buffer.insert(1, val(7, 10)).unwrap();
    buffer.insert(2, val(8, 10)).unwrap();
    let seen_by_another_thread = |when: &str| {
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                assert_eq!(buffer.peek(&1).unwrap(), Some(val(7, 10)), "{when}");
                assert!(buffer.contains_key(&1), "{when}");
                assert_eq!(buffer.len(), 2, "{when}");
                assert_eq!(sorted_keys(&buffer), [1, 2], "{when}");
                assert_eq!(buffer.get(&2).unwrap(), Some(val(8, 10)), "{when}");
            });
            other.join().unwrap();
        });
    };
    let all_open = || [before.open_on_drop(), after.open_on_drop(), observing.open_on_drop()];
    thread::scope(|scope| {
        let open = all_open();
        let evicting = scope.spawn(|| buffer.evict_key(&1));
        before.wait_for(1);
        seen_by_another_thread("before it is written");
        assert_eq!(buffer.usage().fast, 20, "a value being written is still fast");
        before.open();
        observing.wait_for(1);
        seen_by_another_thread("while observers run");
        assert_eq!(buffer.slow().inner().held(1), Some(val(7, 10)));
        drop(open);
        assert_eq!(evicting.join().unwrap().unwrap(), Some(10));
    });
    assert_eq!(buffer.fast_keys(), [2]);

    // Once more, held where it is written and nobody was told, by `get`, which does not cancel it.
    buffer.get(&1).unwrap();
    buffer.update(&1, |_| ()).unwrap();
    after.close();
    buffer.slow().inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&after).after());
    thread::scope(|scope| {
        let open = all_open();
        let evicting = scope.spawn(|| buffer.evict_key(&1));
        after.wait_for(1);
        assert_eq!(buffer.slow().inner().held(1), Some(val(7, 10)));
        assert_eq!(buffer.get(&1).unwrap(), Some(val(7, 10)));
        seen_by_another_thread("after it is written");
        drop(open);
        assert_eq!(evicting.join().unwrap().unwrap(), Some(10));
    });
    assert_eq!(buffer.fast_keys(), [2]);

    buffer.slow().inject(Plan::nth(1).on([Operation::Get]), Fault::block(&reading));
    thread::scope(|scope| {
        let open = reading.open_on_drop();
        let getting = scope.spawn(|| buffer.get(&1));
        reading.wait_for(1);
        assert!(buffer.contains_key(&1));
        assert_eq!(buffer.len(), 2);
        assert_eq!(sorted_keys(&buffer), [1, 2]);
        let other = scope.spawn(|| buffer.peek(&1));
        drop(open);
        assert_eq!(getting.join().unwrap().unwrap(), Some(val(7, 10)));
        assert_eq!(other.join().unwrap().unwrap(), Some(val(7, 10)));
    });
}

/// S07: a value being written can be replaced and removed at once; what was written of it never comes back.
#[test]
fn a_write_wins_over_a_spill_of_its_key() {
    for after in [false, true] {
        for replaces in [false, true] {
            let buffer = buffer(100);
            let gate = Gate::closed();
            let fault = Fault::block(&gate);
            let fault = if after { fault.after() } else { fault };
            buffer.slow().inject(Plan::nth(1).on([Operation::Insert]), fault);
            buffer.insert(1, val(1, 10)).unwrap();
            thread::scope(|scope| {
                let open = gate.open_on_drop();
                let evicting = scope.spawn(|| buffer.evict_key(&1));
                gate.wait_for(1);
                // Neither waits for the write, which is held.
                if replaces {
                    buffer.insert(1, val(2, 20)).unwrap();
                } else {
                    assert!(buffer.remove(&1).unwrap());
                    assert!(!buffer.contains_key(&1));
                }
                assert_eq!(buffer.get(&1).unwrap(), replaces.then_some(val(2, 20)));
                drop(open);
                assert_eq!(evicting.join().unwrap().unwrap(), None, "it was cancelled");
            });
            assert_eq!(buffer.get(&1).unwrap(), replaces.then_some(val(2, 20)));
            assert_eq!(buffer.len(), usize::from(replaces));
            assert_eq!(buffer.slow().inner().held(1), None, "nothing old is left in storage");
            assert_eq!(buffer.usage().fast, if replaces { 20 } else { 0 });
            assert_eq!(buffer.stats().cancelled, 1);
        }
    }
}

/// S21: managed is the sum of the weights of what is in fast memory, after spilling, reading back, changing
/// and removing; what is spilled is not in it.
#[test]
fn managed_is_what_fast_memory_weighs() {
    let buffer = buffer(100);
    for key in 1..=5 {
        buffer.insert(key, val(key, 10 * key)).unwrap();
    }
    assert_eq!(buffer.fast_keys(), [5, 4], "90: the oldest left one by one until at most 100 was left");
    assert_eq!(buffer.usage().managed(), 90);
    assert_eq!(buffer.usage().spilled, records([val(1, 10), val(2, 20), val(3, 30)]));
    assert_eq!(buffer.evict(), 40);
    assert_eq!(buffer.usage().managed(), 50);
    assert_eq!(buffer.get(&2).unwrap(), Some(val(2, 20)));
    assert_eq!(buffer.usage().managed(), 70);
    assert_eq!(buffer.usage().spilled, records([val(1, 10), val(3, 30), val(4, 40)]));
    buffer.update(&2, |value| value.weight = 5).unwrap();
    assert_eq!(buffer.usage().managed(), 55);
    buffer.insert(5, val(5, 1)).unwrap();
    assert_eq!(buffer.usage().managed(), 6);
    buffer.remove(&5).unwrap();
    buffer.remove(&4).unwrap();
    assert_eq!(buffer.usage().managed(), 5);
    assert_eq!(buffer.usage().spilled, records([val(1, 10), val(3, 30)]));
    assert_eq!(buffer.take(&3).unwrap(), Some(val(3, 30)));
    assert_eq!(buffer.take(&2).unwrap(), Some(val(2, 5)));
    assert_eq!(buffer.usage().managed(), 0);
    assert_eq!(buffer.usage().spilled, record(val(1, 10)));
    assert_eq!(buffer.usage().count, 1);
}

/// Z14: a walk over the keys survives their movement in both directions, removals and inserts: a key that
/// stays is seen exactly once.
#[test]
fn a_walk_survives_movement() {
    let buffer = buffer(5);
    for key in 0..20 {
        buffer.insert(key, val(key, 1)).unwrap();
    }
    let mut seen = Vec::new();
    buffer.for_each_key(&mut |key| {
        seen.push(*key);
        buffer.get(&((key + 7) % 20)).unwrap();
        buffer.evict();
        if *key == 3 {
            buffer.insert(100, val(100, 1)).unwrap();
            buffer.insert(4, val(44, 1)).unwrap();
        }
    });
    seen.retain(|key| *key < 20);
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());

    let mut pairs = Vec::new();
    let walk = buffer.try_for_each(|key, value| {
        pairs.push((*key, value.id));
        buffer.remove(key)?;
        Ok(())
    });
    walk.unwrap();
    pairs.sort_unstable();
    let expected = (0..20).map(|key| (key, if key == 4 { 44 } else { key })).chain([(100, 100)]);
    assert_eq!(pairs, expected.collect::<Vec<_>>());
    assert!(buffer.is_empty());
    assert_eq!(buffer.slow().len(), 0);
}

/// Z14: a walk while another thread moves keys to and fro sees each exactly once.
#[test]
fn a_walk_survives_the_movement_of_other_threads() {
    let buffer = buffer(8);
    for key in 0..32 {
        buffer.insert(key, val(key, 1)).unwrap();
    }
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut key = 0;
            while !ended.load(SeqCst) {
                key = (key + 5) % 32;
                buffer.get(&key).unwrap();
                buffer.evict();
            }
        });
        // The mover ends when this does, also where an assertion fails.
        let _end = Ends(&ended);
        eventually("the other thread moves", || buffer.stats().evictions > 40);
        for _ in 0..200 {
            assert_eq!(sorted_keys(&buffer), (0..32).collect::<Vec<_>>());
            assert_eq!(buffer.len(), 32);
        }
    });
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Z14: walking over all pairs disturbs no order and moves nothing.
#[test]
fn walking_over_pairs_disturbs_nothing() {
    let buffer = buffer(3);
    for key in 1..=6 {
        buffer.insert(key, val(key, 1)).unwrap();
    }
    let (order, usage) = (buffer.fast_keys(), buffer.usage());
    let mut sum = 0;
    let walk = buffer.try_for_each(|key, value| {
        assert_eq!(*key, value.id);
        sum += key;
        Ok(())
    });
    walk.unwrap();
    assert_eq!(sum, 21);
    assert_eq!(buffer.fast_keys(), order);
    assert_eq!(buffer.usage(), usage);
    assert_eq!(buffer.stats().promotions, 0);
}

/// Z14: clearing reads no value, and leaves nothing in storage.
#[test]
fn clear_reads_nothing() {
    let buffer = buffer(3);
    for key in 1..=6 {
        buffer.insert(key, val(key, 1)).unwrap();
    }
    buffer.get(&1).unwrap();
    let before = reads(buffer.slow());
    buffer.clear().unwrap();
    assert_eq!(reads(buffer.slow()), before);
    assert!(buffer.is_empty());
    assert!(!buffer.fast());
    assert_eq!(buffer.slow().len(), 0);
    assert_eq!(buffer.usage(), Default::default());
    assert_eq!(sorted_keys(&buffer), [0; 0]);
}

#[test]
fn remove_never_reads_and_take_reads_only_what_is_slow() {
    let buffer = buffer(2);
    for key in 1..=6 {
        buffer.insert(key, val(key, 1)).unwrap();
    }
    assert_eq!(buffer.fast_keys(), [6, 5]);
    assert!(buffer.remove(&6).unwrap());
    assert!(buffer.remove(&1).unwrap());
    assert!(!buffer.remove(&1).unwrap());
    assert!(!buffer.remove(&9).unwrap());
    assert_eq!(buffer.take(&5).unwrap(), Some(val(5, 1)));
    assert_eq!(buffer.take(&9).unwrap(), None);
    assert_eq!(reads(buffer.slow()), 0);
    assert_eq!(buffer.take(&2).unwrap(), Some(val(2, 1)));
    assert_eq!(buffer.take(&2).unwrap(), None);
    assert_eq!(reads(buffer.slow()), 1);
    assert_eq!(sorted_keys(&buffer), [3, 4]);
    assert_eq!(sorted_keys(buffer.slow()), [3, 4]);
}

#[test]
fn presence_and_length_read_nothing() {
    let buffer = buffer(2);
    for key in 1..=6 {
        buffer.insert(key, val(key, 1)).unwrap();
    }
    for key in 1..=6 {
        assert!(buffer.contains_key(&key));
    }
    assert!(!buffer.contains_key(&7));
    assert_eq!(buffer.len(), 6);
    assert_eq!(sorted_keys(&buffer), [1, 2, 3, 4, 5, 6]);
    assert_eq!(buffer.usage().count, 6);
    buffer.stats();
    buffer.stored_size(&1);
    assert_eq!(reads(buffer.slow()), 0);
}

/// `stored_size` is what a key adds to `usage().spilled`: a copy beside a fast value, or of a removed key, adds
/// nothing.
#[test]
fn stored_sizes_sum_up_to_what_is_spilled() {
    let buffer = buffer(40);
    for key in 1..=6 {
        buffer.insert(key, val(key, 10 + key)).unwrap();
    }
    buffer.get(&1).unwrap();
    buffer.slow().inject(Plan::nth(1).on([Operation::Remove]), Fault::io());
    buffer.remove(&2).unwrap();
    buffer.flush().unwrap();
    assert!(buffer.slow().contains_key(&1), "a copy beside the fast value");
    assert!(buffer.slow().contains_key(&2), "a copy that could not be removed");
    let sizes: Vec<Option<SpilledSize>> = (1..=6).map(|key| buffer.stored_size(&key)).collect();
    let expected: Vec<Option<SpilledSize>> = (1..=6)
        .map(|key| {
            let only_slow = buffer.contains_key(&key) && !buffer.fast_keys().contains(&key);
            only_slow.then(|| record(val(key, 10 + key)))
        })
        .collect();
    assert_eq!(sizes, expected);
    let sum = sizes.into_iter().flatten().fold(SpilledSize::default(), |a, b| a + b);
    assert_eq!(buffer.usage().spilled, sum);
}

#[test]
fn statistics_count_what_happened() {
    let buffer = buffer(30);
    for key in 1..=4 {
        buffer.insert(key, val(key, 10)).unwrap(); // 4 evicts 1
    }
    buffer.get(&4).unwrap();
    buffer.get(&3).unwrap();
    buffer.get(&9).unwrap();
    buffer.get(&1).unwrap(); // promotes 1, evicts 2
    assert_eq!(buffer.evict(), 10); // 4
    buffer.slow().inject(Plan::nth(1).on([Operation::Get]), Fault::io());
    assert!(buffer.get(&2).is_err());
    buffer.evict_key(&1).unwrap(); // a copy is there: nothing is written
    let mut expected = Stats::default();
    (expected.hits, expected.misses, expected.promotions) = (2, 2, 1);
    (expected.evictions, expected.evicted_bytes, expected.clean_evictions) = (4, 40, 1);
    (expected.cancelled, expected.failures, expected.deferred) = (0, 1, 0);
    (expected.fast_count, expected.fast_bytes) = (1, 10);
    (expected.slow_count, expected.slow_bytes) = (3, 30);
    assert_eq!(buffer.stats(), expected);
    assert_eq!(writes(buffer.slow()), 3);
}

/// `evict_until_below(0)` means all, also values that weigh nothing.
#[test]
fn evicting_everything_takes_what_weighs_nothing_too() {
    let buffer = buffer(100);
    buffer.insert(4, val(4, 5)).unwrap();
    for key in 1..=3 {
        buffer.insert(key, val(key, 0)).unwrap();
    }
    assert_eq!(buffer.evict_until_below(0), 5);
    assert!(!buffer.fast());
    assert_eq!(buffer.fast_keys(), [0; 0]);
    assert_eq!(sorted_keys(buffer.slow()), [1, 2, 3, 4]);
}

#[test]
fn a_buffer_over_a_buffer_keeps_each_level_to_its_target() {
    let lower = Arc::new(over(builder(20)));
    let upper = builder(10).over(Arc::clone(&lower)).unwrap();
    for key in 1..=10 {
        upper.insert(key, val(key, 5)).unwrap();
    }
    assert_eq!(upper.fast_keys(), [10, 9]);
    assert_eq!(lower.fast_keys(), [8, 7, 6, 5]);
    assert_eq!(sorted_keys(lower.slow()), [1, 2, 3, 4]);
    assert_eq!(sorted_keys(&upper), (1..=10).collect::<Vec<_>>());
    let usage = upper.usage();
    assert_eq!((usage.count, usage.fast), (10, 30));
    assert_eq!(usage.spilled, records((1..=4).map(|key| val(key, 5))));
    for key in 1..=10 {
        assert_eq!(upper.get(&key).unwrap(), Some(val(key, 5)));
        assert!(upper.usage().fast <= 30);
    }
    assert_eq!(upper.take(&1).unwrap(), Some(val(1, 5)));
    assert!(!lower.contains_key(&1));
    assert_eq!(upper.len(), 9);
}

/// Copies kept beside fast values do not count as spilled, also where the level below moves them on later.
#[test]
fn copies_that_a_lower_buffer_moves_on_are_not_counted() {
    let lower = Arc::new(over(builder(20)));
    let upper = builder(10).over(Arc::clone(&lower)).unwrap();
    upper.insert(1, val(1, 5)).unwrap();
    upper.flush().unwrap();
    assert_eq!(lower.evict_until_below(0), 5);
    assert!(lower.slow().contains_key(&1));
    assert_eq!(upper.fast_keys(), [1]);
    assert_eq!(upper.usage().spilled, SpilledSize::default());
}

#[test]
fn a_walk_stops_at_the_first_error() {
    let buffer = buffer(1);
    for key in 1..=3 {
        buffer.insert(key, val(key, 1)).unwrap();
    }
    buffer.slow().inject(Plan::always().on(Operation::READS), Fault::io());
    let mut seen: Vec<Val> = Vec::new();
    let walk = buffer.try_for_each(|_, value| {
        seen.push(value);
        Ok(())
    });
    assert!(support::is_io(&walk.unwrap_err()));
    assert!(seen.len() <= 1);
    buffer.slow().heal();
    assert!(support::is_refusal(&buffer.try_for_each(|_, _| Err(support::refusal())).unwrap_err()));
}

/// The calls of the model are those of a mapping; it sees also what many calls at once do to the order.
#[test]
fn batches_use_keys_in_their_order() {
    let buffer = buffer(3);
    let results = buffer.insert_many((1..=4).map(|key| (key, val(key, 1))).collect());
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(buffer.fast_keys(), [4, 3, 2]);
    buffer.get_many(&[2, 4]).into_iter().for_each(|value| assert!(value.unwrap().is_some()));
    assert_eq!(buffer.fast_keys(), [4, 2, 3]);
    let mut order = ModelLru::new(3);
    order.step(&Op::InsertMany((1..=4).map(|key| (key, 1)).collect()), |_, weight| weight);
    order.step(&Op::GetMany(vec![2, 4]), |_, weight| weight);
    assert_eq!(order.fast_keys(), [3, 2, 4]);
    assert_eq!(order.slow_keys(), [1]);
}
