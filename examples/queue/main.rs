//! Tasks from a queue on disk, run by workers under a nanny. A task that a killed worker had begun runs again on
//! another worker, and each task takes effect exactly once.
//!
//! cargo build --release --features cli --example queue --bin overspill
//! Q=target/release/examples/queue
//! $Q fill tasks.db --tasks 100 --greedy 10
//! target/release/overspill nanny --workers 2 --memory-limit 200MiB --hook "$Q lost tasks.db" -- $Q work tasks.db
//! $Q show tasks.db
//!
//! `table.rs` is the queue, a file of SQLite; `work.rs` is the worker.

mod table;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use table::Table;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Runs tasks from a queue on disk. Each counts the prime numbers of a range.
#[derive(Debug, Parser)]
#[command(name = "queue")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a queue
    Fill {
        /// The file
        file: PathBuf,
        /// How many tasks
        #[arg(long, default_value_t = 100)]
        tasks: u32,
        /// Each task of so many takes memory without end when it is run for the first time; 0: none does
        #[arg(long, default_value_t = 0)]
        greedy: u32,
    },
    /// Runs tasks until all are done; a worker of `overspill nanny`
    Work {
        /// The file
        file: PathBuf,
    },
    /// Gives back the tasks of a worker that died; the hook of `overspill nanny`, which says who it was
    Lost {
        /// The file
        file: PathBuf,
        /// The process that died [default: what the nanny says]
        #[arg(long)]
        pid: Option<u32>,
    },
    /// Prints how far it is
    Show {
        /// The file
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("queue: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Fill { file, tasks, greedy } => Table::open(&file)?.fill(tasks, greedy),
        Command::Work { file } => work::run(&file),
        Command::Lost { file, pid } => {
            let pid = match pid {
                Some(pid) => pid,
                None => std::env::var("OVERSPILL_DEATH_PID")?.parse()?,
            };
            for task in Table::open(&file)?.lost(pid)? {
                println!("task {task} of process {pid} was lost; another worker takes it");
            }
            Ok(())
        }
        Command::Show { file } => {
            let shown = Table::open(&file)?.show()?;
            println!(
                "{} done, {} to do, {} given up; {} primes",
                shown.done, shown.open, shown.failed, shown.sum
            );
            Ok(())
        }
    }
}
