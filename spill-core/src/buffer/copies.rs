//! Slow copies beside a fast value or of no value: not the only copy, so not counted as spilled (promise 3).

use std::collections::BTreeSet;

use crate::SpilledSize;

/// The sizes of such copies by slot, and their sum.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// By slot, as far as one ever had a copy, as the slots themselves are kept: every value read back has one, and
    /// looking them up by hash would be a part of a read that shows.
    of: Vec<Noted>,
    /// How many slots have one.
    count: usize,
    sum: SpilledSize,
    /// Those that had no size when they were noted: a level below may move them to its storage later.
    without_size: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Noted {
    #[default]
    Nothing,
    WithoutSize,
    Sized(SpilledSize),
}

impl Copies {
    pub(super) fn has(&self, slot: u32) -> bool {
        !matches!(self.noted(slot), Noted::Nothing)
    }

    fn noted(&self, slot: u32) -> Noted {
        self.of.get(slot as usize).copied().unwrap_or_default()
    }

    /// Notes the copy of a slot that has none noted.
    pub(super) fn note(&mut self, slot: u32, size: Option<SpilledSize>) {
        let at = slot as usize;
        if at >= self.of.len() {
            self.of.resize(at + 1, Noted::Nothing);
        }
        self.count += 1;
        self.of[at] = match size {
            Some(size) => {
                self.sum += size;
                Noted::Sized(size)
            }
            None => {
                self.without_size.insert(slot);
                Noted::WithoutSize
            }
        };
    }

    pub(super) fn forget(&mut self, slot: u32) {
        let Some(noted) = self.of.get_mut(slot as usize) else { return };
        match std::mem::take(noted) {
            Noted::Sized(size) => self.sum -= size,
            Noted::WithoutSize => _ = self.without_size.remove(&slot),
            Noted::Nothing => return,
        }
        self.count -= 1;
    }

    /// The slots that have one.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        let noted = (0..).zip(&self.of).filter(|(_, noted)| !matches!(noted, Noted::Nothing));
        noted.map(|(slot, _)| slot).take(self.count)
    }

    /// What all copies take; `ask` tells the size of those that had none, and of those `changing` right now.
    pub(super) fn total(&self, changing: &[u32], ask: impl Fn(u32) -> Option<SpilledSize>) -> SpilledSize {
        let noted = changing.iter().fold(self.sum, |sum, i| match self.noted(*i) {
            Noted::Sized(size) => sum - size,
            Noted::WithoutSize | Noted::Nothing => sum,
        });
        let asked = self.without_size.iter().filter(|i| !changing.contains(i)).chain(changing);
        asked.filter_map(|&i| ask(i)).fold(noted, |sum, size| sum + size)
    }
}
