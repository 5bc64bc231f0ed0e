//! Moving values from fast to slow memory: one at a time in the caller, or as a batch by a writer thread.

use super::core::Core;
use super::slot::{Slot, SlowCopy};
use super::state::{Spill, SpillEnds, SpillFailed, State, Wrote};
use crate::guard::guarded;
use crate::sync::MutexGuard;
use crate::{Error, ErrorKind, Key, MutableMapping, Result, Value};

/// How many candidates one eviction tries before it gives up.
const CANDIDATES: usize = 8;

/// How many candidates it looks at in all, those that were replaced while being spilled included.
const REPLACED: usize = 1000;

/// How many Clean copies are given up at a time when storage is full.
const CLEAN_AT_A_TIME: usize = 64;

/// What one attempt to evict came to.
pub(super) enum Step {
    /// A pair of this weight left fast memory, which weighs `left` with its offset now.
    Moved { weight: u64, left: u64 },
    /// The candidate was written or removed meanwhile.
    Superseded,
    /// The candidate, of this slot, could not be spilled, and is deferred.
    Failed(u32, Error),
    /// There is no candidate.
    Nothing,
    /// Fast memory is not above the target.
    Below,
}

impl<K: Key, V: Value, S: MutableMapping<K, V>> Core<K, V, S> {
    /// After something came in: brings fast memory down to its target, here or in the writers.
    pub(super) fn shrink(&self, target: u64) {
        if self.ceiling.is_some() {
            self.work.notify_all();
        } else {
            self.evict_while_above(Some(target));
        }
    }

    /// Evicts until fast memory weighs at most `target`, or nothing more can be moved. Bytes moved. With 0,
    /// what weighs nothing goes too.
    pub(super) fn evict_until_below(&self, target: u64) -> u64 {
        self.evict_while_above((target > 0).then_some(target))
    }

    /// Evicts while fast memory weighs more than `target`, or at all; until `CANDIDATES` in a row failed.
    fn evict_while_above(&self, target: Option<u64>) -> u64 {
        let mut moved = 0;
        let mut failures = 0;
        while failures < CANDIDATES {
            match self.evict_step(target, None) {
                Step::Moved { weight, left } => {
                    moved += weight;
                    failures = 0;
                    if target.is_some_and(|target| left <= target) {
                        break;
                    }
                }
                Step::Superseded => {}
                Step::Failed(..) => failures += 1,
                Step::Nothing | Step::Below => break,
            }
        }
        moved
    }

