//! A hit in fast memory. The peer is the `lru` crate behind a parking_lot mutex, with the same keys and values.

use std::cell::Cell;
use std::hash::Hash;
use std::sync::Arc;

use lru::LruCache;
use overspill::{BufferBuilder, Lru, MutableMapping};
use parking_lot::Mutex;

use crate::harness::{Better, Row, Run, Unit, pair, timed};

const HITS: u64 = 4_000_000;

pub fn run(rounds: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for keys in [10_000, 1_000_000] {
        for threads in [1, 2] {
            let integers: Vec<u64> = (0..keys).collect();
            let strings: Vec<String> = (0..keys).map(|n| format!("task-{n:012}")).collect();
            rows.push(hit("integer", &integers, threads, rounds));
            rows.push(hit("string", &strings, threads, rounds));
        }
    }
    rows
}

fn hit<K>(kind: &str, keys: &[K], threads: usize, rounds: usize) -> Row
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
{
    let what = format!("hit, {} keys ({kind}), {threads} thread(s)", keys.len());
    let goal = if threads == 1 { 1.1 } else { 1.15 };
    let ours: Lru<K, Arc<u64>> = BufferBuilder::weighed_by(|_: &K, _: &Arc<u64>| 32).alone().unwrap();
    let peer = Mutex::new(LruCache::unbounded());
    // both hold the same values, made beforehand: else whose nodes lie beside their values would be ahead
    let values: Vec<Arc<u64>> = (0..keys.len() as u64).map(Arc::new).collect();
    for (key, value) in keys.iter().zip(&values) {
        ours.insert(key.clone(), Arc::clone(value)).unwrap();
    }
    for (key, value) in keys.iter().zip(&values) {
        peer.lock().put(key.clone(), Arc::clone(value));
    }
    // every thread has its own random walk over the keys, the same for both
    let walks: Vec<Vec<u32>> = (0..threads)
        .map(|thread| {
            let mut random = fastrand::Rng::with_seed(thread as u64 + 1);
            (0..HITS / threads as u64).map(|_| random.u32(0..keys.len() as u32)).collect()
        })
        .collect();
    let (our_round, peer_round) = (Cell::new(0), Cell::new(0));
    pair(
        &what,
        Unit::NanosEach(HITS),
        Some((Better::LessTime, goal)),
        rounds,
        || walk(&walks, keys, next(&our_round), |key| *ours.get(key).unwrap().unwrap()),
        || {
            walk(&walks, keys, next(&peer_round), |key| {
                let value = peer.lock().get(key).cloned();
                *value.unwrap()
            })
        },
    )
}

fn next(round: &Cell<usize>) -> usize {
    round.replace(round.get() + 1)
}

/// Times `get` along every walk, each in a thread of its own. Called as a program calls it, not through a
/// pointer.
fn walk<K: Sync>(walks: &[Vec<u32>], keys: &[K], round: usize, get: impl Fn(&K) -> u64 + Sync) -> Run {
    timed(|| {
        std::thread::scope(|scope| {
            for walk in walks {
                scope.spawn(|| {
                    deeper(round % 7, &mut || {
                        let sum = walk.iter().fold(0u64, |sum, &n| sum.wrapping_add(get(&keys[n as usize])));
                        std::hint::black_box(sum);
                    });
                });
            }
        })
    })
}

/// Runs `f` so many frames further down the stack. The lowest twelve bits of an address on it may be those of one on the
/// heap that the loop reads, which then waits for what is stored: twice the time, in either path and by luck alone. Stack
/// and heap begin at a page wherever the process is, so each of seven rounds has another place within it (Mytkowicz et al.,
/// Producing Wrong Data Without Doing Anything Obviously Wrong, 2009).
#[inline(never)]
fn deeper(frames: usize, f: &mut impl FnMut()) {
    let frame = std::hint::black_box([0_u8; 544]);
    if frames == 0 {
        f()
    } else {
        deeper(frames - 1, f)
    }
    std::hint::black_box(&frame);
}
