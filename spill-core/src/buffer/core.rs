//! Hits, writes and removals of a buffer: what a caller does under the lock and without it.

use std::sync::Arc;
use std::time::Duration;

use super::hot::Hot;
use super::memories::Below;
use super::moves::Ended;
use super::observe::Observers;
use super::read::Reading;
use super::shared::{Asks, Shared};
use super::slot::CopyState;
use super::state::State;
use super::turns::{Turn, Turns};
use crate::guard::{LogLimit, guarded};
use crate::sync::Condvar;
use crate::{Clock, Error, ErrorKind, Key, MutableMapping, Overflow, Result, Value, Weigh};

/// What callers, evicters and writer threads share.
pub(super) struct Core<K, V, B> {
    pub(super) state: Turns<State<K, V>>,
    pub(super) hot: Arc<Hot<K, V>>,
    pub(super) below: B,
    pub(super) weigher: Arc<dyn Weigh<K, V>>,
    pub(super) observers: Observers<K, V>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) overflow: Overflow,
    pub(super) shared: Shared,
    /// What stages that neither memory takes may weigh (R9).
    pub(super) stage_bytes: u64,
    /// How many candidates an eviction tries before it gives up.
    pub(super) candidates: usize,
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

/// What was found without reading anything.
pub(super) enum Hit<'a, K, V> {
    Value(V),
    /// Not so; the state was taken meanwhile.
    None(Turn<'a, State<K, V>>),
}

/// What slow memory said of a key that had no slot, and how many slots had been freed by then. It still holds if none was
/// freed since and the key still has none: only who owns a key's slot changes what slow memory has of it.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    present: bool,
    departures: u64,
}

