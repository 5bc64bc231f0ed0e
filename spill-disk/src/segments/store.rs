//! The store behind [`Segments`](super::Segments): the one lock, the files, and how values go to and fro.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use hashbrown::DefaultHashBuilder;
use parking_lot::{Condvar, Mutex, MutexGuard};
use spill_core::{
    Clock, Error, ErrorKind, Frames, Key, Meter, MutableMapping, Pool, Result, SpilledSize, Stats, Usage,
};

use super::bound::Bound;
use super::cache::PageCache;
use super::closed;
use super::compact;
use super::config::SegmentsConfig;
use super::files::{Files, Level, QUOTA, Reservation};
use super::format::Shape;
use super::index::{self, Locator};
use super::reader::Wanted;
use super::stage::{Room, Staged};
use super::state::{Found, State, Written};
use super::table::{Run, SegmentTable};
use super::volumes::Volumes;
use super::writer::{self, Scratch};
use crate::failure;

/// Records from this many bytes on are written by the caller and not staged: a system call costs little
/// beside the copy, and staging them would only hold their memory longer.
const WRITTEN_THROUGH: u64 = 256 << 10;

pub(super) struct Store<K: Key> {
    pub(super) state: Mutex<State<K>>,
    /// A batch was written, or its write failed.
    batch_ended: Condvar,
    /// A segment was compacted, or that failed.
    pub(super) compaction_ended: Condvar,
    /// Compaction should begin.
    pub(super) compaction_wanted: Condvar,
    /// Compaction was wanted at some time.
    wanted: AtomicBool,
    pub(super) files: Files,
    scratch: Mutex<Scratch>,
    pub(super) compaction: Mutex<compact::Scratch>,
    hasher: DefaultHashBuilder,
    pub(super) pool: Pool,
    pub(super) clock: Arc<dyn Clock>,
    write: Meter,
    pub(super) read: Meter,
    pub(super) moved: Meter,
    pub(super) failures: AtomicU64,
}

impl<K: Key> Store<K> {
    pub(super) fn new(config: SegmentsConfig) -> Self {
        let hasher = DefaultHashBuilder::default();
        let segment_bytes = config.segment();
        let bound = Bound { segment_bytes };
        Store {
            state: Mutex::new(State::new(hasher.clone(), config.stage_bytes, bound)),
            batch_ended: Condvar::new(),
            compaction_ended: Condvar::new(),
            compaction_wanted: Condvar::new(),
            wanted: AtomicBool::new(false),
            files: Files::new(
                Volumes::new(config.workspaces, Arc::clone(&config.clock)),
                segment_bytes,
                config.quota,
                PageCache::new(config.page_cache),
            ),
            scratch: Mutex::default(),
            compaction: Mutex::default(),
            hasher,
            pool: config.pool,
            clock: config.clock,
            write: Meter::default(),
            read: Meter::default(),
            moved: Meter::default(),
            failures: AtomicU64::new(0),
        }
    }

    /// Whether there was ever something to compact.
    pub(super) fn is_to_be_compacted(&self) -> bool {
        self.wanted.load(Relaxed)
    }

    /// Empties the store and refuses from now on.
    pub(super) fn forget(&self) {
        let mut state = self.state.lock();
        let contents = state.close(self.hasher.clone());
        drop(state);
        self.batch_ended.notify_all();
        self.compaction_ended.notify_all();
        self.compaction_wanted.notify_all();
        drop(contents);
    }

    fn tag(&self, key: &K) -> u32 {
        index::tag(&self.hasher, key)
    }

