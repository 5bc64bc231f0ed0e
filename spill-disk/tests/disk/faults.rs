//! What fails, fails typed and alone: nothing accepted is lost, and nothing refused appears.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use spill_core::{Error, ErrorKind, Frames, MutableMapping, SpilledSize, Usage};
use spill_disk::io::{Fault, FaultyIo, Operation, Rule};
use spill_disk::{Segments, SegmentsConfig, Workspace};

use crate::common::{Random, assert_same, config, files, memory, segment_files, unstaged, value};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn faulty() -> FaultyIo {
    FaultyIo::new(Arc::new(memory()))
}

/// Small enough that the script below fills, drops and reuses segments and writes many batches.
fn small(io: FaultyIo) -> Segments<u64> {
    small_behind(io, false)
}

fn small_behind(io: FaultyIo, behind: bool) -> Segments<u64> {
    Segments::open(config(io).segment_bytes(8_000).stage_bytes(4_000).write_behind(behind)).unwrap()
}

/// The `n`-th step of a script that overwrites, removes and takes among few keys, large values among them.
fn step(segments: &Segments<u64>, model: &mut HashMap<u64, Frames>, n: u64) -> Result<(), Error> {
    let key = n * 7 % 11;
    match n % 9 {
        0..=4 => {
            let len = if n % 5 == 3 { 9_000 } else { 200 + n as usize % 700 };
            segments.insert(key, value(n, len))?;
            model.insert(key, value(n, len));
        }
        5 => {
            let removed = segments.remove(&key)?;
            assert_eq!(removed, model.remove(&key).is_some());
        }
        6 => {
            let found = segments.take(&key)?;
            assert_eq!(found, model.remove(&key));
        }
        7 => segments.flush()?,
        _ => assert_eq!(segments.get(&key)?, model.get(&key).cloned()),
    }
    Ok(())
}

fn recount(segments: &Segments<u64>, model: &HashMap<u64, Frames>) {
    let sizes =
        model.keys().fold(SpilledSize::default(), |sum, key| sum + segments.stored_size(key).unwrap());
    let usage = segments.usage();
    assert_eq!((usage.count, usage.spilled), (model.len(), sizes));
    assert_eq!(usage.spilled.memory, model.values().map(Frames::weight).sum::<u64>());
    let mut keys = Vec::new();
    segments.for_each_key(&mut |key| keys.push(*key));
    keys.sort_unstable();
    let mut wanted: Vec<_> = model.keys().copied().collect();
    wanted.sort_unstable();
    assert_eq!(keys, wanted);
}

fn run(fault: impl Fn() -> Fault, lasting: bool, behind: bool) {
    let steps = 120;
    let calls = {
        let io = faulty();
        let (segments, mut model) = (small(io.clone()), HashMap::new());
        (0..steps).for_each(|n| step(&segments, &mut model, n).unwrap());
        io.calls()
    };
    for nth in 1..=calls {
        let io = faulty();
        let (segments, mut model) = (small_behind(io.clone(), behind), HashMap::new());
        let rule = if lasting { Rule::from(nth, fault()) } else { Rule::nth(nth, fault()) };
        io.inject(rule);
        for n in 0..steps {
            if let Err(error) = step(&segments, &mut model, n) {
                assert!(error.is_transient(), "{error}");
            }
            recount(&segments, &model);
        }
        io.heal();
        for (key, wanted) in &model {
            assert_same(&segments.get(key).unwrap().unwrap(), wanted);
        }
        segments.flush().unwrap();
        assert_eq!(segments.usage().staged, 0);
        for (key, wanted) in &model {
            assert_same(&segments.get(key).unwrap().unwrap(), wanted);
        }
        recount(&segments, &model);
        segments.close().unwrap();
        assert_eq!(segments.usage(), Usage::default());
    }
}

#[test]
fn one_failure_anywhere_loses_nothing() {
    [false, true].into_iter().for_each(|behind| run(|| Fault::Errno(EIO), false, behind));
}

#[test]
fn a_device_that_is_full_for_a_while_loses_nothing() {
    [false, true].into_iter().for_each(|behind| run(|| Fault::Errno(ENOSPC), true, behind));
}

#[test]
fn short_and_interrupted_calls_are_not_failures() {
    for fault in [Fault::Short(37), Fault::Fail(io::ErrorKind::Interrupted)] {
        let io = faulty();
        let (segments, mut model) = (small(io.clone()), HashMap::new());
        match fault {
            Fault::Short(_) => io.inject(Rule::from(1, fault)),
            // Every third call: an operation interrupted for ever would never end.
            fault => (1..1000).for_each(|n| {
                io.inject(
                    Rule::nth(3 * n, fault.clone())
                        .only(|call| matches!(call.operation, Operation::Read | Operation::Write)),
                );
            }),
        }
        (0..120).for_each(|n| step(&segments, &mut model, n).unwrap());
        assert_eq!(segments.stats().failures, 0);
        recount(&segments, &model);
    }
}

