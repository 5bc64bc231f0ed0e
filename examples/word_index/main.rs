//! An inverted index (word -> file and positions) over a tree of text, in less memory than it needs.
//!
//! ```sh
//! cargo run --release --example word_index -- --memory-limit 64MiB
//! ```
//!
//! Without a path it reads the sources of the crates that building this project downloaded.
//!
//! # How it works
//!
//! Every word belongs to one of 512 buckets, by its hash, and the postings of a bucket are a chain of *parts*
//! in a [`Buffer`](overspill::Buffer): RAM over a codec, over lz4, over segment files. One thread reads files
//! into batches; the other adds each batch to the last part of every bucket. Last parts are used all the time
//! and so stay in RAM; full ones are the least recently used and go to disk. The words lie in the parts as
//! well, so nothing in RAM grows with the text but the buffer's index of spilled parts.
//!
//! - `plan.rs` shares the limit out, `memory.rs` watches the process,
//! - `tree.rs`, `text.rs` and `words.rs` find files, read them and cut them into words,
//! - `bucket.rs`, `batch.rs`, `part.rs` and `codec.rs` are the data, `index.rs` the buffer, `build.rs` the two threads,
//! - `check.rs` reads everything back and compares it with the files,
//! - `args.rs`, `failure.rs`, `stop.rs`, `progress.rs` and `report.rs` face the user.

mod args;
mod batch;
mod bucket;
mod build;
mod check;
mod codec;
mod failure;
mod index;
mod memory;
mod part;
mod plan;
mod progress;
mod report;
mod stop;
mod text;
mod tree;
mod words;

use std::io::{self, Write};
use std::process::ExitCode;

use overspill::{Clock, SystemClock};
use spill_worker::Thresholds;

use args::Args;
use failure::Failure;
use index::Index;
use memory::MemoryWatch;
use plan::Plan;
use report::Report;
use stop::Stop;
use tree::Tree;

fn main() -> ExitCode {
    match Args::parse().and_then(|args| args.map_or(Ok(()), |args| run(&args))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to tell it to when stderr is closed.
            _ = writeln!(io::stderr(), "word_index: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let stop = Stop::on_signals()?;
    let clock = SystemClock::new();
    let memory = MemoryWatch::open()?;

    let compression = args.compression()?;
    let tree = Tree::list(&args.paths()?, &stop)?;
    let (limit, thresholds) = (args.memory_limit()?, Thresholds::new());
    // 32 bits: not all who read JSON keep more than 53
    let random = || getrandom::u32().map(u64::from).map_err(io::Error::other);
    let seed = args.seed.map_or_else(random, Ok)?;
    let plan = Plan::new(limit.bytes().unwrap_or(u64::MAX), &thresholds, memory.now()?, tree.bytes)?;
    if !args.json {
        writeln!(io::stdout(), "{plan}\n")?;
    }

    // Values are dropped in reverse order: the monitor lets go of the buffer, the buffer of its files. So
    // nothing is left on disk whichever way this function ends.
    let mut index = Index::open(&plan, args.local_directory.as_deref(), compression)?;
    let monitor = memory.watch(limit, thresholds, index.evictable())?;

    let start = clock.now();
    let built = build::build(&tree, &mut index, plan.batch, &stop)?;
    let build_time = clock.now().saturating_sub(start);
    let usage = index.usage();

    let start = clock.now();
    let survey = check::survey(&index, seed, &stop)?;
    if survey.postings != built.tokens {
        let (read, kept) = (built.tokens, survey.postings);
        return Err(Failure::Mismatch(format!("{read} words were read and {kept} are in the index")));
    }
    let recounted = check::recount(&tree, &index, &survey.sample, &stop)?;
    let check_time = clock.now().saturating_sub(start);

    monitor.stop();
    let (stats, target, peak) = (index.stats(), index.target(), memory.peak());
    index.close()?;
    let report =
        Report { plan, built, target, usage, stats, survey, recounted, seed, peak, build_time, check_time };
    if args.json {
        writeln!(io::stdout(), "{}", report.json())?;
    } else {
        writeln!(io::stdout(), "{report}")?;
    }
    Ok(())
}
