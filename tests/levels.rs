//! RAM over segment files over one file a key: what holds for a buffer holds for each level of a chain of three. The
//! last level stands for an object store.
#![cfg(all(feature = "disk", feature = "conformance"))]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use overspill::conformance::{Fault, Faulty, Gate, Operation, Plan};
use overspill::{
    Buffer, BufferBuilder, Compose, Files, FilesConfig, Frames, Func, HeapWeigher, KeyCodec, ManualClock,
    ManualEvict, MutableMapping, Raw, Segments, SegmentsConfig, SpilledSize, Stored, Workspace,
    conformance_tests,
};

type Disk = Faulty<u64, Frames, Segments<u64>>;
type Objects = Faulty<u64, Frames, Files<u64>>;
type Middle = Buffer<u64, Frames, Objects, Stored<Disk>>;
type Chain = Buffer<u64, Bytes, Func<u64, Bytes, Frames, Raw, Middle>>;

/// What each value of [`filled`] has, and weighs in RAM.
const BYTES: u64 = 10_000;
const WEIGHT: u64 = BYTES + size_of::<Bytes>() as u64;

fn segments<K: KeyCodec>() -> Segments<K> {
    Segments::open(SegmentsConfig::new(Workspace::open(None).unwrap()).segment_bytes(1 << 20)).unwrap()
}

fn files<K: KeyCodec>() -> Files<K> {
    Files::open(FilesConfig::new(Workspace::open(None).unwrap())).unwrap()
}

fn chain(ram: u64, disk: u64) -> (Chain, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let level = || BufferBuilder::new().target(disk).clock(clock.clone());
    let middle = Faulty::new(files()).behind(Faulty::new(segments()), level()).unwrap();
    let ram = BufferBuilder::new().target(ram).clock(clock.clone());
    (Func::new(Raw, middle).weighed_by(HeapWeigher).buffered(ram).unwrap(), clock)
}

fn middle(chain: &Chain) -> &Middle {
    chain.slow().inner()
}

fn value(key: u64) -> Bytes {
    Bytes::from((0..BYTES).map(|at| (key * 31 + at) as u8).collect::<Vec<u8>>())
}

/// A chain with `keys` values, five of them in RAM and ten on disk.
fn filled(keys: u64) -> (Chain, Arc<ManualClock>) {
    let record = {
        let (probe, _) = chain(0, u64::MAX);
        probe.insert(0, value(0)).unwrap();
        middle(&probe).stats().fast_bytes
    };
    let (chain, clock) = chain(5 * WEIGHT, 10 * record);
    (0..keys).for_each(|key| chain.insert(key, value(key)).unwrap());
    (chain, clock)
}

conformance_tests!(three_levels_of_files, || {
    let middle = files::<u64>().behind(segments(), BufferBuilder::new().target(4000)).unwrap();
    let coded = Func::<u64, Bytes, _, _, _>::new(Raw, middle);
    coded.buffered(BufferBuilder::new().target(2000)).unwrap()
});

/// Every layer that a program would put together, eight deep, two of them buffers.
#[cfg(feature = "compress")]
mod deep {
    use super::{BufferBuilder, Bytes, Compose, Func, HeapWeigher, Raw, conformance_tests, files, segments};
    use overspill::{Compress, EncodedKeys, Lz4, Sieve, Zstd};

    conformance_tests!(keys_ram_codec_disk_compressed_over_compressed_files, || {
        let far = Compress::new(Zstd::new(1).unwrap(), files::<Bytes>());
        let disk = Sieve::new(vec![segments(), segments()], |key: &Bytes, _: &_| usize::from(key[0] % 2));
        let middle = far.behind(Compress::new(Lz4, disk), BufferBuilder::new().target(4000)).unwrap();
        let coded = Func::<Bytes, Bytes, _, _, _>::new(Raw, middle).weighed_by(HeapWeigher);
        EncodedKeys::<u64, _, _>::encoded(coded.buffered(BufferBuilder::new().target(2000)).unwrap()).unwrap()
    });
}

