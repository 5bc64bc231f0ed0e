//! What the layer does with bytes that it never wrote.

use crate::memory::Memory;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use spill_compress::{Compress, Compressor, Lz4, NoCompression, Zstd};
use spill_core::{Error, ErrorKind, Frames, MutableMapping, Pool};

const LZ4: u8 = 1;
const ZSTD: u8 = 2;

/// A stored value of one frame that claims to be `len` bytes when decompressed.
fn claim(compressor: u8, len: u64, frame: Bytes) -> Frames {
    // Not shuffled, and one block.
    let mut header = vec![b'z', 4, 1, compressor, 19 * 9];
    let mut rest = len;
    while rest >= 0x80 {
        header.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    header.push(rest as u8);
    Frames::from_iter([Bytes::from(header), frame])
}

/// Reads `stored` with the limit given; a failed read must not have taken memory from the pool.
fn refused(stored: Frames, max_value_bytes: u64) -> Error {
    let pool = Pool::new(u64::MAX);
    let mapping = Compress::new(NoCompression, Memory::default())
        .with_pool(pool.clone())
        .with_max_value_bytes(max_value_bytes);
    mapping.inner().insert(1, stored.clone()).unwrap();
    let error = mapping.get(&1).unwrap_err();
    assert_eq!(pool.idle_bytes(), 0, "memory was taken for a value that was refused: {error}");
    mapping.take(&1).unwrap_err();
    assert_eq!(mapping.inner().get(&1).unwrap(), Some(stored), "a value that cannot be read stays");
    error
}

fn compressed(compressor: &dyn Compressor, frame: &[u8]) -> Bytes {
    let mut scratch = vec![0; compressor.scratch_len(frame.len())];
    let len = compressor.compress(frame, &mut scratch).unwrap().unwrap();
    scratch.truncate(len);
    scratch.into()
}

fn is_corrupt(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt { .. })
}

#[test]
fn a_zip_bomb_within_the_ratio_of_its_format_stops_at_the_bound_of_the_caller() {
    let bomb = vec![0; 64 << 20];
    for (id, compressor) in [(LZ4, &Lz4 as &dyn Compressor), (ZSTD, &Zstd::default())] {
        let frame = compressed(compressor, &bomb);
        let error = refused(claim(id, bomb.len() as u64, frame), 1 << 20);
        assert!(
            matches!(error.kind(), ErrorKind::TooLarge { size: 0x400_0000, limit: 0x10_0000, .. }),
            "{error}"
        );
    }
}

#[test]
fn a_zip_bomb_spread_over_many_frames_stops_at_the_bound_of_the_caller() {
    let part = compressed(&Lz4, &[0; 100_000]);
    let header: Vec<u8> = [b'z', 4, 20].into_iter().chain([LZ4, 19 * 9, 0xA0, 0x8D, 6].repeat(20)).collect();
    let stored = std::iter::once(Bytes::from(header)).chain(vec![part; 20]).collect();
    let error = refused(stored, 1_000_000);
    assert!(matches!(error.kind(), ErrorKind::TooLarge { size: 1_100_000, .. }), "{error}");
}

#[test]
fn an_lz4_frame_that_claims_more_than_255_times_its_length_is_refused_before_memory_is_taken() {
    let frame = Bytes::from(vec![0xFF; 100]);
    let error = refused(claim(LZ4, 100 * 255 + 1, frame), u64::MAX);
    assert!(is_corrupt(&error) && error.to_string().contains("lz4"), "{error}");
}

#[test]
fn an_lz4_frame_that_claims_exabytes_is_refused_before_memory_is_taken() {
    assert!(is_corrupt(&refused(claim(LZ4, u64::MAX, Bytes::from_static(b"x")), u64::MAX)));
}

#[test]
fn a_zstd_frame_whose_own_size_is_less_than_claimed_is_refused_before_memory_is_taken() {
    let frame = compressed(&Zstd::default(), &[0; 1000]);
    let error = refused(claim(ZSTD, 1001, frame), u64::MAX);
    assert!(is_corrupt(&error) && error.to_string().contains("zstd"), "{error}");
}

#[test]
fn a_zstd_frame_that_claims_gigabytes_in_a_few_bytes_is_refused_before_memory_is_taken() {
    // Magic number, a header of an 8-byte content size in a single segment, and no block: RFC 8878, 3.1.1.1.
    let size: u64 = 8 << 30;
    let frame = [&[0x28, 0xB5, 0x2F, 0xFD, 0xE0][..], &size.to_le_bytes()].concat();
    assert_eq!(Zstd::default().largest_output(&frame), frame.len() as u64 * 32_768);
    assert!(is_corrupt(&refused(claim(ZSTD, size, frame.into()), u64::MAX)));
}

#[test]
fn a_zstd_frame_that_says_no_size_is_refused_before_memory_is_taken() {
    // As above, with a window instead of a content size.
    let frame = Bytes::from_static(&[0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x58, 0x01, 0x00, 0x00]);
    assert!(is_corrupt(&refused(claim(ZSTD, 1, frame), u64::MAX)));
}

