//! The subcommands, one a file.

mod config;
mod trim;

use std::process::ExitCode;

use clap::Subcommand;

use crate::failure::Failure;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the settings in force and where each came from
    Config(config::Args),
    /// Make running workers hand their unused memory back to the system
    Trim(trim::Args),
}

impl Command {
    /// Does it, and says how the process should end.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Command::Config(args) => config::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Trim(args) => trim::run(&args).map(|()| ExitCode::SUCCESS),
        }
    }
}
