//! Whose turn it is with the state.
//!
//! A thread that inserts where fast memory is full takes the state several times for each value, for less than a
//! microsecond each. Who sleeps meanwhile waits some microseconds to be woken, and who has to wake another loses as much.
//! So hits wait awake while somebody inserts or spills, and all others while fast memory is full; for as long as being woken
//! would take. Otherwise the one that sleeps leaves the state to the other in its core's cache, and both are faster.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::sync::{Mutex, MutexGuard, lock_awake};

/// The state behind its lock. Lock and notes share a line of the cache, which whoever takes the lock has.
#[derive(Debug)]
#[repr(C, align(16))]
pub(super) struct Turns<T> {
    /// A thread inserts or spills. The first to end takes it back for all, and an eviction for the insert that it makes
    /// room for: some hits sleep then.
    spilling: AtomicBool,
    /// What came in last found fast memory above its target. It stays so when no more comes.
    full: AtomicBool,
    state: Mutex<T>,
}

/// A thread that inserts or spills, until it is dropped.
pub(super) struct Spiller<'a>(&'a AtomicBool);

impl<T> Turns<T> {
    pub(super) fn new(state: T) -> Self {
        Turns { spilling: AtomicBool::new(false), full: AtomicBool::new(false), state: Mutex::new(state) }
    }

    /// The state.
    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        if self.full.load(Relaxed) { lock_awake(&self.state) } else { self.state.lock() }
    }

    /// Notes whether fast memory is above its target; for whoever has the state.
    #[inline]
    pub(super) fn note_full(&self, full: bool) {
        if self.full.load(Relaxed) != full {
            self.full.store(full, Relaxed);
        }
    }

    /// The state, for a hit, and whether that had to wait for a thread that inserts or spills.
    #[inline(always)]
    pub(super) fn lock_to_hit(&self) -> (MutexGuard<'_, T>, bool) {
        if self.spilling.load(Relaxed) { self.lock_beside_spiller() } else { (self.state.lock(), false) }
    }

    #[inline(never)]
    fn lock_beside_spiller(&self) -> (MutexGuard<'_, T>, bool) {
        match self.state.try_lock() {
            Some(state) => (state, false),
            None => (lock_awake(&self.state), true),
        }
    }

    /// Notes that this thread begins to insert or to spill.
    #[inline]
    pub(super) fn spill(&self) -> Spiller<'_> {
        self.spilling.store(true, Relaxed);
        Spiller(&self.spilling)
    }
}

impl Drop for Spiller<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn whoever_waits_gets_the_state_however_long_a_spiller_has_it() {
        let turns = Turns::new(0);
        for (full, turn) in
            [(false, Duration::ZERO), (true, Duration::ZERO), (true, Duration::from_millis(20))]
        {
            std::thread::scope(|scope| {
                let spiller = turns.spill();
                let mut held = turns.lock();
                turns.note_full(full);
                let hit = scope.spawn(|| *turns.lock_to_hit().0);
                let other = scope.spawn(|| *turns.lock());
                std::thread::park_timeout(turn);
                *held += 1;
                let written = *held;
                drop(held);
                assert_eq!((hit.join().unwrap(), other.join().unwrap()), (written, written));
                drop(spiller);
            });
        }
        assert!(!turns.spilling.load(Relaxed));
    }
}
