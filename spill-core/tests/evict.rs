//! `evict()` and `fast()`, as a memory monitor calls them: on failing storage, in several threads, and on keys
//! that are written meanwhile. Which keys are tried again, and when, is told in `deferred.rs`.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use spill_core::conformance::{Fault, Gate, Operation, Plan};
use spill_core::{BufferBuilder, Lru, ManualEvict, MutableMapping};
use support::{
    LONGEST_WAIT, Val, buffer, builder, filled, is_refusal, over, quiet_injected_panics, refusal,
    sorted_keys, val, writes,
};

fn faults() -> Vec<Fault<Val>> {
    let before = [Fault::io(), Fault::full(), Fault::panic("injected")];
    let after = [Fault::io().after(), Fault::full().after(), Fault::panic("injected").after()];
    before.into_iter().chain(after).collect()
}

/// S35: from a mapping with nothing in fast memory, -1.
#[test]
fn nothing_to_evict_gives_minus_one() {
    let buffer = buffer(100);
    assert_eq!(buffer.evict(), -1);
    buffer.insert(1, val(1, 10)).unwrap();
    assert_eq!(buffer.evict(), 10);
    assert_eq!(buffer.evict(), -1);
    assert_eq!(buffer.stats().failures, 0, "that is no failure");
}

/// S35: the size that the pair weighed in fast memory, the least recently used pair first.
#[test]
fn evict_gives_the_weight_of_the_least_recently_used() {
    let buffer = buffer(100);
    for (key, weight) in [(1, 11), (2, 12), (3, 0), (4, 14)] {
        buffer.insert(key, val(key, weight)).unwrap();
    }
    buffer.get(&1).unwrap();
    let moved: Vec<i64> = (0..5).map(|_| buffer.evict()).collect();
    assert_eq!(moved, [12, 0, 14, 11, -1]);
    assert_eq!(buffer.len(), 4);
}

/// S35: where storage fails, is full or panics, before or after the value was written: -1, the pair is kept in
/// fast memory, nothing is left in storage, and nothing unwinds.
#[test]
fn a_failed_eviction_keeps_the_pair() {
    quiet_injected_panics();
    for fault in faults() {
        let (buffer, _) = filled(1000, 3);
        buffer.slow().inject(Plan::always().on([Operation::Insert]), fault);
        assert_eq!(buffer.evict(), -1);
        assert_eq!(buffer.fast_keys(), [3, 2, 1]);
        assert_eq!(buffer.slow().len(), 0);
        assert_eq!(buffer.usage().fast, 30);
        assert_eq!(buffer.stats().failures, 3, "each of the three was tried once");
        assert_eq!(buffer.stats().deferred, 3);
        buffer.slow().heal();
        for key in 1..=3 {
            assert_eq!(buffer.get(&key).unwrap(), Some(val(key, 10)));
        }
        assert_eq!([buffer.evict(), buffer.evict(), buffer.evict(), buffer.evict()], [10, 10, 10, -1]);
        assert_eq!(buffer.stats().deferred, 0);
        assert_eq!(sorted_keys(buffer.slow()), [1, 2, 3]);
    }
}

/// S35: an observer that refuses or panics keeps the pair too.
#[test]
fn a_refused_eviction_keeps_the_pair() {
    quiet_injected_panics();
    for panics in [false, true] {
        let buffer = over(builder(100).on_evict(move |_, _| {
            assert!(!panics, "injected");
            Err(refusal())
        }));
        buffer.insert(1, val(1, 10)).unwrap();
        assert_eq!(buffer.evict(), -1);
        assert_eq!(buffer.fast_keys(), [1]);
        assert_eq!(buffer.slow().len(), 0);
    }
}

