//! `KeyMap`: a mapping seen through a translation of its keys (PARITY Z23).

use std::marker::PhantomData;

use bytes::Bytes;

use crate::guard::guarded;
use crate::{Error, Key, KeyCodec, MutableMapping, Result, SpilledSize, Stats, Usage, Value};

/// A mapping of keys `K` over a mapping of other keys `J`.
///
/// `to` turns a key into the one below, and `from` turns it back. Both must be *pure*, and different keys must
/// go to different keys. The way back is asked for since [`for_each_key`](MutableMapping::for_each_key) must
/// give keys that were there before, in a mapping that outlived its process; a mapping made only of `to` could
/// at best remember those that it was given, and would pay RAM for each.
///
/// The mapping below belongs to this one alone: a key in it that `from` refuses is an error when the layer is
/// made. An insert checks that its key comes back, so that two keys which go to one never overwrite each
/// other's value. A panic of either function is an error ([`Panicked`](crate::ErrorKind::Panicked)).
///
/// # Threads: what is locked, what is not, who wins
///
/// It holds no lock and no key; what holds between threads is what the mapping below promises.
///
/// ```
/// use spill_core::{BufferBuilder, Error, KeyMap, Lru, MutableMapping};
///
/// let named: Lru<String, u64> = BufferBuilder::new().alone()?;
/// named.insert("task-1".to_owned(), 10)?;
///
/// let numbered = KeyMap::new(
///     |n: &u32| format!("task-{n}"),
///     |name: &String| {
///         let number = name.strip_prefix("task-").and_then(|number| number.parse().ok());
///         number.ok_or_else(|| Error::codec("task", format!("{name} is not task-N")))
///     },
///     named,
/// )?;
/// assert_eq!(numbered.get(&1)?, Some(10)); // it was there before
/// numbered.insert(2, 20)?;
/// assert_eq!(numbered.inner().get(&"task-2".to_owned())?, Some(20));
/// # Ok::<_, Error>(())
/// ```
pub struct KeyMap<K, J, V, F, G, M> {
    to: F,
    from: G,
    inner: M,
    types: PhantomData<fn(K, J, V)>,
}

/// A [`KeyMap`] that stores keys as the bytes that their [`KeyCodec`] gives.
pub type EncodedKeys<K, V, M> = KeyMap<K, Bytes, V, fn(&K) -> Bytes, fn(&Bytes) -> Result<K>, M>;

impl<K: KeyCodec, V: Value, M: MutableMapping<Bytes, V>> EncodedKeys<K, V, M> {
    /// `inner` with keys stored as bytes.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn encoded(inner: M) -> Result<Self> {
        KeyMap::new(|key: &K| key.key_bytes().into(), |bytes: &Bytes| K::decode_key(bytes), inner)
    }
}

impl<K, J, V, F, G, M> KeyMap<K, J, V, F, G, M>
where
    K: Key,
    J: Key,
    V: Value,
    F: Fn(&K) -> J + Send + Sync + 'static,
    G: Fn(&J) -> Result<K> + Send + Sync + 'static,
    M: MutableMapping<J, V>,
{
    /// `inner` with keys translated by `to`, and back by `from`. Translates every key that is there.
    ///
    /// # Errors
    /// That of `from` for a key of `inner` that it refuses, and [`Config`](crate::ErrorKind::Config) when one
    /// does not come back from there and back.
    pub fn new(to: F, from: G, inner: M) -> Result<Self> {
        let map = KeyMap { to, from, inner, types: PhantomData };
        let mut outcome = Ok(());
        map.inner.for_each_key(&mut |below| {
            if outcome.is_ok() {
                outcome = map.check_below(below);
            }
        });
        outcome.map(|()| map)
    }

    /// The mapping below.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    fn to(&self, key: &K) -> Result<J> {
        guarded("translating a key", || Ok((self.to)(key)))
    }

    fn from(&self, below: &J) -> Result<K> {
        guarded("translating a key back", || (self.from)(below))
    }

    /// The key below, for a write: only one that comes back.
    fn to_and_back(&self, key: &K) -> Result<J> {
        let below = self.to(key)?;
        if self.from(&below)? == *key { Ok(below) } else { Err(not_one_to_one("it came back as another")) }
    }

    fn check_below(&self, below: &J) -> Result<()> {
        if self.to(&self.from(below)?)? == *below {
            Ok(())
        } else {
            Err(not_one_to_one("one that is stored already came back as another"))
        }
    }

    /// Those keys that can be translated, by their place in `keys`; the errors of the others in `results`.
    fn to_all<T>(&self, keys: &[K], results: &mut Vec<Option<Result<T>>>) -> Vec<J> {
        let mut below = Vec::with_capacity(keys.len());
        for key in keys {
            match self.to(key) {
                Ok(key) => {
                    below.push(key);
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        below
    }
}

fn not_one_to_one(found: &str) -> Error {
    Error::config("key translation", found, "each key to come back as itself")
}

/// Puts the answers of a batch between the errors of what was not in it.
fn merge<T>(refused: Vec<Option<Result<T>>>, answers: Vec<Result<T>>) -> Vec<Result<T>> {
    let mut answers = answers.into_iter();
    refused.into_iter().filter_map(|refused| refused.or_else(|| answers.next())).collect()
}

impl<K, J, V, F, G, M> MutableMapping<K, V> for KeyMap<K, J, V, F, G, M>
where
    K: Key,
    J: Key,
    V: Value,
    F: Fn(&K) -> J + Send + Sync + 'static,
    G: Fn(&J) -> Result<K> + Send + Sync + 'static,
    M: MutableMapping<J, V>,
{
    fn get(&self, key: &K) -> Result<Option<V>> {
        self.inner.get(&self.to(key)?)
    }
    fn insert(&self, key: K, value: V) -> Result<()> {
        self.inner.insert(self.to_and_back(&key)?, value)
    }
    fn remove(&self, key: &K) -> Result<bool> {
        self.inner.remove(&self.to(key)?)
    }
    fn take(&self, key: &K) -> Result<Option<V>> {
        self.inner.take(&self.to(key)?)
    }
    /// A key that cannot be translated was never inserted.
    fn contains_key(&self, key: &K) -> bool {
        self.to(key).is_ok_and(|below| self.inner.contains_key(&below))
    }
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        self.inner.for_each_key(&mut |below| match self.from(below) {
            Ok(key) => f(&key),
            // Every key was checked when it came in, so the function is not pure or somebody else writes below.
            Err(error) => tracing::warn!(%error, "a key of the mapping below cannot be translated back"),
        });
    }
    fn peek(&self, key: &K) -> Result<Option<V>> {
        self.inner.peek(&self.to(key)?)
    }
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
        let mut results = Vec::with_capacity(keys.len());
        let below = self.to_all(keys, &mut results);
        merge(results, self.inner.get_many(&below))
    }
    fn insert_many(&self, pairs: Vec<(K, V)>) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(pairs.len());
        let mut below = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            match self.to_and_back(&key) {
                Ok(key) => {
                    below.push((key, value));
                    results.push(None);
                }
                Err(error) => results.push(Some(Err(error))),
            }
        }
        merge(results, self.inner.insert_many(below))
    }
    fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        let mut results = Vec::with_capacity(keys.len());
        let below = self.to_all(keys, &mut results);
        merge(results, self.inner.remove_many(&below))
    }
    fn clear(&self) -> Result<()> {
        self.inner.clear()
    }
    fn usage(&self) -> Usage {
        self.inner.usage()
    }
    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        self.inner.stored_size(&self.to(key).ok()?)
    }
    fn stats(&self) -> Stats {
        self.inner.stats()
    }
    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}
