//! No room, by the quota or on the device: typed, nothing lost, and gone by itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spill_core::{
    BufferBuilder, Clock, Compose, ErrorKind, Frames, ManualEvict, MutableMapping, SystemClock,
};
use spill_disk::io::{Io, MemoryIo};
use spill_disk::{Segments, SegmentsConfig, Workspace};

use crate::common::{PARENT, Random, assert_same, config, memory, segment_files, value};

const LEN: usize = 4000;
const SEGMENT: u64 = 64 << 10;

fn store(io: &MemoryIo, with: impl FnOnce(SegmentsConfig) -> SegmentsConfig) -> Segments<u64> {
    let config = config(io.clone()).segment_bytes(SEGMENT).stage_bytes(16 << 10).compactor(false);
    Segments::open(with(config)).unwrap()
}

/// Inserts until there is no room. Returns how many were accepted, and the error.
pub(crate) fn fill(segments: &Segments<u64>, from: u64) -> (u64, spill_core::Error) {
    for key in from.. {
        if let Err(error) = segments.insert(key, value(key, LEN)) {
            return (key - from, error);
        }
    }
    unreachable!()
}

#[track_caller]
fn check(segments: &Segments<u64>, keys: impl Iterator<Item = u64>) {
    for key in keys {
        assert_same(&segments.get(&key).unwrap().unwrap(), &value(key, LEN));
    }
}

fn files_take(io: &MemoryIo) -> u64 {
    segment_files(io).iter().map(|(_, file)| file.len() as u64).sum()
}

/// The quota is kept to the byte, and its error says what is used, allowed and free.
#[test]
fn a_quota_is_never_passed_and_its_error_names_everything() {
    let io = MemoryIo::limited(100 << 20);
    let segments = store(&io, |config| config.quota_bytes(1 << 20));
    let (accepted, error) = fill(&segments, 0);
    let ErrorKind::Full { path, used, limit, free, setting } = error.kind() else { panic!("{error}") };
    assert!(path.as_ref().is_some_and(|path| path.starts_with(PARENT)), "{error}");
    assert_eq!((*used, *limit, *setting), (segments.usage().physical, 1 << 20, "quota_bytes"));
    assert_eq!(*free, Some((100 << 20) - io.used()));
    assert!(error.is_transient());
    // All but the segment that is kept for compaction, and what a batch more would have taken.
    assert!(*used + SEGMENT <= 1 << 20 && *used + SEGMENT + (16 << 10) > 1 << 20, "{used}");
    assert_eq!(files_take(&io), *used);
    assert_eq!(segments.len() as u64, accepted);
    check(&segments, 0..accepted);
}

/// What a batch wrote before it failed is given back, and is no room that was found for it: it is not tried for ever.
#[test]
fn a_batch_longer_than_the_room_is_refused_and_goes_when_there_is_room() {
    for compactor in [false, true] {
        let io = MemoryIo::limited(100 << 20);
        let quota =
            |config: SegmentsConfig| config.quota_bytes(1 << 20).stage_bytes(1 << 20).compactor(compactor);
        let segments = store(&io, quota);
        let (accepted, error) = fill(&segments, 0);
        assert!(error.is_full(), "{error}");
        segments.flush().unwrap_err();
        assert!(segments.insert(accepted, value(accepted, LEN)).unwrap_err().is_full());
        check(&segments, 0..accepted);
        assert!(segments.usage().physical <= 1 << 20);
        for key in 0..accepted / 2 {
            assert!(segments.remove(&key).unwrap());
        }
        segments.flush().unwrap();
        segments.insert(accepted, value(accepted, LEN)).unwrap();
        check(&segments, accepted / 2..=accepted);
    }
}

/// Before such a batch is refused, dead records are compacted away, as many times as that wins room.
#[test]
fn a_batch_longer_than_the_room_is_compacted_for() {
    let io = MemoryIo::limited(100 << 20);
    let segments = store(&io, |config| config.quota_bytes(1 << 20).stage_bytes(1 << 20));
    let (accepted, _) = fill(&segments, 0);
    // In every segment some live on.
    for key in (0..accepted).filter(|key| key % 4 > 0) {
        assert!(segments.remove(&key).unwrap());
    }
    // More than has room without the dead ones' room.
    for key in accepted..accepted + accepted / 2 {
        segments.insert(key, value(key, LEN)).unwrap();
    }
    segments.flush().unwrap();
    assert!(segments.usage().physical <= 1 << 20);
    check(&segments, (0..accepted).filter(|key| key % 4 == 0).chain(accepted..accepted + accepted / 2));
}

