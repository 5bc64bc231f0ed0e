//! The one interface that every layer and every backend implements.

use std::hash::Hash;
use std::sync::Arc;

use crate::{Result, SpilledSize, Stats, Usage};

/// What can be a key: anything cheap enough to clone that can be hashed and compared. Implemented for every
/// type that fits.
pub trait Key: Clone + Eq + Hash + Send + Sync + 'static {}
impl<T: Clone + Eq + Hash + Send + Sync + 'static> Key for T {}

/// What can be a value: anything cheap to clone (`Arc<T>`, `Bytes`, [`Frames`](crate::Frames)), since a read
/// hands out a clone. Implemented for every type that fits.
pub trait Value: Clone + Send + Sync + 'static {}
impl<T: Clone + Send + Sync + 'static> Value for T {}

/// A key-value mapping whose values may live in any storage.
///
/// Everything takes `&self` and may be called from any thread at any time; a mapping does its own locking.
/// `Box` and `Arc` of a mapping are mappings, also of `dyn MutableMapping`.
///
/// # For implementors
///
/// Write the first seven methods; override the provided ones where the storage does better. Promises, each
/// checked by the conformance suite (feature `conformance`):
///
/// - After `insert` returned `Ok`, every `get` gives that value until the key is written again.
/// - A call that returned `Err` took no effect, and nothing of it takes effect later. A backend that cannot
///   know whether a failed write was applied (a network's timeout) says so in its own documentation; a
///   `Buffer` above it treats every failed write as possibly applied.
/// - A batch answers as its calls would one after the other: of a key given twice the later value stays.
/// - `contains_key`, `len`, `stored_size` and `usage` answer from RAM: they touch no storage and do not block
///   on I/O. They may be called while a layer above holds its lock, so no method ever calls up into it.
/// - `for_each_key` gives a snapshot and runs `f` without holding a lock, so that `f` may use the mapping.
/// - Values come back byte for byte, [`Frames`](crate::Frames) with their boundaries and weight.
#[expect(clippy::len_without_is_empty, reason = "`is_empty` is sugar, and lives in `MappingExt`")]
pub trait MutableMapping<K: Key, V: Value>: Send + Sync {
    /// The value of `key`, or `None` when it is absent. Layers that keep an order count this as a use.
    ///
    /// # Errors
    /// When the value is present and cannot be given; the key stays where it is.
    fn get(&self, key: &K) -> Result<Option<V>>;

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// When the value was not accepted; the old value, if any, is intact.
    fn insert(&self, key: K, value: V) -> Result<()>;

    /// Removes `key` without reading its value; says whether it was present.
    ///
    /// # Errors
    /// When storage failed; the key is still present.
    fn remove(&self, key: &K) -> Result<bool>;

    /// Removes `key` and returns its value, as one atomic step.
    ///
    /// # Errors
    /// When the value could not be read or the key not removed; the key is still present.
    fn take(&self, key: &K) -> Result<Option<V>>;

    /// Whether `key` is present. Answers from RAM.
    fn contains_key(&self, key: &K) -> bool;

    /// The number of keys present. Answers from RAM.
    fn len(&self) -> usize;

    /// Calls `f` once for each key of a snapshot, holding no lock meanwhile. Costs a copy of the keys.
    fn for_each_key(&self, f: &mut dyn FnMut(&K));

