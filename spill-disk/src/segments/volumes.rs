//! The directories that a store's files lie in, and which of them is asked for the next file.
//!
//! Files are spread by the room that each device has. A directory in which something failed is out of use for new
//! files for a while, and longer each time; what was written into it is read from it as before. Once none is in use,
//! all are asked: a store with one directory asks it each time.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use spill_core::{Clock, Error, Result};

use crate::io::{File, gone};
use crate::{Workspace, failure};

/// For how long a directory is out of use after its first failure; twice as long after each that follows.
const FIRST_REST: Duration = Duration::from_secs(1);

/// For how long at most.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// All directories of one store.
pub(super) struct Volumes {
    workspaces: Vec<Workspace>,
    health: Mutex<Vec<Health>>,
    /// Some directory failed, and has not worked since.
    any_out: AtomicBool,
    clock: Arc<dyn Clock>,
}

#[derive(Clone, Copy, Default)]
struct Health {
    /// Files that its room entitles it to, less those it got.
    credit: f64,
    out: Option<Out>,
}

#[derive(Clone, Copy)]
struct Out {
    /// When it is asked again, by the clock.
    until: Duration,
    rest: Duration,
}

/// A file that was just made.
pub(super) struct Made {
    pub(super) file: Box<dyn File>,
    pub(super) path: PathBuf,
    /// The number of its directory.
    pub(super) volume: usize,
}

impl Volumes {
    pub(super) fn new(workspaces: Vec<Workspace>, clock: Arc<dyn Clock>) -> Self {
        let health = Mutex::new(vec![Health::default(); workspaces.len()]);
        Volumes { workspaces, health, any_out: AtomicBool::new(false), clock }
    }

    /// The first directory, to name the store by.
    pub(super) fn path(&self) -> &Path {
        self.workspaces.first().map_or(Path::new(""), Workspace::path)
    }

    /// Makes a file of this name in the directory whose turn it is, or in the next where that fails.
    ///
    /// # Errors
    /// What the last one failed with.
    pub(super) fn create(&self, name: &str, used: u64) -> Result<Made> {
        let mut outcome = Err(Error::config("workspaces", "none", "one directory or more"));
        for (turn, volume) in self.in_turn().into_iter().enumerate() {
            let Some(workspace) = self.workspaces.get(volume) else { continue };
            let path = workspace.path().join(name);
            match created(workspace, &path) {
                Ok(file) => return Ok(Made { file, path, volume }),
                Err(source) => {
                    if turn == 0 {
                        self.health.lock()[volume].credit += 1.0;
                    }
                    outcome = Err(self.failed(volume, used, "create", &path, source));
                }
            }
        }
        outcome
    }

    /// The directories in the order in which they are asked. The first is charged for a file at once, so that who asks while
    /// a device takes long over one goes to the next; a single one need not be.
    fn in_turn(&self) -> Vec<usize> {
        if self.workspaces.len() <= 1 {
            return (0..self.workspaces.len()).collect();
        }
        let now = self.clock.now();
        let mut usable: Vec<usize> = {
            let health = self.health.lock();
            (0..health.len()).filter(|at| health[*at].is_in_use(now)).collect()
        };
        let none_is = usable.is_empty();
        if none_is {
            usable.extend(0..self.workspaces.len());
        }
        // Not of one that is out of use: asking may hang as well.
        let mut free = vec![0.0; self.workspaces.len()];
        for at in &usable {
            free[*at] = self::free(&self.workspaces[*at]).unwrap_or(0) as f64;
        }
        let mut health = self.health.lock();
        if none_is {
            usable.sort_by(|a, b| free[*b].total_cmp(&free[*a]));
            health[usable[0]].credit -= 1.0;
            return usable;
        }
        let sum: f64 = usable.iter().map(|at| free[*at]).sum();
        for at in &usable {
            health[*at].credit += free[*at] / sum.max(1.0);
        }
        usable.sort_by(|a, b| health[*b].credit.total_cmp(&health[*a].credit));
        health[usable[0]].credit -= 1.0;
        usable
    }

