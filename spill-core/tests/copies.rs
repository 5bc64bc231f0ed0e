//! Copies that stay on slow memory beside a value in fast memory: they save writes, give way where storage is
//! full, and are not counted as spilled.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use spill_core::conformance::{Fault, Operation, Plan};
use spill_core::{ManualEvict, MutableMapping, SpilledSize};
use support::{Buf, buffer, is_io, reads, record, records, sorted_keys, val, writes};

/// A buffer with keys `1..=keys` of 10 bytes each in fast memory, all with a copy on slow memory.
fn copied(target: u64, keys: u64) -> Buf {
    let buffer = buffer(target);
    for key in 1..=keys {
        buffer.insert(key, val(key, 10)).unwrap();
    }
    buffer.flush().unwrap();
    assert_eq!(writes(buffer.slow()), keys);
    buffer
}

#[test]
fn evicting_an_unchanged_value_that_was_read_back_writes_nothing() {
    let buffer = buffer(100);
    buffer.insert(1, val(1, 10)).unwrap();
    assert_eq!(buffer.evict(), 10);
    assert_eq!(writes(buffer.slow()), 1);
    for _ in 0..3 {
        assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)));
        assert_eq!(buffer.fast_keys(), [1]);
        assert_eq!(buffer.evict(), 10);
    }
    assert_eq!(writes(buffer.slow()), 1);
    assert_eq!(buffer.slow().calls(Operation::Remove), 0);
    assert_eq!((buffer.stats().evictions, buffer.stats().clean_evictions), (4, 3));
    assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)));
}

#[test]
fn evicting_a_changed_value_writes_it() {
    let buffer = copied(100, 3);
    buffer.insert(1, val(11, 10)).unwrap();
    buffer.update(&2, |value| value.id = 22).unwrap();
    buffer.upsert(3, || val(0, 0), |value| value.id = 33).unwrap();
    assert_eq!(buffer.slow().len(), 0, "the old copies are gone");
    assert_eq!(buffer.evict_until_below(0), 30);
    assert_eq!(writes(buffer.slow()), 6);
    for (key, id) in [(1, 11), (2, 22), (3, 33)] {
        assert_eq!(buffer.slow().inner().held(key), Some(val(id, 10)));
        assert_eq!(buffer.get(&key).unwrap(), Some(val(id, 10)));
    }
    assert_eq!(buffer.stats().clean_evictions, 0);
}

#[test]
fn copies_beside_fast_values_are_not_spilled() {
    let buffer = copied(100, 3);
    assert_eq!(buffer.slow().usage().spilled, records((1..=3).map(|key| val(key, 10))));
    assert_eq!(buffer.usage().spilled, SpilledSize::default());
    assert_eq!((buffer.stats().slow_count, buffer.stats().slow_bytes), (0, 0));
    buffer.evict_key(&2).unwrap();
    assert_eq!(buffer.usage().spilled, record(val(2, 10)));
    assert_eq!((buffer.stats().slow_count, buffer.stats().slow_bytes), (1, 10));
    buffer.get(&2).unwrap();
    assert_eq!(buffer.usage().spilled, SpilledSize::default());
    buffer.remove(&2).unwrap();
    buffer.take(&1).unwrap();
    assert_eq!(buffer.usage().spilled, SpilledSize::default());
    assert_eq!(sorted_keys(buffer.slow()), [3]);
    assert_eq!(buffer.usage().fast, 10);
}

/// Copies of replaced or removed values whose removal failed are not spilled either.
#[test]
fn old_copies_are_not_spilled() {
    let buffer = copied(100, 3);
    buffer.evict_until_below(0);
    buffer.slow().inject(Plan::always().on([Operation::Remove]), Fault::io());
    buffer.insert(1, val(11, 20)).unwrap();
    buffer.remove(&2).unwrap();
    assert_eq!(buffer.slow().len(), 3);
    assert_eq!(buffer.usage().spilled, record(val(3, 10)));
    assert_eq!((buffer.usage().count, buffer.usage().fast), (2, 20));
    buffer.slow().heal();
    buffer.remove(&1).unwrap();
    assert_eq!(buffer.usage().spilled, record(val(3, 10)));
    assert_eq!((buffer.usage().count, buffer.usage().fast), (1, 0));
}

