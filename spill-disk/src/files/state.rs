//! What the store's one lock guards: which keys there are, where their files are, and who works on which key.
//!
//! Nothing here touches a file.

use std::path::PathBuf;

use hashbrown::{DefaultHashBuilder, HashMap};
use spill_core::SpilledSize;

/// Where the value of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) generation: u64,
    pub(super) weight: u64,
    /// Bytes before the record.
    pub(super) head: u32,
    /// The record's length in units of 8 bytes.
    pub(super) units: u32,
    /// The record's.
    pub(super) checksum: u32,
}

impl Located {
    /// Bytes of the record.
    pub(super) fn record(&self) -> u64 {
        u64::from(self.units) * 8
    }

    /// Bytes of the file.
    pub(super) fn length(&self) -> u64 {
        u64::from(self.head) + self.record()
    }
}

/// A file that counts no more and could not be removed.
#[derive(Clone, Debug)]
pub(super) struct Stray {
    pub(super) path: PathBuf,
    /// Bytes it may have.
    pub(super) length: u64,
}

pub(super) struct State<K> {
    pub(super) index: HashMap<K, Located, DefaultHashBuilder>,
    /// Keys that somebody writes, removes or takes.
    pub(super) held: HashMap<K, (), DefaultHashBuilder>,
    /// Files of a key that must be gone before the key is: opened again, they would bring it back.
    pub(super) strays: HashMap<K, Vec<Stray>, DefaultHashBuilder>,
    /// Sum of the weights of all keys. Each is a caller's word and may be anything, so the sum is wider.
    weight: u128,
    /// Sum of the lengths of all keys' files.
    length: u64,
    pub(super) closed: bool,
}

impl<K: Eq + std::hash::Hash> State<K> {
    pub(super) fn new() -> Self {
        State {
            index: HashMap::default(),
            held: HashMap::default(),
            strays: HashMap::default(),
            weight: 0,
            length: 0,
            closed: false,
        }
    }

    /// Points `key` to `located`. Gives back where it was, and the key that is not needed.
    pub(super) fn store(&mut self, key: K, located: Located) -> (Option<Located>, Option<K>) {
        self.weight += u128::from(located.weight);
        self.length += located.length();
        let replaced = match self.index.get_mut(&key) {
            Some(old) => (Some(std::mem::replace(old, located)), Some(key)),
            None => {
                self.index.insert(key, located);
                (None, None)
            }
        };
        if let Some(old) = replaced.0 {
            self.forget(old);
        }
        replaced
    }

    /// Takes `key` out.
    pub(super) fn remove(&mut self, key: &K) -> Option<(K, Located)> {
        let removed = self.index.remove_entry(key)?;
        self.forget(removed.1);
        Some(removed)
    }

    fn forget(&mut self, located: Located) {
        self.weight -= u128::from(located.weight);
        self.length -= located.length();
    }

    /// After the index was taken out.
    pub(super) fn forget_all(&mut self) {
        self.weight = 0;
        self.length = 0;
    }

    pub(super) fn spilled(&self) -> SpilledSize {
        SpilledSize { memory: u64::try_from(self.weight).unwrap_or(u64::MAX), disk: self.length }
    }

    /// Bytes of all files, those that could not be removed included.
    pub(super) fn physical(&self) -> u64 {
        self.length + self.strays.values().flatten().map(|stray| stray.length).sum::<u64>()
    }
}