/// Each level is held to its target and says what it holds, which the level above sums up.
#[test]
fn each_level_is_held_to_its_target_and_reports_it() {
    let (chain, _) = filled(40);
    let middle = middle(&chain);
    let (upper, lower) = (chain.stats(), middle.stats());
    assert_eq!((upper.fast_count, upper.slow_count), (5, 35));
    assert_eq!((lower.fast_count, lower.slow_count), (10, 25));
    assert!(upper.fast_bytes <= chain.target() && lower.fast_bytes <= middle.target());
    let (ram, below) = (chain.usage(), middle.usage());
    assert_eq!((ram.count, below.count), (40, 35));
    assert_eq!((ram.fast, below.fast), (5 * WEIGHT, 0), "nothing of the lower level is in RAM");
    assert_eq!(ram.spilled, below.spilled);
    assert_eq!(below.spilled.memory, 35 * WEIGHT);
    let parts = middle.stored().usage().spilled + middle.slow().usage().spilled;
    assert_eq!(below.spilled, parts, "each value is in one place");
    // a value read back from the last level leaves a copy there, which does not count
    chain.get(&0).unwrap().unwrap();
    let again = chain.usage();
    assert_eq!((again.fast, again.spilled.memory), (5 * WEIGHT, 35 * WEIGHT));
}

/// S07: a value is read byte for byte, by any thread, before, during and after it moves between each two levels.
#[test]
fn a_value_is_readable_at_every_moment_in_each_level() {
    for level in [1, 2] {
        for during in [Operation::Insert, Operation::Get] {
            let (chain, _) = filled(40);
            chain.evict_until_below(0);
            let storage_key = 0;
            let gate = Gate::closed();
            let plan = Plan::nth(1).on([during]).key(storage_key);
            let lower = middle(&chain);
            match (level, during) {
                // from RAM to disk, and back
                (1, Operation::Insert) => {
                    chain.insert(0, value(0)).unwrap();
                    lower.stored().inject(plan, Fault::block(&gate));
                }
                (1, _) => {
                    chain.get(&0).unwrap();
                    chain.evict_until_below(0);
                    assert!(lower.fast_keys().contains(&0));
                    lower.stored().inject(plan, Fault::block(&gate));
                }
                // from disk to files, and back
                (_, Operation::Insert) => {
                    chain.insert(0, value(0)).unwrap();
                    chain.evict_until_below(0);
                    lower.slow().inject(plan, Fault::block(&gate));
                }
                (..) => {
                    lower.evict_until_below(0);
                    lower.slow().inject(plan, Fault::block(&gate));
                }
            }
            thread::scope(|scope| {
                let mover = scope.spawn(|| match (level, during) {
                    (1, Operation::Insert) => assert_eq!(chain.evict_key(&0).unwrap(), Some(WEIGHT)),
                    (_, Operation::Insert) => assert!(lower.evict_key(&0).unwrap().is_some()),
                    _ => assert_eq!(chain.get(&0).unwrap(), Some(value(0))),
                });
                gate.wait_for(1);
                assert!(chain.contains_key(&0));
                assert_eq!(chain.len(), 40);
                let readers: Vec<_> = (0..3)
                    .map(|_| scope.spawn(|| assert_eq!(chain.peek(&0).unwrap(), Some(value(0)))))
                    .collect();
                if during == Operation::Insert {
                    // a value that is being written is read meanwhile; one being read is waited for
                    readers.into_iter().for_each(|reader| reader.join().unwrap());
                }
                gate.open();
                mover.join().unwrap();
            });
            for key in 0..40 {
                assert_eq!(chain.get(&key).unwrap(), Some(value(key)), "level {level}, {during:?}");
            }
        }
    }
}

