//! What goes in comes out: bytes, boundaries, weight, and frames on 64 bytes.

use std::sync::Arc;

use crate::common::{assert_same, config, frames, memory, value};
use spill_core::{FRAME_ALIGN, Frames, ManualClock, MappingExt, MutableMapping};
use spill_disk::io::{FaultyIo, Operation};
use spill_disk::{Segments, SegmentsConfig, Workspace};

/// Frame lengths around every border of the format: packed or not, copied or not, staged or written through.
fn shapes() -> Vec<Vec<usize>> {
    let mut shapes = vec![vec![], vec![0], vec![0; 3], vec![0; 5000], vec![1; 300], vec![3; 9000]];
    for border in [1, 7, 8, 64, 1024, 4096, 8 << 10, 64 << 10, 255 << 10, 256 << 10, 600 << 10] {
        for len in border - 1..=border + 1 {
            shapes.push(vec![len]);
            shapes.push(vec![1, len]);
            shapes.push(vec![len, 0, 5]);
            shapes.push(vec![0, len / 2, len - len / 2, 0]);
        }
    }
    shapes.push(vec![1024, 1025, 63, 64, 65, 0, 2000]);
    // The record's length, header included, at the border to written through.
    shapes.extend((0..40).map(|less| vec![(256 << 10) - less]));
    shapes
}

fn check(segments: &Segments<u64>) {
    for (key, shape) in shapes().iter().enumerate() {
        segments.insert(key as u64, frames(key as u64, shape)).unwrap();
        assert_same(&segments.get(&(key as u64)).unwrap().unwrap(), &frames(key as u64, shape));
    }
    segments.flush().unwrap();
    assert_eq!(segments.usage().staged, 0);
    for (key, shape) in shapes().iter().enumerate() {
        let found = segments.get(&(key as u64)).unwrap().unwrap();
        assert_same(&found, &frames(key as u64, shape));
        for frame in found.iter().filter(|frame| !frame.is_empty()) {
            assert_eq!(frame.as_ptr().addr() % FRAME_ALIGN, 0, "{shape:?}");
        }
    }
    let keys: Vec<u64> = (0..shapes().len() as u64).rev().collect();
    for (key, found) in keys.iter().zip(segments.get_many(&keys)) {
        assert_same(&found.unwrap().unwrap(), &frames(*key, &shapes()[*key as usize]));
    }
}

/// Over sizes of segment and stage that split, seal, and write through at different places.
#[test]
fn every_shape_comes_back_from_files() {
    let directory = tempfile::tempdir().unwrap();
    for (segment_bytes, stage_bytes) in
        [(64 << 20, 2 << 20), (1 << 20, 64 << 10), (10_000, 1000), (64 << 20, 0)]
    {
        let workspace = Workspace::open(Some(directory.path())).unwrap();
        let on_disk = SegmentsConfig::new(workspace).segment_bytes(segment_bytes).stage_bytes(stage_bytes);
        check(&Segments::open(on_disk).unwrap());
        check(
            &Segments::open(config(memory()).segment_bytes(segment_bytes).stage_bytes(stage_bytes)).unwrap(),
        );
    }
    assert_eq!(
        std::fs::read_dir(directory.path())
            .unwrap()
            .filter(|entry| {
                entry.as_ref().is_ok_and(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            })
            .count(),
        0,
        "workspaces are gone"
    );
}

#[test]
fn every_shape_comes_back_from_inserts_in_one_call() {
    let segments: Segments<u64> = Segments::open(config(memory())).unwrap();
    let pairs =
        shapes().iter().enumerate().map(|(key, shape)| (key as u64, frames(key as u64, shape))).collect();
    assert!(segments.insert_many(pairs).into_iter().all(|result| result.is_ok()));
    segments.flush().unwrap();
    for (key, shape) in shapes().iter().enumerate() {
        assert_same(&segments.take(&(key as u64)).unwrap().unwrap(), &frames(key as u64, shape));
    }
    assert!(segments.is_empty());
}

#[test]
fn the_last_of_equal_keys_in_one_call_wins() {
    let segments: Segments<u64> = Segments::open(config(memory())).unwrap();
    let lengths = [10, 300_000, 20, 300_001];
    let pairs = lengths.iter().map(|len| (1, value(*len as u64, *len))).collect();
    assert_eq!(segments.insert_many(pairs).len(), 4);
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(300_001, 300_001));
    let pairs = lengths.iter().rev().map(|len| (1, value(*len as u64, *len))).collect();
    segments.insert_many(pairs);
    assert_same(&segments.get(&1).unwrap().unwrap(), &value(10, 10));
    assert_eq!(segments.len(), 1);
}