    /// The state, while the store is open.
    fn open_state(&self) -> Result<MutexGuard<'_, State<K>>> {
        let state = self.state.lock();
        if state.closed { Err(closed()) } else { Ok(state) }
    }

    /// Gives up the lock and deals with the files that are done with.
    pub(super) fn unlock(&self, mut state: MutexGuard<'_, State<K>>) {
        let retired = std::mem::take(&mut state.segments.retired);
        let wanted = state.wants_compaction();
        drop(state);
        if wanted {
            self.compaction_wanted.notify_one();
            self.wanted.store(true, Relaxed);
        }
        retired.into_iter().for_each(|file| self.files.retire(file));
    }

    /// Runs `f` without the lock.
    pub(super) fn unlocked<T>(&self, state: &mut MutexGuard<'_, State<K>>, f: impl FnOnce() -> T) -> T {
        let retired = std::mem::take(&mut state.segments.retired);
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
        if shape.length() > self.files.longest() {
            let (what, limit) =
                (format!("a record in {}", self.files.path().display()), self.files.longest());
            return Err(ErrorKind::TooLarge { what, size: shape.length(), limit, setting: QUOTA }.into());
        }
        let tag = self.tag(&key);
        if self.is_written_through(state, shape) {
            let level = state.level_of(tag, &key);
            let record = Staged { frames, shape, tag, level };
            let written =
                self.with_room(state, |state| self.unlocked(state, || self.write_range(&record)))?;
            return self.unlocked(state, || self.store_written(key, &record, written));
        }
        self.make_room(state, Staged::charge(shape))?;
        let leftover = state.stage(tag, key, frames, shape)?;
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
        self.with_room(state, |state| self.try_batch(state))
    }

    /// Tries `write` again as long as it fails for want of room and some can be had, or in one directory of several.
    fn with_room<T>(
        &self,
        state: &mut MutexGuard<'_, State<K>>,
        mut write: impl FnMut(&mut MutexGuard<'_, State<K>>) -> Result<T>,
    ) -> Result<T> {
        let mut tries = 0;
        loop {
            tries += 1;
            match write(state) {
                Err(error) if !matches!(error.kind(), ErrorKind::Panicked { .. }) && !state.closed => {
                    let is_quota = matches!(error.kind(), ErrorKind::Full { setting: QUOTA, .. });
                    let elsewhere = !is_quota && self.files.has_another_volume(tries);
                    if !(elsewhere || error.is_full() && self.reclaim(state)) {
                        return Err(error);
                    }
                }
                outcome => {
                    if outcome.is_ok() && self.files.has_begun_another() {
                        let most = state.most();
                        self.unlocked(state, || self.files.set_aside(most));
                    }
                    return outcome;
                }
            }
        }
    }

    /// Storage had no room: gives back what nobody needs, or compacts what wins much. Says whether some was had.
    fn reclaim(&self, state: &mut MutexGuard<'_, State<K>>) -> bool {
        let before = self.files.physical();
        while self.unlocked(state, || self.files.give_back(false)) {
            if self.files.physical() < before {
                return true;
            }
        }
        if state.compaction.running {
            self.compaction_ended.wait(state);
            return true;
        }
        !state.compaction.failed
            && state.segments.is_worth_compacting()
            && matches!(self.compact_one(state, true), Ok(true))
    }

    fn try_batch(&self, state: &mut MutexGuard<'_, State<K>>) -> Result<()> {
        let Some(batch) = state.stage.begin() else { return Ok(()) };
        let mut runs = Vec::new();
        let mut written = vec![Written::NOWHERE; batch.len()];
        let outcome = self.unlocked(state, || {
            let outcome = self.write_runs(&batch, &mut runs, &mut written);
            drop(batch);
            outcome
        });
        let done = match &outcome {
            Ok(()) => state.written(&written),
            Err(failed) => {
                state.stage.failed();
                failed.book(&mut state.segments);
                None
            }
        };
        runs.into_iter().for_each(|run| state.segments.finished(run));
        self.batch_ended.notify_all();
        self.unlocked(state, || drop(done));
        outcome.map_err(|failed| failed.error)
    }

    /// Writes records, those of each level one after another, split among as many segments as it takes. Each range
    /// that was written is added to `runs`; where each record went is noted at its place in `written`.
    fn write_runs(
        &self,
        records: &[Staged],
        runs: &mut Vec<Run>,
        written: &mut [Written],
    ) -> std::result::Result<(), Failed> {
        let start = self.clock.now();
        let mut scratch = self.scratch.lock();
        let (mut these, mut places) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len()));
        let mut went = Vec::with_capacity(records.len());
        let mut bytes = 0;
        // Only moved records are old at once.
        for level in [Level::Fresh, Level::Survived] {
            these.clear();
            places.clear();
            went.clear();
            for (place, staged) in records.iter().enumerate().filter(|(_, staged)| staged.level == level) {
                these.push(staged);
                places.push(place);
            }
            while let Some(rest) = these.get(went.len()..).filter(|rest| !rest.is_empty()) {
                let run = self.reserve(level, rest.iter().map(|staged| staged.shape.length()))?;
                let rest = &rest[..run.records];
                self.written_or_sealed(&run, || {
                    writer::write_records(&run.file, run.offset, rest, &mut scratch, &mut went)
                })?;
                runs.push(run.run());
                bytes += run.bytes;
            }
            for (place, went) in places.iter().zip(&went) {
                written[*place] = *went;
            }
        }
        self.write.add(records.len() as u64, bytes, self.clock.now().saturating_sub(start));
        Ok(())
    }

    /// Writes a record that is too large to be staged. No key points to it yet.
    fn write_range(&self, record: &Staged) -> Result<(Run, Written)> {
        let start = self.clock.now();
        let length = record.shape.length();
        let reserved = self.reserve(record.level, std::iter::once(length)).map_err(|failed| failed.error)?;
        let outcome = self
            .written_or_sealed(&reserved, || writer::write_record(&reserved.file, reserved.offset, record));
        match outcome {
            Ok(written) => {
                self.write.add(1, length, self.clock.now().saturating_sub(start));
                Ok((reserved.run(), written))
            }
            Err(failed) => {
                let mut state = self.state.lock();
                failed.book(&mut state.segments);
                drop(reserved);
                self.unlock(state);
                Err(failed.error)
            }
        }
    }

    /// Points a key to a record that was written.
    fn store_written(&self, key: K, record: &Staged, (run, written): (Run, Written)) -> Result<()> {
        let mut state = self.state.lock();
        let outcome = if state.closed {
            Err(closed())
        } else {
            state.compaction_may_help();
            let Written { segment, offset, checksum } = written;
            let (weight, units) = (record.frames.weight(), record.shape.units);
            state.store(record.tag, key, Locator { weight, segment, offset, units, checksum })
        };
        state.segments.finished(run);
        self.unlock(state);
        outcome.map(drop)
    }

    pub(super) fn reserve(
        &self,
        level: Level,
        lengths: impl Iterator<Item = u64> + Clone,
    ) -> std::result::Result<Reservation, Failed> {
        let reserved = self.files.reserve(level, lengths, |reservation| {
            self.state.lock().segments.reserved(reservation);
        });
        reserved.map_err(|error| {
            self.failures.fetch_add(1, Relaxed);
            Failed { run: None, error }
        })
    }

    /// Runs a write into a reserved range. When it fails or panics, nothing more is reserved behind it.
    pub(super) fn written_or_sealed<T>(
        &self,
        run: &Reservation,
        write: impl FnOnce() -> std::io::Result<T>,
    ) -> std::result::Result<T, Failed> {
        let failed = match failure::caught("writing a segment", write) {
            Ok(Ok(written)) => {
                self.files.was_written(&run.file, run.offset, run.bytes);
                return Ok(written);
            }
            Ok(Err(source)) => Ok(source),
            Err(panicked) => Err(panicked),
        };
        self.failures.fetch_add(1, Relaxed);
        // First, so that the error tells the room there is without it.
        let is_last = self.files.abandon(run);
        let error =
            failed.map_or_else(|panicked| panicked, |source| self.files.failure("write", &run.file, source));
        Err(Failed { run: Some((run.run(), is_last)), error })
    }
}

