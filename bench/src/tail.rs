//! The slowest of a thousand: a hit, and a 4 KiB read from disk, while another thread spills.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use bytes::Bytes;

use crate::chain::{disk, values};
use crate::harness::{Better, Row, row};
use crate::peers::{Fjall, Foyer, Locked, Redb, Store};

const LEN: usize = 4096;
const MEMORY: usize = 64 << 20;
const KEYS: u64 = 80_000;
const SAMPLES: usize = 300_000;

/// Reads before those that are timed.
const WARMING: usize = 5000;

pub fn run(rounds: usize) -> Vec<Row> {
    let values = values(4096, LEN);
    let home = tempfile::tempdir().unwrap();
    let rounds = rounds.min(5);

    let map = filled(disk(MEMORY as u64, home.path()), &values);
    let folder = || tempfile::tempdir_in(home.path()).unwrap();
    let evicted = folder();
    let peer = filled(Locked::open(evicted.path(), MEMORY / LEN, KEYS * LEN as u64), &values);
    let (mut alone, mut locked) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (without, with, peer) =
            (hits(&map, &values, false), hits(&map, &values, true), hits(&peer, &values, true));
        eprintln!(
            "  hit, 99.9%: round {round}: {without:.0} ns alone, {with:.0} ns beside spilling, {peer:.0} ns behind a mutex"
        );
        if round > 0 {
            alone.push((with, without));
            locked.push((with, peer));
        }
    }
    drop(peer);
    let hits_row = |what, goal, rounds: &[(f64, f64)]| {
        let nanos = |nanos| format!("{nanos:.0} ns");
        row(what, goal, rounds, |ours, peer| ours / peer, nanos, "both threads want a core".to_owned())
    };
    let mut rows = vec![
        hits_row(
            "99.9% of hits take at most, beside spilling; the peer is the same alone",
            Some((Better::LessTime, 3.0)),
            &alone,
        ),
        hits_row(
            "the same; the peer is the lru crate behind a mutex, beside appending what it evicts",
            None,
            &locked,
        ),
    ];

    let (redb, fjall, foyer) = (folder(), folder(), folder());
    let peer = filled(Redb::open(redb.path(), MEMORY), &values);
    rows.push(slow_row("redb", &map, &peer, &values, rounds));
    drop(peer);
    let peer = filled(Fjall::open(fjall.path(), MEMORY as u64), &values);
    rows.push(slow_row("fjall", &map, &peer, &values, rounds));
    drop(peer);
    let peer = filled(Foyer::open(foyer.path(), MEMORY, 2 << 30), &values);
    rows.push(slow_row("foyer", &map, &peer, &values, rounds));
    rows
}

/// Reads of ours and of the peer in turn, each beside a thread that spills into the same store as fast as it can.
fn slow_row(name: &str, ours: &impl Store, peer: &impl Store, values: &[Bytes], rounds: usize) -> Row {
    let (mut runs, mut pace, mut lost) = (Vec::new(), [0.0, 0.0], 0.0);
    for round in 0..=rounds {
        let (mine, other) = if round % 2 == 0 {
            let mine = slow(ours, values);
            (mine, slow(peer, values))
        } else {
            let other = slow(peer, values);
            (slow(ours, values), other)
        };
        let (x, y) = (mine.nanos, other.nanos);
        eprintln!("  4 KiB reads, 99.9%: round {round}: {x:.0} ns, {name} {y:.0} ns");
        if round > 0 {
            runs.push((x, y));
            let add = |sum: &mut f64, more: f64| *sum += more / rounds as f64;
            add(&mut pace[0], mine.spilled);
            add(&mut pace[1], other.spilled);
            add(&mut lost, other.lost);
        }
    }
    let what = format!("99.9% of 4 KiB reads take at most, beside spilling and {name}");
    let [ours, peers] = pace.map(|each_second| each_second / 1e3);
    let lost = lost * 100.0;
    let note = format!(
        "{ours:.0} and {peers:.0} k/s spilled meanwhile; {name} had lost {lost:.0}% of what was read"
    );
    let micros = |nanos: f64| format!("{:.1} us", nanos / 1e3);
    row(&what, None, &runs, |ours, peer| ours / peer, micros, note)
}

/// What reads took beside spilling.
struct Sampled {
    /// Nanoseconds that 999 of 1000 took at most.
    nanos: f64,
    /// The share of them whose value was lost.
    lost: f64,
    /// Values that were spilled meanwhile, in a second.
    spilled: f64,
}

/// A thousand keys that are asked for again and again, and so are never evicted.
fn hits(store: &impl Store, values: &[Bytes], spilling: bool) -> f64 {
    let sampled = sampled(store, values, spilling, |n| KEYS - 1000 + n as u64 * 7 % 1000);
    assert_eq!(sampled.lost, 0.0);
    sampled.nanos
}

fn filled<S: Store>(store: S, values: &[Bytes]) -> S {
    (0..KEYS).for_each(|key| store.insert(key, &values[key as usize % values.len()]));
    store
}

fn slow(store: &impl Store, values: &[Bytes]) -> Sampled {
    let mut random = fastrand::Rng::with_seed(9);
    let keys: Vec<u64> = (0..SAMPLES).map(|_| random.u64(..KEYS)).collect();
    sampled(store, values, true, |n| keys[n])
}

fn sampled(store: &impl Store, values: &[Bytes], spilling: bool, key: impl Fn(usize) -> u64) -> Sampled {
    let done = AtomicBool::new(false);
    let inserted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        if spilling {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    let n = inserted.fetch_add(1, Relaxed);
                    store.insert(KEYS + n % KEYS, &values[n as usize % values.len()]);
                }
            });
        }
        // What other rounds left cold is not a question here: a thousand keys are more than one in a thousand samples.
        (0..WARMING).for_each(|n| _ = std::hint::black_box(store.read(key(n))));
        // Touched once before: a page fault of its own in each 500 reads would be among the slowest of 1000.
        let mut took = vec![1; SAMPLES];
        let mut lost = 0;
        let (before, begin) = (inserted.load(Relaxed), Instant::now());
        for (n, took) in took.iter_mut().enumerate() {
            let key = key(n);
            let start = Instant::now();
            let found = std::hint::black_box(store.read(key));
            *took = start.elapsed().as_nanos() as u64;
            lost += u32::from(found.is_none());
        }
        let spilled = (inserted.load(Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
        done.store(true, Relaxed);
        took.sort_unstable();
        let nanos = took[SAMPLES - SAMPLES / 1000] as f64;
        Sampled { nanos, lost: f64::from(lost) / SAMPLES as f64, spilled }
    })
}
