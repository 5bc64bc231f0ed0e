//! `Files`: one file a key.

mod config;
pub(crate) mod header;
pub(crate) mod name;
mod open;
mod state;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::{Condvar, Mutex, MutexGuard};
use spill_core::{
    Clock, Error, ErrorKind, Frames, KeyCodec, Meter, MutableMapping, Pool, Result, SpilledSize, Stats, Usage,
};

pub use config::FilesConfig;
use header::Head;
use state::{Located, State, Stray};

use crate::Workspace;
use crate::failure::{self, caught};
use crate::io::{Io, Lock, gone, read_exact_at};
use crate::segments::format::{HEADER, Identity, Payload, Shape, decode};
use crate::segments::sum::read_summed;
use crate::segments::writer;

/// A mapping of keys to [`Frames`] that keeps each value in a file of its own.
///
/// Values can be found, copied and removed with the tools of the operating system, and a directory of one's own
/// ([`FilesConfig::at`]) can be opened again by a later process. For many small values
/// [`Segments`](crate::Segments) is much faster, since each insert here makes a file.
///
/// A value is written to a file aside, which then gets its name: nobody ever sees a part of one, and a process
/// that dies leaves the old value. There is no stage: when `insert` returned, the value is the operating
/// system's. It is not synced: after a loss of power the last values may be damaged, which their checksums
/// tell. Each read checks the record's checksum against the one kept in RAM, which the file's head gave; what
/// differs is [`Corrupt`](ErrorKind::Corrupt), and the key stays until it is removed or replaced.
///
/// # Names
///
/// The name of a file is made of the bytes that [`KeyCodec`] gives for the key and of a number. Of the bytes,
/// small letters, digits, `-` and `_` stay, others become `%` and two hexadecimal digits: `task/7` is
/// `key.task%2f7.<number>.spill`. A key that would give a long name has a hash in its place,
/// `hash.<hash>.<number>.spill`; the whole key, of up to 16 MiB, is in the file itself. No name is longer than
/// 143 bytes.
///
/// # Opening a directory again
///
/// The names and the head of each file are read, no values. Of two values of one key, which an interrupted
/// process can leave, the later one counts and the other is removed, as is what was being written. Everything
/// else that is no whole head of a value of a `K` is left alone and not counted, with one warning in the log:
/// foreign files, and values whose head is damaged. A value that is damaged behind its head is a key; reading it
/// is an error. Another version's file is left alone too. One store at a time may have a directory open; it holds
/// the lock of `lock.spill` in it.
///
/// # Costs
///
/// Beyond its key a value costs some 40 bytes of RAM, and a head of 48 bytes, its key, a record as in a segment
/// and an inode on disk. An insert is five calls of the system, a read three; one of a long value
/// that is in the page cache takes one more for each 128 KiB. `usage` is kept as sums.
/// `for_each_key` copies the keys.
///
/// # Between threads
///
/// One lock guards the index; no file is touched while it is held. Writes, removals and takes of one key go one
/// after the other; others go in parallel. Reads wait for nobody but a removal of their key that is under way:
/// they get the whole value that was there when they began, or a later one. A value that is replaced keeps its
/// old file until the new one has its name. `close` waits for the writes under way.
pub struct Files<K: KeyCodec> {
    io: Arc<dyn Io>,
    directory: PathBuf,
    /// Where the files lie in one.
    workspace: Option<Workspace>,
    /// The lock of a directory that stays.
    lock: Mutex<Option<Box<dyn Lock>>>,
    state: Mutex<State<K>>,
    /// A key is held no more.
    released: Condvar,
    /// The generation of the next value.
    next: AtomicU64,
    pool: Pool,
    clock: Arc<dyn Clock>,
    write: Meter,
    read: Meter,
    failures: AtomicU64,
}

/// Of a record of more than this many bytes the last byte is read first.
const TRIED_FIRST: usize = 1 << 20;

fn closed() -> Error {
    ErrorKind::Closed { what: "the store of files" }.into()
}

/// A key that is held until this is dropped.
struct Hold<'a, K: KeyCodec> {
    files: &'a Files<K>,
    key: &'a K,
}

