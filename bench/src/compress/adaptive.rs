//! `Adaptive` from end to end: values into segment files until storage has them all, on this disk and on storage
//! that takes only so much a second. Beside no compression, and beside the fixed setting that turned out best.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use overspill::{
    Compress, Compression, Frames, MutableMapping, Result, Segments, SegmentsConfig, Usage, Workspace,
};
use parking_lot::Mutex;

use super::corpus::{self, VALUE};
use crate::harness::{Better, Row, settle};

const FIXED: [&str; 9] = [
    "none",
    "lz4",
    "zstd:1",
    "zstd:3",
    "zstd:6",
    "lz4+shuffle4",
    "lz4+shuffle8",
    "zstd:1+shuffle8",
    "zstd:1+shuffle4",
];

/// How much later than it was to, at most, a sleep usually ends.
const LATE: Duration = Duration::from_micros(200);

/// How long a run should take at least, and how often its values are written for that at most.
const LEAST_SECONDS: f64 = 0.1;
const MOST_AGAIN: usize = 8;

/// Storage that takes at most so many bytes a second: whoever is early waits.
struct Throttled {
    inner: Segments<u64>,
    rate: Option<f64>,
    /// When all that was handed over would be written.
    free: Mutex<Instant>,
}

impl Throttled {
    fn pass(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let due = {
            let mut free = self.free.lock();
            *free = (*free).max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / rate);
            *free
        };
        // A sleep is some 60 microseconds too long, four times what a short value takes.
        std::thread::sleep(due.saturating_duration_since(Instant::now()).saturating_sub(LATE));
        while Instant::now() < due {
            std::hint::spin_loop();
        }
    }
}

impl MutableMapping<u64, Frames> for Throttled {
    fn get(&self, key: &u64) -> Result<Option<Frames>> {
        self.inner.get(key)
    }
    fn insert(&self, key: u64, value: Frames) -> Result<()> {
        let bytes = value.byte_len();
        self.inner.insert(key, value)?;
        self.pass(bytes);
        Ok(())
    }
    fn remove(&self, key: &u64) -> Result<bool> {
        self.inner.remove(key)
    }
    fn take(&self, key: &u64) -> Result<Option<Frames>> {
        self.inner.take(key)
    }
    fn contains_key(&self, key: &u64) -> bool {
        self.inner.contains_key(key)
    }
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        self.inner.for_each_key(f);
    }
    fn usage(&self) -> Usage {
        self.inner.usage()
    }
    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}

/// Seconds, and the ratio.
#[derive(Clone, Copy)]
struct Outcome {
    seconds: f64,
    ratio: f64,
}

/// Writes `values`, `times` times, each under a key of its own.
fn write(home: &Path, name: &str, rate: Option<f64>, values: &[Bytes], times: usize) -> Outcome {
    let bytes = values.len() * times * VALUE;
    settle(home, bytes);
    let segments = Segments::open(SegmentsConfig::new(Workspace::open(Some(home)).unwrap())).unwrap();
    let storage = Throttled { inner: segments, rate, free: Mutex::new(Instant::now()) };
    let mapping = Compress::new(name.parse::<Compression>().unwrap(), storage);
    let begun = Instant::now();
    for (key, value) in (0..).zip(values.iter().cycle().take(values.len() * times)) {
        mapping.insert(key, value.clone().into()).unwrap();
    }
    mapping.flush().unwrap();
    let seconds = begun.elapsed().as_secs_f64();
    if std::env::var_os("OVERSPILL_BENCH_TALLIES").is_some() {
        mapping.tallies().iter().for_each(|tally| eprintln!("    {tally:?}"));
    }
    let ratio = bytes as f64 / mapping.usage().spilled.disk as f64;
    mapping.close().unwrap();
    Outcome { seconds, ratio }
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}

