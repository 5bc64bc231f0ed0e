//! Reads, writes and removals of a buffer: what a caller does under the lock and without it.

use std::sync::Arc;
use std::time::Duration;

use super::flight::Landing;
use super::observe::Observers;
use super::slot::{Flight, SlowCopy};
use super::state::{Ended, SpillFailed, State};
use crate::guard::{LogLimit, guarded};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::{Clock, Error, ErrorKind, Key, MutableMapping, Overflow, Result, SpilledSize, Value, Weigh};

/// What callers, evicters and writer threads share.
pub(super) struct Core<K, V, S> {
    pub(super) state: Mutex<State<K, V>>,
    pub(super) slow: S,
    pub(super) weigher: Arc<dyn Weigh<K, V>>,
    pub(super) observers: Observers<K, V>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) overflow: Overflow,
    /// Above this weight inserts wait for the writers.
    pub(super) ceiling: Option<u64>,
    /// Whether slow memory keeps nothing: what is evicted is gone.
    pub(super) discards: bool,
    pub(super) log: LogLimit,
    /// There may be something to write.
    pub(super) work: Condvar,
    /// A write ended, or a writer thread did.
    pub(super) progress: Condvar,
}

/// How a value is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// It counts as a use, and is promoted.
    Use,
    /// It leaves no trace.
    Peek,
}

