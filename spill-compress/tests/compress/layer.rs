//! What the layer does with honest data.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::memory::Memory;
use crate::samples::noise;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use spill_compress::{Compress, Compression, Compressor, Lz4, Zstd};
use spill_core::conformance::{Fault, Faulty, Operation, Plan};
use spill_core::{ErrorKind, FRAME_ALIGN, Frames, ManualClock, MappingExt, MutableMapping, Pool, Result};

/// One of each kind.
const SETTINGS: [&str; 9] = [
    "none",
    "lz4",
    "zstd:3",
    "zstd:19",
    "zstd:-5",
    "lz4+shuffle8",
    "zstd:1+shuffle4",
    "lz4+shuffle16",
    "adaptive",
];

fn settings() -> impl Iterator<Item = Compression> {
    SETTINGS.into_iter().map(|name| name.parse().unwrap())
}

#[test]
fn every_compressor_reads_what_every_other_wrote() {
    let storage = Memory::default();
    let value = |key: u64| {
        let text = Bytes::from(format!("value {key} ").repeat(1000));
        Frames::from_iter([text, noise(1000, key), Bytes::new()])
    };
    for (key, compressor) in (0..).zip(settings()) {
        Compress::new(compressor, storage.clone()).insert(key, value(key)).unwrap();
    }
    for reader in settings() {
        let name = reader.to_string();
        let mapping = Compress::new(reader, storage.clone());
        for key in mapping.keys() {
            assert_eq!(mapping.get(&key).unwrap(), Some(value(key)), "{name} reads {key}");
            assert_eq!(mapping.peek(&key).unwrap(), Some(value(key)), "{name} reads {key}");
        }
    }
}

#[test]
fn a_frame_that_does_not_shrink_is_stored_and_given_back_as_it_is_without_a_copy() {
    for compressor in settings() {
        let name = compressor.to_string();
        let mapping = Compress::new(compressor, Memory::default());
        for frame in [noise(10_000, 7), noise(14, 7), Bytes::from_static(b"tiny")] {
            mapping.insert(1, frame.clone().into()).unwrap();
            let stored = mapping.inner().get(&1).unwrap().unwrap();
            assert_eq!(stored.as_slice().len(), 2);
            assert_eq!(stored.as_slice()[1].as_ptr(), frame.as_ptr(), "{name} copied on the way in");
            let read = mapping.get(&1).unwrap().unwrap().into_single().unwrap();
            assert_eq!(
                (read.as_ptr(), read.len()),
                (frame.as_ptr(), frame.len()),
                "{name} copied on the way out"
            );
        }
    }
}

#[test]
fn a_value_of_one_frame_grows_by_at_most_16_bytes() {
    for compressor in settings() {
        let mapping = Compress::new(compressor, Memory::default());
        for len in [0, 1, 100, 1 << 20] {
            mapping.insert(1, noise(len, 3).into()).unwrap();
            assert!(mapping.stored_size(&1).unwrap().disk <= len as u64 + 16);
        }
    }
}

#[test]
fn frames_of_one_value_are_compressed_each_for_itself() {
    let mapping = Compress::new(Lz4, Memory::default());
    let (flat, rough) = (Bytes::from(vec![1; 100_000]), noise(100_000, 1));
    mapping.insert(1, Frames::from_iter([flat.clone(), rough.clone(), flat.clone()])).unwrap();
    let stored = mapping.inner().get(&1).unwrap().unwrap();
    let lengths: Vec<_> = stored.iter().map(Bytes::len).collect();
    assert_eq!(lengths.len(), 4, "a header and three frames");
    assert!(lengths[1] < 1000 && lengths[3] < 1000);
    assert_eq!(lengths[2], rough.len());
    assert_eq!(mapping.get(&1).unwrap(), Some(Frames::from_iter([flat.clone(), rough, flat])));
}

#[test]
fn values_without_frames_with_empty_frames_and_with_many_frames_keep_their_boundaries() {
    for compressor in settings() {
        let mapping = Compress::new(compressor, Memory::default());
        let many = (0..3000_u32).map(|n| Bytes::from(n.to_string().repeat(n as usize % 40)));
        let values = [
            Frames::from(vec![]),
            Frames::from(Bytes::new()),
            Frames::from(vec![Bytes::new(); 5]),
            many.collect(),
        ];
        for (key, value) in (0..).zip(&values) {
            mapping.insert(key, value.clone()).unwrap();
        }
        for (key, value) in (0..).zip(&values) {
            assert_eq!(mapping.get(&key).unwrap().as_ref(), Some(value));
        }
    }
}

