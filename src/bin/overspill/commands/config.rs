//! `overspill config`: the settings in force.

use overspill::worker::SystemMemory;
use overspill::worker::config::Config;

use crate::failure::Failure;
use crate::output;
use crate::settings::Set;

/// Arguments of `overspill config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    set: Set,
}

/// Prints each key, its value and its origin.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let config = Config::load(&args.set.sources(), &SystemMemory::read()?)?;
    let widest = |f: fn(&overspill::worker::config::Entry) -> usize| config.entries().iter().map(f).max();
    let key = widest(|entry| entry.key.len()).unwrap_or(0);
    let value = widest(|entry| entry.value.len()).unwrap_or(0);
    for entry in config.entries() {
        output::line(format_args!("{:key$}  {:value$}  {}", entry.key, entry.value, entry.origin))?;
    }
    Ok(())
}
