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
pub(crate) struct SharedStamps(Arc<Sides>);

/// Were there one number, the owner and the others would take its line of the processor's cache away from each other with
/// each use. So each side has its own: to draw, the owner does not look at that of the others; they look at the owner's,
/// and set it forward where it stands still.
#[derive(Debug, Default)]
struct Sides {
    owner: Last,
    others: Last,
}

/// In lines of the processor's cache of its own, two since they are fetched by twos.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Last(AtomicU64);

impl SharedStamps {
    /// The next one: greater than all that were drawn before, less than all that the owner draws afterwards.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        let Sides { owner, others } = &*self.0;
        let now = owner.0.load(Relaxed);
        let mut before = others.0.load(Relaxed);
        loop {
            let next = before.max(now) + 1;
            match others.0.compare_exchange_weak(before, next, Relaxed, Relaxed) {
                Ok(_) => {
                    if next - now >= TICK / 2 {
                        // Each sees to it before its use ends, so the owner's next is not reached by fewer than 512
                        // threads at once.
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
        let Sides { owner, others } = &*self.shared.0;
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
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::{Acquire, Release};

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
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        while !done.load(Relaxed) {
                            let before = latest.load(Acquire);
                            let stamp = shared.next();
                            assert!(stamp > before, "{stamp} after the owner's {before}");
                        }
                    })
                })
                .collect();
            let mut drawn = 0;
            let mut grows = true;
            for _ in 0..100_000 {
                let between = shared.next();
                let stamp = stamps.next();
                grows &= stamp > between && between > drawn;
                drawn = stamp;
                latest.store(stamp, Release);
            }
            // first, or the others would never end
            done.store(true, Relaxed);
            assert!(grows);
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }
}
