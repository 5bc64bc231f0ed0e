//! The directories of one worker: its own, and gone with it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use spill_core::{Error, Result};

/// How the directories of this project are recognised: by their name's beginning, and by a lock file that is
/// locked as long as the owner lives. `overspill purge`, and whoever opens a workspace beside it, removes one
/// whose lock is free.
const PREFIX: &str = "overspill-";
const LOCK: &str = "overspill.lock";

/// A directory that is removed with all it holds when it is dropped.
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes one below `parent`, which is made too if it is missing.
    pub(super) fn make(parent: &Path) -> Result<Self> {
        fs::create_dir_all(parent).map_err(|error| Error::io("create", parent, error))?;
        for number in 0_u32.. {
            let path = parent.join(format!("{PREFIX}worker-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Error::io("create", path, error)),
            }
            // Until it is locked it looks dead to a purge, which may take it away: then the next name is tried.
            match locked(&path.join(LOCK)) {
                Ok(Some(lock)) => return Ok(Directory { path, _lock: lock }),
                Ok(None) => continue,
                Err(error) => {
                    let _ = fs::remove_dir_all(&path);
                    return Err(Error::io("lock", path, error));
                }
            }
        }
        Err(Error::io("create", parent, io::Error::other("every name is taken")))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn locked(path: &Path) -> io::Result<Option<File>> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(error),
    }
    match (fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(held)) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => Ok(Some(file)),
        (Err(error), _) if !gone(&error) => Err(error),
        _ => Ok(None),
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{} stays behind: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_private_locked_and_removed_with_what_it_holds() {
        let parent = tempfile::tempdir().unwrap();
        let below = parent.path().join("below");
        let (one, two) = (Directory::make(&below).unwrap(), Directory::make(&below).unwrap());
        assert_ne!(one.path(), two.path());
        assert_eq!(fs::metadata(one.path()).unwrap().mode() & 0o777, 0o700);
        assert!(File::open(one.path().join(LOCK)).unwrap().try_lock().is_err(), "held");
        fs::create_dir(one.path().join("more")).unwrap();
        fs::write(one.path().join("more/file"), "spilled").unwrap();
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists() && two.path().exists());
    }
}
