//! What a pair weighs in fast memory, in bytes.

use std::sync::Arc;

use bytes::Bytes;
use get_size2::{GetSize, GetSizeTracker};

use crate::Frames;

/// A value whose [`GetSize`] tells what it holds on the heap: what [`HeapWeigher`] asks for.
///
/// [`GetSize`] is the trait of the crate `get-size2`, which has it for the common types and whose feature
/// `derive` makes it for yours. It counts capacity where memory was taken for it, and all that an `Arc` points
/// to, since the mapping keeps that alive. It is asked once for each insert and read back, and visits each item
/// of a collection of collections.
///
/// Ready for numbers, text, vectors, [`Bytes`], [`Frames`], options and pairs, and for an `Arc` of whatever has
/// [`GetSize`], which is what a type of yours should be behind to be cheap to clone.
///
/// ```
/// use std::sync::Arc;
///
/// use get_size2::GetSize; // get-size2 = { version = "0.11", features = ["derive"] }
/// use spill_core::{HeapWeigher, Weigh};
///
/// #[derive(GetSize)]
/// struct Reading {
///     station: String,
///     values: Vec<f64>,
/// }
///
/// let reading = Arc::new(Reading { station: "north".to_owned(), values: vec![0.0; 1000] });
/// assert_eq!(HeapWeigher.weigh(&1, &reading), size_of::<usize>() as u64 + size_of::<Reading>() as u64 + 5 + 8000);
/// ```
pub trait HeapSize: GetSize {
    /// Whether somebody beside the owner of `self` holds what is on the heap, so that dropping `self` frees nothing.
    /// Known of `Arc`, [`Bytes`] and [`Frames`]; `false` otherwise. Must be as cheap as reading a counter.
    fn is_shared(&self) -> bool {
        false
    }
}

macro_rules! owned {
    ($($t:ty),*) => { $(impl HeapSize for $t {})* };
}
owned!(
    (),
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    &'static str
);
owned!(String, Box<str>);

impl<T: GetSize> HeapSize for Vec<T> {}

impl HeapSize for Bytes {
    fn is_shared(&self) -> bool {
        !self.is_empty() && !self.is_unique()
    }
}

impl GetSize for Frames {
    fn get_heap_size_with_tracker<T: GetSizeTracker>(&self, tracker: T) -> (usize, T) {
        (usize::try_from(self.byte_len()).unwrap_or(usize::MAX), tracker)
    }
}

impl HeapSize for Frames {
    fn is_shared(&self) -> bool {
        Frames::is_shared(self)
    }
}

impl HeapSize for Arc<str> {
    fn is_shared(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl<T: GetSize> HeapSize for Arc<[T]> {
    fn is_shared(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl<T: GetSize> HeapSize for Arc<T> {
    fn is_shared(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl<T: HeapSize> HeapSize for Box<T> {
    fn is_shared(&self) -> bool {
        (**self).is_shared()
    }
}

impl<T: HeapSize> HeapSize for Option<T> {
    fn is_shared(&self) -> bool {
        self.as_ref().is_some_and(HeapSize::is_shared)
    }
}

impl<A: HeapSize, B: HeapSize> HeapSize for (A, B) {
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
        value.get_size() as u64
    }
    fn is_shared(&self, _key: &K, value: &V) -> bool {
        value.is_shared()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight<V: HeapSize>(value: &V) -> usize {
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
