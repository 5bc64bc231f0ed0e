//! Space comes back: whatever the stream of operations, the files stay within their bound.

use std::collections::HashMap;
use std::sync::Arc;

use spill_core::MutableMapping;
use spill_disk::Segments;
use spill_disk::io::{FaultyIo, Operation};

use crate::common::{Random, assert_same, config, memory, segment_files, value};

const SEGMENT: u64 = 16 << 10;

/// A store, what it must hold, and its bound, which is looked at after each insert.
struct Bounded {
    segments: Segments<u64>,
    model: HashMap<u64, u64>,
    versions: u64,
    /// Segments beyond one and a half times what lives: one a writer, and one.
    beyond: u64,
}

impl Bounded {
    fn new(beside: bool, behind: bool) -> Self {
        let config = config(memory()).segment_bytes(SEGMENT).stage_bytes(4 << 10);
        let segments = Segments::open(config.compactor(beside).write_behind(behind)).unwrap();
        Bounded { segments, model: HashMap::new(), versions: 0, beyond: 2 + u64::from(behind) }
    }

    fn len(version: u64) -> usize {
        20 + (version * 7919 % 700) as usize
    }

    fn insert(&mut self, key: u64) {
        self.versions += 1;
        self.insert_of(key, self.versions);
    }

    fn insert_of(&mut self, key: u64, version: u64) {
        self.segments.insert(key, value(version, Self::len(version))).unwrap();
        self.model.insert(key, version);
        self.check();
    }

    fn remove(&mut self, key: u64) {
        assert_eq!(self.segments.remove(&key).unwrap(), self.model.remove(&key).is_some());
    }

    #[track_caller]
    fn check(&self) {
        let usage = self.segments.usage();
        let most = usage.spilled.disk + usage.spilled.disk / 2 + self.beyond * SEGMENT;
        assert!(usage.physical <= most, "{} of {most} bytes, {} live", usage.physical, usage.spilled.disk);
    }

    /// Settles, and holds every value against the model.
    fn settle(self) {
        self.segments.settle().unwrap();
        self.check();
        assert_eq!(self.segments.usage().staged, 0);
        assert_eq!(self.segments.len(), self.model.len());
        for (key, version) in &self.model {
            let found = self.segments.get(key).unwrap().unwrap();
            assert_same(&found, &value(*version, Self::len(*version)));
        }
        assert_eq!(self.segments.stats().failures, 0);
    }
}

/// Of each stream; the seven streams of a long run together have more than twenty million.
fn operations() -> u64 {
    if std::env::var_os("OVERSPILL_TEST_LONG").is_some() { 3_000_000 } else { 60_000 }
}

/// Runs a stream with a thread that compacts, and without; and with one that writes behind.
fn each_way(stream: impl Fn(&mut Bounded)) {
    for (beside, behind) in [(true, false), (false, false), (true, true)] {
        let mut store = Bounded::new(beside, behind);
        stream(&mut store);
        store.settle();
    }
}

#[test]
fn skewed_overwrites_stay_within_the_bound() {
    each_way(|store| {
        let mut random = Random(1);
        for n in 0..operations() {
            let key = random.skewed(1000);
            if n % 13 == 5 { store.remove(key) } else { store.insert(key) }
        }
        let stats = store.segments.stats();
        let (written, moved) = (stats.write.bytes as f64, stats.moved.bytes as f64);
        assert!(moved > 0.0 && written > 0.0);
        assert!((stats.write_amplification() - (written + moved) / written).abs() < 1e-9);
        assert!(stats.write_amplification() < 3.0);
    });
}

#[test]
fn uniform_overwrites_stay_within_the_bound() {
    each_way(|store| {
        let mut random = Random(2);
        (0..operations()).for_each(|_| store.insert(random.below(2000)));
    });
}

#[test]
fn removing_the_oldest_first_moves_nothing() {
    each_way(|store| {
        for key in 0..operations() {
            store.insert(key);
            if key >= 500 {
                store.remove(key - 500);
            }
        }
        assert_eq!(store.segments.stats().moved.count, 0);
    });
}

#[test]
fn removing_every_second_key_gives_half_of_the_room_back() {
    each_way(|store| {
        let keys = operations() / 4;
        (0..keys).for_each(|key| store.insert(key));
        (0..keys).step_by(2).for_each(|key| store.remove(key));
        store.insert(keys);
        (0..keys).step_by(2).for_each(|key| store.insert(key));
        (1..keys).step_by(2).for_each(|key| store.remove(key));
        store.segments.settle().unwrap();
        store.check();
    });
}

