//! What `Adaptive` chooses, told from counters: time is a clock that stands still unless a compressor or storage
//! says what it took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use spill_compress::{Adaptive, Compress, Compressor, Lz4, Tally, Width, Zstd};
use spill_core::conformance::{Fault, Faulty, Plan};
use spill_core::{Clock, Error, Frames, ManualClock, MutableMapping, Result, Usage};

use crate::memory::Memory;
use crate::samples::{counters, noise, ramp, random, sensor};

/// The length of most frames here.
const LEN: usize = 64 << 10;

/// What one of these tests owns: time, and how fast things are.
#[derive(Default)]
struct World {
    clock: Arc<ManualClock>,
    /// Picoseconds that storage takes for a byte.
    storage: AtomicU64,
    /// How many times slower than usual the processor is.
    load: AtomicU64,
    /// Bytes that compressors were given, and how often.
    compressed: AtomicU64,
    calls: AtomicU64,
}

impl World {
    fn new(storage: u64) -> Arc<Self> {
        Arc::new(World { storage: storage.into(), load: 1.into(), ..World::default() })
    }

    fn pass(&self, picos: u64) {
        self.clock.advance(Duration::from_nanos(picos / 1000));
    }
}

/// Storage that takes time.
struct Device(Arc<World>, Memory);

impl MutableMapping<u64, Frames> for Device {
    fn get(&self, key: &u64) -> Result<Option<Frames>> {
        self.1.get(key)
    }
    fn insert(&self, key: u64, value: Frames) -> Result<()> {
        self.0.pass(value.byte_len() * self.0.storage.load(SeqCst));
        self.1.insert(key, value)
    }
    fn remove(&self, key: &u64) -> Result<bool> {
        self.1.remove(key)
    }
    fn take(&self, key: &u64) -> Result<Option<Frames>> {
        self.1.take(key)
    }
    fn contains_key(&self, key: &u64) -> bool {
        self.1.contains_key(key)
    }
    fn len(&self) -> usize {
        self.1.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        self.1.for_each_key(f);
    }
    fn usage(&self) -> Usage {
        self.1.usage()
    }
}

/// A compressor that takes `picos` picoseconds for a byte and makes `share` of it.
///
/// Its first call takes longer by `first` picoseconds, as one that makes a context, and of frames that begin with a byte
/// other than zero it makes `hard` times as much.
struct Rung {
    world: Arc<World>,
    name: &'static str,
    picos: u64,
    share: f64,
    first: AtomicU64,
    hard: f64,
}

impl Compressor for Rung {
    fn id(&self) -> u8 {
        200
    }
    fn name(&self) -> &'static str {
        self.name
    }
    fn scratch_len(&self, len: usize) -> usize {
        len
    }
    fn compress(&self, frame: &[u8], scratch: &mut [u8]) -> Result<Option<usize>> {
        self.world.compressed.fetch_add(frame.len() as u64, SeqCst);
        self.world.calls.fetch_add(1, SeqCst);
        let first = self.first.swap(0, SeqCst);
        self.world.pass(first + frame.len() as u64 * self.picos * self.world.load.load(SeqCst));
        let is_hard = frame.first().is_some_and(|byte| *byte != 0);
        let share = self.share * if is_hard { self.hard } else { 1.0 };
        let len = (frame.len() as f64 * share) as usize;
        scratch[..len].fill(0);
        Ok(Some(len).filter(|len| *len < frame.len()))
    }
    fn largest_output(&self, _compressed: &[u8]) -> u64 {
        u64::MAX
    }
    fn decompress(&self, _compressed: &[u8], output: &mut [u8]) -> Result<()> {
        output.fill(0);
        Ok(())
    }
}

type Layer = Compress<Device>;

fn layer(world: &Arc<World>, adaptive: Adaptive) -> Layer {
    let device = Device(Arc::clone(world), Memory::default());
    Compress::new(adaptive, device).with_clock(Arc::clone(&world.clock) as _).with_threads(1)
}

