//! The private directory that one owner of files has for its lifetime.

mod config;
pub(crate) mod lock;
mod purge;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};

use parking_lot::Mutex;
use spill_core::{Error, Result};

use crate::io::{Io, Lock};

pub use config::WorkspaceConfig;
pub use purge::{Purged, purge};
pub(crate) use purge::{is_full_name, may_be_workspace};

/// What the names of all workspaces begin with.
const PREFIX: &str = "overspill-";

/// Where spilled data goes when the system's temporary directory lives in main memory.
const ON_DISK: &str = "/var/tmp";

/// Tells apart the workspaces of this process.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A private directory (0700) for spilled files, removed with all it holds when it is dropped.
///
/// It lies under the directory given, or under the temporary directory of the operating system. A lock file
/// in it, held for its lifetime, tells the living from the dead: the lock ends with the process however that
/// dies, and unlike a process number it cannot be used again. Opening a workspace first [purges](purge) what
/// dead processes left beside it.
///
/// ```
/// use spill_disk::Workspace;
///
/// let workspace = Workspace::open(None)?;
/// assert!(workspace.path().is_dir());
/// let path = workspace.path().to_owned();
/// drop(workspace);
/// assert!(!path.exists());
/// # Ok::<_, spill_core::Error>(())
/// ```
pub struct Workspace {
    io: Arc<dyn Io>,
    path: PathBuf,
    /// Whether it carries a lock file.
    locked: bool,
    lock: Mutex<Option<Box<dyn Lock>>>,
}

impl Workspace {
    /// A workspace under `parent`, which is created if it is missing, or under the operating system's
    /// temporary directory (`TMPDIR`). Where that one lives in main memory, spilling to it would free
    /// nothing: `/var/tmp` is taken instead, with a warning. [`WorkspaceConfig`] sets more.
    ///
    /// # Errors
    /// [`Io`](spill_core::ErrorKind::Io) naming the directory, when it cannot be created or written.
    pub fn open(parent: Option<&Path>) -> Result<Self> {
        WorkspaceConfig::new(parent).open()
    }

    /// As [`open`](Self::open), by way of another `io`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(io: Arc<dyn Io>, parent: Option<&Path>) -> Result<Self> {
        WorkspaceConfig::new(parent).io(io).open()
    }

    /// A workspace for each of these directories, on as many devices as there are: see
    /// [`SegmentsConfig::across`](crate::SegmentsConfig::across). A directory in which none can be made is passed by
    /// with a warning, as long as there is one in which it can.
    ///
    /// # Errors
    /// As [`open`](Self::open), when there is none; `Config` when no directory is named.
    pub fn open_all(parents: &[impl AsRef<Path>]) -> Result<Vec<Self>> {
        let mut first = None;
        let mut opened = Vec::with_capacity(parents.len());
        for parent in parents {
            match Self::open(Some(parent.as_ref())) {
                Ok(workspace) => opened.push(workspace),
                Err(error) => {
                    tracing::warn!(%error, "a directory for spilled data is not used");
                    first.get_or_insert(error);
                }
            }
        }
        if opened.is_empty() {
            return Err(first.unwrap_or_else(|| Error::config("directories", "", "one directory or more")));
        }
        Ok(opened)
    }

    /// Under `parent`, or by the rules for none.
    fn make(config: &WorkspaceConfig, parent: Option<PathBuf>) -> Result<Self> {
        let io = Arc::clone(&config.io);
        let parent = match parent {
            Some(parent) => prepared(&*io, parent)?,
            None => on_a_disk(&*io, std::env::temp_dir())?,
        };
        check_device(&*io, &parent, config.on_disk_only)?;
        if config.locked {
            purge_at_start(&*io, &parent);
        }
        loop {
            // Other processes may have the same number (containers that share a directory), so a name that
            // is taken is passed by.
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            let made = lock::made(&*io, &path, config.locked).map_err(|source| {
                Error::io("make a workspace (it needs a writable directory) at", &path, source)
            })?;
            if let Some(lock) = made {
                return Ok(Workspace { io, path, locked: config.locked, lock: Mutex::new(Some(lock)) });
            }
        }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The way to its files.
    #[must_use]
    pub fn io(&self) -> &Arc<dyn Io> {
        &self.io
    }

    /// Removes the directory with all it holds, and gives up its lock. Once removed, doing it again does
    /// nothing.
    ///
    /// # Errors
    /// When something in it could not be removed; it can be tried again, and dropping does.
    pub fn remove(&self) -> Result<()> {
        let mut lock = self.lock.lock();
        if lock.is_some() {
            lock::remove(&*self.io, &self.path).map_err(|source| Error::io("remove", &self.path, source))?;
            *lock = None;
        }
        Ok(())
    }
}

impl Workspace {
    /// Makes the directory again, after somebody else removed it. The directory that it lies in must be there: it
    /// may be the place of a device that is not mounted now.
    pub(crate) fn restore(&self) -> std::io::Result<()> {
        let mut lock = self.lock.lock();
        if lock.is_some()
            && let Some(again) = lock::made(&*self.io, &self.path, self.locked)?
        {
            *lock = Some(again);
        }
        Ok(())
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, "a workspace stays behind; it is removed when the next one is opened beside it");
        }
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").field("path", &self.path).finish_non_exhaustive()
    }
}

