//! Compressors on one thread: ours through the layer, beside the libraries and c-blosc2.

mod adaptive;
mod corpus;
mod peers;
mod shelf;

use overspill::{Compress, Compression, MutableMapping, Pool, Width};

use crate::harness::{Better, Row};
use corpus::{Data, VALUE};
use peers::{Blosc, Lz4Flex, Peer, RawLz4, RawZstd};
use shelf::Shelf;

pub use adaptive::run as run_adaptive;

/// Seconds in and out for all values of one kind, and the bytes that they became.
#[derive(Clone, Copy)]
struct Speed {
    pack: f64,
    unpack: f64,
    stored: u64,
}

/// Processor seconds of this thread: what it waits for a core says nothing of a compressor.
fn now() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The layer on one thread, over storage that costs nothing. One layer serves all rounds, as in a program.
struct Ours(Compress<Shelf>);

impl Ours {
    fn new(compression: &str) -> Self {
        let compression: Compression = compression.parse().unwrap();
        Ours(Compress::new(compression, Shelf::default()).with_pool(Pool::default()).with_threads(1))
    }

    fn run(&self, data: &Data) -> Speed {
        let begun = now();
        for (key, value) in (0..).zip(&data.values) {
            self.0.insert(key, value.clone().into()).unwrap();
        }
        let pack = now() - begun;
        let mut unpack = 0.0;
        for (key, value) in (0..).zip(&data.values) {
            let begun = now();
            let read = self.0.get(&key).unwrap().unwrap();
            unpack += now() - begun;
            assert!(read.into_single().unwrap() == value);
        }
        Speed { pack, unpack, stored: self.0.usage().spilled.disk }
    }
}

/// A peer that keeps each compressed value, as storage would, in memory that is used again.
struct Theirs {
    peer: Box<dyn Peer>,
    kept: Vec<Vec<u8>>,
    output: Vec<u8>,
}

impl Theirs {
    fn new(peer: impl Peer + 'static) -> Self {
        Theirs { peer: Box::new(peer), kept: Vec::new(), output: vec![0; VALUE] }
    }

    fn run(&mut self, data: &Data) -> Speed {
        self.kept.resize_with(data.values.len(), Vec::new);
        let begun = now();
        for (value, kept) in data.values.iter().zip(&mut self.kept) {
            self.peer.compress(value, kept);
        }
        let pack = now() - begun;
        let mut unpack = 0.0;
        for (value, kept) in data.values.iter().zip(&self.kept) {
            let begun = now();
            self.peer.decompress(kept, &mut self.output);
            unpack += now() - begun;
            assert!(self.output[..] == value[..]);
        }
        Speed { pack, unpack, stored: self.kept.iter().map(|kept| kept.len() as u64).sum() }
    }
}

/// Ours and the peer in turn; three rows: speed in, speed out, ratio.
fn compared(
    data: &Data,
    ours_name: &str,
    peer_name: &str,
    peer: Theirs,
    goal: Option<f64>,
    rounds: usize,
) -> Vec<Row> {
    let (ours, mut peer) = (Ours::new(ours_name), peer);
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        let (a, b) = if round % 2 == 0 {
            let a = ours.run(data);
            (a, peer.run(data))
        } else {
            let b = peer.run(data);
            (ours.run(data), b)
        };
        if round > 0 {
            pairs.push((a, b));
        }
    }
    let bytes = (data.values.len() * VALUE) as f64;
    let row = |what: &str, show: &dyn Fn(Speed) -> f64, digits: usize, unit: &str| {
        let median = |mut list: Vec<f64>| {
            list.sort_by(f64::total_cmp);
            list[list.len() / 2]
        };
        let ratios: Vec<f64> = pairs.iter().map(|(a, b)| show(*a) / show(*b)).collect();
        let spread = ratios.iter().fold((f64::MAX, f64::MIN), |(low, high), &r| (low.min(r), high.max(r)));
        let text = |list: Vec<f64>| format!("{:.digits$}{unit}", median(list));
        Row {
            what: format!("{}: {ours_name} / {peer_name}, {what}", data.name),
            ours: text(pairs.iter().map(|(a, _)| show(*a)).collect()),
            peer: text(pairs.iter().map(|(_, b)| show(*b)).collect()),
            ratio: median(ratios),
            spread,
            goal: goal.map(|goal| (Better::MoreSpeed, goal)),
            note: String::new(),
        }
    };
    vec![
        row("in", &|speed| bytes / 1e6 / speed.pack, 0, " MB/s"),
        row("out", &|speed| bytes / 1e6 / speed.unpack, 0, " MB/s"),
        row("ratio", &|speed| bytes / speed.stored as f64, 2, ""),
    ]
}

fn shuffled(name: &str, width: Width) -> String {
    if width == Width::One { name.to_owned() } else { format!("{name}+shuffle{}", width.bytes()) }
}

/// c-blosc2 at its levels 1, 5 and 9, and what it calls so of each codec.
pub fn run(rounds: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for data in corpus::all(16 * VALUE) {
        // Of zstd, c-blosc2's levels are levels of the library. Of lz4 they are accelerations, of which we need
        // one at the lowest level alone, for what is shuffled.
        let lz4 = if data.width == Width::One { ["lz4"; 3] } else { ["lz4:9", "lz4", "lz4"] };
        for (level, lz4, zstd) in [(1, lz4[0], "zstd:1"), (5, lz4[1], "zstd:9"), (9, lz4[2], "zstd:22")] {
            for (ours, is_zstd) in [(lz4, false), (zstd, true)] {
                eprintln!("  {}: {ours}", data.name);
                // The hardest level takes seconds for a megabyte.
                let part = if zstd == "zstd:22" && is_zstd { 2 } else { data.values.len() };
                let data = Data { name: data.name, width: data.width, values: data.values[..part].to_vec() };
                let peer = Theirs::new(Blosc::new(is_zstd, level, data.width));
                let peer_name = format!("c-blosc2 {} {level}", if is_zstd { "zstd" } else { "lz4" });
                rows.extend(compared(
                    &data,
                    &shuffled(ours, data.width),
                    &peer_name,
                    peer,
                    Some(0.95),
                    rounds,
                ));
            }
        }
    }
    rows
}

/// The libraries themselves, without shuffle.
pub fn run_raw(rounds: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for data in corpus::all(16 * VALUE) {
        eprintln!("  {}", data.name);
        rows.extend(compared(&data, "lz4", "lz4", Theirs::new(RawLz4), None, rounds));
        rows.extend(compared(&data, "lz4", "lz4_flex", Theirs::new(Lz4Flex), None, rounds));
        for level in [-5, 1, 3, 9] {
            let name = format!("zstd:{level}");
            rows.extend(compared(&data, &name, &name, Theirs::new(RawZstd::new(level)), None, rounds));
        }
        rows.extend(compared(&data, "adaptive", "zstd:1", Theirs::new(RawZstd::new(1)), None, rounds));
    }
    rows
}
