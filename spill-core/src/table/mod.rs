//! The table that `Buffer` and `Lru` share: a hash index into a slab of entries, and their order of eviction.
//!
//! It knows nothing of threads, storage or weights; whoever owns it does.

mod deferred;
mod order;
mod slab;

use std::hash::BuildHasher;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::Key;
use order::Order;
pub(crate) use order::Standing;
use slab::Slab;

/// A key and what is kept for it.
#[derive(Debug)]
pub(crate) struct Entry<K, T> {
    key: K,
    pub(crate) item: T,
}

#[derive(Debug)]
pub(crate) struct Table<K, T> {
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slab: Slab<Option<Entry<K, T>>>,
    order: Order,
}

impl<K: Key, T> Table<K, T> {
    pub(crate) fn new() -> Self {
        Table {
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slab: Slab::new(),
            order: Order::new(),
        }
    }

    #[inline(always)]
    pub(crate) fn find(&self, key: &K) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |&i| self.slab[i].as_ref().is_some_and(|entry| entry.key == *key)).copied()
    }

    /// What `look` finds in the item of `key`; if it finds anything, that counts as a use. It is counted before the
    /// caller touches what was found: a clone may be an atomic instruction on memory far away, and what the
    /// processor has not begun to fetch by then waits behind it.
    #[inline(always)]
    pub(crate) fn find_used<R>(&mut self, key: &K, look: impl FnOnce(&T) -> Option<&R>) -> Option<&R> {
        let i = self.find(key)?;
        let Table { slab, order, .. } = self;
        let found = look(&entry_of(slab, i).item)?;
        order.touch(i);
        Some(found)
    }

    /// Adds `key`, which must be absent, as the most recently used; it stands nowhere yet.
    pub(crate) fn insert(&mut self, key: K, item: T) -> u32 {
        let hash = self.hasher.hash_one(&key);
        let i = self.slab.insert(Some(Entry { key, item }));
        self.order.open(i);
        let Table { index, hasher, slab, .. } = self;
        index.insert_unique(hash, i, |&i| hasher.hash_one(&entry_of(slab, i).key));
        i
    }

    /// Frees the entry. Its key and item are given back to be dropped where no lock is held.
    pub(crate) fn remove(&mut self, i: u32) -> Option<(K, T)> {
        self.order.withdraw(i);
        self.order.deferred.forget(i);
        let hash = self.hasher.hash_one(self.key(i));
        if let Ok(found) = self.index.find_entry(hash, |&j| j == i) {
            found.remove();
        }
        self.slab.remove(i).map(|Entry { key, item }| (key, item))
    }

    pub(crate) fn key(&self, i: u32) -> &K {
        &entry_of(&self.slab, i).key
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &K, &T)> {
        self.slab.iter().filter_map(|(i, place)| place.as_ref().map(|entry| (i, &entry.key, &entry.item)))
    }

    /// Counts a use of `i`.
    #[inline]
    pub(crate) fn touch(&mut self, i: u32) {
        self.order.touch(i);
    }

    pub(crate) fn standing(&self, i: u32) -> Standing {
        self.order.standing(i)
    }

    /// Grows with each use.
    pub(crate) fn stamp(&self, i: u32) -> u64 {
        self.order.stamp(i)
    }

    /// Lets `i` be evicted, in the order of its stamp.
    pub(crate) fn place(&mut self, i: u32, heavy: bool) {
        self.order.place(i, heavy);
    }

    /// Keeps `i` from being evicted.
    pub(crate) fn withdraw(&mut self, i: u32) {
        self.order.withdraw(i);
    }

    /// Sets `i` aside after it could not be spilled.
    pub(crate) fn defer(&mut self, i: u32, full: bool, now: Duration) {
        self.order.defer(i, full, now);
    }

    /// Forgets that `i` could not be spilled.
    pub(crate) fn forget_failures(&mut self, i: u32) {
        self.order.deferred.forget(i);
    }

    /// The slot to evict next; `now` is asked only where something is deferred.
    pub(crate) fn oldest(&mut self, now: impl FnOnce() -> Duration) -> Option<u32> {
        self.order.oldest(now)
    }

    /// The deferred slots whose retry is not due, the first due first.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = u32> {
        self.order.deferred.waiting()
    }

    /// The retry of `i`, which is deferred, is due now.
    pub(crate) fn ready(&mut self, i: u32) {
        self.order.deferred.make_ready(i);
    }

    pub(crate) fn next_retry(&self) -> Option<Duration> {
        self.order.deferred.next_due()
    }

    pub(crate) fn room_returned(&mut self) {
        self.order.deferred.room_returned();
    }

    pub(crate) fn deferred(&self) -> usize {
        self.order.deferred.len()
    }
}

#[inline]
fn entry_of<K, T>(slab: &Slab<Option<Entry<K, T>>>, i: u32) -> &Entry<K, T> {
    match &slab[i] {
        Some(entry) => entry,
        None => unreachable!("an index outlived its slot"),
    }
}

impl<K, T> std::ops::Index<u32> for Table<K, T> {
    type Output = Entry<K, T>;
    #[inline]
    fn index(&self, i: u32) -> &Entry<K, T> {
        entry_of(&self.slab, i)
    }
}

impl<K, T> std::ops::IndexMut<u32> for Table<K, T> {
    #[inline]
    fn index_mut(&mut self, i: u32) -> &mut Entry<K, T> {
        match &mut self.slab[i] {
            Some(entry) => entry,
            None => unreachable!("an index outlived its slot"),
        }
    }
}