#[test]
fn any_weight_is_kept_and_summed_without_overflow() {
    let segments: Segments<u64> = Segments::open(config(memory())).unwrap();
    for key in 0..3 {
        segments.insert(key, value(0, 5).with_weight(u64::MAX)).unwrap();
    }
    assert_eq!(segments.usage().spilled.memory, u64::MAX);
    segments.flush().unwrap();
    assert_eq!(segments.get(&1).unwrap().unwrap().weight(), u64::MAX);
    for key in 0..3 {
        segments.remove(&key).unwrap();
    }
    assert_eq!(segments.usage().spilled.memory, 0);
}

#[test]
fn a_batch_of_small_values_is_few_system_calls() {
    let io = FaultyIo::new(Arc::new(memory()));
    let segments: Segments<u64> = Segments::open(config(io.clone())).unwrap();
    for key in 0..4096 {
        segments.insert(key, value(key, 4096)).unwrap();
    }
    segments.flush().unwrap();
    // 16 MiB, some 256 KiB a call.
    assert!(io.calls_of(Operation::Write) <= 80, "{}", io.calls_of(Operation::Write));
    let before = io.calls_of(Operation::Read);
    segments.get(&77).unwrap().unwrap();
    assert_eq!(io.calls_of(Operation::Read), before + 1);
}

#[test]
fn statistics_count_records_and_their_bytes() {
    let segments: Segments<u64> = Segments::open(config(memory())).unwrap();
    segments.insert(1, value(1, 100)).unwrap();
    segments.insert(2, value(2, 300_000)).unwrap();
    segments.flush().unwrap();
    let (small, large) = (segments.stored_size(&1).unwrap(), segments.stored_size(&2).unwrap());
    assert_eq!((small.disk, small.memory), (136, 101));
    assert_eq!(large.disk, 300_032);
    segments.get(&1).unwrap();
    let stats = segments.stats();
    assert_eq!((stats.write.count, stats.write.bytes), (2, 136 + 300_032));
    assert_eq!((stats.read.count, stats.read.bytes, stats.failures), (1, 136, 0));
    assert_eq!(segments.stored_size(&3), None);
}

#[test]
fn a_setting_out_of_range_is_refused() {
    for bytes in [0, u64::MAX] {
        let refused = Segments::<u64>::open(config(memory()).segment_bytes(bytes)).err().unwrap();
        assert!(refused.to_string().contains("segment_bytes"), "{refused}");
    }
}

#[test]
fn a_closed_store_refuses_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let workspace = Workspace::open(Some(directory.path())).unwrap();
    let path = workspace.path().to_owned();
    let config = SegmentsConfig::new(workspace).clock(Arc::new(ManualClock::new()));
    let segments: Segments<u64> = Segments::open(config).unwrap();
    segments.insert(1, value(1, 100)).unwrap();
    segments.insert(2, value(2, 300_000)).unwrap();
    segments.flush().unwrap();
    assert!(path.exists());
    segments.close().unwrap();
    assert!(!path.exists());
    segments.close().unwrap();
    let closed = |error: spill_core::Error| matches!(error.kind(), spill_core::ErrorKind::Closed { .. });
    assert!(segments.get(&1).is_err_and(closed));
    assert!(segments.take(&1).is_err_and(closed));
    assert!(segments.remove(&1).is_err_and(closed));
    assert!(segments.insert(1, value(1, 10)).is_err_and(closed));
    assert!(segments.insert(1, value(1, 300_000)).is_err_and(closed));
    assert!(segments.insert_many(vec![(1, Frames::from_iter([]))]).pop().unwrap().is_err_and(closed));
    assert!(segments.get_many(&[1]).pop().unwrap().is_err_and(closed));
    assert_eq!(segments.usage(), spill_core::Usage::default());
    assert!(!segments.contains_key(&1));
}
