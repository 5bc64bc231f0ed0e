//! The store behind [`Segments`](super::Segments): the one lock, the files, and how values go to and fro.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use hashbrown::DefaultHashBuilder;
use parking_lot::{Condvar, Mutex, MutexGuard};
use spill_core::{Clock, Error, Frames, Key, Meter, MutableMapping, Pool, Result, SpilledSize, Stats, Usage};

use super::accept::Offer;
use super::bound::Bound;
use super::cache::PageCache;
use super::closed;
use super::compact;
use super::config::SegmentsConfig;
use super::files::Files;
use super::index;
use super::mapped::Mappings;
use super::reader::Wanted;
use super::stage::Room;
use super::state::{Found, State};
use super::volumes::Volumes;

pub(super) struct Store<K: Key> {
    pub(super) state: Mutex<State<K>>,
    /// A batch was written, or its write failed.
    pub(super) batch_ended: Condvar,
    /// A batch was handed over to be written.
    pub(super) batch_due: Condvar,
    /// A segment was compacted, or that failed.
    pub(super) compaction_ended: Condvar,
    /// Compaction should begin.
    pub(super) compaction_wanted: Condvar,
    /// Compaction was wanted at some time.
    wanted: AtomicBool,
    pub(super) files: Files,
    pub(super) mappings: Mappings,
    pub(super) compaction: Mutex<compact::Scratch>,
    hasher: DefaultHashBuilder,
    pub(super) pool: Pool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) write: Meter,
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
            batch_due: Condvar::new(),
            compaction_ended: Condvar::new(),
            compaction_wanted: Condvar::new(),
            wanted: AtomicBool::new(false),
            files: Files::new(
                Volumes::new(config.workspaces, Arc::clone(&config.clock)),
                segment_bytes,
                config.quota,
                PageCache::new(config.page_cache),
            ),
            mappings: Mappings::new(config.mapped, segment_bytes),
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
        self.batch_due.notify_all();
        self.compaction_ended.notify_all();
        self.compaction_wanted.notify_all();
        drop(contents);
    }

    pub(super) fn tag(&self, key: &K) -> u32 {
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
        let offer = self.offer(&key, value)?;
        let mut state = self.open_state()?;
        let outcome = self.accept(&mut state, key, offer);
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
                    drop(file); // without the lock: it may go with it
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
        let offer = |(key, value)| {
            let offer = self.offer(&key, value);
            (key, offer)
        };
        let offers: Vec<_> = pairs.into_iter().map(offer).collect();
        let mut state = self.state.lock();
        let accept = |(key, offer): (K, Result<Offer>)| {
            if let Some(error) = &failed {
                return Err(Error::clone(error));
            }
            let result = offer.and_then(|offer| self.accept(&mut state, key, offer));
            failed = result.as_ref().err().filter(|error| error.is_transient()).cloned();
            result
        };
        let results = offers.into_iter().map(accept).collect();
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
}
