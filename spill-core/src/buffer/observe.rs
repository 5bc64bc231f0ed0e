//! Callbacks that are told of movements between fast and slow memory (PARITY Z08, Z10, Z11).

use crate::guard::guarded;
use crate::{Key, Result, Value};

/// Told of one pair; may refuse by an error.
pub(super) type Observer<K, V> = Box<dyn Fn(&K, &V) -> Result<()> + Send + Sync>;

pub(super) struct Observers<K, V> {
    pub(super) evict: Vec<Observer<K, V>>,
    pub(super) cancel_evict: Vec<Observer<K, V>>,
    pub(super) promote: Vec<Observer<K, V>>,
}

impl<K, V> Default for Observers<K, V> {
    fn default() -> Self {
        Observers { evict: Vec::new(), cancel_evict: Vec::new(), promote: Vec::new() }
    }
}

impl<K: Key, V: Value> Observers<K, V> {
    /// A pair is about to leave fast memory; an error keeps it there.
    pub(super) fn evicted(&self, key: &K, value: &V) -> Result<()> {
        tell("observing an eviction", &self.evict, key, value)
    }

    /// An eviction was cancelled, since the key was written or removed meanwhile.
    pub(super) fn cancelled(&self, key: &K, value: &V) -> Result<()> {
        tell("observing a cancelled eviction", &self.cancel_evict, key, value)
    }

    /// A pair came back to fast memory, and stays there whatever is answered.
    pub(super) fn promoted(&self, key: &K, value: &V) -> Result<()> {
        tell("observing a promotion", &self.promote, key, value)
    }
}

/// Tells all in turn, up to the first error.
fn tell<K, V>(during: &'static str, observers: &[Observer<K, V>], key: &K, value: &V) -> Result<()> {
    observers.iter().try_for_each(|observer| guarded(during, || observer(key, value)))
}
