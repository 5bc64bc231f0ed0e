//! A script of two thousand operations in which, run by run, each single call of `Io` fails in each way.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spill_core::{ErrorKind, Frames, ManualClock, MutableMapping, Usage};
use spill_disk::io::{Fault, FaultyIo, Io, MemoryIo, Operation, Rule};
use spill_disk::{Segments, SegmentsConfig, Workspace};

use crate::common::{PARENT, Random, assert_same, memory, segment_files, value};

const STEPS: u64 = 2_000;
const KEYS: u64 = 97;

/// What is done, and to what: made once, since it is run some thousand times.
enum Step {
    Insert(u64, Frames),
    InsertMany(Vec<(u64, Frames)>),
    Remove(u64),
    Take(u64),
    Get(u64),
    GetMany(Vec<u64>),
    Flush,
    Settle,
}

fn script() -> Vec<Step> {
    let mut random = Random(13);
    let step = |n: u64| {
        let key = random.skewed(KEYS);
        // Small ones, one longer than a segment, and one that is written through.
        let len = match random.below(40) {
            0 => 9_000,
            1 => 2_500,
            _ => random.below(700) as usize,
        };
        match random.below(20) {
            0..=10 => Step::Insert(key, value(n, len)),
            11 => {
                Step::InsertMany((0..5).map(|more| ((key + more) % KEYS, value(n + more, len / 2))).collect())
            }
            12..=14 => Step::Remove(key),
            15 => Step::Take(key),
            16 | 17 => Step::Get(key),
            18 => Step::GetMany((0..6).map(|more| (key + more) % KEYS).collect()),
            _ if n.is_multiple_of(5) => Step::Settle,
            _ => Step::Flush,
        }
    };
    (0..STEPS).map(step).collect()
}

type Model<'a> = HashMap<u64, &'a Frames>;

struct World {
    io: FaultyIo,
    memory: MemoryIo,
    clock: Arc<ManualClock>,
    segments: Segments<u64>,
}

impl World {
    fn new(directories: usize) -> Self {
        let memory = memory();
        let io = FaultyIo::new(Arc::new(memory.clone()));
        let clock = Arc::new(ManualClock::new());
        let open = |_| Workspace::open_with(Arc::new(io.clone()), Some(Path::new(PARENT))).unwrap();
        let config = SegmentsConfig::across((0..directories).map(open).collect());
        let config = config.segment_bytes(8_000).stage_bytes(2_000).clock(clock.clone()).compactor(false);
        World { segments: Segments::open(config).unwrap(), io, memory, clock }
    }

    /// Runs the script, and says how many calls failed. Each must be typed.
    fn run<'a>(&self, script: &'a [Step], model: &mut Model<'a>) -> u64 {
        let mut failed = 0;
        let mut typed = |error: spill_core::Error| {
            assert!(matches!(error.kind(), ErrorKind::Io { .. } | ErrorKind::Full { .. }), "{error}");
            failed += 1;
        };
        for step in script {
            match step {
                Step::Insert(key, value) => match self.segments.insert(*key, value.clone()) {
                    Ok(()) => drop(model.insert(*key, value)),
                    Err(error) => typed(error),
                },
                Step::InsertMany(pairs) => {
                    for (outcome, (key, value)) in
                        self.segments.insert_many(pairs.clone()).into_iter().zip(pairs)
                    {
                        match outcome {
                            Ok(()) => drop(model.insert(*key, value)),
                            Err(error) => typed(error),
                        }
                    }
                }
                Step::Remove(key) => match self.segments.remove(key) {
                    Ok(was) => assert_eq!(was, model.remove(key).is_some()),
                    Err(error) => typed(error),
                },
                Step::Take(key) => match self.segments.take(key) {
                    Ok(found) => assert_eq!(found.as_ref(), model.remove(key)),
                    Err(error) => typed(error),
                },
                Step::Get(key) => match self.segments.get(key) {
                    Ok(found) => assert_eq!(found.as_ref(), model.get(key).copied()),
                    Err(error) => typed(error),
                },
                Step::GetMany(keys) => {
                    for (outcome, key) in self.segments.get_many(keys).into_iter().zip(keys) {
                        match outcome {
                            Ok(found) => assert_eq!(found.as_ref(), model.get(key).copied()),
                            Err(error) => typed(error),
                        }
                    }
                }
                Step::Flush => self.segments.flush().unwrap_or_else(&mut typed),
                Step::Settle => self.segments.settle().unwrap_or_else(&mut typed),
            }
        }
        failed
    }

    /// What was accepted is there, sums are those of the files, and closing leaves nothing.
    fn check(self, model: &Model, what: &str) {
        let usage = self.segments.usage();
        assert_eq!(usage.count, model.len(), "{what}");
        assert_eq!(usage.spilled.memory, model.values().map(|value| value.weight()).sum::<u64>(), "{what}");
        let stored = model.keys().map(|key| self.segments.stored_size(key).unwrap().disk).sum::<u64>();
        assert_eq!(usage.spilled.disk, stored, "{what}");
        let files: u64 = segment_files(&self.memory).iter().map(|(_, file)| file.len() as u64).sum();
        assert_eq!((usage.physical, files), (files, self.memory.used()), "{what}: bytes of files");
        for (key, value) in model {
            assert_same(&self.segments.get(key).unwrap().unwrap(), value);
        }
        self.segments.close().unwrap();
        assert_eq!(self.segments.usage(), Usage::default());
        drop(self.segments);
        assert!(self.memory.list(Path::new(PARENT)).unwrap().is_empty(), "{what}: something is left behind");
        assert_eq!(self.memory.used(), 0);
    }
}

