//! Hits without the state's lock, for keys that are hit while others have it.
//!
//! Who inserts where fast memory is full takes the state several times for each value, and whenever a hit takes it in
//! between, the two fetch the same lines of the processor's cache from each other again and again. So a key that was
//! hit after its caller had to wait is *hot*: its value is kept once more, behind one of many locks that who inserts
//! does not touch. A hit of it notes when it was, and the order of eviction learns of that when it has to: before a hot
//! value would be evicted.
//!
//! A value is hot only while it is in its slot, unchanged: whatever changes a slot cools it first, and waits for a hit
//! that is under way. Lock order: the state, then a shard.

mod heated;
#[cfg(all(test, not(shuttle)))]
mod tests;

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hashbrown::{DefaultHashBuilder, HashTable};

pub(super) use heated::Heated;

use crate::sync::Mutex;
use crate::table::SharedStamps;
use crate::{Key, Value};

/// Locks that hot keys are spread over.
const SHARDS: usize = 256;

/// After so many hits in a row that did not have to wait for the state, nothing is hot any more.
const CALM: u32 = 4096;

/// The hot keys, for those who do not have the state.
#[derive(Debug)]
pub(in crate::buffer) struct Hot<K, V> {
    /// Whether there are any.
    any: AtomicBool,
    /// Made with the first.
    shards: OnceLock<Box<[Shard<K, V>]>>,
    hasher: DefaultHashBuilder,
    stamps: SharedStamps,
    cooled: Cooled<K, V>,
}

/// Some of the hot keys. Each in a line of the processor's cache of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Shard<K, V>(Mutex<Entries<K, V>>);

#[derive(Debug)]
struct Entries<K, V> {
    table: HashTable<Entry<K, V>>,
    /// Hits of keys that are or were here.
    hits: u64,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    hash: u64,
    slot: u32,
    /// The stamp of the last use that the order of eviction has not learnt of; 0 where there is none.
    used: u64,
}

/// What is not hot any more, to be dropped where no lock is held.
#[derive(Debug)]
#[repr(align(64))]
struct Cooled<K, V> {
    any: AtomicBool,
    entries: Mutex<Vec<Entry<K, V>>>,
}

impl<K, V> Hot<K, V> {
    pub(in crate::buffer) fn new(stamps: SharedStamps) -> Self {
        Hot {
            any: AtomicBool::new(false),
            shards: OnceLock::new(),
            hasher: DefaultHashBuilder::default(),
            stamps,
            cooled: Cooled { any: AtomicBool::new(false), entries: Mutex::new(Vec::new()) },
        }
    }

    /// Whether any key is hot.
    #[inline(always)]
    pub(in crate::buffer) fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    fn shards_to_heat(&self) -> &[Shard<K, V>] {
        self.shards.get_or_init(|| {
            let shard = || Shard(Mutex::new(Entries { table: HashTable::new(), hits: 0 }));
            std::iter::repeat_with(shard).take(SHARDS).collect()
        })
    }

    fn shards(&self) -> &[Shard<K, V>] {
        self.shards.get().map_or(&[], |shards| shards)
    }

    /// How many hits there were.
    pub(in crate::buffer) fn hits(&self) -> u64 {
        self.shards().iter().map(|shard| shard.0.lock().hits).sum()
    }

    /// Drops what is not hot any more. For callers that hold no lock.
    #[inline]
    pub(in crate::buffer) fn sweep(&self) {
        if self.cooled.any.load(Relaxed) {
            self.sweep_some();
        }
    }

    #[cold]
    fn sweep_some(&self) {
        let mut entries = self.cooled.entries.lock();
        self.cooled.any.store(false, Relaxed);
        let cooled = std::mem::take(&mut *entries);
        drop(entries);
        drop(cooled);
    }
}

impl<K: Key, V: Value> Hot<K, V> {
    /// The value of `key` if it is hot, as a use.
    #[inline(never)]
    pub(in crate::buffer) fn hit(&self, key: &K) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shards().get(place(hash))?.0.lock();
        let entry = shard.table.find_mut(hash, |entry| entry.key == *key)?;
        entry.used = self.stamps.next();
        let value = entry.value.clone();
        shard.hits += 1;
        Some(value)
    }
}

/// The shard of a hash.
fn place(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}
