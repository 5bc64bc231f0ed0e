//! Entries under stable indices, found by key, and a list by recency through those that may be evicted.
//!
//! A hit waits for the memory of the entry and of its neighbours in the list, and the less it does, the more of the
//! next hit the processor does meanwhile. So an entry and its links share a line of the cache, the list is closed to a
//! ring, and an index that comes from the key index or from the ring is not checked again: this module has the unsafe
//! code for it.

#![allow(unsafe_code, reason = "indices that were checked when they were stored")]

use std::hash::BuildHasher;
use std::ops::{Index, IndexMut};

use hashbrown::DefaultHashBuilder;

use super::stamps::{SharedStamps, Stamps};
use crate::ahead::fetch_behind;
use crate::{Key, Positions, fetch_ahead};

/// Where a slot stands in the order of eviction. Slots in flight or without a value stand nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Nowhere,
    Recent,
    Heavy,
    Deferred,
}

/// The place of the ring itself, before the most recently used and behind the least: no slot.
const RING: u32 = 0;

/// In place of `newer`, where a place stands that is not in the ring. All indices are below these.
const NOWHERE: u32 = u32::MAX;
const HEAVY: u32 = u32::MAX - 1;
const DEFERRED: u32 = u32::MAX - 2;

/// A key and what is kept for it.
#[derive(Debug)]
struct Entry<K, T> {
    key: K,
    item: T,
}

/// Aligned, so that a place of up to 64 bytes, as of a key of 24 and a pointer to the value, is one line of the
/// processor's cache.
#[derive(Debug)]
#[repr(align(64))]
struct Place<K, T> {
    entry: Option<Entry<K, T>>,
    /// Grows with each use, so that an order can be restored after a slot was away.
    stamp: u64,
    /// The next more recently used of the ring, or where else this one stands.
    newer: u32,
    older: u32,
}

/// The indices of slots begin with 1. Freed places are used again before new ones.
///
/// One flat vector: in chunks, growing would copy nothing, but each hit would wait for one pointer more.
#[derive(Debug)]
pub(super) struct Places<K, T> {
    /// Each of its indices has a place that is taken, whatever a key's `Hash` and `Eq` do.
    index: Positions,
    hasher: DefaultHashBuilder,
    /// Never gets shorter. `newer` and `older` of those in the ring are indices of others in it.
    places: Vec<Place<K, T>>,
    free: Vec<u32>,
    stamps: Stamps,
    /// `newer` of those in the ring is below this; 0 once that does not matter any more.
    in_ring: u32,
}

impl<K: Key, T> Places<K, T> {
    pub(super) fn new(stamps: SharedStamps) -> Self {
        Places {
            index: Positions::new(),
            hasher: DefaultHashBuilder::default(),
            places: vec![Place { entry: None, stamp: 0, newer: RING, older: RING }],
            free: Vec::new(),
            stamps: Stamps::new(stamps),
            in_ring: DEFERRED,
        }
    }

    /// From now on others draw stamps too, or not any more.
    pub(super) fn share_stamps(&mut self, share: bool) {
        self.stamps.share(share);
    }

    /// From now on nothing is a hit, and no use moves a slot in the ring.
    pub(super) fn close(&mut self) {
        self.in_ring = 0;
    }

