//! What was left to do with slots and failed: copies to remove, stages to store. It is tried again, each in its turn.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Error;

/// How often something is tried again after it failed.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Idle slots, each with the weight of its stage, which is 0 where only a copy is to be removed.
    of: BTreeMap<u32, u64>,
    /// What the stages weigh, and why the last one could not be stored.
    staged: u64,
    refusal: Option<Error>,
    /// The slot tried last, and when the next is.
    last: u32,
    due: Duration,
}

impl Pending {
    pub(super) fn note(&mut self, slot: u32, staged: u64) {
        self.forget(slot);
        self.of.insert(slot, staged);
        self.staged += staged;
    }

    #[inline]
    pub(super) fn forget(&mut self, slot: u32) {
        if !self.of.is_empty()
            && let Some(staged) = self.of.remove(&slot)
        {
            self.staged -= staged;
        }
    }

    /// Something failed: the next try waits a while.
    pub(super) fn failed(&mut self, at: Duration) {
        self.due = at + RETRY;
    }

    /// A stage could not be stored.
    pub(super) fn refused(&mut self, error: Error) {
        self.refusal = Some(error);
    }

    /// Why a further stage of `weight` has no room where all of them may take `bound`; the first always has.
    pub(super) fn refusal(&self, weight: u64, bound: u64) -> Option<&Error> {
        let full = self.staged > 0 && self.staged.saturating_add(weight) > bound;
        self.refusal.as_ref().filter(|_| full)
    }

    /// The slot to try again, if it is time.
    pub(super) fn next(&mut self, now: impl FnOnce() -> Duration) -> Option<u32> {
        let after = self.of.range(self.last.saturating_add(1)..).next();
        let (&slot, _) = after.or_else(|| self.of.first_key_value())?;
        if now() < self.due {
            return None;
        }
        self.last = slot;
        Some(slot)
    }

    /// When the next try is due, if there is anything to try.
    pub(super) fn due(&self) -> Option<Duration> {
        (!self.of.is_empty()).then_some(self.due)
    }
}
