//! A script of two thousand operations in which, run by run, each single call of `Io` fails in each way.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use spill_core::{Clock, ErrorKind, Frames, ManualClock, MutableMapping, SystemClock, Usage};
use spill_disk::io::{Fault, FaultyIo, Io, MemoryIo, Operation, RealIo, Rule};
use spill_disk::{Segments, SegmentsConfig, Workspace, purge};

use crate::common::{PARENT, Random, assert_same, memory, value};

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

/// Where the files lie, and how the store over them works.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// In memory, in so many directories; all is done by who calls.
    Plain(usize),
    /// In memory; threads write batches and compact.
    Threads,
    /// On disk, and mapped into memory to be read.
    Mapped,
}

struct World {
    io: FaultyIo,
    /// The files as they are, without faults.
    base: Arc<dyn Io>,
    /// The same, if they are in memory.
    memory: Option<MemoryIo>,
    /// The directory that the workspaces lie in.
    parent: PathBuf,
    /// Removes it, if it is a real one.
    _home: Option<tempfile::TempDir>,
    clock: Arc<ManualClock>,
}

impl World {
    fn new(kind: Kind) -> Self {
        let home = (kind == Kind::Mapped).then(|| tempfile::tempdir_in("/var/tmp").unwrap());
        let memory = home.is_none().then(memory);
        let base: Arc<dyn Io> = match &memory {
            Some(memory) => Arc::new(memory.clone()),
            None => Arc::new(RealIo),
        };
        let parent = home.as_ref().map_or(PARENT.into(), |home| home.path().to_owned());
        let clock = Arc::new(ManualClock::new());
        World { io: FaultyIo::new(Arc::clone(&base)), base, memory, parent, _home: home, clock }
    }

    fn open(&self, kind: Kind) -> spill_core::Result<Segments<u64>> {
        let directories = if let Kind::Plain(directories) = kind { directories } else { 1 };
        let open = |_| Workspace::open_with(Arc::new(self.io.clone()), Some(&self.parent));
        let workspaces = (0..directories).map(open).collect::<spill_core::Result<_>>()?;
        let config = SegmentsConfig::across(workspaces).segment_bytes(8_000).stage_bytes(2_000);
        let threads = kind == Kind::Threads;
        let mapped = if kind == Kind::Mapped { 20_000 } else { 0 };
        let config = config.compactor(threads).write_behind(threads).mapped_bytes(mapped);
        Segments::open(config.clock(self.clock.clone()))
    }

    /// Bytes of the files. One that a thread removes meanwhile has none.
    fn bytes(&self) -> u64 {
        let names = |directory: &Path| -> Vec<PathBuf> {
            let entries = self.base.list(directory).unwrap_or_default().into_iter();
            entries.map(|entry| directory.join(entry.name)).collect()
        };
        let files = names(&self.parent).into_iter().flat_map(|directory| names(&directory));
        let segments = files.filter(|path| path.extension().is_some_and(|extension| extension == "spill"));
        segments.filter_map(|path| self.base.len_of(&path).ok()).sum()
    }

    /// Bytes that memory holds for files, those without a name among them.
    fn used(&self) -> u64 {
        self.memory.as_ref().map_or_else(|| self.bytes(), MemoryIo::used)
    }

    /// There is nothing, but perhaps the lock of a purge that failed, which the next removes.
    fn is_left_empty(&self, what: &str) {
        let names = || self.base.list(&self.parent).unwrap_or_default().into_iter().map(|entry| entry.name);
        let left: Vec<_> =
            names().filter(|name| !name.as_encoded_bytes().starts_with(b".overspill-purge")).collect();
        assert!(left.is_empty(), "{what}: {left:?} is left behind");
        assert_eq!(self.used(), 0, "{what}");
        if names().count() > 0 {
            purge(&*self.base, &self.parent).unwrap();
            assert_eq!(names().count(), 0, "{what}: the lock of a purge is left behind");
        }
    }

