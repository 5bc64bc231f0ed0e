//! What a pair weighs in fast memory, in bytes.

use get_size2::{GetSize, GetSizeTracker};

use crate::Frames;

impl GetSize for Frames {
    fn get_heap_size_with_tracker<T: GetSizeTracker>(&self, tracker: T) -> (usize, T) {
        (usize::try_from(self.byte_len()).unwrap_or(usize::MAX), tracker)
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

/// Counts the value's own size and what it holds on the heap, as its [`GetSize`] says; the key is not counted,
/// since it stays in memory wherever the value is.
///
/// [`GetSize`] is the trait of the crate `get-size2`, which has it for the common types and whose feature
/// `derive` makes it for yours. It counts capacity where memory was taken for it, and all that an `Arc` points
/// to, since the mapping keeps that alive. It runs once for each insert and read back, and visits each item of a
/// collection of collections.
///
/// ```
/// use get_size2::GetSize; // get-size2 = { version = "0.11", features = ["derive"] }
/// use spill_core::{HeapWeigher, Weigh};
///
/// #[derive(Clone, GetSize)]
/// struct Reading {
///     station: String,
///     values: Vec<f64>,
/// }
///
/// let reading = Reading { station: "north".to_owned(), values: vec![0.0; 1000] };
/// let weight = HeapWeigher.weigh(&1, &reading);
/// assert_eq!(weight, size_of::<Reading>() as u64 + 5 + 8000);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HeapWeigher;

impl<K, V: GetSize> Weigh<K, V> for HeapWeigher {
    fn weigh(&self, _key: &K, value: &V) -> u64 {
        value.get_size() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    fn weight<V: GetSize>(value: &V) -> usize {
        HeapWeigher.weigh(&(), value) as usize
    }

    /// S04: common types weigh their own size and the memory they hold.
    #[test]
    fn common_types_weigh_what_they_hold() {
        assert_eq!(weight(&7_u64), 8);
        assert_eq!(weight(&String::with_capacity(100)), size_of::<String>() + 100);
        let mut numbers = Vec::with_capacity(1000);
        numbers.push(1.5_f64);
        assert_eq!(weight(&numbers), size_of::<Vec<f64>>() + 8000, "memory taken, not only what is in use");
        let words = vec!["ab".to_owned(), "cde".to_owned()];
        assert_eq!(weight(&words), size_of::<Vec<String>>() + 2 * size_of::<String>() + 5);
        assert_eq!(weight(&Arc::new([0_u32; 10])), size_of::<usize>() + 40);
        assert_eq!(weight(&Some(Box::new(1_u16))), size_of::<usize>() + 2);
        assert_eq!(weight(&Bytes::from(vec![0; 300])), size_of::<Bytes>() + 300);
        let frames = Frames::from_iter([Bytes::from(vec![0; 300]), Bytes::from(vec![0; 20])]);
        assert_eq!(weight(&frames), size_of::<Frames>() + 320);
    }

    /// S04: a slice of a larger buffer weighs what it shows; who keeps the rest alive is not ours to know.
    #[test]
    fn a_slice_weighs_its_length() {
        let slice = Bytes::from(vec![0; 1000]).slice(..10);
        assert_eq!(weight(&slice), size_of::<Bytes>() + 10);
    }
}
