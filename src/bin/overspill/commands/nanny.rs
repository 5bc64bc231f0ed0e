//! `overspill nanny`: workers within their memory limit.

use std::env;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use overspill::Workspace;
use overspill::worker::config::Config;
use overspill::worker::nanny::{Cause, Death, End, GuardProgram, Nanny};
use overspill::worker::{Observe, Settings, SystemMemory};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::{Handle, Signals};

use super::dashboard;
use crate::failure::Failure;
use crate::settings::{Set, pair};

/// Arguments of `overspill nanny`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many workers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,

    /// Threads of each worker [default: those of the machine, shared out]
    #[arg(long)]
    nthreads: Option<u16>,

    /// Memory of each worker: a size such as 4GiB, a fraction of the machine's, none, or auto: its share by
    /// threads [default: auto, unless a file or variable says otherwise]
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<String>,

    /// Below which each worker gets a directory of its own; may be given several times [default: the system's]
    #[arg(long, value_name = "DIR")]
    local_directory: Vec<PathBuf>,

    /// A variable for the workers' environment; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,

    /// Start nothing again, and end with the worker's exit code
    #[arg(long)]
    once: bool,

    /// A shell command to run when a worker process has died, before it is started again. It finds out by
    /// OVERSPILL_WORKER_NAME, OVERSPILL_DEATH_PID, OVERSPILL_DEATH_CAUSE (memory, watchdog, ended, failed),
    /// OVERSPILL_DEATH_CODE or OVERSPILL_DEATH_SIGNAL, and OVERSPILL_DEATH_RESTARTS (true, false)
    #[arg(long, value_name = "COMMAND")]
    hook: Option<String>,

    /// Show the workers in a browser: at this address, port, or both [default: 127.0.0.1:8787]; if the port is taken,
    /// at the next free one
    #[arg(long, value_name = "ADDRESS", value_parser = dashboard::address, num_args = 0..=1, require_equals = true,
        default_missing_value = "127.0.0.1:8787")]
    dashboard: Option<SocketAddr>,

    #[command(flatten)]
    names: dashboard::Names,

    #[command(flatten)]
    set: Set,

    /// The worker: a program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs workers until they have ended, and ends as they did.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let settings = settings(args)?;
    let guard = GuardProgram { program: env::current_exe()?, arguments: vec!["guard".into()] };
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2])?;
    let mut builder =
        Nanny::builder(guard, settings, args.command.clone()).workers(args.workers.into()).once(args.once);
    for (name, value) in &args.env {
        builder = builder.env(name, value);
    }
    // What the command line sets holds for the workers too.
    for (key, value) in &args.set.set {
        let name = key.to_uppercase().replace('-', "_").replace('.', "__");
        builder = builder.env(format!("OVERSPILL_{name}"), value);
    }
    if let Some(hook) = args.hook.clone() {
        builder = builder.on_death(move |death| run_hook(&hook, death));
    }
    let nanny = Arc::new(builder.start()?);
    let _dashboard = match args.dashboard {
        Some(address) => {
            let dashboard = dashboard::start(Arc::clone(&nanny) as Arc<dyn Observe>, address, &args.names)?;
            tracing::info!("dashboard at {}", dashboard.url());
            Some(dashboard)
        }
        None => None,
    };
    let closing = Closing(signals.handle());
    let code = std::thread::scope(|scope| {
        let _closing = closing;
        scope.spawn(|| {
            let mut ending = false;
            for signal in signals.forever() {
                let ends = matches!(signal, SIGTERM | SIGINT | SIGQUIT);
                if ends && ending {
                    nanny.kill();
                    continue;
                }
                if ends {
                    ending = true;
                    nanny.retire();
                }
                if let Err(error) = nanny.signal(signal) {
                    tracing::warn!("a signal is not passed on: {error}");
                }
            }
        });
        nanny.wait()
    });
    Ok(ExitCode::from(code))
}

/// Ends the wait for signals when it is dropped: a panic too must not leave a thread that is waited for.
struct Closing(Handle);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn settings(args: &Args) -> Result<Settings, Failure> {
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    let share = (machine / usize::from(args.workers)).max(1);
    let nthreads = args.nthreads.map_or(share, usize::from);
    // Whoever sets no limit gets a share of what there is: a nanny without one would watch for nothing.
    let sources = args.set.sources().default_value("worker.memory.limit", "auto");
    let mut sources = sources.flag("worker.nthreads", &nthreads.to_string());
    if let Some(limit) = &args.memory_limit {
        sources = sources.flag("worker.memory.limit", limit);
    }
    let mut settings = Config::load(&sources, &SystemMemory::read()?)?.into_settings();
    if !args.local_directory.is_empty() {
        settings.local_directories.clone_from(&args.local_directory);
    }
    if settings.local_directories.is_empty() {
        settings.local_directories.push(default_directory()?);
    }
    Ok(settings)
}

/// Below which workers get their directories when nobody says: where a workspace goes by itself, which is on a disk
/// even if the temporary directory lives in main memory.
fn default_directory() -> Result<PathBuf, Failure> {
    let workspace = Workspace::open(None)?;
    Ok(workspace.path().parent().map_or_else(env::temp_dir, PathBuf::from))
}

fn run_hook(hook: &str, death: &Death) {
    let cause = match death.cause {
        Cause::Memory => "memory",
        Cause::Ended => "ended",
        Cause::Watchdog => "watchdog",
        Cause::Failed => "failed",
        _ => "unknown",
    };
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(hook);
    command.env("OVERSPILL_WORKER_NAME", &death.name);
    command.env("OVERSPILL_DEATH_PID", death.pid.to_string());
    command.env("OVERSPILL_DEATH_CAUSE", cause);
    command.env("OVERSPILL_DEATH_RESTARTS", death.restarts.to_string());
    match death.end {
        Some(End::Exited(code)) => _ = command.env("OVERSPILL_DEATH_CODE", code.to_string()),
        Some(End::Signalled(signal)) => _ = command.env("OVERSPILL_DEATH_SIGNAL", signal.to_string()),
        None => {}
    }
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::warn!("the hook ended with {status}"),
        Err(error) => tracing::warn!("the hook cannot be run: {error}"),
    }
}
