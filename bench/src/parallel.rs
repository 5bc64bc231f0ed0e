//! Whether two threads do more than one: writing long values, and reading short ones back.

use bytes::Bytes;
use overspill::{Frames, MutableMapping};

use crate::chain::{segments, values};
use crate::harness::{Row, Run, Unit, pair, settle, timed};

const LONG: usize = 1 << 20;
const WRITES: usize = 1024;
const SHORT: usize = 4096;
const READS: usize = 200_000;

pub fn run(rounds: usize) -> Vec<Row> {
    let home = tempfile::tempdir().unwrap();
    let long = frames(WRITES, LONG);
    let write = |threads| {
        settle(home.path(), WRITES * LONG);
        let segments = segments(home.path());
        each_its_part(&long, threads, |n, value| segments.insert(n, value.clone()).unwrap())
    };
    let writing = pair(
        "1 MiB: writing with two threads, beside one",
        Unit::GibPerSecond((WRITES * LONG) as u64),
        None,
        rounds,
        || write(2),
        || write(1),
    );
    drop(long);
    let short = frames(READS, SHORT);
    let segments = segments(home.path());
    (0..).zip(&short).for_each(|(n, value)| segments.insert(n, value.clone()).unwrap());
    segments.flush().unwrap();
    let read = |threads| {
        each_its_part(&short, threads, |n, value| {
            // places that follow one another were written side by side
            let key = n * 7919 % READS as u64;
            assert_eq!(segments.get(&key).unwrap().unwrap().byte_len(), value.byte_len());
        })
    };
    let unit = Unit::ThousandsPerSecond(READS as u64);
    vec![
        writing,
        pair("4 KiB: reading back with two threads, beside one", unit, None, rounds, || read(2), || read(1)),
    ]
}

fn frames(count: usize, len: usize) -> Vec<Frames> {
    values(count, len).into_iter().map(|value: Bytes| Frames::from(value)).collect()
}

/// Gives each thread its share of the values.
fn each_its_part(values: &[Frames], threads: usize, work: impl Fn(u64, &Frames) + Sync) -> Run {
    timed(|| {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let work = &work;
                let part = (thread..values.len()).step_by(threads);
                scope.spawn(move || part.for_each(|n| work(n as u64, &values[n])));
            }
        });
    })
}
