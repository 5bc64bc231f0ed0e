//! `KeyMap`: keys seen through a translation.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use spill_core::conformance::contract::{Trial, failed_calls_change_nothing};
use spill_core::conformance::{Fault, Faulty, Memory, Operation, Plan, Ready};
use spill_core::{
    BufferBuilder, Compose, Error, ErrorKind, Frames, KeyMap, MutableMapping, Result, conformance_tests,
};
use support::{is_io, is_panicked, quiet_injected_panics, sorted_keys};

fn to_name(n: &u64) -> String {
    format!("key-{n}")
}

fn from_name(name: &String) -> Result<u64> {
    let number = name.strip_prefix("key-").and_then(|number| number.parse().ok());
    number.ok_or_else(|| Error::codec("key name", format!("{name} is not key-N")))
}

type Named = Faulty<String, u64, Memory<String, u64>>;

fn named() -> Named {
    Faulty::new(Memory::new())
}

conformance_tests!(named_keys, || Memory::<String, Frames>::new().keyed(to_name, from_name).unwrap());
conformance_tests!(encoded_numbers, || {
    KeyMap::<u64, _, Frames, _, _, _>::encoded(Memory::<Bytes, Frames>::new()).unwrap()
});
conformance_tests!(encoded_text, || {
    KeyMap::<String, _, String, _, _, _>::encoded(Memory::<Bytes, String>::new()).unwrap()
});
conformance_tests!(over_a_buffer, || {
    let buffer = BufferBuilder::new().target(2000).over(Memory::<String, Frames>::new()).unwrap();
    buffer.keyed(to_name, from_name).unwrap()
});
conformance_tests!(below_a_buffer, || {
    let map = Memory::<String, Frames>::new().keyed(to_name, from_name).unwrap();
    map.buffered(BufferBuilder::new().target(2000)).unwrap()
});

/// Z23: pairs are held under the translated key, and what the mapping below held before is known by its own.
#[test]
fn keys_are_translated_and_those_below_are_known() {
    let inner = named();
    inner.insert("key-1".to_owned(), 10).unwrap();
    inner.insert("key-2".to_owned(), 20).unwrap();
    let map = KeyMap::new(to_name, from_name, inner).unwrap();
    assert_eq!((map.len(), sorted_keys(&map)), (2, vec![1, 2]));
    assert_eq!(map.get(&1).unwrap(), Some(10));
    assert!(map.contains_key(&2) && !map.contains_key(&3));
    map.insert(3, 30).unwrap();
    assert_eq!(map.inner().get(&"key-3".to_owned()).unwrap(), Some(30));
    assert_eq!(map.take(&1).unwrap(), Some(10));
    assert!(map.remove(&2).unwrap());
    assert_eq!(sorted_keys(map.inner()), ["key-3"]);
}

/// Z23: a key below that is nobody's translation is an error, and not a key that cannot be reached.
#[test]
fn a_foreign_key_below_is_an_error() {
    let inner = named();
    inner.insert("other".to_owned(), 1).unwrap();
    let error = KeyMap::new(to_name, from_name, inner).err().unwrap();
    assert!(error.to_string().contains("other"), "{error}");

    // It can be read as a number, but is not how that number is written.
    let inner = named();
    inner.insert("key-007".to_owned(), 1).unwrap();
    let error = KeyMap::new(to_name, from_name, inner).err().unwrap();
    assert!(matches!(error.kind(), ErrorKind::Config { key, .. } if key == "key translation"), "{error}");
}

/// Z23: two keys that would go to one do not overwrite each other's values.
#[test]
fn a_translation_that_is_not_one_to_one_loses_nothing() {
    let halved = KeyMap::new(|n: &u64| n / 2, |half: &u64| Ok(half * 2), Memory::<u64, u64>::new()).unwrap();
    halved.insert(4, 40).unwrap();
    let error = halved.insert(5, 50).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Config { .. }), "{error}");
    let results = halved.insert_many(vec![(7, 70), (6, 60), (5, 50)]);
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(halved.get(&4).unwrap(), Some(40));
    assert_eq!(sorted_keys(&halved), [4, 6]);
}

#[test]
fn a_translation_that_panics_is_an_error_of_its_key_alone() {
    quiet_injected_panics();
    let to = |n: &u64| if *n == 13 { panic!("injected") } else { to_name(n) };
    let map = KeyMap::new(to, from_name, named()).unwrap();
    map.insert(1, 10).unwrap();
    for result in [map.get(&13), map.peek(&13), map.take(&13)] {
        assert!(is_panicked(&result.unwrap_err()));
    }
    assert!(is_panicked(&map.insert(13, 1).unwrap_err()));
    assert!(is_panicked(&map.remove(&13).unwrap_err()));
    assert!(!map.contains_key(&13));
    assert_eq!(map.stored_size(&13), None);
    let found: Vec<_> = map.get_many(&[13, 1, 2, 13]).into_iter().map(Result::ok).collect();
    assert_eq!(found, [None, Some(Some(10)), Some(None), None]);
    let removed: Vec<_> = map.remove_many(&[2, 13, 1]).into_iter().map(Result::ok).collect();
    assert_eq!(removed, [Some(false), None, Some(true)]);
}

#[test]
fn calls_that_storage_fails_change_nothing() {
    let inner = Arc::new(named());
    let map = KeyMap::new(to_name, from_name, Arc::clone(&inner)).unwrap();
    failed_calls_change_nothing(&Trial::new(&map, &Ready), &|failing| {
        inner.heal();
        if failing {
            inner.inject(Plan::every(2), Fault::io());
        }
    });
}

/// Z24: flushing and closing go down the chain, with what they met.
#[test]
fn flush_and_close_go_down() {
    let map = KeyMap::new(to_name, from_name, named()).unwrap();
    map.inner().inject(Plan::nth(1).on([Operation::Flush]), Fault::io());
    assert!(is_io(&map.flush().unwrap_err()));
    map.close().unwrap();
    assert_eq!((map.inner().calls(Operation::Flush), map.inner().calls(Operation::Close)), (1, 1));
}
