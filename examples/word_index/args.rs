//! The command line.

use std::env;
use std::path::{Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;
use overspill::Compression;
use spill_worker::{MemoryLimit, SystemMemory};

use crate::failure::Failure;
use crate::words::LONGEST_WORD;

/// Indexes the words of a tree of text in bounded memory, and checks the index against the files.
///
/// A word is a run of letters, digits (as Unicode has them) and underscores, lower-cased character by
/// character; runs of more than 255 bytes are left out. Text is what is valid UTF-8; other files are skipped
/// and counted, and symbolic links inside a tree are not followed. A position is a line and a column, both
/// counted from 1, columns in bytes.
///
/// Exit codes: 0 when all is well, 1 when something failed or the self-check found a difference, 2 when the
/// command line asks for what cannot be done, 128 and the signal's number after a signal.
#[derive(Debug, Parser)]
#[command(name = "word_index")]
pub(crate) struct Args {
    /// Files and directories to read [default: the sources of crates, under CARGO_HOME or ~/.cargo]
    #[arg(value_name = "PATH")]
    given: Vec<PathBuf>,

    /// What the whole process may use: a size such as 64MiB, a fraction of the machine's memory, or auto
    #[arg(long = "memory-limit", value_name = "SIZE", default_value = "64MiB")]
    limit: String,

    /// Where to spill [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) local_directory: Option<PathBuf>,

    /// How spilled values are compressed: adaptive, none, lz4, zstd or zstd:LEVEL
    #[arg(long, value_name = "NAME", default_value = "adaptive")]
    compressor: String,

    /// Draws the words of the self-check [default: a random one, which is printed]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Args {
    /// The arguments of this process, or `None` when they asked for the help, which was printed.
    pub(crate) fn parse() -> Result<Option<Self>, Failure> {
        match Args::try_parse() {
            Ok(args) => Ok(Some(args)),
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                error.print()?;
                Ok(None)
            }
            Err(error) => {
                // The first paragraph says what is wrong; usage and hints follow it.
                let text = error.to_string();
                let problem: Vec<_> =
                    text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
                let problem = problem.join(" ");
                let problem = problem.strip_prefix("error: ").unwrap_or(&problem);
                Err(Failure::Usage(format!("{problem} (--help tells more)")))
            }
        }
    }

    /// The paths to read.
    pub(crate) fn paths(&self) -> Result<Vec<PathBuf>, Failure> {
        if !self.given.is_empty() {
            return Ok(self.given.clone());
        }
        let cargo = env::var_os("CARGO_HOME").map(PathBuf::from);
        let cargo = cargo.or_else(|| env::home_dir().map(|home| home.join(".cargo"))).unwrap_or_default();
        let sources = cargo.join("registry").join("src");
        if has_entries(&sources) {
            return Ok(vec![sources]);
        }
        Err(Failure::Usage(format!("no sources of crates in {}; give a PATH to read", sources.display())))
    }

    /// The memory limit in bytes.
    pub(crate) fn memory_limit(&self) -> Result<MemoryLimit, Failure> {
        let refused = |error: overspill::Error| Failure::Usage(error.to_string());
        let system = SystemMemory::read().map_err(refused)?;
        let limit = MemoryLimit::parse(&self.limit, &system, 1, 1).map_err(refused)?;
        if limit == MemoryLimit::NONE {
            let message = format!("--memory-limit {} means no limit, and this program needs one", self.limit);
            return Err(Failure::Usage(message));
        }
        Ok(limit)
    }

    /// How spilled values are compressed.
    pub(crate) fn compression(&self) -> Result<Compression, Failure> {
        self.compressor.parse().map_err(|error: overspill::Error| Failure::Usage(error.to_string()))
    }
}

fn has_entries(directory: &Path) -> bool {
    directory.read_dir().is_ok_and(|mut entries| entries.next().is_some())
}

const _: () = assert!(LONGEST_WORD == 255, "the help says so");
