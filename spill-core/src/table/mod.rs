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
pub(crate) use order::Standing;
use order::{Linked, Links, Order};
use slab::Slab;

/// One key and what is kept for it. On a cache line of its own: a hit touches its neighbours in the order too,
/// and each costs one line and not two.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Entry<K, T> {
    /// `None` while the place is free.
    key: Option<K>,
    pub(crate) item: T,
    links: Links,
}

impl<K, T: Default> Default for Entry<K, T> {
    fn default() -> Self {
        Entry { key: None, item: T::default(), links: Links::default() }
    }
}

impl<K, T> Linked for Entry<K, T> {
    fn links(&self) -> &Links {
        &self.links
    }
    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

#[derive(Debug)]
pub(crate) struct Table<K, T> {
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slab: Slab<Entry<K, T>>,
    order: Order,
}

impl<K: Key, T: Default> Table<K, T> {
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
        self.index.find(hash, |&i| self.slab[i].key.as_ref() == Some(key)).copied()
    }

    /// What `look` finds in the item of `key`; if it finds anything, that counts as a use.
    #[inline(always)]
    pub(crate) fn find_used<R>(&mut self, key: &K, look: impl FnOnce(&T) -> Option<R>) -> Option<R> {
        let i = self.find(key)?;
        let found = look(&self.slab[i].item)?;
        self.order.touch(&mut self.slab, i);
        Some(found)
    }

    /// Adds `key`, which must be absent, as the most recently used; it stands nowhere yet.
    pub(crate) fn insert(&mut self, key: K, item: T) -> u32 {
        let hash = self.hasher.hash_one(&key);
        let links = Links::new(self.order.stamp());
        let i = self.slab.insert(Entry { key: Some(key), item, links });
        let Table { index, hasher, slab, .. } = self;
        index.insert_unique(hash, i, |&i| hasher.hash_one(key_of(slab, i)));
        i
    }

    /// Frees the entry. Its key and item are given back to be dropped where no lock is held.
    pub(crate) fn remove(&mut self, i: u32) -> (Option<K>, T) {
        self.order.withdraw(&mut self.slab, i);
        self.order.deferred.forget(i);
        let hash = self.hasher.hash_one(key_of(&self.slab, i));
        if let Ok(found) = self.index.find_entry(hash, |&j| j == i) {
            found.remove();
        }
        let entry = self.slab.remove(i);
        (entry.key, entry.item)
    }

    pub(crate) fn key(&self, i: u32) -> &K {
        key_of(&self.slab, i)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &K, &T)> {
        self.slab.iter().filter_map(|(i, entry)| Some((i, entry.key.as_ref()?, &entry.item)))
    }

    /// Counts a use of `i`.
    #[inline]
    pub(crate) fn touch(&mut self, i: u32) {
        self.order.touch(&mut self.slab, i);
    }

    pub(crate) fn standing(&self, i: u32) -> Standing {
        self.slab[i].links.standing()
    }

    /// Grows with each use.
    pub(crate) fn stamp(&self, i: u32) -> u64 {
        self.slab[i].links.stamp
    }

    /// Lets `i` be evicted, in the order of its stamp.
    pub(crate) fn place(&mut self, i: u32, heavy: bool) {
        self.order.place(&mut self.slab, i, heavy);
    }

    /// Keeps `i` from being evicted.
    pub(crate) fn withdraw(&mut self, i: u32) {
        self.order.withdraw(&mut self.slab, i);
    }

    /// Sets `i` aside after it could not be spilled.
    pub(crate) fn defer(&mut self, i: u32, full: bool, now: Duration) {
        self.order.defer(&mut self.slab, i, full, now);
    }

    /// Forgets that `i` could not be spilled.
    pub(crate) fn forget_failures(&mut self, i: u32) {
        self.order.deferred.forget(i);
    }

    /// The slot to evict next; `now` is asked only where something is deferred.
    pub(crate) fn oldest(&mut self, now: impl FnOnce() -> Duration) -> Option<u32> {
        self.order.oldest(&self.slab, now)
    }

    /// A deferred slot whose retry is not due, other than those `tried`.
    pub(crate) fn waiting(&self, tried: &[u32]) -> Option<u32> {
        self.order.deferred.waiting(tried)
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

fn key_of<K, T: Default>(slab: &Slab<Entry<K, T>>, i: u32) -> &K {
    match &slab[i].key {
        Some(key) => key,
        None => unreachable!("an index outlived its slot"),
    }
}

impl<K, T> std::ops::Index<u32> for Table<K, T> {
    type Output = Entry<K, T>;
    #[inline]
    fn index(&self, i: u32) -> &Entry<K, T> {
        &self.slab[i]
    }
}

impl<K, T> std::ops::IndexMut<u32> for Table<K, T> {
    #[inline]
    fn index_mut(&mut self, i: u32) -> &mut Entry<K, T> {
        &mut self.slab[i]
    }
}
