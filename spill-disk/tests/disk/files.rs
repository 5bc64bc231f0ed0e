//! `Files`: one file a key, in a workspace or in a directory that stays.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use spill_core::conformance::contract;
use spill_core::{ErrorKind, Frames, MappingExt, MutableMapping, SpilledSize, conformance_tests};
use spill_disk::io::{Io, MemoryIo};
use spill_disk::{Files, FilesConfig, Workspace};

use crate::common::{DIRECTORY, PARENT, assert_same, files, frames, memory, names, plant, try_files, value};

conformance_tests!(numbers, || files::<u64>(memory()));
conformance_tests!(names_as_keys, || files::<String>(memory()));
conformance_tests!(bytes_as_keys, || files::<Bytes>(memory()));
conformance_tests!(in_a_workspace, || {
    let workspace = Workspace::open_with(Arc::new(memory()), Some(Path::new(PARENT))).unwrap();
    Files::<u64>::open(FilesConfig::new(workspace)).unwrap()
});

/// The suite over the operating system's own files, in one test: it makes many.
#[test]
fn files_of_the_operating_system_keep_every_promise() {
    let make = || Files::<String>::open(FilesConfig::new(Workspace::open(None).unwrap())).unwrap();
    contract::check_all::<String, Frames, _>(make, &spill_core::conformance::Ready);
}

/// Z20: what was stored is there when the directory is opened again, to the last bit, whatever key and size.
#[test]
fn a_directory_is_opened_again_with_all_it_holds() {
    let io = memory();
    let keys = ["", "a", "A", "../x", "nul\0", "é", &"long".repeat(100), &"ü".repeat(100_000)];
    let shapes: [&[usize]; 8] = [&[], &[0], &[1], &[0, 0], &[4095], &[5000, 0, 3], &[1 << 20], &[9; 300]];
    let store = files::<String>(io.clone());
    for (n, (key, shape)) in keys.iter().zip(shapes).enumerate() {
        store.insert((*key).to_owned(), value(99, 10)).unwrap();
        store.insert((*key).to_owned(), frames(n as u64, shape)).unwrap();
    }
    store.insert("removed".to_owned(), value(1, 10)).unwrap();
    store.insert("taken".to_owned(), value(1, 10)).unwrap();
    assert!(store.remove(&"removed".to_owned()).unwrap());
    assert!(store.take(&"taken".to_owned()).unwrap().is_some());
    let usage = store.usage();
    assert_eq!(names(&io).len(), keys.len(), "one file a key, and none left over");

    for close in [true, false, true] {
        if close {
            store.close().unwrap();
        }
        let again = files::<String>(io.clone());
        assert_eq!(again.usage(), usage);
        assert_eq!(again.len(), keys.len());
        for (n, (key, shape)) in keys.iter().zip(shapes).enumerate() {
            let key = (*key).to_owned();
            assert_same(&again.get(&key).unwrap().unwrap(), &frames(n as u64, shape));
            assert_eq!(again.stored_size(&key).unwrap().memory, frames(n as u64, shape).weight());
        }
    }
}

/// Z20: keys that a careless store would give one name are different keys, and any length of key will do.
#[test]
fn names_are_safe_for_every_key() {
    let io = memory();
    let store = files::<Bytes>(io.clone());
    let mut keys: Vec<Bytes> = (0..=255).map(|byte| Bytes::from(vec![byte])).collect();
    keys.extend((0..400).step_by(7).map(|len| Bytes::from(vec![b'/'; len])));
    keys.extend((100..130).map(|len| Bytes::from(vec![b'x'; len])));
    for (n, key) in keys.iter().enumerate() {
        store.insert(key.clone(), value(n as u64, 3)).unwrap();
    }
    drop(store);
    let store = files::<Bytes>(io.clone());
    assert_eq!(store.len(), keys.iter().collect::<std::collections::HashSet<_>>().len());
    for (n, key) in (0..).zip(&keys).collect::<HashMap<_, _>>() {
        if keys.iter().rposition(|other| other == key) == Some(n) {
            assert_same(&store.get(key).unwrap().unwrap(), &value(n as u64, 3));
        }
    }
    assert!(names(&io).iter().all(|name| name.len() <= 143 && name.to_lowercase() == *name));
}

#[test]
fn a_key_that_no_head_can_hold_is_refused() {
    let store = files::<Bytes>(memory());
    let error = store.insert(Bytes::from(vec![0; (16 << 20) + 1]), value(1, 1)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { size, .. } if *size == (16 << 20) + 1), "{error}");
    store.insert(Bytes::from(vec![0; 16 << 20]), value(1, 1)).unwrap();
    assert_eq!(store.len(), 1);
}

#[test]
fn sizes_are_those_of_the_files() {
    let io = memory();
    let store = files::<String>(io.clone());
    store.insert("key".to_owned(), value(5, 100).with_weight(7)).unwrap();
    let name = names(&io).remove(0);
    let file = crate::common::content(&io, &Path::new(DIRECTORY).join(name));
    let size = SpilledSize { memory: 7, disk: file.len() as u64 };
    assert_eq!(store.stored_size(&"key".to_owned()), Some(size));
    assert_eq!((store.usage().spilled, store.usage().physical), (size, size.disk));
    store.get(&"key".to_owned()).unwrap();
    assert_eq!((store.stats().write.bytes, store.stats().read.bytes), (size.disk, size.disk));
}

