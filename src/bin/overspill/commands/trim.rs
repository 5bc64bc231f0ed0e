//! `overspill trim`: a command to running workers.

use overspill::worker::control::Client;

use crate::failure::Failure;
use crate::output;

/// Arguments of `overspill trim`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Process numbers of workers
    #[arg(required = true, value_name = "PID")]
    pids: Vec<u32>,
}

/// Trims one after the other, and prints what each allocator said.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    for pid in &args.pids {
        let trimmed = Client::connect(*pid).and_then(|mut worker| worker.trim())?;
        let released = match trimmed.released {
            Some(true) => "; memory was handed back",
            Some(false) => "; nothing could be handed back",
            None => "",
        };
        output::line(format_args!("{pid}: {trimmed}{released}"))?;
    }
    Ok(())
}
