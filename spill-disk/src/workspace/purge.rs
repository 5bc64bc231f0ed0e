//! Removing what dead processes left behind.

use std::io;
use std::path::{Path, PathBuf};

use spill_core::{Error, Result};

use super::{PREFIX, lock};
use crate::io::{Entry, Io, Lock, try_lock_made};

/// What a [`purge`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// The workspaces of dead processes, now gone.
    pub removed: Vec<PathBuf>,
    /// Workspaces that are in use, or belong to somebody else.
    pub kept: usize,
    /// Another process was purging, so nothing was done.
    pub busy: bool,
}

/// Removes the workspaces under `parent` whose owner is dead. Only directories named as workspaces are that
/// hold a workspace's lock file are looked at, and no link is followed. One that is empty, without a lock file, goes
/// too: its maker died before the file was there, or finds that the directory is gone and makes another.
///
/// One process purges at a time (a lock file in `parent`, one for each user); where one does already, this
/// returns at once.
///
/// # Errors
/// [`Io`](spill_core::ErrorKind::Io) when `parent` cannot be listed. A workspace that cannot be removed is
/// logged and kept.
pub fn purge(io: &dyn Io, parent: &Path) -> Result<Purged> {
    let path = parent.join(format!(".overspill-purge-{}", io.user()));
    let guard = match purge_lock(io, &path) {
        Ok(guard) => guard,
        Err(error) => {
            tracing::debug!(directory = %parent.display(), %error, "no purge lock, so nothing is purged");
            None
        }
    };
    if guard.is_none() {
        return Ok(Purged { busy: true, ..Purged::default() });
    }
    let purged = purge_locked(io, parent);
    // removed while it is held: whoever opened it meanwhile finds that its path names it no longer
    if let Err(error) = io.remove_file(&path) {
        tracing::debug!(path = %path.display(), %error, "the purge lock stays behind");
    }
    drop(guard);
    purged
}

fn purge_locked(io: &dyn Io, parent: &Path) -> Result<Purged> {
    let mut purged = Purged::default();
    for entry in io.list(parent).map_err(|source| Error::io("list", parent, source))? {
        if !may_be_workspace(&entry) {
            continue;
        }
        let directory = parent.join(&entry.name);
        match remove_if_dead(io, &directory) {
            Ok(true) => purged.removed.push(directory),
            Ok(false) => purged.kept += 1,
            Err(error) => {
                tracing::debug!(directory = %directory.display(), %error, "a workspace could not be purged");
                purged.kept += 1;
            }
        }
    }
    Ok(purged)
}

/// Whether an entry is a directory that is named as workspaces are.
pub(crate) fn may_be_workspace(entry: &Entry) -> bool {
    entry.is_dir && entry.name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// One file a user, since nobody can open another's.
fn purge_lock(io: &dyn Io, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
    try_lock_made(io, path).inspect_err(|error| {
        // a file system without locks: nothing is to be left there
        if error.kind() == io::ErrorKind::Unsupported {
            _ = io.remove_file(path);
        }
    })
}

/// The lock is held until the directory is gone.
fn remove_if_dead(io: &dyn Io, directory: &Path) -> io::Result<bool> {
    match io.try_lock(&directory.join(lock::NAME)) {
        Ok(Some(_held)) => lock::remove(io, directory).map(|()| true),
        Ok(None) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_full_name(directory) => {
            match io.remove_dir(directory) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
                Err(error) => Err(error),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the directory's name is one that a workspace gets: nobody else's empty directory is removed.
pub(crate) fn is_full_name(directory: &Path) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let name = directory.file_name().and_then(|name| name.to_str());
    let numbers = name.and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.split_once('-'));
    numbers.is_some_and(|(process, count)| number(process) && number(count))
}
