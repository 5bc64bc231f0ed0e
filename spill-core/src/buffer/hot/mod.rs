//! Hits without the state's lock, for keys that are hit while others have it.
//!
//! Who inserts where fast memory is full takes the state several times for each value, and whenever a hit takes it in
//! between, the two fetch the same lines of the processor's cache from each other again and again. So a key that was
//! hit after its caller had to wait is *hot*: its value is kept once more, behind one of many locks that who inserts
//! does not touch. A hit of it notes when it was, and the order of eviction learns of that when it has to: before a hot
//! value would be evicted.
//!
//! A value is hot only while it is in its slot, unchanged: whatever changes a value or begins a flight that may, cools it
//! first, and waits for a hit that is under way. Lock order: the state, then a shard.

mod heated;
#[cfg(all(test, not(shuttle)))]
mod tests;
mod uses;

use std::hash::BuildHasher;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hashbrown::{DefaultHashBuilder, HashTable};

pub(super) use heated::Heated;
use uses::Uses;

use crate::sync::Mutex;
use crate::table::SharedStamps;
use crate::{Key, Value};

/// Locks that hot keys are spread over.
const SHARDS: usize = 256;

/// The most keys that are hot. They cost a copy of the key and a handle of the value each, which no weight counts.
const MOST: usize = 16 << 10;

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
    uses: Uses,
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

/// A hot key.
#[derive(Debug)]
pub(in crate::buffer) struct Entry<K, V> {
    key: K,
    value: V,
    hash: u64,
    slot: u32,
    /// Where in [`Uses`] its last use is.
    place: u32,
}

impl<K, V> Hot<K, V> {
    pub(in crate::buffer) fn new(stamps: SharedStamps) -> Self {
        Hot {
            any: AtomicBool::new(false),
            shards: OnceLock::new(),
            hasher: DefaultHashBuilder::default(),
            stamps,
            uses: Uses::new(),
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
}

impl<K: Key, V: Value> Hot<K, V> {
    /// The value of `key` if it is hot, as a use.
    #[inline(never)]
    pub(in crate::buffer) fn hit(&self, key: &K) -> Option<V> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shards().get(shard_of(hash))?.0.lock();
        let entry = shard.table.find(hash, |entry| entry.key == *key)?;
        self.uses.note(entry.place, self.stamps.next());
        let value = entry.value.clone();
        shard.hits += 1;
        Some(value)
    }
}

/// The shard of a hash.
fn shard_of(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}
