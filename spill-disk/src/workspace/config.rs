//! How a workspace is set up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use spill_core::{ErrorKind, Result};

use super::Workspace;
use crate::io::{Io, RealIo};

/// The settings of a [`Workspace`].
///
/// ```
/// use spill_disk::WorkspaceConfig;
///
/// # let directory = tempfile::tempdir_in("/var/tmp")?;
/// let workspace = WorkspaceConfig::new(Some(directory.path())).on_disk_only(true).open()?;
/// assert!(workspace.path().starts_with(directory.path()));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct WorkspaceConfig {
    parent: Option<PathBuf>,
    pub(super) io: Arc<dyn Io>,
    pub(super) on_disk_only: bool,
    fall_back: bool,
    pub(super) locked: bool,
}

impl WorkspaceConfig {
    /// A workspace under this directory, which is created if it is missing, or under the operating system's
    /// temporary directory.
    #[must_use]
    pub fn new(parent: Option<&Path>) -> Self {
        WorkspaceConfig {
            parent: parent.map(Path::to_owned),
            io: Arc::new(RealIo),
            on_disk_only: false,
            fall_back: false,
            locked: true,
        }
    }

    /// By way of another `io` than the operating system's own.
    #[must_use]
    pub fn io(mut self, io: Arc<dyn Io>) -> Self {
        self.io = io;
        self
    }

    /// Whether a directory in main memory (tmpfs, ramfs), where spilling frees nothing, is refused. Otherwise there
    /// is a warning.
    #[must_use]
    pub fn on_disk_only(mut self, strict: bool) -> Self {
        self.on_disk_only = strict;
        self
    }

    /// Whether a directory that cannot be written is passed by with a warning: first for one beside it whose name
    /// ends with the number of the user, then for the operating system's temporary directory.
    #[must_use]
    pub fn fall_back(mut self, elsewhere: bool) -> Self {
        self.fall_back = elsewhere;
        self
    }

    /// Whether a lock is held, as it is unless this says otherwise. On a file system without locks a workspace can
    /// do without: then nobody purges it when its process dies, and it purges nobody.
    #[must_use]
    pub fn locked(mut self, locked: bool) -> Self {
        self.locked = locked;
        self
    }

    /// Makes the workspace.
    ///
    /// # Errors
    /// [`Io`](spill_core::ErrorKind::Io) naming the directory, when it cannot be created or written;
    /// [`Config`](spill_core::ErrorKind::Config) when it lives in main memory and that is refused.
    pub fn open(self) -> Result<Workspace> {
        let Some(parent) = self.parent.clone().filter(|_| self.fall_back) else {
            return Workspace::make(&self, self.parent.clone());
        };
        let mut beside = parent.clone().into_os_string();
        beside.push(format!("-{}", self.io.user()));
        let mut outcome = Workspace::make(&self, Some(parent));
        for elsewhere in [Some(beside.into()), None] {
            match outcome {
                Err(error) if matches!(error.kind(), ErrorKind::Io { .. }) => {
                    tracing::warn!(%error, "another directory is taken for spilled data");
                    outcome = Workspace::make(&self, elsewhere);
                }
                outcome => return outcome,
            }
        }
        outcome
    }
}
