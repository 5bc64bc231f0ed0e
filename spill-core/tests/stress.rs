//! Many threads on few keys. Every value carries its key, its version and a sum over both, so that one that is
//! damaged, stale or another key's is recognised wherever it turns up.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use spill_core::conformance::{Fault, Operation, Plan};
use spill_core::{
    Buffer, BufferBuilder, FastMemory, ManualClock, ManualEvict, MutableMapping, Ram, Result, SpilledSize,
    Stored, Usage,
};
use support::{eventually, locked, long_run, quiet_injected_panics, sorted_keys};

const KEYS: u64 = 12;

/// Calls of each thread in an ordinary run.
const CALLS: u64 = 4000;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamped {
    key: u64,
    version: u64,
    sum: u64,
}

impl Stamped {
    fn new(key: u64, version: u64) -> Self {
        Stamped { key, version, sum: Self::sum(key, version) }
    }

    fn sum(key: u64, version: u64) -> u64 {
        noise(key.rotate_left(32) ^ version)
    }

    /// The version, of a value that must be whole and of this key.
    #[track_caller]
    fn version_of(&self, key: u64) -> u64 {
        assert_eq!(self.sum, Self::sum(self.key, self.version), "damaged: {self:?}");
        assert_eq!(self.key, key, "another key's: {self:?}");
        self.version
    }

    fn weight(&self) -> u64 {
        8 + self.version % 5
    }
}

/// One step of SplitMix64.
fn noise(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A sequence of numbers that is the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        noise(self.0) % n
    }
}

/// Storage that reports sizes.
#[derive(Default)]
struct Store(Mutex<BTreeMap<u64, Stamped>>);

fn size(value: &Stamped) -> SpilledSize {
    SpilledSize { memory: value.weight(), disk: value.weight() + 16 }
}

impl MutableMapping<u64, Stamped> for Store {
    fn get(&self, key: &u64) -> Result<Option<Stamped>> {
        Ok(locked(&self.0).get(key).cloned())
    }
    fn insert(&self, key: u64, value: Stamped) -> Result<()> {
        locked(&self.0).insert(key, value);
        Ok(())
    }
    fn remove(&self, key: &u64) -> Result<bool> {
        Ok(locked(&self.0).remove(key).is_some())
    }
    fn take(&self, key: &u64) -> Result<Option<Stamped>> {
        Ok(locked(&self.0).remove(key))
    }
    fn contains_key(&self, key: &u64) -> bool {
        locked(&self.0).contains_key(key)
    }
    fn len(&self) -> usize {
        locked(&self.0).len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        let keys: Vec<u64> = locked(&self.0).keys().copied().collect();
        keys.iter().for_each(f);
    }
    fn usage(&self) -> Usage {
        let pairs = locked(&self.0);
        let spilled = pairs.values().map(size).fold(SpilledSize::default(), |a, b| a + b);
        Usage { count: pairs.len(), spilled, ..Usage::default() }
    }
    fn stored_size(&self, key: &u64) -> Option<SpilledSize> {
        locked(&self.0).get(key).map(size)
    }
}

type Slow = spill_core::conformance::Faulty<u64, Stamped, Store>;
type Buf<F> = Buffer<u64, Stamped, Slow, F>;

/// A buffer with its fast memory in RAM or in storage.
trait Kind: FastMemory<u64, Stamped> + Sized {
    fn build(builder: BufferBuilder<u64, Stamped>) -> Buf<Self>;
    /// Where fast memory is.
    fn stored(buffer: &Buf<Self>) -> Option<&Slow>;
    /// All storage.
    fn storage(buffer: &Buf<Self>) -> impl Iterator<Item = &Slow> {
        Self::stored(buffer).into_iter().chain([buffer.slow()])
    }
}

impl Kind for Ram {
    fn build(builder: BufferBuilder<u64, Stamped>) -> Buf<Self> {
        builder.over(Slow::new(Store::default())).unwrap()
    }
    fn stored(_: &Buf<Self>) -> Option<&Slow> {
        None
    }
}

impl Kind for Stored<Slow> {
    fn build(builder: BufferBuilder<u64, Stamped>) -> Buf<Self> {
        builder.stored(Slow::new(Store::default()), Slow::new(Store::default())).unwrap()
    }
    fn stored(buffer: &Buf<Self>) -> Option<&Slow> {
        Some(buffer.stored())
    }
}

