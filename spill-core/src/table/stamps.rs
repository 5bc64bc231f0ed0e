//! The clock of the order of eviction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// By how much the clock goes on with a use by the owner while it is shared; the uses of others are in between.
const TICK: u64 = 1024;

/// Numbers that grow with each use. The owner of the table draws them; while they are shared, others do too.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    last: u64,
    is_shared: bool,
    shared: SharedStamps,
}

/// What those draw from who do not own the table, while that shares its stamps.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedStamps(Arc<Clocks>);

/// Were there one clock, the owner and the others would take its line of the processor's cache away from each other with
/// each use. So each side has its own: the owner never looks at that of the others, who only look at the owner's.
#[derive(Debug, Default)]
struct Clocks {
    owner: Clock,
    others: Clock,
}

/// In lines of the processor's cache of its own, two since they are fetched by twos.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Clock(AtomicU64);

impl SharedStamps {
    /// The next one: greater than all that were drawn before, less than all that the owner draws afterwards.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        let Clocks { owner, others } = &*self.0;
        let now = owner.0.load(Relaxed);
        let mut before = others.0.load(Relaxed);
        loop {
            let next = before.max(now) + 1;
            match others.0.compare_exchange_weak(before, next, Relaxed, Relaxed) {
                Ok(_) => {
                    if next - now >= TICK / 2 {
                        // Long before the owner's next one is reached.
                        owner.0.fetch_add(TICK, Relaxed);
                    }
                    return next;
                }
                Err(other) => before = other,
            }
        }
    }
}

impl Stamps {
    pub(super) fn new(shared: SharedStamps) -> Self {
        Stamps { last: 0, is_shared: false, shared }
    }

    /// The next one. As long as nobody else draws it is a plain number, in the line of what is used with it.
    #[inline(always)]
    pub(super) fn next(&mut self) -> u64 {
        self.last = if self.is_shared { self.next_shared() } else { self.last + 1 };
        self.last
    }

    #[inline]
    fn next_shared(&self) -> u64 {
        self.shared.0.owner.0.fetch_add(TICK, Relaxed) + TICK
    }

    /// From now on others draw too, or not any more.
    pub(super) fn share(&mut self, share: bool) {
        let Clocks { owner, others } = &*self.shared.0;
        match (self.is_shared, share) {
            (false, true) => owner.0.store(self.last, Relaxed),
            (true, false) => self.last = owner.0.load(Relaxed).max(others.0.load(Relaxed)),
            _ => {}
        }
        self.is_shared = share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_whoever_draws_them() {
        let shared = SharedStamps::default();
        let mut stamps = Stamps::new(shared.clone());
        let mut last = 0;
        let mut grows = |stamp: u64| {
            assert!(stamp > last, "{stamp} after {last}");
            last = stamp;
        };
        for round in 0..50 {
            (0..round).for_each(|_| grows(stamps.next()));
            stamps.share(true);
            for uses in [0, 1, 3 * TICK, 7, TICK / 2 - 1] {
                (0..uses).for_each(|_| grows(shared.next()));
                (0..round % 3).for_each(|_| grows(stamps.next()));
            }
            stamps.share(false);
        }
    }

    /// What one thread drew before the owner did is less; what it draws afterwards is greater.
    #[test]
    fn stamps_grow_from_thread_to_thread() {
        let shared = SharedStamps::default();
        let mut stamps = Stamps::new(shared.clone());
        stamps.share(true);
        let latest = AtomicU64::new(0);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Relaxed) {
                        let before = latest.load(std::sync::atomic::Ordering::Acquire);
                        let stamp = shared.next();
                        assert!(stamp > before, "{stamp} after the owner's {before}");
                    }
                });
            }
            let mut drawn = 0;
            for _ in 0..100_000 {
                let between = shared.next();
                let stamp = stamps.next();
                assert!(stamp > between && between > drawn, "{drawn}, {between}, {stamp}");
                drawn = stamp;
                latest.store(stamp, std::sync::atomic::Ordering::Release);
            }
            done.store(true, Relaxed);
        });
    }
}
