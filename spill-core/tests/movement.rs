//! The steps of a movement between fast and slow memory, in their order, and what happens when one of them
//! fails or another call comes between.

mod support;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use spill_core::conformance::{Fault, Gate, Operation, Plan};
use spill_core::{BufferBuilder, ManualEvict, MutableMapping};
use support::{
    Buf, Val, buffer, builder, is_io, is_panicked, is_refusal, locked, over, quiet_injected_panics, reads,
    refusal, slow, sorted_keys, val, writes,
};

type Events = Arc<Mutex<Vec<String>>>;

fn note(events: &Events, what: impl Into<String>) {
    locked(events).push(what.into());
}

fn taken(events: &Events) -> Vec<String> {
    std::mem::take(&mut *locked(events))
}

/// A buffer that writes down the calls of its storage and observers.
fn observed(target: u64) -> (Buf, Events) {
    let events = Events::default();
    let (evicted, promoted) = (Arc::clone(&events), Arc::clone(&events));
    let buffer = over(
        builder(target)
            .on_evict(move |key, _| {
                note(&evicted, format!("evicted {key}"));
                Ok(())
            })
            .on_promote(move |key, _| {
                note(&promoted, format!("promoted {key}"));
                Ok(())
            }),
    );
    for (operation, name) in [
        (Operation::Insert, "write"),
        (Operation::Get, "read"),
        (Operation::Peek, "read"),
        (Operation::Remove, "remove"),
    ] {
        let log = Arc::clone(&events);
        buffer.slow().inject(Plan::always().on([operation]), Fault::delay(move || note(&log, name)));
    }
    (buffer, events)
}

/// A buffer whose observer of evictions refuses while the flag is set.
fn refusing(target: u64) -> (Buf, Arc<AtomicBool>) {
    let refuses = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&refuses);
    let buffer =
        over(builder(target).on_evict(move |_, _| if flag.load(SeqCst) { Err(refusal()) } else { Ok(()) }));
    (buffer, refuses)
}

/// Z10: slow memory is written first, then observers are told, in the order in which they were given, and the
/// value leaves fast memory last.
#[test]
fn slow_memory_is_written_before_observers_are_told() {
    let (buffer, events) = observed(100);
    buffer.insert(1, val(1, 10)).unwrap();
    assert_eq!(buffer.evict_key(&1).unwrap(), Some(10));
    assert_eq!(taken(&events), ["write", "evicted 1"]);

    let seen: Arc<OnceLock<Buf>> = Arc::default();
    let (first, second) = (Arc::clone(&seen), Arc::clone(&seen));
    let order = Events::default();
    let (one, two) = (Arc::clone(&order), Arc::clone(&order));
    let buffer = over(
        builder(100)
            .on_evict(move |key, value| {
                let buffer = first.get().unwrap();
                assert_eq!(buffer.slow().inner().held(*key), Some(*value), "it is written");
                assert_eq!(buffer.fast_keys(), [*key], "and still fast");
                note(&one, "first");
                Ok(())
            })
            .on_evict(move |key, _| {
                assert!(second.get().unwrap().contains_key(key));
                note(&two, "second");
                Ok(())
            }),
    );
    let buffer = seen.get_or_init(|| buffer);
    buffer.insert(1, val(1, 10)).unwrap();
    assert_eq!(buffer.evict(), 10);
    assert_eq!(taken(&order), ["first", "second"]);
}

/// Z10: an observer's error takes the slow copy back, and the pair stays in fast memory.
#[test]
fn an_observers_error_undoes_the_slow_copy() {
    let (buffer, refuses) = refusing(100);
    buffer.insert(1, val(1, 10)).unwrap();
    assert!(is_refusal(&buffer.evict_key(&1).unwrap_err()));
    assert_eq!(writes(buffer.slow()), 1);
    assert_eq!(buffer.slow().inner().held(1), None);
    assert_eq!(buffer.fast_keys(), [1]);
    assert_eq!(buffer.usage().fast, 10);
    assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)));
    refuses.store(false, SeqCst);
    assert_eq!(buffer.evict_key(&1).unwrap(), Some(10));
    assert_eq!(buffer.slow().inner().held(1), Some(val(1, 10)));
}

/// Z10: also that of a value read back, whose copy was there before.
#[test]
fn an_observers_error_about_a_clean_copy_keeps_the_pair() {
    let (buffer, refuses) = refusing(100);
    refuses.store(false, SeqCst);
    buffer.insert(1, val(1, 10)).unwrap();
    buffer.evict_key(&1).unwrap();
    buffer.get(&1).unwrap();
    refuses.store(true, SeqCst);
    assert!(is_refusal(&buffer.evict_key(&1).unwrap_err()));
    assert_eq!(buffer.fast_keys(), [1]);
    assert_eq!((buffer.len(), buffer.usage().fast), (1, 10));
    refuses.store(false, SeqCst);
    assert_eq!(buffer.evict_key(&1).unwrap(), Some(10));
    assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)));
}

