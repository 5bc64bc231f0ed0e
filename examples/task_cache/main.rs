//! Results of tasks that stay in memory while they fit, move to a table of SQLite when they do not, and are
//! there when the program runs again. The table is a backend of its own, in `sqlite.rs`: seven methods.
//!
//! Run: cargo run --release --features serde --example task_cache -- results.db
//! and once more. Without a file it takes a temporary one and does both runs itself.

mod sqlite;

use std::path::Path;
use std::sync::Arc;

use get_size2::GetSize;
use overspill::{BufferBuilder, Func, HeapWeigher, MutableMapping, Result, Serde};
use serde::{Deserialize, Serialize};
use sqlite::SqliteTable;

/// A task's range of numbers, and what its result takes in memory: a few hundred KiB.
const RANGE: u32 = 1_000_000;
const TASKS: u32 = 50;

/// What results may take in memory, in bytes.
const TARGET: u64 = 2 << 20;

/// The result of a task: the prime numbers of a range.
#[derive(Debug, GetSize, Serialize, Deserialize)]
struct Primes {
    first: u32,
    primes: Vec<u32>,
}

impl Primes {
    /// The work of a task: a sieve over the range.
    fn find(first: u32, end: u32) -> Self {
        let mut prime = vec![true; (end - first) as usize];
        for step in (2..).take_while(|step| step * step < end) {
            let start = first.next_multiple_of(step).max(step * step);
            (start..end).step_by(step as usize).for_each(|n| prime[(n - first) as usize] = false);
        }
        let primes = (first..end).filter(|n| *n > 1 && prime[(n - first) as usize]).collect();
        Primes { first, primes }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(file) = std::env::args_os().nth(1) {
        return Ok(run(Path::new(&file))?);
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("results.db");
    for n in 1..=2 {
        println!("run {n}");
        run(&file)?;
    }
    Ok(())
}

/// Needs the results of all tasks, twice, and computes those that no earlier run left in `file`.
fn run(file: &Path) -> Result<()> {
    let table = SqliteTable::open(file)?;
    println!("  {:>9} results found in the table", table.len());

    // RAM up to the target; past it results go through serde into the table.
    let slow = Func::new(Serde, table).weighed_by(HeapWeigher);
    let results = BufferBuilder::<String, Arc<Primes>>::new().target(TARGET).over(slow)?;

    let (mut computed, mut count, mut last) = (0, 0, 0);
    for pass in [1, 2] {
        for task in 0..TASKS {
            let (first, end) = (task * RANGE, (task + 1) * RANGE);
            let result = results.get_or_try_insert_with(format!("primes {first} to {end}"), || {
                computed += 1;
                Ok(Arc::new(Primes::find(first, end)))
            })?;
            if pass == 1 {
                count += result.primes.len();
                last = result.primes.last().copied().unwrap_or(last);
            }
        }
    }
    println!("  {computed:>9} computed");
    println!("  {count:>9} primes below {}, the last is {last}", TASKS * RANGE);

    let usage = results.usage();
    println!("  {:>9} KiB of results in RAM", usage.fast >> 10);
    println!("  {:>9} KiB in the table, as {} KiB", usage.spilled.memory >> 10, usage.spilled.disk >> 10);

    results.flush()?; // what is in RAM is written as well, for the next run
    results.close()
}
