//! `overspill limit`: what a memory limit means on this machine.

use overspill::worker::{MemoryLimit, SystemMemory};

use crate::failure::Failure;
use crate::output;

/// Arguments of `overspill limit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The limit: a size such as 4GiB, a fraction of the machine's memory, auto, or none
    #[arg(default_value = "auto")]
    limit: String,
    /// Threads of the worker, whose share of the machine's `auto` takes [default: all]
    #[arg(long)]
    nthreads: Option<usize>,
}

/// Prints the limit in bytes and the file that says what the machine has.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let system = SystemMemory::read()?;
    let total = std::thread::available_parallelism().map_or(1, usize::from);
    let limit = MemoryLimit::parse(&args.limit, &system, args.nthreads.unwrap_or(total), total)?;
    let bytes = limit.bytes().map_or_else(|| "none".to_owned(), |bytes| bytes.to_string());
    output::line(format_args!("{bytes} (of {} by {})", system.bytes(), system.said_by().display()))
}
