//! Where each key's record is, in RAM.
//!
//! A hash table of 32-bit positions into a dense slab of keys and locators. Removing moves the last entry
//! into the gap, so there is neither a list of free places nor an empty variant of a key. A value costs 24
//! bytes for its locator and 6 to 12 for its [`Positions`], 18 while they grow; up to 51 once most were removed.
//!
//! The table hashes keys to 32 bits, their *tags*. A record's header carries its tag, so that compaction finds
//! the entry of a record without knowing its key. Keys that share a tag cost a comparison more.

use hashbrown::DefaultHashBuilder;
use spill_core::{ErrorKind, Key, Positions, Result};
use std::cell::Cell;
use std::hash::{BuildHasher, Hash};

use super::slab::Slab;

/// Where a record is. 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Locator {
    /// The weight that the value had in memory.
    pub(super) weight: u64,
    /// Its segment, or [`STAGED`].
    pub(super) segment: u32,
    /// Where the record begins, in units of 8 bytes; if staged, its place in its batch.
    pub(super) offset: u32,
    /// The record's length in units of 8 bytes.
    pub(super) units: u32,
    /// The record's checksum; if staged, the number of its batch.
    pub(super) checksum: u32,
}

/// The segment of values that wait in the stage.
pub(super) const STAGED: u32 = u32::MAX;

const _: () = assert!(size_of::<Locator>() == 24);

impl Locator {
    pub(super) fn is_staged(&self) -> bool {
        self.segment == STAGED
    }

    /// Where the record begins in its file, in bytes.
    pub(super) fn start(&self) -> u64 {
        u64::from(self.offset) * super::format::UNIT
    }

    /// The record's length in bytes.
    pub(super) fn length(&self) -> u64 {
        u64::from(self.units) * super::format::UNIT
    }
}

/// Keys and their locators. An entry keeps its position until it or the last one is removed.
pub(super) struct Index<K> {
    table: Positions,
    entries: Slab<(K, Locator)>,
    hasher: DefaultHashBuilder,
    /// Where a key was found last: callers ask for one key several times in a row, and a lookup in a large table
    /// waits for memory.
    last: Cell<u32>,
}

/// What [`Index::remove`] took out.
pub(super) struct Removed<K> {
    /// Given back so that it can be dropped without a lock.
    pub(super) key: K,
    /// The position, if another entry has it now.
    pub(super) moved_to: Option<u32>,
}

/// The tag of a key.
pub(super) fn tag(hasher: &DefaultHashBuilder, key: &impl Hash) -> u32 {
    let hash = hasher.hash_one(key);
    (hash ^ hash >> 32) as u32
}

/// A tag as the table takes it, which wants entropy in the lowest byte and in the highest bits.
fn spread(tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(tag)
}

fn hash(hasher: &DefaultHashBuilder, key: &impl Hash) -> u64 {
    spread(tag(hasher, key))
}

