//! A dense array that grows and shrinks by chunks, so that growing never needs twice its memory.

use std::ops::{Index, IndexMut};

/// Entries of a chunk, as a power of two.
const CHUNK_BITS: u32 = 12;
const CHUNK: usize = 1 << CHUNK_BITS;

/// An array of at most 2^32 - 1 entries. The first chunk grows by doubling, so a small slab is small.
pub(super) struct Slab<T> {
    /// All are full but the last that holds anything; at most one empty chunk follows it, so that an array
    /// that breathes around a chunk's border does not allocate each time.
    chunks: Vec<Vec<T>>,
    len: usize,
}

fn split(at: usize) -> (usize, usize) {
    (at >> CHUNK_BITS, at & (CHUNK - 1))
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Slab { chunks: Vec::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, entry: T) {
        let (chunk, _) = split(self.len);
        if chunk == self.chunks.len() {
            let room = if chunk == 0 { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        self.chunks[chunk].push(entry);
        self.len += 1;
    }

    /// Takes an entry out; the last one gets its place. The position must be below the length.
    pub(super) fn swap_remove(&mut self, at: u32) -> T {
        let (last_chunk, last) = split(self.len - 1);
        let (chunk, place) = split(at as usize);
        if chunk != last_chunk {
            let (before, from) = self.chunks.split_at_mut(last_chunk);
            std::mem::swap(&mut before[chunk][place], &mut from[0][last]);
        } else if place != last {
            self.chunks[chunk].swap(place, last);
        }
        let taken = self.chunks[last_chunk].swap_remove(last);
        self.len -= 1;
        if last == 0 {
            self.chunks.truncate(last_chunk + 1);
        }
        taken
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, at: u32) -> &T {
        let (chunk, place) = split(at as usize);
        &self.chunks[chunk][place]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        let (chunk, place) = split(at as usize);
        &mut self.chunks[chunk][place]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_is_an_array() {
        let mut slab = Slab::new();
        let mut model = Vec::new();
        for n in 0..3 * CHUNK {
            slab.push(n);
            model.push(n);
        }
        let mut at = 17;
        while !model.is_empty() {
            at = (at * 31 + 7) % model.len();
            assert_eq!(slab.swap_remove(at as u32), model.swap_remove(at));
            assert_eq!(slab.len(), model.len());
            if model.len() % 1000 == 0 {
                assert!(slab.iter().eq(&model));
                assert!((0..model.len()).all(|at| slab[at as u32] == model[at]));
            }
        }
    }

    #[test]
    fn chunks_are_given_back_but_for_one() {
        let mut slab = Slab::new();
        for n in 0..5 * CHUNK {
            slab.push(n);
        }
        let mut allocated = usize::MAX;
        while slab.len() > CHUNK {
            slab.swap_remove(0);
            let chunks = slab.chunks.len();
            assert!(chunks <= slab.len().div_ceil(CHUNK) + 1);
            allocated = allocated.min(chunks);
        }
        assert_eq!(allocated, 2);
        for _ in 0..3 {
            slab.push(0);
            assert_eq!(slab.chunks.len(), 2);
            slab.swap_remove(0);
            assert_eq!(slab.chunks.len(), 2);
        }
    }
}
