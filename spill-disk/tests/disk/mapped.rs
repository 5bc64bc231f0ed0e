//! Segments that are mapped into memory for reading.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;
use spill_core::{Error, ErrorKind, MutableMapping, conformance_tests};
use spill_disk::io::{Fault, FaultyIo, Io, Operation, RealIo, Rule};
use spill_disk::{Segments, SegmentsConfig, Workspace};

use crate::common::{assert_same, config, frames, memory, value};
use crate::model;

const SEGMENT: u64 = 64 << 10;

/// Where a process that is to end by a bus error has its files.
const HOME: &str = "OVERSPILL_TEST_BUS_ERROR";

/// A store over real files whose calls are counted.
fn store(settings: impl FnOnce(SegmentsConfig) -> SegmentsConfig) -> (FaultyIo, Segments<u64>, PathBuf) {
    let io = FaultyIo::new(Arc::new(RealIo));
    let home = std::env::var_os(HOME).unwrap_or_else(|| "/var/tmp".into());
    let workspace = Workspace::open_with(Arc::new(io.clone()), Some(Path::new(&home))).unwrap();
    let path = workspace.path().to_owned();
    let config = SegmentsConfig::new(workspace).segment_bytes(SEGMENT).stage_bytes(0);
    (io, Segments::open(settings(config)).unwrap(), path)
}

/// Bytes of the files below `path` that this process has mapped, by the system's list.
fn mapped(path: &Path) -> u64 {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ours = maps.lines().filter(|line| line.contains(path.to_str().unwrap()));
    let length = |line: &str| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        u64::from_str_radix(to, 16).unwrap() - u64::from_str_radix(from, 16).unwrap()
    };
    ours.map(length).sum()
}

conformance_tests!(mapped_segments, || {
    let workspace = Workspace::open(Some(Path::new("/var/tmp"))).unwrap();
    let config = SegmentsConfig::new(workspace).segment_bytes(8_000).stage_bytes(4_000);
    Segments::<u64>::open(config.mapped_bytes(100_000)).unwrap()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Segments fill, die, are moved and used again while they are mapped, and some are not.
    #[test]
    fn mapped_segments_are_a_map(script in prop::collection::vec(model::op(), 0..60), limit in 0..40_000_u64) {
        let workspace = Workspace::open(Some(Path::new("/var/tmp"))).unwrap();
        let config = SegmentsConfig::new(workspace).segment_bytes(8_000).stage_bytes(2_000);
        model::run(&Segments::open(config.mapped_bytes(limit)).unwrap(), &script)?;
    }
}

/// Whole segments are mapped up to the limit and read without a call; the others by calls. What is closed is not mapped.
#[test]
fn files_are_mapped_up_to_the_limit_and_read_without_a_call() {
    const LIMIT: u64 = 3 * SEGMENT + 1000;
    let (io, segments, path) = store(|config| config.mapped_bytes(LIMIT));
    let lengths = |key: u64| [100, 1500, 0, 7, 6000][key as usize % 5] + key as usize;
    (0..200).for_each(|key| segments.insert(key, value(key, lengths(key))).unwrap());
    assert!(segments.usage().physical > 5 * SEGMENT);
    // a record longer than a segment takes nothing of the limit
    segments.insert(1000, value(1, 3 * SEGMENT as usize)).unwrap();
    assert_same(&segments.get(&1000).unwrap().unwrap(), &value(1, 3 * SEGMENT as usize));
    assert_eq!((mapped(&path), io.calls_of(Operation::Map)), (0, 0), "nothing else was read");
    let calls = || io.calls_of(Operation::Read);
    for round in 0..2 {
        for key in 0..200 {
            let before = calls();
            assert_same(&segments.get(&key).unwrap().unwrap(), &value(key, lengths(key)));
            if key < 50 {
                assert_eq!(calls(), before, "round {round}: {key} is in the first segments");
            }
        }
        assert_eq!(mapped(&path), 3 * SEGMENT);
    }
    assert!(calls() > 0, "what is beyond the limit is read by calls");
    segments.close().unwrap();
    drop(segments);
    assert_eq!(mapped(&path), 0);
}

/// What is given back by one segment is for another.
#[test]
fn files_that_are_gone_are_not_mapped() {
    let (_, segments, path) = store(|config| config.mapped_bytes(2 * SEGMENT).compactor(false));
    for round in 0..6 {
        for key in 0..30 {
            segments.insert(key, value(key + round, 9000)).unwrap();
            assert_same(&segments.get(&key).unwrap().unwrap(), &value(key + round, 9000));
            assert!(mapped(&path) <= 2 * SEGMENT);
        }
    }
    segments.clear().unwrap();
    segments.insert(1, value(1, 9000)).unwrap();
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 9000));
    assert!((SEGMENT..=2 * SEGMENT).contains(&mapped(&path)));
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let gone = |line: &&str| line.contains(path.to_str().unwrap()) && line.ends_with("(deleted)");
    assert_eq!(maps.lines().filter(gone).count(), 0);
}