/// A stage that cannot be written refuses at once, keeps and serves what it has, and recovers by itself.
#[test]
fn a_batch_that_cannot_be_written_stays_and_is_tried_again() {
    let io = faulty();
    let segments: Segments<u64> = Segments::open(config(io.clone()).stage_bytes(4_000)).unwrap();
    segments.insert(0, value(99, 500)).unwrap();
    segments.flush().unwrap();
    io.inject(Rule::from(1, Fault::Errno(ENOSPC)).on(Operation::Write));
    let mut accepted = vec![];
    let refused = (0..100).find_map(|key| match segments.insert(key, value(key, 500)) {
        Ok(()) => {
            accepted.push(key);
            None
        }
        Err(error) => Some((key, error)),
    });
    let (key, error) = refused.unwrap();
    assert_eq!(accepted.len(), 3, "half of the stage");
    assert!(error.is_full() && error.is_transient());
    assert!(error.to_string().contains("overspill-"), "{error}");
    assert!(segments.get(&key).unwrap().is_none());
    for key in &accepted {
        assert_same(&segments.get(key).unwrap().unwrap(), &value(*key, 500));
    }
    // Replacing a value fails too, and leaves the old one.
    assert!(segments.insert(1, value(77, 400)).is_err());
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 500));
    assert!(segments.insert(1, value(77, 400_000)).is_err());
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 500));
    let before = segments.usage().staged;
    assert!(segments.flush().is_err());
    assert_eq!(segments.usage().staged, before);
    // One that is removed meanwhile does not come back.
    assert!(segments.remove(&2).unwrap());

    io.heal();
    segments.insert(key, value(key, 500)).unwrap();
    segments.flush().unwrap();
    assert!(segments.get(&2).unwrap().is_none());
    for key in [0, 1, key] {
        assert_same(&segments.get(&key).unwrap().unwrap(), &value(key, 500));
    }
    assert_eq!((segments.len(), segments.usage().staged), (3, 0));
}

#[test]
fn one_failure_refuses_the_rest_of_a_call() {
    let io = faulty();
    let segments = unstaged(io.clone(), 1 << 20);
    io.inject(Rule::nth(2, Fault::Errno(EIO)).on(Operation::Write));
    let results = segments.insert_many((0..4).map(|key| (key, value(key, 100))).collect());
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, false]);
    assert_eq!((segments.len(), io.calls_of(Operation::Write)), (1, 2));
}

/// Each try takes a segment file; those that were written in vain are used again.
#[test]
fn trying_for_long_does_not_litter() {
    let io = faulty();
    let segments: Segments<u64> = Segments::open(config(io.clone())).unwrap();
    segments.insert(1, value(1, 500)).unwrap();
    io.inject(Rule::from(1, Fault::Errno(ENOSPC)).on(Operation::Write));
    for _ in 0..50 {
        assert!(segments.flush().is_err());
    }
    assert!(io.calls_of(Operation::Create) <= 5, "lock files and few segments");
    assert_eq!(segments.stats().failures, 50);
    io.heal();
    segments.flush().unwrap();
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 500));
}

#[test]
fn a_failed_large_write_leaves_the_old_value_and_the_next_goes_elsewhere() {
    let io = faulty();
    let segments = unstaged(io.clone(), 1 << 20);
    segments.insert(1, value(1, 300_000)).unwrap();
    io.inject(Rule::nth(1, Fault::Errno(EIO)).on(Operation::Write));
    let error = segments.insert(1, value(2, 300_000)).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Io { operation: "write", path, .. } if path.ends_with("segment-0.spill"))
    );
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 300_000));
    segments.insert(1, value(3, 300_000)).unwrap();
    assert_eq!(io.calls_of(Operation::Create), 2 + 2, "lock files and two segments");
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(3, 300_000));
}

#[test]
fn a_failed_read_is_typed_and_the_key_stays() {
    let io = faulty();
    let segments = unstaged(io.clone(), 1 << 20);
    segments.insert(1, value(1, 100)).unwrap();
    io.inject(Rule::from(1, Fault::Errno(EIO)).on(Operation::Read));
    assert!(matches!(segments.get(&1).unwrap_err().kind(), ErrorKind::Io { operation: "read", .. }));
    assert!(segments.take(&1).is_err());
    assert!(segments.get_many(&[1, 2])[0].is_err());
    assert!(segments.contains_key(&1));
    assert_eq!(segments.stats().failures, 3);
    io.heal();
    assert_same(&segments.take(&1).unwrap().unwrap(), &value(1, 100));
}

/// A long value is read by several calls. One that fails is that value's error, and one that brings less is gone on with.
#[test]
fn every_call_for_a_long_value_may_fail() {
    let io = faulty();
    let segments = unstaged(io.clone(), 1 << 20);
    let files = files::<u64>(io.clone());
    for store in [&segments as &dyn MutableMapping<u64, Frames>, &files] {
        store.insert(1, value(1, 700_000)).unwrap();
        let before = io.calls_of(Operation::Read);
        assert_same(&store.get(&1).unwrap().unwrap(), &value(1, 700_000));
        let calls = io.calls_of(Operation::Read) - before;
        assert!((5..=7).contains(&calls), "{calls}: pieces of about 128 KiB");
        for n in 1..=calls {
            io.inject(Rule::nth(n, Fault::Errno(EIO)).on(Operation::Read));
            let error = store.get(&1).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Io { operation: "read", .. }), "{n}: {error}");
            io.heal();
            for fault in
                [Fault::Fail(std::io::ErrorKind::Interrupted), Fault::Short(3), Fault::Short(100_000)]
            {
                io.inject(Rule::nth(n, fault).on(Operation::Read));
                assert_same(&store.get(&1).unwrap().unwrap(), &value(1, 700_000));
                io.heal();
            }
        }
    }
}

