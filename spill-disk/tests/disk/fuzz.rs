//! Arbitrary files. Each test runs for as many seconds as `OVERSPILL_FUZZ_SECONDS` says (one, unless it says otherwise; a
//! minute in continuous integration). Rounds are numbered, and a round does the same whenever it is run: the number of one
//! that fails is printed, and `OVERSPILL_FUZZ_FROM` begins with it.

use std::io::IoSlice;
use std::path::Path;
use std::time::Duration;

use spill_core::{Clock, ErrorKind, Frames, MutableMapping, SystemClock};
use spill_disk::Segments;
use spill_disk::io::Io;

use crate::common::{
    DIRECTORY, Random, assert_same, config, content, files, frames, memory, plant, segment_files, try_files,
};
use crate::inspect::{arbitrary, check_walk};

fn setting(name: &str, otherwise: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(otherwise, |value| {
        value.parse().unwrap_or_else(|_| unreachable!("{name} = {value}: a number"))
    })
}

/// Tells which round it was when one fails.
struct Round(u64);
impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("run again with OVERSPILL_FUZZ_FROM={}", self.0);
        }
    }
}

fn fuzz(round: impl Fn(&mut Random)) {
    let time = Duration::from_secs(setting("OVERSPILL_FUZZ_SECONDS", 1));
    let first = setting("OVERSPILL_FUZZ_FROM", 0);
    let clock = SystemClock::new();
    let mut number = first;
    while number < first + 20 || clock.now() < time {
        let guard = Round(number);
        round(&mut Random((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
        drop(guard);
        number += 1;
    }
}

fn shapes() -> [Frames; 6] {
    [
        frames(1, &[]),
        frames(2, &[3]),
        frames(3, &[10, 0, 5]),
        frames(4, &[300]),
        frames(5, &[64, 4060]),
        frames(6, &[5000]),
    ]
}

/// Overwrites a file with other content.
fn replace(io: &dyn Io, path: &Path, bytes: &[u8]) {
    let file = io.open(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    if !bytes.is_empty() {
        file.write_vectored_at(&[IoSlice::new(bytes)], 0).unwrap();
    }
}

/// Some of it, changed here and there.
fn mutated(random: &mut Random, valid: &[u8]) -> Vec<u8> {
    if random.below(4) == 0 {
        return arbitrary(random, valid);
    }
    let mut bytes = valid.to_vec();
    for _ in 0..=random.below(4) {
        let len = bytes.len() as u64;
        if len == 0 {
            break;
        }
        let at = random.below(len) as usize;
        match random.below(5) {
            0 => bytes.truncate(at),
            1 => bytes[at] = random.below(256) as u8,
            2 => bytes[at] ^= 1 << random.below(8),
            3 => {
                let length = (random.below(64) as usize).min(bytes.len() - at);
                let from = random.below((bytes.len() - length) as u64 + 1) as usize;
                bytes.copy_within(from..from + length, at);
            }
            _ => bytes.splice(at..at, (0..random.below(20)).map(|n| n as u8)).for_each(drop),
        }
    }
    bytes
}

#[test]
fn arbitrary_segment_files_are_walked() {
    let io = memory();
    let segments: Segments<u64> = Segments::open(config(io.clone())).unwrap();
    (0..).zip(shapes()).for_each(|(key, value)| segments.insert(key, value).unwrap());
    segments.flush().unwrap();
    let (_, valid) = segment_files(&io).remove(0);
    fuzz(|random| {
        let bytes = arbitrary(random, &valid);
        check_walk(&bytes);
    });
}

/// The right value or `Corrupt` with file and offset, and compaction over such files keeps to that.
#[test]
fn a_store_over_arbitrary_files_gives_right_values_or_none() {
    fuzz(|random| {
        let io = memory();
        let config = config(io.clone()).segment_bytes(9_000).stage_bytes(1_000).compactor(false);
        let segments: Segments<u64> = Segments::open(config).unwrap();
        let values = shapes();
        for key in 0..12 {
            segments.insert(key, values[key as usize % 6].clone()).unwrap();
        }
        segments.flush().unwrap();
        let files = segment_files(&io);
        for (path, valid) in &files {
            let of = &files[random.below(files.len() as u64) as usize].1;
            if random.below(3) > 0 {
                let from = if random.below(4) == 0 { of } else { valid };
                replace(&io, path, &mutated(random, from));
            }
        }
        for round in 0..2 {
            for key in 0..12 {
                match segments.get(&key) {
                    Ok(None) => assert!(round == 1 && key < 4, "nothing but what was removed is absent"),
                    Ok(Some(found)) => assert_same(&found, &values[key as usize % 6]),
                    Err(error) => assert!(
                        matches!(error.kind(), ErrorKind::Corrupt { location, .. }
                            if location.contains("segment-") && location.contains("offset")),
                        "{error}"
                    ),
                }
            }
            (0..4).for_each(|key| assert_eq!(segments.remove(&key).unwrap(), round == 0));
            segments.settle().unwrap();
        }
    });
}

#[test]
fn a_directory_of_arbitrary_files_opens_and_gives_right_values_or_none() {
    let io = memory();
    let store = files::<u64>(io.clone());
    (0..).zip(shapes()).for_each(|(key, value)| store.insert(key, value).unwrap());
    drop(store);
    let entries = io.list(Path::new(DIRECTORY)).unwrap();
    let valid: Vec<_> = entries
        .into_iter()
        .filter(|entry| entry.name != "lock.spill")
        .map(|entry| (entry.name.clone(), content(&io, &Path::new(DIRECTORY).join(entry.name))))
        .collect();
    let values = shapes();
    fuzz(|random| {
        let io = memory();
        io.create_dir(Path::new(DIRECTORY)).unwrap();
        for (name, bytes) in &valid {
            let of = &valid[random.below(6) as usize].1;
            let bytes = if random.below(5) == 0 { of } else { bytes };
            let bytes = if random.below(3) > 0 { mutated(random, bytes) } else { bytes.clone() };
            plant(&io, &Path::new(DIRECTORY).join(name), &bytes);
        }
        let store = try_files::<u64>(io.clone()).unwrap();
        for key in 0..6 {
            match store.get(&key) {
                Ok(None) => {}
                Ok(Some(found)) => assert_same(&found, &values[key as usize]),
                Err(error) => assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}"),
            }
        }
    });
}
