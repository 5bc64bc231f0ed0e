//! Several directories: spread by room, and one that fails is passed by until it works again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spill_core::{ManualClock, MutableMapping};
use spill_disk::io::{Fault, FaultyIo, Io, MemoryIo, Operation, Rule};
use spill_disk::{Segments, SegmentsConfig, Workspace};

use crate::common::{PARENT, Random, assert_same, segment_files, value};

const LEN: usize = 4000;
const SEGMENT: u64 = 32 << 10;

struct Two {
    io: [FaultyIo; 2],
    memory: [MemoryIo; 2],
    clock: Arc<ManualClock>,
    segments: Segments<u64>,
}

impl Two {
    fn new(room: [u64; 2]) -> Self {
        let memory = room.map(MemoryIo::limited);
        let io = memory.clone().map(|memory| FaultyIo::new(Arc::new(memory)));
        let clock = Arc::new(ManualClock::new());
        let open =
            |io: &FaultyIo| Workspace::open_with(Arc::new(io.clone()), Some(Path::new(PARENT))).unwrap();
        let config = SegmentsConfig::across(io.iter().map(open).collect()).clock(clock.clone());
        let config = config.segment_bytes(SEGMENT).stage_bytes(16 << 10).compactor(false);
        Two { io, memory, clock, segments: Segments::open(config).unwrap() }
    }

    fn files(&self) -> [usize; 2] {
        [0, 1].map(|at| segment_files(&self.memory[at]).len())
    }

    fn insert(&self, keys: std::ops::Range<u64>) {
        keys.for_each(|key| self.segments.insert(key, value(key, LEN)).unwrap());
    }

    #[track_caller]
    fn check(&self, keys: std::ops::Range<u64>) {
        keys.for_each(|key| assert_same(&self.segments.get(&key).unwrap().unwrap(), &value(key, LEN)));
    }
}

/// S06: several directories, weighted by the room they have.
#[test]
fn files_are_spread_by_free_space() {
    let two = Two::new([64 << 20, 16 << 20]);
    two.insert(0..2000);
    let [one, other] = two.files();
    let share = one as f64 / (one + other) as f64;
    assert!((0.75..0.85).contains(&share), "{one} and {other} files");
    two.check(0..2000);
    let files: u64 =
        two.memory.iter().flat_map(|io| segment_files(io)).map(|(_, file)| file.len() as u64).sum();
    assert_eq!(two.segments.usage().physical, files);
    let parents = two.memory.clone();
    two.segments.close().unwrap();
    for io in parents {
        assert!(io.list(Path::new(PARENT)).unwrap().is_empty(), "both workspaces are removed");
    }
}

/// Removed, read-only, full, broken: each by the number that the system gives.
#[test]
fn a_directory_that_fails_is_passed_by_and_comes_back() {
    const ENOENT: i32 = 2;
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    const EROFS: i32 = 30;
    for (errno, operations) in [
        (ENOENT, &[Operation::Create, Operation::CreateDir][..]),
        (EROFS, &[Operation::Create, Operation::Write, Operation::CreateDir]),
        (ENOSPC, &[Operation::Write]),
        (EIO, &[Operation::Create]),
        (EIO, &[Operation::Write, Operation::SetLen]),
    ] {
        let two = Two::new([64 << 20, 64 << 20]);
        two.insert(0..200);
        let before = two.files();
        assert!(before[0] > 0 && before[1] > 0);
        for operation in operations {
            two.io[0].inject(Rule::from(1, Fault::Errno(errno)).on(*operation));
        }
        // Nobody notices.
        two.insert(200..600);
        two.segments.flush().unwrap();
        two.check(0..600);
        let calls = |of: &Two| of.io[0].calls_of(Operation::Create) + of.io[0].calls_of(Operation::Write);
        let (files, asked) = (two.files(), calls(&two));
        assert!(files[1] > before[1] + 10, "{errno} {operations:?}: {before:?} {files:?}");
        two.insert(600..700);
        assert_eq!(calls(&two), asked, "it is not asked again at once");
        // Asked again after a while, and left alone for longer.
        two.clock.advance(Duration::from_secs(2));
        two.insert(700..900);
        assert!(calls(&two) > asked && calls(&two) <= asked + 6, "{errno} {operations:?}");
        two.io[0].heal();
        two.clock.advance(Duration::from_secs(61));
        let before = two.files();
        two.insert(900..1300);
        assert!(two.files()[0] > before[0] + 10, "{errno} {operations:?}: it works again");
        two.segments.settle().unwrap();
        two.check(0..1300);
    }
}

