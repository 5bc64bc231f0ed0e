//! Threads that meet on one key of `Files`.

use std::sync::Arc;
use std::thread;

use spill_core::MutableMapping;
use spill_disk::io::{Fault, FaultyIo, Operation, Rule};

use crate::common::{assert_same, files, gate, memory, names, try_files, value};

/// Z20: a reader that found a value just before it was replaced or removed gets the new one, or nothing.
#[test]
fn a_reader_follows_its_key_to_a_new_file() {
    for removed in [false, true] {
        let io = FaultyIo::new(Arc::new(memory()));
        let store = files::<u64>(io.clone());
        store.insert(1, value(1, 10)).unwrap();
        let gate = gate(&io, Operation::Open);
        thread::scope(|scope| {
            let open = gate.open_on_drop();
            let reader = scope.spawn(|| store.get(&1).unwrap());
            gate.wait_for(1);
            store.insert(1, value(2, 20)).unwrap();
            store.insert(1, value(3, 30)).unwrap();
            if removed {
                store.remove(&1).unwrap();
            }
            drop(open);
            assert_eq!(reader.join().unwrap(), (!removed).then(|| value(3, 30)));
        });
    }
}

/// A file that is open is read to its end, whatever becomes of its name.
#[test]
fn a_reader_ends_with_the_file_it_began() {
    let io = FaultyIo::new(Arc::new(memory()));
    let store = files::<u64>(io.clone());
    store.insert(1, value(1, 10)).unwrap();
    let gate = gate(&io, Operation::Read);
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let reader = scope.spawn(|| store.get(&1).unwrap().unwrap());
        gate.wait_for(1);
        store.insert(1, value(2, 20)).unwrap();
        assert_same(&store.get(&1).unwrap().unwrap(), &value(2, 20));
        assert!(store.remove(&1).unwrap());
        drop(open);
        assert_same(&reader.join().unwrap(), &value(1, 10));
    });
}

/// Until a write has ended its key has the old value, whole; other keys are not in its way.
#[test]
fn the_old_value_is_read_until_the_new_one_has_its_name() {
    for operation in [Operation::Create, Operation::Write, Operation::Rename] {
        let io = FaultyIo::new(Arc::new(memory()));
        let store = files::<u64>(io.clone());
        store.insert(1, value(1, 10)).unwrap();
        let gate = gate(&io, operation);
        thread::scope(|scope| {
            let open = gate.open_on_drop();
            let first = scope.spawn(|| store.insert(1, value(2, 20)).unwrap());
            gate.wait_for(1);
            let second = scope.spawn(|| store.insert(1, value(3, 30)).unwrap());
            assert_same(&store.get(&1).unwrap().unwrap(), &value(1, 10));
            store.insert(2, value(9, 5)).unwrap();
            assert!(store.remove(&2).unwrap());
            drop(open);
            first.join().unwrap();
            second.join().unwrap();
        });
        assert_same(&store.get(&1).unwrap().unwrap(), &value(3, 30));
        assert_eq!((store.len(), names(&io).len()), (1, 1));
    }
}

/// While its file is being removed a key is there; a removal that fails changes nothing.
#[test]
fn a_key_is_there_until_its_removal_has_ended() {
    let io = FaultyIo::new(Arc::new(memory()));
    let store = files::<u64>(io.clone());
    store.insert(1, value(1, 10)).unwrap();
    let gate = gate(&io, Operation::RemoveFile);
    io.inject(Rule::nth(1, Fault::Errno(5)).on(Operation::RemoveFile));
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let first = scope.spawn(|| store.remove(&1));
        gate.wait_for(1);
        let second = scope.spawn(|| store.take(&1).unwrap());
        assert!(store.contains_key(&1));
        assert_same(&store.get(&1).unwrap().unwrap(), &value(1, 10));
        drop(open);
        // The fault strikes at once when it is met, so the first one to remove fails.
        let (first, second) = (first.join().unwrap(), second.join().unwrap());
        assert!(first.is_err());
        assert_same(&second.unwrap(), &value(1, 10));
    });
    assert!(names(&io).is_empty());
}

/// Closing waits for a write under way, so that what was accepted is whole for the next one to open it.
#[test]
fn closing_waits_for_a_write() {
    let io = FaultyIo::new(Arc::new(memory()));
    let store = files::<u64>(io.clone());
    let gate = gate(&io, Operation::Rename);
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        let writer = scope.spawn(|| store.insert(1, value(1, 10)));
        gate.wait_for(1);
        let closer = scope.spawn(|| store.close().unwrap());
        while store.get(&1).is_ok() {
            thread::yield_now();
        }
        assert!(try_files::<u64>(io.clone()).is_err(), "it was told to close, and has not given up its lock");
        drop(open);
        writer.join().unwrap().unwrap();
        closer.join().unwrap();
    });
    assert_same(&files::<u64>(io).get(&1).unwrap().unwrap(), &value(1, 10));
}