#[test]
fn the_weight_passes_and_the_storage_reports_the_bytes_really_stored() {
    let mapping = Compress::new(Zstd::default(), Memory::default());
    let value = Frames::from(Bytes::from(vec![5; 1 << 20])).with_weight(12_345);
    mapping.insert(1, value.clone()).unwrap();
    mapping.insert(2, value.clone()).unwrap();

    let stored = mapping.inner().get(&1).unwrap().unwrap();
    let size = mapping.stored_size(&1).unwrap();
    assert_eq!((size.memory, size.disk), (12_345, stored.byte_len()));
    assert!(size.disk < 1000, "a megabyte of fives: {} bytes", size.disk);
    assert_eq!(mapping.usage().spilled, size + size);
    assert_eq!(mapping.get(&1).unwrap().unwrap().weight(), 12_345);
    assert_eq!(mapping.take(&1).unwrap().unwrap().weight(), 12_345);
    assert_eq!(mapping.usage().spilled, size);
}

#[test]
fn compressed_bytes_do_not_keep_the_scratch_memory_alive() {
    let pool = Pool::new(1 << 30);
    let mapping = Compress::new(Lz4, Memory::default()).with_pool(pool.clone()).with_threads(1);
    mapping.insert(1, Bytes::from(vec![5; 10 << 20]).into()).unwrap();
    assert!(pool.idle_bytes() >= Lz4.block_len() as u64, "the scratch is back: {}", pool.idle_bytes());
    let before = pool.idle_bytes();
    mapping.insert(2, Bytes::from(vec![6; 10 << 20]).into()).unwrap();
    assert!(pool.idle_bytes() <= before, "and is used again");
}

#[test]
fn blocks_are_no_longer_than_asked_for() {
    let value = Frames::from(Bytes::from(vec![5; 1 << 20]));
    for (longest, blocks) in [(usize::MAX, 1), (1 << 20, 1), (300_000, 4), (0, 256)] {
        let pool = Pool::new(1 << 30);
        let mapping = Compress::new(Lz4, Memory::default()).with_pool(pool.clone());
        let mapping = mapping.with_threads(1).with_longest_block(longest);
        mapping.insert(1, value.clone()).unwrap();
        let stored = mapping.inner().get(&1).unwrap().unwrap();
        assert_eq!(stored.iter().count(), 1 + blocks, "a header and the blocks");
        let most = 2 * (1 << 20) / blocks as u64;
        assert!((1..=most).contains(&pool.idle_bytes()), "{longest}: {}", pool.idle_bytes());
        assert_eq!(mapping.get(&1).unwrap().unwrap(), value);
    }
}

#[test]
fn frames_read_back_lie_in_pool_memory_and_are_aligned() {
    let pool = Pool::new(1 << 30);
    for compressor in [Arc::new(Lz4) as Arc<dyn Compressor>, Arc::new(Zstd::default())] {
        let mapping = Compress::new(compressor, Memory::default()).with_pool(pool.clone());
        let lengths = [100, 5000, 3 << 20];
        mapping.insert(1, lengths.iter().map(|len| Bytes::from(vec![9; *len])).collect()).unwrap();
        let read = mapping.get(&1).unwrap().unwrap();
        for frame in &read {
            assert_eq!(frame.as_ptr().addr() % FRAME_ALIGN, 0);
        }
        let idle = pool.idle_bytes();
        drop(read);
        assert!(pool.idle_bytes() > idle + (3 << 20), "dropped frames return to the pool");
    }
}

#[test]
fn a_value_beyond_the_bound_is_not_accepted_and_the_old_one_stays() {
    let mapping = Compress::new(Lz4, Memory::default()).with_max_value_bytes(1000);
    let fits = Frames::from_iter([Bytes::from(vec![0; 500]), Bytes::from(vec![0; 500])]);
    mapping.insert(1, fits.clone()).unwrap();
    let error = mapping.insert(1, vec![Bytes::from(vec![0; 500]); 3].into()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { size: 1500, limit: 1000, .. }), "{error}");
    assert_eq!(mapping.get(&1).unwrap(), Some(fits));
}

