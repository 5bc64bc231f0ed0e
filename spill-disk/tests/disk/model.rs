//! Any sequence of operations against a `HashMap`.

use std::collections::HashMap;

use crate::common::{config, frames, memory};
use proptest::prelude::*;
use spill_core::{Frames, MutableMapping, SpilledSize};
use spill_disk::{Segments, SegmentsConfig, Workspace};

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Insert(u8, Vec<usize>),
    InsertMany(Vec<(u8, usize)>),
    Remove(u8),
    Take(u8),
    Get(u8),
    GetMany(Vec<u8>),
    Flush,
    Clear,
}

fn key() -> impl Strategy<Value = u8> {
    0..12_u8
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        6 => prop::collection::vec(0..400_usize, 0..4),
        3 => prop::collection::vec(0..5000_usize, 1..3),
        1 => prop::collection::vec(200_000..300_000_usize, 1..2),
    ]
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (key(), lengths()).prop_map(|(key, lengths)| Op::Insert(key, lengths)),
        2 => prop::collection::vec((key(), 0..1000_usize), 0..8).prop_map(Op::InsertMany),
        4 => key().prop_map(Op::Remove),
        3 => key().prop_map(Op::Take),
        5 => key().prop_map(Op::Get),
        1 => prop::collection::vec(key(), 0..6).prop_map(Op::GetMany),
        2 => Just(Op::Flush),
        1 => Just(Op::Clear),
    ]
}

fn same(found: Option<Frames>, wanted: Option<&Frames>) -> Result<(), TestCaseError> {
    let weighed = |frames: &Frames| (frames.clone(), frames.weight());
    prop_assert_eq!(found.as_ref().map(weighed), wanted.map(weighed));
    Ok(())
}

pub(crate) fn run(segments: &Segments<u8>, script: &[Op]) -> Result<(), TestCaseError> {
    let mut model: HashMap<u8, Frames> = HashMap::new();
    for (n, op) in script.iter().enumerate() {
        let value = |lengths: &[usize]| frames(n as u64, lengths);
        match op {
            Op::Insert(key, lengths) => {
                segments.insert(*key, value(lengths)).unwrap();
                model.insert(*key, value(lengths));
            }
            Op::InsertMany(pairs) => {
                let pairs: Vec<_> = pairs.iter().map(|(key, len)| (*key, value(&[*len]))).collect();
                let results = segments.insert_many(pairs.clone());
                prop_assert!(
                    results.len() == pairs.len() && results.into_iter().all(|result| result.is_ok())
                );
                model.extend(pairs);
            }
            Op::Remove(key) => prop_assert_eq!(segments.remove(key).unwrap(), model.remove(key).is_some()),
            Op::Take(key) => same(segments.take(key).unwrap(), model.remove(key).as_ref())?,
            Op::Get(key) => same(segments.get(key).unwrap(), model.get(key))?,
            Op::GetMany(keys) => {
                for (key, found) in keys.iter().zip(segments.get_many(keys)) {
                    same(found.unwrap(), model.get(key))?;
                }
            }
            Op::Flush => segments.flush().unwrap(),
            Op::Clear => {
                segments.clear().unwrap();
                model.clear();
            }
        }
        let mut sizes = SpilledSize::default();
        for key in 0..12 {
            prop_assert_eq!(segments.contains_key(&key), model.contains_key(&key));
            sizes += segments.stored_size(&key).unwrap_or_default();
        }
        let usage = segments.usage();
        prop_assert_eq!((usage.count, usage.spilled), (model.len(), sizes));
        prop_assert_eq!(sizes.memory, model.values().map(Frames::weight).sum::<u64>());
        prop_assert_eq!(segments.len(), model.len());
    }
    for (key, wanted) in &model {
        same(segments.get(key).unwrap(), Some(wanted))?;
    }
    Ok(())
}

/// Small enough that segments fill, die and are used again within a script.
fn sizes() -> impl Strategy<Value = (u64, u64, bool)> {
    let sizes =
        prop_oneof![Just((64 << 20, 2 << 20)), Just((20_000, 8_000)), Just((3_000, 2_000)), Just((1_000, 0))];
    (sizes, any::<bool>()).prop_map(|((segment, stage), behind)| (segment, stage, behind))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn segments_in_memory_are_a_map(script in prop::collection::vec(op(), 0..80), (segment, stage, behind) in sizes()) {
        let config = config(memory()).segment_bytes(segment).stage_bytes(stage).write_behind(behind);
        run(&Segments::open(config).unwrap(), &script)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn segments_on_disk_are_a_map(script in prop::collection::vec(op(), 0..80), (segment, stage, behind) in sizes()) {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(Some(directory.path())).unwrap();
        let config = SegmentsConfig::new(workspace).segment_bytes(segment).stage_bytes(stage).write_behind(behind);
        run(&Segments::open(config).unwrap(), &script)?;
    }
}
