//! Keys that could not be spilled: they do not block others, keep their place, and are tried again after a while,
//! when they are replaced, or when there is room.

mod support;

use std::time::Duration;

use spill_core::conformance::{Fault, Operation, Plan};
use spill_core::{ManualEvict, MutableMapping};
use support::{LONGEST_WAIT, filled, sorted_keys, val, writes};

#[test]
fn a_value_that_cannot_be_spilled_does_not_block_the_others() {
    let (buffer, _) = filled(30, 0);
    buffer.slow().inject(Plan::always().on([Operation::Insert]).key(1), Fault::io());
    for key in 1..=10 {
        buffer.insert(key, val(key, 10)).unwrap();
        assert!(buffer.usage().fast <= 30, "what can be spilled makes the room");
    }
    assert_eq!(buffer.fast_keys(), [10, 9, 1]);
    assert_eq!(buffer.slow().struck(), 1, "tried once, and not again with every insert");
    assert_eq!(buffer.stats().deferred, 1);
    assert_eq!(buffer.evict(), 10);
    assert_eq!(buffer.fast_keys(), [10, 1]);
    assert_eq!(buffer.peek(&1).unwrap(), Some(val(1, 10)));
}

#[test]
fn an_eviction_tries_eight_candidates_each_once() {
    let (buffer, _) = filled(u64::MAX, 20);
    for key in 1..=20 {
        buffer.slow().inject(Plan::always().on([Operation::Insert]).key(key), Fault::io());
    }
    assert_eq!(buffer.evict(), -1);
    assert_eq!(writes(buffer.slow()), 8);
    assert_eq!(buffer.stats().deferred, 8, "eight keys, and not one key eight times");

    let (buffer, _) = filled(u64::MAX, 20);
    for key in 1..=7 {
        buffer.slow().inject(Plan::always().on([Operation::Insert]).key(key), Fault::io());
    }
    assert_eq!(buffer.evict(), 10);
    assert_eq!(sorted_keys(buffer.slow()), [8]);

    let (buffer, _) = filled(u64::MAX, 1);
    buffer.slow().inject(Plan::always().on([Operation::Insert]), Fault::io());
    assert_eq!(buffer.evict(), -1);
    assert_eq!(writes(buffer.slow()), 1, "there is one candidate, and it is tried once");
}

/// Where nothing else is left to evict, a monitor's call tries what failed before without waiting for its time.
#[test]
fn an_eviction_tries_deferred_keys_last() {
    let (buffer, _) = filled(u64::MAX, 2);
    buffer.slow().inject(Plan::nth(1).on([Operation::Insert]), Fault::io());
    assert_eq!(buffer.evict(), 10);
    assert_eq!(buffer.fast_keys(), [1], "2 went instead");
    assert_eq!(buffer.evict(), 10);
    assert_eq!(sorted_keys(buffer.slow()), [1, 2]);
}

/// Eight failures in a row end it; failures among successes do not.
#[test]
fn evicting_down_to_a_target_passes_by_what_fails() {
    let (buffer, _) = filled(u64::MAX, 40);
    for key in (1..=40).step_by(2) {
        buffer.slow().inject(Plan::always().on([Operation::Insert]).key(key), Fault::io());
    }
    assert_eq!(buffer.evict_until_below(0), 200);
    assert_eq!(sorted_keys(buffer.slow()), (2..=40).step_by(2).collect::<Vec<_>>());

    let (buffer, _) = filled(u64::MAX, 40);
    buffer.slow().inject(Plan::always().on([Operation::Insert]), Fault::io());
    assert_eq!(buffer.evict_until_below(0), 0);
    assert_eq!(writes(buffer.slow()), 8);
}

#[test]
fn a_deferred_key_keeps_its_place_and_is_tried_again_after_a_while() {
    let (buffer, clock) = filled(30, 3);
    buffer.slow().inject(Plan::nth(1).on([Operation::Insert]).key(1), Fault::io());
    buffer.insert(4, val(4, 10)).unwrap();
    assert_eq!(buffer.fast_keys(), [4, 3, 1]);
    buffer.insert(5, val(5, 10)).unwrap();
    assert_eq!(buffer.fast_keys(), [5, 4, 1], "its time has not come");
    clock.advance(LONGEST_WAIT);
    buffer.insert(6, val(6, 10)).unwrap();
    assert_eq!(buffer.fast_keys(), [6, 5, 4], "it was still the least recently used");
    assert_eq!(buffer.stats().deferred, 0);
}