/// Name, picoseconds for a byte and share of a [`Rung`].
type Figures = (&'static str, u64, f64);

/// A ladder from fast to small.
fn ladder_of(world: &Arc<World>, rungs: &[Figures]) -> Adaptive {
    let rung = |&(name, picos, share)| {
        let world = Arc::clone(world);
        Arc::new(Rung { world, name, picos, share, first: 0.into(), hard: 1.0 }) as Arc<dyn Compressor>
    };
    Adaptive::over(rungs.iter().map(rung).collect())
}

fn ladder(world: &Arc<World>) -> Adaptive {
    let rungs =
        [("light", 1_000, 0.6), ("middle", 4_000, 0.45), ("hard", 15_000, 0.35), ("hardest", 60_000, 0.3)];
    ladder_of(world, &rungs)
}

/// Writes frames of `make` until about `bytes` bytes went in; the share of them for each setting.
fn write(layer: &Layer, bytes: usize, make: impl Fn(u64) -> Bytes) -> Vec<(String, Width, f64)> {
    shares(layer, || {
        let (mut written, mut n) = (0, 0);
        while written < bytes {
            let frame = make(n);
            (written, n) = (written + frame.len(), n + 1);
            layer.insert(n % 8, frame.into()).unwrap();
        }
        written
    })
}

/// Runs `write`, which says how many bytes it wrote; the share of them for each setting.
fn shares<M>(layer: &Compress<M>, write: impl FnOnce() -> usize) -> Vec<(String, Width, f64)> {
    let before = layer.tallies();
    let written = write();
    let since = |tally: &Tally| {
        let same = |old: &&Tally| old.compressor == tally.compressor && old.width == tally.width;
        tally.bytes - before.iter().find(same).map_or(0, |old| old.bytes)
    };
    let share = |tally: &Tally| since(tally) as f64 / written as f64;
    layer.tallies().iter().map(|tally| (tally.compressor.clone(), tally.width, share(tally))).collect()
}

/// The setting that got most bytes, which must be nearly all.
fn favourite(shares: &[(String, Width, f64)]) -> (&str, Width) {
    let (name, width, share) = shares.iter().max_by(|a, b| a.2.total_cmp(&b.2)).unwrap();
    assert!(*share > 0.85, "no clear choice: {shares:?}");
    (name, *width)
}

#[test]
fn it_compresses_harder_as_the_writer_waits_for_storage_and_lighter_again() {
    let world = World::new(5_000);
    let layer = layer(&world, ladder(&world));
    let text = |_| Bytes::from("some words and some more, ".repeat(LEN / 26));
    // At 1 GB/s and more nothing pays, at 200 MB/s the lightest, and so on down to half a megabyte a second.
    let steps = [(5_000, "light"), (40_000, "middle"), (200_000, "hard"), (2_000_000, "hardest")];
    let down = [(200_000, "hard"), (40_000, "middle"), (5_000, "light"), (1_000, "none")];
    for (storage, expected) in steps.into_iter().chain(down) {
        world.storage.store(storage, SeqCst);
        write(&layer, 120 << 20, text);
        let shares = write(&layer, 8 << 20, text);
        assert_eq!(favourite(&shares).0, expected, "at {storage} ps a byte: {shares:?}");
    }
}

#[test]
fn it_compresses_lighter_when_the_processor_is_the_bottleneck() {
    let world = World::new(200_000);
    let layer = layer(&world, ladder(&world));
    let text = |_| Bytes::from("some words and some more, ".repeat(LEN / 26));
    write(&layer, 16 << 20, text);
    assert_eq!(favourite(&write(&layer, 16 << 20, text)).0, "hard");
    for (load, expected) in [(8, "middle"), (50, "light"), (500, "none"), (1, "hard")] {
        world.load.store(load, SeqCst);
        write(&layer, 300 << 20, text);
        let shares = write(&layer, 32 << 20, text);
        assert_eq!(favourite(&shares).0, expected, "{load} times slower: {shares:?}");
    }
}

#[test]
fn what_storage_refuses_at_once_does_not_make_it_look_fast() {
    let frame = Bytes::from("some words and some more, ".repeat(LEN / 26));
    let all_but_one = || (1..8).map(|key| Plan::always().key(key)).collect();
    let cases: [(&str, usize, Vec<Plan<u64>>); 3] = [
        ("each value", 1, vec![Plan::always()]),
        ("all of a batch", 8, vec![Plan::always()]),
        ("most of a batch", 8, all_but_one()),
    ];
    for (refused, batch, plans) in cases {
        let world = World::new(40_000);
        let device = Faulty::new(Device(Arc::clone(&world), Memory::default()));
        let layer =
            Compress::new(ladder(&world), device).with_clock(Arc::clone(&world.clock) as _).with_threads(1);
        let write = |bytes: usize| {
            shares(&layer, || {
                let count = bytes.div_ceil(frame.len()).next_multiple_of(8);
                let pairs: Vec<_> = (0..count as u64).map(|n| (n % 8, frame.clone().into())).collect();
                for pairs in pairs.chunks(batch) {
                    match pairs {
                        [(key, value)] => _ = layer.insert(*key, Frames::clone(value)),
                        pairs => _ = layer.insert_many(pairs.to_vec()),
                    }
                }
                count * frame.len()
            })
        };
        write(120 << 20);
        assert_eq!(favourite(&write(8 << 20)).0, "middle", "{refused}");
        plans.into_iter().for_each(|plan| layer.inner().inject(plan, Fault::full()));
        write(120 << 20);
        assert_eq!(favourite(&write(8 << 20)).0, "middle", "while {refused} is refused");
        assert!(layer.inner().struck() > 1000, "{refused}: {}", layer.inner().struck());
        layer.inner().heal();
        assert_eq!(favourite(&write(8 << 20)).0, "middle", "after {refused} was refused");
    }
}

/// What lz4 and zstd at levels 1, 3, 6 and 9 do with some kinds of data on one machine.
const KINDS: [(&str, [Figures; 5]); 4] = [
    ("noise", [("a", 50, 1.0), ("b", 110, 1.0), ("c", 110, 1.0), ("d", 260, 1.0), ("e", 460, 1.0)]),
    (
        "ramp",
        [("a", 140, 0.0077), ("b", 200, 0.0024), ("c", 205, 0.0025), ("d", 570, 0.002), ("e", 940, 0.0025)],
    ),
    (
        "sensor",
        [("a", 330, 0.56), ("b", 520, 0.537), ("c", 580, 0.534), ("d", 2_180, 0.53), ("e", 3_430, 0.53)],
    ),
    (
        "text",
        [
            ("a", 1_070, 0.238),
            ("b", 1_380, 0.158),
            ("c", 1_680, 0.149),
            ("d", 5_160, 0.126),
            ("e", 8_200, 0.123),
        ],
    ),
];

#[test]
fn it_comes_near_the_best_fixed_setting_in_time_and_in_room_on_fast_and_on_slow_storage() {
    let (frames, len) = (128, 1 << 20);
    for (kind, rungs) in KINDS {
        for storage in [250_u64, 2_000, 10_000, 50_000] {
            let cost = |picos: u64, share: f64| picos as f64 + share * storage as f64;
            let plain = (storage as f64, 1.0);
            let fixed = rungs.iter().map(|&(_, picos, share)| (cost(picos, share), share)).chain([plain]);
            let (best, share) = fixed.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            let world = World::new(storage);
            let layer = layer(&world, ladder_of(&world, &rungs));
            let frame =
                if kind == "noise" { noise(len, 1) } else { "some words and more ".repeat(len / 20).into() };
            let bytes = (frames * frame.len() as u64) as f64;
            for n in 0..frames {
                layer.insert(n % 2, frame.clone().into()).unwrap();
            }
            let time = world.clock.now().as_nanos() as f64 * 1e3 / bytes / best;
            let room = layer.tallies().iter().map(|tally| tally.stored).sum::<u64>() as f64 / bytes / share;
            let found = format!(
                "{kind}, {storage} ps a byte: {time} of the time, {room} of the room: {:#?}",
                layer.tallies()
            );
            assert!(time <= if share < 1.0 { 1.1 } else { 1.05 }, "{found}");
            assert!(room <= 1.0 / 0.9, "{found}");
        }
    }
}

#[test]
fn of_two_settings_that_take_about_as_long_the_smaller_is_chosen() {
    let world = World::new(10_000);
    let layer = layer(&world, ladder_of(&world, &[("fast", 1_000, 0.5), ("small", 4_000, 0.21)]));
    let text = |_| Bytes::from("some words and some more, ".repeat(LEN / 26));
    write(&layer, 8 << 20, text);
    assert_eq!(favourite(&write(&layer, 8 << 20, text)).0, "small");
}

#[test]
fn a_first_frame_that_shrinks_less_and_contexts_to_be_made_do_not_keep_the_smaller_setting_out() {
    // A ramp of float64 on storage of 100 MB/s, as it was measured: the two are nearly as fast, and the second stores a third.
    let world = World::new(10_000);
    let rung = |name, picos, share, first, hard| {
        let world = Arc::clone(&world);
        Arc::new(Rung { world, name, picos, share, first: AtomicU64::new(first), hard })
            as Arc<dyn Compressor>
    };
    let rungs = vec![
        rung("lz4", 80, 0.0068, 60_000_000, 4.0),
        rung("zstd", 125, 0.0025, 200_000_000, 4.5),
        rung("harder", 390, 0.0024, 1_500_000_000, 4.5),
    ];
    let layer = layer(&world, Adaptive::over(rungs));
    let (len, frames) = (1 << 20, 512);
    for n in 0..frames {
        let frame = Bytes::from(vec![u8::from(n == 0); len]);
        layer.insert(n % 2, frame.into()).unwrap();
    }
    let bytes = (frames * len as u64) as f64;
    let stored = layer.tallies().iter().map(|tally| tally.stored).sum::<u64>() as f64;
    assert!(stored / bytes <= 0.0025 / 0.9, "{:#?}", layer.tallies());
    let nanos = world.clock.now().as_nanos() as f64 / bytes;
    assert!(nanos <= 1.1 * (0.08 + 0.068), "{nanos}: {:#?}", layer.tallies());
}

/// A compressor that takes `picos` picoseconds for a byte and makes `share` of it, both times a 64th of the frame's first byte:
/// some frames are hard, as files of text are, and some easy.
struct Varied {
    world: Arc<World>,
    name: &'static str,
    picos: u64,
    share: f64,
}

impl Compressor for Varied {
    fn id(&self) -> u8 {
        202
    }
    fn name(&self) -> &'static str {
        self.name
    }
    fn scratch_len(&self, len: usize) -> usize {
        len
    }
    fn compress(&self, frame: &[u8], _scratch: &mut [u8]) -> Result<Option<usize>> {
        let hard = u64::from(frame.first().copied().unwrap_or_default());
        self.world.pass(frame.len() as u64 * self.picos * hard / 64);
        let len = (frame.len() as f64 * self.share * hard as f64 / 64.0) as usize;
        Ok(Some(len).filter(|len| *len < frame.len()))
    }
    fn largest_output(&self, _compressed: &[u8]) -> u64 {
        u64::MAX
    }
    fn decompress(&self, _compressed: &[u8], output: &mut [u8]) -> Result<()> {
        output.fill(0);
        Ok(())
    }
}

