//! Slots that something is to be done about later, each with a weight, a few at a time and each in its turn.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

#[derive(Debug, Default)]
pub(super) struct Rotation {
    of: BTreeMap<u32, u64>,
    sum: u64,
    /// The slot whose turn it was last.
    last: u32,
}

impl Rotation {
    /// What all of them weigh.
    pub(super) fn weight(&self) -> u64 {
        self.sum
    }

    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Takes `slot` in, or gives it another weight.
    pub(super) fn note(&mut self, slot: u32, weight: u64) {
        self.forget(slot);
        self.of.insert(slot, weight);
        self.sum += weight;
    }

    #[inline]
    pub(super) fn forget(&mut self, slot: u32) {
        if !self.of.is_empty()
            && let Some(weight) = self.of.remove(&slot)
        {
            self.sum -= weight;
        }
    }

    /// The next few; their turn comes again after that of all others.
    pub(super) fn next(&mut self, most: usize) -> Vec<u32> {
        let after = self.of.range((Excluded(self.last), Unbounded)).map(|(&slot, _)| slot);
        let before = self.of.range(..=self.last).map(|(&slot, _)| slot);
        let next: Vec<u32> = after.chain(before).take(most).collect();
        self.last = next.last().copied().unwrap_or(0);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_turn_and_the_weight_is_that_of_those_noted() {
        let mut rotation = Rotation::default();
        [(1, 10), (5, 20), (9, 30), (5, 21)]
            .into_iter()
            .for_each(|(slot, weight)| rotation.note(slot, weight));
        assert_eq!((rotation.weight(), rotation.len()), (61, 3));
        assert_eq!(rotation.next(2), [1, 5]);
        assert_eq!(rotation.next(2), [9, 1]);
        rotation.forget(5);
        rotation.forget(7);
        assert_eq!((rotation.next(5), rotation.weight()), (vec![9, 1], 40));
    }
}