#[test]
fn a_batch_goes_down_as_one_and_a_refused_value_fails_alone() {
    let mapping = Compress::new(Lz4, Memory::default()).with_max_value_bytes(100);
    let pair = |key, len| (key, Frames::from(Bytes::from(vec![0; len])));
    let results = mapping.insert_many(vec![pair(1, 10), pair(2, 200), pair(3, 30)]);
    let accepted: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(accepted, [true, false, true]);
    assert_eq!(mapping.inner().batches.load(SeqCst), 1);
    let lengths: Vec<_> = mapping
        .get_many(&[3, 2, 1])
        .into_iter()
        .map(|value| value.unwrap().map(|value| value.byte_len()))
        .collect();
    assert_eq!(lengths, [Some(30), None, Some(10)]);
    let removed: Vec<_> = mapping.remove_many(&[1, 2]).into_iter().map(Result::unwrap).collect();
    assert_eq!(removed, [true, false]);
    assert_eq!(mapping.keys(), [3]);
}

#[test]
fn everything_else_is_forwarded() {
    let storage = Memory::default();
    let mapping = Compress::new(Lz4, storage.clone());
    mapping.insert(1, Bytes::from_static(b"one").into()).unwrap();
    mapping.insert(2, Bytes::from_static(b"two").into()).unwrap();
    assert!(mapping.contains_key(&1) && !mapping.contains_key(&3));
    assert_eq!((mapping.len(), mapping.usage().count), (2, 2));
    assert!(mapping.remove(&1).unwrap() && !mapping.remove(&1).unwrap());
    assert_eq!(mapping.take(&1).unwrap(), None);
    mapping.flush().unwrap();
    mapping.close().unwrap();
    assert_eq!((storage.flushed.load(SeqCst), storage.closed.load(SeqCst)), (1, 1));
    mapping.clear().unwrap();
    assert!(storage.is_empty());
}

#[test]
fn a_value_replaced_while_it_is_taken_is_taken_as_the_new_one() {
    let storage = Memory::default();
    let faulty = Faulty::new(storage.clone());
    let value = |byte| Frames::from(Bytes::from(vec![byte; 1000]));
    let replace = move || Compress::new(Lz4, storage.clone()).insert(1, value(2)).unwrap();
    faulty.inject(Plan::nth(1).on([Operation::Take]), Fault::delay(replace));
    let mapping = Compress::new(Lz4, faulty);
    mapping.insert(1, value(1)).unwrap();
    assert_eq!(mapping.take(&1).unwrap(), Some(value(2)));
}

#[test]
fn the_value_is_let_go_before_storage_takes_its_compressed_frames() {
    let memory = Arc::new([7; 1000]);
    let held = Arc::clone(&memory);
    let faulty = Faulty::new(Memory::default());
    let look = move || assert_eq!(Arc::strong_count(&held), 1, "the value is still held");
    faulty.inject(Plan::nth(1).on([Operation::Insert]), Fault::delay(look));
    let mapping = Compress::new(Lz4, faulty);

    struct Owner(Arc<[u8; 1000]>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &*self.0
        }
    }
    mapping.insert(1, Bytes::from_owner(Owner(memory)).into()).unwrap();
    assert_eq!(mapping.inner().struck(), 1);
}

/// A compressor under which each call takes a second and makes one byte of whatever it gets.
struct Slow(Arc<ManualClock>);

impl Compressor for Slow {
    fn id(&self) -> u8 {
        200
    }
    fn name(&self) -> &'static str {
        "slow"
    }
    fn scratch_len(&self, len: usize) -> usize {
        len
    }
    fn compress(&self, frame: &[u8], scratch: &mut [u8]) -> Result<Option<usize>> {
        self.0.advance(Duration::from_secs(1));
        scratch[0] = frame[0];
        Ok(Some(1))
    }
    fn largest_output(&self, _compressed: &[u8]) -> u64 {
        u64::MAX
    }
    fn decompress(&self, compressed: &[u8], output: &mut [u8]) -> Result<()> {
        self.0.advance(Duration::from_secs(2));
        output.fill(compressed[0]);
        Ok(())
    }
}