impl<K: KeyCodec> Drop for Hold<'_, K> {
    fn drop(&mut self) {
        let released = self.files.state.lock().held.remove_entry(self.key);
        self.files.released.notify_all();
        drop(released);
    }
}

impl<K: KeyCodec> Files<K> {
    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn open_state(&self) -> Result<MutexGuard<'_, State<K>>> {
        let state = self.state.lock();
        if state.closed { Err(closed()) } else { Ok(state) }
    }

    /// Holds `key`, waiting until nobody else does.
    fn hold<'a>(&'a self, key: &'a K) -> Result<Hold<'a, K>> {
        let owned = key.clone();
        let mut state = self.open_state()?;
        while state.held.contains_key(key) {
            self.released.wait(&mut state);
            if state.closed {
                return Err(closed());
            }
        }
        state.held.insert(owned, ());
        Ok(Hold { files: self, key })
    }

    fn path(&self, key: &[u8], generation: u64) -> PathBuf {
        self.directory.join(name::of_value(key, generation))
    }

    fn failed(&self, operation: &'static str, path: &Path, source: io::Error) -> Error {
        self.failures.fetch_add(1, Relaxed);
        let used = self.state.lock().physical();
        failure::failed(&*self.io, &self.directory, used, operation, path, source)
    }

    fn corrupt(&self, path: &Path, expected: String, found: String) -> Error {
        ErrorKind::Corrupt { location: path.display().to_string(), expected, found }.into()
    }

    /// The number of the next value. What is not reached by counting, but by a file that somebody else named, is not given
    /// out: the next store would take such a name for a foreign one, and the value would be lost.
    fn generation(&self) -> Result<u64> {
        let next = |number: u64| number.checked_add(1).filter(|_| number < name::UNREACHED);
        self.next.fetch_update(Relaxed, Relaxed, next).map_err(|number| {
            self.failures.fetch_add(1, Relaxed);
            let expected = format!(
                "a directory whose files have numbers below {number}: somebody gave one here a number that counting does \
                 not reach, so that none is left; put new values in another directory"
            );
            Error::config("directory", self.directory.display(), expected)
        })
    }

    /// Writes a value into a file of its own, under a name that no other value ever had.
    fn write(&self, hold: &Hold<'_, K>, bytes: &[u8], frames: Frames, shape: Shape) -> Result<Located> {
        let start = self.clock.now();
        let generation = self.generation()?;
        let (part, path) = (self.directory.join(name::of_part(generation)), self.path(bytes, generation));
        let (weight, owner) = (frames.weight(), header::owner(generation));
        let record = Payload::of(frames, shape, owner.tag);
        let length = header::length(bytes.len());
        let written = caught("writing a file", || {
            let file = self.io.create(&part).map_err(|source| ("create", &part, source))?;
            let head = |checksum, out: &mut [u8]| {
                Head::new(generation, weight, shape, checksum).write(bytes, out);
            };
            writer::write_behind_head(&*file, owner.segment, length, head, &record)
                .map_err(|source| ("write", &part, source))
                .and_then(|checksum| match self.io.rename(&part, &path) {
                    Ok(()) => Ok(checksum),
                    Err(source) => Err(("name", &path, source)),
                })
        });
        let error = match written {
            Ok(Ok(checksum)) => {
                let located =
                    Located { generation, weight, head: length as u32, units: shape.units, checksum };
                self.write.add(1, located.length(), self.clock.now().saturating_sub(start));
                return Ok(located);
            }
            Ok(Err((operation, path, source))) => self.failed(operation, path, source),
            Err(panicked) => {
                self.failures.fetch_add(1, Relaxed);
                panicked
            }
        };
        // It is under one of the names or under none: a failed call may have been done.
        let length = length as u64 + shape.length();
        self.discard(hold.key, [part, path].into_iter().map(|path| Stray { path, length }).collect());
        Err(error)
    }

    /// Removes files of a held key that count no more, those of earlier calls included. What cannot be removed
    /// is kept in mind, and the first error given.
    fn discard(&self, key: &K, more: Vec<Stray>) -> Option<Error> {
        let mut strays = self.state.lock().strays.remove(key).unwrap_or_default();
        strays.extend(more);
        let mut first = None;
        strays.retain(|stray| match self.remove_file(&stray.path) {
            Ok(()) => false,
            Err(error) => {
                first.get_or_insert(error);
                true
            }
        });
        if !strays.is_empty() {
            let key = key.clone();
            let replaced = self.state.lock().strays.insert(key, strays);
            drop(replaced);
        }
        first
    }

    /// Removes a file, or finds that it is gone.
    fn remove_file(&self, path: &Path) -> Result<()> {
        let removed = caught("removing a file", || self.io.remove_file(path))?;
        gone(removed).map_err(|error| self.failed("remove", path, error))
    }

    /// Removes the file of a held key, and then the key. Older files go first, so that none of them is the key's
    /// value when the directory is opened again.
    fn remove_held(&self, hold: &Hold<'_, K>, located: Located) -> Result<()> {
        if let Some(error) = self.discard(hold.key, Vec::new()) {
            return Err(error);
        }
        self.remove_file(&self.path(&hold.key.key_bytes(), located.generation))?;
        let removed = self.state.lock().remove(hold.key);
        drop(removed);
        Ok(())
    }

    /// The value of a file. `None` when there is no such file.
    fn read(&self, key: &K, located: &Located) -> Result<Option<Frames>> {
        let start = self.clock.now();
        let result = caught("reading a file", || self.read_record(key, located)).flatten();
        match &result {
            Ok(Some(_)) => self.read.add(1, located.length(), self.clock.now().saturating_sub(start)),
            Ok(None) => {}
            Err(_) => {
                self.failures.fetch_add(1, Relaxed);
            }
        }
        result
    }

    fn read_record(&self, key: &K, located: &Located) -> Result<Option<Frames>> {
        let path = self.path(&key.key_bytes(), located.generation);
        let Ok(length) = usize::try_from(located.record()) else {
            let (what, limit) = ("a record to be read at once".to_owned(), usize::MAX as u64);
            let (size, setting) = (located.record(), "the address space");
            return Err(ErrorKind::TooLarge { what, size, limit, setting }.into());
        };
        let file = match self.io.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("open", path, error)),
        };
        let offset = u64::from(located.head);
        let whole = if length > TRIED_FIRST {
            // No memory is taken for what a damaged file promises.
            read_exact_at(&*file, &mut [0], offset + located.record() - 1)
        } else {
            Ok(())
        };
        let mut record = self.pool.take(if whole.is_ok() { length } else { 0 }, HEADER);
        let sum = match whole.and_then(|()| read_summed(&*file, &mut record, offset)) {
            Ok(sum) => sum,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let found = format!("{length} bytes from byte {offset} on are more than it has");
                return Err(self.corrupt(&path, "a whole record".to_owned(), found));
            }
            Err(error) => return Err(Error::io("read", path, error)),
        };
        let owner = header::owner(located.generation);
        let identity = Identity { segment: owner.segment, tag: owner.tag, checksum: located.checksum };
        let frames = decode(record, sum, &self.pool, identity);
        frames.map(Some).map_err(|damage| self.corrupt(&path, damage.expected, damage.found))
    }

    /// The error for a key whose file somebody removed.
    fn missing(&self, key: &K, located: &Located) -> Error {
        self.failures.fetch_add(1, Relaxed);
        let path = self.path(&key.key_bytes(), located.generation);
        self.corrupt(&path, "the file of a value".to_owned(), "no file".to_owned())
    }
}

