//! `Files` over an operating system that fails: typed errors, nothing lost, nothing half-done, also for the next
//! process.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use spill_core::{Error, ErrorKind, Frames, MappingExt, MutableMapping};
use spill_disk::io::{Call, Fault, FaultyIo, Io, MemoryIo, Operation, Rule};
use spill_disk::{Files, FilesConfig, Workspace};

use crate::common::{DIRECTORY, assert_same, content, files, memory, names, plant, try_files, value};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

type Model = BTreeMap<String, Frames>;

/// Three keys, one of them too long for a name.
fn key(n: u64) -> String {
    match n % 3 {
        0 => "a".to_owned(),
        1 => "B/2".to_owned(),
        _ => "long".repeat(60),
    }
}

/// The `n`-th step of a script that inserts, replaces, removes, takes and reads.
fn step(store: &Files<String>, model: &mut Model, n: u64) -> Result<(), Error> {
    let key = key(n * 7 % 5);
    match n % 7 {
        0..=2 => {
            let new = value(n, 10 + n as usize * 37 % 5000);
            store.insert(key.clone(), new.clone())?;
            model.insert(key, new);
        }
        3 => {
            assert_eq!(store.remove(&key)?, model.contains_key(&key));
            model.remove(&key);
        }
        4 => {
            assert_eq!(store.take(&key)?, model.get(&key).cloned());
            model.remove(&key);
        }
        5 => assert_eq!(store.get(&key)?, model.get(&key).cloned()),
        _ => store.flush()?,
    }
    Ok(())
}

#[track_caller]
fn agrees(store: &Files<String>, model: &Model, when: &str) {
    let mut keys = store.keys();
    keys.sort();
    assert_eq!(keys, model.keys().cloned().collect::<Vec<_>>(), "{when}");
    assert_eq!(store.usage().spilled.memory, model.values().map(Frames::weight).sum::<u64>(), "{when}");
    for (key, wanted) in model {
        assert_same(&store.get(key).unwrap().unwrap(), wanted);
    }
}

const STEPS: u64 = 70;

/// Lets the `nth` call fail, or it and all that follow, for every `nth`; then looks at what the store has, once
/// healed, and at what the next process finds.
fn run(fault: impl Fn() -> Fault, lasting: bool) {
    let calls = {
        let io = FaultyIo::new(Arc::new(memory()));
        let (store, mut model) = (files(io.clone()), Model::new());
        (0..STEPS).for_each(|n| step(&store, &mut model, n).unwrap());
        io.calls()
    };
    assert!(calls > 100, "{calls}");
    for nth in 1..=calls {
        let when = format!("call {nth} of {calls}, lasting: {lasting}");
        let memory = memory();
        let io = FaultyIo::new(Arc::new(memory.clone()));
        io.inject(if lasting { Rule::from(nth, fault()) } else { Rule::nth(nth, fault()) });
        let store = match try_files(io.clone()) {
            Ok(store) => store,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Io { .. } | ErrorKind::Panicked { .. }), "{error}");
                continue;
            }
        };
        let mut model = Model::new();
        for n in 0..STEPS {
            if let Err(error) = step(&store, &mut model, n) {
                let typed = |kind: &ErrorKind| {
                    matches!(kind, ErrorKind::Io { .. } | ErrorKind::Full { .. } | ErrorKind::Panicked { .. })
                };
                assert!(typed(error.kind()), "{when}: {error}");
            }
        }
        // A process that dies now: the next one finds what was accepted, and nothing else.
        let left: Vec<_> = names(&memory).into_iter().map(|name| Path::new(DIRECTORY).join(name)).collect();
        let copy = MemoryIo::new();
        copy.create_dir_all(Path::new(DIRECTORY)).unwrap();
        left.iter().for_each(|path| plant(&copy, path, &content(&memory, path)));
        let next = files::<String>(copy.clone());
        agrees(&next, &model, &when);
        assert_eq!(names(&copy).len(), model.len(), "{when}: leftovers are removed");
        // And one that lives on.
        io.heal();
        agrees(&store, &model, &when);
        store.flush().unwrap();
        assert_eq!(names(&memory).len(), model.len(), "{when}: nothing is left over");
        assert_eq!(store.usage().physical, store.usage().spilled.disk, "{when}");
        assert_eq!(store.usage().count, model.len(), "{when}");
    }
}

/// Z20, B08: wherever a call fails once, an insert that failed left the old value and nothing else, for this
/// process and for the next.
#[test]
fn a_call_that_fails_once_loses_nothing() {
    run(|| Fault::Errno(EIO), false);
}

#[test]
fn a_device_that_fails_for_good_loses_nothing() {
    run(|| Fault::Errno(EIO), true);
    run(|| Fault::Errno(ENOSPC), true);
}

#[test]
fn panics_below_are_errors_and_lose_nothing() {
    run(|| Fault::Delay(Arc::new(|_| panic!("the driver fell over"))), false);
}

#[test]
fn short_writes_and_reads_are_finished() {
    run(|| Fault::Short(7), true);
}

