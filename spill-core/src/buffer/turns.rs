//! Whose turn it is with the state.
//!
//! A thread that inserts where fast memory is full takes the state several times for each value, for less than a
//! microsecond each. Who sleeps meanwhile waits some microseconds to be woken, and who has to wake another loses as much.
//! So hits wait awake while somebody inserts or spills, and all others while fast memory is full; for as long as being woken
//! would take. Otherwise the one that sleeps leaves the state to the other in its core's cache, and both are faster.

use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::sync::{Condvar, Mutex, MutexGuard, lock_awake};

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

/// A state in which steps leave behind what is to be dropped where the lock is not held.
pub(super) trait Leaves {
    type Left;
    /// Takes out what was left, if anything was.
    fn take_left(&mut self) -> Option<Self::Left>;
}

/// A thread's turn with the state, until it is dropped. Then what was left in the state is dropped too, before the thread
/// goes on, but without the lock: destructors are foreign code. One that panics is not heard of.
pub(super) struct Turn<'a, T: Leaves>(Option<MutexGuard<'a, T>>);

impl<'a, T: Leaves> Turn<'a, T> {
    pub(super) fn of(state: MutexGuard<'a, T>) -> Self {
        Turn(Some(state))
    }

    /// Gives the state to others until the condition may have come.
    pub(super) fn wait(mut self, condition: &Condvar) -> Self {
        Turn(self.0.take().map(|state| condition.wait(state)))
    }

    /// The same, at most so long.
    pub(super) fn wait_for(mut self, condition: &Condvar, limit: Duration) -> Self {
        Turn(self.0.take().map(|state| condition.wait_for(state, limit)))
    }
}

impl<T: Leaves> Deref for Turn<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        match &self.0 {
            Some(state) => state,
            None => unreachable!("a turn that was given away"),
        }
    }
}

impl<T: Leaves> DerefMut for Turn<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(state) => state,
            None => unreachable!("a turn that was given away"),
        }
    }
}

impl<T: Leaves> Drop for Turn<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        let Some(mut state) = self.0.take() else { return };
        let left = state.take_left();
        drop(state);
        if let Some(left) = left {
            drop_left(left);
        }
    }
}

#[cold]
fn drop_left<L>(left: L) {
    _ = catch_unwind(AssertUnwindSafe(|| drop(left)));
}

/// A thread that inserts or spills, until it is dropped.
pub(super) struct Spiller<'a>(&'a AtomicBool);

impl<T: Leaves> Turns<T> {
    pub(super) fn new(state: T) -> Self {
        Turns { spilling: AtomicBool::new(false), full: AtomicBool::new(false), state: Mutex::new(state) }
    }

    /// The state.
    #[inline]
    pub(super) fn lock(&self) -> Turn<'_, T> {
        Turn(Some(if self.full.load(Relaxed) { lock_awake(&self.state) } else { self.state.lock() }))
    }

    /// Notes whether fast memory is above its target; for whoever has the state.
    #[inline]
    pub(super) fn note_full(&self, full: bool) {
        if self.full.load(Relaxed) != full {
            self.full.store(full, Relaxed);
        }
    }

    /// The state, for a hit, which leaves nothing in it, and whether that had to wait for a thread that inserts or spills.
    /// Whoever does more makes it a [`Turn`].
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

    impl Leaves for i32 {
        type Left = ();
        fn take_left(&mut self) -> Option<()> {
            None
        }
    }

    /// Sees at its end whether the lock is free, and panics.
    struct Left(std::sync::Weak<Turns<Option<Left>>>, std::sync::mpsc::Sender<bool>);

    impl Drop for Left {
        fn drop(&mut self) {
            let is_free = self.0.upgrade().is_some_and(|turns| turns.state.try_lock().is_some());
            _ = self.1.send(is_free);
            std::panic::resume_unwind(Box::new("a destructor that panics"));
        }
    }

    impl Leaves for Option<Left> {
        type Left = Left;
        fn take_left(&mut self) -> Option<Left> {
            self.take()
        }
    }

    #[test]
    fn what_is_left_is_dropped_before_the_thread_goes_on_and_without_the_lock() {
        let turns = std::sync::Arc::new(Turns::new(None));
        let (sender, seen) = std::sync::mpsc::channel();
        for wait in [false, true] {
            let mut turn = turns.lock();
            *turn = Some(Left(std::sync::Arc::downgrade(&turns), sender.clone()));
            if wait {
                turn = turn.wait_for(&Condvar::default(), Duration::ZERO);
                assert!(turn.is_some());
            }
            drop(turn);
            assert_eq!(seen.try_recv(), Ok(true));
        }
    }

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