    /// Moves one pair, trying several candidates, at last deferred ones that are not due. The weight moved, or
    /// why nothing was (`None`: there was nothing).
    pub(super) fn evict_one(&self) -> std::result::Result<u64, Option<Error>> {
        let (mut failed, mut last) = (Vec::new(), None);
        for _ in 0..REPLACED {
            match self.evict_step(None, Some(&failed)) {
                Step::Moved { weight, .. } => return Ok(weight),
                Step::Superseded => {}
                Step::Nothing | Step::Below => break,
                Step::Failed(slot, error) => {
                    last = Some(error);
                    failed.push(slot);
                    if failed.len() == CANDIDATES {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    /// One attempt, on the next candidate. An eager one has a list of the slots that it tried already: of
    /// those deferred it takes another, due or not, and when all are in flight it waits for a flight.
    fn evict_step(&self, target: Option<u64>, eager: Option<&Vec<u32>>) -> Step {
        let mut state = self.retry_stale(self.state.lock());
        loop {
            if state.closed {
                return Step::Nothing;
            }
            if target.is_some_and(|target| !state.above(target)) {
                return Step::Below;
            }
            let candidate = state.table.oldest(|| self.clock.now());
            let candidate = candidate.or_else(|| state.table.waiting(eager?));
            if let Some(i) = candidate {
                return self.spill_in(state, i);
            }
            match state.signal_of_any_value().filter(|_| eager.is_some()) {
                Some(signal) => {
                    drop(state);
                    _ = signal.wait();
                    state = self.state.lock();
                }
                None => return Step::Nothing,
            }
        }
    }

    /// Spills the value of `key` now. Its weight, or `None` when it is not in fast memory, or was written
    /// or removed meanwhile.
    pub(super) fn evict_key(&self, key: &K) -> Result<Option<u64>> {
        loop {
            let mut state = self.open()?;
            let Some(i) = state.table.find(key) else { return Ok(None) };
            let slot = state.slot(i);
            if slot.value.is_none() {
                return Ok(None);
            }
            if slot.flight.is_some() {
                let signal = state.signal(i);
                drop(state);
                _ = signal.wait();
                continue;
            }
            return match self.spill_in(state, i) {
                Step::Moved { weight, .. } => Ok(Some(weight)),
                Step::Failed(_, error) => Err(error),
                Step::Superseded | Step::Nothing | Step::Below => Ok(None),
            };
        }
    }

    /// Spills the idle value of slot `i`.
    fn spill_in(&self, mut state: MutexGuard<'_, State<K, V>>, i: u32) -> Step {
        match state.begin_spill(&self.slow, i, self.observers.evict.is_empty()) {
            Err((weight, ended)) => {
                let left = state.load();
                drop(state);
                drop(ended);
                Step::Moved { weight, left }
            }
            Ok(spill) => {
                drop(state);
                let outcome = self.write(&spill);
                let ends = if self.discards { SpillEnds::Vanishes } else { SpillEnds::Moves };
                self.wrote(spill, outcome, ends)
            }
        }
    }

    /// Writes the value to slow memory unless that has it, and tells the observers; without the lock.
    fn write(&self, spill: &Spill<K, V>) -> Result<()> {
        if !spill.clean {
            self.store(spill)?;
        }
        self.observers.evicted(&spill.key, &spill.value)
    }

    /// Writes the value to slow memory; where that is full, Clean copies make room (promise 3).
    fn store(&self, spill: &Spill<K, V>) -> Result<()> {
        loop {
            match guarded("spilling a value", || self.slow.insert(spill.key.clone(), spill.value.clone())) {
                Err(error) if error.is_full() && self.drop_clean_copies() > 0 => {}
                outcome => return outcome,
            }
        }
    }

    /// Ends a spill with its outcome.
    fn wrote(&self, spill: Spill<K, V>, outcome: Result<()>, ends: SpillEnds) -> Step {
        let failed = outcome.as_ref().err().map(|e| SpillFailed { full: e.is_full(), at: self.clock.now() });
        let mut state = self.state.lock();
        let (wrote, ended) = state.wrote(&self.slow, &spill, failed, ends);
        let left = state.load();
        drop(state);
        if self.ceiling.is_some() {
            self.progress.notify_all();
        }
        self.finish(spill.slot, &spill.key, ended, failed.filter(|_| wrote == Wrote::Failed));
        match (wrote, outcome) {
            (Wrote::Superseded, _) => {
                if let Err(error) = self.observers.cancelled(&spill.key, &spill.value) {
                    self.failed("observing a cancelled eviction", &error);
                }
                Step::Superseded
            }
            (_, Err(error)) => {
                self.failed("spilling a value", &error);
                Step::Failed(spill.slot, error)
            }
            (_, Ok(())) => Step::Moved { weight: spill.weight, left },
        }
    }

    /// Storage is full: gives up copies of values that are in fast memory too. How many went.
    fn drop_clean_copies(&self) -> usize {
        let clean: Vec<(u32, K)> = {
            let mut state = self.state.lock();
            let slots = state.begin_clean(CLEAN_AT_A_TIME);
            slots.into_iter().map(|i| (i, state.table.key(i).clone())).collect()
        };
        clean.into_iter().filter(|(i, key)| self.remove_copy(*i, key, None)).count()
    }

    /// Tries again to remove an old copy whose removal failed before, if one is due.
    pub(super) fn retry_stale<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<K, V>>,
    ) -> MutexGuard<'a, State<K, V>> {
        if !state.closed
            && let Some(i) = state.begin_stale(|| self.clock.now())
        {
            let key = state.table.key(i).clone();
            drop(state);
            self.remove_copy(i, &key, None);
            state = self.state.lock();
        }
        state
    }

    /// Spills a batch that was begun under the lock, in as few calls of storage as it takes.
    pub(super) fn spill_batch(&self, batch: Vec<Spill<K, V>>) {
        let pairs = batch
            .iter()
            .filter(|spill| !spill.clean)
            .map(|spill| (spill.key.clone(), spill.value.clone()))
            .collect();
        let outcomes = guarded("spilling a batch", || Ok(self.slow.insert_many(pairs)));
        let mut outcomes = outcomes.map(Vec::into_iter);
        let mut room = false; // was made since the batch was refused
        for spill in batch {
            let outcome = if spill.clean {
                self.write(&spill)
            } else {
                let first = match &mut outcomes {
                    Ok(outcomes) => outcomes.next().unwrap_or_else(|| {
                        let (name, location) = ("slow memory", "a batch".to_owned());
                        let status = "it gave fewer results than values".to_owned();
                        Err(ErrorKind::Backend { name, location, status, transient: false }.into())
                    }),
                    Err(error) => Err(error.clone()),
                };
                match first {
                    Err(error) if error.is_full() && (room || self.drop_clean_copies() > 0) => {
                        let outcome = self.write(&spill);
                        room = !outcome.as_ref().is_err_and(Error::is_full);
                        outcome
                    }
                    Err(error) => Err(error),
                    Ok(()) => self.observers.evicted(&spill.key, &spill.value),
                }
            };
            let ends = if self.discards { SpillEnds::Vanishes } else { SpillEnds::Moves };
            self.wrote(spill, outcome, ends);
        }
    }

    /// Writes all values of fast memory that slow memory does not have; they stay, as Clean.
    pub(super) fn flush(&self) -> Result<()> {
        if self.discards {
            return Ok(()); // a Clean copy would be one that nobody has
        }
        let dirty: Vec<K> = {
            let state = self.state.lock();
            let dirty = |slot: &Slot<V>| slot.value.is_some() && slot.copy != SlowCopy::Clean;
            state.table.iter().filter(|(.., slot)| dirty(slot)).map(|(_, key, _)| key.clone()).collect()
        };
        let mut first_error = None;
        for key in dirty {
            if let Err(error) = self.flush_key(&key) {
                first_error.get_or_insert(error);
            }
        }
        let below = guarded("flushing slow memory", || self.slow.flush());
        first_error.map_or(below, Err)
    }

    fn flush_key(&self, key: &K) -> Result<()> {
        loop {
            let mut state = self.state.lock();
            let Some(i) = state.table.find(key) else { return Ok(()) };
            let slot = state.slot(i);
            if slot.value.is_none() || slot.copy == SlowCopy::Clean {
                return Ok(());
            }
            if slot.flight.is_some() {
                let signal = state.signal(i);
                drop(state);
                _ = signal.wait();
                continue;
            }
            let Ok(spill) = state.begin_spill(&self.slow, i, false) else { return Ok(()) };
            drop(state);
            let outcome = self.store(&spill);
            return match self.wrote(spill, outcome, SpillEnds::Stays) {
                Step::Failed(_, error) => Err(error),
                _ => Ok(()),
            };
        }
    }
}