/// How storage behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    Works,
    Fails,
    Panics,
}

fn buffer<F: Kind>(writers: usize, target: u64) -> (Buf<F>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let builder = BufferBuilder::weighed_by(|_: &u64, value: &Stamped| value.weight());
    let builder = builder.target(target).writers(writers).clock(clock.clone());
    (F::build(builder), clock)
}

/// Makes storage fail at a rate of the dice's choice, before or after it did what was asked, or work again.
fn shake(slow: &Slow, disk: Disk, dice: &mut Dice) {
    slow.heal();
    if disk == Disk::Works || dice.below(3) == 0 {
        return;
    }
    let fault = match (disk, dice.below(2)) {
        (Disk::Panics, _) => Fault::panic("injected"),
        (_, 0) => Fault::io(),
        _ => Fault::full(),
    };
    let fault = if dice.below(2) == 0 { fault } else { fault.after() };
    let every = 1 + dice.below(6);
    let operations = [Operation::Get, Operation::Peek, Operation::Insert, Operation::Remove];
    slow.inject(Plan::every(every).on(operations), fault);
}

/// Counts one thread less when dropped, so that nobody waits for one that panicked.
struct Ends<'a>(&'a AtomicUsize);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Runs `threads` at once, with a further one that shakes the storage and moves the clock on until they ended.
fn together<F: Kind>(
    buffer: &Buf<F>,
    clock: &ManualClock,
    disk: Disk,
    seed: u64,
    threads: &[&(dyn Fn() + Sync)],
) {
    let running = AtomicUsize::new(threads.len());
    thread::scope(|scope| {
        for thread in threads {
            scope.spawn(|| {
                let _end = Ends(&running);
                thread();
            });
        }
        let mut dice = Dice(seed);
        while running.load(SeqCst) > 0 {
            F::storage(buffer).for_each(|slow| shake(slow, disk, &mut dice));
            clock.advance(Duration::from_millis(dice.below(400)));
            for _ in 0..50 {
                thread::yield_now();
            }
        }
    });
    F::storage(buffer).for_each(|slow| slow.heal());
    clock.advance(Duration::from_secs(11));
}

/// What a read gave, where it may fail; and only then.
#[track_caller]
fn read(disk: Disk, result: Result<Option<Stamped>>) -> Option<Option<Stamped>> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert_ne!(disk, Disk::Works, "{error}");
            None
        }
    }
}

/// Everything is accounted for: these keys with these versions, sums that agree, and nothing left over.
fn accounted_for<F: Kind>(buffer: &Buf<F>, clock: &ManualClock, expected: &BTreeMap<u64, u64>) {
    for (key, version) in expected {
        assert_eq!(buffer.peek(key).unwrap().unwrap().version_of(*key), *version);
    }
    assert_eq!(sorted_keys(buffer), expected.keys().copied().collect::<Vec<_>>());
    assert_eq!(buffer.len(), expected.len());
    // A write of a writer thread may still be under way.
    eventually("all can be spilled", || {
        clock.advance(Duration::from_secs(11));
        buffer.evict_until_below(0);
        !buffer.fast()
    });
    // Old copies that could not be removed go when something is evicted.
    eventually("nothing is left over", || {
        clock.advance(Duration::from_secs(11));
        assert_eq!(buffer.evict(), -1);
        buffer.slow().len() == expected.len() && F::stored(buffer).is_none_or(|fast| fast.len() == 0)
    });
    let held = locked(&buffer.slow().inner().0).clone();
    let versions: BTreeMap<u64, u64> =
        held.iter().map(|(key, value)| (*key, value.version_of(*key))).collect();
    assert_eq!(versions, *expected);
    let usage = buffer.usage();
    assert_eq!((usage.count, usage.fast), (expected.len(), 0));
    assert_eq!(usage.spilled, held.values().map(size).fold(SpilledSize::default(), |a, b| a + b));
    let stats = buffer.stats();
    assert_eq!((stats.fast_count, stats.fast_bytes, stats.deferred), (0, 0, 0));
    assert_eq!(stats.slow_count, expected.len() as u64);
    buffer.clear().unwrap();
    assert_eq!(buffer.len(), 0);
    // A writer may be about to note that the last fast copy is gone, and takes the slow one then.
    eventually("what was cleared is gone", || buffer.slow().len() == 0);
    assert_eq!(buffer.usage(), Usage::default());
}

