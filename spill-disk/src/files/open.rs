//! Opening a directory: what of its files are values, and of which keys.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::{Condvar, Mutex};
use spill_core::{Error, KeyCodec, Meter, Result};

use super::config::{FilesConfig, Place};
use super::header::{self, Head};
use super::name::{self, Kind};
use super::state::{Located, State, Stray};
use super::{Files, caught};
use crate::io::{Io, Lock, try_lock_made};

impl<K: KeyCodec> Files<K> {
    /// The store of these settings, with what its directory holds: see [`Files`] on what is taken for a value.
    ///
    /// # Errors
    /// [`Io`](spill_core::ErrorKind::Io) when the directory or a file in it cannot be read: what cannot be read
    /// now may be readable later, and is not passed by. [`Config`](spill_core::ErrorKind::Config) when another
    /// store has the directory open.
    pub fn open(config: FilesConfig) -> Result<Self> {
        caught("opening a directory of values", || Self::found(config)).flatten()
    }

    fn found(config: FilesConfig) -> Result<Self> {
        let (io, directory, workspace, lock) = match config.place {
            Place::Workspace(workspace) => {
                (Arc::clone(workspace.io()), workspace.path().to_owned(), Some(workspace), None)
            }
            Place::Directory(io, directory) => {
                io.create_dir_all(&directory).map_err(|source| Error::io("create", &directory, source))?;
                let lock = lock(&*io, &directory)?;
                (io, directory, None, Some(lock))
            }
        };
        let mut found = Found { state: State::new(), next: 0, ignored: 0, example: None };
        if workspace.is_none() {
            found.scan(&*io, &directory)?;
        }
        if let Some((path, reason)) = found.example {
            tracing::warn!(
                files = found.ignored, example = %path, reason,
                "files that are no values were left alone"
            );
        }
        Ok(Files {
            io,
            directory,
            workspace,
            lock: Mutex::new(lock),
            state: Mutex::new(found.state),
            released: Condvar::new(),
            next: AtomicU64::new(found.next),
            pool: config.pool,
            clock: config.clock,
            write: Meter::default(),
            read: Meter::default(),
            failures: AtomicU64::new(0),
        })
    }
}

/// Takes the lock of a directory, which stays in it for the next one.
fn lock(io: &dyn Io, directory: &Path) -> Result<Box<dyn Lock>> {
    let path = directory.join(name::LOCK);
    let locked = try_lock_made(io, &path).map_err(|source| Error::io("lock", &path, source))?;
    locked.ok_or_else(|| {
        Error::config("directory", directory.display(), "a directory that no other store has open")
    })
}

/// What was found so far.
struct Found<K> {
    state: State<K>,
    next: u64,
    ignored: u64,
    example: Option<(String, &'static str)>,
}

impl<K: KeyCodec> Found<K> {
    fn scan(&mut self, io: &dyn Io, directory: &Path) -> Result<()> {
        for entry in io.list(directory).map_err(|source| Error::io("list", directory, source))? {
            let path = directory.join(&entry.name);
            match name::kind(&entry.name) {
                _ if entry.is_dir => self.ignore(&path, "it is a directory"),
                Kind::Foreign => self.ignore(&path, "its name is not that of a value"),
                Kind::Lock => {}
                Kind::Part(generation) => {
                    self.pass(generation);
                    if let Err(error) = io.remove_file(&path) {
                        tracing::warn!(file = %path.display(), %error, "a part of a value could not be removed");
                    }
                }
                Kind::Value(generation) => {
                    self.pass(generation);
                    self.value(io, &path, generation)?;
                }
            }
        }
        Ok(())
    }

    /// No value to come has this generation.
    fn pass(&mut self, generation: u64) {
        self.next = self.next.max(generation.saturating_add(1));
    }

    fn ignore(&mut self, path: &Path, reason: &'static str) {
        self.ignored += 1;
        self.example.get_or_insert_with(|| (path.display().to_string(), reason));
    }

    fn value(&mut self, io: &dyn Io, path: &Path, generation: u64) -> Result<()> {
        let file = io.open(path).map_err(|source| Error::io("open", path, source))?;
        let head = header::read(&*file).map_err(|source| Error::io("read", path, source))?;
        let (head, bytes) = match head {
            Ok(found) => found,
            Err(reason) => {
                self.ignore(path, reason);
                return Ok(());
            }
        };
        let named = path.file_name().is_some_and(|name| name == &*name::of_value(&bytes, generation));
        if !named || head.generation != generation {
            self.ignore(path, "its name is not that of the value in it");
            return Ok(());
        }
        let Ok(key) = K::decode_key(&bytes) else {
            self.ignore(path, "its key is not of this store's type");
            return Ok(());
        };
        self.add(io, path, key, &bytes, head);
        Ok(())
    }

    /// Of two values of one key the later one counts.
    fn add(&mut self, io: &dyn Io, path: &Path, key: K, bytes: &[u8], head: Head) {
        let Head { generation, weight, units, checksum } = head;
        let located =
            Located { generation, weight, head: header::length(bytes.len()) as u32, units, checksum };
        let (older, path) = match self.state.index.get(&key) {
            None => {
                self.state.store(key, located);
                return;
            }
            Some(other) if other.generation > generation => (located, path.to_owned()),
            Some(other) => (*other, path.with_file_name(name::of_value(bytes, other.generation))),
        };
        if older != located {
            self.state.store(key.clone(), located);
        }
        if let Err(error) = io.remove_file(&path) {
            tracing::warn!(file = %path.display(), %error, "an old value could not be removed");
            let stray = Stray { path, length: older.length() };
            self.state.strays.entry(key).or_default().push(stray);
        }
    }
}
