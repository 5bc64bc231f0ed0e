//! Threads and tasks that wait for the same thing to change.

use std::task::Waker;

/// The wakers of the tasks that wait, each under the number that its future has.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    next: u64,
    wakers: Vec<(u64, Waker)>,
}

impl Waiters {
    /// A number for a thread or future that begins to wait. Numbers rise.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Wakes `waker` at the next change, in place of the one given before.
    pub(super) fn set(&mut self, number: u64, waker: &Waker) {
        match self.wakers.iter_mut().find(|(known, _)| *known == number) {
            Some((_, known)) => known.clone_from(waker),
            None => self.wakers.push((number, waker.clone())),
        }
    }

    /// The future waits no more.
    pub(super) fn forget(&mut self, number: u64) {
        self.wakers.retain(|(known, _)| *known != number);
    }

    /// All who wait, to be woken once no lock is held.
    pub(super) fn take(&mut self) -> Vec<Waker> {
        self.wakers.drain(..).map(|(_, waker)| waker).collect()
    }
}
