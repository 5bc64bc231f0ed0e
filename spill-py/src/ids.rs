//! Numbers by key: a table that keeps the hash of each key, so that it grows without looking at keys again.

use hashbrown::hash_table::Entry as Place;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::key::{Key, KeyRef};
use crate::names::Id;

#[derive(Default)]
pub(crate) struct Ids {
    table: HashTable<Entry>,
    hasher: DefaultHashBuilder,
}

struct Entry {
    hash: u64,
    key: Key,
    id: Id,
}

impl Entry {
    fn is(&self, hash: u64, key: KeyRef<'_, '_>) -> bool {
        self.hash == hash && self.key.is(key)
    }
}

impl Ids {
    /// The number of `key`.
    #[inline]
    pub(crate) fn get(&self, key: KeyRef<'_, '_>) -> Option<Id> {
        let hash = key.hash(&self.hasher);
        self.table.find(hash, |entry| entry.is(hash, key)).map(|entry| entry.id)
    }

    /// Gives `key` a number, and returns the one that it had.
    pub(crate) fn insert(&mut self, key: KeyRef<'_, '_>, id: Id) -> Option<Id> {
        let hash = key.hash(&self.hasher);
        match self.table.entry(hash, |entry| entry.is(hash, key), |entry| entry.hash) {
            Place::Occupied(mut entry) => Some(std::mem::replace(&mut entry.get_mut().id, id)),
            Place::Vacant(place) => {
                place.insert(Entry { hash, key: Key::from(key), id });
                None
            }
        }
    }

    /// Removes `key`: what was held of it, and the number that it had.
    pub(crate) fn remove(&mut self, key: KeyRef<'_, '_>) -> Option<(Key, Id)> {
        let hash = key.hash(&self.hasher);
        let (entry, _) = self.table.find_entry(hash, |entry| entry.is(hash, key)).ok()?.remove();
        Some((entry.key, entry.id))
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, Id)> {
        self.table.iter().map(|entry| (&entry.key, entry.id))
    }
}