fn purge_at_start(io: &dyn Io, parent: &Path) {
    match purge(io, parent) {
        Ok(purged) if purged.removed.is_empty() => {}
        Ok(purged) => tracing::info!(
            directory = %parent.display(), removed = purged.removed.len(),
            "removed what dead processes left behind"
        ),
        Err(error) => tracing::warn!(%error, "leftovers of dead processes could not be looked for"),
    }
}

fn prepared(io: &dyn Io, directory: PathBuf) -> Result<PathBuf> {
    match io.create_dir_all(&directory) {
        Ok(()) => Ok(directory),
        Err(source) => Err(Error::io(
            "create (name another directory, or make room for it) the directory",
            directory,
            source,
        )),
    }
}

/// `temporary`, or [`ON_DISK`] where that lives in main memory.
fn on_a_disk(io: &dyn Io, temporary: PathBuf) -> Result<PathBuf> {
    static WARNED: Once = Once::new();
    let temporary = prepared(io, temporary)?;
    if !is_in_memory(io, &temporary) {
        return Ok(temporary);
    }
    let chosen = match prepared(io, PathBuf::from(ON_DISK)) {
        Ok(on_disk) if !is_in_memory(io, &on_disk) => on_disk,
        _ => return Ok(temporary),
    };
    WARNED.call_once(|| {
        tracing::warn!(
            temporary = %temporary.display(), chosen = %chosen.display(),
            "the temporary directory lives in main memory, where spilling frees nothing; \
             name a directory on a disk, or set TMPDIR to one"
        );
    });
    Ok(chosen)
}

/// One that cannot be asked is taken for a disk: what is wrong with it shows when it is written.
fn is_in_memory(io: &dyn Io, directory: &Path) -> bool {
    io.space(directory).is_ok_and(|space| space.in_memory)
}

/// Warns of a directory in main memory, or refuses it.
fn check_device(io: &dyn Io, directory: &Path, on_disk_only: bool) -> Result<()> {
    if !is_in_memory(io, directory) {
        return Ok(());
    }
    if on_disk_only {
        let expected =
            "a directory on a disk: it lives in main memory (tmpfs or ramfs), where spilling frees nothing";
        return Err(Error::config("directory", directory.display(), expected));
    }
    tracing::warn!(
        directory = %directory.display(),
        "this directory lives in main memory (tmpfs or ramfs), where spilling frees nothing; name one on a disk"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::MemoryIo;

    /// Spilling to a tmpfs would free nothing. What to do about it is said, once in a process.
    #[test]
    fn a_temporary_directory_in_memory_is_passed_by() {
        let io = MemoryIo::new();
        assert_eq!(on_a_disk(&io, "/tmp".into()).unwrap(), Path::new("/tmp"));
        io.pretend_tmpfs(Path::new("/tmp"));
        let parts = ["temporary=/tmp", "chosen=/var/tmp", "name a directory on a disk, or set TMPDIR"];
        let chosen = || assert_eq!(on_a_disk(&io, "/tmp".into()).unwrap(), Path::new(ON_DISK));
        warns(chosen, &parts);
        assert_eq!(logged(chosen), [] as [&str; 0]);
        io.pretend_tmpfs(Path::new(ON_DISK));
        assert_eq!(on_a_disk(&io, "/tmp".into()).unwrap(), Path::new("/tmp"));
    }

    #[test]
    fn a_directory_in_memory_is_refused_where_that_is_asked_for() {
        let io = Arc::new(MemoryIo::new());
        let config = || WorkspaceConfig::new(Some(Path::new("/dev/shm"))).io(io.clone());
        assert!(config().on_disk_only(true).open().is_ok());
        io.pretend_tmpfs(Path::new("/dev/shm"));
        assert!(config().open().is_ok(), "with a warning");
        let error = config().on_disk_only(true).open().unwrap_err();
        let spill_core::ErrorKind::Config { key, value, expected } = error.kind() else { panic!("{error}") };
        assert_eq!((&**key, &**value), ("directory", "/dev/shm"));
        assert!(expected.contains("on a disk") && expected.contains("tmpfs"), "{expected}");
        assert_eq!(io.list(Path::new("/dev/shm")).unwrap().len(), 0, "nothing is left there");
    }

    /// The lines that `work` logs.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        let lines = tempfile::NamedTempFile::new().unwrap();
        let file = lines.reopen().unwrap();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || file.try_clone().unwrap());
        tracing::subscriber::with_default(subscriber.finish(), work);
        std::fs::read_to_string(lines.path()).unwrap().lines().map(str::to_owned).collect()
    }

    fn warns(work: impl FnOnce(), parts: &[&str]) {
        let lines = logged(work);
        let [line] = &lines[..] else { panic!("{lines:?}") };
        for part in parts {
            assert!(line.contains("WARN") && line.contains(part), "no {part:?} in {line:?}");
        }
    }

    /// What to do about it is said.
    #[test]
    fn a_directory_in_memory_is_warned_of() {
        let io = Arc::new(MemoryIo::new());
        let open =
            |parent| drop(WorkspaceConfig::new(Some(Path::new(parent))).io(io.clone()).open().unwrap());
        assert_eq!(logged(|| open("/disk")), [] as [&str; 0]);
        io.pretend_tmpfs(Path::new("/dev/shm"));
        let parts = ["lives in main memory", "name one on a disk", "directory=/dev/shm"];
        warns(|| open("/dev/shm"), &parts);
    }
}
