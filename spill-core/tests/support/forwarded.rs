//! For mappings of a test's own that stand before another.

/// The calls of a mapping that a test's own passes on to its field `inner`.
macro_rules! forwarded {
    ($key:ty, $value:ty) => {
        fn get(&self, key: &$key) -> spill_core::Result<Option<$value>> {
            self.inner.get(key)
        }
        fn insert(&self, key: $key, value: $value) -> spill_core::Result<()> {
            self.inner.insert(key, value)
        }
        fn remove(&self, key: &$key) -> spill_core::Result<bool> {
            self.inner.remove(key)
        }
        fn take(&self, key: &$key) -> spill_core::Result<Option<$value>> {
            self.inner.take(key)
        }
        fn contains_key(&self, key: &$key) -> bool {
            self.inner.contains_key(key)
        }
        fn len(&self) -> usize {
            self.inner.len()
        }
        fn for_each_key(&self, f: &mut dyn FnMut(&$key)) {
            self.inner.for_each_key(f);
        }
    };
}