impl<K: KeyCodec> MutableMapping<K, Frames> for Files<K> {
    /// Opens the file and reads it. Its memory comes from the pool.
    fn get(&self, key: &K) -> Result<Option<Frames>> {
        let mut tried = None;
        loop {
            let mut state = self.open_state()?;
            let Some(located) = state.index.get(key).copied() else { return Ok(None) };
            if tried == Some(located) {
                // There was no file, and there is no newer one: somebody is removing it, or somebody has.
                if !state.held.contains_key(key) {
                    drop(state);
                    return Err(self.missing(key, &located));
                }
                self.released.wait(&mut state);
                continue;
            }
            drop(state);
            if let Some(frames) = self.read(key, &located)? {
                return Ok(Some(frames));
            }
            tried = Some(located);
        }
    }

    fn insert(&self, key: K, value: Frames) -> Result<()> {
        let shape = Shape::of(&value)?;
        let hold = self.hold(&key)?;
        let bytes = caught("encoding a key", || key.key_bytes())?;
        if bytes.len() > header::LONGEST_KEY {
            return Err(ErrorKind::TooLarge {
                what: "a key".to_owned(),
                size: bytes.len() as u64,
                limit: header::LONGEST_KEY as u64,
                setting: "the format of value files",
            }
            .into());
        }
        let located = self.write(&hold, &bytes, value, shape)?;
        let owned = key.clone();
        let (replaced, unused) = self.state.lock().store(owned, located);
        drop(unused);
        let stray =
            replaced.map(|old| Stray { path: self.path(&bytes, old.generation), length: old.length() });
        if let Some(error) = self.discard(&key, stray.into_iter().collect()) {
            tracing::warn!(%error, "a file that was replaced could not be removed; it is tried again");
        }
        Ok(())
    }

