//! The clock of the order of eviction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Numbers that grow with each use. The owner of the table draws them; while they are shared, others do too.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    last: u64,
    is_shared: bool,
    shared: SharedStamps,
}

/// What those draw from who do not own the table, while that shares its stamps.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedStamps(Arc<Last>);

/// In a line of the processor's cache of its own: who draws should not take other lines away.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Last(AtomicU64);

impl SharedStamps {
    /// The next one.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.0.0.fetch_add(1, Relaxed) + 1
    }
}

impl Stamps {
    pub(super) fn new(shared: SharedStamps) -> Self {
        Stamps { last: 0, is_shared: false, shared }
    }

    /// The next one. As long as nobody else draws it is a plain number, in the line of what is used with it.
    #[inline(always)]
    pub(super) fn next(&mut self) -> u64 {
        self.last = if self.is_shared { self.shared.next() } else { self.last + 1 };
        self.last
    }

    /// From now on others draw too, or not any more.
    pub(super) fn share(&mut self, share: bool) {
        match (self.is_shared, share) {
            (false, true) => self.shared.0.0.store(self.last, Relaxed),
            (true, false) => self.last = self.shared.0.0.load(Relaxed),
            _ => {}
        }
        self.is_shared = share;
    }
}
