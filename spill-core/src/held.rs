//! Keys that somebody is working on: one holder a key, and what is noted of it meanwhile.
//!
//! A layer that makes several calls below for one call of its own (invalidate, then write; write here, then
//! remove there) holds the key until the last of them. Keys at rest cost nothing: an entry lives while its key
//! is held, or while its note must be remembered.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable, hash_table};

use crate::Key;
use crate::sync::{Condvar, Mutex};

/// Locks that keys are spread over, so that threads on different keys seldom meet. None is held across a call
/// that can block.
const SHARDS: usize = 16;

/// The most keys of a batch that are held at once.
const LONGEST_RUN: usize = 1024;

/// What a layer notes of a key.
pub(crate) trait Note {
    /// Whether it says no more than the absence of a note does.
    fn is_needless(&self) -> bool;
}

/// The keys that are held, and those of which something is noted.
pub(crate) struct HeldKeys<K, N> {
    shards: [Shard<K, N>; SHARDS],
    hasher: DefaultHashBuilder,
}

struct Shard<K, N> {
    entries: Mutex<HashTable<Entry<K, N>>>,
    released: Condvar,
}

struct Entry<K, N> {
    key: K,
    held: bool,
    note: N,
}

impl<K: Key, N: Note> HeldKeys<K, N> {
    pub(crate) fn new() -> Self {
        HeldKeys {
            shards: std::array::from_fn(|_| Shard {
                entries: Mutex::new(HashTable::new()),
                released: Condvar::default(),
            }),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Runs `f` with the note of `key`, if there is one, and whether it is held. Nobody can begin to hold `key`
    /// meanwhile: `f` must be short.
    pub(crate) fn look<T>(&self, key: &K, f: impl FnOnce(Option<&N>, bool) -> T) -> T {
        let hash = self.hasher.hash_one(key);
        let entries = self.shard(hash).entries.lock();
        let entry = entries.find(hash, |entry| entry.key == *key);
        f(entry.map(|entry| &entry.note), entry.is_some_and(|entry| entry.held))
    }

    /// Holds `key`, waiting until nobody else does. `first` makes the note where there is none, and must be
    /// short.
    pub(crate) fn hold(&self, key: &K, first: impl Fn() -> N) -> Hold<'_, K, N> {
        let hash = self.hasher.hash_one(key);
        let shard = self.shard(hash);
        let mut entries = shard.entries.lock();
        loop {
            match entries.find_mut(hash, |entry| entry.key == *key) {
                Some(entry) if entry.held => {}
                Some(entry) => {
                    entry.held = true;
                    break;
                }
                None => {
                    let entry = Entry { key: key.clone(), held: true, note: first() };
                    entries.insert_unique(hash, entry, |entry| self.hasher.hash_one(&entry.key));
                    break;
                }
            }
            entries = shard.released.wait(entries);
        }
        drop(entries);
        Hold { keys: self, hash, key: key.clone() }
    }

    /// Holds `key` if nobody does.
    pub(crate) fn try_hold(&self, key: &K, first: impl Fn() -> N) -> Option<Hold<'_, K, N>> {
        self.hold_if(key, first, |_, held| !held)
    }

