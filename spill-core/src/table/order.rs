//! The order of eviction: a list by recency through the slots, heavy values before it, deferred ones beside it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::deferred::Deferred;
use super::slab::{NIL, Slab};

/// Where a slot stands in the order. Slots in flight or without a value stand nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Nowhere,
    Recent,
    Heavy,
    Deferred,
}

/// A slot's part of the order: 16 bytes, so that an entry with a `String` key still is one cache line.
#[derive(Debug)]
pub(crate) struct Links {
    /// Grows with each use, so that an order can be restored after a slot was away.
    pub(crate) stamp: u64,
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
    pub(crate) fn new(stamp: u64) -> Self {
        Links { stamp, ..Links::default() }
    }

    pub(crate) fn standing(&self) -> Standing {
        match self.prev {
            NOWHERE => Standing::Nowhere,
            HEAVY => Standing::Heavy,
            DEFERRED => Standing::Deferred,
            _ => Standing::Recent,
        }
    }
}

/// What the order asks of the items it links.
pub(crate) trait Linked {
    fn links(&self) -> &Links;
    fn links_mut(&mut self) -> &mut Links;
}

#[derive(Debug)]
pub(crate) struct Order {
    /// Most and least recently used.
    head: u32,
    tail: u32,
    last_stamp: u64,
    heavy: BTreeSet<(u64, u32)>,
    pub(crate) deferred: Deferred,
}

impl Order {
    pub(crate) fn new() -> Self {
        Order { head: NIL, tail: NIL, last_stamp: 0, heavy: BTreeSet::new(), deferred: Deferred::default() }
    }

    /// A stamp newer than all before.
    pub(crate) fn stamp(&mut self) -> u64 {
        self.last_stamp += 1;
        self.last_stamp
    }

    /// Counts a use of `i`.
    #[inline(always)]
    pub(crate) fn touch<T: Linked + Default>(&mut self, slab: &mut Slab<T>, i: u32) {
        self.last_stamp += 1;
        let (stamp, head) = (self.last_stamp, self.head);
        let links = slab[i].links_mut();
        let (prev, next) = (links.prev, links.next);
        if prev < DEFERRED {
            // in the list and not at its front
            *links = Links { stamp, prev: NIL, next: head };
            slab[prev].links_mut().next = next;
            match next {
                NIL => self.tail = prev,
                _ => slab[next].links_mut().prev = prev,
            }
            slab[head].links_mut().prev = i;
            self.head = i;
        } else {
            let old = std::mem::replace(&mut links.stamp, stamp);
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
    pub(crate) fn place<T: Linked + Default>(&mut self, slab: &mut Slab<T>, i: u32, heavy: bool) {
        let stamp = slab[i].links().stamp;
        if heavy {
            slab[i].links_mut().prev = HEAVY;
            self.heavy.insert((stamp, i));
            return;
        }
        let mut newer = NIL;
        let mut at = self.head;
        while at != NIL && slab[at].links().stamp > stamp {
            newer = at;
            at = slab[at].links().next;
        }
        self.link_after(slab, i, newer);
    }

    /// Takes `i` out of the order, wherever it stands.
    pub(crate) fn withdraw<T: Linked + Default>(&mut self, slab: &mut Slab<T>, i: u32) {
        let links = slab[i].links();
        match links.standing() {
            Standing::Recent => self.unlink(slab, i),
            Standing::Nowhere => return,
            Standing::Heavy => _ = self.heavy.remove(&(links.stamp, i)),
            Standing::Deferred => self.deferred.withdraw(i),
        }
        slab[i].links_mut().prev = NOWHERE;
    }

    /// Sets `i`, which stands nowhere, aside until its retry.
    pub(crate) fn defer<T: Linked + Default>(
        &mut self,
        slab: &mut Slab<T>,
        i: u32,
        full: bool,
        now: Duration,
    ) {
        let links = slab[i].links_mut();
        links.prev = DEFERRED;
        self.deferred.defer(i, links.stamp, full, now);
    }

    /// The slot to evict next: heavy values first, oldest first (PARITY Z03), then the least recently used,
    /// deferred ones whose retry is due included.
    pub(crate) fn oldest<T: Linked + Default>(
        &mut self,
        slab: &Slab<T>,
        now: impl FnOnce() -> Duration,
    ) -> Option<u32> {
        if let Some(&(_, i)) = self.heavy.first() {
            return Some(i);
        }
        let tail = (self.tail != NIL).then_some(self.tail);
        if self.deferred.len() == 0 {
            return tail;
        }
        match (tail, self.deferred.ready(now())) {
            (Some(tail), Some((stamp, i))) => Some(if stamp < slab[tail].links().stamp { i } else { tail }),
            (tail, ready) => tail.or(ready.map(|(_, i)| i)),
        }
    }

    fn unlink<T: Linked + Default>(&mut self, slab: &mut Slab<T>, i: u32) {
        let (prev, next) = (slab[i].links().prev, slab[i].links().next);
        match prev {
            NIL => self.head = next,
            _ => slab[prev].links_mut().next = next,
        }
        match next {
            NIL => self.tail = prev,
            _ => slab[next].links_mut().prev = prev,
        }
    }

    /// Links `i` behind `newer`, or at the front when that is NIL.
    fn link_after<T: Linked + Default>(&mut self, slab: &mut Slab<T>, i: u32, newer: u32) {
        let older = if newer == NIL { self.head } else { slab[newer].links().next };
        let links = slab[i].links_mut();
        (links.prev, links.next) = (newer, older);
        match newer {
            NIL => self.head = i,
            _ => slab[newer].links_mut().next = i,
        }
        match older {
            NIL => self.tail = i,
            _ => slab[older].links_mut().prev = i,
        }
    }
}