/// Two threads write, each its own keys; four read all keys and evict; versions never go back for any reader.
fn versions_never_go_back<F: Kind>(writers: usize, disk: Disk, seed: u64) {
    quiet_injected_panics();
    let (buffer, clock) = buffer::<F>(writers, 50);
    let written: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    (0..KEYS).for_each(|key| buffer.insert(key, Stamped::new(key, 0)).unwrap());
    let readers = AtomicUsize::new(4);
    let writer = |own: u64| {
        let mut dice = Dice(seed ^ (own << 40));
        for version in 1.. {
            if readers.load(SeqCst) == 0 {
                break;
            }
            let key = dice.below(KEYS / 2) * 2 + own;
            let value = Stamped::new(key, version);
            match dice.below(4) {
                0 => {
                    // It fails only where the old value cannot be read, and then changes nothing.
                    match buffer.update(&key, |old| *old = value.clone()) {
                        Ok(updated) => assert_eq!(updated, Some(())),
                        Err(_) => {
                            assert_ne!(disk, Disk::Works);
                            continue;
                        }
                    }
                }
                _ => buffer.insert(key, value).unwrap(),
            }
            written[key as usize].store(version, SeqCst);
        }
    };
    let reader = |n: u64| {
        let mut dice = Dice(seed ^ (n << 48));
        let mut seen = vec![0; KEYS as usize];
        let _end = Ends(&readers);
        for _ in 0..CALLS / 2 * long_run(10) {
            let key = dice.below(KEYS);
            let at_least = written[key as usize].load(SeqCst);
            let result = match dice.below(8) {
                0 => buffer.peek(&key),
                1 => {
                    buffer.evict();
                    continue;
                }
                2 => {
                    assert!(buffer.contains_key(&key), "it is never removed");
                    assert_eq!(buffer.len(), KEYS as usize);
                    continue;
                }
                3 => {
                    _ = buffer.evict_key(&key);
                    continue;
                }
                _ => buffer.get(&key),
            };
            if let Some(value) = read(disk, result) {
                let version = value.expect("it is never removed").version_of(key);
                assert!(version >= at_least, "key {key}: {version} after {at_least} was accepted");
                assert!(version >= seen[key as usize], "key {key}: back to {version}");
                seen[key as usize] = version;
            }
        }
    };
    let walker = || {
        while readers.load(SeqCst) > 0 {
            assert_eq!(sorted_keys(&buffer), (0..KEYS).collect::<Vec<_>>());
        }
    };
    let flusher = || {
        while readers.load(SeqCst) > 0 {
            assert!(buffer.flush().is_ok() || disk != Disk::Works);
        }
    };
    let threads: [&(dyn Fn() + Sync); 8] = [
        &|| writer(0),
        &|| writer(1),
        &|| reader(1),
        &|| reader(2),
        &|| reader(3),
        &|| reader(4),
        &walker,
        &flusher,
    ];
    together(&buffer, &clock, disk, seed, &threads);
    let expected = written.iter().enumerate().map(|(key, version)| (key as u64, version.load(SeqCst)));
    accounted_for(&buffer, &clock, &expected.collect());
}

