//! `overspill purge`: removes what dead processes left behind.

#[cfg(feature = "object")]
mod objects;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use bytesize::ByteSize;
use spill_disk::inspect::{State, workspaces};
use spill_disk::io::RealIo;
use spill_disk::purge;

use super::inspect;
use crate::failure::Failure;
use crate::output;

/// Arguments of `overspill purge`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory that workers were given, or the URL of an object store and the prefix in it
    #[arg(value_name = "DIR|URL")]
    target: Target,
    /// In an object store, whose processes cannot be asked whether they live: what was silent for so many hours.
    /// Those that live write there every five minutes
    #[cfg(feature = "object")]
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    silent_hours: u64,
    /// Remove without asking
    #[arg(long)]
    yes: bool,
}

/// Where spilled data may lie.
#[derive(Clone, Debug)]
enum Target {
    /// Workspaces on a local disk.
    Directory(PathBuf),
    /// Objects below this URL.
    #[cfg(feature = "object")]
    Objects(String),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("://") {
            #[cfg(feature = "object")]
            return Ok(Target::Objects(text.to_owned()));
            #[cfg(not(feature = "object"))]
            return Err(
                "expected a directory; URLs need a build with the feature `aws`, `gcp` or `azure`".to_owned()
            );
        }
        Ok(Target::Directory(text.into()))
    }
}

/// Shows what there is, asks, and removes it.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    match &args.target {
        Target::Directory(parent) => directory(parent, args.yes),
        #[cfg(feature = "object")]
        Target::Objects(url) => {
            let silent = std::time::Duration::from_secs(args.silent_hours * 3600);
            objects::run(url, silent, args.yes)
        }
    }
}

fn directory(parent: &Path, yes: bool) -> Result<ExitCode, Failure> {
    let seen = workspaces(&RealIo, parent)?;
    seen.iter().try_for_each(inspect::workspace)?;
    let dead: Vec<_> = seen.iter().filter(|seen| seen.state == State::Dead).collect();
    if dead.is_empty() {
        output::line("there is nothing to remove")?;
        return Ok(ExitCode::SUCCESS);
    }
    let bytes = ByteSize(dead.iter().map(|seen| seen.bytes).sum());
    if !yes && !agreed(&format!("{} dead workspaces with {}", dead.len(), bytes.display().iec()))? {
        return Ok(ExitCode::SUCCESS);
    }
    let purged = purge(&RealIo, parent)?;
    if purged.busy {
        output::line(
            "nothing was removed: the directory cannot be written, or another process purges it now",
        )?;
        return Ok(ExitCode::FAILURE);
    }
    for path in &purged.removed {
        output::line(format_args!("removed {}", path.display()))?;
    }
    let mut outcome = ExitCode::SUCCESS;
    for left in dead.iter().filter(|seen| !purged.removed.contains(&seen.path) && seen.path.exists()) {
        output::line(format_args!("could not remove {}", left.path.display()))?;
        outcome = ExitCode::FAILURE;
    }
    Ok(outcome)
}

/// Asks the person who watches, if one does.
fn agreed(text: &str) -> Result<bool, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        output::line(format_args!(
            "nothing was removed, since nobody can be asked here: --yes removes {text}"
        ))?;
        return Ok(false);
    }
    write!(io::stderr(), "Remove {text}? [y/N] ")?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    let agreed = matches!(answer.trim().to_lowercase().as_str(), "y" | "yes");
    if !agreed {
        output::line("nothing was removed")?;
    }
    Ok(agreed)
}
