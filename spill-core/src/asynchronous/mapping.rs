//! The interface of mappings whose storage answers later.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{Key, Result, SpilledSize, Stats, Usage, Value};

/// [`MutableMapping`](crate::MutableMapping) for storage that is asynchronous by nature: a network service, an
/// object store. What goes to storage is asynchronous; what is known in RAM is not.
///
/// Everything promised there is promised here; the conformance suite checks it through a [`Blocking`]. `Box`
/// and `Arc` of a mapping are mappings, also of `dyn AsyncMutableMapping`.
///
/// # Which adapter when
///
/// | there is | needed is | take |
/// |---|---|---|
/// | an `AsyncMutableMapping` | a `MutableMapping`: storage below a [`Buffer`], calls from plain threads | [`Blocking`] |
/// | a `MutableMapping` | an `AsyncMutableMapping`: calls from tasks, none of which may block | [`Offload`] |
/// | a [`Buffer`] | the same, with values in fast memory given at once | [`AsyncBuffer`] |
///
/// # What runs where, and what ends it
///
/// A future does nothing until it is polled. From then on the adapters keep to these rules:
///
/// - *Where.* [`Blocking`] runs futures on threads of its own, whatever thread its caller is on. [`Offload`]
///   runs calls on its pool. [`AsyncBuffer`] answers in the caller what needs neither storage nor waiting, and
///   gives the rest to an `Offload`.
/// - *Dropped futures.* A call that was begun runs to its end and has its full effect; only its answer is
///   lost. So a reader who gives up (a timeout, a `select`) takes nothing from others who wait for the same
///   value, and an abandoned `insert` may have happened.
/// - *Closing.* `close` ends the calls in flight with [`Closed`](crate::ErrorKind::Closed) at once, even where
///   storage hangs. Those that had not begun have no effect; whether the others had one is not known. Then it
///   closes what is below.
/// - *Panics* of what is below become [`Panicked`](crate::ErrorKind::Panicked).
/// - *Dropping an adapter* stops its own threads without waiting for them, so it may happen inside a runtime;
///   calls that still stood in line never begin. A runtime that was given is never shut down.
/// - *Who wins* when calls meet is decided by the mapping below, as its page says; calls are handed on in the
///   order in which they were first polled, and those of several threads run at once.
///
/// # For implementors
///
/// Write the first seven methods, those of RAM among them; each future must be `Send`. With the crate
/// `async-trait` it is `#[async_trait]` above the `impl`. A future may be dropped at any `await` when the
/// mapping is closed.
///
/// [`Blocking`]: crate::Blocking
/// [`Offload`]: crate::Offload
/// [`AsyncBuffer`]: crate::AsyncBuffer
/// [`Buffer`]: crate::Buffer
#[expect(clippy::len_without_is_empty, reason = "as in `MutableMapping`")]
#[async_trait]
pub trait AsyncMutableMapping<K: Key, V: Value>: Send + Sync {
    /// The value of `key`, or `None` when it is absent. Layers that keep an order count this as a use.
    ///
    /// # Errors
    /// When the value is present and cannot be given; the key stays where it is.
    async fn get(&self, key: &K) -> Result<Option<V>>;

    /// Sets the value of `key`.
    ///
    /// # Errors
    /// When the value was not accepted; the old value, if any, is intact.
    async fn insert(&self, key: K, value: V) -> Result<()>;

    /// Removes `key` without reading its value; says whether it was present.
    ///
    /// # Errors
    /// When storage failed; the key is still present.
    async fn remove(&self, key: &K) -> Result<bool>;

    /// Removes `key` and returns its value, as one atomic step.
    ///
    /// # Errors
    /// When the value could not be read or the key not removed; the key is still present.
    async fn take(&self, key: &K) -> Result<Option<V>>;

    /// Whether `key` is present. Answers from RAM.
    fn contains_key(&self, key: &K) -> bool;

    /// The number of keys present. Answers from RAM.
    fn len(&self) -> usize;

    /// Calls `f` once for each key of a snapshot, holding no lock meanwhile. Costs a copy of the keys. Answers
    /// from RAM.
    fn for_each_key(&self, f: &mut dyn FnMut(&K));

    /// The value of `key` without counting as a use: nothing is promoted and no order changes.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    async fn peek(&self, key: &K) -> Result<Option<V>> {
        self.get(key).await
    }

    /// [`get`](Self::get) for many keys, a result for each in the same order. Backends that can merge or
    /// overlap reads override it.
    async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            results.push(self.get(key).await);
        }
        results
    }

    /// [`insert`](Self::insert) for many pairs, a result for each in the same order. Backends that can share
    /// a write override it.
    async fn insert_many(&self, pairs: Vec<(K, V)>) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            results.push(self.insert(key, value).await);
        }
        results
    }

    /// [`remove`](Self::remove) for many keys, a result for each in the same order.
    async fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            results.push(self.remove(key).await);
        }
        results
    }

    /// Removes every key of a snapshot, reading no value.
    ///
    /// # Errors
    /// The first error met; the other keys are removed all the same.
    async fn clear(&self) -> Result<()> {
        let mut keys = Vec::with_capacity(self.len());
        self.for_each_key(&mut |key| keys.push(key.clone()));
        self.remove_many(&keys).await.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    /// How much is held, and where. Answers from RAM.
    fn usage(&self) -> Usage {
        Usage { count: self.len(), ..Usage::default() }
    }

    /// The two sizes of what is stored for `key`, as
    /// [`MutableMapping::stored_size`](crate::MutableMapping::stored_size) says. Answers from RAM.
    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        let _ = key;
        None
    }

    /// What this mapping and those below it have done so far. Answers from RAM.
    fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Hands everything held back in RAM to storage, down the whole chain. Values stay readable as before.
    ///
    /// # Errors
    /// The first error met; what could not be written stays where it was.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Stops what runs in the background and releases the storage, down the whole chain. Calls in flight end,
    /// and later ones that need storage fail, with [`Closed`](crate::ErrorKind::Closed). Closing twice does
    /// nothing.
    ///
    /// # Errors
    /// When something could not be released.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        impl<K: Key, V: Value, M: AsyncMutableMapping<K, V> + ?Sized> AsyncMutableMapping<K, V>
            for $pointer<M>
        {
            async fn get(&self, key: &K) -> Result<Option<V>> {
                (**self).get(key).await
            }
            async fn insert(&self, key: K, value: V) -> Result<()> {
                (**self).insert(key, value).await
            }
            async fn remove(&self, key: &K) -> Result<bool> {
                (**self).remove(key).await
            }
            async fn take(&self, key: &K) -> Result<Option<V>> {
                (**self).take(key).await
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
            async fn peek(&self, key: &K) -> Result<Option<V>> {
                (**self).peek(key).await
            }
            async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
                (**self).get_many(keys).await
            }
            async fn insert_many(&self, pairs: Vec<(K, V)>) -> Vec<Result<()>> {
                (**self).insert_many(pairs).await
            }
            async fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
                (**self).remove_many(keys).await
            }
            async fn clear(&self) -> Result<()> {
                (**self).clear().await
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
            async fn flush(&self) -> Result<()> {
                (**self).flush().await
            }
            async fn close(&self) -> Result<()> {
                (**self).close().await
            }
        }
    };
}
forward!(Box);
forward!(Arc);
