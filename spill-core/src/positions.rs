//! A hash table of 32-bit positions in an array that somebody else keeps.
//!
//! A table that is larger than the processor's cache waits for memory, so what a lookup needs is in one line of the
//! cache: a byte of the hash for each of twelve positions, the positions, and whether more of them are behind. The
//! form is that of F14 in Facebook's folly (Bronson and Shi, 2019); it needs no list of what was removed.

#![expect(
    unsafe_code,
    reason = "sixteen bytes are compared at once, slots that they tell are not checked again, and a byte is read anew"
)]

use crate::fetch_ahead;

/// Positions in a line.
const SLOTS: usize = 12;

/// Positions in a line on average when the table is full.
const FULL: usize = 10;

/// The slots of a line, as bits.
const ALL: u32 = (1 << SLOTS) - 1;

/// The byte of the head that counts what passed the line because it was full. It stays at 255.
const PASSED: usize = SLOTS;

/// Twelve positions. 64 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line {
    /// The tag of each slot, 0 where it is free; then [`PASSED`].
    head: [u8; 16],
    at: [u32; SLOTS],
}

const _: () = assert!(size_of::<Line>() == 64);

impl Line {
    const EMPTY: Line = Line { head: [0; 16], at: [0; SLOTS] };

    /// The slots with this tag, as bits.
    #[inline(always)]
    fn slots(&self, tag: u8) -> u32 {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_load_si128, _mm_movemask_epi8, _mm_set1_epi8};
            // SAFETY: every processor of this kind has these instructions. The head is of 16 bytes, and first in what is
            // aligned to 64.
            let same = unsafe {
                let head = _mm_load_si128(self.head.as_ptr().cast());
                _mm_movemask_epi8(_mm_cmpeq_epi8(head, _mm_set1_epi8(tag.cast_signed())))
            };
            same.cast_unsigned() & ALL
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let tags = self.head.iter().take(SLOTS).enumerate();
            tags.fold(0, |bits, (n, found)| bits | u32::from(*found == tag) << n)
        }
    }

    /// Whether something passed the line because it was full.
    ///
    /// The byte is read anew, hence volatile: otherwise the compiler may store the sixteen bytes that it has for the tags on
    /// the stack, and take the byte from there. Until they have come from memory that store is pending, and processors
    /// delay later reads from addresses with the same lowest twelve bits, so that the next hit cannot begin.
    #[inline(always)]
    fn is_passed(&self) -> bool {
        // SAFETY: the pointer is that of a reference: valid and aligned.
        unsafe { std::ptr::read_volatile(&raw const self.head[PASSED]) != 0 }
    }

    /// The slot with this tag whose position `is` the one, and the position.
    #[inline(always)]
    fn find(&self, tag: u8, is: &mut impl FnMut(u32) -> bool) -> Option<(usize, u32)> {
        let mut slots = self.slots(tag);
        while slots != 0 {
            let slot = slots.trailing_zeros() as usize;
            // SAFETY: no slot is beyond `ALL`.
            let at = unsafe { *self.at.get_unchecked(slot) };
            if is(at) {
                return Some((slot, at));
            }
            slots &= slots - 1;
        }
        None
    }
}

/// Positions by the hashes of what is there. Which of those that a hash leads to is meant, the caller tells, since the
/// table knows neither keys nor hashes. In a large table a position takes 6.4 bytes at least, 11.2 when it has just grown,
/// and 17.6 while it grows. It never gets smaller by itself.
///
/// ```
/// use spill_core::Positions;
///
/// let words = ["one", "two", "three"];
/// let hash = |at: u32| (words[at as usize].len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
/// let mut positions = Positions::new();
/// for at in 0..3 {
///     positions.insert(hash(at), at, hash);
/// }
/// assert_eq!(positions.find(hash(1), |at| words[at as usize] == "two"), Some(1));
/// ```
#[derive(Debug, Default)]
pub struct Positions {
    lines: Vec<Line>,
    len: usize,
}

/// Where a position is in the table.
struct Found {
    line: usize,
    slot: usize,
    at: u32,
}

/// The byte of a hash that is kept, other than the bits that find the line.
#[inline(always)]
fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

impl Positions {
    /// An empty table, which takes no memory.
    #[must_use]
    pub const fn new() -> Self {
        Positions { lines: Vec::new(), len: 0 }
    }

