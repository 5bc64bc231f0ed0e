//! How a store of files is set up.

use std::path::PathBuf;
use std::sync::Arc;

use spill_core::{Clock, Pool, SystemClock};

use crate::Workspace;
use crate::io::{Io, RealIo};

/// The settings of [`Files`](super::Files).
///
/// ```
/// use spill_core::Pool;
/// use spill_disk::{Files, FilesConfig, Workspace};
///
/// let config = FilesConfig::new(Workspace::open(None)?).pool(Pool::new(16 << 20));
/// let files: Files<String> = Files::open(config)?;
/// # Ok::<_, spill_core::Error>(())
/// ```
pub struct FilesConfig {
    pub(super) place: Place,
    pub(super) pool: Pool,
    pub(super) clock: Arc<dyn Clock>,
}

/// Where the files lie.
pub(super) enum Place {
    /// In a private directory that goes with the store.
    Workspace(Workspace),
    /// In a directory that stays.
    Directory(Arc<dyn Io>, PathBuf),
}

impl FilesConfig {
    /// Files in this workspace, by way of its `Io`: they go when the store is closed or dropped.
    #[must_use]
    pub fn new(workspace: Workspace) -> Self {
        Self::of(Place::Workspace(workspace))
    }

    /// Files in this directory, which is made if it is missing. They stay when the store is closed or dropped,
    /// and are there again when it is opened.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self::at_with(Arc::new(RealIo), directory)
    }

    /// As [`at`](Self::at), by way of another `io`.
    #[must_use]
    pub fn at_with(io: Arc<dyn Io>, directory: impl Into<PathBuf>) -> Self {
        Self::of(Place::Directory(io, directory.into()))
    }

    fn of(place: Place) -> Self {
        FilesConfig { place, pool: Pool::default(), clock: Arc::new(SystemClock::new()) }
    }

    /// Where the memory for values read comes from.
    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pool = pool;
        self
    }

    /// Takes times from `clock` instead of the operating system.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}