impl<K: Key, V: Value, S: MutableMapping<K, V>> Core<K, V, S> {
    /// The state, unless the buffer is closed.
    #[inline(always)]
    pub(super) fn open(&self) -> Result<MutexGuard<'_, State<K, V>>> {
        let state = self.state.lock();
        if state.closed { Err(ErrorKind::Closed { what: "the buffer" }.into()) } else { Ok(state) }
    }

    pub(super) fn weigh(&self, key: &K, value: &V) -> Result<u64> {
        // the bound keeps sums from overflowing, whatever a weigher says
        guarded("weighing a value", || Ok(self.weigher.weigh(key, value).min(1 << 48)))
    }

    /// The value of `key`, as a use. Inlined with all that a hit does; the rest is [`read`](Self::read).
    #[inline(always)]
    pub(super) fn get(&self, key: &K) -> Result<Option<V>> {
        let mut state = self.open()?;
        if let Some(value) = state.table.find_used(key, |slot| slot.value.clone()) {
            state.counts.hits += 1;
            return Ok(Some(value));
        }
        self.read(state, key, Reading::Use)
    }

    /// The value of `key`, leaving no trace.
    pub(super) fn peek(&self, key: &K) -> Result<Option<V>> {
        self.read(self.open()?, key, Reading::Peek)
    }

    /// The value of `key`, wherever it is.
    #[inline(never)]
    fn read<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<K, V>>,
        key: &K,
        reading: Reading,
    ) -> Result<Option<V>> {
        loop {
            let i = match state.table.find(key) {
                Some(i) => {
                    let slot = &state.table[i].item;
                    if let Some(value) = slot.value.clone() {
                        if reading == Reading::Use {
                            state.table.touch(i);
                            state.counts.hits += 1;
                        }
                        return Ok(Some(value));
                    }
                    if !slot.present() {
                        return Ok(None);
                    }
                    let signal = state.signal(i);
                    drop(state);
                    match signal.wait() {
                        Landing::Served(value) => return Ok(Some(value)),
                        Landing::Failed(error) => return Err(error),
                        Landing::StartOver | Landing::LoadFailed(_) => {
                            state = self.open()?;
                            continue;
                        }
                    }
                }
                None if !self.slow.contains_key(key) => return Ok(None),
                None => state.open(key.clone(), SlowCopy::Clean),
            };
            state.begin(i, Flight::Reading);
            state.counts.misses += 1;
            drop(state);
            if let Some(value) = self.read_back(i, key, reading)? {
                return Ok(Some(value));
            }
            state = self.open()?;
        }
    }

    /// Reads the slow copy of `key`, which slow memory says it has.
    fn fetch(&self, key: &K) -> Result<V> {
        guarded("reading a value back", || self.slow.get(key))?.ok_or_else(|| {
            Error::from(ErrorKind::Backend {
                name: "slow memory",
                location: "the key being read".to_owned(),
                status: "it said that it has the key, and gave no value".to_owned(),
                transient: false,
            })
        })
    }

    /// Reads the slow copy of `key` and weighs it.
    pub(super) fn read_slow(&self, key: &K) -> Result<(V, u64)> {
        let value = self.fetch(key)?;
        let weight = self.weigh(key, &value)?;
        Ok((value, weight))
    }

    /// Does and ends a Reading flight. `None`: it was superseded, start over.
    fn read_back(&self, i: u32, key: &K, reading: Reading) -> Result<Option<V>> {
        let outcome = self.read_slow(key);
        let mut state = self.state.lock();
        if state.slot(i).superseded {
            self.end_in(state, i, key, Landing::StartOver);
            return Ok(None);
        }
        match outcome {
            Err(error) => {
                self.end_in(state, i, key, Landing::Failed(error.clone()));
                self.failed("reading a value back", &error);
                Err(error)
            }
            Ok((value, weight)) if reading == Reading::Peek || weight > state.target => {
                self.end_in(state, i, key, Landing::Served(value.clone()));
                Ok(Some(value))
            }
            Ok((value, weight)) => {
                state.promote(i, value.clone(), weight);
                let ended = state.end(&self.slow, i, true, Landing::StartOver, None);
                let target = state.target;
                // the usual way of a read back: an unchanged value makes room for it, in the same critical section
                let inline = state.above(target) && self.ceiling.is_none() && self.observers.evict.is_empty();
                let evicted = if inline { state.evict_clean(&self.slow, || self.clock.now()) } else { None };
                let shrink = state.above(target);
                drop(state);
                drop(evicted);
                self.finish(i, key, ended, None);
                if shrink {
                    self.shrink(target);
                }
                self.observers.promoted(key, &value)?;
                Ok(Some(value))
            }
        }
    }

    /// Ends the flight of `i`, gives the lock back, and does what the end left to do.
    pub(super) fn end_in(
        &self,
        mut state: MutexGuard<'_, State<K, V>>,
        i: u32,
        key: &K,
        landing: Landing<V>,
    ) {
        let ended = state.end(&self.slow, i, true, landing, None);
        drop(state);
        self.finish(i, key, ended, None);
    }

    /// Does without the lock what the end of a flight left to do.
    pub(super) fn finish(&self, i: u32, key: &K, ended: Ended<K, V>, failed: Option<SpillFailed>) {
        if ended.remove {
            self.remove_copy(i, key, failed);
        }
    }

    /// Does and ends a Removing flight; says whether the copy is gone.
    pub(super) fn remove_copy(&self, i: u32, key: &K, failed: Option<SpillFailed>) -> bool {
        let gone = guarded("removing an old copy", || self.slow.remove(key));
        if let Err(error) = &gone {
            self.failed("removing an old copy", error);
        }
        let mut state = self.state.lock();
        let ended = state.removed(&self.slow, i, gone.as_ref().ok().copied(), failed, || self.clock.now());
        drop(state);
        drop(ended);
        gone.is_ok()
    }

    /// Sets the value of `key`; above the target, evicts unless `quietly`.
    pub(super) fn insert(&self, key: K, value: V, quietly: bool) -> Result<()> {
        let weight = self.weigh(&key, &value)?;
        let mut state = self.admit(&key, weight, quietly)?;
        let (i, was_present) = match state.table.find(&key) {
            Some(i) => (i, state.slot(i).present()),
            None if self.slow.contains_key(&key) => (state.open(key.clone(), SlowCopy::Stale), true),
            None => (state.open(key.clone(), SlowCopy::Absent), false),
        };
        let (old, ended) = state.write(&self.slow, i, Some((value, weight)), was_present);
        let target = state.target;
        let shrink = !quietly && state.above(target);
        drop(state);
        drop(old);
        self.finish(i, &key, ended, None);
        if shrink {
            self.shrink(target);
        }
        Ok(())
    }

    /// The state, once there is room for a value of `weight` as far as the settings ask for it.
    fn admit(&self, key: &K, weight: u64, quietly: bool) -> Result<MutexGuard<'_, State<K, V>>> {
        let mut state = self.open()?;
        if self.overflow == Overflow::Reject && !quietly {
            if weight > state.target {
                return Err(ErrorKind::TooLarge {
                    what: "a value".to_owned(),
                    size: weight,
                    limit: state.target,
                    setting: "target",
                }
                .into());
            }
            loop {
                let old = state.table.find(key).map_or(0, |i| {
                    let slot = &state.table[i].item;
                    if slot.value.is_some() { slot.weight } else { 0 }
                });
                if !state.above(state.target.saturating_sub(weight).saturating_add(old)) {
                    break;
                }
                drop(state);
                let moved = self.evict_one();
                state = self.open()?;
                if moved.is_err() {
                    let (used, limit) = (state.fast_bytes, state.target);
                    return Err(
                        ErrorKind::Full { path: None, used, limit, free: None, setting: "target" }.into()
                    );
                }
            }
        } else if let Some(ceiling) = self.ceiling
            && !quietly
        {
            state = self.wait_for_writers(state, weight, ceiling)?;
        }
        Ok(state)
    }

    /// Waits for room as an insert does, before a closure or a loader makes a value of unknown weight.
    pub(super) fn wait_for_room(&self) -> Result<()> {
        match self.ceiling {
            Some(ceiling) => self.wait_for_writers(self.open()?, 0, ceiling).map(drop),
            None => Ok(()),
        }
    }

    /// Waits while fast memory is above the ceiling and a write is under way. Neither a device that fails
    /// nor one that hangs stops the caller for good.
    fn wait_for_writers<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<K, V>>,
        weight: u64,
        ceiling: u64,
    ) -> Result<MutexGuard<'a, State<K, V>>> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let mut begun = None;
        while state.above(ceiling.saturating_sub(weight)) && state.writing_bytes > 0 && !state.closed {
            let now = self.clock.now();
            let waited = now.saturating_sub(*begun.get_or_insert(now));
            if waited >= PATIENCE {
                break;
            }
            state = self.progress.wait_for(state, PATIENCE - waited);
        }
        if state.closed { Err(ErrorKind::Closed { what: "the buffer" }.into()) } else { Ok(state) }
    }

    pub(super) fn remove(&self, key: &K) -> Result<bool> {
        let mut state = self.open()?;
        let i = match state.table.find(key) {
            Some(i) if !state.slot(i).present() => return Ok(false),
            Some(i) => i,
            None if !self.slow.contains_key(key) => return Ok(false),
            None => state.open(key.clone(), SlowCopy::Stale),
        };
        let (old, ended) = state.write(&self.slow, i, None, true);
        drop(state);
        drop(old);
        self.finish(i, key, ended, None);
        Ok(true)
    }

    pub(super) fn take(&self, key: &K) -> Result<Option<V>> {
        loop {
            let mut state = self.open()?;
            let i = match state.table.find(key) {
                Some(i) => {
                    let slot = &state.table[i].item;
                    if slot.value.is_some() {
                        let (old, ended) = state.write(&self.slow, i, None, true);
                        drop(state);
                        self.finish(i, key, ended, None);
                        return Ok(old);
                    }
                    if !slot.present() {
                        return Ok(None);
                    }
                    let signal = state.signal(i);
                    drop(state);
                    match signal.wait() {
                        Landing::Failed(error) => return Err(error),
                        _ => continue,
                    }
                }
                None if !self.slow.contains_key(key) => return Ok(None),
                None => state.open(key.clone(), SlowCopy::Clean),
            };
            state.begin(i, Flight::Reading);
            state.counts.misses += 1;
            drop(state);
            let outcome = self.fetch(key);
            let mut state = self.state.lock();
            if state.slot(i).superseded {
                self.end_in(state, i, key, Landing::StartOver);
                continue;
            }
            match outcome {
                Err(error) => {
                    self.end_in(state, i, key, Landing::Failed(error.clone()));
                    self.failed("reading a value back", &error);
                    return Err(error);
                }
                Ok(value) => {
                    // the read goes on as a write: the value is gone from the mapping in this moment (R5)
                    let _ = state.slot(i).write(None, 0);
                    state.len -= 1;
                    self.end_in(state, i, key, Landing::StartOver);
                    return Ok(Some(value));
                }
            }
        }
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        let state = self.state.lock();
        match state.table.find(key) {
            Some(i) => state.table[i].item.present(),
            None => self.slow.contains_key(key),
        }
    }

    /// What slow memory holds for `key`, where that is its only copy.
    pub(super) fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        let state = self.state.lock();
        let only_copy = state.table.find(key).is_none_or(|i| state.table[i].item.only_copy_is_slow());
        if only_copy { self.slow.stored_size(key) } else { None }
    }

    /// The keys of a snapshot, each once.
    pub(super) fn keys(&self) -> Vec<K> {
        let fast = self.state.lock().begin_walk();
        let mut seen: std::collections::HashSet<K> = fast.iter().cloned().collect();
        let mut keys = fast;
        let mut others = Vec::new();
        self.slow.for_each_key(&mut |key| {
            if !seen.contains(key) {
                others.push(key.clone());
            }
        });
        let journal = self.state.lock().end_walk();
        for key in others.into_iter().chain(journal) {
            // a tombstone's copy is still on slow memory; the key is not here
            if !seen.contains(&key) && self.contains_key(&key) {
                seen.insert(key.clone());
                keys.push(key);
            }
        }
        keys
    }

    /// Counts a failure, and logs it if its cause was not logged lately.
    pub(super) fn failed(&self, activity: &'static str, error: &Error) {
        self.state.lock().counts.failures += 1;
        if self.log.allows(activity, error, self.clock.now()) {
            tracing::warn!(%error, "{activity} failed; nothing was lost");
        }
    }
}
