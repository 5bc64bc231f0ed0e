//! Calls of a buffer that fail: with which error, and with nothing changed.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use spill_core::conformance::{Fault, Gate, Operation, Plan};
use spill_core::{BufferBuilder, Error, ErrorKind, ManualEvict, MutableMapping, Overflow, Result};
use support::{
    Buf, Val, buffer, builder, is_closed, is_io, is_panicked, is_refusal, over, quiet_injected_panics,
    refusal, slow, sorted_keys, val,
};

/// Every call that has to read a slow value, under a name.
type Call = (&'static str, fn(&Buf) -> Result<Option<Val>>);

const READING: [Call; 6] = [
    ("get", |buffer| buffer.get(&1)),
    ("peek", |buffer| buffer.peek(&1)),
    ("take", |buffer| buffer.take(&1)),
    ("update", |buffer| buffer.update(&1, |value| *value)),
    ("upsert", |buffer| buffer.upsert(1, || val(9, 9), |value| value.id = 1).map(|()| Some(val(1, 10)))),
    ("load", |buffer| buffer.get_or_try_insert_with(1, || Ok(val(9, 9))).map(Some)),
];

/// A buffer whose key 1 is slow and whose key 2 is fast.
fn half_spilled() -> Buf {
    let buffer = buffer(100);
    buffer.insert(1, val(1, 10)).unwrap();
    buffer.evict();
    buffer.insert(2, val(2, 10)).unwrap();
    buffer
}

fn corrupt() -> Error {
    ErrorKind::Corrupt { location: "a test".into(), expected: "1".into(), found: "2".into() }.into()
}

#[test]
fn a_failed_read_is_a_typed_error_and_the_key_stays() {
    quiet_injected_panics();
    type Expected = fn(&Error) -> bool;
    let is_corrupt: Expected = |error| matches!(error.kind(), ErrorKind::Corrupt { .. });
    let is_codec: Expected = |error| matches!(error.kind(), ErrorKind::Codec { .. });
    let faults: [(Fault<Val>, Expected); 6] = [
        (Fault::io(), is_io),
        (Fault::io().after(), is_io),
        (Fault::error(corrupt()), is_corrupt),
        (Fault::error(Error::codec("test", "no")), is_codec),
        (Fault::panic("injected"), is_panicked),
        (Fault::panic("injected").after(), is_panicked),
    ];
    for (fault, expected) in faults {
        for (name, call) in READING {
            let buffer = half_spilled();
            buffer.slow().inject(Plan::always().on(Operation::READS), fault.clone());
            let error = call(&buffer).unwrap_err();
            assert!(expected(&error), "{name}: {error}");
            assert!(buffer.contains_key(&1), "{name}");
            assert_eq!(buffer.len(), 2, "{name}");
            assert_eq!(sorted_keys(&buffer), [1, 2], "{name}");
            assert_eq!(buffer.fast_keys(), [2], "{name}");
            assert_eq!(buffer.stats().failures, 1, "{name}");
            assert_eq!(buffer.get(&2).unwrap(), Some(val(2, 10)), "{name}: other keys are as before");
            buffer.slow().heal();
            assert_eq!(call(&buffer).unwrap(), Some(val(1, 10)), "{name}: it can be read again");
        }
    }
}

/// All who wait for one read that fails get its error; nobody hangs.
#[test]
fn everyone_who_waits_for_a_failed_read_gets_an_error() {
    let buffer = half_spilled();
    let gate = Gate::closed();
    let held = gate.clone();
    let fails = Fault::delay(move || {
        held.pass();
        panic!("injected");
    });
    buffer.slow().inject(Plan::always().on([Operation::Get, Operation::Peek]), fails);
    quiet_injected_panics();
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let calls: Vec<_> =
            READING.iter().map(|(name, call)| (name, scope.spawn(|| call(&buffer)))).collect();
        gate.wait_for(1);
        drop(open);
        for (name, call) in calls {
            assert!(is_panicked(&call.join().unwrap().unwrap_err()), "{name}");
        }
    });
    buffer.slow().heal();
    assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)));
}

/// Storage that says that it has a key and gives no value is an error, and not an absent key.
#[test]
fn storage_that_denies_what_it_has_is_an_error() {
    /// Has every key, and no value.
    struct Liar;
    impl MutableMapping<u64, Val> for Liar {
        fn get(&self, _: &u64) -> Result<Option<Val>> {
            Ok(None)
        }
        fn insert(&self, _: u64, _: Val) -> Result<()> {
            Ok(())
        }
        fn remove(&self, _: &u64) -> Result<bool> {
            Ok(true)
        }
        fn take(&self, _: &u64) -> Result<Option<Val>> {
            Ok(None)
        }
        fn contains_key(&self, _: &u64) -> bool {
            true
        }
        fn len(&self) -> usize {
            1
        }
        fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
            f(&1);
        }
    }
    let buffer = builder(100).over(Liar).unwrap();
    assert!(matches!(buffer.get(&1).unwrap_err().kind(), ErrorKind::Backend { .. }));
    assert!(matches!(buffer.peek(&1).unwrap_err().kind(), ErrorKind::Backend { .. }));
    assert!(matches!(buffer.take(&1).unwrap_err().kind(), ErrorKind::Backend { .. }));
    assert_eq!(buffer.len(), 1);
}