    #[inline(always)]
    pub(super) fn find(&self, key: &K) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        // SAFETY: the index asks about what is in it.
        self.index.find(hash, |i| unsafe { self.indexed(i) }.key == *key)
    }

    /// What `look` finds in the item of `key`, if that stands in the ring; then it counts as a use. It is counted
    /// before the caller touches what was found: a clone may be an atomic instruction on memory far away, and what
    /// the processor has not begun to fetch by then waits behind it.
    #[inline(always)]
    pub(super) fn hit<R>(&mut self, key: &K, look: impl FnOnce(&T) -> Option<&R>) -> Option<&R> {
        let i = self.find(key)?;
        // SAFETY: `i` was found in the index, so that it has a place, which is taken; its entry is not written to by
        // what moves it.
        unsafe {
            let place = self.places.as_mut_ptr().add(i as usize);
            let entry = (*place).entry.as_ref().unwrap_unchecked();
            let found = look(&entry.item)?;
            self.move_to_front(i).then_some(found)
        }
    }

    /// # Safety
    /// `i` is in the index.
    #[inline(always)]
    unsafe fn indexed(&self, i: u32) -> &Entry<K, T> {
        // SAFETY: what is in the index has a place that is taken.
        unsafe { self.places.get_unchecked(i as usize).entry.as_ref().unwrap_unchecked() }
    }

    /// Counts a use of `i` if it is in the ring.
    #[inline]
    pub(super) fn touch(&mut self, i: u32) -> bool {
        assert!((i as usize) < self.places.len(), "no slot {i}");
        // SAFETY: as was just seen.
        unsafe { self.move_to_front(i) }
    }

    /// Gives `i` a new stamp, and the first place in the ring. Does nothing where it is not in the ring. It goes by
    /// pointers, and so leaves references to entries valid.
    ///
    /// # Safety
    /// There is a place `i`.
    #[inline(always)]
    unsafe fn move_to_front(&mut self, i: u32) -> bool {
        let at = self.places.as_mut_ptr();
        // SAFETY: `i` by the caller; where it is in the ring its neighbours are, and have places, and so has what is
        // newest.
        unsafe {
            let place = at.add(i as usize);
            let (newer, older) = ((*place).newer, (*place).older);
            if newer >= self.in_ring {
                return false;
            }
            (*place).stamp = self.stamps.next();
            (*at.add(newer as usize)).older = older;
            (*at.add(older as usize)).newer = newer;
            let newest = (*at).older;
            (*place).newer = RING;
            (*place).older = newest;
            (*at.add(newest as usize)).newer = i;
            (*at).older = i;
        }
        true
    }

    /// The stamp of what is used now.
    pub(super) fn next_stamp(&mut self) -> u64 {
        self.stamps.next()
    }

    /// Gives `i` this stamp, and leaves it where it is.
    pub(super) fn set_stamp(&mut self, i: u32, stamp: u64) {
        self.places[i as usize].stamp = stamp;
    }

    pub(super) fn stamp(&self, i: u32) -> u64 {
        self.places[i as usize].stamp
    }

    pub(super) fn standing(&self, i: u32) -> Standing {
        match self.places[i as usize].newer {
            NOWHERE => Standing::Nowhere,
            HEAVY => Standing::Heavy,
            DEFERRED => Standing::Deferred,
            _ => Standing::Recent,
        }
    }

    /// The least recently used of the ring.
    pub(super) fn oldest(&self) -> Option<u32> {
        let oldest = self.places[RING as usize].newer;
        (oldest != RING).then_some(oldest)
    }

    /// Asks the processor for the place of the least recently used.
    pub(super) fn fetch_oldest(&self) {
        if let Some(place) = self.oldest().and_then(|i| self.places.get(i as usize)) {
            fetch_ahead(place);
        }
    }

    /// Asks the processor for what it takes to remove the least recently used, once its place is at hand.
    pub(super) fn fetch_behind_oldest(&self) {
        if let Some(i) = self.oldest() {
            let entry = taken(&self.places, i);
            fetch_behind(&entry.item);
            self.index.fetch_ahead(self.hasher.hash_one(&entry.key));
        }
    }

    /// Puts `i`, which is not in the ring, where its stamp belongs. Nearly always that is the front.
    pub(super) fn place(&mut self, i: u32) {
        self.place_behind(RING, i);
    }

    /// The same, behind `newer`, which is the ring itself or younger. Gives back `i`.
    fn place_behind(&mut self, mut newer: u32, i: u32) -> u32 {
        let stamp = self.stamp(i);
        let mut older = self.places[newer as usize].older;
        while older != RING && self.stamp(older) > stamp {
            newer = older;
            older = self.places[older as usize].older;
        }
        let place = &mut self.places[i as usize];
        (place.newer, place.older) = (newer, older);
        self.places[newer as usize].older = i;
        self.places[older as usize].newer = i;
        i
    }

    /// Gives slots of the ring the stamps of uses that were not counted when they were made, the latest first, and the
    /// places that belong to them. All that is younger than one of them is passed, once.
    pub(super) fn count_late(&mut self, uses: &[(u64, u32)]) {
        let mut newer = RING;
        for &(stamp, i) in uses {
            if self.standing(i) != Standing::Recent || self.stamp(i) >= stamp {
                continue;
            }
            self.set_aside(i, Standing::Nowhere);
            self.set_stamp(i, stamp);
            newer = self.place_behind(newer, i);
        }
    }

    /// Takes `i` out of the ring, if it is there, to stand at `standing`, which is beside it.
    pub(super) fn set_aside(&mut self, i: u32, standing: Standing) {
        if self.standing(i) == Standing::Recent {
            let Place { newer, older, .. } = self.places[i as usize];
            self.places[newer as usize].older = older;
            self.places[older as usize].newer = newer;
        }
        self.places[i as usize].newer = match standing {
            Standing::Heavy => HEAVY,
            Standing::Deferred => DEFERRED,
            Standing::Nowhere | Standing::Recent => NOWHERE,
        };
    }

    /// Adds `key`, which must be absent, as the most recently used; it stands nowhere yet.
    ///
    /// # Panics
    /// With 2^32 - 3 keys.
    pub(super) fn insert(&mut self, key: K, item: T) -> u32 {
        let hash = self.hasher.hash_one(&key);
        let Places { index, hasher, places, .. } = self;
        // before a place is taken: a key's `Hash` may panic
        index.reserve(|i| hasher.hash_one(&taken(places, i).key));
        let (entry, stamp) = (Some(Entry { key, item }), self.stamps.next());
        let place = Place { entry, stamp, newer: NOWHERE, older: RING };
        let i = match self.free.pop() {
            Some(i) => {
                self.places[i as usize] = place;
                i
            }
            None => {
                let i = self.places.len();
                assert!(i < DEFERRED as usize, "{i} keys in RAM, whose places alone take 256 GiB");
                self.places.push(place);
                i as u32
            }
        };
        let Places { index, hasher, places, .. } = self;
        index.insert(hash, i, |i| hasher.hash_one(&taken(places, i).key));
        i
    }

    /// Frees the place `i`, which is not in the ring any more.
    pub(super) fn remove(&mut self, i: u32) -> Option<(K, T)> {
        debug_assert_ne!(self.standing(i), Standing::Recent);
        let hash = self.hasher.hash_one(&taken(&self.places, i).key);
        self.index.remove(hash, i);
        let Entry { key, item } = self.places[i as usize].entry.take()?;
        self.free.push(i);
        Some((key, item))
    }

    pub(super) fn key(&self, i: u32) -> &K {
        &taken(&self.places, i).key
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &K, &T)> {
        let entries = (0..).zip(&self.places).map(|(i, place)| (i, place.entry.as_ref()));
        entries.filter_map(|(i, entry)| entry.map(|entry| (i, &entry.key, &entry.item)))
    }
}

