//! Keys as bytes, for stores that persist or list them.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Error, Key, Result};

/// A key that can be written as bytes and read back.
///
/// Ready for text, bytes, integers, `bool`, `char`, `()` and pairs of such; a longer tuple is a pair of pairs.
/// For a type of your own give each field to a pair, or implement it by hand. Promises:
///
/// - Different keys of one type give different bytes; keys of different types may give the same.
/// - What [`encode_key`](Self::encode_key) appended, [`decode_key`](Self::decode_key) gives back. Other bytes
///   are an error and never a panic, so that each key has exactly one form.
/// - The form never changes, since files outlive the program that wrote them. It is the same on every machine.
///
/// Nothing is promised of the order of the bytes.
///
/// | type | form |
/// |---|---|
/// | text, bytes | as they are |
/// | integers | all their bytes, the highest first; `usize` and `isize` as 64 bits |
/// | `bool` | one byte, 0 or 1 |
/// | `char` | as a `u32` |
/// | `()` | nothing |
/// | a pair | the length of the first key's form, the first key, the second key; the length is seven bits a byte, the lowest first, the highest bit set on all bytes but the last |
///
/// ```
/// use spill_core::KeyCodec;
///
/// let key = ("tasks".to_owned(), 7_u32);
/// assert_eq!(key.key_bytes(), b"\x05tasks\0\0\0\x07");
/// assert_eq!(<(String, u32)>::decode_key(&key.key_bytes())?, key);
/// assert!(u32::decode_key(b"123").is_err());
/// # Ok::<_, spill_core::Error>(())
/// ```
pub trait KeyCodec: Key {
    /// Appends the bytes of this key to `out`.
    fn encode_key(&self, out: &mut Vec<u8>);

    /// The key with these bytes.
    ///
    /// # Errors
    /// [`Codec`](crate::ErrorKind::Codec) when no key has them.
    fn decode_key(bytes: &[u8]) -> Result<Self>;

    /// The bytes of this key.
    fn key_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode_key(&mut bytes);
        bytes
    }
}

fn refused(type_name: &'static str, bytes: &[u8], expected: &str) -> Error {
    Error::codec(type_name, format!("{} bytes are no key: expected {expected}", bytes.len()))
}

macro_rules! integers {
    ($($t:ident),*) => { $(
        impl KeyCodec for $t {
            fn encode_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn decode_key(bytes: &[u8]) -> Result<Self> {
                let exact = bytes.try_into().map_err(|_| {
                    refused(stringify!($t), bytes, concat!("the size of a ", stringify!($t)))
                })?;
                Ok(Self::from_be_bytes(exact))
            }
        }
    )* };
}
integers!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);

macro_rules! native_integers {
    ($($t:ident as $wide:ident),*) => { $(
        impl KeyCodec for $t {
            fn encode_key(&self, out: &mut Vec<u8>) {
                // No machine's are wider.
                (*self as $wide).encode_key(out);
            }
            fn decode_key(bytes: &[u8]) -> Result<Self> {
                Self::try_from($wide::decode_key(bytes)?).map_err(|_| {
                    refused(stringify!($t), bytes, "a number that this machine can count to")
                })
            }
        }
    )* };
}
native_integers!(usize as u64, isize as i64);

impl KeyCodec for () {
    fn encode_key(&self, _out: &mut Vec<u8>) {}
    fn decode_key(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() { Ok(()) } else { Err(refused("()", bytes, "none")) }
    }
}

impl KeyCodec for bool {
    fn encode_key(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn decode_key(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(refused("bool", bytes, "one byte, 0 or 1")),
        }
    }
}

impl KeyCodec for char {
    fn encode_key(&self, out: &mut Vec<u8>) {
        u32::from(*self).encode_key(out);
    }
    fn decode_key(bytes: &[u8]) -> Result<Self> {
        let number = u32::decode_key(bytes)?;
        char::from_u32(number).ok_or_else(|| refused("char", bytes, "the number of a character"))
    }
}

macro_rules! byte_strings {
    ($($t:ty),*) => { $(
        impl KeyCodec for $t {
            fn encode_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(self);
            }
            fn decode_key(bytes: &[u8]) -> Result<Self> {
                Ok(bytes.to_vec().into())
            }
        }
    )* };
}
byte_strings!(Vec<u8>, Box<[u8]>, Arc<[u8]>, Bytes);

macro_rules! texts {
    ($($t:ty),*) => { $(
        impl KeyCodec for $t {
            fn encode_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(self.as_bytes());
            }
            fn decode_key(bytes: &[u8]) -> Result<Self> {
                match std::str::from_utf8(bytes) {
                    Ok(text) => Ok(text.into()),
                    Err(_) => Err(refused("text", bytes, "UTF-8")),
                }
            }
        }
    )* };
}
texts!(String, Box<str>, Arc<str>);

impl<A: KeyCodec, B: KeyCodec> KeyCodec for (A, B) {
    fn encode_key(&self, out: &mut Vec<u8>) {
        let first = self.0.key_bytes();
        write_length(first.len(), out);
        out.extend_from_slice(&first);
        self.1.encode_key(out);
    }
    fn decode_key(bytes: &[u8]) -> Result<Self> {
        let parts = read_length(bytes).and_then(|(length, rest)| rest.split_at_checked(length));
        let (first, second) = parts.ok_or_else(|| refused("pair", bytes, "a length and two keys"))?;
        Ok((A::decode_key(first)?, B::decode_key(second)?))
    }
}

fn write_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// The length and what follows it. Only the shortest form of a length is one.
fn read_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        length |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let shortest = at == 0 || *byte != 0;
            let length = usize::try_from(length).ok().filter(|_| shortest)?;
            return Some((length, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_has_one_form() {
        for length in [0, 1, 127, 128, 300, 1 << 20, usize::MAX >> 1] {
            let mut bytes = Vec::new();
            write_length(length, &mut bytes);
            bytes.push(42);
            assert_eq!(read_length(&bytes), Some((length, &[42][..])));
        }
        assert_eq!(read_length(&[0x81, 0x00]), None, "not the shortest");
        assert_eq!(read_length(&[0x80]), None, "cut short");
        assert_eq!(read_length(&[0xff; 20]), None, "too long");
        assert_eq!(read_length(&[]), None);
    }
}