/// S35: nothing unwinds where dropping the evicted value panics.
#[test]
fn a_value_that_panics_when_dropped_does_not_unwind() {
    quiet_injected_panics();
    #[derive(Debug)]
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("injected");
        }
    }
    let lru: Lru<u64, Arc<Bomb>> =
        BufferBuilder::weighed_by(|_: &u64, _: &Arc<Bomb>| 10).target(100).alone().unwrap();
    lru.insert(1, Arc::new(Bomb)).unwrap();
    lru.evict();
    assert_eq!(lru.len(), 0);
    let kept = Arc::new(Bomb);
    lru.insert(2, Arc::clone(&kept)).unwrap();
    assert_eq!(lru.evict(), 10);
    assert_eq!(lru.usage().fast, 0);
    std::mem::forget(kept);
}

/// S35: of threads that evict at once each moves pairs of its own; together they move all, each once.
#[test]
fn concurrent_evictions_share_the_pairs() {
    const KEYS: u64 = 200;
    let (buffer, _) = filled(u64::MAX, KEYS);
    let moved = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Ok(weight) = u64::try_from(buffer.evict()) {
                    assert_eq!(weight, 10);
                    moved.fetch_add(weight, SeqCst);
                }
            });
        }
    });
    assert_eq!(moved.load(SeqCst), 10 * KEYS);
    assert_eq!(writes(buffer.slow()), KEYS);
    assert_eq!(buffer.slow().len(), 200);
    assert!(!buffer.fast());
}

/// S35: evictions by several threads while storage fails at every third call lose nothing and end.
#[test]
fn concurrent_evictions_on_failing_storage_lose_nothing() {
    quiet_injected_panics();
    for fault in faults() {
        let (buffer, clock) = filled(u64::MAX, 60);
        buffer.slow().inject(Plan::every(3).on(Operation::WRITES), fault);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..60 {
                        let moved = buffer.evict();
                        assert!(moved == 10 || moved == -1);
                        clock.advance(Duration::from_secs(1));
                    }
                });
            }
        });
        buffer.slow().heal();
        clock.advance(LONGEST_WAIT);
        buffer.evict_until_below(0);
        assert!(!buffer.fast());
        for key in 1..=60 {
            assert_eq!(buffer.slow().inner().held(key), Some(val(key, 10)));
        }
        assert_eq!(buffer.len(), 60);
    }
}

/// S36: `fast` tells whether fast memory holds anything; values that could not be spilled count.
#[test]
fn fast_tells_whether_anything_is_there() {
    let buffer = Arc::new(buffer(100));
    let monitored: Arc<dyn ManualEvict> = buffer.clone();
    let boxed: Box<dyn ManualEvict> = Box::new(Arc::clone(&monitored));
    assert!(!monitored.fast());
    buffer.insert(1, val(1, 0)).unwrap();
    assert!(monitored.fast(), "a value that weighs nothing is there all the same");
    buffer.slow().inject(Plan::always().on([Operation::Insert]), Fault::io());
    assert_eq!(monitored.evict(), -1);
    assert!(boxed.fast());
    buffer.slow().heal();
    assert_eq!(boxed.evict(), 0);
    assert!(!boxed.fast());
    buffer.get(&1).unwrap();
    assert!(monitored.fast());
    buffer.remove(&1).unwrap();
    assert!(!monitored.fast());
}

/// Z15: a set in the gap between an eviction's write and its end is kept, and what was written is removed.
#[test]
fn a_set_between_write_and_end_of_an_eviction_is_kept() {
    let buffer = buffer(100);
    let gate = Gate::closed();
    buffer.slow().inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&gate).after());
    buffer.insert(1, val(1, 10)).unwrap();
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let evicting = scope.spawn(|| buffer.evict());
        gate.wait_for(1);
        assert_eq!(buffer.slow().inner().held(1), Some(val(1, 10)));
        buffer.insert(1, val(2, 20)).unwrap();
        assert!(buffer.contains_key(&1));
        drop(open);
        assert_eq!(evicting.join().unwrap(), 20, "it went on with what it found: the new value");
    });
    assert_eq!(buffer.slow().inner().held(1), Some(val(2, 20)));
    assert_eq!(buffer.get(&1).unwrap(), Some(val(2, 20)));
    assert_eq!(buffer.len(), 1);
}

