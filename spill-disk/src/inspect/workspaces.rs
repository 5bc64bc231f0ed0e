//! The workspaces in a directory, and what a directory holds.

use std::io;
use std::path::{Path, PathBuf};

use spill_core::{Error, Result};

use crate::files::name;
use crate::io::Io;
use crate::workspace::{is_full_name, lock, may_be_workspace};

/// Whose a workspace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A process holds its lock.
    InUse,
    /// Its process is dead: a purge removes it.
    Dead,
    /// It was made without a lock, or its lock cannot be asked: no purge touches it.
    Unknown,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            State::InUse => "in use",
            State::Dead => "dead",
            State::Unknown => "not known",
        })
    }
}

/// A workspace that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its directory.
    pub path: PathBuf,
    /// Whether somebody uses it.
    pub state: State,
    /// How many files it holds, its lock aside.
    pub files: u64,
    /// How many bytes these have.
    pub bytes: u64,
}

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents {
    /// It is a workspace, with these segment files.
    Workspace(Seen, Vec<PathBuf>),
    /// One file a key: these.
    Values(Vec<PathBuf>),
    /// Workspaces lie in it.
    Parent(Vec<Seen>),
}

/// The workspaces in `parent`, by name. Each lock is tried for a moment.
///
/// # Errors
/// [`Io`](spill_core::ErrorKind::Io) when `parent` cannot be listed.
pub fn workspaces(io: &dyn Io, parent: &Path) -> Result<Vec<Seen>> {
    let entries = io.list(parent).map_err(|source| Error::io("list", parent, source))?;
    let mut seen: Vec<Seen> = entries
        .into_iter()
        .filter(may_be_workspace)
        .filter_map(|entry| seen(io, &parent.join(entry.name)).ok().flatten())
        .collect();
    seen.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(seen)
}

/// What `directory` holds.
///
/// # Errors
/// [`Io`](spill_core::ErrorKind::Io) when it cannot be listed.
pub fn contents(io: &dyn Io, directory: &Path) -> Result<Contents> {
    let failed = |source| Error::io("list", directory, source);
    let entries = io.list(directory).map_err(failed)?;
    let files = |is_one: &dyn Fn(&std::ffi::OsStr) -> bool| -> Vec<PathBuf> {
        let these = entries.iter().filter(|entry| !entry.is_dir && is_one(&entry.name));
        let mut paths: Vec<PathBuf> = these.map(|entry| directory.join(&entry.name)).collect();
        paths.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        paths
    };
    let segments = files(&is_segment);
    let values = files(&|name| matches!(name::kind(name), name::Kind::Value(_)));
    if let Some(seen) = seen(io, directory).map_err(failed)?
        && values.is_empty()
    {
        return Ok(Contents::Workspace(seen, segments));
    }
    if !values.is_empty() {
        return Ok(Contents::Values(values));
    }
    workspaces(io, directory).map(Contents::Parent)
}

fn is_segment(name: &std::ffi::OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.strip_prefix("segment-")?.strip_suffix(".spill"));
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

/// `None` when it is no workspace.
fn seen(io: &dyn Io, directory: &Path) -> io::Result<Option<Seen>> {
    let entries = io.list(directory)?;
    let state = if entries.iter().any(|entry| entry.name == lock::NAME) {
        match io.try_lock(&directory.join(lock::NAME)) {
            Ok(Some(_held)) => State::Dead,
            Ok(None) => State::InUse,
            Err(_) => State::Unknown,
        }
    } else if entries.iter().any(|entry| entry.name == lock::UNLOCKED) {
        State::Unknown
    } else if entries.is_empty() && is_full_name(directory) {
        State::Dead
    } else {
        return Ok(None);
    };
    let mut seen = Seen { path: directory.to_owned(), state, files: 0, bytes: 0 };
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        if entry.name != lock::NAME && entry.name != lock::UNLOCKED {
            seen.files += 1;
            // One that goes meanwhile has no bytes.
            seen.bytes += io.len_of(&directory.join(&entry.name)).unwrap_or(0);
        }
    }
    Ok(Some(seen))
}
