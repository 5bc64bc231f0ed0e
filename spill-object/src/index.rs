//! Where each key's value is, in RAM.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use spill_core::{ErrorKind, Key, Result};

/// Where a value is, and what is known of it without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Locator {
    /// The weight that the value had in memory.
    pub(crate) weight: u64,
    /// Bytes of its record.
    pub(crate) length: u64,
    pub(crate) place: Place,
}

/// In RAM or in an object. The number of an object is never used again, so an unchanged place in one is an unchanged
/// value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a pack that waits to be uploaded or is being uploaded.
    Staged { pack: u64, slot: u32 },
    /// In an object, from this byte on.
    Stored { object: u64, offset: u32, checksum: u32 },
}

const _: () = assert!(size_of::<Locator>() == 40);

/// Keys and their locators: a hash table of positions into a list of entries. An entry keeps its position for as
/// long as its key is present, so that objects can list what lives in them. A value costs its key, 48 bytes and 6 to
/// 17 for its place in the table.
pub(crate) struct Index<K> {
    table: HashTable<u32>,
    entries: Vec<Option<(K, Locator)>>,
    free: Vec<u32>,
    hasher: DefaultHashBuilder,
}

impl<K: Key> Index<K> {
    pub(crate) fn new() -> Self {
        let hasher = DefaultHashBuilder::default();
        Index { table: HashTable::new(), entries: Vec::new(), free: Vec::new(), hasher }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The position of a key.
    pub(crate) fn find(&self, key: &K) -> Option<u32> {
        let same = |&at: &u32| self.entry(at).is_some_and(|(found, _)| found == key);
        self.table.find(self.hasher.hash_one(key), same).copied()
    }

    fn entry(&self, at: u32) -> Option<&(K, Locator)> {
        self.entries.get(at as usize)?.as_ref()
    }

    pub(crate) fn locator(&self, at: u32) -> Option<Locator> {
        self.entry(at).map(|(_, locator)| *locator)
    }

    pub(crate) fn set(&mut self, at: u32, locator: Locator) {
        if let Some(Some((_, old))) = self.entries.get_mut(at as usize) {
            *old = locator;
        }
    }

    /// The position that the next new key gets.
    ///
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge) when there are as many keys as positions.
    pub(crate) fn next_position(&self) -> Result<u32> {
        let next = self.free.last().copied().or_else(|| u32::try_from(self.entries.len()).ok());
        next.filter(|at| *at != u32::MAX).ok_or_else(|| {
            ErrorKind::TooLarge {
                what: "an index".to_owned(),
                size: self.entries.len() as u64 + 1,
                limit: u64::from(u32::MAX),
                setting: "its 32-bit positions",
            }
            .into()
        })
    }

    /// Adds a key that is not present at [`next_position`](Self::next_position).
    pub(crate) fn push(&mut self, key: K, at: u32, locator: Locator) {
        let hash = self.hasher.hash_one(&key);
        if self.free.pop().is_some() {
            self.entries[at as usize] = Some((key, locator));
        } else {
            self.entries.push(Some((key, locator)));
        }
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.table.insert_unique(hash, at, |&at| rehash(entries, hasher, at));
    }

    /// Takes out the entry at this position.
    pub(crate) fn remove(&mut self, at: u32) -> Option<(K, Locator)> {
        let entry = self.entries.get_mut(at as usize)?.take()?;
        if let Ok(bucket) = self.table.find_entry(self.hasher.hash_one(&entry.0), |&found| found == at) {
            bucket.remove();
        }
        self.free.push(at);
        if self.table.is_empty() {
            (self.entries, self.free) = (Vec::new(), Vec::new());
        }
        Some(entry)
    }

    pub(crate) fn keys(&self) -> Vec<K> {
        self.entries.iter().flatten().map(|(key, _)| key.clone()).collect()
    }
}

fn rehash<K: Key>(entries: &[Option<(K, Locator)>], hasher: &DefaultHashBuilder, at: u32) -> u64 {
    entries.get(at as usize).and_then(Option::as_ref).map_or(0, |(key, _)| hasher.hash_one(key))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn locator(weight: u64) -> Locator {
        Locator { weight, length: 0, place: Place::Staged { pack: 0, slot: 0 } }
    }

    proptest! {
        #[test]
        fn an_index_is_a_map_whose_entries_stay_where_they_are(
            script in prop::collection::vec((0..40_u16, any::<bool>()), 0..400)
        ) {
            let mut index = Index::new();
            let mut model = HashMap::new();
            for (n, (key, add)) in script.into_iter().enumerate() {
                let n = n as u64;
                match (index.find(&key), add) {
                    (found, false) => {
                        prop_assert_eq!(found, model.get(&key).map(|(at, _)| *at));
                        let removed = found.and_then(|at| index.remove(at));
                        prop_assert_eq!(removed, model.remove(&key).map(|(_, weight)| (key, locator(weight))));
                    }
                    (Some(at), true) => {
                        index.set(at, locator(n));
                        prop_assert_eq!(model.insert(key, (at, n)).map(|(at, _)| at), Some(at));
                    }
                    (None, true) => {
                        let at = index.next_position().unwrap();
                        index.push(key, at, locator(n));
                        prop_assert!(model.insert(key, (at, n)).is_none());
                    }
                }
                prop_assert_eq!(index.len(), model.len());
                for (key, (at, weight)) in &model {
                    prop_assert_eq!(index.find(key), Some(*at));
                    prop_assert_eq!(index.locator(*at), Some(locator(*weight)));
                }
                let (mut keys, mut known) = (index.keys(), model.keys().copied().collect::<Vec<_>>());
                keys.sort_unstable();
                known.sort_unstable();
                prop_assert_eq!(keys, known);
            }
        }
    }
}