/// Z15: a key removed in that gap stays removed.
#[test]
fn a_removal_between_write_and_end_of_an_eviction_is_kept() {
    let buffer = buffer(100);
    let gate = Gate::closed();
    buffer.slow().inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&gate).after());
    buffer.insert(1, val(1, 10)).unwrap();
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let evicting = scope.spawn(|| buffer.evict());
        gate.wait_for(1);
        assert_eq!(buffer.take(&1).unwrap(), Some(val(1, 10)));
        assert!(!buffer.contains_key(&1));
        drop(open);
        assert_eq!(evicting.join().unwrap(), -1);
    });
    assert_eq!(buffer.get(&1).unwrap(), None);
    assert_eq!((buffer.len(), buffer.slow().len()), (0, 0));
}

/// Z16: a second evicter takes the next key while the first one's write is held.
#[test]
fn a_second_evicter_takes_the_next_key() {
    let (buffer, _) = filled(u64::MAX, 2);
    let gate = Gate::closed();
    buffer.slow().inject(Plan::always().on([Operation::Insert]).key(1), Fault::block(&gate));
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let first = scope.spawn(|| buffer.evict());
        gate.wait_for(1);
        assert_eq!(buffer.evict(), 10);
        assert_eq!(sorted_keys(buffer.slow()), [2]);
        assert!(!first.is_finished());
        drop(open);
        assert_eq!(first.join().unwrap(), 10);
    });
    assert_eq!(sorted_keys(buffer.slow()), [1, 2]);
}

/// Z16: where all are being written the second one waits, and moves nothing twice; when the first one fails,
/// it tries for itself.
#[test]
fn a_second_evicter_waits_for_the_only_key() {
    for fails in [false, true] {
        let (buffer, _) = filled(u64::MAX, 1);
        let gate = Gate::closed();
        let held = gate.clone();
        let fault = Fault::delay(move || {
            held.pass();
            assert!(!fails, "injected");
        });
        buffer.slow().inject(Plan::nth(1).on([Operation::Insert]), fault);
        quiet_injected_panics();
        thread::scope(|scope| {
            let open = gate.open_on_drop();
            let first = scope.spawn(|| buffer.evict());
            gate.wait_for(1);
            let second = scope.spawn(|| buffer.evict());
            for _ in 0..1000 {
                thread::yield_now();
            }
            assert!(!second.is_finished());
            assert_eq!(writes(buffer.slow()), 1);
            drop(open);
            let mut moved = [first.join().unwrap(), second.join().unwrap()];
            moved.sort_unstable();
            assert_eq!(moved, [-1, 10]);
        });
        assert_eq!(writes(buffer.slow()), if fails { 2 } else { 1 });
        assert_eq!(sorted_keys(buffer.slow()), [1]);
    }
}

/// When its candidate is replaced meanwhile, an eviction takes the next one.
#[test]
fn an_eviction_whose_candidate_was_replaced_takes_the_next() {
    let (buffer, _) = filled(u64::MAX, 0);
    buffer.insert(1, val(1, 10)).unwrap();
    buffer.insert(2, val(2, 12)).unwrap();
    let gate = Gate::closed();
    buffer.slow().inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&gate));
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let evicting = scope.spawn(|| buffer.evict());
        gate.wait_for(1);
        buffer.insert(1, val(3, 14)).unwrap();
        drop(open);
        assert_eq!(evicting.join().unwrap(), 12);
    });
    assert_eq!(buffer.fast_keys(), [1]);
    assert_eq!(sorted_keys(buffer.slow()), [2]);
    assert_eq!(buffer.stats().cancelled, 1);
}