#[test]
fn that_some_frames_are_hard_and_some_easy_tells_neither_for_nor_against_a_setting() {
    let rungs = [("fast", 900, 0.25), ("small", 1_400, 0.16), ("smallest", 5_000, 0.08)];
    for storage in [2_000, 10_000, 100_000] {
        let cost = |picos: u64, share: f64| picos as f64 + share * storage as f64;
        let best = rungs.iter().map(|(_, picos, share)| cost(*picos, *share)).fold(f64::MAX, f64::min);
        let (mut sum, seeds) = (0.0, 20);
        for seed in 0..seeds {
            let world = World::new(storage);
            let rung = |(name, picos, share)| {
                Arc::new(Varied { world: Arc::clone(&world), name, picos, share }) as Arc<dyn Compressor>
            };
            let layer = layer(&world, Adaptive::over(rungs.map(rung).into()));
            let mut least = 0.0;
            for (n, number) in (0..96).zip(random(seed)) {
                let hard = [8, 24, 40, 56, 72, 88][(number >> 32) as usize % 6];
                layer.insert(n % 2, Bytes::from(vec![hard; 1 << 20]).into()).unwrap();
                least += f64::from(1 << 20) * f64::from(hard) / 64.0 * best;
            }
            sum += world.clock.now().as_nanos() as f64 * 1e3 / least;
        }
        let mean = sum / f64::from(seeds as u32);
        assert!(mean <= 1.15, "{storage} ps a byte: {mean} of the time of the best setting");
    }
}

