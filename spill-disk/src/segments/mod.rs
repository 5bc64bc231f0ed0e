//! `Segments`: a mapping of keys to frames over append-only files.

mod config;
mod files;
pub(crate) mod format;
mod index;
mod reader;
mod slab;
pub(crate) mod stage;
mod state;
pub(crate) mod writer;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::DefaultHashBuilder;
use parking_lot::{Condvar, Mutex, MutexGuard};
use spill_core::{
    Clock, Error, ErrorKind, Frames, Key, Meter, MutableMapping, Pool, Result, SpilledSize, Stats, Usage,
};

pub use config::SegmentsConfig;
use files::{Files, Reservation};
use format::Shape;
use index::Locator;
use stage::{Room, Staged};
use state::{Found, State, Written};
use writer::Scratch;

use crate::failure;

/// Records from this many bytes on are written by the caller and not staged: a system call costs little
/// beside the copy, and staging them would only hold their memory longer.
const WRITTEN_THROUGH: u64 = 256 << 10;

/// A mapping of keys to [`Frames`] over append-only segment files in a [`Workspace`](crate::Workspace).
///
/// A small value is *staged*: `insert` keeps a reference to it in a bounded stage, which serves it until a
/// batch of its kind is written with one system call or a few. A large value is written by the caller. Either
/// way a value that `insert` accepted is served from then on. When the write that would make room in the
/// stage fails, the insert that needed it fails; what was staged stays, is served, and is tried again by the
/// next insert.
///
/// Each read checks the record's checksum against the one kept in RAM. A record that differs is
/// [`Corrupt`](ErrorKind::Corrupt): never a wrong value. The key stays until it is removed or replaced.
///
/// Space comes back by whole segments: once nothing in a full one lives, its file is used again or removed.
///
/// # Costs
///
/// Beyond its key a value costs 30 to 41 bytes of RAM, and a record of its bytes, a header of 32 and padding
/// to 8 on disk. [`usage`](MutableMapping::usage) and [`stats`](MutableMapping::stats) are sums that are kept,
/// and cost nothing. `for_each_key` copies the keys.
///
/// # Between threads
///
/// One lock guards the index and the stage; no file is touched while it is held. Reads, batches and large
/// values of several threads go in parallel; one batch is written at a time, while the other half of the stage
/// fills. A thread that finds neither half with room waits until the batch is written. Removing a key
/// while it is read is safe: the reader holds the file, and a file that is held is not used again.
pub struct Segments<K: Key> {
    state: Mutex<State<K>>,
    /// A batch was written, or its write failed.
    batch_ended: Condvar,
    files: Files,
    scratch: Mutex<Scratch>,
    hasher: DefaultHashBuilder,
    pool: Pool,
    clock: Arc<dyn Clock>,
    write: Meter,
    read: Meter,
    failures: AtomicU64,
}

impl<K: Key> Segments<K> {
    /// An empty store. No file is made before the first batch is written.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when a setting is out of its range.
    pub fn open(config: SegmentsConfig) -> Result<Self> {
        config.check()?;
        let hasher = DefaultHashBuilder::default();
        Ok(Segments {
            state: Mutex::new(State::new(hasher.clone(), config.stage_bytes)),
            batch_ended: Condvar::new(),
            files: Files::new(config.workspace, config.segment_bytes),
            scratch: Mutex::default(),
            hasher,
            pool: config.pool,
            clock: config.clock,
            write: Meter::default(),
            read: Meter::default(),
            failures: AtomicU64::new(0),
        })
    }

    fn hash(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The state, while the store is open.
    fn open_state(&self) -> Result<MutexGuard<'_, State<K>>> {
        let state = self.state.lock();
        if state.closed { Err(closed()) } else { Ok(state) }
    }

    /// Gives up the lock and deals with the files that are done with.
    fn unlock(&self, mut state: MutexGuard<'_, State<K>>) {
        let retired = std::mem::take(&mut state.retired);
        drop(state);
        retired.into_iter().for_each(|file| self.files.retire(file));
    }

    /// Runs `f` without the lock.
    fn unlocked<T>(&self, state: &mut MutexGuard<'_, State<K>>, f: impl FnOnce() -> T) -> T {
        let retired = std::mem::take(&mut state.retired);
        MutexGuard::unlocked(state, || {
            retired.into_iter().for_each(|file| self.files.retire(file));
            f()
        })
    }

    fn is_written_through(&self, state: &State<K>, shape: Shape) -> bool {
        shape.length() >= WRITTEN_THROUGH || !state.stage.can_hold(Staged::charge(shape))
    }

    /// Accepts one value. Gives the lock up while it writes or waits.
    fn accept(&self, state: &mut MutexGuard<'_, State<K>>, key: K, frames: Frames) -> Result<()> {
        let shape = Shape::of(&frames)?;
        let hash = self.hash(&key);
        if self.is_written_through(state, shape) {
            return self.unlocked(state, || self.write_through(hash, key, frames, shape));
        }
        self.make_room(state, Staged::charge(shape))?;
        let leftover = state.stage(hash, key, frames, shape)?;
        if leftover.is_some() {
            self.unlocked(state, || drop(leftover));
        }
        Ok(())
    }

