//! What can be answered at once, for callers that must not block: without storage and without waiting.
//!
//! Each of these either does the whole call, as `core.rs` would, or nothing.

use super::Buffer;
use super::core::{Hit, closed};
use super::memories::Below;
use super::slot::{CopyState, Slot};
use super::state::State;
use super::turns::Turn;
use crate::{Key, MutableMapping, Overflow, Result, Value};

/// What came of a call that was tried without storage and without waiting.
pub(crate) enum Attempt<T, B = ()> {
    /// It was done, with this answer.
    Done(T),
    /// It may block, and nothing was done.
    Blocks(B),
}

impl<K: Key, V: Value, S: MutableMapping<K, V>> Buffer<K, V, S> {
    /// `get` of a value in fast memory or an absent key.
    #[inline]
    pub(crate) fn try_get(&self, key: &K) -> Result<Attempt<Option<V>>> {
        match self.core.hit(key) {
            Hit::Value(value) => Ok(Attempt::Done(Some(value))),
            Hit::None(state) => self.try_get_beside(state, key),
        }
    }

    #[inline(never)]
    fn try_get_beside(&self, mut state: Turn<'_, State<K, V>>, key: &K) -> Result<Attempt<Option<V>>> {
        if state.closed {
            return Err(closed());
        }
        if let Some(value) = state.hit(key) {
            return Ok(Attempt::Done(Some(value)));
        }
        drop(state);
        Ok(self.absent(key))
    }

    /// `peek` at a value in fast memory or an absent key.
    pub(crate) fn try_peek(&self, key: &K) -> Result<Attempt<Option<V>>> {
        let state = self.core.open()?;
        if let Some(i) = state.table.find(key)
            && let Some(value) = &state.table[i].value
        {
            return Ok(Attempt::Done(Some(value.clone())));
        }
        drop(state);
        Ok(self.absent(key))
    }

    fn absent(&self, key: &K) -> Attempt<Option<V>> {
        if self.contains_key(key) { Attempt::Blocks(()) } else { Attempt::Done(None) }
    }

    /// The values of all `keys`, if all are in fast memory; else none of them counts as used.
    pub(crate) fn try_get_all(&self, keys: &[K]) -> Result<Attempt<Vec<V>>> {
        let mut state = self.core.open()?;
        let found: Option<Vec<(u32, V)>> = keys
            .iter()
            .map(|key| {
                let i = state.table.find(key)?;
                Some((i, state.table[i].value.clone()?))
            })
            .collect();
        let Some(found) = found else { return Ok(Attempt::Blocks(())) };
        let touched = found.into_iter().map(|(i, value)| {
            state.table.touch(i);
            state.counts.hits += 1;
            value
        });
        Ok(Attempt::Done(touched.collect()))
    }

    /// `insert` where that evicts nothing, waits for no room and leaves no old copy to remove.
    pub(crate) fn try_insert(&self, key: K, value: V) -> Result<Attempt<(), (K, V)>> {
        let core = &*self.core;
        let weight = core.weigh(&key, &value)?;
        let mut state = core.open()?;
        let found = state.table.find(&key);
        let (at_once, was_present, old) = match found {
            Some(i) => {
                let slot = &state.table[i];
                let old = if slot.value.is_some() { slot.weight } else { 0 };
                (leaves_no_copy(slot), slot.present(), old)
            }
            None => (!core.below.slow().contains_key(&key), false, 0),
        };
        // up to here neither the caller nor anybody on its behalf has to evict
        let limit = match core.ceiling {
            Some(ceiling) if core.overflow != Overflow::Reject => ceiling,
            _ => state.target,
        };
        let fits = weight <= limit && !state.above((limit - weight).saturating_add(old));
        if !at_once || !fits {
            return Ok(Attempt::Blocks((key, value)));
        }
        let i = found.unwrap_or_else(|| state.open(key, CopyState::Absent));
        let (old, ended) = state.write(&core.below, i, Some((value, weight)), was_present);
        let shrink = core.is_full(&state);
        drop(state);
        drop((old, ended));
        if shrink {
            core.work.notify_all();
        }
        Ok(Attempt::Done(()))
    }

    /// `take` of a value in fast memory that leaves no copy to remove, or of an absent key.
    pub(crate) fn try_take(&self, key: &K) -> Result<Attempt<Option<V>>> {
        let mut state = self.core.open()?;
        let Some(i) = state.table.find(key) else {
            let slow = self.core.below.slow().contains_key(key);
            return Ok(if slow { Attempt::Blocks(()) } else { Attempt::Done(None) });
        };
        let slot = &state.table[i];
        if !slot.present() {
            return Ok(Attempt::Done(None));
        }
        if slot.value.is_none() || !leaves_no_copy(slot) {
            return Ok(Attempt::Blocks(()));
        }
        let (old, ended) = state.write(&self.core.below, i, None, true);
        drop(state);
        drop(ended);
        Ok(Attempt::Done(old))
    }

    /// Whether fast memory weighs at most `target`, so that there is nothing to evict.
    pub(crate) fn is_below(&self, target: u64) -> bool {
        let state = self.core.state.lock();
        if target == 0 { state.fast_count == 0 } else { !state.above(target) }
    }
}

/// Whether a write to this slot has no slow copy to remove afterwards; the owner of a flight sees to it.
fn leaves_no_copy<V>(slot: &Slot<V>) -> bool {
    slot.flight.is_some() || slot.slow == CopyState::Absent
}
