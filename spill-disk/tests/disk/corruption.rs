//! Damaged files: the right value or `Corrupt`, never a wrong one, never a panic.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use spill_core::{ErrorKind, Frames, MutableMapping};
use spill_disk::Segments;
use spill_disk::io::{Io, MemoryIo};

use crate::common::{assert_same, config, frames, memory, segment_files, unstaged, value};

fn shapes() -> [Frames; 6] {
    [
        frames(1, &[]),
        frames(2, &[0]),
        frames(3, &[10]),
        frames(4, &[5, 0, 20]),
        frames(5, &[100]),
        frames(6, &[50, 4060]),
    ]
}

fn small_store() -> (MemoryIo, Segments<u64>) {
    let io = memory();
    let segments: Segments<u64> = Segments::open(config(io.clone())).unwrap();
    for (key, value) in shapes().into_iter().enumerate() {
        segments.insert(key as u64, value).unwrap();
    }
    segments.flush().unwrap();
    (io, segments)
}

/// How many values are damaged; the others must be right.
fn damaged(segments: &Segments<u64>) -> usize {
    let mut damaged = 0;
    for (key, wanted) in shapes().iter().enumerate() {
        match segments.get(&(key as u64)) {
            Ok(found) => assert_same(&found.unwrap(), wanted),
            Err(error) => {
                assert!(
                    matches!(error.kind(), ErrorKind::Corrupt { location, .. } if location.contains("segment-0.spill offset "))
                );
                assert!(!error.is_transient());
                damaged += 1;
            }
        }
        assert!(segments.contains_key(&(key as u64)));
    }
    damaged
}

#[test]
fn every_flipped_byte_is_found() {
    let (io, segments) = small_store();
    let (path, content) = segment_files(&io).remove(0);
    let file = io.open(&path).unwrap();
    for (at, byte) in content.iter().enumerate() {
        for flip in [0x01, 0x80, 0xff] {
            file.write_vectored_at(&[IoSlice::new(&[byte ^ flip])], at as u64).unwrap();
            assert_eq!(damaged(&segments), 1, "byte {at}");
        }
        file.write_vectored_at(&[IoSlice::new(&[*byte])], at as u64).unwrap();
    }
    assert_eq!(damaged(&segments), 0);
}

#[test]
fn every_truncation_is_found() {
    let (io, segments) = small_store();
    let (path, content) = segment_files(&io).remove(0);
    let file = io.open(&path).unwrap();
    for len in (0..content.len()).rev() {
        file.set_len(len as u64).unwrap();
        assert!(damaged(&segments) > 0, "{len} bytes");
    }
    assert_eq!(damaged(&segments), shapes().len());
    assert_eq!(segments.stats().failures as usize % shapes().len(), 0);
}

#[test]
fn a_damaged_value_can_be_removed_and_replaced() {
    let (io, segments) = small_store();
    let (path, _) = segment_files(&io).remove(0);
    io.open(&path).unwrap().set_len(0).unwrap();
    assert!(segments.take(&3).is_err());
    assert!(segments.remove(&3).unwrap());
    segments.insert(4, value(9, 10)).unwrap();
    assert_same(&segments.get(&4).unwrap().unwrap(), &value(9, 10));
}

/// A whole record of another time, checksum and all, put in the place of one: it is not taken for it.
#[test]
fn an_old_record_in_a_used_again_file_is_never_taken_for_new() {
    let io = memory();
    let segments = unstaged(io.clone(), 1_000);
    segments.insert(1, value(1, 900)).unwrap();
    let (path, old) = segment_files(&io).remove(0);
    // Fills the segment, so that it is sealed, and dies.
    segments.insert(2, value(2, 900)).unwrap();
    segments.remove(&1).unwrap();
    segments.insert(3, value(1, 900)).unwrap();
    let files = segment_files(&io);
    assert_eq!((files.len(), &files[0].0), (2, &path), "the first file was used again");
    assert_ne!(files[0].1, old, "the same value in another segment is another record");
    let segment = |file: &[u8]| u32::from_le_bytes(file[4..8].try_into().unwrap());
    assert_eq!((segment(&old), segment(&files[0].1)), (0, 2));
    assert_same(&segments.get(&3).unwrap().unwrap(), &value(1, 900));
    io.open(&path).unwrap().write_vectored_at(&[IoSlice::new(&old)], 0).unwrap();
    assert!(matches!(segments.get(&3).unwrap_err().kind(), ErrorKind::Corrupt { .. }));
}

/// A file and what is in it.
type Content = (PathBuf, Vec<u8>);

/// Two values in each of three files, which are told with their content.
fn three_segments() -> (MemoryIo, Segments<u64>, Vec<Content>) {
    let io = memory();
    let segments = unstaged(io.clone(), 2_000);
    (0..6).for_each(|key| segments.insert(key, value(key, 900)).unwrap());
    let files = segment_files(&io);
    assert_eq!(files.len(), 3);
    (io, segments, files)
}

/// Each read gives the right value or `Corrupt` with file and offset. Returns the keys that are damaged.
fn damaged_keys(segments: &Segments<u64>) -> Vec<u64> {
    let mut damaged = Vec::new();
    for key in 0..6 {
        match segments.get(&key) {
            Ok(found) => assert_same(&found.unwrap(), &value(key, 900)),
            Err(error) => {
                let place = format!("segment-{}.spill offset {}", key / 2, key % 2 * 936);
                assert!(
                    matches!(error.kind(), ErrorKind::Corrupt { location, .. } if location.ends_with(&place)),
                    "{error}"
                );
                damaged.push(key);
            }
        }
    }
    damaged
}

fn overwrite(io: &MemoryIo, path: &Path, bytes: &[u8]) {
    let file = io.open(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    file.write_vectored_at(&[IoSlice::new(bytes)], 0).unwrap();
}

/// Two files of equal shape in each other's place: every checksum in them is right.
#[test]
fn swapped_segments_are_found() {
    let (io, segments, files) = three_segments();
    overwrite(&io, &files[0].0, &files[1].1);
    overwrite(&io, &files[1].0, &files[0].1);
    assert_eq!(damaged_keys(&segments), [0, 1, 2, 3]);
    overwrite(&io, &files[0].0, &files[0].1);
    assert_eq!(damaged_keys(&segments), [2, 3]);
    overwrite(&io, &files[1].0, &files[1].1);
    assert_eq!(damaged_keys(&segments), [0; 0]);
}

/// A file whose name is gone is still read through its handle; what replaces it is never read. Space, compaction and
/// closing bear with it.
#[test]
fn a_deleted_segment_is_still_read_and_disturbs_nothing() {
    let (io, segments, files) = three_segments();
    io.remove_file(&files[1].0).unwrap();
    assert_eq!(damaged_keys(&segments), [0; 0]);
    overwrite(&io, &files[0].0, &[]);
    assert_eq!(damaged_keys(&segments), [0, 1]);
    // The dead half of the deleted one is compacted, and then it is dropped.
    segments.remove(&2).unwrap();
    (10..16).for_each(|key| segments.insert(key, value(key, 900)).unwrap());
    (10..16).for_each(|key| assert!(segments.remove(&key).unwrap()));
    segments.settle().unwrap();
    assert_same(&segments.get(&3).unwrap().unwrap(), &value(3, 900));
    segments.close().unwrap();
    assert!(segment_files(&io).is_empty());
}
