//! Names of values: which key means which value, so that one object under several keys is one value.
//!
//! Each value that comes in gets a number, under which the buffer and storage hold it; a key is a name of it.
//! Setting a key to an object that is in fast memory already gives that object one more name. A number is not used
//! again, so what is said of one value is never taken for another.
//!
//! A key changes hands in one moment, under the interpreter's lock, before or after which the buffer is called and never
//! during it. So a reader sees the old value or the new one; one who finds a value gone asks again.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use pyo3::Python;

use crate::gil::UnderGil;
use crate::ids::{Ids, Place};
use crate::key::{Key, KeyRef};
use crate::slab::Slab;

/// The number of a value: a slot, and how often it was used before. It has what it needs to be found without a
/// search, and is not used again before 2^32 other values were in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    slot: u32,
    generation: u32,
}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.generation) << 32 | u64::from(self.slot));
    }
}

/// All names of one buffer.
#[derive(Default)]
pub(crate) struct Names(UnderGil<State>);

#[derive(Default)]
struct State {
    ids: Ids,
    slots: Slab<Slot>,
    /// How often a value came to memory.
    came: u64,
    /// How many references to objects are held, and what they weigh in bytes.
    held: (usize, u64),
    /// These names, while references are held.
    kept: Option<Arc<Names>>,
    /// Slots by where the objects of their values are. What is not so any more is cleared away once in a while.
    objects: HashTable<Place>,
}

/// What is known of a value.
#[derive(Default)]
struct Slot {
    /// Which it is in the order in which they came to memory.
    place: u64,
    /// Where its object is, or 0 unless that is in fast memory.
    address: usize,
    generation: u32,
    /// How many keys name it.
    count: u32,
    /// How many references to its object are held: more than one while a reader has brought it back to memory and an
    /// evicter still has it.
    holders: u32,
    /// Whether there is one.
    used: bool,
    /// That it could not be serialised has been said.
    reported: bool,
}

/// So many objects that are gone may be known at least.
const GONE: usize = 64;

/// What setting a key begins with.
pub(crate) enum Begun {
    /// The object is a value already, and the key names it now.
    Shared(Removed),
    /// A new number, which no key has yet: the value goes to the buffer first.
    New(Id),
}

/// What taking a key away leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    /// There was no such key.
    Nothing,
    /// Other keys name the value.
    Kept,
    /// No key names this value any more.
    Value(Id),
}

/// What an address is looked for by: two that have it in common lie at least 64 GiB apart.
fn part(address: usize) -> u32 {
    (address >> 4) as u32
}

impl State {
    /// Notes that the object at `address` is that of slot `at` from now on.
    #[inline]
    fn locate(&mut self, address: usize, at: u32) {
        let State { slots, objects, .. } = self;
        let wanted = part(address);
        // what leads to an object that is gone may lead to this one
        let free = |place: &Place| {
            let there = slots.get(place.at).map_or(0, |slot| slot.address);
            place.part == wanted && (there == address || part(there) != wanted)
        };
        match objects.entry(Place::hash(wanted), free, |place| Place::hash(place.part)) {
            Entry::Occupied(mut place) => place.get_mut().at = at,
            Entry::Vacant(place) => _ = place.insert(Place { part: wanted, at }),
        }
    }

    /// The value whose object is at `address`, should keys name it.
    #[inline]
    fn located(&self, address: usize) -> Option<Id> {
        let wanted = part(address);
        let there = |place: &Place| {
            place.part == wanted && self.slots.get(place.at).is_some_and(|slot| slot.address == address)
        };
        let at = self.objects.find(Place::hash(wanted), there)?.at;
        let slot = self.slots.get(at).filter(|slot| slot.count > 0)?;
        Some(Id { slot: at, generation: slot.generation })
    }

    fn arrived(&mut self, id: Id, address: usize) {
        let came = self.came + 1;
        let Some(slot) = self.slot_mut(id) else { return };
        slot.holders = if slot.address == address { slot.holders + 1 } else { 1 };
        (slot.address, slot.place) = (address, came);
        self.came = came;
        self.locate(address, id.slot);
        self.clear_away();
    }

