//! What the store says of itself, against what is in its files.

use spill_core::{MutableMapping, SpilledSize};
use spill_disk::Segments;

use crate::common::{config, frames, memory, record_checksum, segment_files, unstaged, value};

/// A record as its header describes it.
struct Record {
    segment: u32,
    weight: u64,
    length: u64,
}

/// All records in a segment file, found from the format's description alone.
fn records(file: &[u8]) -> Vec<Record> {
    let mut found: Vec<Record> = Vec::new();
    let mut at = 0;
    while at + 32 <= file.len() {
        let u32_at =
            |offset: usize| u32::from_le_bytes(file[at + offset..at + offset + 4].try_into().unwrap());
        let u64_at =
            |offset: usize| u64::from_le_bytes(file[at + offset..at + offset + 8].try_into().unwrap());
        let (count, body, weight) = (u64::from(u32_at(12)), u64_at(16), u64_at(24));
        let table = if count == 1 { 0 } else { count * 8 };
        let length = body.checked_add(32 + table).and_then(|used| used.checked_next_multiple_of(8));
        let record = length.and_then(|length| file.get(at..at + usize::try_from(length).ok()?));
        let Some(record) = record.filter(|record| record_checksum(record) == u32_at(0)) else {
            at += 8;
            continue;
        };
        let segment = u32_at(4);
        if found.first().is_none_or(|first| first.segment == segment) {
            found.push(Record { segment, weight, length: record.len() as u64 });
        }
        at += record.len();
    }
    found
}

fn stored(io: &spill_disk::io::MemoryIo) -> Vec<Record> {
    segment_files(io).iter().flat_map(|(_, file)| records(file)).collect()
}

/// S25: spilled is the bytes of the stored records of spilled values, summed from the files.
#[test]
fn spilled_bytes_are_those_of_the_records_in_the_files() {
    let io = memory();
    let segments: Segments<u64> = Segments::open(config(io.clone()).segment_bytes(100_000)).unwrap();
    for key in 0..300 {
        let lengths = [key as usize * 37 % 5000, key as usize % 3];
        // The weight names the key, so that the test knows whose record it sees.
        segments.insert(key, frames(0, &lengths[..1 + key as usize % 2]).with_weight(1000 + key)).unwrap();
    }
    segments.insert(300, value(0, 300_000).with_weight(1300)).unwrap();
    segments.flush().unwrap();
    let sum = |live: &dyn Fn(u64) -> bool| {
        stored(&io)
            .iter()
            .filter(|record| live(record.weight - 1000))
            .fold(SpilledSize::default(), |sum, record| {
                sum + SpilledSize { memory: record.weight, disk: record.length }
            })
    };
    assert_eq!(stored(&io).len(), 301);
    assert_eq!(segments.usage().spilled, sum(&|_| true));
    for key in (0..300).step_by(3) {
        segments.remove(&key).unwrap();
    }
    assert_eq!(segments.usage().spilled, sum(&|key| key % 3 != 0 || key == 300));
    assert_ne!(segments.usage().spilled.disk, segments.usage().spilled.memory);
}

#[test]
fn physical_bytes_are_those_of_the_files_and_dead_segments_come_back() {
    let io = memory();
    // a thread that compacts has room for what it is yet to write
    let config = config(io.clone()).segment_bytes(50_000).stage_bytes(20_000).compactor(false);
    let segments: Segments<u64> = Segments::open(config).unwrap();
    let physical = || segment_files(&io).iter().map(|(_, file)| file.len() as u64).sum::<u64>();
    let mut most = 0;
    for round in 0..10 {
        for key in 0..100 {
            segments.insert(key, value(round, 3_000)).unwrap();
        }
        segments.flush().unwrap();
        assert_eq!(segments.usage().physical, physical());
        most = most.max(physical());
    }
    // Ten rounds of 300 KB, and at any time the live round, the one it replaces, and two idle files.
    assert!(most <= 2 * 310_000 + 3 * 50_000, "{most}");
    segments.clear().unwrap();
    segments.flush().unwrap();
    assert!(physical() <= 3 * 50_000, "two idle files and the one that is written to: {}", physical());
    assert_eq!(segments.usage().physical, physical());
    assert_eq!(segments.usage().spilled, SpilledSize::default());
}

#[test]
fn a_value_longer_than_a_segment_has_its_own_and_gives_it_back() {
    let io = memory();
    let segments = unstaged(io.clone(), 10_000);
    segments.insert(0, value(0, 100)).unwrap();
    segments.insert(1, value(1, 100_000)).unwrap();
    segments.insert(2, value(2, 100)).unwrap();
    let lengths: Vec<_> = segment_files(&io).iter().map(|(_, file)| file.len()).collect();
    assert_eq!(lengths, [2 * 136, 100_032], "small ones go on in the segment they were in");
    segments.remove(&1).unwrap();
    assert_eq!(segment_files(&io).len(), 1, "a file that long is not kept");
    assert_eq!(segments.usage().physical, 2 * 136);
}

#[test]
fn staged_bytes_are_bounded_and_counted_as_spilled() {
    let segments: Segments<u64> = Segments::open(config(memory()).stage_bytes(100_000)).unwrap();
    for key in 0..1000 {
        segments.insert(key, value(0, 300)).unwrap();
        let usage = segments.usage();
        assert!(usage.staged <= 100_000 && usage.staged > 0);
        assert_eq!(usage.spilled.disk, (key + 1) * 336);
    }
    // Writing over and removing what is staged makes room at once.
    let few: Segments<u64> = Segments::open(config(memory()).stage_bytes(100_000)).unwrap();
    for n in 0..10_000 {
        few.insert(n % 3, value(n, 300)).unwrap();
    }
    for key in 0..3 {
        few.remove(&key).unwrap();
    }
    assert_eq!((few.usage().staged, few.stats().write.count), (0, 0));
}

#[test]
fn long_values_take_what_is_said() {
    let io = memory();
    let config = config(io.clone()).segment_bytes(8 << 20).stage_bytes(64 << 10);
    let segments: Segments<u64> = Segments::open(config).unwrap();
    for (key, length) in [262_000, (1 << 20) - 100, 262_100].into_iter().enumerate() {
        segments.insert(key as u64, value(key as u64, length)).unwrap();
    }
    let files: usize = segment_files(&io).iter().map(|(_, file)| file.len()).sum();
    assert_eq!(segments.usage().physical, files as u64);
    assert_eq!(segments.usage().physical, segments.usage().spilled.disk);
}
