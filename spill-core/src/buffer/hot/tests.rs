//! What hot keys must not change: what is seen, who holds what, and the order of eviction.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::time::Duration;

use proptest::prelude::*;

use super::{CALM, MOST};
use crate::conformance::Memory;
use crate::{Buffer, BufferBuilder, ErrorKind, ManualEvict, MutableMapping, Overflow, Shared, Value};

type Over<V> = Buffer<u32, V, Memory<u32, V>>;

fn builder<V: Value>(target: u64) -> BufferBuilder<u32, V> {
    BufferBuilder::weighed_by(|_: &u32, _: &V| 1).target(target)
}

fn buffer<V: Value>(target: u64) -> Over<V> {
    builder(target).over(Memory::new()).unwrap()
}

fn is_hot<V: Value>(map: &Over<V>, key: u32) -> bool {
    let state = map.core.state.lock();
    let found = state.table.find(&key);
    let hot = found.is_some_and(|i| state.heated.has(i));
    assert!(!hot || map.core.hot.any());
    hot
}

#[test]
fn a_hit_that_waits_for_a_spiller_makes_its_key_hot() {
    let map = buffer(10);
    map.insert(1, 10).unwrap();
    assert_eq!(map.get(&1).unwrap(), Some(10));
    assert!(!is_hot(&map, 1), "nobody had to wait");
    while !is_hot(&map, 1) {
        let _spiller = map.core.state.spill();
        let state = map.core.state.lock();
        std::thread::scope(|scope| {
            let hit = scope.spawn(|| map.get(&1).unwrap());
            std::thread::park_timeout(Duration::from_millis(2));
            drop(state);
            assert_eq!(hit.join().unwrap(), Some(10));
        });
    }
}

#[test]
fn a_hot_key_is_hit_while_another_thread_has_the_state() {
    let map = buffer(10);
    map.insert(1, 10).unwrap();
    map.heat(&1);
    let (send, received) = channel();
    std::thread::scope(|scope| {
        let state = map.core.state.lock();
        scope.spawn(|| send.send((map.get(&1), map.get_fast(&1))).unwrap());
        let (value, fast) = received.recv_timeout(Duration::from_secs(60)).expect("it waits for the state");
        drop(state);
        assert_eq!((value.unwrap(), fast.unwrap()), (Some(10), Some(10)));
    });
    assert_eq!(map.stats().hits, 3, "the one that made it hot, and two");
}

/// What each operation leaves of a hot value: nothing older is seen, and no handle of it is kept.
#[test]
fn a_value_that_changes_or_leaves_is_not_hot_any_more() {
    type Change = fn(&Over<Arc<u32>>);
    let changes: [(&str, Change, Option<u32>); 10] = [
        ("insert", |map| map.insert(1, Arc::new(2)).unwrap(), Some(2)),
        (
            "insert_many",
            |map| map.insert_many(vec![(1, Arc::new(2))]).into_iter().for_each(|r| r.unwrap()),
            Some(2),
        ),
        ("remove_many", |map| assert!(map.remove_many(&[1]).remove(0).unwrap()), None),
        ("remove", |map| assert!(map.remove(&1).unwrap()), None),
        (
            "take",
            |map| assert_eq!(Arc::strong_count(&map.take(&1).unwrap().unwrap()), 2, "its own and the test's"),
            None,
        ),
        ("update", |map| _ = map.update(&1, |value| *value = Arc::new(2)).unwrap(), Some(2)),
        ("upsert", |map| map.upsert(1, || Arc::new(3), |value| *value = Arc::new(2)).unwrap(), Some(2)),
        ("evict", |map| assert_eq!(map.evict(), 1), Some(1)),
        ("evict_key", |map| assert_eq!(map.evict_key(&1).unwrap(), Some(1)), Some(1)),
        ("a target of nothing", |map| assert_eq!(map.evict_until_below(0), 1), Some(1)),
    ];
    for (what, change, after) in changes {
        let map = buffer(10);
        let value = Arc::new(1);
        map.insert(1, Arc::clone(&value)).unwrap();
        map.heat(&1);
        assert!(is_hot(&map, 1), "{what}");
        assert_eq!(Arc::strong_count(&value), 3);
        change(&map);
        assert!(!is_hot(&map, 1), "{what}");
        let slow = usize::from(after == Some(1));
        assert_eq!(Arc::strong_count(&value), 1 + slow, "{what} keeps a handle");
        assert_eq!(map.get(&1).unwrap().as_deref().copied(), after, "{what}");
    }
}

#[test]
fn batches_beside_writers_keep_no_handle() {
    let map: Over<Arc<u32>> = builder(10).writers(1).over(Memory::new()).unwrap();
    let value = Arc::new(1);
    map.insert(1, Arc::clone(&value)).unwrap();
    map.heat(&1);
    map.insert_many(vec![(1, Arc::new(2))]).remove(0).unwrap();
    assert_eq!(Arc::strong_count(&value), 1);
}

/// Who hits without pause keeps neither a value from being evicted nor the evicter busy.
#[test]
fn hits_without_pause_do_not_hold_up_an_eviction() {
    for round in 0..20 {
        let map = buffer(10);
        for key in 0..3 {
            map.insert(key, key).unwrap();
            map.heat(&key);
        }
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for key in 0..3 {
                let (map, over) = (&map, &over);
                scope.spawn(move || {
                    while !over.load(Relaxed) {
                        assert_eq!(map.peek(&key).unwrap(), Some(key));
                        (0..100).for_each(|_| _ = map.core.hot.hit(&key));
                    }
                });
            }
            assert_eq!(map.evict_until_below(0), 3, "round {round}");
            over.store(true, Relaxed);
        });
    }
}

