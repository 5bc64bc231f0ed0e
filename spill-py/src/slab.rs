//! A list that grows without moving what is in it, and whose places are used again.

/// So many places lie one behind another.
const CHUNK: usize = 1 << 10;

/// Values by the numbers of their places.
pub(crate) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    /// Places given back: the one used last is the next, since it is in the processor's cache.
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        self.chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.chunks.get_mut(at as usize / CHUNK)?.get_mut(at as usize % CHUNK)
    }

    /// A place for what `make` makes of what was left in it. 2^32 places would take hundreds of gigabytes.
    #[inline]
    pub(crate) fn add(&mut self, make: impl FnOnce(Option<&T>) -> T) -> u32 {
        if let Some(at) = self.free.pop()
            && let Some(place) = self.get_mut(at)
        {
            *place = make(Some(place));
            return at;
        }
        if self.chunks.last().is_none_or(|last| last.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = self.chunks.len() - 1;
        let last = &mut self.chunks[before];
        last.push(make(None));
        (before * CHUNK + last.len() - 1) as u32
    }

    /// Gives a place back, which `add` gave. What is in it stays there until then.
    #[inline]
    pub(crate) fn give_back(&mut self, at: u32) {
        self.free.push(at);
    }

    /// How many places are in use.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        self.chunks.len().saturating_sub(1) * CHUNK + last - self.free.len()
    }

    /// All places, with what is left in those that were given back.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}
