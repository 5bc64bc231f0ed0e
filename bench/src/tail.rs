//! The slowest of a thousand: a hit, and a 4 KiB read from disk, while another thread spills.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
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

    let (ours, _) = slow(&map, &values);
    drop(map);
    let (redb, fjall, foyer) = (folder(), folder(), folder());
    for (name, (peer, lost)) in [
        ("redb", slow(&filled(Redb::open(redb.path(), MEMORY), &values), &values)),
        ("fjall", slow(&filled(Fjall::open(fjall.path(), MEMORY as u64), &values), &values)),
        ("foyer", slow(&filled(Foyer::open(foyer.path(), MEMORY, 2 << 30), &values), &values)),
    ] {
        rows.push(Row {
            what: format!("99.9% of 4 KiB reads take at most, beside spilling and {name}"),
            ours: format!("{:.1} us", ours / 1e3),
            peer: format!("{:.1} us", peer / 1e3),
            ratio: ours / peer,
            spread: (ours / peer, ours / peer),
            goal: None,
            note: format!("one run; {name} had lost {:.0}% of what was read", lost * 100.0),
        });
    }
    rows
}

/// A thousand keys that are asked for again and again, and so are never evicted.
fn hits(store: &impl Store, values: &[Bytes], spilling: bool) -> f64 {
    let (nanos, lost) = sampled(store, values, spilling, |n| KEYS - 1000 + n as u64 * 7 % 1000);
    assert_eq!(lost, 0.0);
    nanos
}

fn filled<S: Store>(store: S, values: &[Bytes]) -> S {
    (0..KEYS).for_each(|key| store.insert(key, &values[key as usize % values.len()]));
    store
}

fn slow(store: &impl Store, values: &[Bytes]) -> (f64, f64) {
    let mut random = fastrand::Rng::with_seed(9);
    let keys: Vec<u64> = (0..SAMPLES).map(|_| random.u64(..KEYS)).collect();
    sampled(store, values, true, |n| keys[n])
}

/// Nanoseconds that 999 of 1000 reads take at most, and the share of them whose value was lost.
fn sampled(store: &impl Store, values: &[Bytes], spilling: bool, key: impl Fn(usize) -> u64) -> (f64, f64) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if spilling {
            scope.spawn(|| {
                let mut n = 0;
                while !done.load(Relaxed) {
                    store.insert(KEYS + n % KEYS, &values[n as usize % values.len()]);
                    n += 1;
                }
            });
        }
        // What other rounds left cold is not a question here: a thousand keys are more than one in a thousand samples.
        (0..WARMING).for_each(|n| _ = std::hint::black_box(store.read(key(n))));
        // Touched once before: a page fault of its own in each 500 reads would be among the slowest of 1000.
        let mut took = vec![1; SAMPLES];
        let mut lost = 0;
        for (n, took) in took.iter_mut().enumerate() {
            let key = key(n);
            let start = Instant::now();
            let found = std::hint::black_box(store.read(key));
            *took = start.elapsed().as_nanos() as u64;
            lost += u32::from(found.is_none());
        }
        done.store(true, Relaxed);
        took.sort_unstable();
        (took[SAMPLES - SAMPLES / 1000] as f64, f64::from(lost) / SAMPLES as f64)
    })
}