/// A directory that stays belongs to one store at a time.
#[test]
fn a_directory_is_opened_by_one_store_at_a_time() {
    let io = memory();
    let first = files::<u64>(io.clone());
    first.insert(1, value(1, 10)).unwrap();
    let error = try_files::<u64>(io.clone()).err().unwrap();
    assert!(matches!(error.kind(), ErrorKind::Config { key, .. } if key == "directory"), "{error}");
    first.close().unwrap();
    let second = files::<u64>(io.clone());
    assert_same(&second.get(&1).unwrap().unwrap(), &value(1, 10));
    assert!(matches!(first.get(&1).unwrap_err().kind(), ErrorKind::Closed { .. }));
    first.close().unwrap();
    assert!(try_files::<u64>(io.clone()).is_err(), "closing again does not give up another's lock");
    drop(second);
    assert_eq!(files::<u64>(io).len(), 1);
}

#[test]
fn files_on_disk_are_private_and_those_of_a_workspace_go_with_it() {
    let parent = tempfile::tempdir().unwrap();
    let workspace = Workspace::open(Some(parent.path())).unwrap();
    let store = Files::<String>::open(FilesConfig::new(workspace)).unwrap();
    store.insert("a".to_owned(), value(1, 10)).unwrap();
    let directory = store.directory().to_owned();
    let file = directory.join("key.a.0.spill");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    store.close().unwrap();
    assert!(!directory.exists());

    let stays = parent.path().join("stays/here");
    let store = Files::<String>::open(FilesConfig::at(&stays)).unwrap();
    store.insert("a".to_owned(), value(1, 10)).unwrap();
    assert_eq!(std::fs::metadata(&stays).unwrap().permissions().mode() & 0o777, 0o700);
    store.close().unwrap();
    let store = Files::<String>::open(FilesConfig::at(&stays)).unwrap();
    assert_same(&store.get(&"a".to_owned()).unwrap().unwrap(), &value(1, 10));
}

#[derive(Clone, Debug)]
enum Op {
    Insert(usize, Vec<usize>),
    Remove(usize),
    Take(usize),
    Get(usize),
    Clear,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..8_usize;
    prop_oneof![
        8 => (key(), prop::collection::vec(prop_oneof![0..300_usize, 0..6000_usize], 0..4))
            .prop_map(|(key, lengths)| Op::Insert(key, lengths)),
        3 => key().prop_map(Op::Remove),
        2 => key().prop_map(Op::Take),
        4 => key().prop_map(Op::Get),
        1 => Just(Op::Clear),
        3 => Just(Op::Reopen),
    ]
}

fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        prop::collection::vec(prop_oneof![Just(b'a'), Just(b'A'), Just(b'.'), Just(b'/')], 0..4),
        prop::collection::vec(any::<u8>(), 30..700),
    ]
}

type Store = Files<Vec<u8>>;

fn check(store: &Store, model: &BTreeMap<Vec<u8>, Frames>, io: &MemoryIo) -> Result<(), TestCaseError> {
    let mut keys = store.keys();
    keys.sort();
    prop_assert_eq!(keys, model.keys().cloned().collect::<Vec<_>>());
    prop_assert_eq!(names(io).len(), model.len());
    let usage = store.usage();
    prop_assert_eq!(usage.count, model.len());
    prop_assert_eq!(usage.spilled.memory, model.values().map(Frames::weight).sum::<u64>());
    prop_assert_eq!(usage.physical, usage.spilled.disk);
    for (key, wanted) in model {
        let found = store.get(key).unwrap().unwrap();
        prop_assert_eq!((&found, found.weight()), (wanted, wanted.weight()));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Any keys, any script, opened again at any moment: a map.
    #[test]
    fn files_are_a_map_however_often_they_are_opened(
        keys in prop::collection::vec(any_key(), 8), script in prop::collection::vec(op(), 0..60),
    ) {
        let io = memory();
        let mut store: Store = files(io.clone());
        let mut model: BTreeMap<Vec<u8>, Frames> = BTreeMap::new();
        for (n, op) in script.iter().enumerate() {
            match op {
                Op::Insert(key, lengths) => {
                    let value = frames(n as u64, lengths);
                    store.insert(keys[*key].clone(), value.clone()).unwrap();
                    model.insert(keys[*key].clone(), value);
                }
                Op::Remove(key) => {
                    let present = model.remove(&keys[*key]).is_some();
                    prop_assert_eq!(store.remove(&keys[*key]).unwrap(), present);
                }
                Op::Take(key) => {
                    prop_assert_eq!(store.take(&keys[*key]).unwrap(), model.remove(&keys[*key]));
                }
                Op::Get(key) => {
                    prop_assert_eq!(store.get(&keys[*key]).unwrap(), model.get(&keys[*key]).cloned());
                }
                Op::Clear => {
                    store.clear().unwrap();
                    model.clear();
                }
                Op::Reopen => {
                    drop(store);
                    store = files(io.clone());
                    check(&store, &model, &io)?;
                }
            }
        }
        check(&store, &model, &io)?;
    }
}

/// A name that nobody reaches by counting: the next ones would be taken for foreign. Nothing is accepted that the next
/// store would not find.
#[test]
fn a_number_that_somebody_planted_loses_nothing() {
    let io = memory();
    let path = Path::new(DIRECTORY).join(format!("key.x.{}.spill", (1_u64 << 63) - 2));
    io.create_dir(Path::new(DIRECTORY)).unwrap();
    plant(&io, &path, b"");
    let store: Files<u64> = files(io.clone());
    store.insert(1, value(1, 100)).unwrap();
    let error = store.insert(2, value(2, 100)).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Config { key, .. } if *key == "directory"), "{error}");
    assert!(error.to_string().contains("another directory"), "{error}");
    drop(store);
    let store: Files<u64> = files(io.clone());
    assert_same(&store.get(&1).unwrap().unwrap(), &value(1, 100));
    assert_eq!(store.len(), 1);
}
