//! Storage for slots.

/// No slot.
pub(crate) const NIL: u32 = u32::MAX;

/// Items under stable `u32` indices. Freed places, which hold a default, are used again before new ones.
///
/// Made for a hit, which touches five places, each found by what the one before says. So it is one flat vector:
/// in chunks, growing would copy nothing, but each step would wait for one pointer more, which `cargo xtask
/// bench hit` shows.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<T>,
    free: Vec<u32>,
}

impl<T: Default> Slab<T> {
    pub(crate) fn new() -> Self {
        Slab { places: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn insert(&mut self, item: T) -> u32 {
        if let Some(i) = self.free.pop() {
            self[i] = item;
            return i;
        }
        self.places.push(item);
        // 2^32 - 1 keys in RAM would take a quarter of a tebibyte for their slots alone
        (self.places.len() - 1) as u32
    }

    pub(crate) fn remove(&mut self, i: u32) -> T {
        self.free.push(i);
        std::mem::take(&mut self[i])
    }

    /// All places in order, the free ones too.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.places)
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;
    #[inline]
    fn index(&self, i: u32) -> &T {
        &self.places[i as usize]
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, i: u32) -> &mut T {
        &mut self.places[i as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_stay_and_places_are_used_again() {
        let mut slab = Slab::new();
        let indices: Vec<u32> = (1..=10_000).map(|n| slab.insert(n)).collect();
        for &i in indices.iter().step_by(2) {
            assert_eq!(slab.remove(i), i + 1);
        }
        for n in 0..5_000 {
            assert!(slab.insert(n + 20_000) < 10_000, "no new place while there are free ones");
        }
        for &i in indices.iter().skip(1).step_by(2) {
            assert_eq!(slab[i], i + 1);
        }
        assert_eq!(slab.iter().filter(|&(_, &n)| n != 0).count(), 10_000);
    }
}
