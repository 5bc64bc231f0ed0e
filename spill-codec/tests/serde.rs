//! What `Serde` promises.
#![cfg(feature = "serde")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use spill_codec::Serde;
use spill_core::{Codec, ErrorKind, Frames, Result};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Empty,
    Circle(f64),
    Line { from: (i32, i32), to: (i32, i32) },
    Named(String, Option<Option<u8>>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Drawing {
    id: u128,
    shapes: Vec<Shape>,
    tags: BTreeMap<String, char>,
}

fn encode<T: Serialize + DeserializeOwned>(value: &T) -> Bytes {
    Serde.encode(value).unwrap().into_single().unwrap()
}

fn decode<T: Serialize + DeserializeOwned>(bytes: impl Into<Bytes>) -> Result<T> {
    Serde.decode(Frames::from(bytes.into()))
}

/// The message of a refusal, which must be one of the codec.
fn refusal<T: Serialize + DeserializeOwned + Debug>(bytes: impl Into<Bytes>) -> String {
    let error = decode::<T>(bytes).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Codec { codec: "serde", .. }), "{error}");
    error.to_string()
}

fn drawings() -> impl Strategy<Value = Drawing> {
    let shape = prop_oneof![
        Just(Shape::Empty),
        any::<f64>().prop_map(Shape::Circle),
        any::<((i32, i32), (i32, i32))>().prop_map(|(from, to)| Shape::Line { from, to }),
        any::<(String, Option<Option<u8>>)>().prop_map(|(name, mark)| Shape::Named(name, mark)),
    ];
    (any::<u128>(), vec(shape, 0..20), btree_map(any::<String>(), any::<char>(), 0..5))
        .prop_map(|(id, shapes, tags)| Drawing { id, shapes, tags })
}

#[test]
fn arcs_are_stored_as_what_they_hold() {
    let value = vec![1_u32, 2, 3];
    let bytes = encode(&Arc::new(value.clone()));
    assert_eq!(bytes, encode(&value));
    assert_eq!(*decode::<Arc<Vec<u32>>>(bytes).unwrap(), value);
    assert_eq!(&*decode::<Arc<str>>(encode(&"text".to_owned())).unwrap(), "text");
}

#[test]
fn a_value_of_other_than_one_frame_is_refused_with_the_count() {
    for (frames, count) in [(Frames::from(vec![]), 0), (vec![Bytes::new(); 3].into(), 3)] {
        let error = Codec::<u8>::decode(&Serde, frames).unwrap_err();
        assert!(error.to_string().contains(&format!("expected 1 frame, found {count}")), "{error}");
    }
}

#[test]
fn a_refusal_names_the_type_the_length_and_what_is_wrong() {
    let refusal = refusal::<Drawing>(vec![0xff; 40]);
    assert!(refusal.contains("40 bytes") && refusal.contains("serde::Drawing"), "{refusal}");
    assert!(refusal.contains("varint"), "{refusal}");
}

#[test]
fn bytes_behind_the_value_are_refused() {
    let mut bytes = encode(&"text".to_owned()).to_vec();
    bytes.extend([0, 0]);
    assert!(refusal::<String>(bytes).contains("2 bytes left over"));
}

#[test]
fn what_no_value_has_is_refused() {
    refusal::<bool>(vec![2]);
    refusal::<Option<u8>>(vec![2, 0]);
    refusal::<Shape>(vec![4]);
    refusal::<String>(vec![2, 0xff, 0xff]);
    refusal::<char>(vec![3, 0xed, 0xa0, 0x80]);
}

#[test]
fn a_length_beyond_the_bytes_is_an_error_and_no_allocation() {
    // Were a length believed, the allocation of so many elements would end the test.
    for bits in [20, 31, 32, 40, 50, 59, 63] {
        let mut bytes = encode(&(1_u64 << bits)).to_vec();
        bytes.extend([1; 100]);
        refusal::<Vec<u64>>(bytes.clone());
        refusal::<Vec<[u64; 8]>>(bytes.clone());
        refusal::<Vec<String>>(bytes.clone());
        refusal::<HashMap<u64, [u64; 8]>>(bytes.clone());
        refusal::<BTreeMap<u8, String>>(bytes.clone());
        refusal::<String>(bytes.clone());
        refusal::<Arc<[u16]>>(bytes);
    }
}

#[test]
fn room_taken_while_encoding_is_given_back() {
    let bytes = encode(&vec![7_u8; 100_000]);
    let owner: Vec<u8> = bytes.try_into_mut().unwrap().into();
    assert_eq!(owner.capacity(), owner.len());
}

#[test]
fn a_type_of_unknown_length_is_refused_when_it_is_encoded() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        rest: BTreeMap<String, u8>,
    }
    let error = Serde.encode(&Flat { rest: BTreeMap::from([("a".to_owned(), 1)]) }).unwrap_err();
    assert!(error.to_string().contains("cannot encode") && error.to_string().contains("Flat"), "{error}");
}

#[cfg(debug_assertions)]
#[test]
fn a_type_that_does_not_fit_is_refused_when_it_is_encoded() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        Number(u8),
    }
    #[derive(Debug, Default, Serialize, Deserialize)]
    struct Skipping {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        skipped: Option<u8>,
        last: String,
    }
    let errors = [
        Serde.encode(&Untagged::Number(1)).unwrap_err(),
        Serde.encode(&Skipping { last: "text".to_owned(), ..Skipping::default() }).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("its type does not fit"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(5), ..ProptestConfig::default() })]

    #[test]
    fn every_value_comes_back_as_it_was(drawing in drawings()) {
        prop_assert_eq!(&decode::<Drawing>(encode(&drawing)).unwrap(), &drawing);
    }

    #[test]
    fn a_value_that_was_cut_is_refused(drawing in drawings(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&drawing);
        prop_assert!(decode::<Drawing>(bytes.slice(..cut.index(bytes.len()))).is_err());
    }

    #[test]
    fn any_bytes_give_a_value_or_a_typed_error(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(drawing) = decode::<Drawing>(bytes.clone()) {
            prop_assert_eq!(decode::<Drawing>(encode(&drawing)).unwrap().shapes.len(), drawing.shapes.len());
        } else {
            refusal::<Drawing>(bytes);
        }
    }

    #[test]
    fn damaged_values_give_a_value_or_a_typed_error(
        drawing in drawings(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode(&drawing).to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if decode::<Drawing>(bytes.clone()).is_err() {
            refusal::<Drawing>(bytes);
        }
    }
}
