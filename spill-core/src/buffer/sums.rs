//! What is held where: the copies that are not a value's only one, and the keys of a walk.

use super::copies::Copies;
use super::memories::Below;
use super::slot::{CopyState, Memory};
use super::state::State;
use crate::{Key, MutableMapping, SpilledSize, Value};

impl<K: Key, V: Value> State<K, V> {
    /// Keeps the lists of copies true after the slot's copies or value changed.
    pub(super) fn track_copies<B: Below<K, V>>(&mut self, below: &B, i: u32) {
        self.track(below, Memory::Slow, i);
        if B::STORED {
            self.track(below, Memory::Fast, i);
        }
    }

    fn track<B: Below<K, V>>(&mut self, below: &B, memory: Memory, i: u32) {
        let (key, slot) = (self.table.key(i), &self.table[i]);
        let copies = match memory {
            Memory::Fast => &mut self.fast_copies,
            Memory::Slow => &mut self.slow_copies,
        };
        if !slot.is_beside(memory) {
            copies.forget(i);
        } else if !copies.has(i) {
            copies.note(i, below.stored_size(memory, key));
        }
    }

    /// What storage has as the only copy of a value.
    pub(super) fn spilled<B: Below<K, V>>(&self, below: &B) -> SpilledSize {
        let slow = self.spilled_to(below, Memory::Slow);
        if B::STORED { slow + self.spilled_to(below, Memory::Fast) } else { slow }
    }

    /// What `memory` has as the only copy of a value.
    pub(super) fn spilled_to<B: Below<K, V>>(&self, below: &B, memory: Memory) -> SpilledSize {
        let mut held = below.spilled(memory);
        // what storage does in this moment must be seen in both or in neither
        for _ in 0..8 {
            let copies = if held == SpilledSize::default() { held } else { self.copies(below, memory) };
            let again = below.spilled(memory);
            if again == held {
                return held - copies;
            }
            held = again;
        }
        held - self.copies(below, memory)
    }

    /// What `memory` has for keys whose value is elsewhere too, or that are gone.
    fn copies<B: Below<K, V>>(&self, below: &B, memory: Memory) -> SpilledSize {
        let copies: &Copies = match memory {
            Memory::Fast => &self.fast_copies,
            Memory::Slow => &self.slow_copies,
        };
        let changing: Vec<u32> = self.flying.iter().filter(|&i| self.table[i].changes(memory)).collect();
        copies.total(&changing, |i| below.stored_size(memory, self.table.key(i)))
    }

    /// What storage holds for `key`, where that is its only copy.
    pub(super) fn stored_size<B: Below<K, V>>(&self, below: &B, key: &K) -> Option<SpilledSize> {
        let Some(i) = self.table.find(key) else { return below.slow().stored_size(key) };
        let slot = &self.table[i];
        let source = slot.source();
        let only_copy = slot.value.is_none() && slot.copy(source) == CopyState::Clean;
        if only_copy { below.stored_size(source, key) } else { None }
    }

    /// Keys in fast memory, the most recently used first.
    pub(super) fn fast_keys(&mut self) -> Vec<K> {
        self.count_late();
        let mut keys: Vec<_> = self
            .table
            .iter()
            .filter(|(_, _, slot)| slot.in_fast())
            .map(|(i, key, _)| (self.table.stamp(i), key.clone()))
            .collect();
        keys.sort_unstable_by_key(|&(stamp, _)| std::cmp::Reverse(stamp));
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// A walk over the keys begins: those present in the table.
    pub(super) fn begin_walk(&mut self) -> Vec<K> {
        self.walks += 1;
        self.table.iter().filter(|(.., slot)| slot.present()).map(|(_, key, _)| key.clone()).collect()
    }

    /// The walk has read slow memory's keys: those that moved to fast memory meanwhile.
    pub(super) fn end_walk(&mut self) -> Vec<K> {
        let journal = self.journal.clone();
        self.walks -= 1;
        if self.walks == 0 {
            self.journal = Vec::new();
        }
        journal
    }
}