/// An error of a closure's own surroundings: a changed value that cannot be weighed is kept with its old weight.
#[test]
fn an_updated_value_that_cannot_be_weighed_is_kept() {
    quiet_injected_panics();
    let weigher = |_: &u64, value: &Val| {
        assert!(value.id != 666, "injected: cannot weigh this");
        value.weight
    };
    let buffer = BufferBuilder::weighed_by(weigher).target(100).over(slow()).unwrap();
    buffer.insert(1, val(1, 10)).unwrap();
    let error = buffer.update(&1, |value| *value = val(666, 50)).unwrap_err();
    assert!(is_panicked(&error));
    assert_eq!(buffer.get(&1).unwrap(), Some(val(666, 50)));
    assert_eq!(buffer.usage().fast, 10);
    // A value made by a loader that cannot be weighed is not accepted.
    assert!(is_panicked(&buffer.get_or_try_insert_with(2, || Ok(val(666, 1))).unwrap_err()));
    assert!(is_panicked(&buffer.upsert(2, || val(666, 1), |_| ()).unwrap_err()));
    assert!(!buffer.contains_key(&2));
    assert_eq!(buffer.len(), 1);
}

/// A closure's panic passes on to its caller; the value stays as the closure left it.
#[test]
fn a_panic_of_a_closure_passes_on_and_loses_nothing() {
    quiet_injected_panics();
    for slow_first in [false, true] {
        let buffer = buffer(100);
        buffer.insert(1, val(1, 10)).unwrap();
        if slow_first {
            buffer.evict();
        }
        let panics = std::panic::AssertUnwindSafe(|| {
            buffer.update(&1, |value| {
                value.id = 5;
                panic!("injected");
            })
        });
        let payload = std::panic::catch_unwind(panics).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"injected"));
        assert_eq!(buffer.get(&1).unwrap(), Some(val(5, 10)));
        assert_eq!((buffer.len(), buffer.usage().fast), (1, 10));
        assert_eq!(buffer.evict(), 10, "it can be spilled as before");
        assert_eq!(buffer.slow().inner().held(1), Some(val(5, 10)));
        let panics = std::panic::AssertUnwindSafe(|| buffer.get_or_try_insert_with(2, || panic!("injected")));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(!buffer.contains_key(&2));
        assert_eq!(buffer.get_or_try_insert_with(2, || Ok(val(2, 10))).unwrap(), val(2, 10));
    }
}

/// One loader runs at a time for a key; one that fails puts nothing.
#[test]
fn a_failed_load_puts_nothing() {
    let buffer = buffer(100);
    let loads = AtomicU64::new(0);
    assert!(is_refusal(&buffer.get_or_try_insert_with(1, || Err(refusal())).unwrap_err()));
    assert!(!buffer.contains_key(&1));
    assert_eq!(sorted_keys(&buffer), [0; 0]);
    let gate = Gate::closed();
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let load = || {
            buffer.get_or_try_insert_with(1, || {
                loads.fetch_add(1, SeqCst);
                gate.pass();
                Ok(val(1, 10))
            })
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        gate.wait_for(1);
        assert!(!buffer.contains_key(&1), "what is being loaded is absent");
        assert_eq!(buffer.get(&1).unwrap(), None, "and is answered at once");
        assert_eq!(buffer.len(), 0);
        drop(open);
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap().unwrap(), val(1, 10)));
    });
    assert_eq!(loads.load(SeqCst), 1);
    assert_eq!(buffer.len(), 1);
}

#[test]
fn retaining_accepts_what_it_cannot_make_room_for() {
    let buffer = buffer(20);
    buffer.slow().inject(Plan::always().on([Operation::Insert]), Fault::io());
    for key in 1..=5 {
        buffer.insert(key, val(key, 10)).unwrap();
    }
    assert_eq!(buffer.usage().fast, 50);
    assert_eq!(buffer.len(), 5);
    buffer.insert(6, val(6, 21)).unwrap();
    for key in 1..=5 {
        assert_eq!(buffer.get(&key).unwrap(), Some(val(key, 10)));
    }
    assert_eq!(buffer.get(&6).unwrap(), Some(val(6, 21)));
    buffer.slow().heal();
    buffer.evict();
    buffer.insert(7, val(7, 10)).unwrap();
    buffer.evict_until_below(20);
    assert!(buffer.usage().fast <= 71);
}

