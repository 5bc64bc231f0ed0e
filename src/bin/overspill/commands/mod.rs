//! The subcommands, one a file.

mod limit;

use std::process::ExitCode;

use clap::Subcommand;

use crate::failure::Failure;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the memory that a limit means here, and what decides it
    Limit(limit::Args),
}

impl Command {
    /// Does it, and says how the process should end.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Command::Limit(args) => limit::run(&args).map(|()| ExitCode::SUCCESS),
        }
    }
}