    /// Runs `wish` with the note of `key` and whether somebody holds it; if it wishes so and nobody does, holds
    /// it. Both functions must be short.
    pub(crate) fn hold_if(
        &self,
        key: &K,
        first: impl Fn() -> N,
        wish: impl FnOnce(&mut N, bool) -> bool,
    ) -> Option<Hold<'_, K, N>> {
        let hash = self.hasher.hash_one(key);
        let mut entries = self.shard(hash).entries.lock();
        let slot = entries.entry(hash, |entry| entry.key == *key, |entry| self.hasher.hash_one(&entry.key));
        let mut slot = match slot {
            hash_table::Entry::Occupied(slot) => slot,
            hash_table::Entry::Vacant(slot) => {
                slot.insert(Entry { key: key.clone(), held: false, note: first() })
            }
        };
        let entry = slot.get_mut();
        let taken = wish(&mut entry.note, entry.held) && !entry.held;
        entry.held |= taken;
        // What the key owns is not dropped under the lock.
        let needless = (!entry.held && entry.note.is_needless()).then(|| slot.remove().0);
        drop(entries);
        drop(needless);
        taken.then(|| Hold { keys: self, hash, key: key.clone() })
    }

    /// Does a batch in order, in runs of keys that are all held; `run` gives one result for each. While it
    /// holds keys it waits for no other, so two batches never wait for each other.
    pub(crate) fn in_runs<'a, T, R>(
        &'a self,
        items: Vec<(K, T)>,
        first: impl Fn(&K) -> N,
        mut run: impl FnMut(Vec<(Hold<'a, K, N>, T)>) -> Vec<R>,
    ) -> Vec<R> {
        let mut results = Vec::with_capacity(items.len());
        let mut held = Vec::new();
        for (key, item) in items {
            let hold = if held.len() < LONGEST_RUN { self.try_hold(&key, || first(&key)) } else { None };
            let hold = hold.unwrap_or_else(|| {
                results.extend(run(std::mem::take(&mut held)));
                self.hold(&key, || first(&key))
            });
            held.push((hold, item));
        }
        results.extend(run(held));
        results
    }

    /// The keys with an entry, held or not.
    pub(crate) fn noted(&self) -> Vec<K> {
        let mut keys = Vec::new();
        self.for_each(|key, _| keys.push(key.clone()));
        keys
    }

    /// Runs `f` for each note, under its lock: `f` must be short.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&K, &N)) {
        for shard in &self.shards {
            shard.entries.lock().iter().for_each(|entry| f(&entry.key, &entry.note));
        }
    }

    fn shard(&self, hash: u64) -> &Shard<K, N> {
        // The table uses the highest and the lowest bits.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

/// A key that is held until this is dropped.
pub(crate) struct Hold<'a, K: Key, N: Note> {
    keys: &'a HeldKeys<K, N>,
    hash: u64,
    key: K,
}

impl<K: Key, N: Note> Hold<'_, K, N> {
    pub(crate) fn key(&self) -> &K {
        &self.key
    }

    /// Runs `f` with the note. It must be short.
    pub(crate) fn note<T>(&self, f: impl FnOnce(&mut N) -> T) -> Option<T> {
        let mut entries = self.keys.shard(self.hash).entries.lock();
        let entry = entries.find_mut(self.hash, |entry| entry.key == self.key)?;
        Some(f(&mut entry.note))
    }
}

impl<K: Key, N: Note> Drop for Hold<'_, K, N> {
    fn drop(&mut self) {
        let shard = self.keys.shard(self.hash);
        let mut entries = shard.entries.lock();
        let mut needless = None;
        if let Ok(mut slot) = entries.find_entry(self.hash, |entry| entry.key == self.key) {
            slot.get_mut().held = false;
            if slot.get().note.is_needless() {
                needless = Some(slot.remove().0);
            }
        }
        drop(entries);
        shard.released.notify_all();
        drop(needless);
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Count(u32);
    impl Note for Count {
        fn is_needless(&self) -> bool {
            self.0 == 0
        }
    }

    #[test]
    fn a_key_is_held_once_and_costs_nothing_at_rest() {
        let keys = HeldKeys::<u8, Count>::new();
        let hold = keys.hold(&1, Count::default);
        assert!(keys.try_hold(&1, Count::default).is_none());
        assert!(keys.try_hold(&2, Count::default).is_some());
        hold.note(|note| note.0 += 1).unwrap();
        drop(hold);
        assert_eq!(keys.noted(), [1]);
        keys.hold(&1, Count::default).note(|note| note.0 -= 1).unwrap();
        assert!(keys.noted().is_empty());
    }

    #[test]
    fn a_wish_that_is_not_made_leaves_only_what_must_be_remembered() {
        let keys = HeldKeys::<u8, Count>::new();
        assert!(keys.hold_if(&1, Count::default, |_, _| false).is_none());
        assert!(keys.noted().is_empty());
        assert!(
            keys.hold_if(&1, Count::default, |note, _| {
                note.0 = 1;
                false
            })
            .is_none()
        );
        assert!(keys.look(&1, |note, held| note.is_some() && !held));
    }

    #[test]
    fn a_batch_that_names_a_key_twice_does_it_twice_in_order() {
        let keys = HeldKeys::<u8, Count>::new();
        let items = [(1, 'a'), (2, 'b'), (1, 'c'), (3, 'd')];
        let mut runs = Vec::new();
        let results = keys.in_runs(
            items.into(),
            |_| Count::default(),
            |run| {
                runs.push(run.len());
                run.iter().map(|(hold, item)| (*hold.key(), *item)).collect()
            },
        );
        assert_eq!(results, items);
        assert_eq!(runs, [2, 2]);
        assert!(keys.noted().is_empty());
    }
}