/// S07: with each level moving on its own behind four readers and two writers, every read gives a whole value.
#[test]
fn every_level_moves_while_all_is_read() {
    let (chain, _) = filled(30);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                chain.evict();
                middle(&chain).evict();
            }
        });
        let threads: Vec<_> = (0..6u64)
            .map(|n| {
                let chain = &chain;
                scope.spawn(move || {
                    for step in 0..150 {
                        let key = (step * 7 + n * 5) % 30;
                        if n < 2 && step % 3 == 0 {
                            chain.insert(key, value(key)).unwrap();
                        } else {
                            assert_eq!(chain.get(&key).unwrap(), Some(value(key)));
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        done.store(true, SeqCst);
    });
    assert_eq!(chain.len(), 30);
    (0..30).for_each(|key| assert_eq!(chain.peek(&key).unwrap(), Some(value(key))));
}

/// Evicts at one level, and what stands below that: where its values go.
type Level<'a> = (&'a dyn ManualEvict, Box<dyn Fn(Fault<Frames>) + 'a>);

fn levels(chain: &Chain) -> [Level<'_>; 2] {
    let lower = middle(chain);
    let insert = || Plan::always().on([Operation::Insert]);
    [
        // what the disk refuses would go on to the files
        (
            chain,
            Box::new(move |fault: Fault<Frames>| {
                lower.stored().inject(insert(), fault.clone());
                lower.slow().inject(insert(), fault);
            }),
        ),
        (lower, Box::new(move |fault| lower.slow().inject(insert(), fault))),
    ]
}

fn heal(chain: &Chain, clock: &ManualClock) {
    middle(chain).stored().heal();
    middle(chain).slow().heal();
    clock.advance(Duration::from_secs(11));
}

/// S35: at each level `evict` moves one pair and gives its size there; where storage below fails, is full or panics
/// nothing is lost and nothing unwinds; from a level without values -1.
#[test]
fn each_level_evicts_by_hand_and_survives_its_storage() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some("injected") {
            usual(info);
        }
    }));
    for (level, faults) in [(0, true), (1, true), (0, false), (1, false)] {
        let (chain, clock) = filled(40);
        let (evicts, fail) = &levels(&chain)[level];
        if faults {
            for fault in [Fault::io(), Fault::full(), Fault::panic("injected")] {
                for fault in [fault.clone(), fault.after()] {
                    fail(fault);
                    let moved = evicts.evict();
                    // the RAM level's value is accepted below, which keeps it in RAM: it is not lost, and counted
                    assert!(moved == -1 || level == 0, "level {level} gave {moved}");
                    assert!(chain.usage().fast >= 5 * WEIGHT || level == 1);
                    for key in 0..40 {
                        assert_eq!(chain.peek(&key).unwrap(), Some(value(key)));
                    }
                    heal(&chain, &clock);
                    (35..40).for_each(|key| assert_eq!(chain.get(&key).unwrap(), Some(value(key))));
                }
            }
        }
        let size = evicts.evict();
        assert!(size >= BYTES as i64 && size < BYTES as i64 + 1000, "{size}");
        while evicts.fast() {
            assert!(evicts.evict() > 0);
        }
        assert_eq!(evicts.evict(), -1);
        (0..40).for_each(|key| assert_eq!(chain.peek(&key).unwrap(), Some(value(key))));
    }
}

/// S35: threads that evict one level at once move each pair once.
#[test]
fn concurrent_evictions_of_each_level_share_its_pairs() {
    for level in [0, 1] {
        let (chain, _) = filled(40);
        let before = [chain.stats(), middle(&chain).stats()][level];
        let moved = AtomicI64::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let evicts: &dyn ManualEvict = if level == 0 { &chain } else { middle(&chain) };
                    while let size @ 1.. = evicts.evict() {
                        moved.fetch_add(size, SeqCst);
                    }
                });
            }
        });
        assert_eq!(moved.load(SeqCst), before.fast_bytes as i64, "level {level}");
        let after = [chain.stats(), middle(&chain).stats()][level];
        assert_eq!(after.evictions - before.evictions, before.fast_count);
        (0..40).for_each(|key| assert_eq!(chain.peek(&key).unwrap(), Some(value(key))));
    }
}

/// S36: `fast` of each level tells whether there is anything to evict in it.
#[test]
fn fast_tells_for_each_level() {
    let (chain, clock) = chain(u64::MAX, u64::MAX);
    let lower = middle(&chain);
    let fast = || (chain.fast(), lower.fast());
    assert_eq!(fast(), (false, false));
    chain.insert(1, value(1)).unwrap();
    assert_eq!(fast(), (true, false));
    chain.evict();
    assert_eq!(fast(), (false, true));
    lower.evict();
    assert_eq!(fast(), (false, false));
    assert_eq!(chain.get(&1).unwrap(), Some(value(1)));
    assert_eq!(fast(), (true, true), "a value read back is on disk too, as a copy");
    assert_eq!(chain.usage().spilled, SpilledSize::default());
    // what could not be spilled counts
    lower.slow().inject(Plan::always(), Fault::io());
    lower.stored().inject(Plan::always(), Fault::io());
    chain.insert(2, value(2)).unwrap();
    assert!(chain.evict_key(&2).unwrap().is_some());
    assert!(lower.fast() && lower.usage().fast >= BYTES, "kept in RAM by the level below");
    heal(&chain, &clock);
}