/// Z10: a failed write of slow memory leaves nothing behind, also one that was applied all the same.
#[test]
fn a_failed_write_leaves_nothing_behind() {
    quiet_injected_panics();
    let before = [Fault::io(), Fault::full(), Fault::panic("injected")];
    let after = [Fault::io().after(), Fault::full().after(), Fault::panic("injected").after()];
    for fault in before.into_iter().chain(after) {
        let (buffer, events) = observed(100);
        buffer.slow().heal();
        buffer.slow().inject(Plan::nth(1).on([Operation::Insert]), fault);
        buffer.insert(1, val(1, 10)).unwrap();
        buffer.evict_key(&1).unwrap_err();
        assert_eq!(taken(&events), [""; 0], "observers are told of nothing");
        assert_eq!(buffer.slow().struck(), 1);
        assert_eq!(buffer.slow().len(), 0);
        assert_eq!(buffer.fast_keys(), [1]);
        assert_eq!(buffer.peek(&1).unwrap(), Some(val(1, 10)));
        assert_eq!(sorted_keys(&buffer), [1]);
        assert_eq!(buffer.usage().spilled, Default::default());
    }
}

/// Z10: where what a failed write left cannot be removed at once, it is hidden, and removed later.
#[test]
fn what_a_failed_write_left_is_hidden_until_it_can_be_removed() {
    let buffer = buffer(100);
    buffer.slow().inject(Plan::nth(1).on([Operation::Insert]), Fault::io().after());
    buffer.slow().inject(Plan::always().on([Operation::Remove]), Fault::io());
    buffer.insert(1, val(1, 10)).unwrap();
    assert!(is_io(&buffer.evict_key(&1).unwrap_err()));
    assert_eq!(buffer.slow().inner().held(1), Some(val(1, 10)));
    assert_eq!(buffer.usage().spilled, Default::default(), "it is no value's only copy");
    assert!(buffer.remove(&1).unwrap());
    assert!(!buffer.contains_key(&1));
    assert_eq!(buffer.get(&1).unwrap(), None);
    assert_eq!(buffer.len(), 0);
    assert_eq!(sorted_keys(&buffer), [0; 0]);
    assert_eq!(buffer.usage().spilled, Default::default());
    buffer.slow().heal();
    buffer.insert(1, val(2, 20)).unwrap();
    assert_eq!(buffer.evict(), 20);
    assert_eq!(buffer.slow().inner().held(1), Some(val(2, 20)));
    assert!(buffer.remove(&1).unwrap());
    assert_eq!(buffer.slow().len(), 0);
}

/// Z11: slow memory is read without a lock: everything else goes on meanwhile.
#[test]
fn a_read_of_slow_memory_holds_no_lock() {
    let buffer = buffer(100);
    for key in 1..=3 {
        buffer.insert(key, val(key, 10)).unwrap();
    }
    buffer.evict_key(&1).unwrap();
    buffer.evict_key(&2).unwrap();
    let gate = Gate::closed();
    buffer.slow().inject(Plan::always().on([Operation::Get]).key(1), Fault::block(&gate));
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let getting = scope.spawn(|| buffer.get(&1));
        gate.wait_for(1);
        assert_eq!(buffer.get(&3).unwrap(), Some(val(3, 10)));
        assert_eq!(buffer.get(&2).unwrap(), Some(val(2, 10)), "another slow key");
        buffer.insert(4, val(4, 10)).unwrap();
        assert_eq!(buffer.evict_key(&4).unwrap(), Some(10));
        assert_eq!(buffer.update(&3, |value| value.id).unwrap(), Some(3));
        assert!(buffer.remove(&3).unwrap());
        assert_eq!(buffer.len(), 3);
        assert_eq!(sorted_keys(&buffer), [1, 2, 4]);
        drop(open);
        assert_eq!(getting.join().unwrap().unwrap(), Some(val(1, 10)));
    });
}

#[test]
fn an_insert_asks_slow_memory_without_the_lock() {
    // the key is spilled when it is asked for and removed before the answer is there; or the other way round
    for spilled in [true, false] {
        let buffer = buffer(20);
        buffer.insert(1, val(1, 10)).unwrap();
        if spilled {
            buffer.insert(2, val(2, 10)).unwrap();
            buffer.evict_key(&2).unwrap();
        }
        buffer.insert(3, val(3, 10)).unwrap();
        let gate = Gate::closed();
        let question = Plan::nth(1).on([Operation::ContainsKey]).key(2);
        buffer.slow().inject(question, Fault::block(&gate).after());
        thread::scope(|scope| {
            let open = gate.open_on_drop();
            let inserting = scope.spawn(|| buffer.insert(2, val(4, 10)));
            gate.wait_for(1);
            assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)));
            if spilled {
                assert!(buffer.remove(&2).unwrap());
            } else {
                buffer.insert(2, val(2, 10)).unwrap();
                buffer.evict_key(&2).unwrap();
            }
            drop(open);
            inserting.join().unwrap().unwrap();
        });
        assert_eq!((buffer.len(), buffer.get(&2).unwrap()), (3, Some(val(4, 10))));
    }
}