#[test]
fn a_quota_is_worked_in_by_compaction() {
    let io = memory();
    let segments = store(&io, |config| config.quota_bytes(1 << 20));
    let (accepted, _) = fill(&segments, 0);
    // Half of what lives dies, a little everywhere, so that no segment is dead.
    (0..accepted).step_by(2).for_each(|key| assert!(segments.remove(&key).unwrap()));
    let mut most = 0;
    for key in 1000..1000 + accepted / 2 - 20 {
        segments.insert(key, value(key, LEN)).unwrap();
        most = most.max(segments.usage().physical);
    }
    assert!(most <= 1 << 20, "{most}");
    assert!(segments.stats().moved.count > 0);
    check(&segments, (1..accepted).step_by(2).chain(1000..1000 + accepted / 2 - 20));
}

/// What overwrites an old value goes where moved ones do, and yet leaves the room to those: within the quota there is
/// always a way on.
#[test]
fn what_is_overwritten_leaves_room_for_compaction() {
    for (keys, seed) in [(200, 1), (190, 2), (180, 3)] {
        let io = memory();
        let segments = store(&io, |config| config.quota_bytes(16 * SEGMENT));
        let mut random = Random(seed);
        (0..keys).for_each(|key| segments.insert(key, value(key, LEN)).unwrap());
        for n in 0..20_000 {
            let key = if n % 3 == 0 { random.below(keys) } else { random.skewed(keys) };
            segments.insert(key, value(key, LEN)).unwrap();
        }
        assert!(segments.usage().physical <= 16 * SEGMENT);
        check(&segments, 0..keys);
    }
}

#[test]
fn a_value_that_no_quota_has_room_for_is_too_large() {
    let segments = store(&memory(), |config| config.quota_bytes(1 << 20));
    let error = segments.insert(1, value(1, 1 << 20)).unwrap_err();
    let ErrorKind::TooLarge { limit, setting, .. } = error.kind() else { panic!("{error}") };
    assert_eq!((*limit, *setting), ((1 << 20) - SEGMENT, "quota_bytes"));
    assert!(
        store(&memory(), |config| config.quota_bytes(0)).insert(1, value(1, 0)).is_err(),
        "0 spills nothing"
    );
    // As large as it may be, in files of its own.
    segments.insert(1, value(1, (1 << 20) - SEGMENT as usize - 32)).unwrap();
    segments.close().unwrap();
    let mut results = segments.insert_many(vec![(1, value(1, 1 << 20))]);
    results.push(segments.insert(1, value(1, 1 << 20)));
    for result in results {
        assert!(matches!(result.unwrap_err().kind(), ErrorKind::Closed { .. }));
    }
}

/// A device that is full to the last byte: what was set aside before lets compaction work.
#[test]
fn compaction_works_on_a_full_device() {
    let io = MemoryIo::limited(2 << 20);
    let segments = store(&io, |config| config);
    let (accepted, error) = fill(&segments, 0);
    let ErrorKind::Full { used, free, setting, .. } = error.kind() else { panic!("{error}") };
    assert_eq!((*used, *setting), (io.used(), "the device's size or quota"));
    assert!(free.is_some_and(|free| free < 16 << 10));
    assert!(io.used() > (2 << 20) - (16 << 10), "what failed was cut off, all else is used");
    // Somebody else takes the rest.
    let other = io.create(Path::new("/other")).unwrap();
    while other.allocate((2 << 20) - io.used()).is_ok() && io.used() < 2 << 20 {}
    io.set_limit(io.used());
    (0..accepted).filter(|key| key % 3 > 0).for_each(|key| assert!(segments.remove(&key).unwrap()));
    segments.settle().unwrap();
    let usage = segments.usage();
    assert!(usage.physical <= usage.spilled.disk * 3 / 2 + 2 * SEGMENT, "{usage:?}");
    check(&segments, (0..accepted).step_by(3));
    let (more, _) = fill(&segments, 10_000);
    assert!(more > accepted / 3, "work goes on: {more} of {accepted}");
    check(&segments, (0..accepted).step_by(3).chain(10_000..10_000 + more));
}

/// Nothing of a write that failed half way takes room.
#[test]
fn what_was_written_of_a_value_without_room_is_cut_off() {
    let io = MemoryIo::limited(300_000);
    let segments = Segments::open(config(io.clone()).stage_bytes(0)).unwrap();
    segments.insert(1, value(1, 100_000)).unwrap();
    for len in [250_000, 400_000, 100 << 20] {
        let before = (io.used(), segments.usage().physical);
        assert_eq!(before, (100_032, 100_032));
        assert!(segments.insert(2, value(2, len)).unwrap_err().is_full());
        assert_eq!((io.used(), segments.usage().physical), before);
    }
    segments.insert(3, value(3, 150_000)).unwrap();
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(1, 100_000));
    assert_same(&segments.get(&3).unwrap().unwrap(), &value(3, 150_000));
}