#[test]
fn a_deferred_key_that_is_used_moves_to_the_front() {
    let (buffer, clock) = filled(30, 3);
    buffer.slow().inject(Plan::nth(1).on([Operation::Insert]).key(1), Fault::io());
    buffer.insert(4, val(4, 10)).unwrap();
    assert_eq!(buffer.fast_keys(), [4, 3, 1]);
    buffer.get(&1).unwrap();
    clock.advance(LONGEST_WAIT);
    buffer.insert(5, val(5, 10)).unwrap();
    assert_eq!(buffer.fast_keys(), [5, 1, 4]);
}

#[test]
fn a_key_that_fails_again_waits_again() {
    let (buffer, clock) = filled(10, 2);
    buffer.slow().inject(Plan::always().on([Operation::Insert]), Fault::io());
    let tries_now = || {
        let before = writes(buffer.slow());
        buffer.update(&2, |_| ()).unwrap(); // something came in, so that room is wanted
        writes(buffer.slow()) - before
    };
    assert_eq!(tries_now(), 2, "1, and 2 itself");
    for _ in 0..5 {
        assert_eq!(tries_now(), 1, "only 2, which was replaced");
        clock.advance(LONGEST_WAIT);
        assert_eq!(tries_now(), 2);
    }
}

/// The wait grows with each failure up to ten seconds, so that a dead disk is not asked all the time.
#[test]
fn the_wait_of_a_failing_key_grows() {
    let (buffer, clock) = filled(5, 1);
    buffer.slow().inject(Plan::always().on([Operation::Insert]), Fault::io());
    let mut tries = Vec::new();
    for tick in 0..500 {
        let before = writes(buffer.slow());
        buffer.evict_until_below(5);
        if writes(buffer.slow()) > before {
            tries.push(tick);
        }
        clock.advance(Duration::from_millis(100));
    }
    let waits: Vec<i32> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.len() >= 5, "{waits:?}");
    assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    assert!(waits.first() < waits.last(), "{waits:?}");
    assert!(waits.iter().all(|ticks| *ticks <= 100), "{waits:?}");
}

/// One call of a monitor counts as one failure of a key, so that it does not have to wait the longest time.
#[test]
fn one_failed_eviction_is_one_failure() {
    let (buffer, clock) = filled(10, 1);
    buffer.slow().inject(Plan::nth(1).on([Operation::Insert]), Fault::io());
    assert_eq!(buffer.evict(), -1);
    assert_eq!(buffer.stats().failures, 1);
    buffer.set_target(5);
    clock.advance(Duration::from_secs(1));
    assert_eq!(buffer.evict_until_below(5), 10);
}

#[test]
fn a_deferred_key_is_tried_again_when_it_is_replaced() {
    let (buffer, _) = filled(30, 3);
    buffer.slow().inject(Plan::nth(1).on([Operation::Insert]).key(1), Fault::io());
    buffer.insert(4, val(4, 10)).unwrap();
    assert_eq!(buffer.fast_keys(), [4, 3, 1]);
    buffer.insert(1, val(11, 10)).unwrap();
    assert_eq!(buffer.stats().deferred, 0);
    buffer.insert(5, val(5, 20)).unwrap();
    assert_eq!(buffer.fast_keys(), [5, 1]);
    buffer.insert(6, val(6, 10)).unwrap();
    assert_eq!(buffer.fast_keys(), [6, 5], "no time had to pass");
    assert_eq!(buffer.slow().inner().held(1), Some(val(11, 10)));
}

#[test]
fn a_deferred_key_is_tried_again_when_room_returns() {
    let (buffer, _) = filled(30, 0);
    buffer.slow().inner().set_limit(20);
    for key in 1..=6 {
        buffer.insert(key, val(key, 10)).unwrap();
    }
    assert_eq!(sorted_keys(buffer.slow()), [1, 2]);
    assert_eq!(buffer.usage().fast, 40, "storage is full, and the last value was accepted");
    assert!(buffer.stats().deferred > 0);
    assert!(buffer.remove(&1).unwrap());
    buffer.insert_without_evicting(7, val(7, 0)).unwrap();
    assert_eq!(buffer.evict_until_below(30), 10);
    assert_eq!(sorted_keys(buffer.slow()), [2, 3], "the least recently used of those that waited");
}

/// On full storage keys wait for room or for their time, however many they are.
#[test]
fn full_storage_is_not_asked_again_and_again() {
    let (buffer, _) = filled(30, 0);
    buffer.slow().inner().set_limit(0);
    for key in 1..=5 {
        buffer.insert(key, val(key, 10)).unwrap();
    }
    let before = writes(buffer.slow());
    assert!(before <= 5, "{before} writes: each key is tried once");
    for _ in 0..10 {
        buffer.update(&5, |_| ()).unwrap();
    }
    assert!(writes(buffer.slow()) - before <= 10, "only the key that was replaced is tried");
    assert_eq!(buffer.len(), 5);
}