/// Eight threads do everything to all keys. What goes in comes out once: each accepted version is read, taken
/// or replaced, and what is there at last was put there.
fn everything_at_once<F: Kind>(writers: usize, disk: Disk, seed: u64) {
    quiet_injected_panics();
    let (buffer, clock) = buffer::<F>(writers, 50);
    let versions = AtomicU64::new(1);
    let taken = Mutex::new(BTreeMap::<u64, u64>::new());
    let put = Mutex::new(BTreeMap::<u64, u64>::new());
    let worker = |n: u64| {
        let mut dice = Dice(seed ^ (n << 32));
        for _ in 0..CALLS * long_run(10) {
            let key = dice.below(KEYS);
            let fresh = || {
                let version = versions.fetch_add(1, SeqCst);
                locked(&put).insert(version, key);
                Stamped::new(key, version)
            };
            match dice.below(16) {
                0..4 => buffer.insert(key, fresh()).unwrap(),
                4..7 => {
                    if let Some(Some(value)) = read(disk, buffer.get(&key)) {
                        assert_eq!(locked(&put).get(&value.version_of(key)), Some(&key));
                    }
                }
                7 => {
                    if let Some(Some(value)) = read(disk, buffer.peek(&key)) {
                        value.version_of(key);
                    }
                }
                8..10 => {
                    if let Some(Some(value)) = read(disk, buffer.take(&key)) {
                        let version = value.version_of(key);
                        assert_eq!(locked(&taken).insert(version, key), None, "{version} taken twice");
                    }
                }
                10 => _ = buffer.remove(&key).unwrap(),
                11 => {
                    let updated = buffer.update(&key, |value| {
                        value.version_of(key);
                        *value = fresh();
                    });
                    assert!(updated.is_ok() || disk != Disk::Works);
                }
                12 => {
                    let loaded = buffer.get_or_try_insert_with(key, || Ok(fresh()));
                    if let Some(Some(value)) = read(disk, loaded.map(Some)) {
                        value.version_of(key);
                    }
                }
                13 => {
                    let done = buffer.upsert(key, fresh, |value| *value = fresh());
                    assert!(done.is_ok() || disk != Disk::Works);
                }
                14 => _ = buffer.evict(),
                _ => {
                    let keys = sorted_keys(&buffer);
                    assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
                    assert!(buffer.len() <= KEYS as usize);
                }
            }
        }
    };
    let workers: Vec<_> = (0..8).map(|n| move || worker(n)).collect();
    let threads: Vec<&(dyn Fn() + Sync)> = workers.iter().map(|worker| worker as _).collect();
    together(&buffer, &clock, disk, seed, &threads);
    let mut left = BTreeMap::new();
    for key in sorted_keys(&buffer) {
        let version = buffer.peek(&key).unwrap().unwrap().version_of(key);
        assert_eq!(locked(&put).get(&version), Some(&key), "it was put there");
        assert!(!locked(&taken).contains_key(&version), "what was taken is gone");
        left.insert(key, version);
    }
    accounted_for(&buffer, &clock, &left);
}

macro_rules! stress {
    ($($name:ident: $run:ident::<$fast:ty>($writers:expr, $disk:expr, $seed:expr);)*) => {
        $(
            #[test]
            fn $name() {
                for round in 0..long_run(5) {
                    $run::<$fast>($writers, $disk, $seed + round);
                }
            }
        )*
    };
}

stress! {
    versions_over_storage_that_works: versions_never_go_back::<Ram>(0, Disk::Works, 100);
    versions_over_storage_that_fails: versions_never_go_back::<Ram>(0, Disk::Fails, 200);
    versions_over_storage_that_panics: versions_never_go_back::<Ram>(0, Disk::Panics, 300);
    versions_with_writers_over_storage_that_works: versions_never_go_back::<Ram>(2, Disk::Works, 400);
    versions_with_writers_over_storage_that_fails: versions_never_go_back::<Ram>(2, Disk::Fails, 500);
    versions_with_writers_over_storage_that_panics: versions_never_go_back::<Ram>(2, Disk::Panics, 600);
    everything_over_storage_that_works: everything_at_once::<Ram>(0, Disk::Works, 700);
    everything_over_storage_that_fails: everything_at_once::<Ram>(0, Disk::Fails, 800);
    everything_over_storage_that_panics: everything_at_once::<Ram>(0, Disk::Panics, 900);
    everything_with_writers_over_storage_that_works: everything_at_once::<Ram>(2, Disk::Works, 1000);
    everything_with_writers_over_storage_that_fails: everything_at_once::<Ram>(2, Disk::Fails, 1100);
    everything_with_writers_over_storage_that_panics: everything_at_once::<Ram>(2, Disk::Panics, 1200);
    versions_in_stored_memory_that_works: versions_never_go_back::<Stored<Slow>>(0, Disk::Works, 1300);
    versions_in_stored_memory_that_fails: versions_never_go_back::<Stored<Slow>>(0, Disk::Fails, 1400);
    versions_in_stored_memory_that_panics: versions_never_go_back::<Stored<Slow>>(2, Disk::Panics, 1500);
    everything_in_stored_memory_that_works: everything_at_once::<Stored<Slow>>(2, Disk::Works, 1600);
    everything_in_stored_memory_that_fails: everything_at_once::<Stored<Slow>>(0, Disk::Fails, 1700);
    everything_in_stored_memory_that_panics: everything_at_once::<Stored<Slow>>(2, Disk::Panics, 1800);
}
