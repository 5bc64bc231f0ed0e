//! The exact least-recently-used order.

use std::collections::BTreeMap;

use super::Op;

/// The exact order of a buffer that spills in the caller and whose storage never fails: which keys are in
/// fast memory after each call.
///
/// The rules are zict's `Buffer` over its `LRU`: pairs are evicted, least recently used first, while the
/// total weight and `offset` together are *more* than `target` (PARITY Z02). A pair that is itself heavier
/// than the target when it comes in is evicted before all others, so that it displaces nothing, and one that
/// is read from storage stays there (Z03, Z11). Inserting and getting use a key; peeking and asking for
/// presence do not. A new target or offset evicts nothing by itself (Z05).
#[derive(Clone, Debug)]
pub struct ModelLru {
    target: u64,
    offset: u64,
    fast: Vec<Fast>,
    slow: BTreeMap<u64, u64>,
}

#[derive(Clone, Debug)]
struct Fast {
    key: u64,
    weight: u64,
    heavy: bool,
}

impl ModelLru {
    /// An empty order with this target, in the weigher's unit, and no offset.
    #[must_use]
    pub fn new(target: u64) -> Self {
        ModelLru { target, offset: 0, fast: Vec::new(), slow: BTreeMap::new() }
    }

    /// Changes the target. Nothing is evicted until the next insert or promotion.
    pub fn set_target(&mut self, target: u64) {
        self.target = target;
    }

    /// Changes the weight that counts beside the pairs' own. Nothing is evicted until the next insert or
    /// promotion.
    pub fn set_offset(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The keys in fast memory, least recently used first.
    #[must_use]
    pub fn fast_keys(&self) -> Vec<u64> {
        self.fast.iter().map(|pair| pair.key).collect()
    }

    /// The keys in slow memory only, in ascending order.
    #[must_use]
    pub fn slow_keys(&self) -> Vec<u64> {
        self.slow.keys().copied().collect()
    }

    /// The weight of the pairs in fast memory, without the offset.
    #[must_use]
    pub fn fast_weight(&self) -> u64 {
        self.fast.iter().map(|pair| pair.weight).sum()
    }

    /// What [`Op`] does to the order; `weigh` gives the weight of a key and a value.
    pub fn step(&mut self, op: &Op, weigh: impl Fn(u64, u64) -> u64) {
        match op {
            Op::Get(key) => self.get(*key),
            Op::Insert(key, value) => self.insert(*key, weigh(*key, *value)),
            Op::Remove(key) | Op::Take(key) => self.remove(*key),
            Op::GetMany(keys) => keys.iter().for_each(|key| self.get(*key)),
            Op::InsertMany(pairs) => {
                pairs.iter().for_each(|(key, value)| self.insert(*key, weigh(*key, *value)));
            }
            Op::RemoveMany(keys) => keys.iter().for_each(|key| self.remove(*key)),
            Op::Clear => {
                self.fast.clear();
                self.slow.clear();
            }
            Op::Peek(_) | Op::ContainsKey(_) | Op::Len | Op::Keys | Op::Flush => {}
        }
    }

    /// The key comes into fast memory as the most recently used one, and others make room.
    pub fn insert(&mut self, key: u64, weight: u64) {
        self.insert_without_evicting(key, weight);
        self.make_room(self.target);
    }

    /// As [`insert`](ModelLru::insert), and nothing makes room (Z07).
    pub fn insert_without_evicting(&mut self, key: u64, weight: u64) {
        self.remove(key);
        self.fast.push(Fast { key, weight, heavy: weight > self.target });
    }

    /// The key is used, and promoted where it is in slow memory and not heavier than the target.
    pub fn get(&mut self, key: u64) {
        if let Some(at) = self.fast.iter().position(|pair| pair.key == key) {
            let pair = self.fast.remove(at);
            self.fast.push(pair);
        } else if let Some(weight) = self.slow.get(&key).copied().filter(|weight| *weight <= self.target) {
            self.insert(key, weight);
        }
    }

    /// The key is removed from wherever it is.
    pub fn remove(&mut self, key: u64) {
        self.fast.retain(|pair| pair.key != key);
        self.slow.remove(&key);
    }

    /// One pair goes to slow memory, the oldest heavy one before all others. Its key and weight, or `None`
    /// where fast memory is empty.
    pub fn evict(&mut self) -> Option<(u64, u64)> {
        let at = self.fast.iter().position(|pair| pair.heavy).unwrap_or(0);
        if at >= self.fast.len() {
            return None;
        }
        let pair = self.fast.remove(at);
        self.slow.insert(pair.key, pair.weight);
        Some((pair.key, pair.weight))
    }

    /// Evicts while weight and offset are together more than `target`; with 0, everything goes, also what
    /// weighs nothing.
    pub fn evict_until_below(&mut self, target: u64) {
        self.make_room(target);
        while target == 0 && self.evict().is_some() {}
    }

    fn make_room(&mut self, target: u64) {
        while self.fast_weight().saturating_add(self.offset) > target && self.evict().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lru(target: u64, pairs: &[(u64, u64)]) -> ModelLru {
        let mut lru = ModelLru::new(target);
        pairs.iter().for_each(|(key, weight)| lru.insert(*key, *weight));
        lru
    }

    #[test]
    fn exactly_at_the_target_nothing_is_evicted() {
        let mut lru = lru(10, &[(1, 5), (2, 5)]);
        assert_eq!(lru.fast_keys(), [1, 2]);
        lru.insert(3, 1);
        assert_eq!(lru.fast_keys(), [2, 3]);
        assert_eq!(lru.slow_keys(), [1]);
    }

    #[test]
    fn a_heavy_pair_passes_through_without_displacing_others() {
        let mut lru = lru(10, &[(1, 5), (2, 5), (3, 11)]);
        assert_eq!(lru.fast_keys(), [1, 2]);
        lru.get(3);
        assert_eq!(lru.fast_keys(), [1, 2]);
        assert_eq!(lru.slow_keys(), [3]);
    }

    #[test]
    fn get_uses_and_promotes_but_peek_does_not() {
        let mut lru = lru(10, &[(1, 5), (2, 5)]);
        lru.step(&Op::Peek(1), |_, _| 0);
        lru.step(&Op::Get(1), |_, _| 0);
        assert_eq!(lru.fast_keys(), [2, 1]);
        lru.insert(3, 5);
        assert_eq!(lru.fast_keys(), [1, 3]);
        lru.get(2);
        assert_eq!(lru.fast_keys(), [3, 2]);
    }

    #[test]
    fn the_offset_counts_and_changing_it_evicts_nothing_by_itself() {
        let mut lru = lru(10, &[(1, 5), (2, 5)]);
        lru.set_offset(3);
        lru.set_target(8);
        assert_eq!(lru.fast_keys(), [1, 2]);
        lru.insert(3, 1);
        assert_eq!(lru.fast_keys(), [3]);
        lru.evict_until_below(0);
        assert!(lru.fast_keys().is_empty());
    }
}