    fn remove(&self, key: &K) -> Result<bool> {
        let hold = self.hold(key)?;
        let located = self.state.lock().index.get(key).copied();
        match located {
            Some(located) => {
                caught("removing a value", || self.remove_held(&hold, located)).flatten().map(|()| true)
            }
            None => Ok(false),
        }
    }

    fn take(&self, key: &K) -> Result<Option<Frames>> {
        let hold = self.hold(key)?;
        let located = self.state.lock().index.get(key).copied();
        let Some(located) = located else { return Ok(None) };
        let Some(frames) = self.read(key, &located)? else { return Err(self.missing(key, &located)) };
        caught("removing a value", || self.remove_held(&hold, located)).flatten()?;
        Ok(Some(frames))
    }

    fn contains_key(&self, key: &K) -> bool {
        self.state.lock().index.contains_key(key)
    }

    fn len(&self) -> usize {
        self.state.lock().index.len()
    }

    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        let keys: Vec<K> = self.state.lock().index.keys().cloned().collect();
        keys.iter().for_each(f);
    }

    fn usage(&self) -> Usage {
        let state = self.state.lock();
        Usage {
            count: state.index.len(),
            spilled: state.spilled(),
            physical: state.physical(),
            ..Usage::default()
        }
    }

    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        let located = self.state.lock().index.get(key).copied()?;
        Some(SpilledSize { memory: located.weight, disk: located.length() })
    }

    /// `write` and `read` count values and the bytes of their files; `failures` counts what failed in the
    /// operating system, and damaged values.
    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.write = self.write.read();
        stats.read = self.read.read();
        stats.failures = self.failures.load(Relaxed);
        stats
    }

    /// Every value is written already; tries again to remove files that could not be.
    fn flush(&self) -> Result<()> {
        let strays: Vec<K> = self.open_state()?.strays.keys().cloned().collect();
        for key in strays {
            let _hold = self.hold(&key)?;
            if let Some(error) = self.discard(&key, Vec::new()) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits for the writes under way, forgets all values, and gives the directory up: a workspace is removed,
    /// another directory keeps its files.
    fn close(&self) -> Result<()> {
        let mut state = self.state.lock();
        state.closed = true;
        self.released.notify_all();
        while !state.held.is_empty() {
            self.released.wait(&mut state);
        }
        let contents = std::mem::take(&mut state.index);
        let strays: Vec<K> = state.strays.keys().cloned().collect();
        state.forget_all();
        drop(state);
        drop(contents);
        if let Some(workspace) = &self.workspace {
            self.state.lock().strays.clear();
            return workspace.remove();
        }
        let left = strays.iter().filter_map(|key| self.discard(key, Vec::new())).next();
        *self.lock.lock() = None;
        left.map_or(Ok(()), Err)
    }
}

impl<K: KeyCodec> std::fmt::Debug for Files<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files")
            .field("directory", &self.directory)
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