#[test]
fn where_storing_as_it_is_takes_about_as_long_it_is_not_compressed() {
    let world = World::new(250);
    let layer = layer(&world, ladder_of(&world, &[("fast", 207, 0.17)]));
    for n in 0..512 {
        layer.insert(n % 2, Bytes::from(vec![7; 1 << 20]).into()).unwrap();
    }
    let nanos = world.clock.now().as_nanos() as f64 / (512 << 20) as f64;
    assert!(nanos <= 1.05 * 0.25, "{nanos}: {:#?}", layer.tallies());
}

#[test]
fn on_slow_storage_no_frame_is_stored_as_it_is_and_the_search_goes_on_at_once() {
    let text = KINDS[3].1;
    let world = World::new(10_000);
    let layer = layer(&world, ladder_of(&world, &text));
    for n in 0..16 {
        layer.insert(n % 2, Bytes::from(vec![7; 1 << 20]).into()).unwrap();
    }
    let tallies = layer.tallies();
    let frames = |name: &str| tallies.iter().find(|t| t.compressor == name).map_or(0, |tally| tally.frames);
    // Storage is known to be slow once two frames were written; a setting that stores less is best then.
    assert_eq!(frames("none"), 0, "{tallies:#?}");
    assert!(frames("a") <= 4 && frames("b") + frames("c") >= 12, "{tallies:#?}");
}

