//! Storage for slots: a chunked slab, so that growing never copies what is there.

/// No slot.
pub(crate) const NIL: u32 = u32::MAX;

const SHIFT: u32 = 12;
const CHUNK: usize = 1 << SHIFT;

/// Items under stable `u32` indices. Freed places are used again before new ones are taken.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<Place<T>>>,
    free: u32,
}

#[derive(Debug)]
enum Place<T> {
    Used(T),
    Free { next: u32 },
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Slab { chunks: Vec::new(), free: NIL }
    }

    pub(crate) fn insert(&mut self, item: T) -> u32 {
        if self.free != NIL {
            let i = self.free;
            let place = &mut self.chunks[(i >> SHIFT) as usize][i as usize % CHUNK];
            if let Place::Free { next } = *place {
                self.free = next;
            }
            *place = Place::Used(item);
            return i;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // the first chunk grows by doubling, so that a small table stays small
            let first = if self.chunks.is_empty() { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(first));
        }
        let last = self.chunks.len() - 1;
        let chunk = &mut self.chunks[last];
        chunk.push(Place::Used(item));
        // 2^32 - 1 keys in RAM would take a quarter of a tebibyte for their slots alone
        ((last << SHIFT) + chunk.len() - 1) as u32
    }

    pub(crate) fn remove(&mut self, i: u32) -> T {
        let place = &mut self.chunks[(i >> SHIFT) as usize][i as usize % CHUNK];
        let Place::Used(item) = std::mem::replace(place, Place::Free { next: self.free }) else {
            unreachable!("a slot was freed twice")
        };
        self.free = i;
        item
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().flatten().zip(0..).filter_map(|(place, i)| match place {
            Place::Used(item) => Some((i, item)),
            Place::Free { .. } => None,
        })
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;
    #[inline]
    fn index(&self, i: u32) -> &T {
        match &self.chunks[(i >> SHIFT) as usize][i as usize % CHUNK] {
            Place::Used(item) => item,
            Place::Free { .. } => unreachable!("an index outlived its slot"),
        }
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, i: u32) -> &mut T {
        match &mut self.chunks[(i >> SHIFT) as usize][i as usize % CHUNK] {
            Place::Used(item) => item,
            Place::Free { .. } => unreachable!("an index outlived its slot"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_stay_and_places_are_used_again() {
        let mut slab = Slab::new();
        let indices: Vec<u32> = (0..10_000).map(|n| slab.insert(n)).collect();
        for &i in indices.iter().step_by(2) {
            assert_eq!(slab.remove(i), i);
        }
        assert_eq!(slab.iter().count(), 5_000);
        for n in 0..5_000 {
            assert!(slab.insert(n + 20_000) < 10_000, "no new place while there are free ones");
        }
        for &i in indices.iter().skip(1).step_by(2) {
            assert_eq!(slab[i], i);
        }
        assert_eq!(slab.iter().count(), 10_000);
    }
}
