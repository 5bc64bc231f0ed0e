//! What a damaged file says of its sizes takes no memory.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use spill_core::{Frames, MutableMapping, Pool};
use spill_disk::io::{Io, MemoryIo};
use spill_disk::{Files, FilesConfig, Segments, SegmentsConfig, Workspace};

/// Much less than what the damaged headers below ask for.
const LITTLE: u64 = 1 << 20;

/// The most bytes that `work` held at once, in this thread.
fn most(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).bytes_max
}

fn value() -> Frames {
    Frames::from(Bytes::from(vec![7; 500]))
}

/// The only file below `directory` whose name ends like this.
fn file_in(io: &MemoryIo, directory: &Path, ends: &str) -> PathBuf {
    let entries = io.list(directory).unwrap().into_iter().map(|entry| directory.join(entry.name));
    let mut found = entries.filter(|path| path.to_str().unwrap().ends_with(ends));
    let path = found.next().unwrap();
    assert!(found.next().is_none());
    path
}

#[test]
fn the_head_of_a_value_s_file_is_not_believed() {
    let io = MemoryIo::new();
    let directory = Path::new("/values");
    let config = || FilesConfig::at_with(Arc::new(io.clone()), directory).pool(Pool::new(0));
    let store: Files<u64> = Files::open(config()).unwrap();
    store.insert(1, value()).unwrap();
    store.close().unwrap();
    let file = io.open(&file_in(&io, directory, ".0.spill")).unwrap();
    // the length of the key, and of the record
    for (at, field) in [(40, 16_u32 << 20), (40, 15 << 20), (32, u32::MAX), (32, 1 << 24)] {
        let mut before = [0; 4];
        file.read_at(&mut before, at).unwrap();
        file.write_vectored_at(&[IoSlice::new(&field.to_le_bytes())], at).unwrap();
        let taken = most(|| {
            let store: Files<u64> = Files::open(config()).unwrap();
            assert!(!matches!(store.get(&1), Ok(Some(_))), "a damaged value");
            store.close().unwrap();
        });
        assert!(taken < LITTLE, "{taken} bytes for byte {at}");
        file.write_vectored_at(&[IoSlice::new(&before)], at).unwrap();
    }
    let store: Files<u64> = Files::open(config()).unwrap();
    assert_eq!(store.get(&1).unwrap(), Some(value()));
}

#[test]
fn the_header_of_a_record_is_not_believed() {
    let io = MemoryIo::new();
    let workspace = Workspace::open_with(Arc::new(io.clone()), Some(Path::new("/spill"))).unwrap();
    let directory = workspace.path().to_owned();
    let config = SegmentsConfig::new(workspace).stage_bytes(0).pool(Pool::new(0));
    let segments: Segments<u64> = Segments::open(config).unwrap();
    segments.insert(1, value()).unwrap();
    let file = io.open(&file_in(&io, &directory, "segment-0.spill")).unwrap();
    // the number of frames, and the length of the body
    for (at, field) in [(12, u32::MAX), (12, 1 << 20), (16, u32::MAX), (20, 1), (16, 1 << 30)] {
        let mut before = [0; 4];
        file.read_at(&mut before, at).unwrap();
        file.write_vectored_at(&[IoSlice::new(&field.to_le_bytes())], at).unwrap();
        let taken = most(|| assert!(segments.get(&1).is_err()));
        assert!(taken < LITTLE, "{taken} bytes for byte {at}");
        file.write_vectored_at(&[IoSlice::new(&before)], at).unwrap();
    }
    assert_eq!(segments.get(&1).unwrap(), Some(value()));
}