    /// Returns once a value of this charge may be staged.
    fn make_room(&self, state: &mut MutexGuard<'_, State<K>>, charge: u64) -> Result<()> {
        loop {
            if state.closed {
                return Err(closed());
            }
            match state.stage.room(charge) {
                Room::Free => return Ok(()),
                Room::Write => self.write_batch(state)?,
                Room::Wait => self.batch_ended.wait(state),
            }
        }
    }

    /// Writes the batch that is due, the lock given up meanwhile. All of it is stored, or it all stays staged.
    fn write_batch(&self, state: &mut MutexGuard<'_, State<K>>) -> Result<()> {
        let Some(batch) = state.stage.begin() else { return Ok(()) };
        let mut runs = Vec::new();
        let mut written = Vec::with_capacity(batch.len());
        let outcome = self.unlocked(state, || {
            let outcome = self.write_runs(&batch, &mut runs, &mut written);
            drop(batch);
            outcome
        });
        let done = match &outcome {
            Ok(()) => state.written(&written),
            Err(error) => {
                state.stage.failed();
                if let Some(segment) = error.segment {
                    state.seal(segment);
                }
                None
            }
        };
        runs.into_iter().for_each(|segment| state.finished(segment));
        self.batch_ended.notify_all();
        self.unlocked(state, || drop(done));
        outcome.map_err(|failed| failed.error)
    }

    /// Writes records, split among as many segments as it takes. Each segment that was reserved is added to
    /// `runs`, and each record that was written to `written`.
    fn write_runs(
        &self,
        records: &[Staged],
        runs: &mut Vec<u32>,
        written: &mut Vec<Written>,
    ) -> std::result::Result<(), Failed> {
        let start = self.clock.now();
        let mut scratch = self.scratch.lock();
        let mut bytes = 0;
        while let Some(rest) = records.get(written.len()..).filter(|rest| !rest.is_empty()) {
            let run = self.reserve(rest.iter().map(|staged| staged.shape.length()))?;
            runs.push(run.file.segment);
            let rest = &rest[..run.records];
            bytes += rest.iter().map(|staged| staged.shape.length()).sum::<u64>();
            self.written_or_sealed(&run, || {
                writer::write_records(&run.file, run.offset, rest, &mut scratch, written)
            })?;
        }
        self.write.add(records.len() as u64, bytes, self.clock.now().saturating_sub(start));
        Ok(())
    }

    /// Writes a value that is too large to be staged, and points its key to it.
    fn write_through(&self, hash: u64, key: K, frames: Frames, shape: Shape) -> Result<()> {
        let start = self.clock.now();
        let run = self.reserve(std::iter::once(shape.length())).map_err(|failed| failed.error)?;
        let segment = run.file.segment;
        let record = Staged { frames, shape };
        let outcome = self.written_or_sealed(&run, || writer::write_record(&run.file, run.offset, &record));
        let mut state = self.state.lock();
        let outcome = match outcome {
            Ok(_) if state.closed => Err(closed()),
            Ok(Written { segment, offset, checksum }) => {
                self.write.add(1, shape.length(), self.clock.now().saturating_sub(start));
                let weight = record.frames.weight();
                state.store(hash, key, Locator { weight, segment, offset, units: shape.units, checksum })
            }
            Err(failed) => {
                state.seal(segment);
                Err(failed.error)
            }
        };
        state.finished(segment);
        drop(run);
        self.unlock(state);
        outcome.map(drop)
    }

    fn reserve(
        &self,
        lengths: impl Iterator<Item = u64> + Clone,
    ) -> std::result::Result<Reservation, Failed> {
        let reserved = self.files.reserve(lengths, |reservation| self.state.lock().reserved(reservation));
        reserved.map_err(|error| {
            self.failures.fetch_add(1, Relaxed);
            Failed { segment: None, error }
        })
    }

    /// Runs a write into a reserved range. When it fails or panics, nothing more is reserved behind it.
    fn written_or_sealed<T>(
        &self,
        run: &Reservation,
        write: impl FnOnce() -> std::io::Result<T>,
    ) -> std::result::Result<T, Failed> {
        let error = match failure::caught("writing a segment", write) {
            Ok(Ok(written)) => return Ok(written),
            Ok(Err(source)) => self.files.failure("write", &run.file.path, source),
            Err(panicked) => panicked,
        };
        self.failures.fetch_add(1, Relaxed);
        self.files.seal(run.file.segment);
        Err(Failed { segment: Some(run.file.segment), error })
    }
}

/// Why a write failed, and the segment that must be sealed for it.
struct Failed {
    segment: Option<u32>,
    error: Error,
}

fn closed() -> Error {
    ErrorKind::Closed { what: "the store of segments" }.into()
}