#[test]
fn on_fast_storage_one_frame_is_compressed_until_it_is_known() {
    let text = KINDS[3].1;
    let world = World::new(250);
    let layer = layer(&world, ladder_of(&world, &text));
    for n in 0..512 {
        layer.insert(n % 2, Bytes::from(vec![7; 1 << 20]).into()).unwrap();
    }
    let tallies = layer.tallies();
    assert!(tallies[0].compressor == "none" && tallies[0].frames >= 511, "{tallies:#?}");
}

#[test]
fn what_takes_about_as_long_as_storing_as_it_is_and_is_smaller_is_chosen_where_storage_is_not_fast() {
    for (storage, expected) in [(2_000, "small"), (250, "none")] {
        let world = World::new(storage);
        // Both at once take 97% of what storing as it is takes.
        let layer = layer(&world, ladder_of(&world, &[("small", storage * 67 / 100, 0.3)]));
        let text = |_| Bytes::from("some words and some more, ".repeat(LEN / 26));
        write(&layer, 8 << 20, text);
        assert_eq!(favourite(&write(&layer, 8 << 20, text)).0, expected, "{storage} ps a byte");
    }
}

#[test]
fn frames_that_look_nearly_alike_are_not_tried_on_anew() {
    let world = World::new(10_000);
    let layer = layer(&world, ladder(&world));
    // Bytes of so many kinds, each as frequent: a look says so many bits.
    let frame = |kinds: usize| Bytes::from_iter(noise(1 << 20, 3).into_iter().map(|byte| byte % kinds as u8));
    let calls = |frame: &Bytes| {
        let before = world.calls.load(SeqCst);
        layer.insert(1, frame.clone().into()).unwrap();
        world.calls.load(SeqCst) - before
    };
    let known = frame(8);
    (0..64).for_each(|_| _ = calls(&known));
    // A frame of a mebibyte is two blocks; a trial is two calls or three.
    let (alike, other) = (calls(&frame(16)), calls(&frame(2)));
    assert!(alike < 5 && other > 5, "{alike} calls for one that looks nearly alike, {other} for another");
}