#[test]
fn one_survivor_a_segment_keeps_no_segment() {
    each_way(|store| {
        let each = 2 * SEGMENT / 370;
        for n in 0..operations() {
            if n % each == 0 { store.insert(n) } else { store.insert(u64::MAX - n % 7) }
        }
    });
}

#[test]
fn values_that_shrink_and_grow_stay_within_the_bound() {
    each_way(|store| {
        let shortest = (0..10_000).min_by_key(|version| Bounded::len(*version)).unwrap();
        let longest = (0..10_000).max_by_key(|version| Bounded::len(*version)).unwrap();
        for round in 0..operations() / 1000 {
            let version = if round % 2 == 0 { longest } else { shortest };
            (0..500).for_each(|key| store.insert_of(key, version));
            (0..500).rev().for_each(|key| store.insert_of(key, shortest));
        }
    });
}

#[test]
fn all_that_is_removed_at_once_gives_its_room_back() {
    each_way(|store| {
        for round in 0..5 {
            (0..operations() / 10).for_each(|key| store.insert(key));
            let keys: Vec<u64> = store.model.keys().copied().collect();
            if round % 2 == 0 {
                store.segments.clear().unwrap();
                store.model.clear();
            } else {
                keys.into_iter().for_each(|key| store.remove(key));
            }
            store.insert(round);
            assert!(store.segments.usage().physical <= 3 * SEGMENT);
        }
    });
}

/// The sum that a store tells is that of its files, while it is churned and compacted.
#[test]
fn physical_bytes_are_those_of_the_files_after_compaction() {
    let io = memory();
    let config = config(io.clone()).segment_bytes(SEGMENT).stage_bytes(4 << 10).compactor(false);
    let segments: Segments<u64> = Segments::open(config).unwrap();
    let mut random = Random(3);
    for n in 0..5000 {
        segments.insert(random.skewed(300), value(n, 200)).unwrap();
        if n % 100 == 0 {
            let files: u64 = segment_files(&io).iter().map(|(_, file)| file.len() as u64).sum();
            assert_eq!(segments.usage().physical, files);
        }
    }
    assert!(segments.stats().moved.count > 0);
}

/// Writers beside each other and beside compaction: a segment for each of them, and one.
#[test]
fn several_writers_stay_within_the_bound() {
    const WRITERS: u64 = 4;
    const KEYS: u64 = 1000;
    let config = config(memory()).segment_bytes(SEGMENT).stage_bytes(4 << 10);
    let segments: Segments<u64> = Segments::open(config).unwrap();
    (0..KEYS).for_each(|key| segments.insert(key, value(key, 300)).unwrap());
    let segments = &segments;
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let mut random = Random(writer + 5);
                for n in 0..operations() / WRITERS {
                    segments.insert(random.skewed(KEYS), value(n, 300)).unwrap();
                    let usage = segments.usage();
                    let most = usage.spilled.disk * 3 / 2 + (WRITERS + 1) * SEGMENT;
                    assert!(usage.physical <= most, "{} of {most} bytes", usage.physical);
                }
            });
        }
    });
    segments.settle().unwrap();
    let usage = segments.usage();
    assert!(usage.physical <= usage.spilled.disk * 3 / 2 + 2 * SEGMENT, "{usage:?}");
}

/// Compaction reads windows and not each record.
#[test]
fn compaction_walks_through_what_was_written_in_batches() {
    let io = FaultyIo::new(Arc::new(memory()));
    let config = config(io.clone()).segment_bytes(8 << 20).stage_bytes(2 << 20).compactor(false);
    let segments: Segments<u64> = Segments::open(config).unwrap();
    (0..8000).for_each(|key| segments.insert(key, value(key, 4096)).unwrap());
    segments.flush().unwrap();
    // all over the segments, so that what lives is in each
    (0..8000).filter(|key| key % 5 > 0).for_each(|key| assert!(segments.remove(&key).unwrap()));
    segments.settle().unwrap();
    let moved = segments.stats().moved.count;
    assert!(moved > 500, "{moved}");
    let reads = io.calls_of(Operation::Read);
    assert!(reads < moved / 4, "{reads} reads for {moved} records");
    for key in (0..8000).step_by(5) {
        assert_same(&segments.get(&key).unwrap().unwrap(), &value(key, 4096));
    }
}
