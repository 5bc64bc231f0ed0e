//! What the tests of this crate share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use spill_core::conformance::Gate;
use spill_core::{Frames, KeyCodec, ManualClock, Pool, Result};
use spill_disk::io::{Fault, FaultyIo, Io, MemoryIo, Operation, Rule, read_exact_at};
use spill_disk::{Files, FilesConfig, Segments, SegmentsConfig, Workspace};

/// Where workspaces lie in a file system in memory.
pub(crate) const PARENT: &str = "/spill";

/// Settings over any `Io`, with a clock that stands still.
pub(crate) fn config(io: impl Io) -> SegmentsConfig {
    let workspace = Workspace::open_with(Arc::new(io), Some(Path::new(PARENT))).unwrap();
    SegmentsConfig::new(workspace).clock(Arc::new(ManualClock::new())).pool(Pool::new(1 << 20))
}

/// A store whose every value is written by the insert that brings it.
pub(crate) fn unstaged(io: impl Io, segment_bytes: u64) -> Segments<u64> {
    Segments::open(config(io).segment_bytes(segment_bytes).stage_bytes(0)).unwrap()
}

/// Frames of these lengths, whose bytes tell the seed, the frame and the place.
pub(crate) fn frames(seed: u64, lengths: &[usize]) -> Frames {
    /// A prime, so that no border of the format falls on a repetition.
    const PATTERN: usize = 4093;
    let frame = |(n, len): (usize, &usize)| -> Bytes {
        let pattern: Vec<u8> =
            (0..PATTERN.min(*len)).map(|at| (seed as usize * 31 + n * 7 + at + at / 251) as u8).collect();
        let mut bytes = pattern.repeat(len.div_ceil(PATTERN));
        bytes.truncate(*len);
        bytes.into()
    };
    let frames: Frames = lengths.iter().enumerate().map(frame).collect();
    let weight = frames.weight() + seed;
    frames.with_weight(weight)
}

/// Frames of one length.
pub(crate) fn value(seed: u64, len: usize) -> Frames {
    frames(seed, &[len])
}

/// Equal in bytes, boundaries and weight.
#[track_caller]
pub(crate) fn assert_same(found: &Frames, wanted: &Frames) {
    assert_eq!((found, found.weight()), (wanted, wanted.weight()));
}

/// The checksum of a whole record, as `docs/format.md` has it.
pub(crate) fn record_checksum(record: &[u8]) -> u32 {
    let segment = u32::from_le_bytes(record[4..8].try_into().unwrap());
    crc32fast::hash(&record[8..]) ^ segment.wrapping_mul(0x9e37_79b1)
}

/// The segment files of the only workspace in memory: path and content.
pub(crate) fn segment_files(io: &dyn Io) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in io.list(Path::new(PARENT)).unwrap() {
        let directory = Path::new(PARENT).join(entry.name);
        if !entry.is_dir {
            continue;
        }
        for entry in io.list(&directory).unwrap() {
            let path = directory.join(entry.name);
            if path.extension().is_some_and(|extension| extension == "spill") {
                files.push((path.clone(), content(io, &path)));
            }
        }
    }
    files.sort();
    files
}

/// Where stores of files lie in a file system in memory.
pub(crate) const DIRECTORY: &str = "/values";

/// Opens the store of files in [`DIRECTORY`], with a clock that stands still.
pub(crate) fn try_files<K: KeyCodec>(io: impl Io) -> Result<Files<K>> {
    let config = FilesConfig::at_with(Arc::new(io), DIRECTORY);
    Files::open(config.clock(Arc::new(ManualClock::new())).pool(Pool::new(1 << 20)))
}

/// As [`try_files`], where nothing stands against it.
pub(crate) fn files<K: KeyCodec>(io: impl Io) -> Files<K> {
    try_files(io).unwrap()
}

/// The names of the files of values, and of what else there is but the lock.
pub(crate) fn names(io: &dyn Io) -> Vec<String> {
    let entries = io.list(Path::new(DIRECTORY)).unwrap();
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect();
    names.retain(|name| name != "lock.spill");
    names.sort();
    names
}

/// Makes a file, with what it is to hold.
pub(crate) fn plant(io: &dyn Io, path: &Path, content: &[u8]) {
    let file = io.create(path).unwrap();
    file.write_vectored_at(&[std::io::IoSlice::new(content)], 0).unwrap();
}

pub(crate) fn content(io: &dyn Io, path: &Path) -> Vec<u8> {
    let file = io.open(path).unwrap();
    let mut bytes = Vec::new();
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read_at(&mut block, bytes.len() as u64).unwrap() {
            0 => break,
            read => bytes.extend_from_slice(&block[..read]),
        }
    }
    let mut again = vec![0; bytes.len()];
    read_exact_at(&*file, &mut again, 0).unwrap();
    assert_eq!(bytes, again);
    bytes
}

/// A fresh file system in memory.
pub(crate) fn memory() -> MemoryIo {
    MemoryIo::new()
}

/// Pseudo-random numbers, the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n
    }

    /// Small numbers more often: some 4 of 5 are among the first tenth.
    pub(crate) fn skewed(&mut self, n: u64) -> u64 {
        let most = 1 + self.below(n);
        let most = 1 + self.below(most);
        self.below(most)
    }
}

/// Waits at the gate.
pub(crate) fn held(gate: &Gate) -> Fault {
    let gate = gate.clone();
    Fault::Delay(Arc::new(move |_| gate.pass()))
}

/// A closed gate for the next call of an operation.
pub(crate) fn gate(io: &FaultyIo, operation: Operation) -> Gate {
    let gate = Gate::closed();
    io.inject(Rule::nth(1, held(&gate)).on(operation));
    gate
}