#[test]
fn a_setting_that_is_much_worse_is_tried_again_and_stores_nothing() {
    let world = World::new(10_000);
    let layer = layer(&world, ladder_of(&world, &[("poor", 1_000, 0.2), ("good", 1_500, 0.01)]));
    let text = |_| Bytes::from("some words and some more, ".repeat(LEN / 26));
    write(&layer, 8 << 20, text);
    let before = world.calls.load(SeqCst);
    let shares = write(&layer, 64 << 20, text);
    assert_eq!(favourite(&shares), ("good", Width::One));
    assert!(shares.iter().all(|(name, _, share)| name == "good" || *share == 0.0), "{shares:?}");
    let frames = (64_u64 << 20).div_ceil(text(0).len() as u64);
    let tried = world.calls.load(SeqCst) - before - frames;
    assert!((2..40).contains(&tried), "tried {tried} times in {frames} frames");
}

#[test]
fn trying_many_settings_that_are_a_little_worse_costs_a_small_share_of_the_time() {
    let world = World::new(20_000);
    let mut rungs = [("worse", 12_000, 0.1); 9];
    rungs[0] = ("best", 9_000, 0.1);
    let layer = layer(&world, ladder_of(&world, &rungs));
    let text = |_| Bytes::from("some words and some more, ".repeat(LEN / 26));
    write(&layer, 64 << 20, text);
    let (before, bytes) = (world.clock.now(), 64 << 20);
    assert_eq!(favourite(&write(&layer, bytes, text)).0, "best");
    let nanos = (world.clock.now() - before).as_nanos() as f64 / bytes as f64;
    // Compressing and writing take 11 nanoseconds for a byte.
    assert!((11.01..11.28).contains(&nanos), "{nanos}");
}

/// Where two threads meet, again and again.
#[derive(Default)]
struct Meeting {
    arrived: Mutex<u64>,
    complete: Condvar,
}

impl Meeting {
    /// Waits for the other; whether it was here before. Nobody comes where there is but one thread, and that is to be an
    /// error, not a test that hangs: a minute is far more than any machine takes to start a thread.
    fn wait(&self) -> Result<bool> {
        let mut arrived = self.arrived.lock();
        *arrived += 1;
        let both = arrived.next_multiple_of(2);
        if *arrived == both {
            self.complete.notify_all();
            return Ok(true);
        }
        self.complete.wait_while_for(&mut arrived, |arrived| *arrived < both, Duration::from_secs(60));
        if *arrived < both { Err(Error::codec("together", "no second thread came")) } else { Ok(false) }
    }
}

/// Halves what it is given, a mebibyte at a time, and two threads at once: time passes when both are at it.
struct Together {
    world: Arc<World>,
    both: Meeting,
}

impl Compressor for Together {
    fn id(&self) -> u8 {
        201
    }
    fn name(&self) -> &'static str {
        "together"
    }
    fn block_len(&self) -> usize {
        1 << 20
    }
    fn scratch_len(&self, len: usize) -> usize {
        len
    }
    fn compress(&self, frame: &[u8], _scratch: &mut [u8]) -> Result<Option<usize>> {
        let is_piece = frame.len() < self.block_len();
        if is_piece || self.both.wait()? {
            self.world.pass(frame.len() as u64 * 6_000);
        }
        if !is_piece {
            // Neither has ended before time passed.
            self.both.wait()?;
        }
        Ok(Some(frame.len() / 2))
    }
    fn largest_output(&self, _compressed: &[u8]) -> u64 {
        u64::MAX
    }
    fn decompress(&self, _compressed: &[u8], output: &mut [u8]) -> Result<()> {
        output.fill(0);
        Ok(())
    }
}

#[test]
fn what_two_threads_share_costs_the_writer_half_the_time() {
    let world = World::new(10_000);
    let together = Together { world: Arc::clone(&world), both: Meeting::default() };
    // For one thread, compressing and writing half take 11 nanoseconds for a byte, writing all of it 10.
    let layer = layer(&world, Adaptive::over(vec![Arc::new(together)])).with_threads(2);
    let two_blocks = |_| Bytes::from(vec![7; 2 << 20]);
    write(&layer, 16 << 20, two_blocks);
    assert_eq!(favourite(&write(&layer, 32 << 20, two_blocks)).0, "together");
    let tally = layer.tallies().pop().unwrap();
    assert_eq!(tally.time.as_nanos(), u128::from(tally.bytes) * 6, "what both worked is counted");
}