/// Z11: all threads that get one spilled key get it, and storage is read once.
#[test]
fn simultaneous_gets_of_one_key_read_storage_once() {
    let buffer = buffer(100);
    buffer.insert(1, val(1, 10)).unwrap();
    buffer.evict();
    let gate = Gate::closed();
    buffer.slow().inject(Plan::always().on(Operation::READS), Fault::block(&gate));
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let getting: Vec<_> = (0..4).map(|_| scope.spawn(|| buffer.get(&1))).collect();
        gate.wait_for(1);
        for _ in 0..1000 {
            thread::yield_now();
        }
        assert_eq!(gate.arrived(), 1, "the others wait for the first one's read");
        drop(open);
        for thread in getting {
            assert_eq!(thread.join().unwrap().unwrap(), Some(val(1, 10)));
        }
    });
    assert_eq!(reads(buffer.slow()), 1);
    assert_eq!(buffer.stats().promotions, 1);
}

/// Z11: where the key is replaced or removed during the read, the reader gets what is there then, and nothing
/// old is promoted.
#[test]
fn a_write_during_a_read_wins() {
    for replaces in [false, true] {
        let buffer = buffer(100);
        buffer.insert(1, val(1, 10)).unwrap();
        buffer.evict();
        let gate = Gate::closed();
        buffer.slow().inject(Plan::nth(1).on([Operation::Get]), Fault::block(&gate).after());
        let expected = replaces.then_some(val(2, 20));
        thread::scope(|scope| {
            let open = gate.open_on_drop();
            let getting = scope.spawn(|| buffer.get(&1));
            gate.wait_for(1);
            // Neither waits for the read, which is held.
            if replaces {
                buffer.insert(1, val(2, 20)).unwrap();
            } else {
                assert!(buffer.remove(&1).unwrap());
            }
            assert_eq!(buffer.peek(&1).unwrap(), expected);
            drop(open);
            assert_eq!(getting.join().unwrap().unwrap(), expected);
        });
        assert_eq!(buffer.get(&1).unwrap(), expected);
        assert_eq!(buffer.slow().len(), 0, "the old copy is gone");
        assert_eq!(buffer.len(), usize::from(replaces));
    }
}

/// Z11: a value heavier than the target is served and stays slow; nothing leaves fast memory for it.
#[test]
fn a_heavy_value_is_served_and_stays_slow() {
    let (buffer, events) = observed(30);
    for key in 1..=3 {
        buffer.insert(key, val(key, 10)).unwrap();
    }
    buffer.insert(4, val(4, 31)).unwrap();
    assert_eq!(taken(&events), ["write", "evicted 4"]);
    for _ in 0..2 {
        assert_eq!(buffer.get(&4).unwrap(), Some(val(4, 31)));
    }
    assert_eq!(taken(&events), ["read", "read"]);
    assert_eq!(buffer.fast_keys(), [3, 2, 1]);
    assert_eq!(buffer.stats().promotions, 0);
    buffer.set_target(31);
    assert_eq!(buffer.get(&4).unwrap(), Some(val(4, 31)));
    assert_eq!(buffer.fast_keys(), [4], "exactly the target is not too heavy");
}

/// Z11: others are evicted first, then observers are told of what came.
#[test]
fn others_make_room_before_observers_of_the_promotion_are_told() {
    let (buffer, events) = observed(30);
    for key in 1..=4 {
        buffer.insert(key, val(key, 10)).unwrap();
    }
    taken(&events);
    assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)));
    assert_eq!(taken(&events), ["read", "write", "evicted 2", "promoted 1"]);
    buffer.get(&1).unwrap();
    buffer.peek(&2).unwrap();
    assert_eq!(taken(&events), ["read"], "a hit and a peek promote nothing");
}

/// Z11: the error of an observer of promotions is given to the reader, and the value stays in fast memory.
#[test]
fn an_observers_error_about_a_promotion_goes_to_the_reader() {
    quiet_injected_panics();
    for panics in [false, true] {
        let buffer = over(builder(100).on_promote(move |_, _| {
            assert!(!panics, "injected");
            Err(refusal())
        }));
        buffer.insert(1, val(1, 10)).unwrap();
        buffer.evict();
        let error = buffer.get(&1).unwrap_err();
        assert!(if panics { is_panicked(&error) } else { is_refusal(&error) }, "{error}");
        assert_eq!(buffer.fast_keys(), [1]);
        assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)), "a hit, of which nobody is told");
    }
}

