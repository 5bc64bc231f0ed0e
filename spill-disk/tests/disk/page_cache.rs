//! What the system keeps of the files in main memory, and how many calls reading them takes.

use std::sync::Arc;

use spill_core::{ErrorKind, MutableMapping};
use spill_disk::io::{Fault, FaultyIo, Io, Operation, RealIo, Rule};
use spill_disk::{Segments, SegmentsConfig, Workspace};

use crate::common::{Random, assert_same, config, memory, segment_files, unstaged, value};

/// What is to come from the device is read with one call, so that the system does not read on behind it.
#[test]
fn a_long_value_that_the_page_cache_has_forgotten_is_read_with_one_call() {
    let io = FaultyIo::new(Arc::new(RealIo));
    let workspace = Workspace::open_with(Arc::new(io.clone()), Some("/var/tmp".as_ref())).unwrap();
    let path = workspace.path().join("segment-0.spill");
    let segments: Segments<u64> =
        Segments::open(SegmentsConfig::new(workspace).segment_bytes(64 << 20).stage_bytes(0)).unwrap();
    let calls = |key: u64| {
        let before = io.calls_of(Operation::Read);
        assert_same(&segments.get(&key).unwrap().unwrap(), &value(key, 1 << 20));
        io.calls_of(Operation::Read) - before
    };
    (0..4).for_each(|key| segments.insert(key, value(key, 1 << 20)).unwrap());
    assert_eq!(calls(2), 8, "it is in the page cache");
    io.open(&path).unwrap().uncache(0, 5 << 20).unwrap();
    assert_eq!((calls(2), calls(1)), (1, 1));
    assert_eq!(calls(2), 8, "it is there again");
}

/// Neighbours are read with one call, in whatever order they are asked for, and each has its own value.
#[test]
fn neighbours_are_read_with_one_call() {
    let io = FaultyIo::new(Arc::new(memory()));
    let segments = unstaged(io.clone(), 1 << 20);
    (0..200).for_each(|key| segments.insert(key, value(key, 100 + key as usize)).unwrap());
    let read = |keys: &[u64]| {
        let before = (io.calls_of(Operation::Read), segments.stats().read.count);
        for (key, found) in keys.iter().zip(segments.get_many(keys)) {
            match key {
                0..200 => assert_same(&found.unwrap().unwrap(), &value(*key, 100 + *key as usize)),
                _ => assert!(found.unwrap().is_none()),
            }
        }
        (io.calls_of(Operation::Read) - before.0, segments.stats().read.count - before.1)
    };
    let mut keys: Vec<u64> = (0..200).collect();
    let mut random = Random(7);
    (1..200).rev().for_each(|at| keys.swap(at, random.below(at as u64 + 1) as usize));
    assert_eq!(read(&keys), (1, 200));
    assert_eq!(read(&[3, 3, 500, 3]), (3, 3), "the same one again");
    assert_eq!(read(&(0..200).step_by(10).collect::<Vec<_>>()), (1, 20), "over gaps");
    assert_eq!(read(&[0, 199]), (2, 2), "far apart");
    assert_eq!(read(&[]), (0, 0));
}

