//! `overspill completions`: what a shell needs to complete our command lines.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Cli;
use crate::failure::Failure;

/// Arguments of `overspill completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For which shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    // Generated into memory: writing to a closed pipe must be an error, not a panic.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "overspill", &mut script);
    io::stdout().write_all(&script)?;
    Ok(())
}
