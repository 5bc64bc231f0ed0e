//! What was left to do with slots and failed: copies to remove, stages to store. It is tried again, each in its turn.

use std::time::Duration;

use super::rotation::Rotation;
use crate::Error;

/// How often something is tried again after it failed.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Idle slots, each with the weight of its stage, which is 0 where only a copy is to be removed.
    slots: Rotation,
    /// Why the last stage could not be stored.
    refusal: Option<Error>,
    /// When the next is tried.
    due: Duration,
}

impl Pending {
    pub(super) fn note(&mut self, slot: u32, staged: u64) {
        self.slots.note(slot, staged);
    }

    #[inline]
    pub(super) fn forget(&mut self, slot: u32) {
        self.slots.forget(slot);
    }

    /// Something failed: the next try waits a while.
    pub(super) fn failed(&mut self, at: Duration) {
        self.due = at + RETRY;
    }

    /// Fast memory has room for what it refused, maybe: the next try need not wait.
    pub(super) fn room_returned(&mut self) {
        self.due = Duration::ZERO;
    }

    /// A stage could not be stored.
    pub(super) fn refused(&mut self, error: Error) {
        self.refusal = Some(error);
    }

    /// Why a further stage of `weight` has no room where all of them may take `bound`; the first always has.
    pub(super) fn refusal(&self, weight: u64, bound: u64) -> Option<&Error> {
        let staged = self.slots.weight();
        let full = staged > 0 && staged.saturating_add(weight) > bound;
        self.refusal.as_ref().filter(|_| full)
    }

    /// The slot to try again, if it is time.
    pub(super) fn next(&mut self, now: impl FnOnce() -> Duration) -> Option<u32> {
        if self.slots.is_empty() || now() < self.due {
            return None;
        }
        self.slots.next(1).pop()
    }

    /// When the next try is due, if there is anything to try.
    pub(super) fn due(&self) -> Option<Duration> {
        (!self.slots.is_empty()).then_some(self.due)
    }
}
