//! The whole chain that the questions go through, its storage alone, and the values that go through them.

use std::path::Path;

use bytes::Bytes;
use overspill::presets::{self, Disk, Preset};
use overspill::{Raw, Segments, SegmentsConfig, Workspace};

/// Distinct incompressible values, each owned.
pub fn values(count: usize, len: usize) -> Vec<Bytes> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..count)
        .map(|_| {
            let mut value = vec![0; len];
            random.fill(&mut value);
            Bytes::from(value)
        })
        .collect()
}

/// RAM over segment files in `directory`, no compressor, checksums on.
pub fn disk(target: u64, directory: &Path) -> Disk<u64, Bytes> {
    presets::disk(target, Some(directory)).unwrap()
}

/// The same, with the files mapped into memory for reading, up to so many bytes.
pub fn mapped(target: u64, bytes: u64, directory: &Path) -> Disk<u64, Bytes> {
    Preset::new(target).directory(Some(directory)).mapped_bytes(bytes).disk(Raw).unwrap()
}

/// Segment files in `directory`, as they are by default.
pub fn segments(directory: &Path) -> Segments<u64> {
    Segments::open(SegmentsConfig::new(Workspace::open(Some(directory)).unwrap())).unwrap()
}