    /// Forgets where objects were that are gone, once there are as many of them as others.
    #[inline]
    fn clear_away(&mut self) {
        if self.objects.len() > 2 * self.slots.len() + GONE {
            let slots = &self.slots;
            self.objects.retain(|place| {
                slots.get(place.at).is_some_and(|slot| slot.address != 0 && part(slot.address) == place.part)
            });
        }
    }

    /// A number that no key has, for a value that came to memory just now and whose object is at `address`.
    #[inline]
    fn add(&mut self, address: usize) -> Id {
        self.came += 1;
        let place = self.came;
        let mut generation = 0;
        let slot = self.slots.add(|left| {
            generation = left.map_or(0, |left| left.generation);
            Slot { used: true, place, address, holders: 1, generation, ..Slot::default() }
        });
        Id { slot, generation }
    }

    fn slot(&self, id: Id) -> Option<&Slot> {
        self.slots.get(id.slot).filter(|slot| slot.used && slot.generation == id.generation)
    }

    fn slot_mut(&mut self, id: Id) -> Option<&mut Slot> {
        self.slots.get_mut(id.slot).filter(|slot| slot.used && slot.generation == id.generation)
    }

    fn forget(&mut self, id: Id) {
        if let Some(slot) = self.slot_mut(id) {
            *slot = Slot { generation: slot.generation.wrapping_add(1), ..Slot::default() };
            self.slots.give_back(id.slot);
        }
    }

    fn unname(&mut self, id: Id) -> Removed {
        let Some(slot) = self.slot_mut(id) else { return Removed::Nothing };
        slot.count = slot.count.saturating_sub(1);
        if slot.count > 0 {
            return Removed::Kept;
        }
        self.forget(id);
        Removed::Value(id)
    }

    #[inline]
    fn link(&mut self, key: KeyRef<'_, '_>, id: Id) -> Removed {
        if let Some(slot) = self.slot_mut(id) {
            slot.count += 1;
        }
        match self.ids.insert(key, id) {
            Some(old) => self.unname(old),
            None => Removed::Nothing,
        }
    }

    /// Takes a key away: also what was held of it.
    fn take(&mut self, key: KeyRef<'_, '_>) -> (Removed, Option<Key>) {
        match self.ids.remove(key) {
            Some((held, id)) => (self.unname(id), Some(held)),
            None => (Removed::Nothing, None),
        }
    }
}

impl Names {
    /// Begins to set `key` to the object at `address`.
    #[inline]
    pub(crate) fn begin(&self, py: Python<'_>, key: KeyRef<'_, '_>, address: usize) -> Begun {
        self.0.with(py, |state| {
            match state.located(address) {
                // the same object once more may have been changed in place: it is a new value
                Some(id) if state.ids.get(key) != Some(id) => return Begun::Shared(state.link(key, id)),
                _ => {}
            }
            let id = state.add(address);
            state.locate(address, id.slot);
            state.clear_away();
            Begun::New(id)
        })
    }

    /// The value `id` is in the buffer: `key` names it from now on.
    #[inline]
    pub(crate) fn link(&self, py: Python<'_>, key: KeyRef<'_, '_>, id: Id) -> Removed {
        self.0.with(py, |state| state.link(key, id))
    }

    /// The value `id`, which no key names yet, did not get into the buffer.
    pub(crate) fn give_up(&self, py: Python<'_>, id: Id) {
        self.0.with(py, |state| state.forget(id));
    }

    /// Takes `key` away.
    pub(crate) fn unlink(&self, py: Python<'_>, key: KeyRef<'_, '_>) -> Removed {
        let (removed, held) = self.0.with(py, |state| state.take(key));
        drop(held); // with nothing borrowed
        removed
    }

    /// Takes `key` away if it names the value `id` still.
    pub(crate) fn unlink_from(&self, py: Python<'_>, key: KeyRef<'_, '_>, id: Id) -> Removed {
        let (removed, held) = self.0.with(py, |state| match state.ids.get(key) {
            Some(named) if named == id => state.take(key),
            _ => (Removed::Nothing, None),
        });
        drop(held); // with nothing borrowed
        removed
    }

