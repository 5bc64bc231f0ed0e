//! A program with an appetite: it takes managed and unmanaged memory by a script, as a worker with a memory limit.
//! Run it under a nanny to see all of it act:
//!
//! cargo build --release --features cli --example hungry --bin overspill
//! target/release/overspill nanny --memory-limit 300MiB -- target/release/examples/hungry insert=1GiB verify
//!
//! What a script can say is in `script.rs`, or in `--help`.

mod memory;
mod program;
mod script;

use std::env;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use overspill::worker::config::{Config, Sources};
use overspill::worker::{Settings, SystemMemory};
use overspill::{Error, Result};

use program::Program;
use script::Step;

/// Takes memory by a script.
///
/// Steps, one after the other: `insert=SIZE[@RATE]` puts values of 1 MiB into the mapping; `verify` reads all of
/// them back and compares; `allocate=SIZE[@RATE]` takes memory beside the mapping; `fork=SIZE` takes it in a
/// process of its own; `fragment=SIZE` takes small blocks and lets go of most; `free` lets go of it all; `task` starts a task as soon as the gate lets it; `await=EVENT` waits
/// until that has happened since the last `await` (paused, resumed, spilled, unmanaged, task, or any name of the log);
/// `hold=SECONDS`; `report` prints what is used. RATE is a size a second. At its end, and when it is asked to end, it
/// retires: values
/// are handed over by being counted.
///
/// Limit, thresholds, name and directories come from Overspill's files and variables, which a nanny sets.
#[derive(Debug, Parser)]
#[command(name = "hungry")]
struct Args {
    /// What the process may use: a size such as 300MiB, a fraction of the machine's memory, or auto
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<String>,

    /// Below which values are spilled
    #[arg(long, value_name = "DIR")]
    local_directory: Option<PathBuf>,

    /// Go on although asked to end
    #[arg(long)]
    stubborn: bool,

    /// After the script wait until asked to end
    #[arg(long)]
    stay: bool,

    /// The script
    #[arg(value_name = "STEP", value_parser = Step::parse)]
    script: Vec<Step>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match settings(&args).and_then(|settings| run(&args, settings)) {
        Ok(code) => code,
        Err(error) => {
            program::say(&format!("failed: {error}"));
            match error.kind() {
                overspill::ErrorKind::Config { .. } => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn settings(args: &Args) -> Result<Settings> {
    let mut sources = Sources::of_this_process();
    if let Some(limit) = &args.memory_limit {
        sources = sources.flag("worker.memory.limit", limit);
    }
    let mut settings = Config::load(&sources, &SystemMemory::read()?)?.into_settings();
    if let Some(directory) = &args.local_directory {
        settings.local_directories = vec![directory.clone()];
    }
    Ok(settings)
}

fn run(args: &Args, settings: Settings) -> Result<ExitCode> {
    std::thread::scope(|scope| {
        let mut program = Program::start(settings, args.stubborn)?;
        for step in &args.script {
            if let ControlFlow::Break(()) = program.step(scope, step)? {
                break;
            }
        }
        program.end(args.stay)
    })
}

/// The program itself, for a process of its own.
fn this_program() -> Result<PathBuf> {
    env::current_exe().map_err(|error| Error::io("find", "this program", error))
}
