//! Names of values: which key means which value, so that one object under several keys is one value.
//!
//! Each value that comes in gets a number, under which the buffer and storage hold it; a key is a name of it.
//! Setting a key to an object that is in fast memory already gives that object one more name. A number is not used
//! again, so what is said of one value is never taken for another.
//!
//! A key changes hands in one moment, under the lock here, before or after which the buffer is called and never
//! during it. So a reader sees the old value or the new one; one who finds a value gone asks again.

use std::hash::{Hash, Hasher};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::{Mutex, MutexGuard};
use pyo3::Python;

use crate::ids::Ids;
use crate::key::{Key, KeyRef};

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
pub(crate) struct Names(Mutex<State>);

#[derive(Default)]
struct State {
    ids: Ids,
    slots: Vec<Slot>,
    /// Slots without a value: the one used last is the next, since it is in the processor's cache.
    free: Vec<u32>,
    /// How often a value came to memory.
    came: u64,
    /// Values by where their objects are. What is not so any more is cleared away once in a while.
    objects: HashMap<usize, Id>,
}

/// What is known of a value.
#[derive(Default)]
struct Slot {
    generation: u32,
    /// Whether there is one.
    used: bool,
    /// That it could not be serialised has been said.
    reported: bool,
    /// How many keys name it.
    count: usize,
    /// Which it is in the order in which they came to memory.
    place: u64,
    /// Where its object is, or 0 unless that is in fast memory.
    address: usize,
    /// How many references to that are held: more than one while a reader has brought it back to memory and an evicter
    /// still has it.
    holders: usize,
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

impl State {
    fn arrived(&mut self, id: Id, address: usize) {
        let came = self.came + 1;
        let Some(slot) = self.slot_mut(id) else { return };
        slot.holders = if slot.address == address { slot.holders + 1 } else { 1 };
        (slot.address, slot.place) = (address, came);
        self.came = came;
        self.objects.insert(address, id);
        self.clear_away();
    }

    /// Forgets where objects were that are gone, once there are as many of them as others.
    fn clear_away(&mut self) {
        let values = self.slots.len() - self.free.len();
        if self.objects.len() > 2 * values + GONE {
            let slots = &self.slots;
            self.objects
                .retain(|address, id| slot_of(slots, *id).is_some_and(|slot| slot.address == *address));
        }
    }

    fn slot(&self, id: Id) -> Option<&Slot> {
        slot_of(&self.slots, id)
    }

    fn slot_mut(&mut self, id: Id) -> Option<&mut Slot> {
        self.slots.get_mut(id.slot as usize).filter(|slot| slot.used && slot.generation == id.generation)
    }

