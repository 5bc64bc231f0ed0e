//! Slow copies beside a fast value or of no value: not the only copy, so not counted as spilled (promise 3).

use std::collections::BTreeSet;

use hashbrown::HashMap;

use crate::SpilledSize;

/// The sizes of such copies by slot, and their sum.
#[derive(Debug, Default)]
pub(super) struct Copies {
    of: HashMap<u32, Option<SpilledSize>>,
    sum: SpilledSize,
    /// Those that had no size when they were noted: a level below may move them to its storage later.
    without_size: BTreeSet<u32>,
}

impl Copies {
    pub(super) fn has(&self, slot: u32) -> bool {
        self.of.contains_key(&slot)
    }

    /// Notes the copy of a slot that has none noted.
    pub(super) fn note(&mut self, slot: u32, size: Option<SpilledSize>) {
        self.of.insert(slot, size);
        match size {
            Some(size) => self.sum += size,
            None => _ = self.without_size.insert(slot),
        }
    }

    pub(super) fn forget(&mut self, slot: u32) {
        if !self.of.is_empty()
            && let Some(size) = self.of.remove(&slot)
        {
            match size {
                Some(size) => self.sum -= size,
                None => _ = self.without_size.remove(&slot),
            }
        }
    }

    /// The slots that have one.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        self.of.keys().copied()
    }

    /// What all copies take; `ask` tells the size of those that had none, and of those `changing` right now.
    pub(super) fn total(&self, changing: &[u32], ask: impl Fn(u32) -> Option<SpilledSize>) -> SpilledSize {
        let noted = changing.iter().filter_map(|i| *self.of.get(i)?).fold(self.sum, |sum, size| sum - size);
        let asked = self.without_size.iter().filter(|i| !changing.contains(i)).chain(changing);
        asked.filter_map(|&i| ask(i)).fold(noted, |sum, size| sum + size)
    }
}
