//! The least that a mapping must write.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use crate::sync::Mutex;
use crate::{Key, MutableMapping, Result, Value};

/// A mapping in RAM: the reference that the suite passes on, and an example of the seven methods that an
/// implementor writes. Its order of keys is the same in every run.
#[derive(Debug)]
pub struct Memory<K, V> {
    pairs: Mutex<HashMap<K, V, BuildHasherDefault<DefaultHasher>>>,
}

impl<K: Key, V: Value> Memory<K, V> {
    /// An empty mapping.
    #[must_use]
    pub fn new() -> Self {
        Memory { pairs: Mutex::new(HashMap::default()) }
    }
}

impl<K: Key, V: Value> Default for Memory<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key, V: Value> MutableMapping<K, V> for Memory<K, V> {
    fn get(&self, key: &K) -> Result<Option<V>> {
        Ok(self.pairs.lock().get(key).cloned())
    }
    fn insert(&self, key: K, value: V) -> Result<()> {
        // What is replaced is dropped after the lock is released: a value's destructor is foreign code.
        let replaced = self.pairs.lock().insert(key, value);
        drop(replaced);
        Ok(())
    }
    fn remove(&self, key: &K) -> Result<bool> {
        let removed = self.pairs.lock().remove(key);
        Ok(removed.is_some())
    }
    fn take(&self, key: &K) -> Result<Option<V>> {
        Ok(self.pairs.lock().remove(key))
    }
    fn contains_key(&self, key: &K) -> bool {
        self.pairs.lock().contains_key(key)
    }
    fn len(&self) -> usize {
        self.pairs.lock().len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        let keys: Vec<K> = self.pairs.lock().keys().cloned().collect();
        keys.iter().for_each(f);
    }
}