#[test]
fn stats_count_values_bytes_and_time_of_both_directions() {
    let clock = Arc::new(ManualClock::new());
    let mapping = Compress::new(Slow(Arc::clone(&clock)), Memory::default()).with_clock(clock);
    let value = Frames::from(vec![Bytes::from(vec![7; 1000]); 3]);
    mapping.insert(1, value.clone()).unwrap();
    mapping.insert(2, value.clone()).unwrap();
    let stored = mapping.stored_size(&1).unwrap().disk;
    assert_eq!(mapping.get(&1).unwrap(), Some(value));

    let stats = mapping.stats();
    assert_eq!((stats.compress.count, stats.compress.bytes), (2, 6000));
    assert_eq!(stats.compress.time, Duration::from_secs(6));
    assert_eq!((stats.decompress.count, stats.decompress.bytes), (1, stored));
    assert_eq!(stats.decompress.time, Duration::from_secs(6));
}

#[test]
fn a_compressor_written_elsewhere_is_read_by_its_own_layer_only() {
    let storage = Memory::default();
    let value = Frames::from(Bytes::from(vec![7; 1000]));
    let own = Compress::new(Slow(Arc::default()), storage.clone());
    own.insert(1, value.clone()).unwrap();
    assert_eq!(own.get(&1).unwrap(), Some(value));
    let error = Compress::new(Lz4, storage).get(&1).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Codec { .. }), "{error}");
    assert!(error.to_string().contains("200"), "{error}");
}

/// Says that it wrote more than there was room for.
struct Boastful;

impl Compressor for Boastful {
    fn id(&self) -> u8 {
        201
    }
    fn name(&self) -> &'static str {
        "boastful"
    }
    fn scratch_len(&self, _len: usize) -> usize {
        10
    }
    fn compress(&self, _frame: &[u8], _scratch: &mut [u8]) -> Result<Option<usize>> {
        Ok(Some(11))
    }
    fn largest_output(&self, _compressed: &[u8]) -> u64 {
        u64::MAX
    }
    fn decompress(&self, _compressed: &[u8], _output: &mut [u8]) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_compressor_that_misreports_its_result_is_an_error() {
    let mapping = Compress::new(Boastful, Memory::default());
    let error = mapping.insert(1, Bytes::from(vec![0; 100]).into()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Codec { codec: "boastful", .. }), "{error}");
    assert!(mapping.is_empty());
}

#[test]
fn many_threads_share_one_layer() {
    let mapping = Compress::new(Zstd::new(1).unwrap(), Memory::default());
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let mapping = &mapping;
            scope.spawn(move || {
                for n in 0..50 {
                    let key = thread * 1000 + n;
                    let value =
                        Frames::from_iter([Bytes::from(key.to_string().repeat(500)), noise(200, key)]);
                    mapping.insert(key, value.clone()).unwrap();
                    assert_eq!(mapping.get(&key).unwrap(), Some(value));
                }
            });
        }
    });
    assert_eq!(mapping.len(), 400);
}

/// Frames of runs, so that some shrink and some do not.
fn frame() -> impl Strategy<Value = Bytes> {
    let run = (any::<u8>(), 1_usize..300).prop_map(|(byte, len)| vec![byte; len]);
    let runs = prop::collection::vec(run, 0..40).prop_map(|runs| Bytes::from(runs.concat()));
    let plain = prop::collection::vec(any::<u8>(), 0..2000).prop_map(Bytes::from);
    prop_oneof![runs, plain]
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(2), ..ProptestConfig::default() })]

    #[test]
    fn values_come_back_byte_for_byte(
        frames in prop::collection::vec(frame(), 0..8),
        weight in any::<u64>(),
        which in 0..SETTINGS.len(),
    ) {
        let value = Frames::from(frames).with_weight(weight);
        let mapping = Compress::new(SETTINGS[which].parse::<Compression>().unwrap(), Memory::default());
        mapping.insert(1, value.clone()).unwrap();
        let read = mapping.get(&1).unwrap().unwrap();
        prop_assert_eq!(read.weight(), weight);
        prop_assert_eq!(&read, &value);
        prop_assert_eq!(mapping.take(&1).unwrap(), Some(value));
        prop_assert!(mapping.is_empty());
    }
}