/// A file that was cut short, at every length in turn: the right value or `Corrupt`, and no signal.
#[test]
fn files_cut_short_are_corrupt() {
    let (io, segments, path) = store(|config| config.mapped_bytes(SEGMENT));
    let shapes = || {
        [frames(1, &[]), frames(2, &[10]), frames(3, &[5, 0, 4060]), frames(4, &[9000]), frames(5, &[100])]
    };
    (0..).zip(shapes()).for_each(|(key, value)| segments.insert(key, value).unwrap());
    let damaged = || {
        let damaged = |(key, wanted): &(u64, spill_core::Frames)| match segments.get(key) {
            Ok(found) => {
                assert_same(&found.unwrap(), wanted);
                false
            }
            Err(error) => {
                let named = |location: &str| location.contains("segment-0.spill offset ");
                assert!(
                    matches!(error.kind(), ErrorKind::Corrupt { location, .. } if named(location)),
                    "{error}"
                );
                true
            }
        };
        (0..).zip(shapes()).filter(damaged).count()
    };
    assert_eq!((damaged(), mapped(&path), io.calls_of(Operation::Read)), (0, SEGMENT, 0));
    let file = OpenOptions::new().write(true).open(path.join("segment-0.spill")).unwrap();
    let length = file.metadata().unwrap().len();
    let mut most = 0;
    for length in (0..length).rev().step_by(61).chain([0]) {
        file.set_len(length).unwrap();
        // the zeros that fill up the last page may be what was cut off: the right value then
        most = damaged().max(most);
    }
    assert_eq!(most, shapes().len(), "each is damaged in the end");
    assert_eq!(mapped(&path), SEGMENT, "it was read through its mapping all the time");
}

/// Where the system does not map, or there is nothing to map, values are read by calls.
#[test]
fn files_that_cannot_be_mapped_are_read_by_calls() {
    let (io, segments, path) = store(|config| config.mapped_bytes(10 * SEGMENT));
    io.inject(Rule::from(1, Fault::Errno(12)).on(Operation::Map));
    (0..40).for_each(|key| segments.insert(key, value(key, 5000)).unwrap());
    (0..40).for_each(|key| assert_same(&segments.get(&key).unwrap().unwrap(), &value(key, 5000)));
    assert_eq!((mapped(&path), io.calls_of(Operation::Map), io.calls_of(Operation::Read)), (0, 1, 40));

    let segments: Segments<u64> =
        Segments::open(config(memory()).stage_bytes(0).mapped_bytes(1 << 30)).unwrap();
    segments.insert(1, value(1, 5000)).unwrap();
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 5000));
}

/// A system that refused to map a file is asked again once a mapping is gone.
#[test]
fn files_are_mapped_again_when_there_may_be_room() {
    let (io, segments, path) = store(|config| config.mapped_bytes(100 * SEGMENT).compactor(false));
    let insert = |key: u64| segments.insert(key, value(key, 40_000)).unwrap(); // a segment each
    let get = |key: u64| assert_same(&segments.get(&key).unwrap().unwrap(), &value(key, 40_000));
    (0..12).for_each(insert);
    (0..8).for_each(get);
    io.inject(Rule::nth(1, Fault::Errno(12)).on(Operation::Map));
    (8..12).for_each(get);
    let calls = || io.calls_of(Operation::Map);
    assert_eq!((mapped(&path), calls()), (8 * SEGMENT, 9), "one was refused, and no other asked for");
    (0..10).for_each(|key| assert!(segments.remove(&key).unwrap()));
    segments.settle().unwrap();
    let left = mapped(&path);
    assert!(left < 4 * SEGMENT, "{left}: few files are kept to be used again");
    get(10);
    assert_eq!((mapped(&path), calls()), (left + SEGMENT, 10));
}

