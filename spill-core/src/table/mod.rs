//! The table that `Buffer` and `Lru` share: entries found by key, and their order of eviction.
//!
//! It knows nothing of threads, storage or weights; whoever owns it does.

mod deferred;
mod places;
mod stamps;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::Key;
use deferred::Deferred;
use places::Places;
pub(crate) use places::Standing;
pub(crate) use stamps::SharedStamps;

#[derive(Debug)]
pub(crate) struct Table<K, T> {
    /// Those that stand by recency are in its ring.
    places: Places<K, T>,
    beside: Beside,
}

/// What stands beside the ring: heavy values, which go first, and what could not be spilled.
#[derive(Debug, Default)]
struct Beside {
    /// By stamp.
    heavy: BTreeSet<(u64, u32)>,
    deferred: Deferred,
}

impl Beside {
    /// Counts a use of `i`, which is not in the ring.
    #[cold]
    fn touch<K: Key, T>(&mut self, places: &mut Places<K, T>, i: u32, stamp: u64) {
        let old = places.stamp(i);
        places.set_stamp(i, stamp);
        match places.standing(i) {
            Standing::Heavy => {
                self.heavy.remove(&(old, i));
                self.heavy.insert((stamp, i));
            }
            Standing::Deferred => self.deferred.touch(i, stamp),
            Standing::Nowhere | Standing::Recent => {}
        }
    }
}

impl<K: Key, T> Table<K, T> {
    pub(crate) fn new(stamps: SharedStamps) -> Self {
        Table { places: Places::new(stamps), beside: Beside::default() }
    }

    pub(crate) fn find(&self, key: &K) -> Option<u32> {
        self.places.find(key)
    }

    /// What `look` finds in the item of `key`, if that stands by recency; then it counts as a use.
    #[inline(always)]
    pub(crate) fn hit<R>(&mut self, key: &K, look: impl FnOnce(&T) -> Option<&R>) -> Option<&R> {
        self.places.hit(key, look)
    }

    /// From now on others draw stamps too, or not any more.
    pub(crate) fn share_stamps(&mut self, share: bool) {
        self.places.share_stamps(share);
    }

    /// From now on nothing is a [`hit`](Self::hit).
    pub(crate) fn close(&mut self) {
        self.places.close();
    }

    /// Adds `key`, which must be absent, as the most recently used; it stands nowhere yet.
    pub(crate) fn insert(&mut self, key: K, item: T) -> u32 {
        self.places.insert(key, item)
    }

    /// Frees the entry. Its key and item are given back to be dropped where no lock is held.
    pub(crate) fn remove(&mut self, i: u32) -> Option<(K, T)> {
        self.withdraw(i);
        self.forget_failures(i);
        self.places.remove(i)
    }

    pub(crate) fn key(&self, i: u32) -> &K {
        self.places.key(i)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &K, &T)> {
        self.places.iter()
    }

    /// Counts a use of `i`.
    pub(crate) fn touch(&mut self, i: u32) {
        if !self.places.touch(i) {
            let stamp = self.places.next_stamp();
            self.beside.touch(&mut self.places, i, stamp);
        }
    }

    /// Counts uses by the stamps that were drawn for them when they were made.
    pub(crate) fn count_late(&mut self, mut uses: Vec<(u64, u32)>) {
        uses.sort_unstable_by(|a, b| b.cmp(a));
        self.places.count_late(&uses);
        for (stamp, i) in uses {
            if self.places.standing(i) != Standing::Recent && self.places.stamp(i) < stamp {
                self.beside.touch(&mut self.places, i, stamp);
            }
        }
    }

    pub(crate) fn standing(&self, i: u32) -> Standing {
        self.places.standing(i)
    }

    /// Grows with each use.
    pub(crate) fn stamp(&self, i: u32) -> u64 {
        self.places.stamp(i)
    }

    /// Lets `i`, which stands nowhere, be evicted, in the order of its stamp.
    pub(crate) fn place(&mut self, i: u32, heavy: bool) {
        if heavy {
            self.places.set_aside(i, Standing::Heavy);
            self.beside.heavy.insert((self.places.stamp(i), i));
        } else {
            self.places.place(i);
        }
    }

    /// Keeps `i` from being evicted, wherever it stands.
    pub(crate) fn withdraw(&mut self, i: u32) {
        match self.places.standing(i) {
            Standing::Nowhere => return,
            Standing::Recent => {}
            Standing::Heavy => _ = self.beside.heavy.remove(&(self.places.stamp(i), i)),
            Standing::Deferred => self.beside.deferred.withdraw(i),
        }
        self.places.set_aside(i, Standing::Nowhere);
    }

    /// Sets `i`, which stands nowhere, aside after it could not be spilled, until its retry.
    pub(crate) fn defer(&mut self, i: u32, full: bool, now: Duration) {
        self.places.set_aside(i, Standing::Deferred);
        self.beside.deferred.defer(i, self.places.stamp(i), full, now);
    }

    /// Forgets that `i` could not be spilled.
    pub(crate) fn forget_failures(&mut self, i: u32) {
        self.beside.deferred.forget(i);
    }

    /// The slot to evict next: heavy values first, oldest first (PARITY Z03), then the least recently used, deferred
    /// ones whose retry is due included; `now` is asked only where something is deferred.
    pub(crate) fn oldest(&mut self, now: impl FnOnce() -> Duration) -> Option<u32> {
        if let Some(&(_, i)) = self.beside.heavy.first() {
            return Some(i);
        }
        let oldest = self.places.oldest();
        if self.beside.deferred.len() == 0 {
            return oldest;
        }
        match (oldest, self.beside.deferred.ready(now())) {
            (Some(oldest), Some((stamp, i))) => {
                Some(if stamp < self.places.stamp(oldest) { i } else { oldest })
            }
            (oldest, ready) => oldest.or(ready.map(|(_, i)| i)),
        }
    }

    /// Asks the processor for the place of the least recently used, while something else is done.
    pub(crate) fn fetch_oldest(&self) {
        self.places.fetch_oldest();
    }

    /// The same for what else it takes to remove that; some time after [`fetch_oldest`](Self::fetch_oldest).
    pub(crate) fn fetch_behind_oldest(&self) {
        self.places.fetch_behind_oldest();
    }

    /// The deferred slots whose retry is not due, the first due first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u32> {
        self.beside.deferred.waiting()
    }

    /// The retry of `i`, which is deferred, is due now.
    pub(crate) fn ready(&mut self, i: u32) {
        self.beside.deferred.make_ready(i);
    }

    pub(crate) fn next_retry(&self) -> Option<Duration> {
        self.beside.deferred.next_due()
    }

    pub(crate) fn room_returned(&mut self) {
        self.beside.deferred.room_returned();
    }

    pub(crate) fn deferred(&self) -> usize {
        self.beside.deferred.len()
    }
}

impl<K, T> std::ops::Index<u32> for Table<K, T> {
    type Output = T;
    #[inline]
    fn index(&self, i: u32) -> &T {
        &self.places[i]
    }
}

impl<K, T> std::ops::IndexMut<u32> for Table<K, T> {
    #[inline]
    fn index_mut(&mut self, i: u32) -> &mut T {
        &mut self.places[i]
    }
}