#[test]
fn rejecting_refuses_what_it_cannot_make_room_for_and_changes_nothing() {
    quiet_injected_panics();
    for fault in [Fault::io(), Fault::full(), Fault::panic("injected"), Fault::io().after()] {
        let buffer = over(builder(20).overflow(Overflow::Reject));
        buffer.insert(1, val(1, 10)).unwrap();
        buffer.insert(2, val(2, 10)).unwrap();
        buffer.slow().inject(Plan::always().on([Operation::Insert]), fault);
        let error = buffer.insert(3, val(3, 10)).unwrap_err();
        assert!(error.is_full() && error.is_transient(), "{error}");
        assert!(error.to_string().contains("target"), "it names the setting: {error}");
        assert!(!buffer.contains_key(&3));
        assert_eq!(buffer.fast_keys(), [2, 1]);
        assert_eq!((buffer.len(), buffer.usage().fast, buffer.slow().len()), (2, 20, 0));
        // A replacement that is no heavier needs no room; a heavier one does.
        buffer.insert(1, val(11, 10)).unwrap();
        assert!(buffer.insert(1, val(111, 11)).unwrap_err().is_full());
        assert_eq!(buffer.get(&1).unwrap(), Some(val(11, 10)), "the old value is intact");
        buffer.insert_without_evicting(4, val(4, 10)).unwrap();
        assert_eq!(buffer.usage().fast, 30, "that one lets it grow");
        buffer.slow().heal();
        buffer.insert(3, val(3, 10)).unwrap();
        assert!(buffer.usage().fast <= 20);
        for (key, id) in [(1, 11), (2, 2), (3, 3), (4, 4)] {
            assert_eq!(buffer.get(&key).unwrap(), Some(val(id, 10)));
        }
    }
}

#[test]
fn rejecting_refuses_a_value_heavier_than_the_target() {
    let buffer = over(builder(20).overflow(Overflow::Reject));
    buffer.insert(1, val(1, 10)).unwrap();
    let error = buffer.insert(1, val(2, 21)).unwrap_err();
    match error.kind() {
        ErrorKind::TooLarge { size, limit, setting, .. } => {
            assert_eq!((*size, *limit, *setting), (21, 20, "target"));
        }
        _ => panic!("{error}"),
    }
    assert!(!error.is_transient());
    assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)));
    assert_eq!(buffer.slow().len(), 0, "nothing was moved for it");
    buffer.insert(2, val(2, 20)).unwrap();
    assert_eq!(buffer.fast_keys(), [2], "exactly the target fits");
}

#[test]
fn a_closed_buffer_refuses_everything() {
    let buffer = half_spilled();
    buffer.close().unwrap();
    buffer.close().unwrap();
    assert_eq!(buffer.slow().calls(Operation::Close), 1, "closing twice does nothing");
    let before = (buffer.slow().inner().held(1), buffer.slow().len());
    for (name, call) in READING {
        assert!(is_closed(&call(&buffer).unwrap_err()), "{name}");
    }
    assert!(is_closed(&buffer.get(&2).unwrap_err()));
    assert!(is_closed(&buffer.insert(3, val(3, 10)).unwrap_err()));
    assert!(is_closed(&buffer.insert_without_evicting(3, val(3, 10)).unwrap_err()));
    assert!(is_closed(&buffer.remove(&2).unwrap_err()));
    assert!(is_closed(&buffer.flush().unwrap_err()));
    assert!(is_closed(&buffer.clear().unwrap_err()));
    assert_eq!((buffer.slow().inner().held(1), buffer.slow().len()), before, "storage is left alone");
}

#[test]
fn an_error_of_closing_storage_is_given() {
    let buffer = half_spilled();
    buffer.slow().inject(Plan::always().on([Operation::Close]), Fault::io());
    assert!(is_io(&buffer.close().unwrap_err()));
    assert!(is_closed(&buffer.get(&1).unwrap_err()), "it is closed all the same");
}

#[test]
fn a_ceiling_below_the_target_is_refused() {
    let error = builder(100).writers(1).ceiling(99).over(slow()).err().unwrap();
    match error.kind() {
        ErrorKind::Config { key, value, .. } => assert_eq!((key.as_str(), value.as_str()), ("ceiling", "99")),
        _ => panic!("{error}"),
    }
}

/// A batch gives a result for each of its pairs.
#[test]
fn one_refused_pair_of_a_batch_fails_alone() {
    let buffer = over(builder(20).overflow(Overflow::Reject));
    let results = buffer.insert_many(vec![(1, val(1, 10)), (2, val(2, 30)), (3, val(3, 10))]);
    let refused: Vec<bool> = results.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, true, false]);
    assert_eq!(sorted_keys(&buffer), [1, 3]);
    buffer.evict_key(&1).unwrap();
    buffer.slow().inject(Plan::always().on(Operation::READS), Fault::io());
    let read: Vec<bool> = buffer.get_many(&[1, 3, 4]).iter().map(Result::is_ok).collect();
    assert_eq!(read, [false, true, true]);
}
