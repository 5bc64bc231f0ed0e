//! Values that somebody outside holds: spilling them frees nothing, so `Shared::Defer` passes them by.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use spill_core::conformance::{Fault, Memory, Operation, Plan};
use spill_core::{Buffer, BufferBuilder, ManualClock, ManualEvict, MutableMapping, Shared, Weigh};
use support::{LONGEST_WAIT, eventually, quiet_injected_panics, val};

/// Values in an `Arc`, whose weigher counts how often it is asked whether one is shared.
#[derive(Clone, Default)]
struct Asked(Arc<AtomicU64>);

impl Weigh<u64, Arc<u64>> for Asked {
    fn weigh(&self, _: &u64, _: &Arc<u64>) -> u64 {
        10
    }
    fn is_shared(&self, _: &u64, value: &Arc<u64>) -> bool {
        self.0.fetch_add(1, SeqCst);
        assert_ne!(**value, u64::MAX, "injected");
        Arc::strong_count(value) > 1
    }
}

type OfArcs = Buffer<u64, Arc<u64>, Memory<u64, Arc<u64>>>;

fn of_arcs(target: u64, shared: Shared, writers: usize) -> (OfArcs, Arc<AtomicU64>, Arc<ManualClock>) {
    let (asked, clock) = (Asked::default(), Arc::new(ManualClock::new()));
    let builder = BufferBuilder::weighed_by(asked.clone()).target(target).shared(shared).writers(writers);
    (builder.clock(clock.clone()).over(Memory::new()).unwrap(), asked.0, clock)
}

/// Eviction passes by values that somebody outside holds, in exact order among the others; what is held that way
/// is reported until it is let go, and then goes in its own place.
#[test]
fn held_values_are_passed_by_and_reported() {
    let (buffer, ..) = of_arcs(50, Shared::Defer, 0);
    let values: Vec<Arc<u64>> = (0..5).map(Arc::new).collect();
    let mut held: Vec<Option<Arc<u64>>> = values.iter().cloned().map(Some).collect();
    (0..5).for_each(|key| buffer.insert(key, held[key as usize].clone().unwrap()).unwrap());
    drop(values);
    held[1] = None;
    held[3] = None;
    buffer.insert(5, Arc::new(5)).unwrap();
    assert_eq!(buffer.fast_keys(), [5, 4, 3, 2, 0], "the least recently used that is free went");
    assert_eq!((buffer.usage().fast, buffer.usage().held), (50, 10));
    assert_eq!(buffer.evict(), 10);
    assert_eq!(buffer.fast_keys(), [5, 4, 2, 0]);
    assert_eq!(buffer.usage().held, 20, "0 and 2 were passed by");
    held[2] = None;
    assert_eq!(buffer.usage().held, 10);
    assert_eq!(buffer.evict(), 10);
    assert_eq!(buffer.fast_keys(), [5, 4, 0], "2 kept its place before 5");
    assert_eq!(buffer.evict(), 10);
    assert_eq!(buffer.fast_keys(), [4, 0]);
    assert_eq!((buffer.evict(), buffer.fast()), (-1, true));
    assert_eq!((buffer.usage().held, buffer.stats().deferred, buffer.stats().failures), (20, 0, 0));
    drop(held);
    assert_eq!(buffer.evict_until_below(0), 20);
    assert_eq!(buffer.usage(), spill_core::Usage { count: 6, ..Default::default() });
}

/// Unless asked for, a value is spilled whoever holds it, and one key always can be.
#[test]
fn held_values_are_spilled_by_default_and_by_key() {
    let held = Arc::new(1);
    let (buffer, asked, _) = of_arcs(50, Shared::Evict, 0);
    buffer.insert(1, Arc::clone(&held)).unwrap();
    assert_eq!((buffer.evict(), asked.load(SeqCst), buffer.usage().held), (10, 0, 0));
    let (buffer, ..) = of_arcs(50, Shared::Defer, 0);
    buffer.insert(1, Arc::clone(&held)).unwrap();
    assert_eq!((buffer.evict(), buffer.usage().held), (-1, 10));
    assert_eq!(buffer.evict_key(&1).unwrap(), Some(10));
    assert_eq!((buffer.usage().held, buffer.fast()), (0, false));
}