pub fn run(rounds: usize) -> Vec<Row> {
    let home = tempfile::tempdir().unwrap();
    let mut kinds: Vec<(String, Vec<Bytes>)> = corpus::all(64 * VALUE)
        .into_iter()
        .filter(|data| data.name != "SQLite file" && data.name != "JSON lines")
        .map(|data| (data.name.to_owned(), data.values))
        .collect();
    let mixed =
        (0..64).flat_map(|n| kinds.iter().map(move |(_, values)| values[n].clone())).take(96).collect();
    kinds.push(("all of these in turn".to_owned(), mixed));
    let mut rows = Vec::new();
    // Fast storage gets more, so that a run takes long enough to be timed.
    let storages = [(None, "this disk", 3), (Some(500e6), "500 MB/s", 2), (Some(100e6), "100 MB/s", 1)];
    for (rate, speed, times) in storages {
        for (name, values) in &kinds {
            eprintln!("  {name}, {speed}");
            let run = |setting: &str| write(home.path(), setting, rate, values, times);
            run("none");
            // Which fixed setting is the best here is found in rounds of their own: one of all, three of the three
            // that were fastest.
            let mut fixed = FIXED.map(|setting| (run(setting).seconds, setting));
            fixed.sort_by(|a, b| a.0.total_cmp(&b.0));
            let finalists = fixed[..3].iter().map(|(_, setting)| {
                (median(vec![run(setting).seconds, run(setting).seconds, run(setting).seconds]), *setting)
            });
            let (seconds, best) = finalists.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            // What is stored in a few milliseconds is stored several times over, so that it can be timed.
            let again = ((LEAST_SECONDS / seconds).ceil() as usize).clamp(1, MOST_AGAIN);
            let long = |setting: &str| {
                let outcome = write(home.path(), setting, rate, values, times * again);
                Outcome { seconds: outcome.seconds / again as f64, ..outcome }
            };
            let mut outcomes = Vec::new();
            // The page cache takes bytes at a speed that differs most from run to run, and the runs are short.
            let rounds = if rate.is_none() { 3 * rounds } else { rounds };
            for round in 0..rounds {
                // Each of the three goes first in its turn.
                let mut outcome = [None; 3];
                for n in (0..3).map(|n| (n + round) % 3) {
                    outcome[n] = Some(match n {
                        0 => long("adaptive"),
                        1 => long("none"),
                        _ => long(best),
                    });
                }
                outcomes.push(outcome.map(Option::unwrap));
            }
            let row = |what: String, f: &dyn Fn(&[Outcome; 3]) -> (f64, f64), unit: &str, goal| {
                let ratios: Vec<f64> = outcomes.iter().map(|run| f(run).0 / f(run).1).collect();
                let spread =
                    ratios.iter().fold((f64::MAX, f64::MIN), |(low, high), &r| (low.min(r), high.max(r)));
                Row {
                    what: format!("{name}, {speed}: {what}"),
                    ours: format!("{:.3}{unit}", median(outcomes.iter().map(|run| f(run).0).collect())),
                    peer: format!("{:.3}{unit}", median(outcomes.iter().map(|run| f(run).1).collect())),
                    ratio: median(ratios),
                    spread,
                    goal,
                    note: String::new(),
                }
            };
            let slower = if rate.is_some() && name != "random bytes" { 1.0 } else { 1.05 };
            rows.push(row(
                "time beside none".into(),
                &|[ours, none, _]| (ours.seconds, none.seconds),
                " s",
                Some((Better::LessTime, slower)),
            ));
            rows.push(row(
                format!("time beside {best}"),
                &|[ours, _, best]| (ours.seconds, best.seconds),
                " s",
                Some((Better::LessTime, 1.1)),
            ));
            rows.push(row(
                format!("ratio beside {best}"),
                &|[ours, _, best]| (ours.ratio, best.ratio),
                "",
                Some((Better::MoreSpeed, 0.9)),
            ));
        }
    }
    rows
}
