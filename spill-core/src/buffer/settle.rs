//! What the end of a flight leaves to its owner, done without the lock (R6, R9).

use super::core::Core;
use super::flight::Landing;
use super::memories::Below;
use super::moves::{Course, Ended, Failed, Next};
use super::slot::Memory;
use super::state::State;
use super::turns::Turn;
use crate::guard::guarded;
use crate::{Error, Key, MutableMapping, Result, Value};

/// What a failure to store a stage failed at, in errors and in the log.
pub(super) const STORING: &str = "storing a value in fast memory";

impl<K: Key, V: Value, B: Below<K, V>> Core<K, V, B> {
    /// Ends the flight of `i`, gives the lock back, and does what the end left to do.
    pub(super) fn end_in(&self, mut state: Turn<'_, State<K, V>>, i: u32, landing: Landing<V>) {
        let ended = state.end(&self.below, i, Course::default(), landing);
        drop(state);
        self.finish(ended);
    }

    /// Does what the end of a flight left to do, until the slot rests. What fails is kept, counted and logged; the
    /// last error is given back.
    pub(super) fn finish(&self, mut ended: Ended<K, V>) -> Option<Error> {
        let mut error = None;
        while let Some(next) = ended.next.take() {
            let outcome;
            (outcome, ended) = match next {
                Next::Store { slot, key, value, course } => self.store_stage(slot, key, value, course),
                Next::Remove { slot, key, memory, course } => self.remove_copy(slot, &key, memory, course),
                Next::Spill(spill) => {
                    let outcome = self.write(&spill);
                    let failed = outcome.as_ref().err().cloned();
                    let (_, ended) = self.end_spill(&spill, outcome, self.ends());
                    (failed.map_or(Ok(()), Err), ended)
                }
            };
            error = outcome.err().or(error);
        }
        error
    }

    /// Does and ends the writing of a stage to fast memory.
    fn store_stage(&self, i: u32, key: K, value: V, course: Course) -> (Result<()>, Ended<K, V>) {
        let stored = guarded(STORING, || self.below.fast().insert(key, value));
        let ended = self.end_store(&mut self.state.lock(), i, course, &stored);
        if let Err(error) = &stored {
            self.failed(STORING, error);
        }
        (stored, ended)
    }

    /// Ends the writing of a stage to fast memory.
    pub(super) fn end_store(
        &self,
        state: &mut State<K, V>,
        i: u32,
        course: Course,
        stored: &Result<()>,
    ) -> Ended<K, V> {
        let failed = stored.as_ref().err().map(|error| {
            state.pending.refused(error.clone());
            Failed::by(error, self.clock.now())
        });
        state.stored(&self.below, i, course, failed)
    }

    /// Does and ends a Removing flight.
    fn remove_copy(&self, i: u32, key: &K, memory: Memory, course: Course) -> (Result<()>, Ended<K, V>) {
        let gone = guarded("removing an old copy", || self.below.remove(memory, key));
        if let Err(error) = &gone {
            self.failed("removing an old copy", error);
        }
        let freed = gone.as_ref().ok().copied();
        let ended = self.state.lock().removed(&self.below, i, memory, freed, course, || self.clock.now());
        (gone.map(drop), ended)
    }

    /// Removes a Clean copy from slow memory; says whether it is gone.
    pub(super) fn give_up_clean_copy(&self, i: u32, key: &K) -> bool {
        let (gone, ended) = self.remove_copy(i, key, Memory::Slow, Course::over());
        self.finish(ended);
        gone.is_ok()
    }
}