/// A value that takes the place of a held one, or is removed, is not reported as held.
#[test]
fn a_write_ends_what_is_held() {
    let held = Arc::new(1);
    let (buffer, ..) = of_arcs(50, Shared::Defer, 0);
    for key in 1..=3 {
        buffer.insert(key, Arc::clone(&held)).unwrap();
    }
    assert_eq!((buffer.evict(), buffer.usage().held), (-1, 30));
    buffer.insert(1, Arc::new(4)).unwrap();
    assert!(buffer.remove(&2).unwrap());
    assert_eq!(buffer.update(&3, |value| *value = Arc::new(5)).unwrap(), Some(()));
    assert_eq!(buffer.usage().held, 0);
    assert_eq!((buffer.evict(), buffer.evict(), buffer.evict()), (10, 10, -1));
}

/// Held values are not looked at by every eviction: a thousand of them cost a thousand looks once, then few.
#[test]
fn held_values_are_looked_at_ever_less_often() {
    let (buffer, asked, clock) = of_arcs(u64::MAX, Shared::Defer, 0);
    let held: Vec<Arc<u64>> = (0..3000).map(Arc::new).collect();
    held.iter().for_each(|value| buffer.insert(**value, Arc::clone(value)).unwrap());
    assert_eq!(buffer.evict(), -1);
    assert!(asked.swap(0, SeqCst) >= 3000);
    for key in 0..100 {
        buffer.insert(10_000 + key, Arc::new(key)).unwrap();
        assert_eq!(buffer.evict(), 10, "what is free is found at once");
    }
    assert_eq!(asked.swap(0, SeqCst), 100);
    for _ in 0..100 {
        assert_eq!(buffer.evict(), -1);
    }
    assert!(asked.swap(0, SeqCst) <= 800);
    // over a minute each is looked at some ten times, however often something is evicted
    for _ in 0..600 {
        clock.advance(Duration::from_millis(100));
        buffer.evict();
    }
    let asks = asked.load(SeqCst);
    assert!((3 * 3000..15 * 3000).contains(&asks), "{asks}");
    drop(held);
    clock.advance(LONGEST_WAIT);
    assert_eq!(buffer.evict_until_below(0), 30_000);
}

/// Writers leave held values alone, and take them when they are let go.
#[test]
fn writers_wait_for_held_values() {
    let (buffer, _, clock) = of_arcs(10, Shared::Defer, 2);
    let held: Vec<Arc<u64>> = (0..5).map(Arc::new).collect();
    held.iter().for_each(|value| buffer.insert(**value, Arc::clone(value)).unwrap());
    (5..50).for_each(|key| buffer.insert(key, Arc::new(key)).unwrap());
    eventually("all that is free went", || buffer.stats().fast_count == 5);
    assert_eq!(buffer.usage().held, 50);
    drop(held);
    eventually("the target is reached", || {
        clock.advance(Duration::from_millis(100));
        buffer.stats().fast_bytes <= 10
    });
    assert_eq!(buffer.usage().held, 0);
}

/// A weigher that panics says nothing, so its value is spilled.
#[test]
fn a_value_whose_weigher_panics_is_not_held() {
    quiet_injected_panics();
    let (buffer, ..) = of_arcs(50, Shared::Defer, 0);
    let held = Arc::new(u64::MAX);
    buffer.insert(1, Arc::clone(&held)).unwrap();
    assert_eq!(buffer.evict(), 10);
}

/// An eviction tries as many candidates as it was told to.
#[test]
fn an_eviction_tries_as_many_candidates_as_it_was_told() {
    for count in [1, 3, 8] {
        let buffer = support::over(support::builder(u64::MAX).candidates(count));
        (0..20).for_each(|key| buffer.insert(key, val(key, 10)).unwrap());
        buffer.slow().inject(Plan::always().on([Operation::Insert]), Fault::io());
        assert_eq!(buffer.evict(), -1);
        assert_eq!(support::writes(buffer.slow()), count as u64);
    }
}
