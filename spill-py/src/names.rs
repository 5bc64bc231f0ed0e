//! Names of values: which key means which value, so that one object under several keys is one value.
//!
//! Each value that comes in gets a number, under which the buffer and storage hold it; a key is a name of it.
//! Setting a key to an object that is in fast memory already gives that object one more name. A number is never
//! used twice, so what is said of one value is never taken for another.
//!
//! A key changes hands in one moment, under the lock here, before or after which the buffer is called and never
//! during it. So a reader sees the old value or the new one; one who finds a value gone asks again.

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::key::Key;

/// The number of a value.
pub(crate) type Id = u64;

/// All names of one buffer.
#[derive(Default)]
pub(crate) struct Names(Mutex<State>);

#[derive(Default)]
struct State {
    last: Id,
    ids: HashMap<Key, Id>,
    named: HashMap<Id, Named>,
    /// Where objects in fast memory are, and the numbers of their values.
    objects: HashMap<usize, Id>,
}

/// What is known of a value.
struct Named {
    /// Some key that names it, or will.
    key: Key,
    /// How many do.
    count: usize,
    /// That it could not be serialised has been said.
    reported: bool,
}

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
    fn unname(&mut self, id: Id) -> Removed {
        let Some(named) = self.named.get_mut(&id) else { return Removed::Nothing };
        named.count = named.count.saturating_sub(1);
        if named.count > 0 {
            return Removed::Kept;
        }
        self.named.remove(&id);
        Removed::Value(id)
    }

    fn link(&mut self, key: &Key, id: Id) -> Removed {
        if let Some(named) = self.named.get_mut(&id) {
            named.count += 1;
        }
        match self.ids.insert(key.clone(), id) {
            Some(old) => self.unname(old),
            None => Removed::Nothing,
        }
    }
}

impl Names {
    /// Begins to set `key` to the object at `address`.
    pub(crate) fn begin(&self, key: &Key, address: usize) -> Begun {
        let mut state = self.0.lock();
        if let Some(&id) = state.objects.get(&address)
            && state.named.get(&id).is_some_and(|named| named.count > 0)
            && state.ids.get(key) != Some(&id)
        {
            return Begun::Shared(state.link(key, id));
        }
        state.last += 1;
        let id = state.last;
        state.named.insert(id, Named { key: key.clone(), count: 0, reported: false });
        state.objects.insert(address, id);
        Begun::New(id)
    }

    /// The value `id` is in the buffer: `key` names it from now on.
    pub(crate) fn link(&self, key: &Key, id: Id) -> Removed {
        self.0.lock().link(key, id)
    }

    /// The value `id`, which no key names yet, did not get into the buffer.
    pub(crate) fn give_up(&self, id: Id) {
        self.0.lock().named.remove(&id);
    }

    /// Takes `key` away.
    pub(crate) fn unlink(&self, key: &Key) -> Removed {
        let mut state = self.0.lock();
        match state.ids.remove(key) {
            Some(id) => state.unname(id),
            None => Removed::Nothing,
        }
    }

    /// Takes `key` away if it names the value `id` still.
    pub(crate) fn unlink_from(&self, key: &Key, id: Id) -> Removed {
        let mut state = self.0.lock();
        if state.ids.get(key) != Some(&id) {
            return Removed::Nothing;
        }
        state.ids.remove(key);
        state.unname(id)
    }

    /// The number of the value of `key`.
    #[inline]
    pub(crate) fn id(&self, key: &Key) -> Option<Id> {
        self.0.lock().ids.get(key).copied()
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().ids.len()
    }

    /// All keys with the numbers of their values, in the order in which the values came.
    pub(crate) fn all(&self) -> Vec<(Key, Id)> {
        let mut all: Vec<_> = self.0.lock().ids.iter().map(|(key, id)| (key.clone(), *id)).collect();
        all.sort_unstable_by_key(|(_, id)| *id);
        all
    }

    /// A key of the value `id`, and whether no failure to serialise it was reported before; `pickling`: one is now.
    pub(crate) fn report(&self, id: Id, pickling: bool) -> Option<(Key, bool)> {
        let mut state = self.0.lock();
        let named = state.named.get_mut(&id)?;
        let first = !named.reported;
        named.reported |= pickling;
        Some((named.key.clone(), first))
    }

    /// The keys whose failure to be serialised has been reported.
    pub(crate) fn reported(&self) -> Vec<Key> {
        let state = self.0.lock();
        let reported = |id: &Id| state.named.get(id).is_some_and(|named| named.reported);
        state.ids.iter().filter(|(_, id)| reported(id)).map(|(key, _)| key.clone()).collect()
    }

    /// The object of the value `id` is in fast memory, at `address`.
    pub(crate) fn arrived(&self, id: Id, address: usize) {
        let mut state = self.0.lock();
        if state.named.contains_key(&id) {
            state.objects.insert(address, id);
        }
    }

    /// The object of the value `id` is about to leave.
    pub(crate) fn left(&self, id: Id, address: usize) {
        let mut state = self.0.lock();
        if state.objects.get(&address) == Some(&id) {
            state.objects.remove(&address);
        }
    }
}
