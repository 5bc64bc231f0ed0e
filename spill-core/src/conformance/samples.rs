//! Keys and values for the suite to work with.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Frames, Key, Value};

/// Gives the suite keys and values by number, and recognises them again.
///
/// [`Ready`] serves the common types. Write your own where key or value is a type of another crate, such as
/// a record batch.
pub trait Samples<K: Key, V: Value>: Sync {
    /// The `n`-th key. Different numbers give different keys.
    fn key(&self, n: u64) -> K;

    /// The `n`-th value. Different numbers give different values.
    fn value(&self, n: u64) -> V;

    /// The number that [`value`](Samples::value) made this value of, or `None` where it is damaged in any
    /// part.
    fn number(&self, value: &V) -> Option<u64>;

    /// Whether both are the same to the last bit, in every property that storage must keep.
    fn same(&self, a: &V, b: &V) -> bool;

    /// The `n`-th value of `len` bytes; where the type has no length of its own, as [`value`](Samples::value).
    fn value_of_len(&self, n: u64, len: usize) -> V {
        let _ = len;
        self.value(n)
    }

    /// Values that a careless store mistakes for others.
    fn odd_values(&self) -> Vec<V> {
        Vec::new()
    }

    /// Different keys that a careless store mistakes for one another.
    fn odd_keys(&self) -> Vec<K> {
        Vec::new()
    }
}

/// Samples of every type that implements [`SampleKey`] and [`SampleValue`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready;

impl<K: SampleKey, V: SampleValue> Samples<K, V> for Ready {
    fn key(&self, n: u64) -> K {
        K::numbered(n)
    }
    fn value(&self, n: u64) -> V {
        V::sample(n)
    }
    fn number(&self, value: &V) -> Option<u64> {
        value.number()
    }
    fn same(&self, a: &V, b: &V) -> bool {
        a.same(b)
    }
    fn value_of_len(&self, n: u64, len: usize) -> V {
        V::of_len(n, len)
    }
    fn odd_values(&self) -> Vec<V> {
        V::odd()
    }
    fn odd_keys(&self) -> Vec<K> {
        K::odd_ones()
    }
}

/// A key type that makes its own samples for [`Ready`].
pub trait SampleKey: Key {
    /// The `n`-th key.
    fn numbered(n: u64) -> Self;
    /// Different keys that a careless store mistakes for one another.
    fn odd_ones() -> Vec<Self>;
}

impl SampleKey for u64 {
    fn numbered(n: u64) -> Self {
        n
    }
    fn odd_ones() -> Vec<Self> {
        vec![0, 1, 1 << 8, 1 << 31, 1 << 32, (1 << 32) + 1, 1 << 63, u64::MAX, u64::from(u32::MAX)]
    }
}

impl SampleKey for String {
    fn numbered(n: u64) -> Self {
        format!("key-{n}")
    }
    fn odd_ones() -> Vec<Self> {
        let short = [
            "", " ", "  ", ".", "..", "/", "//", "a", "A", "a/b", "a\\b", "a%2Fb", "a%2fb", "1", "01", "1 ",
            "\0", "a\0", "\n", "nul", "*", "~", "-rf", "x.tmp", "é", "e\u{301}", "ß", "ss", "😀",
        ];
        let mut keys: Vec<Self> = short.map(str::to_owned).into();
        keys.extend(["l".repeat(255), "l".repeat(256), "/".repeat(300), "ü".repeat(2000)]);
        keys
    }
}

impl SampleKey for Bytes {
    fn numbered(n: u64) -> Self {
        Bytes::copy_from_slice(&n.to_be_bytes())
    }
    fn odd_ones() -> Vec<Self> {
        let short: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"\xff", b"\xff\xfe", b"/", b"a"];
        let mut keys: Vec<Self> = short.map(Bytes::from_static).into();
        keys.extend([vec![0; 4096].into(), vec![0; 4097].into()]);
        keys
    }
}

/// A value type that makes its own samples for [`Ready`].
pub trait SampleValue: Value {
    /// The `n`-th value.
    fn sample(n: u64) -> Self;
    /// The `n`-th value of `len` bytes, or [`sample`](SampleValue::sample) where the type has no length.
    fn of_len(n: u64, len: usize) -> Self;
    /// The number that [`sample`](SampleValue::sample) made this of, or `None` where it is damaged.
    fn number(&self) -> Option<u64>;
    /// Whether both are the same in every property that storage must keep.
    fn same(&self, other: &Self) -> bool;
    /// Values that a careless store mistakes for others.
    fn odd() -> Vec<Self>;
}

impl SampleValue for u64 {
    fn sample(n: u64) -> Self {
        n
    }
    fn of_len(n: u64, _len: usize) -> Self {
        n
    }
    fn number(&self) -> Option<u64> {
        Some(*self)
    }
    fn same(&self, other: &Self) -> bool {
        self == other
    }
    fn odd() -> Vec<Self> {
        vec![0, 1, 1 << 32, u64::MAX]
    }
}

/// The `n`-th content of `len` bytes: the number, then noise where it is odd and a short pattern where it is
/// even, so that compressors meet both.
fn content(n: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    bytes.extend_from_slice(&n.to_le_bytes());
    let mut state = n;
    while bytes.len() < len {
        if n.is_multiple_of(2) {
            bytes.extend_from_slice(b"pattern ");
        } else {
            state = next_noise(state);
            bytes.extend_from_slice(&state.to_le_bytes());
        }
    }
    bytes.truncate(len);
    bytes
}

/// The length of the `n`-th value: never below the eight bytes of its number.
fn usual_len(n: u64) -> usize {
    8 + usize::try_from(n.wrapping_mul(61) % 700).unwrap_or(0)
}

