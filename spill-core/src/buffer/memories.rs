//! Where a buffer keeps its values: fast memory, which is RAM or a mapping, over slow memory (promise 10).

use super::lru::Nothing;
use super::slot::Memory;
use crate::{Key, MutableMapping, SpilledSize, Value};

/// Fast memory in RAM: the values are the buffer's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ram;

/// Fast memory in a mapping of its own, say of segment files above an object store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stored<M>(pub(super) M);

/// What can be the fast memory of a [`Buffer`](super::Buffer): [`Ram`] or [`Stored`].
pub trait FastMemory<K: Key, V: Value>: sealed::Parts<K, V> {}
impl<K: Key, V: Value, F: sealed::Parts<K, V>> FastMemory<K, V> for F {}

mod sealed {
    use super::{Key, MutableMapping, Value};

    pub trait Parts<K: Key, V: Value>: Send + Sync + 'static {
        type Mapping: MutableMapping<K, V>;
        /// Whether the values are in `mapping`.
        const STORED: bool;
        fn mapping(&self) -> &Self::Mapping;
    }
}

impl<K: Key, V: Value> sealed::Parts<K, V> for Ram {
    type Mapping = Nothing;
    const STORED: bool = false;
    fn mapping(&self) -> &Nothing {
        &Nothing
    }
}

impl<K: Key, V: Value, M: MutableMapping<K, V> + 'static> sealed::Parts<K, V> for Stored<M> {
    type Mapping = M;
    const STORED: bool = true;
    fn mapping(&self) -> &M {
        &self.0
    }
}

/// The memories of one buffer.
#[derive(Debug)]
pub(super) struct Memories<F, S> {
    pub(super) fast: F,
    pub(super) slow: S,
}

/// What the state machine needs to know of them.
pub(super) trait Below<K: Key, V: Value>: Send + Sync {
    type Fast: MutableMapping<K, V>;
    type Slow: MutableMapping<K, V>;
    /// Whether fast memory is a mapping, so that the values in the slots are stages.
    const STORED: bool;
    fn fast(&self) -> &Self::Fast;
    fn slow(&self) -> &Self::Slow;

    fn remove(&self, memory: Memory, key: &K) -> crate::Result<bool> {
        match memory {
            Memory::Fast => self.fast().remove(key),
            Memory::Slow => self.slow().remove(key),
        }
    }

    fn stored_size(&self, memory: Memory, key: &K) -> Option<SpilledSize> {
        match memory {
            Memory::Fast => self.fast().stored_size(key),
            Memory::Slow => self.slow().stored_size(key),
        }
    }

    fn spilled(&self, memory: Memory) -> SpilledSize {
        match memory {
            Memory::Fast => self.fast().usage().spilled,
            Memory::Slow => self.slow().usage().spilled,
        }
    }

    /// What a value in fast memory weighs there: the bytes of its record, where the mapping knows them.
    fn record(&self, key: &K) -> Option<u64> {
        self.fast().stored_size(key).map(|size| size.disk)
    }
}

impl<K, V, F, S> Below<K, V> for Memories<F, S>
where
    K: Key,
    V: Value,
    F: FastMemory<K, V>,
    S: MutableMapping<K, V>,
{
    type Fast = F::Mapping;
    type Slow = S;
    const STORED: bool = F::STORED;
    fn fast(&self) -> &F::Mapping {
        self.fast.mapping()
    }
    fn slow(&self) -> &S {
        &self.slow
    }
}