#[test]
fn full_storage_gives_up_copies_and_accepts_the_value() {
    let buffer = copied(40, 4);
    buffer.slow().inner().set_limit(40);
    // Four copies fill the storage, beside their values in fast memory. 5 makes 1 go, whose copy is good.
    buffer.insert(5, val(5, 10)).unwrap();
    assert_eq!(buffer.fast_keys(), [5, 4, 3, 2]);
    assert_eq!(writes(buffer.slow()), 4);
    // Now 5 must be written, and there is no room but that of copies.
    assert_eq!(buffer.evict_key(&5).unwrap(), Some(10));
    assert_eq!(sorted_keys(buffer.slow()), [1, 5], "the copies of 2, 3 and 4 made room");
    assert_eq!(buffer.fast_keys(), [4, 3, 2]);
    assert_eq!(buffer.usage().spilled, records([val(1, 10), val(5, 10)]));
    for key in 1..=5 {
        assert_eq!(buffer.peek(&key).unwrap(), Some(val(key, 10)));
    }
    assert_eq!(buffer.evict_until_below(0), 20, "two more fit, written again");
    assert_eq!(buffer.fast_keys(), [4]);
    assert_eq!(writes(buffer.slow()), 4 + 2 + 2 + 1, "5 was tried twice, 2 and 3 once, 4 in vain");
    assert_eq!(reads(buffer.slow()), 2, "the two peeks at slow values");
}

#[test]
fn full_storage_without_copies_to_give_up_is_a_failed_eviction() {
    let buffer = buffer(100);
    buffer.slow().inner().set_limit(15);
    buffer.insert(1, val(1, 10)).unwrap();
    buffer.insert(2, val(2, 10)).unwrap();
    assert_eq!(buffer.evict_key(&1).unwrap(), Some(10));
    assert!(buffer.evict_key(&2).unwrap_err().is_full());
    assert_eq!(buffer.fast_keys(), [2]);
    assert_eq!(writes(buffer.slow()), 2);
}

/// Copies that cannot be removed end it: it is tried no further.
#[test]
fn copies_that_cannot_be_given_up_end_the_attempt() {
    let buffer = copied(100, 3);
    buffer.slow().inner().set_limit(30);
    buffer.insert(4, val(4, 10)).unwrap();
    buffer.slow().inject(Plan::always().on([Operation::Remove]), Fault::io());
    assert!(buffer.evict_key(&4).unwrap_err().is_full());
    assert_eq!(buffer.fast_keys(), [4, 3, 2, 1]);
    assert_eq!(buffer.slow().len(), 3);
    buffer.slow().heal();
    for key in 1..=4 {
        assert_eq!(buffer.get(&key).unwrap(), Some(val(key, 10)));
    }
    assert_eq!(buffer.usage().spilled, SpilledSize::default());
}

#[test]
fn flush_writes_what_changed_once_and_moves_nothing() {
    let buffer = buffer(20);
    for key in 1..=3 {
        buffer.insert(key, val(key, 10)).unwrap();
    }
    let order = buffer.fast_keys();
    assert_eq!(order, [3, 2]);
    assert_eq!(writes(buffer.slow()), 1);
    buffer.flush().unwrap();
    assert_eq!(writes(buffer.slow()), 3);
    assert_eq!(buffer.slow().calls(Operation::Flush), 1, "and storage is flushed in its turn");
    assert_eq!(sorted_keys(buffer.slow()), [1, 2, 3]);
    buffer.flush().unwrap();
    assert_eq!(writes(buffer.slow()), 3, "nothing changed since");
    assert_eq!(buffer.fast_keys(), order);
    assert_eq!(buffer.stats().evictions, 1);
    buffer.insert(2, val(22, 10)).unwrap();
    buffer.flush().unwrap();
    assert_eq!(writes(buffer.slow()), 4);
    assert_eq!(buffer.evict_until_below(0), 20);
    assert_eq!(writes(buffer.slow()), 4, "what was flushed leaves without being written");
    assert_eq!(buffer.get(&2).unwrap(), Some(val(22, 10)));
}

#[test]
fn flush_gives_the_first_error_and_writes_the_rest() {
    let buffer = buffer(100);
    for key in 1..=4 {
        buffer.insert(key, val(key, 10)).unwrap();
    }
    buffer.slow().inject(Plan::always().on([Operation::Insert]).key(2), Fault::io());
    assert!(is_io(&buffer.flush().unwrap_err()));
    assert_eq!(sorted_keys(buffer.slow()), [1, 3, 4]);
    assert_eq!(buffer.usage().fast, 40);
    assert_eq!(buffer.get(&2).unwrap(), Some(val(2, 10)));
    buffer.slow().heal();
    buffer.flush().unwrap();
    assert_eq!(sorted_keys(buffer.slow()), [1, 2, 3, 4]);
    buffer.slow().inject(Plan::always().on([Operation::Flush]), Fault::io());
    assert!(is_io(&buffer.flush().unwrap_err()), "an error of storage's own flush");
}

/// What is written by a flush is not evicted: observers of evictions are not told.
#[test]
fn flush_tells_no_observer_of_an_eviction() {
    let buffer = support::over(support::builder(100).on_evict(|_, _| Err(support::refusal())));
    buffer.insert(1, val(1, 10)).unwrap();
    buffer.flush().unwrap();
    assert_eq!(buffer.slow().inner().held(1), Some(val(1, 10)));
    assert!(buffer.fast());
}