/// Z12: a reader gets its value though another key, which should make room for it, cannot be evicted; that is
/// counted, and the other key keeps its value.
#[test]
fn anothers_failed_eviction_does_not_fail_a_get() {
    quiet_injected_panics();
    for fault in [Fault::io(), Fault::full(), Fault::panic("injected"), Fault::io().after()] {
        let buffer = buffer(20);
        for key in 1..=3 {
            buffer.insert(key, val(key, 10)).unwrap();
        }
        assert_eq!(sorted_keys(buffer.slow()), [1]);
        buffer.slow().inject(Plan::always().on([Operation::Insert]), fault);
        assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)));
        let failures = buffer.stats().failures;
        assert!(failures >= 1);
        assert!(buffer.stats().deferred >= 1);
        buffer.insert(4, val(4, 10)).unwrap();
        assert!(buffer.stats().failures > failures, "nor an insert");
        buffer.slow().heal();
        for key in 1..=4 {
            assert_eq!(buffer.get(&key).unwrap(), Some(val(key, 10)));
        }
    }
}

/// Z13: a failed weighing of the new value leaves the old one where it is, on slow memory.
#[test]
fn an_insert_that_fails_leaves_the_old_slow_value() {
    quiet_injected_panics();
    let weigher = |_: &u64, value: &Val| {
        assert!(value.id != 666, "injected: cannot weigh this");
        value.weight
    };
    let buffer = BufferBuilder::weighed_by(weigher).target(100).over(slow()).unwrap();
    buffer.insert(1, val(1, 10)).unwrap();
    buffer.evict();
    assert!(is_panicked(&buffer.insert(1, val(666, 10)).unwrap_err()));
    assert_eq!(buffer.slow().calls(Operation::Remove), 0);
    assert_eq!(buffer.slow().inner().held(1), Some(val(1, 10)));
    assert!(!buffer.fast());
    assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)));
}

/// Z13: the old slow copy is discarded when the new value is in already.
#[test]
fn the_old_slow_copy_goes_after_the_new_value_is_in() {
    let buffer = buffer(100);
    buffer.insert(1, val(1, 10)).unwrap();
    buffer.evict();
    let gate = Gate::closed();
    buffer.slow().inject(Plan::nth(1).on([Operation::Remove]), Fault::block(&gate));
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let inserting = scope.spawn(|| buffer.insert(1, val(2, 20)));
        gate.wait_for(1);
        assert_eq!(buffer.slow().inner().held(1), Some(val(1, 10)), "the old copy is there");
        assert_eq!(buffer.get(&1).unwrap(), Some(val(2, 20)), "and the new value is in");
        assert_eq!((buffer.len(), buffer.usage().fast), (1, 20));
        assert_eq!(buffer.usage().spilled, Default::default());
        drop(open);
        inserting.join().unwrap().unwrap();
    });
    assert_eq!(buffer.slow().len(), 0);
}

/// Z13: where the old copy cannot be discarded, the new value stays, and the old one never comes back.
#[test]
fn an_old_copy_that_cannot_be_discarded_never_comes_back() {
    quiet_injected_panics();
    for fault in [Fault::io(), Fault::panic("injected")] {
        let buffer = buffer(100);
        buffer.insert(1, val(1, 10)).unwrap();
        buffer.evict();
        buffer.slow().inject(Plan::always().on([Operation::Remove]), fault);
        buffer.insert(1, val(2, 20)).unwrap();
        assert_eq!(buffer.slow().inner().held(1), Some(val(1, 10)));
        assert_eq!(buffer.get(&1).unwrap(), Some(val(2, 20)));
        assert_eq!(buffer.evict(), 20);
        assert_eq!(buffer.slow().inner().held(1), Some(val(2, 20)), "it is overwritten");
        assert_eq!(buffer.get(&1).unwrap(), Some(val(2, 20)));
        assert_eq!(buffer.take(&1).unwrap(), Some(val(2, 20)));
        assert_eq!(buffer.get(&1).unwrap(), None, "its copy could not be removed, and is hidden");
        assert_eq!((buffer.len(), buffer.slow().len()), (0, 1));
        assert_eq!(buffer.get_or_try_insert_with(1, || Ok(val(3, 30))).unwrap(), val(3, 30));
        buffer.slow().heal();
        assert!(buffer.remove(&1).unwrap());
        assert_eq!((buffer.len(), buffer.slow().len()), (0, 0));
    }
}
