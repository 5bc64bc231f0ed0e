//! `Func`: a mapping seen through a pair of functions (PARITY Z01).

use std::any::TypeId;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::stats::Meter;
use crate::{
    Clock, Frames, Key, MutableMapping, Result, SpilledSize, Stats, SystemClock, Usage, Value, Weigh,
};

/// Turns values of one type into another and back; usually a value into [`Frames`].
///
/// A pair of functions is a codec:
///
/// ```
/// use bytes::Bytes;
/// use spill_core::{Codec, Error, Frames, Result};
///
/// let codec = (
///     |n: &u64| -> Result<Frames> { Ok(Bytes::copy_from_slice(&n.to_le_bytes()).into()) },
///     |frames: Frames| -> Result<u64> {
///         let bytes = frames.into_single().unwrap_or_default();
///         let bytes = bytes[..].try_into().map_err(|_| Error::codec("u64", "expected one frame of 8 bytes"))?;
///         Ok(u64::from_le_bytes(bytes))
///     },
/// );
/// assert_eq!(codec.decode(codec.encode(&7)?)?, 7);
/// # Ok::<_, Error>(())
/// ```
pub trait Codec<V, W = Frames>: Send + Sync + 'static {
    /// The stored form of `value`.
    ///
    /// # Errors
    /// [`Codec`](crate::ErrorKind::Codec) when this value cannot be stored.
    fn encode(&self, value: &V) -> Result<W>;

    /// The value whose stored form this is.
    ///
    /// # Errors
    /// [`Codec`](crate::ErrorKind::Codec) when the stored form is damaged; it must not panic on any input.
    fn decode(&self, stored: W) -> Result<V>;

    /// Whether both directions cost less than reading the clock; they are then counted and not timed.
    fn trivial(&self) -> bool {
        false
    }
}

impl<V, W, E, D> Codec<V, W> for (E, D)
where
    E: Fn(&V) -> Result<W> + Send + Sync + 'static,
    D: Fn(W) -> Result<V> + Send + Sync + 'static,
{
    fn encode(&self, value: &V) -> Result<W> {
        (self.0)(value)
    }
    fn decode(&self, stored: W) -> Result<V> {
        (self.1)(stored)
    }
}

/// A mapping of `V` over a mapping of `W`: encodes on the way in, decodes on the way out.
///
/// Errors of codec and storage pass through. `insert_many` encodes one value at a time, so that at most two encoded
/// values are alive whatever the batch.
///
/// # Threads: what is locked, what is not, who wins
///
/// It holds no lock and no value: the codec runs in the caller, for several callers at once, and who wins is decided by
/// the mapping below. Only [`take`](MutableMapping::take) makes two calls of it, so as to lose nothing that cannot be
/// decoded; what is written between them is what it takes.
pub struct Func<K, V, W, C, M> {
    codec: C,
    inner: M,
    label: Option<Label<K, V, W>>,
    clock: Arc<dyn Clock>,
    encode: Meter,
    decode: Meter,
    types: PhantomData<fn(K, V, W)>,
}

/// Writes the weight a value had into its stored form.
type Label<K, V, W> = Box<dyn Fn(&K, &V, W) -> W + Send + Sync>;

impl<K: Key, V: Value, W: Value, C: Codec<V, W>, M: MutableMapping<K, W>> Func<K, V, W, C, M> {
    /// `inner` seen through `codec`.
    pub fn new(codec: C, inner: M) -> Self {
        Func {
            codec,
            inner,
            label: None,
            clock: Arc::new(SystemClock::new()),
            encode: Meter::default(),
            decode: Meter::default(),
            types: PhantomData,
        }
    }

    /// Takes times from `clock` instead of the operating system.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The mapping below.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    fn encode(&self, key: &K, value: &V) -> Result<W> {
        let stored = self.metered(&self.encode, || self.codec.encode(value))?;
        Ok(match &self.label {
            Some(label) => label(key, value, stored),
            None => stored,
        })
    }

    fn decode(&self, stored: Option<W>) -> Result<Option<V>> {
        stored.map(|stored| self.metered(&self.decode, || self.codec.decode(stored))).transpose()
    }

    fn metered<T>(&self, meter: &Meter, f: impl FnOnce() -> T) -> T {
        if self.codec.trivial() {
            meter.add(1, 0, std::time::Duration::ZERO);
            f()
        } else {
            meter.time(&*self.clock, 0, f)
        }
    }
}

impl<K: Key, V: Value, C: Codec<V>, M: MutableMapping<K, Frames>> Func<K, V, Frames, C, M> {
    /// Labels the frames with what `weigher` says of the value, so that storage can report what spilled
    /// values weighed. Give it the buffer's own weigher. Without one the frames' length is the weight. Values
    /// that are [`Frames`] themselves carry a weight already and keep it.
    #[must_use]
    pub fn weighed_by(mut self, weigher: impl Weigh<K, V>) -> Self {
        if TypeId::of::<V>() == TypeId::of::<Frames>() {
            return self;
        }
        self.label = Some(Box::new(move |key, value, frames| frames.with_weight(weigher.weigh(key, value))));
        self
    }
}

impl<K: Key, V: Value, W: Value, C: Codec<V, W>, M: MutableMapping<K, W>> MutableMapping<K, V>
    for Func<K, V, W, C, M>
{
    fn get(&self, key: &K) -> Result<Option<V>> {
        self.decode(self.inner.get(key)?)
    }
    fn insert(&self, key: K, value: V) -> Result<()> {
        let stored = self.encode(&key, &value)?;
        self.inner.insert(key, stored)
    }
    fn remove(&self, key: &K) -> Result<bool> {
        self.inner.remove(key)
    }
    /// A value that cannot be decoded stays: it is read before it is taken. Of two that take at once, one
    /// gets the value.
    fn take(&self, key: &K) -> Result<Option<V>> {
        if self.decode(self.inner.peek(key)?)?.is_none() {
            return Ok(None);
        }
        self.decode(self.inner.take(key)?)
    }
    fn contains_key(&self, key: &K) -> bool {
        self.inner.contains_key(key)
    }
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        self.inner.for_each_key(f);
    }
    fn peek(&self, key: &K) -> Result<Option<V>> {
        self.decode(self.inner.peek(key)?)
    }
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
        self.inner.get_many(keys).into_iter().map(|stored| self.decode(stored?)).collect()
    }
    fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        self.inner.remove_many(keys)
    }
    fn clear(&self) -> Result<()> {
        self.inner.clear()
    }
    fn usage(&self) -> Usage {
        self.inner.usage()
    }
    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        self.inner.stored_size(key)
    }
    fn stats(&self) -> Stats {
        let mut stats = self.inner.stats();
        stats.encode = stats.encode + self.encode.read();
        stats.decode = stats.decode + self.decode.read();
        stats
    }
    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}