/// A call that brings a part only, or fails, is made up for record by record: one failure is one value's.
#[test]
fn a_call_for_many_that_fails_is_made_up_for_one_by_one() {
    let io = FaultyIo::new(Arc::new(memory()));
    let segments = unstaged(io.clone(), 1 << 20);
    (0..20).for_each(|key| segments.insert(key, value(key, 1000)).unwrap());
    let keys: Vec<u64> = (0..20).collect();
    for fault in [Fault::Errno(5), Fault::Errno(4), Fault::Short(5000), Fault::Short(0)] {
        io.inject(Rule::nth(1, fault).on(Operation::Read));
        let found = segments.get_many(&keys);
        keys.iter()
            .zip(found)
            .for_each(|(key, found)| assert_same(&found.unwrap().unwrap(), &value(*key, 1000)));
        io.heal();
    }
    io.inject(Rule::nth(1, Fault::Errno(5)).on(Operation::Read));
    io.inject(Rule::nth(4, Fault::Errno(5)).on(Operation::Read));
    let found = segments.get_many(&keys);
    assert!(matches!(found[2].as_ref().unwrap_err().kind(), ErrorKind::Io { operation: "read", .. }));
    assert_eq!(found.iter().filter(|found| found.is_err()).count(), 1);
    io.heal();
    // Damage is one value's too.
    let (path, _) = segment_files(&io).remove(0);
    io.open(&path).unwrap().write_vectored_at(&[std::io::IoSlice::new(b"x")], 5 * 1032 + 100).unwrap();
    let found = segments.get_many(&keys);
    let damaged: Vec<_> = (0..20).filter(|at| found[*at].is_err()).collect();
    assert_eq!(damaged, [5]);
    assert!(found[5].as_ref().unwrap_err().to_string().contains("offset 5160"), "{:?}", found[5]);
}

/// Nothing is asked of the cache below half of its limit, and never that it forget what is below the limit.
#[test]
fn the_cache_is_left_alone_below_its_limit() {
    for (written, begun) in [(40, false), (90, true)] {
        let io = FaultyIo::new(Arc::new(memory()));
        let config = config(io.clone()).page_cache_bytes(100 << 20).stage_bytes(0).compactor(false);
        let segments: Segments<u64> = Segments::open(config).unwrap();
        (0..written).for_each(|key| segments.insert(key, value(key, 1 << 20)).unwrap());
        assert_eq!(io.calls_of(Operation::Cache) > 0, begun, "{written} MiB");
    }
}

/// Bytes of a directory's files that are in the page cache, by `fincore` of util-linux.
fn resident(directory: &std::path::Path) -> u64 {
    let mut command = std::process::Command::new("fincore");
    command.args(["--bytes", "--noheadings", "--output", "RES"]);
    for entry in std::fs::read_dir(directory).unwrap() {
        command.arg(entry.unwrap().path());
    }
    let output = command.output();
    assert!(output.is_ok(), "`fincore` of util-linux is needed: {output:?}");
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.trim().parse::<u64>().unwrap()).sum()
}

/// On a real file system: the pages that files have in main memory stay below the limit, reads included.
#[test]
fn pages_of_spilled_data_are_bounded() {
    bounded(0);
}

/// Also of files that are mapped, whose pages the system does not forget by itself.
#[test]
fn pages_of_mapped_files_are_bounded() {
    bounded(1 << 30);
}

fn bounded(mapped: u64) {
    const LIMIT: u64 = 24 << 20;
    // A temporary directory in main memory has nothing but its pages.
    let home = tempfile::tempdir_in("/var/tmp").unwrap();
    let workspace = Workspace::open(Some(home.path())).unwrap();
    let path = workspace.path().to_owned();
    let config =
        SegmentsConfig::new(workspace).segment_bytes(16 << 20).page_cache_bytes(LIMIT).mapped_bytes(mapped);
    let segments: Segments<u64> = Segments::open(config.compactor(false)).unwrap();
    let sized = |key: u64| value(key, if key.is_multiple_of(2) { 1 << 20 } else { 5000 });
    for key in 0..160 {
        segments.insert(key, sized(key)).unwrap();
        assert_same(&segments.get(&(key / 2)).unwrap().unwrap(), &sized(key / 2));
    }
    segments.flush().unwrap();
    let slack = 2 << 20;
    assert!(segments.usage().physical > 3 * LIMIT);
    let after_writing = resident(&path);
    assert!(after_writing <= LIMIT + slack, "{after_writing} bytes after writing");
    for key in 0..160 {
        assert_same(&segments.get(&key).unwrap().unwrap(), &sized(key));
    }
    let after_reading = resident(&path);
    assert!(after_reading <= LIMIT + 2 * slack, "{after_reading} bytes after reading");
}