#[test]
fn a_panic_below_is_an_error_and_the_store_goes_on() {
    let io = faulty();
    let segments: Segments<u64> = Segments::open(config(io.clone()).stage_bytes(4_000)).unwrap();
    segments.insert(1, value(1, 500)).unwrap();
    let panics = || Fault::Delay(Arc::new(|_| panic!("the driver fell over")));
    io.inject(Rule::from(1, panics()).on(Operation::Write));
    let error = segments.flush().unwrap_err();
    assert!(error.to_string().contains("the driver fell over"), "{error}");
    assert!(matches!(segments.insert(2, value(2, 9_000)).unwrap_err().kind(), ErrorKind::Panicked { .. }));
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 500));
    io.heal();
    segments.flush().unwrap();
    segments.insert(2, value(2, 9_000)).unwrap();
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 500));
}

#[test]
fn a_file_that_cannot_be_removed_does_not_stop_the_store() {
    let io = faulty();
    let segments = unstaged(io.clone(), 1_000);
    io.inject(Rule::from(1, Fault::Errno(EIO)).on(Operation::RemoveFile));
    for key in 0..20 {
        segments.insert(key, value(key, 900)).unwrap();
    }
    segments.clear().unwrap();
    // The last segment is still open for writing, the others' files are idle or could not be removed.
    assert_eq!(segments.usage().physical, 20 * 936);
    segments.insert(1, value(1, 900)).unwrap();
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 900));
}

/// A device that works again takes them, and its room comes back.
#[test]
fn files_that_could_not_be_removed_are_removed_later() {
    let io = faulty();
    let segments = unstaged(io.clone(), 1_000);
    io.inject(Rule::from(1, Fault::Errno(EIO)).on(Operation::RemoveFile));
    (0..20).for_each(|key| segments.insert(key, value(key, 900)).unwrap());
    segments.clear().unwrap();
    io.heal();
    for key in 0..4 {
        segments.insert(key, value(key, 900)).unwrap();
    }
    segments.clear().unwrap();
    assert!(segments.usage().physical <= 4 * 936, "{}", segments.usage().physical);
    assert_eq!(
        segments.usage().physical,
        segment_files(&io).iter().map(|(_, file)| file.len() as u64).sum::<u64>()
    );
}

/// They are in no segment: to compact for their room would be in vain, again and again.
#[test]
fn files_that_cannot_be_removed_are_not_compacted_for() {
    let moved = |fails: bool| {
        let io = faulty();
        let config = config(io.clone()).segment_bytes(16 << 10).stage_bytes(4 << 10).compactor(false);
        let segments: Segments<u64> = Segments::open(config).unwrap();
        if fails {
            io.inject(Rule::from(1, Fault::Errno(EIO)).on(Operation::RemoveFile));
        }
        let mut random = Random(1);
        for n in 0..20_000 {
            segments.insert(random.below(1000), value(n, 200)).unwrap();
            if n % 5_000 == 4_999 {
                segments.clear().unwrap();
            }
        }
        (segments.stats().moved.bytes, segments.usage().physical)
    };
    let ((without, least), (with, most)) = (moved(false), moved(true));
    assert!(most > 5 * least, "some were left: {most} bytes, else {least}");
    assert!(with <= without + without / 4, "{with} bytes moved instead of {without}");
}

#[test]
fn a_workspace_that_cannot_be_made_names_its_directory() {
    for operation in [Operation::CreateDir, Operation::Create, Operation::Lock] {
        for nth in 1..=2 {
            let io = faulty();
            io.inject(Rule::from(nth, Fault::Fail(io::ErrorKind::PermissionDenied)).on(operation));
            let error = Workspace::open_with(Arc::new(io), Some(Path::new("/no/where"))).err().unwrap();
            assert!(
                matches!(error.kind(), ErrorKind::Io { path, .. } if path.starts_with("/no/where")),
                "{error}"
            );
            assert!(error.to_string().contains("directory"), "{error}");
        }
    }
}

#[test]
fn a_workspace_that_cannot_be_removed_says_so_and_drop_tries_again() {
    let io = faulty();
    let workspace = Workspace::open_with(Arc::new(io.clone()), Some(Path::new("/work"))).unwrap();
    let path = workspace.path().to_owned();
    let segments: Segments<u64> = Segments::open(SegmentsConfig::new(workspace)).unwrap();
    io.inject(Rule::from(1, Fault::Errno(EIO)).on(Operation::RemoveDir));
    assert!(segments.close().unwrap_err().to_string().contains("overspill-"));
    io.heal();
    drop(segments);
    assert!(spill_disk::io::Io::list(&io, &path).is_err());
}