/// Why a write failed.
pub(super) struct Failed {
    /// The range that was reserved for it, and whether its segment ends there.
    run: Option<(Run, bool)>,
    pub(super) error: Error,
}

impl Failed {
    /// Nothing lives in the range, and nothing more is reserved in its segment.
    pub(super) fn book(&self, segments: &mut SegmentTable) {
        if let Some((run, is_last)) = self.run {
            segments.seal(run.segment);
            if is_last { segments.ends_before(run) } else { segments.finished(run) }
        }
    }
}

impl<K: Key> MutableMapping<K, Frames> for Store<K> {
    /// One read of the file, or none while the value is staged. Its memory comes from the pool.
    fn get(&self, key: &K) -> Result<Option<Frames>> {
        let tag = self.tag(key);
        let found = self.open_state()?.find(tag, key);
        match found {
            None => Ok(None),
            Some(Found::Staged(frames)) => Ok(Some(frames)),
            Some(Found::Stored(file, locator)) => self.read(&file, &locator, tag).map(Some),
        }
    }

    fn insert(&self, key: K, value: Frames) -> Result<()> {
        let mut state = self.open_state()?;
        let outcome = self.accept(&mut state, key, value);
        self.keep_bound(&mut state);
        self.unlock(state);
        outcome
    }

