//! Moving values from fast to slow memory: one at a time in the caller, or as a batch by a writer thread.

use super::core::Core;
use super::flight::Landing;
use super::memories::Below;
use super::moves::{Begun, Course, Ended, Failed, Fetch, Spill, SpillEnds, Wrote};
use super::read::Reading;
use super::shared::Candidate;
use super::slot::{CopyState, Memory, Slot};
use super::spans;
use super::state::State;
use super::turns::Turn;
use crate::guard::{guarded, guarded_many};
use crate::{Error, Key, MutableMapping, Result, Value};

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

impl<K: Key, V: Value, B: Below<K, V>> Core<K, V, B> {
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
        self.state.lock().look_again(self.asks());
        self.evict_while_above((target > 0).then_some(target))
    }

    /// Evicts until so many bytes have left, or nothing more can be moved. Bytes moved.
    pub(super) fn reclaim(&self, bytes: u64) -> u64 {
        self.state.lock().look_again(self.asks());
        if bytes == 0 { 0 } else { self.evict_while(None, |moved, _| moved < bytes) }
    }

    /// Evicts while fast memory weighs more than `target`, or at all.
    fn evict_while_above(&self, target: Option<u64>) -> u64 {
        self.evict_while(target, |_, left| target.is_none_or(|target| left > target))
    }

    /// Evicts, at first only above `target`, while `more` of what was moved and what is left; until so many
    /// candidates in a row failed.
    fn evict_while(&self, target: Option<u64>, more: impl Fn(u64, u64) -> bool) -> u64 {
        let mut moved = 0;
        let mut failures = 0;
        while failures < self.candidates {
            match self.evict_step(target, None) {
                Step::Moved { weight, left } => {
                    moved += weight;
                    failures = 0;
                    if !more(moved, left) {
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
                    if failed.len() == self.candidates {
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
        let _spiller = self.state.spill();
        let mut state = self.retry_pending(self.state.lock());
        loop {
            if state.closed {
                return Step::Nothing;
            }
            if target.is_some_and(|target| !state.above(target)) {
                return Step::Below;
            }
            match state.candidate(self.asks(), eager.map(Vec::as_slice), || self.clock.now()) {
                Candidate::Slot(i) => return self.spill_in(state, i),
                Candidate::None => {}
                Candidate::More => {
                    drop(state);
                    state = self.state.lock();
                    continue;
                }
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
            if !slot.in_fast() {
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
    fn spill_in(&self, mut state: Turn<'_, State<K, V>>, i: u32) -> Step {
        match state.begin_spill(&self.below, i, self.observers.evict.is_empty()) {
            Begun::Left { weight, ended } => {
                let left = state.load();
                drop(state);
                self.finish(ended);
                Step::Moved { weight, left }
            }
            Begun::Write(spill) => {
                drop(state);
                self.spill(spill)
            }
            Begun::Fetch(fetch) => {
                drop(state);
                self.fetch_stage(fetch).map_or_else(|step| step, |spill| self.spill(spill))
            }
        }
    }

    fn spill(&self, spill: Spill<K, V>) -> Step {
        let outcome = self.write(&spill);
        self.wrote(&spill, outcome, self.ends())
    }

    /// Reads a value from fast memory to be spilled (R9); or what the eviction came to, where that failed.
    pub(super) fn fetch_stage(&self, fetch: Fetch<K>) -> std::result::Result<Spill<K, V>, Step> {
        let i = fetch.slot;
        let read = |memory| self.fetch_weighed(memory, &fetch.key, Reading::Peek);
        let fetched =
            read(Memory::Fast).or_else(|error| if fetch.clean { read(Memory::Slow) } else { Err(error) });
        let error = fetched.as_ref().err().cloned();
        let fetched = fetched.map_err(|error| Failed::by(&error, self.clock.now()));
        let ended = self.state.lock().fetched(&self.below, fetch, fetched);
        ended.map_err(|(wrote, ended)| {
            self.progress.notify_all();
            self.finish(ended);
            match error {
                Some(error) if wrote == Wrote::Failed => {
                    self.failed("reading a value to spill", &error);
                    Step::Failed(i, error)
                }
                _ => Step::Superseded,
            }
        })
    }

    /// What becomes of values that are spilled.
    pub(super) fn ends(&self) -> SpillEnds {
        if self.discards { SpillEnds::Vanishes } else { SpillEnds::Moves }
    }

    /// Writes the value to slow memory unless that has it, and tells the observers; without the lock.
    pub(super) fn write(&self, spill: &Spill<K, V>) -> Result<()> {
        if !spill.clean {
            self.store(spill)?;
        }
        self.observers.evicted(&spill.key, &spill.value)
    }

    /// Writes the value to slow memory; where that is full, Clean copies make room (promise 3).
    fn store(&self, spill: &Spill<K, V>) -> Result<()> {
        let _span = spans::spill(1, spill.weight);
        loop {
            match guarded("spilling a value", || {
                self.below.slow().insert(spill.key.clone(), spill.value.clone())
            }) {
                Err(error) if error.is_full() && self.drop_clean_copies() > 0 => {}
                outcome => return outcome,
            }
        }
    }

    /// Ends a spill with its outcome, and does what that left to do.
    fn wrote(&self, spill: &Spill<K, V>, outcome: Result<()>, ends: SpillEnds) -> Step {
        let (step, ended) = self.end_spill(spill, outcome, ends);
        self.finish(ended);
        step
    }

    /// Ends a spill with its outcome.
    pub(super) fn end_spill(
        &self,
        spill: &Spill<K, V>,
        outcome: Result<()>,
        ends: SpillEnds,
    ) -> (Step, Ended<K, V>) {
        let failed = outcome.as_ref().err().map(|error| Failed::by(error, self.clock.now()));
        let mut state = self.state.lock();
        let (wrote, ended) = state.wrote(&self.below, spill, failed, ends);
        let left = state.load();
        drop(state);
        if self.ceiling.is_some() {
            self.progress.notify_all();
        }
        let step = match (wrote, outcome) {
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
        };
        (step, ended)
    }

    /// Storage is full: gives up copies of values that are in fast memory too. How many went.
    fn drop_clean_copies(&self) -> usize {
        let clean: Vec<(u32, K)> = {
            let mut state = self.state.lock();
            let slots = state.begin_clean(CLEAN_AT_A_TIME);
            slots.into_iter().map(|i| (i, state.table.key(i).clone())).collect()
        };
        clean.into_iter().filter(|(i, key)| self.give_up_clean_copy(*i, key)).count()
    }

    /// Tries again what failed before, an old copy to remove or a stage to store, if something is due.
    pub(super) fn retry_pending<'a>(&'a self, mut state: Turn<'a, State<K, V>>) -> Turn<'a, State<K, V>> {
        if !state.closed
            && let Some(ended) = state.retry_pending(&self.below, || self.clock.now())
        {
            drop(state);
            self.finish(ended);
            state = self.state.lock();
        }
        state
    }

    /// Spills a batch that was begun under the lock, in as few calls of storage as it takes.
    pub(super) fn spill_batch(&self, begun: Vec<Begun<K, V>>) {
        let _spiller = self.state.spill();
        let batch: Vec<Spill<K, V>> = begun
            .into_iter()
            .filter_map(|begun| match begun {
                Begun::Write(spill) => Some(spill),
                Begun::Fetch(fetch) => self.fetch_stage(fetch).ok(),
                Begun::Left { ended, .. } => {
                    self.finish(ended);
                    None
                }
            })
            .collect();
        let written = || batch.iter().filter(|spill| !spill.clean);
        let pairs: Vec<_> = written().map(|spill| (spill.key.clone(), spill.value.clone())).collect();
        let span = spans::spill(pairs.len(), written().map(|spill| spill.weight).sum());
        let outcomes = guarded_many("spilling a batch", pairs.len(), || self.below.slow().insert_many(pairs));
        drop(span);
        let mut outcomes = outcomes.into_iter();
        let mut room = false; // was made since the batch was refused
        for spill in batch {
            // one result for each value that was written
            let outcome = match if spill.clean { None } else { outcomes.next() } {
                None => self.write(&spill),
                Some(Err(error)) if error.is_full() && (room || self.drop_clean_copies() > 0) => {
                    let outcome = self.write(&spill);
                    room = !outcome.as_ref().is_err_and(Error::is_full);
                    outcome
                }
                Some(Err(error)) => Err(error),
                Some(Ok(())) => self.observers.evicted(&spill.key, &spill.value),
            };
            self.wrote(&spill, outcome, self.ends());
        }
    }

    /// Writes all values that are in RAM only: to slow memory, where they stay as Clean, or to the mapping that
    /// is fast memory (R9). Then flushes what is below.
    pub(super) fn flush(&self) -> Result<()> {
        if self.discards {
            return Ok(()); // a Clean copy would be one that nobody has
        }
        let dirty: Vec<K> = {
            let state = self.state.lock();
            let dirty = |slot: &Slot<V>| slot.value.is_some() && slot.slow != CopyState::Clean;
            state.table.iter().filter(|(.., slot)| dirty(slot)).map(|(_, key, _)| key.clone()).collect()
        };
        let mut first_error = None;
        for key in dirty {
            if let Err(error) = self.flush_key(&key) {
                first_error.get_or_insert(error);
            }
        }
        let fast = guarded("flushing fast memory", || self.below.fast().flush());
        let slow = guarded("flushing slow memory", || self.below.slow().flush());
        first_error.map_or(fast.and(slow), Err)
    }

    fn flush_key(&self, key: &K) -> Result<()> {
        loop {
            let mut state = self.state.lock();
            let Some(i) = state.table.find(key) else { return Ok(()) };
            let slot = state.slot(i);
            if slot.value.is_none() || slot.slow == CopyState::Clean {
                return Ok(());
            }
            if slot.flight.is_some() {
                let signal = state.signal(i);
                drop(state);
                _ = signal.wait();
                continue;
            }
            if B::STORED {
                let ended = state.end(&self.below, i, Course::default(), Landing::StartOver);
                drop(state);
                let error = self.finish(ended);
                let state = self.state.lock();
                let staged = state.table.find(key).is_some_and(|i| state.table[i].value.is_some());
                return error.filter(|_| staged).map_or(Ok(()), Err);
            }
            let Begun::Write(spill) = state.begin_spill(&self.below, i, false) else { return Ok(()) };
            drop(state);
            let outcome = self.store(&spill);
            return match self.wrote(&spill, outcome, SpillEnds::Stays) {
                Step::Failed(_, error) => Err(error),
                _ => Ok(()),
            };
        }
    }
}
