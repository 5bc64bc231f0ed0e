//! The subcommands, one a file.

mod bench;
mod completions;
mod config;
mod dashboard;
mod guard;
mod inspect;
mod nanny;
mod purge;
mod trim;

use std::process::ExitCode;

use clap::Subcommand;

use crate::failure::Failure;

const NANNY_EXAMPLES: &str = "\
Examples:
  overspill nanny --memory-limit 4GiB -- ./my-program --its-own arguments
  overspill nanny --workers 4 --memory-limit auto --dashboard -- ./my-program
  overspill nanny --set worker.memory.terminate=false --once -- ./my-program";

const DASHBOARD_EXAMPLES: &str = "\
Examples:
  overspill dashboard
  overspill dashboard --address 9000 4711 4712
  overspill dashboard --address 0.0.0.0:8787 --allow-host node7.example.org
  curl http://localhost:8787/metrics";

const CONFIG_EXAMPLES: &str = "\
Examples:
  overspill config
  overspill config --set worker.memory.target=0.5
  OVERSPILL_WORKER__MEMORY__SPILL=false overspill config";

const TRIM_EXAMPLES: &str = "\
Examples:
  overspill trim 4711
  overspill trim $(pgrep my-program)";

const INSPECT_EXAMPLES: &str = "\
Examples:
  overspill inspect /var/tmp
  overspill inspect --records /var/tmp/overspill-4711-0";

const PURGE_EXAMPLES: &str = "\
Examples:
  overspill purge /var/tmp
  overspill purge --yes /mnt/scratch
  overspill purge s3://bucket/prefix     (in a build with the feature aws)";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  overspill completions bash > /etc/bash_completion.d/overspill
  overspill completions zsh > ~/.zfunc/_overspill
  overspill completions fish > ~/.config/fish/completions/overspill.fish";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run workers, watch their memory from outside, and start them again
    #[command(after_help = NANNY_EXAMPLES)]
    Nanny(Box<nanny::Args>),
    #[command(hide = true)]
    Guard(guard::Args),
    /// Find out which storage and compressor suit your own files
    Bench(bench::Args),
    /// Show running workers in a browser, and serve JSON and Prometheus metrics
    ///
    /// The page shows every worker of this user on this machine (for root, of all users), also those that start
    /// later. A nanny has a page of its own, which also shows restarts and ends by force: overspill nanny
    /// --dashboard.
    #[command(after_help = DASHBOARD_EXAMPLES)]
    Dashboard(dashboard::Args),
    /// Print the settings in force and where each came from
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(config::Args),
    /// Make running workers hand their unused memory back to the system
    #[command(after_help = TRIM_EXAMPLES)]
    Trim(trim::Args),
    /// Look into the files of spilled data
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(inspect::Args),
    /// Remove what dead processes left behind
    ///
    /// Shows what it found, and asks before it removes anything. Where nobody can be asked it removes nothing
    /// without --yes. What a living process uses is never removed.
    #[command(after_help = PURGE_EXAMPLES)]
    Purge(purge::Args),
    /// Print what a shell needs to complete these command lines
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(completions::Args),
}

impl Command {
    /// Does it, and says how the process should end.
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Command::Nanny(args) => nanny::run(&args),
            Command::Guard(args) => guard::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Bench(args) => bench::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Config(args) => config::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Trim(args) => trim::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Dashboard(args) => dashboard::run(&args).map(|()| ExitCode::SUCCESS),
            Command::Inspect(args) => inspect::run(&args),
            Command::Purge(args) => purge::run(&args),
            Command::Completions(args) => completions::run(&args).map(|()| ExitCode::SUCCESS),
        }
    }
}