/// An eviction that meets an insert which is removing the key's old copy waits for it, and moves the new value.
#[test]
fn an_eviction_during_an_insert_of_the_same_key() {
    let buffer = buffer(100);
    buffer.insert(1, val(1, 10)).unwrap();
    assert_eq!(buffer.evict(), 10);
    let gate = Gate::closed();
    buffer.slow().inject(Plan::nth(1).on([Operation::Remove]), Fault::block(&gate));
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let inserting = scope.spawn(|| buffer.insert(1, val(2, 20)));
        gate.wait_for(1);
        assert!(buffer.fast());
        let evicting = scope.spawn(|| buffer.evict());
        drop(open);
        inserting.join().unwrap().unwrap();
        assert_eq!(evicting.join().unwrap(), 20);
    });
    assert_eq!(buffer.slow().inner().held(1), Some(val(2, 20)));
    assert_eq!(buffer.get(&1).unwrap(), Some(val(2, 20)));
}

/// A key that is being removed is nothing to evict.
#[test]
fn an_eviction_during_a_removal_of_the_same_key() {
    let buffer = buffer(100);
    buffer.insert(1, val(1, 10)).unwrap();
    assert_eq!(buffer.evict(), 10);
    let gate = Gate::closed();
    buffer.slow().inject(Plan::nth(1).on([Operation::Remove]), Fault::block(&gate));
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let removing = scope.spawn(|| buffer.remove(&1));
        gate.wait_for(1);
        assert!(!buffer.fast());
        assert_eq!(buffer.evict(), -1);
        assert_eq!(buffer.get(&1).unwrap(), None);
        drop(open);
        assert!(removing.join().unwrap().unwrap());
    });
    assert_eq!((buffer.len(), buffer.slow().len()), (0, 0));
}

/// An eviction of a key that a closure has takes another key, or waits for the closure.
#[test]
fn an_eviction_during_an_update_of_the_same_key() {
    let buffer = buffer(100);
    buffer.insert(1, val(1, 10)).unwrap();
    buffer.insert(2, val(2, 12)).unwrap();
    let moved = buffer.update(&1, |value| {
        value.weight = 20;
        buffer.evict()
    });
    assert_eq!(moved.unwrap(), Some(12));
    assert_eq!(buffer.fast_keys(), [1]);
    assert_eq!(buffer.evict(), 20);
}

/// `evict_key` gives the reason, where `evict` logs it.
#[test]
fn evicting_one_key_gives_its_error() {
    let buffer = over(builder(100).on_evict(|key, _| if *key == 1 { Err(refusal()) } else { Ok(()) }));
    buffer.insert(1, val(1, 10)).unwrap();
    buffer.insert(2, val(2, 12)).unwrap();
    assert!(is_refusal(&buffer.evict_key(&1).unwrap_err()));
    assert_eq!(buffer.evict_key(&2).unwrap(), Some(12));
    assert_eq!(buffer.evict_key(&2).unwrap(), None, "it is slow");
    assert_eq!(buffer.evict_key(&3).unwrap(), None, "it is absent");
    assert_eq!(buffer.fast_keys(), [1]);
}

/// Nothing is evicted from a closed buffer.
#[test]
fn a_closed_buffer_evicts_nothing() {
    let (buffer, _) = filled(u64::MAX, 2);
    buffer.close().unwrap();
    assert_eq!(buffer.evict(), -1);
    assert_eq!(buffer.evict_until_below(0), 0);
    assert!(support::is_closed(&buffer.evict_key(&1).unwrap_err()));
    assert_eq!(writes(buffer.slow()), 0);
}

/// Fast memory alone drops what it evicts, unless it was told to flush first, which changes nothing.
#[test]
fn fast_memory_alone_forgets_what_it_evicts() {
    let lru: Lru<u64, Val> = builder(100).alone().unwrap();
    lru.insert(1, val(1, 10)).unwrap();
    lru.as_buffer().flush().unwrap();
    assert_eq!(lru.get(&1).unwrap(), Some(val(1, 10)));
    assert_eq!(lru.evict(), 10);
    assert_eq!(lru.get(&1).unwrap(), None);
    assert_eq!(lru.len(), 0);
    assert_eq!(lru.usage(), Default::default());
}
