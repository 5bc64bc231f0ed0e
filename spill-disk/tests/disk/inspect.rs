//! Looking into files: what is there is told, whatever else is in them.

use std::path::Path;
use std::sync::Arc;

use spill_core::{ErrorKind, MutableMapping};
use spill_disk::inspect::{Contents, Found, Record, Records, State, contents, value_file, workspaces};
use spill_disk::io::{Io, MemoryIo};
use spill_disk::{Segments, Workspace, purge};

use crate::common::{
    DIRECTORY, PARENT, Random, assert_same, config, content, files, frames, memory, plant, record_checksum,
    segment_files, unstaged, value,
};

fn walked(io: &dyn Io, path: &Path) -> Vec<Found> {
    Records::new(&*io.open(path).unwrap()).map(Result::unwrap).collect()
}

fn records(found: &[Found]) -> Vec<Record> {
    let record = |found: &Found| if let Found::Record(record) = found { Some(*record) } else { None };
    found.iter().filter_map(record).collect()
}

/// Z21: the stored values can be looked at without the program that stored them.
#[test]
fn every_record_of_a_segment_is_found_with_its_value() {
    let io = memory();
    let segments: Segments<u64> = Segments::open(config(io.clone())).unwrap();
    let values =
        [frames(0, &[]), frames(1, &[0]), frames(2, &[5, 0, 9]), frames(3, &[70, 4090]), value(4, 3_000_000)];
    for (key, value) in values.iter().enumerate() {
        segments.insert(key as u64, value.clone()).unwrap();
        segments.flush().unwrap();
    }
    let (path, bytes) = segment_files(&io).remove(0);
    let found = walked(&io, &path);
    let file = io.open(&path).unwrap();
    assert_eq!(found.len(), values.len(), "nothing but records");
    let mut end = 0;
    for (record, value) in records(&found).iter().zip(&values) {
        assert_eq!((record.offset, record.segment, record.weight), (end, 0, value.weight()));
        assert_same(&record.value(&*file).unwrap(), value);
        end += record.length;
    }
    assert_eq!(end, bytes.len() as u64);
    assert_eq!(end, segments.usage().spilled.disk);
}

/// What an older segment left in a file that was used again is not taken for the newer one's.
#[test]
fn what_an_older_segment_left_is_told_apart() {
    let io = memory();
    let segments = unstaged(io.clone(), 4_000);
    (0..4).for_each(|key| segments.insert(key, value(key, 960)).unwrap());
    (0..4).for_each(|key| assert!(segments.remove(&key).unwrap()));
    // Four fill a second file, two begin the first one anew.
    (4..10).for_each(|key| segments.insert(key, value(key, 960)).unwrap());
    let found = walked(&io, &segment_files(&io).remove(0).0);
    let ours = records(&found);
    assert_eq!(ours.iter().map(|record| record.length).collect::<Vec<_>>(), [992, 992]);
    assert_eq!(ours[0].segment, 2);
    assert!(matches!(found.last(), Some(Found::Other { offset: 1984, length: 1984 })), "{found:?}");
}

/// Damage hides what it hit, and nothing behind it.
#[test]
fn records_behind_damage_are_found() {
    let io = memory();
    let segments = unstaged(io.clone(), 1 << 20);
    (0..10).for_each(|key| segments.insert(key, value(key, 100)).unwrap());
    let (path, bytes) = segment_files(&io).remove(0);
    let length = bytes.len() as u64 / 10;
    let file = io.open(&path).unwrap();
    for at in [length + 50, 5 * length + 18] {
        file.write_vectored_at(&[std::io::IoSlice::new(&[0xff])], at).unwrap();
    }
    let found = walked(&io, &path);
    assert_eq!(records(&found).len(), 8);
    let other = |n: u64| Found::Other { offset: n * length, length };
    assert!(found.contains(&other(1)) && found.contains(&other(5)), "{found:?}");
}

#[test]
fn a_directory_is_told_by_what_is_in_it() {
    let io = memory();
    let parent = Path::new(PARENT);
    let segments = unstaged(io.clone(), 1_000);
    (0..12).for_each(|key| segments.insert(key, value(key, 900)).unwrap());
    for (name, file) in
        [("overspill-99999999-0", "overspill.lock"), ("overspill-99999999-1", "overspill.unlocked")]
    {
        io.create_dir(&parent.join(name)).unwrap();
        plant(&io, &parent.join(name).join(file), b"");
        plant(&io, &parent.join(name).join("segment-3.spill"), b"what it is does not matter");
    }
    io.create_dir(&parent.join("overspill-99999999-2")).unwrap();
    io.create_dir(&parent.join("overspill-results")).unwrap();
    let seen = workspaces(&io, parent).unwrap();
    let told: Vec<_> = seen.iter().map(|one| (one.state, one.files, one.bytes)).collect();
    let ours = (State::InUse, 12, 12 * 936);
    assert_eq!(told, [ours, (State::Dead, 1, 26), (State::Unknown, 1, 26), (State::Dead, 0, 0)]);
    assert_eq!(contents(&io, parent).unwrap(), Contents::Parent(seen.clone()));
    let Contents::Workspace(one, paths) = contents(&io, &seen[0].path).unwrap() else { panic!() };
    assert_eq!((&one, paths.len()), (&seen[0], 12));
    assert!(paths[2].ends_with("segment-2.spill") && paths[11].ends_with("segment-11.spill"), "by number");
    // A purge removes just those that were told to be dead.
    let dead = seen.iter().filter(|one| one.state == State::Dead).map(|one| one.path.clone());
    let mut removed = purge(&io, parent).unwrap().removed;
    removed.sort();
    assert_eq!(removed, dead.collect::<Vec<_>>());
    assert!(matches!(
        contents(&io, Path::new("/none")).unwrap_err().kind(),
        ErrorKind::Io { operation: "list", .. }
    ));
}

