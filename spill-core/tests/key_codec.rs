//! `KeyCodec`: every key comes back, no two keys are one, and no bytes make it panic.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use spill_core::{ErrorKind, KeyCodec};

fn comes_back<K: KeyCodec + Debug>(key: &K) -> Result<(), TestCaseError> {
    let decoded = K::decode_key(&key.key_bytes()).ok();
    prop_assert_eq!(decoded.as_ref(), Some(key));
    let mut appended = b"before".to_vec();
    key.encode_key(&mut appended);
    prop_assert_eq!(appended, [b"before".to_vec(), key.key_bytes()].concat());
    Ok(())
}

/// Bytes are either refused with a typed error, or are the one form of the key that they give.
fn one_form<K: KeyCodec>(bytes: &[u8]) -> Result<(), TestCaseError> {
    match K::decode_key(bytes) {
        Ok(key) => prop_assert_eq!(key.key_bytes(), bytes),
        Err(error) => {
            let typed = matches!(error.kind(), ErrorKind::Codec { .. });
            prop_assert!(typed);
        }
    }
    Ok(())
}

fn apart<K: KeyCodec + Debug>(a: &K, b: &K) -> Result<(), TestCaseError> {
    prop_assert_eq!(a == b, a.key_bytes() == b.key_bytes(), "{:?} {:?}", a, b);
    Ok(())
}

type Nested = ((String, u16), (bool, (char, Vec<u8>)));

fn short_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop_oneof![Just(0), Just(1), Just(0x80), any::<u8>()], 0..12)
}

proptest! {
    #[test]
    fn every_key_comes_back(
        text in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..300),
        n in any::<u128>(), flag in any::<bool>(), letter in any::<char>(),
    ) {
        comes_back(&text)?;
        comes_back(&Arc::<str>::from(text.as_str()))?;
        comes_back(&Box::<str>::from(text.as_str()))?;
        comes_back(&bytes)?;
        comes_back(&Bytes::from(bytes.clone()))?;
        comes_back(&Arc::<[u8]>::from(bytes.as_slice()))?;
        comes_back(&Box::<[u8]>::from(bytes.as_slice()))?;
        comes_back(&n)?;
        comes_back(&(n as u64))?;
        comes_back(&(n as u32))?;
        comes_back(&(n as u16))?;
        comes_back(&(n as u8))?;
        comes_back(&(n as usize))?;
        comes_back(&(n as i128))?;
        comes_back(&(n as i64))?;
        comes_back(&(n as i32))?;
        comes_back(&(n as i16))?;
        comes_back(&(n as i8))?;
        comes_back(&(n as isize))?;
        comes_back(&flag)?;
        comes_back(&letter)?;
        comes_back(&())?;
        let nested: Nested = ((text, n as u16), (flag, (letter, bytes)));
        comes_back(&nested)?;
        comes_back(&(nested.clone(), nested))?;
    }

    #[test]
    fn keys_that_differ_have_other_bytes(
        a in (short_bytes(), short_bytes()), b in (short_bytes(), short_bytes()),
    ) {
        apart(&a, &b)?;
        let swapped = |(x, y): &(Vec<u8>, Vec<u8>)| (y.clone(), x.clone());
        apart(&a, &swapped(&a))?;
        apart(&(a.clone(), a.0.clone()), &(b.clone(), b.0.clone()))?;
        // The same bytes, cut elsewhere.
        let joined = [a.0.clone(), a.1.clone()].concat();
        apart(&a, &(joined, Vec::new()))?;
    }

    #[test]
    fn bytes_are_one_key_or_none(bytes in prop_oneof![short_bytes(), prop::collection::vec(any::<u8>(), 0..40)]) {
        one_form::<String>(&bytes)?;
        one_form::<Vec<u8>>(&bytes)?;
        one_form::<u8>(&bytes)?;
        one_form::<i64>(&bytes)?;
        one_form::<usize>(&bytes)?;
        one_form::<u128>(&bytes)?;
        one_form::<bool>(&bytes)?;
        one_form::<char>(&bytes)?;
        one_form::<()>(&bytes)?;
        one_form::<(Vec<u8>, Vec<u8>)>(&bytes)?;
        one_form::<(u8, String)>(&bytes)?;
        one_form::<((), ())>(&bytes)?;
        one_form::<Nested>(&bytes)?;
    }
}

/// Files outlive the program that wrote them, so the form never changes.
#[test]
fn the_form_is_fixed() {
    assert_eq!("aé".to_owned().key_bytes(), "aé".as_bytes());
    assert_eq!(258_u32.key_bytes(), [0, 0, 1, 2]);
    assert_eq!((-2_i16).key_bytes(), [0xff, 0xfe]);
    assert_eq!(7_usize.key_bytes(), [0, 0, 0, 0, 0, 0, 0, 7]);
    assert_eq!('b'.key_bytes(), [0, 0, 0, b'b']);
    assert_eq!((true, ()).key_bytes(), [1, 1]);
    assert_eq!((vec![7_u8; 300], 1_u8).key_bytes()[..3], [0xac, 0x02, 7]);
}