/// One step of the xorshift generator with a multiplier, whose sequence is the same everywhere.
pub(super) fn next_noise(state: u64) -> u64 {
    let mut x = state ^ 0x9E37_79B9_7F4A_7C15;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    x.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

/// The number that [`content`] wrote at the beginning.
fn leading_number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|number| u64::from_le_bytes(*number))
}

macro_rules! byte_samples {
    ($type:ty) => {
        impl SampleValue for $type {
            fn sample(n: u64) -> Self {
                Self::of_len(n, usual_len(n))
            }
            fn of_len(n: u64, len: usize) -> Self {
                content(n, len).into()
            }
            fn number(&self) -> Option<u64> {
                leading_number(self).filter(|n| Self::sample(*n) == *self)
            }
            fn same(&self, other: &Self) -> bool {
                self == other
            }
            fn odd() -> Vec<Self> {
                vec![Self::default(), vec![0; 1].into(), vec![0; 8].into(), vec![0xff; 64].into()]
            }
        }
    };
}
byte_samples!(Bytes);
byte_samples!(Vec<u8>);

impl SampleValue for String {
    fn sample(n: u64) -> Self {
        Self::of_len(n, 20 + usual_len(n))
    }
    fn of_len(n: u64, len: usize) -> Self {
        let mut text = format!("{n:020}");
        text.extend(std::iter::repeat_n('.', len.saturating_sub(text.len())));
        text.truncate(len);
        text
    }
    fn number(&self) -> Option<u64> {
        self.get(..20)?.parse().ok().filter(|n| Self::sample(*n) == *self)
    }
    fn same(&self, other: &Self) -> bool {
        self == other
    }
    fn odd() -> Vec<Self> {
        ["", "\0", "é", "e\u{301}", "\u{feff}", "\r\n"].map(str::to_owned).into()
    }
}

impl SampleValue for Frames {
    /// Three frames, the middle one empty: a store that loses boundaries is found out everywhere.
    fn sample(n: u64) -> Self {
        let content = Bytes::from(content(n, usual_len(n)));
        Frames::from_iter([content.slice(..8), Bytes::new(), content.slice(8..)])
    }
    /// One frame where `n` is even, else three of uneven length.
    fn of_len(n: u64, len: usize) -> Self {
        let content = Bytes::from(content(n, len));
        if n.is_multiple_of(2) {
            return content.into();
        }
        let (first, second) = (len / 7, len / 2);
        Frames::from_iter([content.slice(..first), content.slice(first..second), content.slice(second..)])
    }
    fn number(&self) -> Option<u64> {
        let head = self.as_slice().first()?;
        leading_number(head).filter(|n| Self::sample(*n) == *self)
    }
    fn same(&self, other: &Self) -> bool {
        self == other && self.weight() == other.weight()
    }
    fn odd() -> Vec<Self> {
        let frame = |text: &'static str| Bytes::from_static(text.as_bytes());
        vec![
            Frames::from(Vec::new()),
            Frames::from(Vec::new()).with_weight(7),
            Frames::from(Bytes::new()),
            Frames::from_iter([Bytes::new(), Bytes::new()]),
            Frames::from_iter([Bytes::new(), frame("a")]),
            Frames::from_iter([frame("a"), Bytes::new()]),
            Frames::from_iter([frame("a"), Bytes::new(), Bytes::new(), frame("b")]),
            Frames::from_iter([frame("ab"), frame("c")]),
            Frames::from_iter([frame("a"), frame("bc")]),
            Frames::from(frame("abc")),
            Frames::from(frame("abc")).with_weight(0),
            Frames::from(frame("abc")).with_weight(1 << 40),
            Frames::from_iter((0..300_usize).map(|n| Bytes::from(vec![0x61; n % 5]))),
            Frames::from_iter([Bytes::from(vec![1; 4096]), Bytes::new(), Bytes::from(vec![2; 4097])]),
        ]
    }
}

impl<T: SampleValue> SampleValue for Arc<T> {
    fn sample(n: u64) -> Self {
        Arc::new(T::sample(n))
    }
    fn of_len(n: u64, len: usize) -> Self {
        Arc::new(T::of_len(n, len))
    }
    fn number(&self) -> Option<u64> {
        (**self).number()
    }
    fn same(&self, other: &Self) -> bool {
        (**self).same(other)
    }
    fn odd() -> Vec<Self> {
        T::odd().into_iter().map(Arc::new).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognised<V: SampleValue>() {
        for n in [0, 1, 2, 63, 700, u64::MAX] {
            assert_eq!(V::sample(n).number(), Some(n));
        }
        assert!(!V::sample(1).same(&V::sample(2)));
    }

    #[test]
    fn every_ready_value_is_recognised_by_its_number() {
        recognised::<u64>();
        recognised::<Bytes>();
        recognised::<Vec<u8>>();
        recognised::<String>();
        recognised::<Frames>();
        recognised::<Arc<Bytes>>();
    }

    #[test]
    fn a_damaged_value_has_no_number() {
        let mut bytes = Vec::<u8>::sample(9);
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(bytes.number(), None);
        let merged: Vec<u8> = Frames::sample(9).iter().flatten().copied().collect();
        assert_eq!(Frames::from(Bytes::from(merged)).number(), None);
    }

    #[test]
    fn values_of_a_length_have_it() {
        for len in [0, 1, 7, 8, 9, 4097] {
            assert_eq!(Bytes::of_len(3, len).len(), len);
            assert_eq!(String::of_len(3, len).len(), len);
            assert_eq!(Frames::of_len(3, len).byte_len(), len as u64);
        }
    }

    #[test]
    fn odd_keys_differ() {
        let keys: std::collections::HashSet<String> = String::odd_ones().into_iter().collect();
        assert_eq!(keys.len(), String::odd_ones().len());
    }
}