    fn forget(&mut self, id: Id) {
        if let Some(slot) = self.slot_mut(id) {
            *slot = Slot { generation: slot.generation.wrapping_add(1), ..Slot::default() };
            self.free.push(id.slot);
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

    fn link(&mut self, key: KeyRef<'_, '_>, id: Id) -> Removed {
        if let Some(slot) = self.slot_mut(id) {
            slot.count += 1;
        }
        match self.ids.insert(key, id) {
            Some(old) => self.unname(old),
            None => Removed::Nothing,
        }
    }
}

fn slot_of(slots: &[Slot], id: Id) -> Option<&Slot> {
    slots.get(id.slot as usize).filter(|slot| slot.used && slot.generation == id.generation)
}

/// A number that no key has, for a value that came to memory as the `came`th and whose object is at `address`.
fn add(slots: &mut Vec<Slot>, free: &mut Vec<u32>, came: u64, address: usize) -> Id {
    let new = Slot { used: true, place: came, address, holders: 1, ..Slot::default() };
    let Some(slot) = free.pop() else {
        slots.push(new);
        // 2^32 values would take hundreds of gigabytes for what is known of them alone
        return Id { slot: (slots.len() - 1) as u32, generation: 0 };
    };
    let at = &mut slots[slot as usize];
    *at = Slot { generation: at.generation, ..new };
    Id { slot, generation: at.generation }
}

impl Names {
    /// Begins to set `key` to the object at `address`.
    pub(crate) fn begin(&self, key: KeyRef<'_, '_>, address: usize) -> Begun {
        let mut state = self.0.lock();
        let State { ids, slots, free, came, objects } = &mut *state;
        let place = objects.entry(address);
        if let Entry::Occupied(known) = &place {
            let id = *known.get();
            if slot_of(slots, id).is_some_and(|slot| slot.address == address && slot.count > 0)
                && ids.get(key) != Some(id)
            {
                return Begun::Shared(state.link(key, id));
            }
        }
        *came += 1;
        let id = add(slots, free, *came, address);
        place.insert(id);
        state.clear_away();
        Begun::New(id)
    }

    /// The value `id` is in the buffer: `key` names it from now on.
    pub(crate) fn link(&self, key: KeyRef<'_, '_>, id: Id) -> Removed {
        self.0.lock().link(key, id)
    }

    /// The value `id`, which no key names yet, did not get into the buffer.
    pub(crate) fn give_up(&self, id: Id) {
        self.0.lock().forget(id);
    }

    /// Takes `key` away.
    pub(crate) fn unlink(&self, key: KeyRef<'_, '_>) -> Removed {
        Self::taken(self.0.lock(), key)
    }

    /// Takes `key` away if it names the value `id` still.
    pub(crate) fn unlink_from(&self, key: KeyRef<'_, '_>, id: Id) -> Removed {
        let state = self.0.lock();
        if state.ids.get(key) == Some(id) { Self::taken(state, key) } else { Removed::Nothing }
    }

    fn taken(mut state: MutexGuard<'_, State>, key: KeyRef<'_, '_>) -> Removed {
        let Some((held, id)) = state.ids.remove(key) else { return Removed::Nothing };
        let removed = state.unname(id);
        drop(state);
        drop(held); // with the lock given back
        removed
    }

    /// The number of the value of `key`.
    #[inline]
    pub(crate) fn id(&self, key: KeyRef<'_, '_>) -> Option<Id> {
        self.0.lock().ids.get(key)
    }

    /// Whether the object of the value `id` is in fast memory, as far as is known here.
    pub(crate) fn is_here(&self, id: Id) -> bool {
        self.0.lock().slot(id).is_some_and(|slot| slot.address != 0)
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().ids.len()
    }

    /// All keys with the numbers of their values, in the order in which the values came to memory.
    pub(crate) fn all(&self, py: Python<'_>) -> Vec<(Key, Id)> {
        let state = self.0.lock();
        let place = |id: Id| state.slot(id).map_or(0, |slot| slot.place);
        let mut all: Vec<_> = state.ids.iter().map(|(key, id)| (place(id), key.clone_ref(py), id)).collect();
        drop(state);
        all.sort_unstable_by_key(|(place, ..)| *place);
        all.into_iter().map(|(_, key, id)| (key, id)).collect()
    }

    /// That the value `id` cannot be serialised is reported now: a key of it, unless that was done before, or no key
    /// names it yet. Looks at all keys, once for such a value.
    pub(crate) fn report(&self, py: Python<'_>, id: Id) -> Option<Key> {
        let mut state = self.0.lock();
        state.slot(id).filter(|slot| slot.count > 0 && !slot.reported)?;
        let key = state.ids.iter().find(|(_, named)| *named == id)?.0.clone_ref(py);
        state.slot_mut(id)?.reported = true;
        Some(key)
    }

    /// The keys whose failure to be serialised has been reported.
    pub(crate) fn reported(&self, py: Python<'_>) -> Vec<Key> {
        let state = self.0.lock();
        let reported = |id: Id| state.slot(id).is_some_and(|slot| slot.reported);
        state.ids.iter().filter(|(_, id)| reported(*id)).map(|(key, _)| key.clone_ref(py)).collect()
    }

    /// The object of the value `id` is in fast memory, at `address`.
    pub(crate) fn arrived(&self, id: Id, address: usize) {
        self.0.lock().arrived(id, address);
    }

    /// A reference to the object of the value `id` is given up.
    pub(crate) fn left(&self, id: Id, address: usize) {
        let mut state = self.0.lock();
        if let Some(slot) = state.slot_mut(id).filter(|slot| slot.address == address) {
            slot.holders = slot.holders.saturating_sub(1);
            if slot.holders == 0 {
                slot.address = 0;
            }
        }
    }
}