#[inline]
fn taken<K, T>(places: &[Place<K, T>], i: u32) -> &Entry<K, T> {
    match &places[i as usize].entry {
        Some(entry) => entry,
        None => unreachable!("an index outlived its slot"),
    }
}

impl<K, T> Index<u32> for Places<K, T> {
    type Output = T;
    #[inline]
    fn index(&self, i: u32) -> &T {
        &taken(&self.places, i).item
    }
}

impl<K, T> IndexMut<u32> for Places<K, T> {
    #[inline]
    fn index_mut(&mut self, i: u32) -> &mut T {
        match &mut self.places[i as usize].entry {
            Some(entry) => &mut entry.item,
            None => unreachable!("an index outlived its slot"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hash::{Hash, Hasher};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn indices_stay_and_places_are_used_again() {
        let mut places = Places::new(SharedStamps::default());
        let indices: Vec<u32> = (1..=10_000).map(|n| places.insert(n, n)).collect();
        assert_eq!(indices[0], 1, "0 stands for none");
        for &i in indices.iter().step_by(2) {
            assert_eq!(places.remove(i), Some((i, i)));
        }
        for n in 20_000..25_000 {
            assert!(places.insert(n, n) <= 10_000, "no new place while there are free ones");
        }
        for &i in indices.iter().skip(1).step_by(2) {
            assert_eq!((places.key(i), places[i]), (&i, i));
        }
        for n in 1..=25_000 {
            let found = places.find(&n).map(|i| (*places.key(i), places[i]));
            let there = (n <= 10_000 && n % 2 == 0) || (20_000..25_000).contains(&n);
            assert_eq!(found, there.then_some((n, n)));
        }
        assert_eq!(places.iter().count(), 10_000);
    }

    /// Keys below 64 have no hash then.
    const PANICS: u64 = u64::MAX;

    thread_local! {
        static SALT: Cell<u64> = const { Cell::new(0) };
    }

    /// Hashes as it is told to, so differently at different times.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Fickle(u64);

    impl Hash for Fickle {
        fn hash<H: Hasher>(&self, state: &mut H) {
            let salt = SALT.get();
            assert!(salt != PANICS || self.0 >= 64, "no hash");
            state.write_u64(if salt == PANICS { self.0 } else { self.0 ^ salt });
        }
    }

    #[test]
    fn a_key_whose_hash_changes_leaves_no_index_behind() {
        let mut places = Places::new(SharedStamps::default());
        let i = places.insert(Fickle(1), 1);
        SALT.set(2);
        assert_eq!(places.remove(i), Some((Fickle(1), 1)));
        SALT.set(0);
        assert_eq!(places.find(&Fickle(1)), None);
    }

    #[test]
    fn a_hash_that_panics_leaves_no_index_without_its_place() {
        let mut places = Places::new(SharedStamps::default());
        for n in 0..64 {
            places.insert(Fickle(n), n);
        }
        SALT.set(PANICS);
        let mut key = 64;
        let mut insert = || {
            key += 1;
            catch_unwind(AssertUnwindSafe(|| places.insert(Fickle(key - 1), key - 1)))
        };
        while insert().is_ok() {} // until the index grows, for which it hashes all keys
        assert!(catch_unwind(AssertUnwindSafe(|| places.remove(1))).is_err());
        SALT.set(0);
        assert_eq!(places.iter().count() as u64, key - 1, "no place was taken for the last");
        assert_eq!(places.find(&Fickle(key - 1)), None);
        assert!((0..key - 1).all(|n| places.find(&Fickle(n)).is_some_and(|i| places[i] == n)));
    }

    /// The indices of the ring from the least recently used to the most, read from both sides.
    fn order(places: &Places<u32, u32>) -> Vec<u32> {
        let walk = |step: fn(&Place<u32, u32>) -> u32| {
            let on = |&i: &u32| Some(step(&places.places[i as usize])).filter(|&i| i != RING);
            std::iter::successors(on(&RING), on).collect::<Vec<u32>>()
        };
        let mut back = walk(|place| place.older);
        back.reverse();
        assert_eq!(walk(|place| place.newer), back);
        assert_eq!(places.oldest(), back.first().copied());
        back
    }

    fn ring_of(slots: u32) -> Places<u32, u32> {
        let mut places = Places::new(SharedStamps::default());
        for n in 1..=slots {
            let i = places.insert(n, n * 10);
            places.place(i);
        }
        places
    }

    fn hit(places: &mut Places<u32, u32>, key: u32) -> Option<u32> {
        places.hit(&key, |item| Some(item)).copied()
    }

    #[test]
    fn a_use_moves_to_the_front_from_anywhere() {
        let mut places = ring_of(4);
        for (key, after) in [(1, [2, 3, 4, 1]), (1, [2, 3, 4, 1]), (3, [2, 4, 1, 3]), (2, [4, 1, 3, 2])] {
            assert_eq!(hit(&mut places, key), Some(key * 10));
            assert_eq!(order(&places), after);
        }
        assert!(places.touch(1));
        assert_eq!(order(&places), [4, 3, 2, 1]);
        assert_eq!(hit(&mut places, 5), None);
        assert!(places.hit(&4, |_| None::<&u32>).is_none(), "nothing found is no use");
        assert_eq!(order(&places), [4, 3, 2, 1]);
    }

    #[test]
    fn what_stands_beside_the_ring_keeps_its_place_by_stamp() {
        let mut places = ring_of(4);
        places.set_aside(2, Standing::Deferred);
        places.set_aside(4, Standing::Heavy);
        assert_eq!((places.standing(2), places.standing(4)), (Standing::Deferred, Standing::Heavy));
        assert_eq!(hit(&mut places, 4), None, "its use is for the caller to count");
        assert!(!places.touch(2));
        let stamp = places.next_stamp();
        places.set_stamp(4, stamp);
        assert_eq!(order(&places), [1, 3]);
        places.place(2);
        places.place(4);
        assert_eq!(order(&places), [1, 2, 3, 4]);
    }

    #[test]
    fn late_uses_get_the_places_of_their_stamps() {
        let mut places = ring_of(5); // with the stamps 1 to 5
        places.touch(5); // 6
        places.set_aside(4, Standing::Deferred);
        places.count_late(&[(9, 1), (7, 4), (6, 3), (5, 2)]);
        assert_eq!(order(&places), [2, 5, 3, 1]);
        places.count_late(&[(8, 1), (7, 2)]);
        assert_eq!((order(&places), places.stamp(1)), (vec![5, 3, 2, 1], 9), "no use makes one older");
    }

    #[test]
    fn a_ring_of_one_and_of_none() {
        let mut places = ring_of(1);
        assert!(places.touch(1));
        assert_eq!(order(&places), [1]);
        places.set_aside(1, Standing::Nowhere);
        assert_eq!(places.remove(1), Some((1, 10)));
        assert_eq!(order(&places), []);
        assert_eq!((places.insert(2, 20), hit(&mut places, 2)), (1, None));
        places.place(1);
        assert_eq!((order(&places), hit(&mut places, 2)), (vec![1], Some(20)));
    }

    #[test]
    fn nothing_is_a_hit_once_closed() {
        let mut places = ring_of(2);
        places.close();
        assert_eq!((hit(&mut places, 1), places.touch(1)), (None, false));
        assert_eq!(order(&places), [1, 2]);
    }

    #[test]
    #[should_panic(expected = "no slot 4")]
    fn a_use_of_a_slot_that_is_not_there_is_noticed() {
        ring_of(3).touch(4);
    }
}