#[test]
fn a_full_device_says_so() {
    let io = FaultyIo::new(Arc::new(memory()));
    let store = files::<u64>(io.clone());
    store.insert(1, value(1, 10)).unwrap();
    for operation in [Operation::Create, Operation::Write, Operation::Rename] {
        io.inject(Rule::nth(1, Fault::Errno(ENOSPC)).on(operation));
        let error = store.insert(1, value(2, 500)).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Full { path: Some(path), used: 104, .. } if path == Path::new(DIRECTORY)),
            "{error:?}"
        );
        assert!(error.is_transient());
        assert_same(&store.get(&1).unwrap().unwrap(), &value(1, 10));
        assert_eq!(names(&io).len(), 1, "nothing of the failed write is left");
    }
    store.insert(1, value(2, 500)).unwrap();
}

#[test]
fn a_failed_read_is_typed_and_the_key_stays() {
    let io = FaultyIo::new(Arc::new(memory()));
    let store = files::<u64>(io.clone());
    store.insert(1, value(1, 100)).unwrap();
    for (operation, verb) in [(Operation::Open, "open"), (Operation::Read, "read")] {
        io.inject(Rule::from(1, Fault::Errno(EIO)).on(operation));
        for result in [store.get(&1), store.take(&1), store.get_many(&[1]).remove(0)] {
            let error = result.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Io { operation, .. } if *operation == verb), "{error}");
        }
        assert!(store.contains_key(&1));
        io.heal();
    }
    assert_eq!(store.stats().failures, 6);
    assert_same(&store.take(&1).unwrap().unwrap(), &value(1, 100));
}

/// A key whose older file could not be removed is not removed before that: the next process would find it again.
#[test]
fn a_removed_key_does_not_come_back_from_a_file_that_could_not_be_removed() {
    let io = FaultyIo::new(Arc::new(memory()));
    let store = files::<u64>(io.clone());
    store.insert(1, value(1, 10)).unwrap();
    // The first file cannot be removed, the second one could be.
    let first = |call: &Call<'_>| {
        call.operation == Operation::RemoveFile && call.path.to_string_lossy().ends_with(".0.spill")
    };
    io.inject(Rule::from(1, Fault::Errno(EIO)).only(first));
    store.insert(1, value(2, 10)).unwrap();
    assert_eq!(names(&io).len(), 2);
    assert_eq!(store.usage().physical, 2 * store.usage().spilled.disk);
    let error = store.remove(&1).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io { operation: "remove", .. }), "{error}");
    assert!(store.take(&1).is_err());
    assert_same(&store.get(&1).unwrap().unwrap(), &value(2, 10));
    assert!(store.flush().is_err());
    io.heal();
    assert!(store.remove(&1).unwrap());
    assert!(names(&io).is_empty());
    assert_eq!(store.usage().physical, 0);
}

/// Z24: closing says what could not be removed, and gives the directory up all the same.
#[test]
fn closing_tries_again_to_remove_what_is_left_over() {
    let io = FaultyIo::new(Arc::new(memory()));
    let store = files::<u64>(io.clone());
    store.insert(1, value(1, 10)).unwrap();
    io.inject(Rule::nth(1, Fault::Errno(EIO)).on(Operation::RemoveFile));
    store.insert(1, value(2, 10)).unwrap();
    io.inject(Rule::nth(1, Fault::Errno(EIO)).on(Operation::RemoveFile));
    assert!(store.close().is_err());
    store.close().unwrap();
    assert_eq!(names(&io).len(), 1);
    assert_same(&files::<u64>(io).get(&1).unwrap().unwrap(), &value(2, 10));
}

#[test]
fn a_workspace_that_cannot_be_removed_says_so() {
    let io = FaultyIo::new(Arc::new(memory()));
    let workspace = Workspace::open_with(Arc::new(io.clone()), Some(Path::new("/work"))).unwrap();
    let store = Files::<u64>::open(FilesConfig::new(workspace)).unwrap();
    store.insert(1, value(1, 10)).unwrap();
    io.inject(Rule::from(1, Fault::Fail(io::ErrorKind::PermissionDenied)).on(Operation::RemoveDir));
    assert!(store.close().is_err());
    io.heal();
    store.close().unwrap();
    assert!(io.list(store.directory()).is_err());
}

/// A file that cannot be read when the directory is opened is not passed by: it may be readable later.
#[test]
fn a_directory_that_cannot_be_read_is_not_opened() {
    let memory = memory();
    files::<u64>(memory.clone()).insert(1, value(1, 10)).unwrap();
    let io = FaultyIo::new(Arc::new(memory));
    for operation in
        [Operation::CreateDir, Operation::Lock, Operation::List, Operation::Open, Operation::Read]
    {
        io.inject(Rule::nth(1, Fault::Errno(EIO)).on(operation));
        let error = try_files::<u64>(io.clone()).err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::Io { path, .. } if path.starts_with(DIRECTORY)), "{error}");
        io.heal();
    }
    assert_eq!(files::<u64>(io).len(), 1);
}
