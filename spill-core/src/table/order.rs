//! The order of eviction: a list by recency through the slots, heavy values before it, deferred ones beside it.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};
use std::time::Duration;

use super::deferred::Deferred;
use super::slab::NIL;

/// Where a slot stands in the order. Slots in flight or without a value stand nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Nowhere,
    Recent,
    Heavy,
    Deferred,
}

/// A slot's part of the order: 16 bytes.
#[derive(Debug)]
pub(crate) struct Links {
    /// Grows with each use, so that an order can be restored after a slot was away.
    stamp: u64,
    /// The next more recent slot of the list, or where else this one stands.
    prev: u32,
    next: u32,
}

/// In place of `prev`: the slot is not in the list. All indices are below these.
const NOWHERE: u32 = NIL - 1;
const HEAVY: u32 = NIL - 2;
const DEFERRED: u32 = NIL - 3;

impl Default for Links {
    fn default() -> Self {
        Links { stamp: 0, prev: NOWHERE, next: NIL }
    }
}

impl Links {
    fn standing(&self) -> Standing {
        match self.prev {
            NOWHERE => Standing::Nowhere,
            HEAVY => Standing::Heavy,
            DEFERRED => Standing::Deferred,
            _ => Standing::Recent,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Order {
    /// One for each place of the slab. Apart from the keys and values: a hit writes to four of them, and packed
    /// like this far more of them stay in the processor's cache.
    links: Vec<Links>,
    /// Most and least recently used.
    head: u32,
    tail: u32,
    last_stamp: u64,
    heavy: BTreeSet<(u64, u32)>,
    pub(crate) deferred: Deferred,
}

impl Order {
    pub(crate) fn new() -> Self {
        Order {
            links: Vec::new(),
            head: NIL,
            tail: NIL,
            last_stamp: 0,
            heavy: BTreeSet::new(),
            deferred: Deferred::default(),
        }
    }

    /// Takes note of the slot `i` as the most recently used; it stands nowhere yet.
    pub(crate) fn open(&mut self, i: u32) {
        self.last_stamp += 1;
        let links = Links { stamp: self.last_stamp, ..Links::default() };
        match self.links.get_mut(i as usize) {
            Some(place) => *place = links,
            None => self.links.push(links), // the slab grows by one place at a time
        }
    }

    pub(crate) fn standing(&self, i: u32) -> Standing {
        self[i].standing()
    }

    /// Grows with each use.
    pub(crate) fn stamp(&self, i: u32) -> u64 {
        self[i].stamp
    }

    /// Counts a use of `i`.
    #[inline(always)]
    pub(crate) fn touch(&mut self, i: u32) {
        self.last_stamp += 1;
        let (stamp, head) = (self.last_stamp, self.head);
        let Links { stamp: old, prev, next } = self[i];
        if prev < DEFERRED {
            // in the list and not at its front
            self[i] = Links { stamp, prev: NIL, next: head };
            self[prev].next = next;
            match next {
                NIL => self.tail = prev,
                _ => self[next].prev = prev,
            }
            self[head].prev = i;
            self.head = i;
        } else {
            self[i].stamp = stamp;
            self.touch_unlinked(prev, i, old, stamp);
        }
    }

    /// The rest of `touch` for a slot that stands at the front or beside the list.
    #[cold]
    fn touch_unlinked(&mut self, standing: u32, i: u32, old: u64, stamp: u64) {
        match standing {
            HEAVY => {
                self.heavy.remove(&(old, i));
                self.heavy.insert((stamp, i));
            }
            DEFERRED => self.deferred.touch(i, stamp),
            _ => {}
        }
    }

    /// Puts `i`, which stands nowhere, where its stamp belongs. Nearly always that is the front.
    pub(crate) fn place(&mut self, i: u32, heavy: bool) {
        let stamp = self[i].stamp;
        if heavy {
            self[i].prev = HEAVY;
            self.heavy.insert((stamp, i));
            return;
        }
        let mut newer = NIL;
        let mut at = self.head;
        while at != NIL && self[at].stamp > stamp {
            newer = at;
            at = self[at].next;
        }
        self.link_after(i, newer);
    }

    /// Takes `i` out of the order, wherever it stands.
    pub(crate) fn withdraw(&mut self, i: u32) {
        let links = &self[i];
        match links.standing() {
            Standing::Recent => self.unlink(i),
            Standing::Nowhere => return,
            Standing::Heavy => _ = self.heavy.remove(&(self.links[i as usize].stamp, i)),
            Standing::Deferred => self.deferred.withdraw(i),
        }
        self[i].prev = NOWHERE;
    }

    /// Sets `i`, which stands nowhere, aside until its retry.
    pub(crate) fn defer(&mut self, i: u32, full: bool, now: Duration) {
        let links = &mut self[i];
        links.prev = DEFERRED;
        let stamp = links.stamp;
        self.deferred.defer(i, stamp, full, now);
    }

    /// The slot to evict next: heavy values first, oldest first (PARITY Z03), then the least recently used,
    /// deferred ones whose retry is due included.
    pub(crate) fn oldest(&mut self, now: impl FnOnce() -> Duration) -> Option<u32> {
        if let Some(&(_, i)) = self.heavy.first() {
            return Some(i);
        }
        let tail = (self.tail != NIL).then_some(self.tail);
        if self.deferred.len() == 0 {
            return tail;
        }
        match (tail, self.deferred.ready(now())) {
            (Some(tail), Some((stamp, i))) => Some(if stamp < self[tail].stamp { i } else { tail }),
            (tail, ready) => tail.or(ready.map(|(_, i)| i)),
        }
    }

    fn unlink(&mut self, i: u32) {
        let (prev, next) = (self[i].prev, self[i].next);
        match prev {
            NIL => self.head = next,
            _ => self[prev].next = next,
        }
        match next {
            NIL => self.tail = prev,
            _ => self[next].prev = prev,
        }
    }

    /// Links `i` behind `newer`, or at the front when that is NIL.
    fn link_after(&mut self, i: u32, newer: u32) {
        let older = if newer == NIL { self.head } else { self[newer].next };
        let links = &mut self[i];
        (links.prev, links.next) = (newer, older);
        match newer {
            NIL => self.head = i,
            _ => self[newer].next = i,
        }
        match older {
            NIL => self.tail = i,
            _ => self[older].prev = i,
        }
    }
}

impl Index<u32> for Order {
    type Output = Links;
    #[inline]
    fn index(&self, i: u32) -> &Links {
        &self.links[i as usize]
    }
}

impl IndexMut<u32> for Order {
    #[inline]
    fn index_mut(&mut self, i: u32) -> &mut Links {
        &mut self.links[i as usize]
    }
}
