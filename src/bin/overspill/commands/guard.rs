//! `overspill guard`: the process between a nanny and a worker. Not for people.

use std::ffi::OsString;
use std::path::PathBuf;

use overspill::worker::nanny::run_guard;

use crate::failure::Failure;

/// Arguments of `overspill guard`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long = "directory")]
    directories: Vec<PathBuf>,
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Guards until everything has gone.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    Ok(run_guard(&args.directories, &args.command)?)
}