#[test]
fn a_frame_that_gives_another_length_than_claimed_is_corrupt() {
    for (id, compressor) in [(LZ4, &Lz4 as &dyn Compressor), (ZSTD, &Zstd::default())] {
        let frame = compressed(compressor, &[1; 1000]);
        let mapping = Compress::new(NoCompression, Memory::default());
        for len in [0, 1, 999, 1001] {
            mapping.inner().insert(1, claim(id, len, frame.clone())).unwrap();
            let error = mapping.get(&1).unwrap_err();
            assert!(is_corrupt(&error), "{len}: {error}");
        }
        mapping.inner().insert(1, claim(id, 1000, frame)).unwrap();
        assert_eq!(mapping.get(&1).unwrap(), Some(Bytes::from(vec![1; 1000]).into()));
    }
}

#[test]
fn several_zstd_frames_in_one_are_refused_when_they_give_more_than_claimed() {
    let frame = compressed(&Zstd::default(), &[1; 1000]);
    let twice = Bytes::from([&frame[..], &frame[..]].concat());
    let mapping = Compress::new(NoCompression, Memory::default());
    mapping.inner().insert(1, claim(ZSTD, 1000, twice)).unwrap();
    assert!(is_corrupt(&mapping.get(&1).unwrap_err()));
}

#[test]
fn a_value_stored_as_it_is_is_held_to_the_bound_as_well() {
    let plain = |frames: &[&'static str]| {
        let header = [&[b'z', 4, frames.len() as u8][..], &vec![0; frames.len()]].concat();
        let frames = frames.iter().map(|frame| Bytes::from_static(frame.as_bytes()));
        [Bytes::from(header)].into_iter().chain(frames).collect::<Frames>()
    };
    for stored in [plain(&["hello"]), plain(&["he", "llo"])] {
        assert!(matches!(refused(stored.clone(), 4).kind(), ErrorKind::TooLarge { size: 5, limit: 4, .. }));
        let mapping = Compress::new(NoCompression, Memory::default()).with_max_value_bytes(5);
        mapping.inner().insert(1, stored).unwrap();
        assert_eq!(mapping.get(&1).unwrap().unwrap().byte_len(), 5);
        assert_eq!(mapping.stats().decompress.count, 0);
    }
}

#[test]
fn a_value_without_frames_and_one_with_a_lost_frame_are_corrupt() {
    assert!(is_corrupt(&refused(Frames::from(vec![]), u64::MAX)));
    let header = Bytes::from_static(&[b'z', 4, 2, 0, 0]);
    assert!(is_corrupt(&refused(Frames::from_iter([header, Bytes::from_static(b"a")]), u64::MAX)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, rng_seed: RngSeed::Fixed(3), ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_a_value_or_a_typed_error(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..4),
    ) {
        let mapping = Compress::new(NoCompression, Memory::default()).with_max_value_bytes(1 << 20);
        mapping.inner().insert(1, frames.into_iter().map(Bytes::from).collect()).unwrap();
        let _ = mapping.get(&1);
    }

    #[test]
    fn any_frame_under_a_good_header_gives_a_value_or_a_typed_error(
        id in 1_u8..4,
        len in 0_u64..100_000,
        frame in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mapping = Compress::new(NoCompression, Memory::default());
        mapping.inner().insert(1, claim(id, len, frame.into())).unwrap();
        if let Ok(value) = mapping.get(&1) {
            prop_assert_eq!(value.unwrap().byte_len(), len);
        }
    }

    #[test]
    fn damaged_values_give_a_value_within_the_bound_or_a_typed_error(
        content in prop::collection::vec((any::<u8>(), 1_usize..100), 1..30),
        zstd in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
    ) {
        let original: Vec<u8> = content.iter().flat_map(|(byte, len)| vec![*byte; *len]).collect();
        let storage = Memory::default();
        let value = Frames::from(Bytes::from(original.clone()));
        if zstd {
            Compress::new(Zstd::default(), storage.clone()).insert(1, value).unwrap();
        } else {
            Compress::new(Lz4, storage.clone()).insert(1, value).unwrap();
        }
        let stored = storage.get(&1).unwrap().unwrap();
        let mut frames: Vec<Vec<u8>> = stored.iter().map(|frame| frame.to_vec()).collect();
        for (at, byte) in damage {
            let which = at.index(frames.len());
            let at = at.index(frames[which].len());
            frames[which][at] ^= byte;
        }
        if shorten {
            let len = cut.index(frames[1].len());
            frames[1].truncate(len);
        }
        storage.insert(1, frames.into_iter().map(Bytes::from).collect()).unwrap();
        let read = Compress::new(NoCompression, storage).with_max_value_bytes(1 << 20).get(&1);
        if let Ok(value) = read {
            prop_assert!(value.unwrap().byte_len() <= 1 << 20);
        }
    }
}
