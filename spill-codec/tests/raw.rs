//! What `Raw` promises for each type.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use spill_codec::Raw;
use spill_core::{Codec, ErrorKind, Frames, Result};

fn round_trip<V: PartialEq + Debug>(value: &V) -> V
where
    Raw: Codec<V>,
{
    Raw.decode(Raw.encode(value).unwrap()).unwrap()
}

fn decode<V>(frames: Frames) -> Result<V>
where
    Raw: Codec<V>,
{
    Raw.decode(frames)
}

/// The message of an error, which must be one of the codec.
fn refusal<V: Debug>(frames: &Frames) -> String
where
    Raw: Codec<V>,
{
    let error = decode::<V>(frames.clone()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Codec { codec: "raw", .. }), "{error}");
    error.to_string()
}

#[test]
fn bytes_and_frames_pass_both_ways_without_a_copy() {
    let bytes = Bytes::from(vec![1, 2, 3]);
    let back = round_trip(&bytes);
    assert_eq!((back.as_ptr(), back.len()), (bytes.as_ptr(), 3));

    let frames = Frames::from_iter([bytes.clone(), Bytes::new(), bytes.clone()]).with_weight(77);
    let back = round_trip(&frames);
    assert_eq!(back, frames);
    assert_eq!(back.weight(), 77);
    assert_eq!(back.as_slice()[2].as_ptr(), bytes.as_ptr());

    assert!(<Raw as Codec<Bytes>>::trivial(&Raw) && <Raw as Codec<Frames>>::trivial(&Raw));
    assert!(!<Raw as Codec<String>>::trivial(&Raw), "a copy is worth timing");
}

#[test]
fn a_shared_slice_goes_to_storage_without_a_copy() {
    let value: Arc<[u8]> = Arc::from([1, 2, 3]);
    let frames = Raw.encode(&value).unwrap();
    assert_eq!(frames.as_slice()[0].as_ptr(), value.as_ptr());
}

#[test]
fn a_value_of_other_than_one_frame_is_refused_with_the_counts() {
    for (frames, count) in [(Frames::from(vec![]), 0), (vec![Bytes::new(); 3].into(), 3)] {
        let expected = format!("expected 1 frame, found {count}");
        let refusals = [
            refusal::<Bytes>(&frames),
            refusal::<Vec<u8>>(&frames),
            refusal::<String>(&frames),
            refusal::<Arc<[u8]>>(&frames),
            refusal::<Arc<str>>(&frames),
        ];
        for refusal in refusals {
            assert!(refusal.contains(&expected), "{refusal}");
        }
    }
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let frames = Frames::from(Bytes::from_static(b"ok \xFF"));
    for refusal in [refusal::<String>(&frames), refusal::<Arc<str>>(&frames)] {
        assert!(refusal.contains("UTF-8") && refusal.contains('3'), "{refusal}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(4), ..ProptestConfig::default() })]

    #[test]
    fn every_type_comes_back_as_it_was(bytes in prop::collection::vec(any::<u8>(), 0..500), text in any::<String>()) {
        prop_assert_eq!(&round_trip(&bytes), &bytes);
        let shared: Arc<[u8]> = Arc::from(&*bytes);
        prop_assert_eq!(&round_trip(&shared), &shared);
        let plain = Bytes::from(bytes);
        prop_assert_eq!(&round_trip(&plain), &plain);
        let shared: Arc<str> = Arc::from(&*text);
        prop_assert_eq!(&round_trip(&shared), &shared);
        prop_assert_eq!(&round_trip(&text), &text);
    }

    #[test]
    fn any_frames_give_a_value_or_a_typed_error(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..3),
    ) {
        let count = frames.len();
        let utf8 = frames.iter().all(|frame| std::str::from_utf8(frame).is_ok());
        let frames: Frames = frames.into_iter().map(Bytes::from).collect();
        prop_assert_eq!(decode::<Frames>(frames.clone()).unwrap(), frames.clone());
        prop_assert_eq!(decode::<Bytes>(frames.clone()).is_ok(), count == 1);
        prop_assert_eq!(decode::<Vec<u8>>(frames.clone()).is_ok(), count == 1);
        prop_assert_eq!(decode::<Arc<[u8]>>(frames.clone()).is_ok(), count == 1);
        prop_assert_eq!(decode::<String>(frames.clone()).is_ok(), count == 1 && utf8);
        prop_assert_eq!(decode::<Arc<str>>(frames).is_ok(), count == 1 && utf8);
    }
}