    /// The number of the value of `key`.
    #[inline]
    pub(crate) fn id(&self, py: Python<'_>, key: KeyRef<'_, '_>) -> Option<Id> {
        self.0.with(py, |state| state.ids.get(key))
    }

    /// Whether the object of the value `id` is in fast memory, as far as is known here.
    pub(crate) fn is_here(&self, py: Python<'_>, id: Id) -> bool {
        self.0.with(py, |state| state.slot(id).is_some_and(|slot| slot.address != 0))
    }

    /// How many keys there are.
    pub(crate) fn len(&self, py: Python<'_>) -> usize {
        self.0.with(py, |state| state.ids.len())
    }

    /// All keys with the numbers of their values, in the order in which the values came to memory.
    pub(crate) fn all(&self, py: Python<'_>) -> Vec<(Key, Id)> {
        let mut all: Vec<_> = self.0.with(py, |state| {
            let place = |id: Id| state.slot(id).map_or(0, |slot| slot.place);
            state.ids.iter().map(|(key, id)| (place(id), key.clone_ref(py), id)).collect()
        });
        all.sort_unstable_by_key(|(place, ..)| *place);
        all.into_iter().map(|(_, key, id)| (key, id)).collect()
    }

    /// That the value `id` cannot be serialised is reported now: a key of it, unless that was done before, or no key
    /// names it yet. Looks at all keys, once for such a value.
    pub(crate) fn report(&self, py: Python<'_>, id: Id) -> Option<Key> {
        self.0.with(py, |state| {
            state.slot(id).filter(|slot| slot.count > 0 && !slot.reported)?;
            let key = state.ids.iter().find(|(_, named)| *named == id)?.0.clone_ref(py);
            state.slot_mut(id)?.reported = true;
            Some(key)
        })
    }

    /// The keys whose failure to be serialised has been reported.
    pub(crate) fn reported(&self, py: Python<'_>) -> Vec<Key> {
        self.0.with(py, |state| {
            let reported = |id: Id| state.slot(id).is_some_and(|slot| slot.reported);
            state.ids.iter().filter(|(_, id)| reported(*id)).map(|(key, _)| key.clone_ref(py)).collect()
        })
    }

    /// The object of the value `id` is in fast memory, at `address`.
    pub(crate) fn arrived(&self, py: Python<'_>, id: Id, address: usize) {
        self.0.with(py, |state| state.arrived(id, address));
    }

    /// A reference to an object that weighs `weight` bytes is held. The names stay until it is [given up](Self::left),
    /// whoever else drops them.
    #[inline]
    pub(crate) fn held(self: &Arc<Self>, py: Python<'_>, weight: u64) {
        self.0.with(py, |state| {
            let (count, sum) = state.held;
            state.held = (count + 1, sum.saturating_add(weight));
            if count == 0 {
                state.kept = Some(Arc::clone(self));
            }
        });
    }

    /// A reference to the object of the value `id`, at `address`, which weighs `weight` bytes, is given up. With the
    /// last one, the names themselves are given, to be dropped when they are not used any more.
    pub(crate) fn left(&self, py: Python<'_>, id: Id, address: usize, weight: u64) -> Option<Arc<Self>> {
        self.0.with(py, |state| {
            let (count, sum) = state.held;
            state.held = (count.saturating_sub(1), sum.saturating_sub(weight));
            if let Some(slot) = state.slot_mut(id).filter(|slot| slot.address == address) {
                slot.holders = slot.holders.saturating_sub(1);
                if slot.holders == 0 {
                    slot.address = 0;
                }
            }
            if count <= 1 { state.kept.take() } else { None }
        })
    }

    /// What the objects of all references weigh that are held, in bytes: not less than what is in fast memory.
    #[inline]
    pub(crate) fn weight(&self, py: Python<'_>) -> u64 {
        self.0.with(py, |state| state.held.1)
    }
}