#[test]
fn each_choice_is_explained_by_frames_bytes_ratio_and_time() {
    let world = World::new(5_000);
    let layer = layer(&world, ladder(&world));
    let value = |_| Bytes::from(vec![7; LEN]);
    write(&layer, 64 * LEN, value);
    let tallies = layer.tallies();
    let of = |name: &str| tallies.iter().find(|tally| tally.compressor == name).unwrap();
    assert_eq!(tallies.iter().map(|tally| tally.frames).sum::<u64>(), 64);
    assert_eq!(tallies.iter().map(|tally| tally.bytes).sum::<u64>(), 64 * LEN as u64);
    let light = of("light");
    assert_eq!(light.stored, light.frames * (LEN as f64 * 0.6) as u64);
    assert!((light.ratio() - 1.0 / 0.6).abs() < 0.01);
    assert_eq!(light.time, Duration::from_nanos(light.bytes));
}

#[test]
fn the_width_of_items_is_found_and_used() {
    let (frame, total) = (LEN, 8 << 20);
    // Where storage is slow and compressing takes no time, the smallest result wins.
    let chosen = |make: &dyn Fn(u64) -> Bytes| {
        let world = World::new(50_000);
        let layer = layer(&world, Adaptive::over(vec![Arc::new(Lz4)]));
        let shares = write(&layer, total, make);
        favourite(&shares).1
    };
    assert_eq!(chosen(&|n| ramp(frame, n as u32 * 1000)), Width::Eight, "float64 ramp");
    assert_eq!(chosen(&|n| counters(frame, n as u32 * 1000)), Width::Four, "int32 counters");
    assert_eq!(chosen(&|n| sensor(frame, n)), Width::Four, "float32 noise");
}

#[test]
fn incompressible_frames_cost_a_look_and_hardly_a_call() {
    for len in [4 << 10, LEN, 1 << 20] {
        let world = World::new(1_000);
        let layer = layer(&world, ladder_of(&world, &[("resists", 1_000, 1.0); 2]));
        let frame = noise(len, 9);
        let count = (256 << 20) / len as u64;
        for n in 0..count {
            layer.insert(n % 4, frame.clone().into()).unwrap();
        }
        let share = world.compressed.load(SeqCst) as f64 / (count * len as u64) as f64;
        assert!(share < 0.02, "{len}: {share} of the bytes went through a compressor");
        let calls = world.calls.load(SeqCst);
        assert!(calls < 10 + 2 * count / 50, "{len}: {calls} calls for {count} frames");
        let stored = layer.tallies().iter().map(|tally| tally.stored).sum::<u64>();
        assert_eq!(stored, count * len as u64, "and nothing grew");
    }
}

/// A frame that looks like numbers wherever it is looked at, and is noise between.
fn deceptive(len: usize, seed: u64) -> Bytes {
    let mut frame = noise(len, seed).to_vec();
    for row in frame.chunks_mut(16).skip(3).step_by(4) {
        row.fill(0);
        row[0] = seed as u8;
    }
    frame.into()
}

#[test]
fn a_wrong_guess_never_grows_a_value_beyond_its_header() {
    let world = World::new(50_000);
    let layer = layer(&world, Adaptive::over(vec![Arc::new(Lz4), Arc::new(Zstd::default())]));
    let insert = |frame: Bytes| {
        let len = frame.len() as u64;
        layer.insert(1, frame.into()).unwrap();
        let stored = layer.inner().1.stored_size(&1).unwrap().disk;
        assert!(stored <= len + 16, "{len} bytes became {stored}");
    };
    for n in 0..200 {
        // The same class of frames, as far as a look tells, shrinks well, then resists.
        insert(if n < 100 { ramp(LEN, n * 1000) } else { deceptive(LEN, n.into()) });
    }
    let mut sizes = random(5);
    for n in 0..200 {
        let len = sizes.next().unwrap() as usize % 200_000;
        insert(deceptive(len, n));
        insert(noise(len, n));
    }
}