impl<K: Key, V: Value, B: Below<K, V>> Core<K, V, B> {
    /// The state, unless the buffer is closed.
    #[inline(always)]
    pub(super) fn open(&self) -> Result<Turn<'_, State<K, V>>> {
        let state = self.state.lock();
        if state.closed { Err(closed()) } else { Ok(state) }
    }

    /// Who says which values to pass by.
    pub(super) fn asks(&self) -> Asks<'_, K, V> {
        (self.shared == Shared::Defer).then_some(&*self.weigher)
    }

    pub(super) fn weigh(&self, key: &K, value: &V) -> Result<u64> {
        // the bound keeps sums from overflowing, whatever a weigher says
        guarded("weighing a value", || Ok(self.weigher.weigh(key, value).min(1 << 48)))
    }

    /// The value of `key`, as a use. Inlined with all that a hit does; the rest is [`read`](Self::read).
    #[inline(always)]
    pub(super) fn get(&self, key: &K) -> Result<Option<V>> {
        match self.hit(key) {
            Hit::Value(value) => Ok(Some(value)),
            Hit::None(state) => self.read(state, key, Reading::Use),
        }
    }

    /// The value of `key` as a use, if it is hot or stands by recency only.
    #[inline(always)]
    pub(super) fn hit(&self, key: &K) -> Hit<'_, K, V> {
        let hot = self.hot.any();
        if hot && let Some(value) = self.hot.hit(key) {
            return Hit::Value(value);
        }
        let (mut state, waited) = self.state.lock_to_hit();
        match state.hit_recent(key) {
            Some(value) => {
                if hot || waited {
                    self.temper(Turn::of(state), key, &value, waited);
                }
                Hit::Value(value)
            }
            None => Hit::None(Turn::of(state)),
        }
    }

    /// What a hit makes hot, or not hot any more.
    #[cold]
    pub(super) fn temper(&self, mut state: Turn<'_, State<K, V>>, key: &K, value: &V, waited: bool) {
        // one handle more would make a value look shared, and what is staged is not fast memory's
        if !B::STORED && self.shared != Shared::Defer {
            state.temper(key, value, waited);
        }
    }

    /// The value of `key`, leaving no trace.
    pub(super) fn peek(&self, key: &K) -> Result<Option<V>> {
        self.read(self.state.lock(), key, Reading::Peek)
    }

    /// Sets the value of `key`; above the target, evicts unless `quietly`.
    pub(super) fn insert(&self, key: K, value: V, quietly: bool) -> Result<()> {
        let weight = self.weigh(&key, &value)?;
        let _spiller = self.state.spill();
        let mut state = self.open()?;
        let mut asked = None;
        // where nothing is evicted it is not worth another turn with the state
        let evicts = state.above(state.target.saturating_sub(weight));
        if evicts && !self.discards && state.table.find(&key).is_none() {
            state.table.fetch_oldest();
            asked = Some(self.ask_slow(state, &key));
            state = self.open()?;
        }
        let mut state = self.admit(state, &key, weight, quietly)?;
        if asked.is_some() && !quietly && self.ceiling.is_none() {
            state.table.fetch_behind_oldest(); // before a flight begins: a key's `Hash` may panic
        }
        let (old, ended) = self.write_in(&mut state, key, value, weight, asked);
        let target = state.target;
        let full = self.is_full(&state);
        let shrink = !quietly && (full || B::STORED); // stored, it may weigh something else
        drop(state);
        drop(old);
        self.finish(ended);
        if shrink {
            self.shrink(target);
        }
        Ok(())
    }

    /// Asks slow memory for a key that has no slot, without the lock, so that other threads have their hits meanwhile.
    fn ask_slow(&self, state: Turn<'_, State<K, V>>, key: &K) -> Asked {
        let departures = state.departures;
        drop(state);
        Asked { present: self.below.slow().contains_key(key), departures }
    }

    /// Whether fast memory is above its target, now that something came in; noted for those who wait for the state.
    pub(super) fn is_full(&self, state: &State<K, V>) -> bool {
        let full = state.above(state.target);
        self.state.note_full(full);
        full
    }

    /// Sets the value of `key`, and gives back the old one with what is left to do.
    pub(super) fn write_in(
        &self,
        state: &mut State<K, V>,
        key: K,
        value: V,
        weight: u64,
        asked: Option<Asked>,
    ) -> (Option<V>, Ended<K, V>) {
        let in_slow = |state: &State<K, V>, key: &K| match asked {
            Some(asked) if asked.departures == state.departures => asked.present,
            _ => self.below.slow().contains_key(key),
        };
        let (i, was_present, key) = match state.table.find(&key) {
            Some(i) => (i, state.slot(i).present(), Some(key)),
            None if in_slow(state, &key) => (state.open(key, CopyState::Stale), true, None),
            None if B::STORED => (state.open(key, CopyState::Absent), false, None),
            None => {
                state.add(key, value, weight);
                return (None, Ended::default());
            }
        };
        let (old, mut ended) = state.write(&self.below, i, Some((value, weight)), was_present);
        ended.garbage.1 = key;
        (old, ended)
    }

    /// The state, once there is room for a value of `weight` as far as the settings ask for it.
    fn admit<'a>(
        &'a self,
        state: Turn<'a, State<K, V>>,
        key: &K,
        weight: u64,
        quietly: bool,
    ) -> Result<Turn<'a, State<K, V>>> {
        if !quietly && self.overflow != Overflow::Reject {
            return self.wait_for_room(state, weight);
        }
        let mut state = self.room_for_stage(state, weight)?;
        if quietly {
            return Ok(state);
        }
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
                let slot = &state.table[i];
                if slot.in_fast() { slot.weight } else { 0 }
            });
            if !state.above(state.target.saturating_sub(weight).saturating_add(old)) {
                break;
            }
            drop(state);
            let moved = self.evict_one();
            state = self.open()?;
            if moved.is_err() {
                let (used, limit) = (state.fast_bytes, state.target);
                return Err(ErrorKind::Full { path: None, used, limit, free: None, setting: "target" }.into());
            }
        }
        Ok(state)
    }

    /// Waits for room as an insert of a value of `weight` does; 0 where that is not known yet.
    pub(super) fn wait_for_room<'a>(
        &'a self,
        state: Turn<'a, State<K, V>>,
        weight: u64,
    ) -> Result<Turn<'a, State<K, V>>> {
        let state = self.room_for_stage(state, weight)?;
        match self.ceiling {
            Some(ceiling) => self.wait_for_writers(state, weight, ceiling),
            None => Ok(state),
        }
    }

    /// R9. Refuses what would have to be kept in RAM as well, where neither memory takes anything and as much as may
    /// be is kept already.
    fn room_for_stage<'a>(
        &'a self,
        mut state: Turn<'a, State<K, V>>,
        weight: u64,
    ) -> Result<Turn<'a, State<K, V>>> {
        if B::STORED && state.pending.refusal(weight, self.stage_bytes).is_some() {
            state = self.retry_pending(state);
            if let Some(error) = state.pending.refusal(weight, self.stage_bytes) {
                return Err(error.clone());
            }
        }
        Ok(state)
    }

    /// Waits while fast memory is above the ceiling and a write is under way, or a writer thread has yet to come to
    /// what is next: on a busy machine it may be late. Neither a device that fails nor one that hangs stops the
    /// caller for good.
    fn wait_for_writers<'a>(
        &'a self,
        mut state: Turn<'a, State<K, V>>,
        weight: u64,
        ceiling: u64,
    ) -> Result<Turn<'a, State<K, V>>> {
        const PATIENCE: Duration = Duration::from_secs(10);
        const LATE: Duration = Duration::from_millis(10);
        let mut begun = None;
        while state.above(ceiling.saturating_sub(weight)) && !state.closed {
            let writing = state.writing_bytes > 0;
            if !writing && !self.is_for_writers(&mut state) {
                break;
            }
            let now = self.clock.now();
            let waited = now.saturating_sub(*begun.get_or_insert(now));
            if waited >= PATIENCE {
                break;
            }
            let rest = PATIENCE - waited;
            if !writing {
                self.work.notify_all();
            }
            state = state.wait_for(&self.progress, if writing { rest } else { rest.min(LATE) });
        }
        if state.closed { Err(closed()) } else { Ok(state) }
    }

    /// Whether a writer thread, once it runs, finds a value to write.
    fn is_for_writers(&self, state: &mut State<K, V>) -> bool {
        let runs = state.writers > 0 && !state.stopping && state.above(state.target);
        runs && state.table.oldest(|| self.clock.now()).is_some()
    }

    pub(super) fn remove(&self, key: &K) -> Result<bool> {
        let mut state = self.open()?;
        let removed = self.remove_in(&mut state, key);
        drop(state);
        let Some((old, ended)) = removed else { return Ok(false) };
        drop(old);
        self.finish(ended);
        Ok(true)
    }

    /// Takes the value of `key` out, wherever it is, and gives it back with what is left to do; `None`: absent.
    pub(super) fn remove_in(&self, state: &mut State<K, V>, key: &K) -> Option<(Option<V>, Ended<K, V>)> {
        let i = match state.table.find(key) {
            Some(i) if !state.slot(i).present() => return None,
            Some(i) => i,
            None if !self.below.slow().contains_key(key) => return None,
            None => state.open(key.clone(), CopyState::Stale),
        };
        Some(state.write(&self.below, i, None, true))
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.present_in(&self.state.lock(), key)
    }

    /// R1. Whether `key` is present.
    pub(super) fn present_in(&self, state: &State<K, V>, key: &K) -> bool {
        match state.table.find(key) {
            Some(i) => state.table[i].present(),
            None => self.below.slow().contains_key(key),
        }
    }

    /// The keys of a snapshot, each once.
    pub(super) fn keys(&self) -> Vec<K> {
        let fast = self.state.lock().begin_walk();
        let mut seen: std::collections::HashSet<K> = fast.iter().cloned().collect();
        let mut keys = fast;
        let mut others = Vec::new();
        self.below.slow().for_each_key(&mut |key| {
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

/// What every call is answered with once the buffer is closed.
pub(super) fn closed() -> Error {
    ErrorKind::Closed { what: "the buffer" }.into()
}