    /// Accepted values are there, sums are those of the files, and closing leaves nothing.
    fn check(&self, segments: Segments<u64>, model: &Model, what: &str) {
        let usage = segments.usage();
        assert_eq!(usage.count, model.len(), "{what}");
        assert_eq!(usage.spilled.memory, model.values().map(|value| value.weight()).sum::<u64>(), "{what}");
        let stored = model.keys().map(|key| segments.stored_size(key).unwrap().disk).sum::<u64>();
        assert_eq!(usage.spilled.disk, stored, "{what}");
        // a thread may be about to remove a file
        let (clock, patience) = (SystemClock::new(), Duration::from_secs(60));
        let is_right = || {
            let files = self.bytes();
            (segments.usage().physical, files) == (files, self.used())
        };
        while !is_right() {
            assert!(clock.now() < patience, "{what}: {usage:?}, and files of {} bytes", self.bytes());
            thread::yield_now();
        }
        for (key, value) in model {
            assert_same(&segments.get(key).unwrap().unwrap(), value);
        }
        segments.close().unwrap();
        assert_eq!(segments.usage(), Usage::default());
        drop(segments);
        self.is_left_empty(what);
    }
}

fn is_typed(error: &spill_core::Error) {
    assert!(matches!(error.kind(), ErrorKind::Io { .. } | ErrorKind::Full { .. }), "{error}");
}

/// Runs the script, and says how many calls failed. Each must be typed.
fn run<'a>(segments: &Segments<u64>, script: &'a [Step], model: &mut Model<'a>) -> u64 {
    let mut failed = 0;
    let mut typed = |error: spill_core::Error| {
        is_typed(&error);
        failed += 1;
    };
    for step in script {
        match step {
            Step::Insert(key, value) => match segments.insert(*key, value.clone()) {
                Ok(()) => drop(model.insert(*key, value)),
                Err(error) => typed(error),
            },
            Step::InsertMany(pairs) => {
                for (outcome, (key, value)) in segments.insert_many(pairs.clone()).into_iter().zip(pairs) {
                    match outcome {
                        Ok(()) => drop(model.insert(*key, value)),
                        Err(error) => typed(error),
                    }
                }
            }
            Step::Remove(key) => match segments.remove(key) {
                Ok(was) => assert_eq!(was, model.remove(key).is_some()),
                Err(error) => typed(error),
            },
            Step::Take(key) => match segments.take(key) {
                Ok(found) => assert_eq!(found.as_ref(), model.remove(key)),
                Err(error) => typed(error),
            },
            Step::Get(key) => match segments.get(key) {
                Ok(found) => assert_eq!(found.as_ref(), model.get(key).copied()),
                Err(error) => typed(error),
            },
            Step::GetMany(keys) => {
                for (outcome, key) in segments.get_many(keys).into_iter().zip(keys) {
                    match outcome {
                        Ok(found) => assert_eq!(found.as_ref(), model.get(key).copied()),
                        Err(error) => typed(error),
                    }
                }
            }
            Step::Flush => segments.flush().unwrap_or_else(&mut typed),
            Step::Settle => segments.settle().unwrap_or_else(&mut typed),
        }
    }
    failed
}

/// From opening to closing, each call in turn, or each of so many, meets the fault. How many runs did something else than
/// the one without.
fn each_call_fails(kind: Kind, step: usize, what: &str, fault: impl Fn(&World) -> Fault) -> u64 {
    let script = script();
    let calls = {
        let world = World::new(kind);
        let segments = world.open(kind).unwrap();
        assert_eq!(run(&segments, &script, &mut Model::new()), 0);
        assert!(segments.stats().moved.count > 50, "the script compacts");
        segments.close().unwrap();
        world.io.calls()
    };
    assert!(calls > 1_000, "{calls} calls");
    let mut refused = 0;
    for nth in (1..=calls).step_by(step) {
        let what = format!("{what} at call {nth}");
        let world = World::new(kind);
        world.io.inject(Rule::nth(nth, fault(&world)));
        let segments = world.open(kind).unwrap_or_else(|error| {
            is_typed(&error);
            refused += 1;
            world.is_left_empty(&what);
            world.open(kind).unwrap()
        });
        let mut model = Model::new();
        refused += run(&segments, &script, &mut model);
        if world.io.calls() < nth {
            if let Err(error) = segments.close() {
                is_typed(&error);
                refused += 1;
                segments.close().unwrap();
            }
            drop(segments);
            world.is_left_empty(&what);
            continue;
        }
        world.io.heal();
        segments.settle().unwrap();
        assert_eq!(segments.usage().staged, 0);
        world.check(segments, &model, &what);
    }
    refused
}

