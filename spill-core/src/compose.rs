//! Putting layers together by method calls, from storage upwards.

use crate::{Buffer, BufferBuilder, Cache, Codec, Func, Key, KeyMap, MutableMapping, Result, Stored, Value};

/// Builds a chain upwards from a mapping, each call one layer more. Implemented for all mappings; not to be
/// implemented by hand.
///
/// ```
/// use spill_core::{BufferBuilder, Compose, Lru, MutableMapping, Result};
///
/// let storage: Lru<u32, String> = BufferBuilder::new().alone()?;
/// let numbers = storage
///     .coded((
///         |n: &u64| -> Result<String> { Ok(n.to_string()) },
///         |s: String| -> Result<u64> { s.parse().map_err(|_| spill_core::Error::codec("decimal", s)) },
///     ))
///     .buffered(BufferBuilder::new().target(1 << 20))?;
/// numbers.insert(1, 42)?;
/// assert_eq!(numbers.get(&1)?, Some(42));
/// # Ok::<_, spill_core::Error>(())
/// ```
pub trait Compose<K: Key, W: Value>: MutableMapping<K, W> + Sized {
    /// A [`Func`] over this mapping: values of another type, through `codec`.
    fn coded<V: Value, C: Codec<V, W>>(self, codec: C) -> Func<K, V, W, C, Self> {
        Func::new(codec, self)
    }

    /// A [`Buffer`] over this mapping: values stay in RAM up to the target that `builder` sets.
    ///
    /// # Errors
    /// As [`BufferBuilder::over`].
    fn buffered(self, builder: BufferBuilder<K, W>) -> Result<Buffer<K, W, Self>>
    where
        Self: 'static,
    {
        builder.over(self)
    }

    /// A [`Buffer`] over this mapping whose fast memory is `fast`: what `fast` has no room for comes here. The middle
    /// level of RAM over disk over an object store is `objects.behind(segments, builder)`.
    ///
    /// # Errors
    /// As [`BufferBuilder::stored`].
    fn behind<F>(self, fast: F, builder: BufferBuilder<K, W>) -> Result<Buffer<K, W, Self, Stored<F>>>
    where
        F: MutableMapping<K, W> + 'static,
        Self: 'static,
    {
        builder.stored(fast, self)
    }

    /// A [`Cache`] over this mapping: `cache` answers the reads that it can.
    fn cached<C: MutableMapping<K, W>>(self, cache: C) -> Cache<K, W, Self, C> {
        Cache::new(self, cache)
    }

    /// A [`KeyMap`] over this mapping: other keys, translated by `to`, and back by `from`.
    ///
    /// # Errors
    /// As [`KeyMap::new`].
    fn keyed<L, F, G>(self, to: F, from: G) -> Result<KeyMap<L, K, W, F, G, Self>>
    where
        L: Key,
        F: Fn(&L) -> K + Send + Sync + 'static,
        G: Fn(&K) -> Result<L> + Send + Sync + 'static,
    {
        KeyMap::new(to, from, self)
    }
}
impl<K: Key, W: Value, M: MutableMapping<K, W> + Sized> Compose<K, W> for M {}
