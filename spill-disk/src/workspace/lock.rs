//! How a workspace comes into being and goes, so that nobody takes a living one for dead.
//!
//! A workspace is *dead* when it carries a lock file whose lock is free. Between creating that file and
//! locking it, a new workspace looks dead. A purger that finds it then takes the lock itself and removes the
//! directory, and its maker notices: it gets the lock neither of a file that the purger holds nor of one
//! that its path no longer names ([`Io::try_lock`](crate::io::Io::try_lock) promises the second), and makes
//! another directory. Once the maker holds the lock, no purger can get it. So the maker waits for nobody, and a
//! crash at any step leaves a directory that the next purge removes: one that is empty, without a lock file, is
//! removed as such, and its maker, if it lives, notices just so.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use crate::io::{Io, Lock, gone};

/// The lock file's name. Only directories that hold it are ever removed by a purge.
pub(crate) const NAME: &str = "overspill.lock";

/// Creates the directory, with a lock or without. `None` when its name is taken, or a purger took it for dead: then
/// another name must be tried.
pub(super) fn made(io: &dyn Io, directory: &Path, locked: bool) -> io::Result<Option<Box<dyn Lock>>> {
    match io.create_dir(directory) {
        Ok(()) if locked => lock(io, directory),
        Ok(()) => mark_unlocked(io, directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

/// Locks a directory that was just created. `None` as [`made`].
fn lock(io: &dyn Io, directory: &Path) -> io::Result<Option<Box<dyn Lock>>> {
    let path = directory.join(NAME);
    let locked = match io.create(&path) {
        Ok(_) => io.try_lock(&path),
        Err(error) => Err(error),
    };
    match locked {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            // What fails here is a full or foreign device; the first error is the one to tell.
            let _ = io.remove_dir_all(directory);
            Err(error)
        }
    }
}

/// In a workspace without a lock, so that its directory is never empty: a purge takes empty ones for dead.
pub(crate) const UNLOCKED: &str = "overspill.unlocked";

/// Stands for the lock of a workspace that has none.
struct Unlocked;
impl Lock for Unlocked {}

/// Marks a directory that was just created as one without a lock. `None` as [`made`].
fn mark_unlocked(io: &dyn Io, directory: &Path) -> io::Result<Option<Box<dyn Lock>>> {
    match io.create(&directory.join(UNLOCKED)) {
        Ok(_) => Ok(Some(Box::new(Unlocked))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            // Only an empty one goes: it is ours, or nobody's.
            let _ = io.remove_dir(directory);
            Err(error)
        }
    }
}

/// Removes the directory of a workspace whose lock is held: the lock file last, so that a removal cut short
/// leaves a directory that the next purge finds.
pub(super) fn remove(io: &dyn Io, directory: &Path) -> io::Result<()> {
    gone(io.clear(directory, OsStr::new(NAME)))?;
    gone(io.remove_file(&directory.join(NAME)))?;
    gone(io.remove_dir(directory))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::io::{Fault, FaultyIo, MemoryIo, Operation, Rule};
    use crate::workspace::{Workspace, purge};

    /// A purger that strikes between any two steps of a creation: the workspace that comes out is alive.
    #[test]
    fn a_workspace_being_made_is_never_taken_for_dead() {
        for step in 1..20 {
            let memory = MemoryIo::new();
            let io = FaultyIo::new(Arc::new(memory.clone()));
            let strike = move |_: &crate::io::Call<'_>| {
                let _ = purge(&memory, Path::new("/work"));
            };
            io.inject(Rule::nth(step, Fault::Delay(Arc::new(strike))));
            let workspace = Workspace::open_with(Arc::new(io.clone()), Some(Path::new("/work"))).unwrap();
            assert!(purge(&io, Path::new("/work")).unwrap().removed.is_empty(), "step {step}");
            assert!(io.open(&workspace.path().join(NAME)).is_ok(), "step {step}");
        }
    }

    #[test]
    fn a_purger_that_holds_the_lock_makes_the_maker_take_another_name() {
        let memory = MemoryIo::new();
        let io = FaultyIo::new(Arc::new(memory.clone()));
        let held = parking_lot::Mutex::new(None);
        let steal = move |call: &crate::io::Call<'_>| {
            *held.lock() = memory.try_lock(call.path).unwrap();
        };
        let lock_file =
            |call: &crate::io::Call<'_>| call.operation == Operation::Lock && call.path.ends_with(NAME);
        io.inject(Rule::nth(1, Fault::Delay(Arc::new(steal))).only(lock_file));
        let workspace = Workspace::open_with(Arc::new(io.clone()), Some(Path::new("/work"))).unwrap();
        assert_eq!(io.calls_of(Operation::CreateDir), 3, "the parent, the stolen one, the one that came out");
        assert!(io.open(&workspace.path().join(NAME)).is_ok());
    }

    #[test]
    fn a_removal_cut_short_is_finished_by_the_next_purge() {
        let memory = Arc::new(MemoryIo::new());
        let io = FaultyIo::new(memory);
        let workspace = Workspace::open_with(Arc::new(io.clone()), Some(Path::new("/work"))).unwrap();
        let path = workspace.path().to_owned();
        for name in ["one", "two"] {
            io.create(&path.join(name)).unwrap();
        }
        io.inject(Rule::from(2, Fault::Errno(5)).on(Operation::RemoveFile));
        assert!(workspace.remove().is_err());
        drop(workspace);
        assert!(io.list(&path).is_ok());
        io.heal();
        assert_eq!(purge(&io, Path::new("/work")).unwrap().removed, [path]);
    }
}
