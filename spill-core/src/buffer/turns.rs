//! Whose turn it is with the state.
//!
//! A thread that inserts or spills takes the state several times for each value, for less than a microsecond each. A
//! hit that slept meanwhile would wait some microseconds to be woken, and one that has to wake the other takes as long; so
//! both wait awake, for as long as that would take. Where only hits meet, the one that sleeps leaves the state to the other
//! in its core's cache, and both are faster.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::sync::{Mutex, MutexGuard, lock_awake};

/// The state behind its lock. Lock and note share a line of the cache, which whoever takes the lock has.
#[derive(Debug)]
#[repr(C, align(16))]
pub(super) struct Turns<T> {
    /// A thread inserts or spills. Where several do, the first to end takes it back for all: some hits sleep then.
    spilling: AtomicBool,
    state: Mutex<T>,
}

/// A thread that inserts or spills, until it is dropped.
pub(super) struct Spiller<'a>(&'a AtomicBool);

impl<T> Turns<T> {
    pub(super) fn new(state: T) -> Self {
        Turns { spilling: AtomicBool::new(false), state: Mutex::new(state) }
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        lock_awake(&self.state)
    }

    /// The same, for a hit.
    #[inline(always)]
    pub(super) fn lock_to_hit(&self) -> MutexGuard<'_, T> {
        if self.spilling.load(Relaxed) { lock_awake(&self.state) } else { self.state.lock() }
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
    fn a_hit_gets_the_state_however_long_a_spiller_has_it() {
        let turns = Turns::new(0);
        for turn in [Duration::ZERO, Duration::from_millis(20)] {
            std::thread::scope(|scope| {
                let spiller = turns.spill();
                let mut held = turns.lock();
                let hit = scope.spawn(|| *turns.lock_to_hit());
                std::thread::park_timeout(turn);
                *held += 1;
                let written = *held;
                drop(held);
                assert_eq!(hit.join().unwrap(), written);
                drop(spiller);
            });
        }
        assert!(!turns.spilling.load(Relaxed));
    }
}
