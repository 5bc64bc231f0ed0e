//! Which keys are hot: what those change who have the state.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::HashMap;

use super::{CALM, Entry, Hot, MOST, shard_of};
use crate::buffer::state::State;
use crate::buffer::turns::Leaves;
use crate::{Key, Value};

/// Which slots are hot; for whoever has the state.
#[derive(Debug)]
pub(in crate::buffer) struct Heated<K, V> {
    hot: Arc<Hot<K, V>>,
    slots: HashMap<u32, Heat>,
    /// Places in [`Uses`](super::uses::Uses) that were given back; all from the count of both on are free too.
    free: Vec<u32>,
    /// Hits since one had to wait.
    calm: u32,
    /// What was hot in this turn and is not any more.
    cooled: Vec<Entry<K, V>>,
}

/// What is known of a hot slot.
#[derive(Debug)]
struct Heat {
    /// The hash of its key.
    hash: u64,
    /// Where in [`Uses`](super::uses::Uses) its last use is.
    place: u32,
    /// The stamp of the last use that the order of eviction has learnt of.
    learnt: u64,
}

impl<K, V> Heated<K, V> {
    pub(in crate::buffer) fn new(hot: Hot<K, V>) -> Self {
        Heated { hot: Arc::new(hot), slots: HashMap::new(), free: Vec::new(), calm: 0, cooled: Vec::new() }
    }

    /// The hot keys, for those who do not have the state.
    pub(in crate::buffer) fn hot(&self) -> &Arc<Hot<K, V>> {
        &self.hot
    }

    /// Whether any is.
    pub(in crate::buffer) fn any(&self) -> bool {
        !self.slots.is_empty()
    }

    pub(in crate::buffer) fn has(&self, i: u32) -> bool {
        self.slots.contains_key(&i)
    }

    /// Whether `i` is hot, and there was a use that the order of eviction has not learnt of.
    pub(in crate::buffer) fn is_used(&self, i: u32) -> bool {
        self.slots.get(&i).is_some_and(|heat| self.hot.uses.last(heat.place) != heat.learnt)
    }

    /// The uses that the order of eviction has not learnt of: stamps and slots. A hit that is under way may be missed; a
    /// value that such a one gets may be evicted as if it came later.
    pub(in crate::buffer) fn take_uses(&mut self) -> Vec<(u64, u32)> {
        let mut uses = Vec::new();
        for (&i, heat) in &mut self.slots {
            let last = self.hot.uses.last(heat.place);
            if last != heat.learnt {
                heat.learnt = last;
                uses.push((last, i));
            }
        }
        uses
    }

    /// The value of `i` may change: it is not hot any more. Gives back the stamp of the last use, as
    /// [`take_uses`](Self::take_uses) would.
    pub(in crate::buffer) fn cool(&mut self, i: u32) -> Option<u64> {
        let Heat { hash, place, learnt } = self.slots.remove(&i)?;
        if !self.any() {
            self.hot.any.store(false, Relaxed);
        }
        let entry = {
            // waits for a hit that is under way
            let mut entries = self.hot.shards().get(shard_of(hash))?.0.lock();
            entries.table.find_entry(hash, |entry| entry.slot == i).ok().map(|found| found.remove().0)
        };
        self.cooled.extend(entry);
        let last = self.hot.uses.last(place);
        self.free.push(place);
        (last != learnt).then_some(last)
    }

    /// Nothing is hot any more. Gives back what [`take_uses`](Self::take_uses) would.
    pub(in crate::buffer) fn cool_all(&mut self) -> Vec<(u64, u32)> {
        let slots: Vec<u32> = self.slots.keys().copied().collect();
        slots.into_iter().filter_map(|i| self.cool(i).map(|used| (used, i))).collect()
    }

    /// Notes a hit that did not have to wait for the state, while some keys are hot. Whether there were so many that
    /// nothing need be.
    pub(in crate::buffer) fn is_calm(&mut self) -> bool {
        self.calm += 1;
        self.calm >= CALM
    }
}

impl<K: Key, V: Value> Heated<K, V> {
    /// What the slot `i` is hot by, if it can be made so.
    fn entry(&mut self, i: u32, key: &K, value: &V) -> Option<Entry<K, V>> {
        self.calm = 0;
        if self.has(i) || self.slots.len() == MOST {
            return None;
        }
        let hash = self.hot.hasher.hash_one(key);
        let (key, value) = (key.clone(), value.clone());
        // last: a key's or a value's code may panic before
        let place = self.free.pop().unwrap_or(self.slots.len() as u32);
        Some(Entry { key, value, hash, slot: i, place })
    }

    fn add(&mut self, entry: Entry<K, V>) {
        self.hot.uses.begin(entry.place);
        let heat = Heat { hash: entry.hash, place: entry.place, learnt: 0 };
        self.slots.insert(entry.slot, heat);
        let shard = &self.hot.shards_to_heat()[shard_of(entry.hash)];
        shard.0.lock().table.insert_unique(entry.hash, entry, |entry| entry.hash);
        self.hot.any.store(true, Relaxed);
    }
}

impl<K, V> Leaves for State<K, V> {
    type Left = Vec<Entry<K, V>>;

    #[inline(always)]
    fn take_left(&mut self) -> Option<Self::Left> {
        let cooled = &mut self.heated.cooled;
        if cooled.is_empty() { None } else { Some(std::mem::take(cooled)) }
    }
}

impl<K: Key, V: Value> State<K, V> {
    /// The value of the slot `i`, which is hot, may change.
    #[cold]
    pub(in crate::buffer) fn cool(&mut self, i: u32) {
        if let Some(used) = self.heated.cool(i) {
            self.table.count_late(vec![(used, i)]);
        }
        self.table.share_stamps(self.heated.any());
    }

    /// Nothing is hot any more.
    pub(in crate::buffer) fn cool_all(&mut self) {
        let uses = self.heated.cool_all();
        self.table.count_late(uses);
        self.table.share_stamps(false);
    }

    /// A hit of `key`, which has this value, found that another thread had the state, or some keys are hot.
    #[cold]
    pub(in crate::buffer) fn temper(&mut self, key: &K, value: &V, waited: bool) {
        if waited {
            let entry = self.table.find(key).and_then(|i| self.heated.entry(i, key, value));
            if let Some(entry) = entry {
                self.table.share_stamps(true);
                self.heated.add(entry);
            }
        } else if self.heated.is_calm() {
            self.cool_all();
        }
    }

    /// Counts the uses of hot values in the order of eviction.
    pub(in crate::buffer) fn count_late(&mut self) {
        let uses = self.heated.take_uses();
        self.table.count_late(uses);
    }
}