#[test]
fn the_file_of_one_value_is_told_with_its_key() {
    let io = memory();
    let store = files::<String>(io.clone());
    store.insert("one".to_owned(), frames(1, &[10, 20])).unwrap();
    let Contents::Values(paths) = contents(&io, Path::new(DIRECTORY)).unwrap() else { panic!() };
    let found = value_file(&io, &paths[0]).unwrap().unwrap();
    assert_eq!((&*found.key, found.length), (&b"one"[..], content(&io, &paths[0]).len() as u64));
    assert_same(&found.value.unwrap(), &frames(1, &[10, 20]));
    // Cut within its record, then within its head.
    let file = io.open(&paths[0]).unwrap();
    file.set_len(found.length - 8).unwrap();
    let cut = value_file(&io, &paths[0]).unwrap().unwrap();
    assert!(cut.value.unwrap_err().contains("bytes"));
    file.set_len(20).unwrap();
    assert_eq!(value_file(&io, &paths[0]).unwrap().unwrap_err(), "it is shorter than a head");
}

/// Bytes of all kinds: noise, records, records of other segments, headers that say anything under a right checksum.
pub(crate) fn arbitrary(random: &mut Random, valid: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.below(6) {
        match random.below(6) {
            0 => bytes.extend((0..random.below(200)).map(|_| random.below(256) as u8)),
            1 => bytes.resize(bytes.len() + random.below(300) as usize, 0),
            2 | 3 if !valid.is_empty() => {
                let from = random.below(valid.len() as u64 / 8 + 1) as usize * 8;
                let to = from + random.below((valid.len() - from) as u64 + 1) as usize;
                bytes.extend_from_slice(&valid[from..to]);
            }
            4 => {
                // A whole record whose numbers are nonsense and whose checksum is right.
                let mut record: Vec<u8> =
                    (0..32 + 8 * random.below(20)).map(|_| random.below(256) as u8).collect();
                let numbers = [0, 1, 2, 7, 8, 100, 4095, 4096, u64::from(u32::MAX), u64::MAX - 7, u64::MAX];
                let number = numbers[random.below(11) as usize];
                record[12..16].copy_from_slice(&(numbers[random.below(9) as usize] as u32).to_le_bytes());
                record[16..24].copy_from_slice(&number.to_le_bytes());
                let checksum = record_checksum(&record);
                record[..4].copy_from_slice(&checksum.to_le_bytes());
                bytes.extend(record);
            }
            _ => {
                let len = bytes.len() as u64;
                if len > 0 {
                    let at = random.below(len) as usize;
                    bytes[at] ^= 1 << random.below(8);
                }
            }
        }
    }
    bytes
}

/// Whatever a file holds: the parts told are the whole of it, one after another.
pub(crate) fn check_walk(bytes: &[u8]) {
    let io = MemoryIo::new();
    let path = Path::new("/file");
    plant(&io, path, bytes);
    let file = io.open(path).unwrap();
    let mut end = 0;
    for found in Records::new(&*file) {
        let (offset, length) = match found.unwrap() {
            Found::Record(record) => {
                let whole = &bytes[record.offset as usize..(record.offset + record.length) as usize];
                assert_eq!(record.checksum, record_checksum(whole));
                if let Ok(value) = record.value(&*file) {
                    assert_eq!(
                        (value.as_slice().len() as u32, value.weight()),
                        (record.frames, record.weight)
                    );
                }
                (record.offset, record.length)
            }
            Found::Other { offset, length } => (offset, length),
        };
        assert!(offset == end && length > 0);
        end += length;
    }
    assert_eq!(end, bytes.len() as u64);
}

#[test]
fn a_workspace_that_is_looked_into_is_not_changed() {
    let io = memory();
    let workspace = Workspace::open_with(Arc::new(io.clone()), Some(Path::new(PARENT))).unwrap();
    let path = workspace.path().to_owned();
    for _ in 0..3 {
        assert!(
            matches!(contents(&io, &path).unwrap(), Contents::Workspace(seen, _) if seen.state == State::InUse)
        );
    }
    drop(workspace);
    assert!(io.list(&path).is_err());
}
