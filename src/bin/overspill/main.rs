//! `overspill`: looks after programs that keep to a memory limit, and at what they leave on disk.
//!
//! Each subcommand is a file of `commands/`: its arguments, and a function that runs them. `failure.rs` has
//! what they fail with and the exit codes, `output.rs` the way to standard output.

mod commands;
mod failure;
mod output;
mod settings;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use commands::Command;
use failure::Failure;

/// Memory that overflows to disk: runs workers within their memory limit, and shows what they keep.
///
/// Exit codes: 0 when all is well, 1 when something failed, 2 when the command line or a setting asks for what
/// cannot be done; `nanny --once` ends with its worker's.
#[derive(Debug, Parser)]
#[command(name = "overspill", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    log_to_stderr();
    match parse().and_then(|cli| cli.map_or(Ok(ExitCode::SUCCESS), |cli| cli.command.run())) {
        Ok(code) => code,
        // Whoever reads our output has seen enough.
        Err(Failure::System(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to tell it to when stderr is closed.
            _ = writeln!(io::stderr(), "overspill: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// The command line, or `None` when it asked for a text that was printed.
fn parse() -> Result<Option<Cli>, Failure> {
    match Cli::try_parse() {
        Ok(cli) => Ok(Some(cli)),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            error.print()?;
            Ok(None)
        }
        Err(error) => {
            // The first paragraph says what is wrong; usage and hints follow it.
            let text = error.to_string();
            let problem: Vec<_> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
            let problem = problem.join(" ");
            let problem = problem.strip_prefix("error: ").unwrap_or(&problem);
            Err(Failure::Usage(format!("{problem} (--help tells more)")))
        }
    }
}

/// What the library logs, one line an event. Colours only for a person: not into a pipe, nor where `NO_COLOR`
/// is set. A line that cannot be written is lost.
fn log_to_stderr() {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        // It would tell of a failed write by `eprintln!`, which panics where stderr fails.
        .log_internal_errors(false)
        .with_ansi(!plain && io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(tracing::Level::INFO)
        .init();
}