/// On a full device `evict` gives -1 with the pair kept, clean copies make room first, and once there is
/// room it works by itself.
pub(crate) fn evict_over_a_full_device(segments: Segments<u64>, free_room: impl FnOnce()) {
    let builder = BufferBuilder::new().target(64 * LEN as u64);
    let buffer = segments.buffered(builder).unwrap();
    let mut inserted: u64 = 0;
    // Until the device is full, values move down; then they stay.
    let mut refused = 0;
    while refused < 40 {
        buffer.insert(inserted, value(inserted, LEN)).unwrap();
        inserted += 1;
        refused = if buffer.usage().fast > 64 * LEN as u64 { refused + 1 } else { 0 };
        assert!(inserted < 100_000, "the device never fills");
    }
    let fast = buffer.usage().fast;
    let slow = buffer.len() as u64 - fast / LEN as u64;
    assert_eq!(buffer.evict(), -1);
    assert!(buffer.fast(), "the pairs are still there");
    assert_eq!((buffer.len() as u64, buffer.usage().fast), (inserted, fast));
    for key in 0..inserted {
        let found: Frames = buffer.peek(&key).unwrap().unwrap();
        assert_same(&found, &value(key, LEN));
    }
    assert!(slow > 0 && buffer.stats().failures > 0);
    free_room();
    // By itself: inserts spill again what failed, once it is due.
    let clock = SystemClock::new();
    while buffer.usage().fast > 64 * LEN as u64 && clock.now() < Duration::from_secs(60) {
        std::thread::park_timeout(Duration::from_millis(10));
        buffer.insert(0, value(0, LEN)).unwrap();
    }
    assert!(buffer.usage().fast <= 64 * LEN as u64, "{} of {}", buffer.usage().fast, 64 * LEN);
    for key in 0..inserted {
        assert_same(&buffer.peek(&key).unwrap().unwrap(), &value(key, LEN));
    }
}

/// S35: -1, the pair kept, nothing raised.
#[test]
fn eviction_over_a_full_device_keeps_the_pair_and_resumes() {
    let io = MemoryIo::limited(2 << 20);
    let segments = store(&io, |config| config.clock(Arc::new(SystemClock::new())));
    let room = io.clone();
    evict_over_a_full_device(segments, move || room.set_limit(8 << 20));
}

/// Values that were read back leave a clean copy on disk, which is given up for one that has none.
#[test]
fn clean_copies_make_room_first() {
    let io = MemoryIo::limited(750 * 4096);
    let segments = store(&io, |config| config);
    let buffer = segments.buffered(BufferBuilder::new().target(300 * LEN as u64)).unwrap();
    (0..600).for_each(|key| buffer.insert(key, value(key, LEN)).unwrap());
    let read = || (0..200).for_each(|key| assert!(buffer.get(&key).unwrap().is_some()));
    read();
    let copies = || (buffer.slow().usage().spilled.disk - buffer.usage().spilled.disk) / LEN as u64;
    assert!(copies() >= 200, "{} clean copies", copies());
    // They stay in fast memory, so what is evicted has no copy yet.
    for key in 600..950 {
        buffer.insert(key, value(key, LEN)).unwrap();
        if key % 50 == 0 {
            read();
        }
    }
    assert!(buffer.usage().fast <= 300 * LEN as u64, "all found room");
    assert!(copies() < 100, "{} clean copies", copies());
    for key in 0..950 {
        assert_same(&buffer.peek(&key).unwrap().unwrap(), &value(key, LEN));
    }
}

fn two(io: [&MemoryIo; 2]) -> Segments<u64> {
    let open = |io: &MemoryIo| Workspace::open_with(Arc::new(io.clone()), Some(Path::new(PARENT))).unwrap();
    let config = SegmentsConfig::across(vec![open(io[0]), open(io[1])]);
    Segments::open(config.segment_bytes(SEGMENT).stage_bytes(16 << 10).compactor(false)).unwrap()
}

#[test]
fn two_full_devices_are_full_together() {
    let (one, other) = (MemoryIo::limited(1 << 20), MemoryIo::limited(512 << 10));
    let segments = two([&one, &other]);
    let (accepted, error) = fill(&segments, 0);
    assert!(error.is_full());
    assert!(one.used() + other.used() > (3 << 19) - (96 << 10), "{} and {}", one.used(), other.used());
    check(&segments, 0..accepted);
}