    /// Whether one of several directories is in use, so that what failed in another can go there.
    pub(super) fn has_another(&self) -> bool {
        let now = self.clock.now();
        self.workspaces.len() > 1 && self.health.lock().iter().any(|health| health.is_in_use(now))
    }

    /// How many directories there are.
    pub(super) fn count(&self) -> usize {
        self.workspaces.len()
    }

    pub(super) fn is_in_use(&self, volume: usize) -> bool {
        if !self.any_out.load(Relaxed) || self.workspaces.len() == 1 {
            return true;
        }
        self.health.lock()[volume].is_in_use(self.clock.now())
    }

    /// Something was written there.
    pub(super) fn works(&self, volume: usize) {
        if !self.any_out.load(Relaxed) {
            return;
        }
        let was_out = {
            let mut health = self.health.lock();
            let was_out = health[volume].out.take().is_some();
            self.any_out.store(health.iter().any(|health| health.out.is_some()), Relaxed);
            was_out
        };
        if was_out {
            let directory = self.workspaces[volume].path();
            tracing::info!(directory = %directory.display(), "a directory for spilled data works again");
        }
    }

    /// Something failed there: it is out of use for a while. Returns what that is to the caller, `used` bytes being
    /// ours.
    pub(super) fn failed(
        &self,
        volume: usize,
        used: u64,
        operation: &'static str,
        path: &Path,
        source: io::Error,
    ) -> Error {
        let workspace = &self.workspaces[volume];
        let error = failure::failed(&**workspace.io(), workspace.path(), used, operation, path, source);
        let now = self.clock.now();
        let was_in = {
            let health = &mut self.health.lock()[volume];
            let rest = match health.out {
                None => FIRST_REST,
                // Of several that fail at the same time one counts.
                Some(Out { until, rest }) if now < until => rest,
                Some(Out { rest, .. }) => (rest * 2).min(LONGEST_REST),
            };
            let before = health.out.replace(Out { until: now.saturating_add(rest), rest });
            self.any_out.store(true, Relaxed);
            before.is_none()
        };
        if was_in && self.workspaces.len() > 1 {
            let directory = workspace.path();
            tracing::warn!(%error, directory = %directory.display(), "a directory for spilled data is out of use");
        }
        error
    }

    /// The least room that a device has on which there is a directory in use, in bytes.
    pub(super) fn least_free(&self) -> u64 {
        let free =
            |volume: usize| if self.is_in_use(volume) { free(&self.workspaces[volume]).ok() } else { None };
        (0..self.workspaces.len()).filter_map(free).min().unwrap_or(0)
    }

    /// Room on the devices of all directories, in bytes. One that cannot be asked has none.
    pub(super) fn free(&self) -> u64 {
        self.workspaces.iter().filter_map(|workspace| free(workspace).ok()).fold(0, u64::saturating_add)
    }

    /// Removes a file that nothing needs any more. One that is gone already is well.
    pub(super) fn remove_file(&self, volume: usize, path: &Path) -> io::Result<()> {
        gone(self.workspaces[volume].io().remove_file(path))
    }

    /// Removes all directories.
    ///
    /// # Errors
    /// The first failure, after all were tried.
    pub(super) fn remove(&self) -> Result<()> {
        let outcomes: Vec<Result<()>> = self.workspaces.iter().map(Workspace::remove).collect();
        outcomes.into_iter().collect()
    }
}

impl Health {
    fn is_in_use(&self, now: Duration) -> bool {
        self.out.is_none_or(|out| out.until <= now)
    }
}

/// Room on the device of a workspace; one that was removed behind our back is made again.
fn free(workspace: &Workspace) -> io::Result<u64> {
    let space = || workspace.io().space(workspace.path());
    match space() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            workspace.restore()?;
            Ok(space()?.free)
        }
        found => Ok(found?.free),
    }
}

/// Creates a file in the workspace; one that was removed behind our back is made again.
fn created(workspace: &Workspace, path: &Path) -> io::Result<Box<dyn File>> {
    match workspace.io().create(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            workspace.restore()?;
            workspace.io().create(path)
        }
        outcome => outcome,
    }
}

impl std::fmt::Debug for Volumes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.workspaces).finish()
    }
}