    fn remove(&self, key: &K) -> Result<bool> {
        let tag = self.tag(key);
        let mut state = self.open_state()?;
        let leftover = state.remove(tag, key);
        self.unlock(state);
        Ok(leftover.is_some())
    }

    fn take(&self, key: &K) -> Result<Option<Frames>> {
        let tag = self.tag(key);
        loop {
            let mut state = self.open_state()?;
            let value = match state.find(tag, key) {
                None => return Ok(None),
                Some(Found::Staged(frames)) => frames,
                Some(Found::Stored(file, locator)) => {
                    drop(state);
                    let frames = self.read(&file, &locator, tag)?;
                    state = self.open_state()?;
                    // Written again, or written out of the stage, meanwhile: a segment's number and an offset
                    // in it are never used twice, so what is unchanged is the same value.
                    if state.locator(tag, key) != Some(locator) {
                        continue;
                    }
                    frames
                }
            };
            let leftover = state.remove(tag, key);
            self.unlock(state);
            drop(leftover);
            return Ok(Some(value));
        }
    }

    fn contains_key(&self, key: &K) -> bool {
        let tag = self.tag(key);
        self.state.lock().locator(tag, key).is_some()
    }

    fn len(&self) -> usize {
        self.state.lock().len()
    }

    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        let keys = self.state.lock().keys();
        keys.iter().for_each(f);
    }

    /// Reads in the order in which the records lie in the files, neighbours with one call.
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Frames>>> {
        let mut results: Vec<Result<Option<Frames>>> = Vec::with_capacity(keys.len());
        let mut stored = Vec::new();
        {
            let state = self.state.lock();
            for (at, key) in keys.iter().enumerate() {
                let tag = self.tag(key);
                results.push(match state.find(tag, key) {
                    _ if state.closed => Err(closed()),
                    None => Ok(None),
                    Some(Found::Staged(frames)) => Ok(Some(frames)),
                    Some(Found::Stored(file, locator)) => {
                        stored.push(Wanted { at, file, locator, tag });
                        Ok(None)
                    }
                });
            }
        }
        self.read_many(stored, |at, result| results[at] = result.map(Some));
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
        self.keep_bound(&mut state);
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
        let tag = self.tag(key);
        let locator = self.state.lock().locator(tag, key)?;
        Some(SpilledSize { memory: locator.weight, disk: locator.length() })
    }

    /// `write` and `read` count records and their bytes, headers included; `failures` counts writes and reads
    /// that failed, damaged records among them.
    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.write = self.write.read();
        stats.read = self.read.read();
        stats.moved = self.moved.read();
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
        self.keep_bound(&mut state);
        self.unlock(state);
        outcome
    }

    /// Forgets all values and removes the files and the workspace.
    fn close(&self) -> Result<()> {
        self.forget();
        self.files.close()
    }
}