impl<K: Key> Index<K> {
    pub(super) fn new(hasher: DefaultHashBuilder) -> Self {
        Index { table: Positions::new(), entries: Slab::new(), hasher, last: Cell::new(0) }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The position of a key, if it is present. `tag` is its [`tag`] by the index's hasher.
    pub(super) fn find(&self, tag: u32, key: &K) -> Option<u32> {
        let last = self.last.get();
        if (last as usize) < self.entries.len() && self.entries[last].0 == *key {
            return Some(last);
        }
        let found = self.table.find(spread(tag), |at| self.entries[at].0 == *key);
        self.last.set(found.unwrap_or(last));
        found
    }

    /// The position of the key whose record begins there, if one has.
    pub(super) fn find_record(&self, tag: u32, segment: u32, offset: u32) -> Option<u32> {
        let there = |locator: &Locator| locator.segment == segment && locator.offset == offset;
        self.table.find(spread(tag), |at| there(&self.entries[at].1))
    }

    /// The tag of the key at this position.
    pub(super) fn tag_at(&self, at: u32) -> u32 {
        tag(&self.hasher, &self.entries[at].0)
    }

    pub(super) fn locator(&self, at: u32) -> &Locator {
        &self.entries[at].1
    }

    pub(super) fn locator_mut(&mut self, at: u32) -> &mut Locator {
        &mut self.entries[at].1
    }

    /// The position that the next new key gets.
    ///
    /// # Errors
    /// When there are as many keys as positions.
    pub(super) fn next_position(&self) -> Result<u32> {
        let keys = self.entries.len() as u64;
        u32::try_from(keys).ok().filter(|at| *at != u32::MAX).ok_or_else(|| {
            let what = "an index".to_owned();
            ErrorKind::TooLarge {
                what,
                size: keys + 1,
                limit: u64::from(u32::MAX),
                setting: "its 32-bit positions",
            }
            .into()
        })
    }

    /// Adds a key that is not present at [`next_position`](Self::next_position).
    pub(super) fn push(&mut self, tag: u32, key: K, at: u32, locator: Locator) {
        self.entries.push((key, locator));
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.table.insert(spread(tag), at, |at| hash(hasher, &entries[at].0));
    }

    /// Removes the entry at this position, which [`find`](Self::find) gave for `tag`.
    pub(super) fn remove(&mut self, tag: u32, at: u32) -> Removed<K> {
        self.table.remove(spread(tag), at);
        let last = (self.entries.len() - 1) as u32;
        if at != last {
            self.table.replace(hash(&self.hasher, &self.entries[last].0), last, at);
        }
        let (key, _) = self.entries.swap_remove(at);
        // Giving back half of what is free, and only then, makes shrinking and growing again cost nothing
        // for each entry.
        if self.table.len() * 8 < self.table.capacity() {
            let (entries, hasher) = (&self.entries, &self.hasher);
            self.table.shrink_to(self.table.len() * 2, |at| hash(hasher, &entries[at].0));
        }
        Removed { key, moved_to: (at != last).then_some(at) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(K, Locator)> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn locator(weight: u64) -> Locator {
        Locator { weight, segment: 0, offset: 0, units: 0, checksum: 0 }
    }

    proptest! {
        #[test]
        fn an_index_is_a_map(script in prop::collection::vec((0..40_u16, any::<bool>()), 0..400)) {
            let mut index = Index::new(DefaultHashBuilder::default());
            let mut model = HashMap::new();
            for (n, (key, add)) in script.into_iter().enumerate() {
                let tag = super::tag(&index.hasher, &key);
                if !add {
                    let last = index.entries.iter().last().map(|entry| entry.0);
                    let found = index.find(tag, &key);
                    prop_assert_eq!(found.map(|at| *index.locator(at)), model.remove(&key));
                    if let Some(at) = found.and_then(|at| index.remove(tag, at).moved_to) {
                        prop_assert_eq!(Some(index.entries[at].0), last);
                    }
                    prop_assert_eq!(index.find(tag, &key), None);
                } else if let Some(at) = index.find(tag, &key) {
                    *index.locator_mut(at) = locator(n as u64);
                    prop_assert!(model.insert(key, locator(n as u64)).is_some());
                } else {
                    let at = index.next_position().unwrap();
                    index.push(tag, key, at, locator(n as u64));
                    prop_assert!(model.insert(key, locator(n as u64)).is_none());
                }
                prop_assert_eq!(index.len(), model.len());
                for (key, locator) in &model {
                    let at = index.find(super::tag(&index.hasher, key), key);
                    prop_assert_eq!(at.map(|at| index.locator(at)), Some(locator));
                }
            }
        }
    }

    #[test]
    fn an_index_gives_its_memory_back() {
        let mut index = Index::new(DefaultHashBuilder::default());
        for key in 0..100_000_u64 {
            let at = index.next_position().unwrap();
            index.push(super::tag(&index.hasher, &key), key, at, locator(key));
        }
        for key in 0..99_990_u64 {
            let tag = super::tag(&index.hasher, &key);
            let at = index.find(tag, &key).unwrap();
            index.remove(tag, at);
        }
        assert!(index.table.capacity() < 1000, "{}", index.table.capacity());
        assert!((99_990..100_000).all(|key| index.find(super::tag(&index.hasher, &key), &key).is_some()));
    }
}
