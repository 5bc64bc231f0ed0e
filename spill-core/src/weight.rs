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

    /// Whether somebody beside the owner of `self` holds what is on the heap, so that dropping `self` frees nothing.
    /// Known of `Arc`, [`Bytes`] and [`Frames`]; `false` otherwise. Must be as cheap as reading a counter.
    fn is_shared(&self) -> bool {
        false
    }
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
    fn is_shared(&self) -> bool {
        !self.is_empty() && !self.is_unique()
    }
}

impl HeapSize for Frames {
    fn heap_size(&self) -> u64 {
        self.byte_len()
    }
    fn is_shared(&self) -> bool {
        Frames::is_shared(self)
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
    fn is_shared(&self) -> bool {
        Arc::strong_count(self) > 1
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
    fn is_shared(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl<T: HeapSize> HeapSize for Box<T> {
    fn heap_size(&self) -> u64 {
        size_of::<T>() as u64 + (**self).heap_size()
    }
    fn is_shared(&self) -> bool {
        (**self).is_shared()
    }
}

impl<T: HeapSize> HeapSize for Arc<T> {
    fn heap_size(&self) -> u64 {
        ARC_HEADER + size_of::<T>() as u64 + (**self).heap_size()
    }
    fn is_shared(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl<T: HeapSize> HeapSize for Option<T> {
    fn heap_size(&self) -> u64 {
        self.as_ref().map_or(0, HeapSize::heap_size)
    }
    fn is_shared(&self) -> bool {
        self.as_ref().is_some_and(HeapSize::is_shared)
    }
}

impl<A: HeapSize, B: HeapSize> HeapSize for (A, B) {
    fn heap_size(&self) -> u64 {
        self.0.heap_size() + self.1.heap_size()
    }
    fn is_shared(&self) -> bool {
        self.0.is_shared() || self.1.is_shared()
    }
}

/// Weighs a pair in bytes. A function of key and value is a weigher; [`HeapWeigher`] is the default.
///
/// It runs without a lock. A panic is caught: the insert fails with
/// [`Panicked`](crate::ErrorKind::Panicked) and the old value stays.
pub trait Weigh<K, V>: Send + Sync + 'static {
    /// The bytes that the pair takes in fast memory; more than 2^48 counts as that.
    fn weigh(&self, key: &K, value: &V) -> u64;

    /// Whether somebody beside the mapping holds `value`, so that spilling it would free nothing. Asked only with
    /// [`Shared::Defer`](crate::Shared::Defer), about the mapping's own handle: an `Arc` is shared when it counts more
    /// than one. [`HeapWeigher`] asks [`HeapSize::is_shared`]; a function says `false`.
    ///
    /// It runs under the table's lock: it must read a counter or so, call nothing that waits, and not touch the
    /// mapping. A panic counts as `false`.
    fn is_shared(&self, key: &K, value: &V) -> bool {
        let _ = (key, value);
        false
    }
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
    fn is_shared(&self, _key: &K, value: &V) -> bool {
        value.is_shared()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_is_what_others_hold_too() {
        let value = Arc::new(vec![1u8]);
        assert!(!value.is_shared());
        let other = Arc::clone(&value);
        assert!(value.is_shared() && Some(other).is_shared());
        assert!(!value.is_shared(), "the other one is gone");
        assert!(!Arc::<[u8]>::from([1, 2]).is_shared() && !Arc::<str>::from("text").is_shared());

        let bytes = Bytes::from(vec![1; 10]);
        assert!(!bytes.is_shared() && !Bytes::new().is_shared());
        let part = bytes.slice(..2);
        assert!(bytes.is_shared() && part.is_shared());
        drop(bytes);
        assert!(!part.is_shared());

        let one = Frames::from(part);
        assert!(!one.is_shared());
        let again = one.clone();
        assert!(one.is_shared());
        drop(again);
        assert!(!one.is_shared());
        let whole = Bytes::from(vec![1; 10]);
        let several = Frames::from(vec![whole.slice(..5), whole.slice(5..)]);
        drop(whole);
        assert!(!several.is_shared(), "parts of one buffer that nobody else has");
        assert!((several.clone(), 1u8).is_shared());
    }
}