const PLAIN: Kind = Kind::Plain(1);

#[test]
fn an_io_error_at_any_call_loses_nothing() {
    assert!(each_call_fails(PLAIN, 1, "EIO", |_| Fault::Errno(5)) > 100);
}

#[test]
fn no_space_at_any_call_loses_nothing() {
    each_call_fails(PLAIN, 1, "ENOSPC", |_| Fault::Errno(28));
}

#[test]
fn a_short_call_anywhere_is_finished() {
    assert_eq!(each_call_fails(PLAIN, 1, "short", |_| Fault::Short(5)), 0);
}

/// Reads and writes are repeated; other operations may fail with it, and lose nothing.
#[test]
fn an_interruption_at_any_call_loses_nothing() {
    each_call_fails(PLAIN, 1, "EINTR", |_| Fault::Errno(4));
}

/// For an hour, as the clock has it.
fn delayed(world: &World) -> Fault {
    let clock = Arc::clone(&world.clock);
    Fault::Delay(Arc::new(move |_| clock.advance(Duration::from_secs(3600))))
}

#[test]
fn a_delay_at_any_call_fails_nothing() {
    assert_eq!(each_call_fails(PLAIN, 1, "delay", delayed), 0);
}

/// Which call is the n-th differs from run to run.
#[test]
fn a_fault_at_a_call_of_any_thread_loses_nothing() {
    for errno in [5, 28, 4] {
        each_call_fails(Kind::Threads, 4, "threads", |_| Fault::Errno(errno));
    }
    assert_eq!(each_call_fails(Kind::Threads, 16, "threads, short", |_| Fault::Short(5)), 0);
    assert_eq!(each_call_fails(Kind::Threads, 16, "threads, delay", delayed), 0);
}

/// Calls that map, or read what is not mapped, among them.
#[test]
fn a_fault_at_a_call_of_mapped_segments_loses_nothing() {
    for errno in [5, 28, 4] {
        each_call_fails(Kind::Mapped, 8, "mapped", |_| Fault::Errno(errno));
    }
    assert_eq!(each_call_fails(Kind::Mapped, 32, "mapped, short", |_| Fault::Short(5)), 0);
    let world = World::new(Kind::Mapped);
    world.io.inject(Rule::from(1, Fault::Errno(12)).on(Operation::Map));
    let segments = world.open(Kind::Mapped).unwrap();
    let (script, mut model) = (script(), Model::new());
    assert_eq!(run(&segments, &script, &mut model), 0, "what cannot be mapped is read");
    world.check(segments, &model, "not mapped");
}

/// With a second directory a failed write is no failure at all.
#[test]
fn with_two_directories_only_failed_reads_are_noticed() {
    let script = script();
    for (errno, operation) in [(5, Operation::Write), (28, Operation::Write), (30, Operation::Create)] {
        for nth in 1..200 {
            let world = World::new(Kind::Plain(2));
            let segments = world.open(Kind::Plain(2)).unwrap();
            let mut model = Model::new();
            world.io.inject(Rule::nth(nth, Fault::Errno(errno)).on(operation));
            assert_eq!(run(&segments, &script[..600], &mut model), 0, "{operation:?} {nth}");
            segments.settle().unwrap();
            world.check(segments, &model, "two directories");
        }
    }
}

/// The device fails for good from some call on, and works again later.
#[test]
fn a_device_that_fails_for_long_loses_nothing() {
    let script = script();
    for errno in [5, 28] {
        for nth in (1..2_000).step_by(23) {
            let world = World::new(PLAIN);
            let segments = world.open(PLAIN).unwrap();
            let mut model = Model::new();
            world.io.inject(Rule::from(nth, Fault::Errno(errno)));
            run(&segments, &script, &mut model);
            world.io.heal();
            run(&segments, &script[..200], &mut model);
            segments.settle().unwrap();
            segments.flush().unwrap();
            let usage = segments.usage();
            assert!(usage.physical >= world.bytes(), "errno {errno} from call {nth}");
            for (key, value) in &model {
                assert_same(&segments.get(key).unwrap().unwrap(), value);
            }
            assert_eq!(usage.count, model.len());
            segments.close().unwrap();
            world.is_left_empty("long");
        }
    }
}