    /// The value of `key` without counting as a use: nothing is promoted and no order changes.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    fn peek(&self, key: &K) -> Result<Option<V>> {
        self.get(key)
    }

    /// [`get`](Self::get) for many keys, a result for each in the same order. Backends that can merge or
    /// overlap reads override it.
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// [`insert`](Self::insert) for many pairs, a result for each in the same order. Backends that can share
    /// a write override it.
    fn insert_many(&self, pairs: Vec<(K, V)>) -> Vec<Result<()>> {
        pairs.into_iter().map(|(key, value)| self.insert(key, value)).collect()
    }

    /// [`remove`](Self::remove) for many keys, a result for each in the same order.
    fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        keys.iter().map(|key| self.remove(key)).collect()
    }

    /// Removes every key of a snapshot, reading no value.
    ///
    /// # Errors
    /// The first error met; the other keys are removed all the same.
    fn clear(&self) -> Result<()> {
        let mut keys = Vec::with_capacity(self.len());
        self.for_each_key(&mut |key| keys.push(key.clone()));
        self.remove_many(&keys).into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    /// How much is held, and where. Answers from RAM.
    fn usage(&self) -> Usage {
        Usage { count: self.len(), ..Usage::default() }
    }

    /// The two sizes of what is stored for `key`: the weight its value had, and the bytes of its record with
    /// headers; `None` where nothing is stored. It is what `key` adds to [`usage`](Self::usage)'s `spilled`.
    /// Answers from RAM.
    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        let _ = key;
        None
    }

    /// What this mapping and those below it have done so far.
    fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Hands everything held back in RAM to storage, down the whole chain. Values stay readable as before.
    /// It is not a promise of durability: spilled data dies with its process.
    ///
    /// # Errors
    /// The first error met; what could not be written stays where it was.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Stops what runs in the background and releases the storage, down the whole chain. Later calls that
    /// need storage fail with [`Closed`](crate::ErrorKind::Closed). Closing twice does nothing.
    ///
    /// # Errors
    /// When something could not be released.
    fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// Conveniences over any mapping. Implemented for all of them; not to be implemented by hand.
pub trait MappingExt<K: Key, V: Value>: MutableMapping<K, V> {
    /// Whether no key is present. Answers from RAM.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of a snapshot, in no particular order.
    fn keys(&self) -> Vec<K> {
        let mut keys = Vec::with_capacity(self.len());
        self.for_each_key(&mut |key| keys.push(key.clone()));
        keys
    }

    /// Calls `f` for each pair of a snapshot of the keys, reading one value at a time by
    /// [`peek`](MutableMapping::peek), so that no order is disturbed. Keys removed meanwhile are skipped.
    ///
    /// # Errors
    /// The first read that failed, or the first error of `f`; the walk ends there.
    fn try_for_each(&self, mut f: impl FnMut(&K, V) -> Result<()>) -> Result<()>
    where
        Self: Sized,
    {
        for key in self.keys() {
            if let Some(value) = self.peek(&key)? {
                f(&key, value)?;
            }
        }
        Ok(())
    }
}
impl<K: Key, V: Value, M: MutableMapping<K, V> + ?Sized> MappingExt<K, V> for M {}

macro_rules! forward {
    ($pointer:ident) => {
        impl<K: Key, V: Value, M: MutableMapping<K, V> + ?Sized> MutableMapping<K, V> for $pointer<M> {
            fn get(&self, key: &K) -> Result<Option<V>> {
                (**self).get(key)
            }
            fn insert(&self, key: K, value: V) -> Result<()> {
                (**self).insert(key, value)
            }
            fn remove(&self, key: &K) -> Result<bool> {
                (**self).remove(key)
            }
            fn take(&self, key: &K) -> Result<Option<V>> {
                (**self).take(key)
            }
            fn contains_key(&self, key: &K) -> bool {
                (**self).contains_key(key)
            }
            fn len(&self) -> usize {
                (**self).len()
            }
            fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
                (**self).for_each_key(f)
            }
            fn peek(&self, key: &K) -> Result<Option<V>> {
                (**self).peek(key)
            }
            fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
                (**self).get_many(keys)
            }
            fn insert_many(&self, pairs: Vec<(K, V)>) -> Vec<Result<()>> {
                (**self).insert_many(pairs)
            }
            fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
                (**self).remove_many(keys)
            }
            fn clear(&self) -> Result<()> {
                (**self).clear()
            }
            fn usage(&self) -> Usage {
                (**self).usage()
            }
            fn stored_size(&self, key: &K) -> Option<SpilledSize> {
                (**self).stored_size(key)
            }
            fn stats(&self) -> Stats {
                (**self).stats()
            }
            fn flush(&self) -> Result<()> {
                (**self).flush()
            }
            fn close(&self) -> Result<()> {
                (**self).close()
            }
        }
    };
}
forward!(Box);
forward!(Arc);