#[test]
fn when_all_directories_fail_the_error_names_one_and_nothing_is_lost() {
    let two = Two::new([64 << 20, 64 << 20]);
    two.insert(0..100);
    two.io.iter().for_each(|io| io.inject(Rule::from(1, Fault::Errno(5)).on(Operation::Write)));
    two.io.iter().for_each(|io| io.inject(Rule::from(1, Fault::Errno(5)).on(Operation::Create)));
    let error = (1000..1100).find_map(|key| two.segments.insert(key, value(key, LEN)).err()).unwrap();
    assert!(error.to_string().contains(PARENT), "{error}");
    two.check(0..100);
    two.io.iter().for_each(FaultyIo::heal);
    two.insert(100..300);
    two.check(0..300);
}

/// Whatever is written when it happens: new values, what overwrites old ones, and what is moved.
#[test]
fn a_directory_that_fails_again_and_again_is_noticed_by_nobody() {
    const KEYS: u64 = 200;
    let two = Two::new([64 << 20, 64 << 20]);
    let mut random = Random(7);
    let mut churn = |times: u64| {
        for _ in 0..times {
            let key = if random.below(2) == 0 { random.below(KEYS) } else { random.skewed(KEYS) };
            two.segments.insert(key, value(key, LEN)).unwrap();
        }
    };
    two.insert(0..KEYS);
    churn(20 * KEYS);
    for time in 0..400 {
        let io = &two.io[time % 2];
        io.inject(Rule::from(1, Fault::Errno(5)).on(Operation::Write));
        churn(20);
        io.heal();
        two.clock.advance(Duration::from_secs(61));
        churn(20);
    }
    two.check(0..KEYS);
}

/// A directory removed by somebody, on a real file system: what was in it is still read, and it is made again.
#[test]
fn a_removed_directory_is_made_again() {
    let homes = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let workspaces = Workspace::open_all(&[homes[0].path(), homes[1].path()]).unwrap();
    let first = workspaces[0].path().to_owned();
    let clock = Arc::new(ManualClock::new());
    let config =
        SegmentsConfig::across(workspaces).segment_bytes(SEGMENT).stage_bytes(0).clock(clock.clone());
    let segments: Segments<u64> = Segments::open(config.compactor(false)).unwrap();
    let insert = |keys: std::ops::Range<u64>| {
        keys.for_each(|key| segments.insert(key, value(key, LEN)).unwrap());
    };
    insert(0..100);
    std::fs::remove_dir_all(&first).unwrap();
    insert(100..200);
    assert!(first.join("overspill.lock").exists(), "made again");
    assert!(std::fs::read_dir(&first).unwrap().count() > 3);
    // Its parent is gone: that may be a device that is not mounted, and is not made again.
    std::fs::remove_dir_all(homes[0].path()).unwrap();
    insert(200..300);
    assert!(!homes[0].path().exists());
    std::fs::create_dir(homes[0].path()).unwrap();
    clock.advance(Duration::from_secs(120));
    insert(300..400);
    assert!(first.join("overspill.lock").exists(), "made again once its parent is there");
    (0..400).for_each(|key| assert_same(&segments.get(&key).unwrap().unwrap(), &value(key, LEN)));
    segments.close().unwrap();
    assert!(homes.iter().all(|home| std::fs::read_dir(home.path()).unwrap().count() == 0));
}

/// One directory of several that cannot be used is passed by; when none can, that is an error.
#[test]
fn directories_that_cannot_be_made_are_passed_by_as_long_as_one_can() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let good = home.path().join("good");
    let workspaces = Workspace::open_all(&[&file, &good]).unwrap();
    assert_eq!(workspaces.len(), 1);
    assert!(workspaces[0].path().starts_with(&good));
    assert!(Workspace::open_all(&[&file]).unwrap_err().to_string().contains("file"));
    assert!(Workspace::open_all(&[] as &[&Path]).unwrap_err().to_string().contains("one directory or more"));
}
