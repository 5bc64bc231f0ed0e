//! Damaged and foreign files in a directory of values: the right value, a typed error, or left alone.

use std::path::{Path, PathBuf};

use spill_core::{ErrorKind, MappingExt, MutableMapping};
use spill_disk::Files;
use spill_disk::io::{Io, MemoryIo};

use crate::common::{DIRECTORY, assert_same, content, files, frames, memory, names, plant, value};

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// A directory with the values `a` and `b`; the file of `a`, and what it holds.
fn two_values() -> (MemoryIo, PathBuf, Vec<u8>) {
    let io = memory();
    let store = files::<String>(io.clone());
    store.insert("a".to_owned(), frames(1, &[10, 0, 20])).unwrap();
    store.insert("b".to_owned(), value(2, 30)).unwrap();
    let file = path("key.a.0.spill");
    let whole = content(&io, &file);
    (io, file, whole)
}

/// What a store says of the damaged `a`: never a wrong value. The other one is right.
fn says(store: &Files<String>) -> &'static str {
    assert_same(&store.get(&"b".to_owned()).unwrap().unwrap(), &value(2, 30));
    match store.get(&"a".to_owned()) {
        Ok(Some(found)) => {
            assert_same(&found, &frames(1, &[10, 0, 20]));
            "right"
        }
        Ok(None) => "absent",
        Err(error) => {
            let here = |location: &String| location.contains("key.a.0.spill");
            assert!(matches!(error.kind(), ErrorKind::Corrupt { location, .. } if here(location)), "{error}");
            assert!(store.contains_key(&"a".to_owned()));
            "corrupt"
        }
    }
}

/// Replaces the file by `bytes`, and says what a store that has it open says, and one that opens it then.
fn damaged(file: &Path, bytes: &[u8]) -> (&'static str, &'static str) {
    let (io, _, _) = two_values();
    let open = files::<String>(io.clone());
    io.remove_file(file).unwrap();
    plant(&io, file, bytes);
    let before = says(&open);
    drop(open);
    let after = says(&files(io.clone()));
    assert_eq!(content(&io, file), bytes, "it is left as it was");
    (before, after)
}

/// Z20: no damaged value is ever given: a damaged head is passed by when the directory is opened, a damaged
/// record is an error when it is read.
#[test]
fn every_flipped_byte_is_found() {
    let (_, file, whole) = two_values();
    let head = 48 + 1;
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            let (open, opened) = damaged(&file, &bytes);
            let expected = match at {
                _ if at < head => ("right", "absent"),
                // Zeros between head and record, which nobody reads.
                _ if at < 56 => ("right", "right"),
                _ => ("corrupt", "corrupt"),
            };
            assert_eq!((open, opened), expected, "byte {at}");
        }
    }
}

/// Z20: a file that is cut short is no value.
#[test]
fn every_truncation_is_found() {
    let (_, file, whole) = two_values();
    for len in 0..whole.len() {
        let expected = if len < 49 { "absent" } else { "corrupt" };
        assert_eq!(damaged(&file, &whole[..len]), ("corrupt", expected), "{len} bytes");
    }
}

/// The head of a large value promises what the file does not have.
#[test]
fn a_large_value_that_is_cut_short_is_an_error() {
    let io = memory();
    files::<u64>(io.clone()).insert(1, value(1, 3 << 20)).unwrap();
    let file = path(&names(&io)[0]);
    io.open(&file).unwrap().set_len(1 << 20).unwrap();
    let store = files::<u64>(io.clone());
    assert!(matches!(store.get(&1).unwrap_err().kind(), ErrorKind::Corrupt { .. }));
    assert!(matches!(store.take(&1).unwrap_err().kind(), ErrorKind::Corrupt { .. }));
    assert_eq!((store.len(), store.stats().failures), (1, 2));
    store.insert(1, value(2, 5)).unwrap();
    assert_same(&store.get(&1).unwrap().unwrap(), &value(2, 5));
    assert_eq!(names(&io).len(), 1);
}

