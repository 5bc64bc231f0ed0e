//! A reading of process memory, as the monitor takes one at each sample.

use std::fs;

use overspill::worker::{MemorySource, ProcessMemory};

use crate::harness::{Better, Row, Unit, pair, row, timed};

const READINGS: u64 = 20_000;

/// The most nanoseconds that one may take.
const MOST: f64 = 20_000.0;

pub fn run(rounds: usize) -> Vec<Row> {
    let memory = ProcessMemory::open().unwrap();
    let ours = || timed(|| (0..READINGS).for_each(|_| assert!(memory.read().unwrap() > 0)));
    let peer =
        || timed(|| (0..READINGS).for_each(|_| assert!(!fs::read("/proc/self/statm").unwrap().is_empty())));
    let each = |seconds: f64| seconds * 1e9 / READINGS as f64;
    let taken: Vec<_> = (0..rounds).map(|_| (each(ours().wall.as_secs_f64()), MOST)).collect();
    let nanos = |nanos: f64| format!("{nanos:.0} ns");
    vec![
        row(
            "a reading of process memory, beside the most that it may take",
            Some((Better::LessTime, 1.0)),
            &taken,
            |ours, most| ours / most,
            nanos,
            String::new(),
        ),
        pair(
            "the same, beside opening and reading the file",
            Unit::NanosEach(READINGS),
            None,
            rounds,
            ours,
            peer,
        ),
    ]
}
