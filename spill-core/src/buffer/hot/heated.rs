//! Which keys are hot: what those change who have the state.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::{HashMap, HashTable};

use super::{CALM, Entry, Hot, place};
use crate::buffer::state::State;
use crate::{Key, Value};

/// Which slots are hot; for whoever has the state.
#[derive(Debug)]
pub(in crate::buffer) struct Heated<K, V> {
    hot: Arc<Hot<K, V>>,
    /// The hash of the key of each.
    hashes: HashMap<u32, u64>,
    /// Hits since one had to wait.
    calm: u32,
}

impl<K, V> Heated<K, V> {
    pub(in crate::buffer) fn new(hot: Arc<Hot<K, V>>) -> Self {
        Heated { hot, hashes: HashMap::new(), calm: 0 }
    }

    /// Whether any is.
    pub(in crate::buffer) fn any(&self) -> bool {
        !self.hashes.is_empty()
    }

    pub(in crate::buffer) fn has(&self, i: u32) -> bool {
        self.any() && self.hashes.contains_key(&i)
    }

    /// Runs `f` with the entry of the hot slot `i`, in its shard.
    fn with<R>(&self, i: u32, f: impl FnOnce(&mut HashTable<Entry<K, V>>, u64) -> R) -> Option<R> {
        let hash = *self.hashes.get(&i)?;
        let shard = self.hot.shards().get(place(hash))?;
        Some(f(&mut shard.0.lock().table, hash))
    }

    /// Whether `i` is hot, and there was a use that the order of eviction has not learnt of.
    pub(in crate::buffer) fn is_used(&self, i: u32) -> bool {
        let used = |table: &mut HashTable<Entry<K, V>>, hash| {
            table.find(hash, |entry| entry.slot == i).is_some_and(|entry| entry.used != 0)
        };
        self.any() && self.with(i, used).unwrap_or(false)
    }

    /// The uses that the order of eviction has not learnt of: stamps and slots.
    pub(in crate::buffer) fn take_uses(&mut self) -> Vec<(u64, u32)> {
        let mut uses = Vec::new();
        if self.any() {
            for shard in self.hot.shards() {
                let mut entries = shard.0.lock();
                let used = entries.table.iter_mut().filter(|entry| entry.used != 0);
                uses.extend(used.map(|entry| (std::mem::take(&mut entry.used), entry.slot)));
            }
        }
        uses
    }

    /// The value of `i` may change: it is not hot any more. Gives back the stamp of the last use, as
    /// [`take_uses`](Self::take_uses) would.
    pub(in crate::buffer) fn cool(&mut self, i: u32) -> Option<u64> {
        let remove = |table: &mut HashTable<Entry<K, V>>, hash| {
            let found = table.find_entry(hash, |entry| entry.slot == i).ok()?;
            Some(found.remove().0)
        };
        let entry = self.with(i, remove).flatten();
        self.hashes.remove(&i);
        if !self.any() {
            self.hot.any.store(false, Relaxed);
        }
        let entry = entry?;
        let used = entry.used;
        self.hot.cooled.entries.lock().push(entry);
        self.hot.cooled.any.store(true, Relaxed);
        (used != 0).then_some(used)
    }

    /// Nothing is hot any more. Gives back what [`take_uses`](Self::take_uses) would.
    pub(in crate::buffer) fn cool_all(&mut self) -> Vec<(u64, u32)> {
        let slots: Vec<u32> = self.hashes.keys().copied().collect();
        slots.into_iter().filter_map(|i| self.cool(i).map(|used| (used, i))).collect()
    }

    /// Notes a hit that did not have to wait for the state, while some keys are hot. Whether there were so many that
    /// nothing need be.
    pub(in crate::buffer) fn is_calm(&mut self) -> bool {
        self.calm += 1;
        self.calm >= CALM
    }
}

impl<K: Key, V: Value> Heated<K, V> {
    /// Makes the slot `i` hot, whose value this is.
    pub(in crate::buffer) fn heat(&mut self, i: u32, key: &K, value: &V) {
        self.calm = 0;
        if self.has(i) {
            return;
        }
        let shards = self.hot.shards_to_heat();
        let hash = self.hot.hasher.hash_one(key);
        let entry = Entry { key: key.clone(), value: value.clone(), hash, slot: i, used: 0 };
        shards[place(hash)].0.lock().table.insert_unique(hash, entry, |entry| entry.hash);
        self.hashes.insert(i, hash);
        self.hot.any.store(true, Relaxed);
    }
}

impl<K: Key, V: Value> State<K, V> {
    /// The value of the slot `i`, which is hot, may change.
    #[cold]
    pub(in crate::buffer) fn cool(&mut self, i: u32) {
        if let Some(used) = self.heated.cool(i) {
            self.table.count_late(vec![(used, i)]);
        }
        self.table.share_stamps(self.heated.any());
    }

    /// Nothing is hot any more.
    pub(in crate::buffer) fn cool_all(&mut self) {
        let uses = self.heated.cool_all();
        self.table.count_late(uses);
        self.table.share_stamps(false);
    }

    /// A hit of `key`, which has this value, found that another thread had the state, or some keys are hot.
    #[cold]
    pub(in crate::buffer) fn temper(&mut self, key: &K, value: &V, waited: bool) {
        if waited {
            if let Some(i) = self.table.find(key) {
                self.table.share_stamps(true);
                self.heated.heat(i, key, value);
            }
        } else if self.heated.is_calm() {
            self.cool_all();
        }
    }

    /// Counts the uses of hot values in the order of eviction.
    pub(in crate::buffer) fn count_late(&mut self) {
        let uses = self.heated.take_uses();
        self.table.count_late(uses);
    }
}