    /// How many positions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many positions there may be before the table grows.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.lines.len() * FULL
    }

    /// The line where what has this hash belongs. Its highest bits tell, the lowest are the tag.
    #[inline(always)]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.lines.len() as u64) >> 32) as usize
    }

    #[inline(always)]
    fn behind(&self, line: usize) -> usize {
        if line + 1 == self.lines.len() { 0 } else { line + 1 }
    }

    /// The position for which `is` holds, among those inserted with this hash.
    #[inline(always)]
    pub fn find(&self, hash: u64, is: impl FnMut(u32) -> bool) -> Option<u32> {
        self.locate(hash, is).map(|found| found.at)
    }

    #[inline(always)]
    fn locate(&self, hash: u64, mut is: impl FnMut(u32) -> bool) -> Option<Found> {
        let line = self.home(hash);
        let here = self.lines.get(line)?;
        if let Some((slot, at)) = here.find(tag(hash), &mut is) {
            return Some(Found { line, slot, at });
        }
        if here.is_passed() { self.locate_behind(line, tag(hash), is) } else { None }
    }

    /// What is not in the `first` line, which is where it belongs.
    #[cold]
    fn locate_behind(&self, first: usize, tag: u8, mut is: impl FnMut(u32) -> bool) -> Option<Found> {
        let mut line = self.behind(first);
        while line != first {
            let here = &self.lines[line];
            if let Some((slot, at)) = here.find(tag, &mut is) {
                return Some(Found { line, slot, at });
            }
            if !here.is_passed() {
                return None;
            }
            line = self.behind(line);
        }
        None
    }

    /// Asks the processor for what a lookup of this hash needs, and returns at once.
    #[inline]
    pub fn fetch_ahead(&self, hash: u64) {
        if let Some(line) = self.lines.get(self.home(hash)) {
            fetch_ahead(&line.head);
        }
    }

    /// Adds a position that is not there. When the table grows, `hash_of` is asked for the hash of each that is; should it
    /// panic, the table is as it was.
    pub fn insert(&mut self, hash: u64, at: u32, hash_of: impl Fn(u32) -> u64) {
        self.reserve(hash_of);
        self.put(hash, at);
    }

    /// Makes room for one position, as [`insert`](Self::insert) would.
    pub fn reserve(&mut self, hash_of: impl Fn(u32) -> u64) {
        if self.len == self.capacity() {
            // both tables together take 2.75 times what the full one does, and not three times
            self.resize(self.lines.len() + self.lines.len().div_ceil(4) * 3 + 1, hash_of);
        }
    }

    /// Gives memory back that more than `len` positions would need.
    pub fn shrink_to(&mut self, len: usize, hash_of: impl Fn(u32) -> u64) {
        let lines = len.max(self.len).div_ceil(FULL);
        if lines < self.lines.len() {
            self.resize(lines, hash_of);
        }
    }

    fn resize(&mut self, lines: usize, hash_of: impl Fn(u32) -> u64) {
        let mut resized = Positions { lines: vec![Line::EMPTY; lines], len: 0 };
        for line in &self.lines {
            let taken = (0..SLOTS).filter(|slot| line.head[*slot] != 0);
            taken.for_each(|slot| resized.put(hash_of(line.at[slot]), line.at[slot]));
        }
        *self = resized;
    }

    /// Adds a position; there is room.
    fn put(&mut self, hash: u64, at: u32) {
        let mut line = self.home(hash);
        loop {
            let here = &mut self.lines[line];
            let free = here.slots(0);
            if free != 0 {
                let slot = free.trailing_zeros() as usize;
                here.head[slot] = tag(hash);
                here.at[slot] = at;
                self.len += 1;
                return;
            }
            here.head[PASSED] = here.head[PASSED].saturating_add(1);
            line = self.behind(line);
        }
    }

    /// Puts `to` in the place of `from`, which has this hash. Should it not be there by this hash, which may have changed,
    /// it is looked for in the whole table.
    pub fn replace(&mut self, hash: u64, from: u32, to: u32) {
        let found = self.locate(hash, |at| at == from).map(|found| (found.line, found.slot));
        if let Some((line, slot)) = found.or_else(|| self.search(from)) {
            self.lines[line].at[slot] = to;
        }
    }

    /// Where a position is, whatever its hash.
    #[cold]
    fn search(&self, at: u32) -> Option<(usize, usize)> {
        let taken = |line: &Line| (0..SLOTS).find(|slot| line.head[*slot] != 0 && line.at[*slot] == at);
        self.lines.iter().enumerate().find_map(|(n, line)| Some((n, taken(line)?)))
    }

    /// Removes the position `at`. Should it not be there by this hash, which may have changed, it is looked for in the whole
    /// table. Where hashes change, other positions may not be found any more; but what is removed is never found.
    pub fn remove(&mut self, hash: u64, at: u32) {
        if let Some(found) = self.locate(hash, |found| found == at) {
            let mut line = self.home(hash);
            while line != found.line {
                let passed = &mut self.lines[line].head[PASSED];
                *passed -= u8::from(*passed < u8::MAX);
                line = self.behind(line);
            }
            self.free(found.line, found.slot);
            return;
        }
        // What it passed by cannot be told any more, and is looked behind in vain.
        if let Some((line, slot)) = self.search(at) {
            self.free(line, slot);
        }
    }

    fn free(&mut self, line: usize, slot: usize) {
        self.lines[line].head[slot] = 0;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A model: what each position was inserted with.
    #[derive(Default)]
    struct Model(std::collections::HashMap<u32, u64>);

    impl Model {
        fn check(&self, positions: &Positions) -> Result<(), TestCaseError> {
            prop_assert_eq!(positions.len(), self.0.len());
            prop_assert_eq!(positions.is_empty(), self.0.is_empty());
            for (at, hash) in &self.0 {
                prop_assert_eq!(positions.find(*hash, |found| found == *at), Some(*at));
                prop_assert_eq!(positions.find(*hash, |_| false), None);
            }
            Ok(())
        }
    }

    /// Few homes and few tags, so that lines overflow.
    fn hash(of: u16) -> u64 {
        u64::from(of % 7) << 61 | u64::from(of / 7 % 3)
    }

    proptest! {
        #[test]
        fn positions_are_a_map(script in prop::collection::vec((0..300_u32, any::<u16>(), 0..4_u8), 0..600)) {
            let (mut positions, mut model) = (Positions::new(), Model::default());
            for (at, of, what) in script {
                match (model.0.get(&at).copied(), what) {
                    (None, 0..3) => {
                        positions.insert(hash(of), at, |at| model.0[&at]);
                        model.0.insert(at, hash(of));
                    }
                    (Some(hash), 0) => {
                        positions.replace(hash, at, at + 1000);
                        prop_assert_eq!(positions.find(hash, |found| found == at + 1000), Some(at + 1000));
                        positions.replace(hash, at + 1000, at);
                    }
                    (Some(_), 1) => positions.shrink_to(0, |at| model.0[&at]),
                    (Some(hash), _) => {
                        positions.remove(hash, at);
                        model.0.remove(&at);
                        prop_assert_eq!(positions.find(hash, |found| found == at), None);
                    }
                    (None, _) => positions.remove(hash(of), at),
                }
                prop_assert!(positions.len() <= positions.capacity());
            }
            model.check(&positions)?;
        }
    }

    #[test]
    fn as_many_of_one_hash_as_there_may_be_are_found() {
        let mut positions = Positions::new();
        for at in 0..2000 {
            positions.insert(7, at, |_| 7);
        }
        assert!((0..2000).all(|at| positions.find(7, |found| found == at) == Some(at)));
        for at in 0..2000 {
            positions.remove(7, at);
        }
        assert!(positions.is_empty());
        positions.insert(7, 1, |_| 7);
        assert_eq!(positions.find(7, |_| true), Some(1), "behind lines that many had passed");
        assert_eq!(positions.find(u64::MAX, |_| true), None);
    }

    #[test]
    fn what_was_passed_by_is_not_looked_behind_for_ever() {
        let mut positions = Positions::new();
        let spread = |at: u32| u64::from(at).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for at in 0..100_000 {
            positions.insert(spread(at), at, spread);
            if at >= 1000 {
                positions.remove(spread(at - 1000), at - 1000);
            }
        }
        let passed = positions.lines.iter().filter(|line| line.head[PASSED] > 0).count();
        assert!(passed * 4 < positions.lines.len(), "{passed} of {} lines", positions.lines.len());
    }

    #[test]
    fn a_position_whose_hash_changed_is_replaced_and_removed() {
        let hash = |at: u32| u64::from(at) << 57;
        for changed in [u64::MAX, 1, 2 << 57, 1 << 32] {
            let mut positions = Positions::new();
            for at in 0..100 {
                positions.insert(hash(at), at, hash);
            }
            positions.replace(changed, 50, 500);
            assert_eq!(positions.find(hash(50), |at| at == 500), Some(500));
            positions.remove(changed, 500);
            assert_eq!(positions.len(), 99);
            let left: Vec<u32> = (0..1000).filter(|at| positions.search(*at).is_some()).collect();
            assert_eq!(left, (0..100).filter(|at| *at != 50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_hash_that_panics_leaves_the_table_as_it_was() {
        use std::panic::{AssertUnwindSafe, catch_unwind};
        let mut positions = Positions::new();
        for at in 0..10 {
            positions.insert(0, at, |_| 0);
        }
        let full = catch_unwind(AssertUnwindSafe(|| positions.insert(0, 10, |_| panic!("no hash"))));
        assert!(full.is_err());
        assert_eq!((positions.len(), positions.find(0, |at| at == 9)), (10, Some(9)));
    }
}
