//! The subcommands, one a file.

mod config;
mod guard;
mod nanny;
mod trim;

use std::process::ExitCode;

use clap::Subcommand;

use crate::failure::Failure;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run workers, watch their memory from outside, and start them again
    Nanny(Box<nanny::Args>),
    #[command(hide = true)]
    Guard(guard::Args),
    /// Print the settings in force and where each came from
    Config(config::Args),
    /// Make running workers hand their unused memory back to the system
    Trim(trim::Args),
}

impl Command {
    /// Does it, and says how the process should end.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Command::Nanny(args) => nanny::run(&args),
            Command::Guard(args) => guard::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Config(args) => config::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Trim(args) => trim::run(&args).map(|()| ExitCode::SUCCESS),
        }
    }
}