#[test]
fn only_so_many_are_hot() {
    let more = MOST as u32 + 10;
    let map = buffer(u64::MAX);
    // twice: others can be once these are not any more
    for _ in 0..2 {
        for key in 0..more {
            map.insert(key, key).unwrap();
            map.heat(&key);
        }
        let hot = (0..more).filter(|key| is_hot(&map, *key)).count();
        assert_eq!(hot, MOST);
        assert!((0..more).all(|key| map.get(&key).unwrap() == Some(key)));
        assert_eq!(map.evict_until_below(0), u64::from(more));
        assert!(!map.core.hot.any());
    }
}

#[test]
fn an_update_is_alone_with_a_value_that_was_hot() {
    let map = buffer(10);
    map.insert(1, Arc::new(1)).unwrap();
    map.heat(&1);
    map.update(&1, |value| *Arc::get_mut(value).expect("the only handle") += 1).unwrap();
    assert_eq!(map.get(&1).unwrap().as_deref(), Some(&2));
}

#[test]
fn nothing_is_hit_once_closed() {
    let map = buffer(10);
    let value = Arc::new(1);
    map.insert(1, Arc::clone(&value)).unwrap();
    map.heat(&1);
    map.close().unwrap();
    assert!(matches!(map.get(&1).unwrap_err().kind(), ErrorKind::Closed { .. }));
    assert_eq!(Arc::strong_count(&value), 2, "no handle but that of the slot");
}

#[test]
fn without_waiting_nothing_stays_hot() {
    let map = buffer(10);
    let value = Arc::new(1);
    map.insert(1, Arc::clone(&value)).unwrap();
    map.insert(2, Arc::new(2)).unwrap();
    map.heat(&1);
    for _ in 0..CALM {
        assert!(is_hot(&map, 1));
        map.get(&2).unwrap();
    }
    assert!(!is_hot(&map, 1) && !map.core.hot.any());
    assert_eq!(Arc::strong_count(&value), 2);
    assert_eq!(map.stats().hits, u64::from(CALM) + 1);
}

#[test]
fn where_a_handle_more_would_matter_nothing_is_hot() {
    let map = builder(10).shared(Shared::Defer).over(Memory::new()).unwrap();
    map.insert(1, Arc::new(1)).unwrap();
    map.heat(&1);
    assert!(!is_hot(&map, 1));
}

#[test]
fn a_value_that_cannot_be_spilled_is_hit_all_the_same_and_keeps_its_place() {
    let map: Over<u32> = builder(10)
        .overflow(Overflow::Retain)
        .on_evict(|key, _| if *key == 1 { Err(crate::Error::config("key", key, "another")) } else { Ok(()) })
        .over(Memory::new())
        .unwrap();
    for key in 1..=3 {
        map.insert(key, key).unwrap();
    }
    map.heat(&1);
    map.heat(&2);
    assert_eq!(map.evict(), 1, "3 goes, which was used before the others");
    assert!(map.evict_key(&1).is_err());
    assert_eq!(map.get(&1).unwrap(), Some(1));
    map.heat(&1);
    map.get(&2).unwrap();
    assert_eq!(map.fast_keys(), [2, 1]);
}

/// A buffer beside a list in the order of use.
#[derive(Clone, Copy, Debug)]
enum Step {
    Get(u32),
    Heat(u32),
    Insert(u32),
    Remove(u32),
    Evict,
    Order,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..12_u32;
    let step = prop_oneof![
        6 => key.clone().prop_map(Step::Get),
        3 => key.clone().prop_map(Step::Heat),
        4 => key.clone().prop_map(Step::Insert),
        1 => key.prop_map(Step::Remove),
        2 => Just(Step::Evict),
        1 => Just(Step::Order),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// Late or not, uses are counted in the order in which they were made: what is evicted is exactly what was used
    /// least recently.
    #[test]
    fn the_order_of_eviction_is_exact(steps in steps()) {
        const TARGET: usize = 8;
        let map = buffer(TARGET as u64);
        // the most recently used last; keys that are slow are not in it
        let mut order: Vec<u32> = Vec::new();
        let mut present = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Get(key) => {
                    prop_assert_eq!(map.get(&key).unwrap(), present.contains(&key).then_some(key));
                    if present.contains(&key) {
                        order.retain(|other| *other != key);
                        order.push(key);
                    }
                }
                Step::Heat(key) => {
                    map.heat(&key);
                    if order.contains(&key) {
                        order.retain(|other| *other != key);
                        order.push(key);
                    }
                }
                Step::Insert(key) => {
                    map.insert(key, key).unwrap();
                    present.insert(key);
                    order.retain(|other| *other != key);
                    order.push(key);
                }
                Step::Remove(key) => {
                    prop_assert_eq!(map.remove(&key).unwrap(), present.remove(&key));
                    order.retain(|other| *other != key);
                }
                Step::Evict => {
                    prop_assert_eq!(map.evict(), if order.is_empty() { -1 } else { 1 });
                    if !order.is_empty() {
                        order.remove(0);
                    }
                }
                Step::Order => {
                    let newest: Vec<u32> = order.iter().rev().copied().collect();
                    prop_assert_eq!(map.fast_keys(), newest);
                }
            }
            if order.len() > TARGET {
                order.remove(0);
            }
            prop_assert_eq!(map.usage().fast, order.len() as u64);
        }
        let newest: Vec<u32> = order.iter().rev().copied().collect();
        prop_assert_eq!(map.fast_keys(), newest);
    }
}
