//! Keys that could not be spilled: out of the order of eviction until it is worth trying again.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// Deferred slots, each waiting for its retry, ready for it, or being tried.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    of: HashMap<u32, Deferral>,
    /// By due time.
    waiting: BTreeSet<(Duration, u32)>,
    /// By recency stamp, so that the least recently used is tried first.
    ready: BTreeSet<(u64, u32)>,
    /// How many wait because storage was full.
    waiting_for_room: usize,
}

#[derive(Debug)]
struct Deferral {
    stamp: u64,
    attempts: u32,
    full: bool,
    due: Option<Duration>,
}

impl Deferred {
    /// `slot`, whose recency is `stamp`, failed at `now`; `full` when room may help.
    pub(crate) fn defer(&mut self, slot: u32, stamp: u64, full: bool, now: Duration) {
        let attempts = self.of.get(&slot).map_or(0, |d| d.attempts);
        let due = now + (FIRST_RETRY * 2u32.saturating_pow(attempts)).min(LAST_RETRY);
        self.of.insert(slot, Deferral { stamp, attempts: attempts.saturating_add(1), full, due: Some(due) });
        self.waiting.insert((due, slot));
        self.waiting_for_room += usize::from(full);
    }

    /// `slot` is used and has a new stamp.
    pub(crate) fn touch(&mut self, slot: u32, stamp: u64) {
        if let Some(deferral) = self.of.get_mut(&slot) {
            if self.ready.remove(&(deferral.stamp, slot)) {
                self.ready.insert((stamp, slot));
            }
            deferral.stamp = stamp;
        }
    }

    /// `slot` is spilled, replaced or gone: its failures are forgotten.
    pub(crate) fn forget(&mut self, slot: u32) {
        if !self.of.is_empty() && self.of.contains_key(&slot) {
            self.withdraw(slot);
            self.of.remove(&slot);
        }
    }

    /// Takes `slot` out to be tried; its number of attempts is remembered.
    pub(crate) fn withdraw(&mut self, slot: u32) {
        if let Some(deferral) = self.of.get_mut(&slot) {
            match deferral.due.take() {
                Some(due) => {
                    self.waiting.remove(&(due, slot));
                    self.waiting_for_room -= usize::from(deferral.full);
                }
                None => _ = self.ready.remove(&(deferral.stamp, slot)),
            }
        }
    }

    /// The least recently used slot whose retry is due, with its stamp.
    pub(crate) fn ready(&mut self, now: Duration) -> Option<(u64, u32)> {
        while let Some(&(due, slot)) = self.waiting.first()
            && due <= now
        {
            self.make_ready(slot);
        }
        self.ready.first().copied()
    }

    /// The slots that wait, the first due first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u32> {
        self.waiting.iter().map(|&(_, slot)| slot)
    }

    /// When the next retry is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        if self.ready.is_empty() { self.waiting.first().map(|&(due, _)| due) } else { Some(Duration::ZERO) }
    }

    /// Room came back: those that failed for want of it are ready.
    pub(crate) fn room_returned(&mut self) {
        if self.waiting_for_room > 0 {
            let full: Vec<u32> =
                self.waiting.iter().map(|&(_, slot)| slot).filter(|slot| self.of[slot].full).collect();
            full.into_iter().for_each(|slot| self.make_ready(slot));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.ready.len()
    }

    /// `slot` need not wait any longer.
    pub(crate) fn make_ready(&mut self, slot: u32) {
        self.withdraw(slot);
        if let Some(deferral) = self.of.get(&slot) {
            self.ready.insert((deferral.stamp, slot));
        }
    }
}