/// A mapping that fails in the middle of a long value leaves it to calls, which begin anew.
#[test]
fn long_values_whose_file_was_cut_short_in_the_middle() {
    const LEN: usize = 500_000;
    let (_, segments, path) = store(|config| config.segment_bytes(1 << 20).mapped_bytes(1 << 20));
    segments.insert(1, value(1, LEN)).unwrap();
    let get = || segments.get(&1).map(Option::unwrap);
    assert_same(&get().unwrap(), &value(1, LEN));
    assert_eq!(mapped(&path), 1 << 20);
    let segment = path.join("segment-0.spill");
    let content = std::fs::read(&segment).unwrap();
    let file = OpenOptions::new().write(true).open(&segment).unwrap();
    for length in [0, 4096, 128 << 10, 132 << 10, 300_000, 480 << 10] {
        file.set_len(length).unwrap();
        let error = get().unwrap_err();
        let ErrorKind::Corrupt { expected, found, .. } = error.kind() else { panic!("{error}") };
        assert_eq!(expected, &format!("a record of {} bytes", LEN + 32));
        assert_eq!(found, &format!("the file ends after {length} of {} bytes", LEN + 32));
        file.write_all_at(&content, 0).unwrap();
        assert_same(&get().unwrap(), &value(1, LEN));
    }
}

/// A failing device is the error that a call of the system gives.
#[test]
fn files_that_fail_say_what_the_system_says() {
    let (io, segments, path) = store(|config| config.mapped_bytes(SEGMENT));
    segments.insert(1, value(1, 5000)).unwrap();
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 5000));
    let file = OpenOptions::new().write(true).open(path.join("segment-0.spill")).unwrap();
    file.set_len(0).unwrap();
    io.inject(Rule::nth(1, Fault::Errno(5)).on(Operation::Read));
    let error: Error = segments.get(&1).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io { operation: "read", .. }), "{error}");
}

/// Mapped threads: many readers of one file that is cut short and written again have their own bytes or an error.
#[test]
fn files_cut_short_under_many_readers() {
    let (_, segments, path) = store(|config| config.mapped_bytes(SEGMENT));
    (0..8).for_each(|key| segments.insert(key, value(key, 5000)).unwrap());
    segments.get(&0).unwrap();
    assert_eq!(mapped(&path), SEGMENT);
    let content = std::fs::read(path.join("segment-0.spill")).unwrap();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|reader| {
                let segments = &segments;
                scope.spawn(move || {
                    for n in 0..4000 {
                        let key = (n + reader) % 8;
                        match segments.get(&key) {
                            Ok(found) => assert_same(&found.unwrap(), &value(key, 5000)),
                            Err(error) => {
                                assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}")
                            }
                        }
                    }
                })
            })
            .collect();
        let file = RealIo.open(&path.join("segment-0.spill")).unwrap();
        while !readers.iter().all(|reader| reader.is_finished()) {
            file.set_len(0).unwrap();
            file.write_vectored_at(&[std::io::IoSlice::new(&content)], 0).unwrap();
        }
    });
    (0..8).for_each(|key| assert_same(&segments.get(&key).unwrap().unwrap(), &value(key, 5000)));
}

/// What [`another_bus_error_ends_the_process`] starts: a bus error that is none of ours, after ours were recovered from.
#[test]
fn a_bus_error_of_another() {
    if std::env::var_os(HOME).is_none() {
        return;
    }
    let (_, segments, path) = store(|config| config.mapped_bytes(SEGMENT));
    segments.insert(1, value(1, 5000)).unwrap();
    segments.get(&1).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(path.join("segment-0.spill")).unwrap();
    file.set_len(0).unwrap();
    assert!(segments.get(&1).is_err());
    println!("ours are errors");
    touch(&file);
}

/// Reads a byte of an empty file through a mapping.
#[expect(unsafe_code, reason = "a bus error is what is wanted")]
fn touch(file: &std::fs::File) {
    use std::os::fd::AsRawFd;
    // SAFETY: a new mapping, at a place that the system chooses; reading it ends the process.
    unsafe {
        let empty =
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(empty, libc::MAP_FAILED);
        std::ptr::read_volatile(empty.cast::<u8>());
    }
}

#[test]
fn another_bus_error_ends_the_process() {
    let test = "mapped::a_bus_error_of_another";
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", test, "--nocapture"]).env(HOME, home.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("ours are errors"), "{output:?}");
    assert_eq!(output.status.signal(), Some(7), "{output:?}");
}
