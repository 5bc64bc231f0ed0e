//! A set of slots that something is being done about: every spill enters and leaves it.

use hashbrown::HashTable;

#[derive(Debug, Default)]
pub(super) struct Flying(HashTable<u32>);

/// Slots are numbered from 1 on, so that any factor spreads them; the same in every run, for the schedules.
fn hash(slot: &u32) -> u64 {
    u64::from(*slot).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Flying {
    /// Takes `slot` in, unless it is there.
    pub(super) fn insert(&mut self, slot: u32) {
        self.0.entry(hash(&slot), |&other| other == slot, hash).or_insert(slot);
    }

    pub(super) fn remove(&mut self, slot: u32) {
        if let Ok(found) = self.0.find_entry(hash(&slot), |&other| other == slot) {
            _ = found.remove();
        }
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }
}