impl<K: Key> MutableMapping<K, Frames> for Segments<K> {
    /// One read of the file, or none while the value is staged. Its memory comes from the pool.
    fn get(&self, key: &K) -> Result<Option<Frames>> {
        let hash = self.hash(key);
        let found = self.open_state()?.find(hash, key);
        match found {
            None => Ok(None),
            Some(Found::Staged(frames)) => Ok(Some(frames)),
            Some(Found::Stored(file, locator)) => self.read(&file, &locator).map(Some),
        }
    }

    fn insert(&self, key: K, value: Frames) -> Result<()> {
        let mut state = self.open_state()?;
        let outcome = self.accept(&mut state, key, value);
        self.unlock(state);
        outcome
    }

    fn remove(&self, key: &K) -> Result<bool> {
        let hash = self.hash(key);
        let mut state = self.open_state()?;
        let leftover = state.remove(hash, key);
        self.unlock(state);
        Ok(leftover.is_some())
    }

    fn take(&self, key: &K) -> Result<Option<Frames>> {
        let hash = self.hash(key);
        loop {
            let mut state = self.open_state()?;
            let value = match state.find(hash, key) {
                None => return Ok(None),
                Some(Found::Staged(frames)) => frames,
                Some(Found::Stored(file, locator)) => {
                    drop(state);
                    let frames = self.read(&file, &locator)?;
                    state = self.open_state()?;
                    // Written again, or written out of the stage, meanwhile: a segment's number and an offset
                    // in it are never used twice, so what is unchanged is the same value.
                    if state.locator(hash, key) != Some(locator) {
                        continue;
                    }
                    frames
                }
            };
            let leftover = state.remove(hash, key);
            self.unlock(state);
            drop(leftover);
            return Ok(Some(value));
        }
    }

    fn contains_key(&self, key: &K) -> bool {
        let hash = self.hash(key);
        self.state.lock().locator(hash, key).is_some()
    }

    fn len(&self) -> usize {
        self.state.lock().len()
    }

    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        let keys = self.state.lock().keys();
        keys.iter().for_each(f);
    }

    /// Reads in the order in which the records lie in the files.
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Frames>>> {
        let mut results: Vec<Result<Option<Frames>>> = Vec::with_capacity(keys.len());
        let mut stored = Vec::new();
        {
            let state = self.state.lock();
            for (at, key) in keys.iter().enumerate() {
                results.push(match state.find(self.hash(key), key) {
                    _ if state.closed => Err(closed()),
                    None => Ok(None),
                    Some(Found::Staged(frames)) => Ok(Some(frames)),
                    Some(Found::Stored(file, locator)) => {
                        stored.push((at, file, locator));
                        Ok(None)
                    }
                });
            }
        }
        stored.sort_unstable_by_key(|(_, _, locator)| (locator.segment, locator.offset));
        for (at, file, locator) in stored {
            results[at] = self.read(&file, &locator).map(Some);
        }
        results
    }

    /// Takes the lock once for as many values as the stage has room for. Once storage has failed, the rest of
    /// the call is refused with the same error: a device that hangs is not asked again for each value.
    fn insert_many(&self, pairs: Vec<(K, Frames)>) -> Vec<Result<()>> {
        let mut failed = None;
        let mut state = self.state.lock();
        let accept = |(key, value)| {
            if let Some(error) = &failed {
                return Err(Error::clone(error));
            }
            let result = self.accept(&mut state, key, value);
            failed = result.as_ref().err().filter(|error| error.is_transient()).cloned();
            result
        };
        let results = pairs.into_iter().map(accept).collect();
        self.unlock(state);
        results
    }

    fn usage(&self) -> Usage {
        let state = self.state.lock();
        Usage {
            count: state.len(),
            spilled: state.spilled(),
            staged: state.stage.bytes(),
            physical: self.files.physical(),
            ..Usage::default()
        }
    }

    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        let hash = self.hash(key);
        let locator = self.state.lock().locator(hash, key)?;
        Some(SpilledSize { memory: locator.weight, disk: locator.length() })
    }

    /// `write` and `read` count records and their bytes, headers included; `failures` counts writes and reads
    /// that failed, damaged records among them.
    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.write = self.write.read();
        stats.read = self.read.read();
        stats.failures = self.failures.load(Relaxed);
        stats
    }

    /// Writes what was staged when it was called.
    fn flush(&self) -> Result<()> {
        let mut state = self.state.lock();
        let last = state.stage.filling();
        let outcome = loop {
            match state.stage.drain(last) {
                Room::Free => break Ok(()),
                Room::Wait => self.batch_ended.wait(&mut state),
                Room::Write => {
                    if let Err(error) = self.write_batch(&mut state) {
                        break Err(error);
                    }
                }
            }
        };
        self.unlock(state);
        outcome
    }

    /// Forgets all values and removes the files and the workspace.
    fn close(&self) -> Result<()> {
        let mut state = self.state.lock();
        let contents = state.close(self.hasher.clone());
        drop(state);
        self.batch_ended.notify_all();
        drop(contents);
        self.files.close()
    }
}

impl<K: Key> std::fmt::Debug for Segments<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segments")
            .field("files", &self.files)
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
