//! Numbers by key. As in Python's own dict, an index of small places leads to entries one after another: a new key
//! writes to one place that may be anywhere and to memory that is next, and the index grows without looking at keys.

use hashbrown::hash_table::Entry as Slot;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::key::{Key, KeyRef};
use crate::names::Id;
use crate::slab::Slab;

#[derive(Default)]
pub(crate) struct Ids {
    index: HashTable<Place>,
    entries: Slab<Option<Entry>>,
    hasher: DefaultHashBuilder,
}

/// Where the entry of a key is.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// A part of what is hashed, enough to tell most from each other.
    pub(crate) part: u32,
    pub(crate) at: u32,
}

impl Place {
    /// What the index finds a part by.
    #[inline]
    pub(crate) fn hash(part: u32) -> u64 {
        let spread = u64::from(part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        spread ^ (spread >> 32)
    }
}

struct Entry {
    key: Key,
    id: Id,
}

fn is(entries: &Slab<Option<Entry>>, at: u32, key: KeyRef<'_, '_>) -> bool {
    entries.get(at).and_then(Option::as_ref).is_some_and(|entry| entry.key.is(key))
}

impl Ids {
    /// The number of `key`.
    #[inline]
    pub(crate) fn get(&self, key: KeyRef<'_, '_>) -> Option<Id> {
        let part = key.hash(&self.hasher) as u32;
        let found = |place: &Place| place.part == part && is(&self.entries, place.at, key);
        let place = self.index.find(Place::hash(part), found)?;
        Some(self.entries.get(place.at)?.as_ref()?.id)
    }

    /// Gives `key` a number, and returns the one that it had.
    #[inline]
    pub(crate) fn insert(&mut self, key: KeyRef<'_, '_>, id: Id) -> Option<Id> {
        let part = key.hash(&self.hasher) as u32;
        let Ids { index, entries, .. } = self;
        let found = |place: &Place| place.part == part && is(entries, place.at, key);
        match index.entry(Place::hash(part), found, |place| Place::hash(place.part)) {
            Slot::Occupied(place) => {
                let entry = entries.get_mut(place.get().at)?.as_mut()?;
                Some(std::mem::replace(&mut entry.id, id))
            }
            Slot::Vacant(place) => {
                let at = entries.add(|_| Some(Entry { key: Key::from(key), id }));
                place.insert(Place { part, at });
                None
            }
        }
    }

    /// Removes `key`: what was held of it, and the number that it had.
    pub(crate) fn remove(&mut self, key: KeyRef<'_, '_>) -> Option<(Key, Id)> {
        let part = key.hash(&self.hasher) as u32;
        let Ids { index, entries, .. } = self;
        let found = |place: &Place| place.part == part && is(entries, place.at, key);
        let (place, _) = index.find_entry(Place::hash(part), found).ok()?.remove();
        let entry = entries.get_mut(place.at)?.take()?;
        entries.give_back(place.at);
        Some((entry.key, entry.id))
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, Id)> {
        self.entries.iter().flatten().map(|entry| (&entry.key, entry.id))
    }
}
