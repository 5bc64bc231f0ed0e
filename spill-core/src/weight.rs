//! What a pair weighs in fast memory, in bytes.

use std::sync::Arc;

use bytes::Bytes;

use crate::Frames;

/// Bytes that a value holds on the heap, beyond its own `size_of`.
///
/// Ready for the common types; implement it for your own by summing the fields. An `Arc<T>` counts what it
/// points to in full, since the mapping keeps it alive; capacity counts, not length, where memory was taken
/// for it.
pub trait HeapSize {
    /// Bytes on the heap. Should be cheap: it runs once for each insert and read back.
    fn heap_size(&self) -> u64;
}

macro_rules! flat {
    ($($t:ty),*) => { $(impl HeapSize for $t { fn heap_size(&self) -> u64 { 0 } })* };
}
flat!((), bool, char, u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, &'static str);

/// What `Arc` keeps beside its value: two counts.
const ARC_HEADER: u64 = 16;

impl HeapSize for Bytes {
    fn heap_size(&self) -> u64 {
        self.len() as u64
    }
}

impl HeapSize for Frames {
    fn heap_size(&self) -> u64 {
        self.byte_len()
    }
}

impl HeapSize for String {
    fn heap_size(&self) -> u64 {
        self.capacity() as u64
    }
}

impl HeapSize for Box<str> {
    fn heap_size(&self) -> u64 {
        self.len() as u64
    }
}

impl HeapSize for Arc<str> {
    fn heap_size(&self) -> u64 {
        ARC_HEADER + self.len() as u64
    }
}

impl<T: HeapSize> HeapSize for Vec<T> {
    fn heap_size(&self) -> u64 {
        (self.capacity() * size_of::<T>()) as u64 + self.iter().map(HeapSize::heap_size).sum::<u64>()
    }
}

impl<T: HeapSize> HeapSize for Arc<[T]> {
    fn heap_size(&self) -> u64 {
        ARC_HEADER + size_of_val(&**self) as u64 + self.iter().map(HeapSize::heap_size).sum::<u64>()
    }
}

impl<T: HeapSize> HeapSize for Box<T> {
    fn heap_size(&self) -> u64 {
        size_of::<T>() as u64 + (**self).heap_size()
    }
}

impl<T: HeapSize> HeapSize for Arc<T> {
    fn heap_size(&self) -> u64 {
        ARC_HEADER + size_of::<T>() as u64 + (**self).heap_size()
    }
}

impl<T: HeapSize> HeapSize for Option<T> {
    fn heap_size(&self) -> u64 {
        self.as_ref().map_or(0, HeapSize::heap_size)
    }
}

impl<A: HeapSize, B: HeapSize> HeapSize for (A, B) {
    fn heap_size(&self) -> u64 {
        self.0.heap_size() + self.1.heap_size()
    }
}

/// Weighs a pair in bytes. A function of key and value is a weigher; [`HeapWeigher`] is the default.
///
/// It runs without a lock. A panic is caught: the insert fails with
/// [`Panicked`](crate::ErrorKind::Panicked) and the old value stays.
pub trait Weigh<K, V>: Send + Sync + 'static {
    /// The bytes that the pair takes in fast memory; more than 2^48 counts as that.
    fn weigh(&self, key: &K, value: &V) -> u64;
}

impl<K, V, F: Fn(&K, &V) -> u64 + Send + Sync + 'static> Weigh<K, V> for F {
    fn weigh(&self, key: &K, value: &V) -> u64 {
        self(key, value)
    }
}

/// Counts the value's own size and what it holds on the heap; the key is not counted, since it stays in
/// memory wherever the value is.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapWeigher;

impl<K, V: HeapSize> Weigh<K, V> for HeapWeigher {
    fn weigh(&self, _key: &K, value: &V) -> u64 {
        size_of::<V>() as u64 + value.heap_size()
    }
}
