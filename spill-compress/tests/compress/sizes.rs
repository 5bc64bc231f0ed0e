//! `SpilledSize` after each operation, in every composition: what storage holds, no more and no less.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use spill_compress::{Compress, Compression, Lz4};
use spill_core::{BufferBuilder, Frames, MappingExt, MutableMapping, SpilledSize};

use crate::memory::Memory;
use crate::samples::noise;

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, Frames),
    InsertMany(Vec<(u64, Frames)>),
    Get(u64),
    Remove(u64),
    RemoveMany(Vec<u64>),
    Take(u64),
    Flush,
    Clear,
}

fn value() -> impl Strategy<Value = Frames> {
    let frame = (0_usize..3000, any::<bool>(), any::<u8>()).prop_map(|(len, flat, seed)| {
        if flat { Bytes::from(vec![seed; len]) } else { noise(len, seed.into()) }
    });
    (prop::collection::vec(frame, 0..4), 1_u64..5000)
        .prop_map(|(frames, weight)| Frames::from(frames).with_weight(weight))
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0_u64..12;
    prop_oneof![
        6 => (key.clone(), value()).prop_map(|(key, value)| Step::Insert(key, value)),
        2 => prop::collection::vec((key.clone(), value()), 0..5).prop_map(Step::InsertMany),
        4 => key.clone().prop_map(Step::Get),
        2 => key.clone().prop_map(Step::Remove),
        1 => prop::collection::vec(key.clone(), 0..5).prop_map(Step::RemoveMany),
        2 => key.prop_map(Step::Take),
        1 => Just(Step::Flush),
        1 => Just(Step::Clear),
    ]
}

type Mapping = dyn MutableMapping<u64, Frames>;

fn apply(mapping: &Mapping, model: &mut BTreeMap<u64, Frames>, step: Step) {
    match step {
        Step::Insert(key, value) => {
            mapping.insert(key, value.clone()).unwrap();
            model.insert(key, value);
        }
        Step::InsertMany(pairs) => {
            mapping.insert_many(pairs.clone()).into_iter().for_each(|result| result.unwrap());
            model.extend(pairs);
        }
        Step::Get(key) => assert_eq!(mapping.get(&key).unwrap().as_ref(), model.get(&key)),
        Step::Remove(key) => assert_eq!(mapping.remove(&key).unwrap(), model.remove(&key).is_some()),
        Step::RemoveMany(keys) => {
            for (key, removed) in keys.iter().zip(mapping.remove_many(&keys)) {
                assert_eq!(removed.unwrap(), model.remove(key).is_some());
            }
        }
        Step::Take(key) => assert_eq!(mapping.take(&key).unwrap(), model.remove(&key)),
        Step::Flush => mapping.flush().unwrap(),
        Step::Clear => {
            mapping.clear().unwrap();
            model.clear();
        }
    }
}

/// Compositions with the storage at their bottom, and whether there is RAM above it.
fn compositions() -> Vec<(String, Box<Mapping>, Memory, bool)> {
    let mut list: Vec<(String, Box<Mapping>, Memory, bool)> = Vec::new();
    for name in ["none", "lz4", "zstd:1", "lz4+shuffle8", "adaptive"] {
        let compression = || name.parse::<Compression>().unwrap();
        let storage = Memory::default();
        list.push((name.into(), Box::new(Compress::new(compression(), storage.clone())), storage, false));

        let storage = Memory::default();
        let twice = Compress::new(compression(), Compress::new(Lz4, storage.clone()));
        list.push((format!("{name} over lz4"), Box::new(twice), storage, false));

        let storage = Memory::default();
        let below = Compress::new(compression(), storage.clone());
        let weigher = |_: &u64, value: &Frames| value.weight();
        let buffer = BufferBuilder::weighed_by(weigher).target(12_000).over(below).unwrap();
        list.push((format!("a buffer over {name}"), Box::new(buffer), storage, true));
    }
    list
}

/// What the storage holds for `keys`, counted record by record.
fn records(storage: &Memory, keys: impl Iterator<Item = u64>) -> SpilledSize {
    let mut sum = SpilledSize::default();
    for key in keys {
        if let Some(record) = storage.get(&key).unwrap() {
            sum += SpilledSize { memory: record.weight(), disk: record.byte_len() };
        }
    }
    sum
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(6), ..ProptestConfig::default() })]

    /// S25: spilled is what storage really keeps for the values that are only there.
    #[test]
    fn both_sizes_are_right_after_every_operation(steps in prop::collection::vec(step(), 1..40)) {
        for (name, mapping, storage, buffered) in compositions() {
            let mut model = BTreeMap::new();
            for (n, step) in steps.iter().enumerate() {
                apply(&*mapping, &mut model, step.clone());
                let usage = mapping.usage();
                let weights: u64 = model.values().map(Frames::weight).sum();
                prop_assert_eq!(usage.count, model.len());
                let spilled: Vec<u64> =
                    mapping.keys().into_iter().filter(|key| mapping.stored_size(key).is_some()).collect();
                let expected = records(&storage, spilled.iter().copied());
                prop_assert_eq!(usage.spilled, expected, "{} after step {}: {:?}", name, n, step);
                prop_assert_eq!(usage.fast + usage.spilled.memory, weights, "{} after step {}", name, n);
                if !buffered {
                    prop_assert_eq!(usage.spilled.memory, weights);
                    prop_assert_eq!(usage.physical, expected.disk);
                }
            }
        }
    }
}