/// How many runs did something else than the run without a fault.
fn each_call_fails(directories: usize, what: &str, fault: impl Fn(&World) -> Fault) -> u64 {
    let script = script();
    let calls = {
        let world = World::new(directories);
        let before = world.io.calls();
        let mut model = Model::new();
        assert_eq!(world.run(&script, &mut model), 0);
        assert!(world.segments.stats().moved.count > 50, "the script compacts");
        let calls = world.io.calls() - before;
        world.check(&model, what);
        calls
    };
    assert!(calls > 1_000, "{calls} calls");
    let mut refused = 0;
    for nth in 1..=calls {
        let world = World::new(directories);
        let mut model = Model::new();
        world.io.inject(Rule::nth(nth, fault(&world)));
        refused += world.run(&script, &mut model);
        world.io.heal();
        world.segments.settle().unwrap();
        assert_eq!(world.segments.usage().staged, 0);
        world.check(&model, &format!("{what} at call {nth}"));
    }
    refused
}

#[test]
fn an_io_error_at_any_call_loses_nothing() {
    assert!(each_call_fails(1, "EIO", |_| Fault::Errno(5)) > 100);
}

#[test]
fn no_space_at_any_call_loses_nothing() {
    each_call_fails(1, "ENOSPC", |_| Fault::Errno(28));
}

#[test]
fn a_short_call_anywhere_is_finished() {
    assert_eq!(each_call_fails(1, "short", |_| Fault::Short(5)), 0);
}

/// Reads and writes are repeated; other operations may fail with it, and lose nothing.
#[test]
fn an_interruption_at_any_call_loses_nothing() {
    each_call_fails(1, "EINTR", |_| Fault::Errno(4));
}

/// For an hour, as the clock has it.
#[test]
fn a_delay_at_any_call_fails_nothing() {
    let delayed = |world: &World| {
        let clock = Arc::clone(&world.clock);
        Fault::Delay(Arc::new(move |_| clock.advance(Duration::from_secs(3600))))
    };
    assert_eq!(each_call_fails(1, "delay", delayed), 0);
}

/// With a second directory a failed write is no failure at all.
#[test]
fn with_two_directories_only_failed_reads_are_noticed() {
    let script = script();
    for (errno, operation) in [(5, Operation::Write), (28, Operation::Write), (30, Operation::Create)] {
        for nth in 1..200 {
            let world = World::new(2);
            let mut model = Model::new();
            world.io.inject(Rule::nth(nth, Fault::Errno(errno)).on(operation));
            assert_eq!(world.run(&script[..600], &mut model), 0, "{operation:?} {nth}");
            world.segments.settle().unwrap();
            world.check(&model, "two directories");
        }
    }
}

/// The device fails for good from some call on, and works again later.
#[test]
fn a_device_that_fails_for_long_loses_nothing() {
    let script = script();
    for errno in [5, 28] {
        for nth in (1..2_000).step_by(23) {
            let world = World::new(1);
            let mut model = Model::new();
            world.io.inject(Rule::from(nth, Fault::Errno(errno)));
            world.run(&script, &mut model);
            world.io.heal();
            world.run(&script[..200], &mut model);
            world.segments.settle().unwrap();
            world.segments.flush().unwrap();
            let usage = world.segments.usage();
            let files: u64 = segment_files(&world.memory).iter().map(|(_, file)| file.len() as u64).sum();
            assert!(usage.physical >= files, "errno {errno} from call {nth}");
            for (key, value) in &model {
                assert_same(&world.segments.get(key).unwrap().unwrap(), value);
            }
            assert_eq!(usage.count, model.len());
            world.segments.close().unwrap();
            assert!(world.memory.list(Path::new(PARENT)).unwrap().is_empty());
        }
    }
}