/// Z20: what a write left that was cut off is no value, and is removed; what is somebody else's stays.
#[test]
fn only_values_are_values_and_only_our_leftovers_are_removed() {
    let (io, file, whole) = two_values();
    let foreign = [
        "notes.txt",
        "key.c.1",
        "key.c.x.spill",
        "part.spill",
        "part.7.spill.bak",
        ".hidden",
        "key.a.0.spill~",
    ];
    for name in foreign {
        plant(&io, &path(name), b"precious");
    }
    io.create_dir(&path("key.d.8.spill")).unwrap();
    // Whole values under names that are not theirs: another's key, another's generation.
    plant(&io, &path("key.c.0.spill"), &whole);
    plant(&io, &path("key.a.12.spill"), &whole);
    plant(&io, &path("hash.0123456789abcdef.3.spill"), &whole);
    plant(&io, &path("key.e.9.spill"), b"");
    for part in ["part.3.spill", "part.30.spill"] {
        plant(&io, &path(part), &whole);
    }
    let before = names(&io);

    let store = files::<String>(io.clone());
    let mut keys = store.keys();
    keys.sort();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(says(&store), "right");
    let left: Vec<_> = before
        .into_iter()
        .filter(|name| !["part.3.spill", "part.30.spill"].contains(&name.as_str()))
        .collect();
    assert_eq!(names(&io), left);

    // Numbers that were seen are not given again.
    store.insert("c".to_owned(), value(3, 5)).unwrap();
    assert!(names(&io).contains(&"key.c.31.spill".to_owned()), "{:?}", names(&io));
    store.clear().unwrap();
    assert!(io.open(&file).is_err());
    drop(store);
    assert_eq!(files::<String>(io).len(), 0);
}

#[test]
fn keys_of_another_type_are_left_alone() {
    let io = memory();
    files::<String>(io.clone()).insert("a".to_owned(), value(1, 10)).unwrap();
    let numbers = files::<u64>(io.clone());
    assert_eq!(numbers.len(), 0);
    numbers.insert(7, value(2, 10)).unwrap();
    drop(numbers);
    let texts = files::<String>(io.clone());
    assert_same(&texts.get(&"a".to_owned()).unwrap().unwrap(), &value(1, 10));
    assert_eq!(names(&io).len(), 2);
}

/// Z20: of two values of one key, which a process that died in between leaves, the later one counts.
#[test]
fn the_later_of_two_values_counts_and_the_other_goes() {
    let io = memory();
    let store = files::<String>(io.clone());
    for n in 0..3 {
        store.insert("a".to_owned(), value(n, 10)).unwrap();
        let name = format!("key.a.{n}.spill");
        let bytes = content(&io, &path(&name));
        plant(&io, &path(&format!("kept-{name}")), &bytes);
    }
    drop(store);
    // In the order of the directory and against it.
    for order in [[0, 1, 2], [2, 1, 0]] {
        for n in order {
            let name = format!("key.a.{n}.spill");
            let bytes = content(&io, &path(&format!("kept-{name}")));
            let _ = io.remove_file(&path(&name));
            plant(&io, &path(&name), &bytes);
        }
        let store = files::<String>(io.clone());
        assert_eq!(store.len(), 1);
        assert_same(&store.get(&"a".to_owned()).unwrap().unwrap(), &value(2, 10));
        assert_eq!(store.usage().spilled.memory, value(2, 10).weight());
        let values: Vec<_> = names(&io).into_iter().filter(|name| name.starts_with("key")).collect();
        assert_eq!(values, ["key.a.2.spill"]);
    }
}

/// A file that somebody removed: an error, since the value is lost, until the key is removed or replaced.
#[test]
fn a_file_that_vanished_is_an_error() {
    let (io, file, _) = two_values();
    let store = files::<String>(io.clone());
    io.remove_file(&file).unwrap();
    assert_eq!(says(&store), "corrupt");
    let key = "a".to_owned();
    assert!(matches!(store.take(&key).unwrap_err().kind(), ErrorKind::Corrupt { .. }));
    store.insert(key.clone(), value(3, 5)).unwrap();
    assert_same(&store.get(&key).unwrap().unwrap(), &value(3, 5));
    io.remove_file(&path("key.a.2.spill")).unwrap();
    assert!(store.remove(&key).unwrap());
    assert!(!store.remove(&key).unwrap());
}
