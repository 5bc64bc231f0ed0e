//! Settings from files, the environment and flags, and where each came from.
//!
//! Later ones win: the defaults; Dask's YAML and JSON files (`/etc/dask`, `~/.config/dask`, `DASK_CONFIG`);
//! Dask's variables (`DASK_DISTRIBUTED__WORKER__MEMORY__TARGET`); our files of the same shape, whose root is
//! `overspill` in place of `distributed` (`/etc/overspill`, `~/.config/overspill`, `OVERSPILL_CONFIG`); our
//! variables (`OVERSPILL_WORKER__MEMORY__TARGET`, and what a nanny sets); flags.
//!
//! A value that Dask would take and that makes no sense is warned about in Dask's files and refused in ours.

mod keys;
mod node;
mod sources;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use spill_core::Result;

use crate::{Settings, SystemMemory};
use node::Leaf;

pub use sources::Sources;

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
    },
    /// The environment variable of this name.
    Environment(String),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag => f.write_str("command line"),
        }
    }
}

/// One setting as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key, without the root.
    pub key: String,
    /// Its value, in words.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// A key's value before it is understood.
#[derive(Clone, Debug)]
struct Raw {
    value: Leaf,
    origin: Origin,
    /// Whether Dask's rules hold for it, and not our stricter ones.
    lenient: bool,
}

/// The settings in force, and where each came from.
///
/// ```no_run
/// use spill_worker::config::{Config, Sources};
/// use spill_worker::{SystemMemory, Worker};
///
/// let config = Config::load(&Sources::of_this_process(), &SystemMemory::read()?)?;
/// for entry in config.entries() {
///     println!("{} = {} ({})", entry.key, entry.value, entry.origin);
/// }
/// let worker = Worker::builder(config.into_settings()).start()?;
/// # Ok::<_, spill_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    settings: Settings,
    entries: Vec<Entry>,
    warnings: Vec<String>,
}

impl Config {
    /// Reads all sources. Each warning is logged too.
    ///
    /// # Errors
    /// [`Io`](spill_core::ErrorKind::Io) when a file that is there cannot be read;
    /// [`Config`](spill_core::ErrorKind::Config), naming file and line, variable or flag, for a file that is not
    /// YAML, a key of ours that is not known, and a value that makes no sense.
    pub fn load(sources: &Sources, system: &SystemMemory) -> Result<Self> {
        let raw: BTreeMap<String, Raw> = sources.read()?;
        let mut reading = keys::Reading::new(raw, system);
        let settings = reading.settings()?;
        let (entries, warnings) = reading.finish(&settings);
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        Ok(Config { settings, entries, warnings })
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The settings alone.
    #[must_use]
    pub fn into_settings(self) -> Settings {
        self.settings
    }

    /// Each setting with its origin, in the order of the keys.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What is strange about them.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
