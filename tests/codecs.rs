//! Codecs over the storage that they are made for.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use overspill::{
    Archive, Compose, Compress, FRAME_ALIGN, Frames, Lz4, MutableMapping, Rkyv, Segments, SegmentsConfig,
    Serde, Workspace,
};
use tempfile::TempDir;

fn segments(folder: &TempDir) -> Segments<u32> {
    Segments::open(SegmentsConfig::new(Workspace::open(Some(folder.path())).unwrap())).unwrap()
}

/// Writes archives of many sizes, reads them back from the files, and says what they were and where they lie.
fn read_back(storage: impl MutableMapping<u32, Frames>) -> Vec<(u32, usize)> {
    let archives = storage.coded::<Archive<Vec<u32>>, _>(Rkyv);
    let sizes = [0, 1, 3, 100, 1023, 1024, 5000, 1 << 18];
    for size in sizes {
        archives.insert(size, Archive::new(&(0..size).collect()).unwrap()).unwrap();
    }
    archives.flush().unwrap();
    let read = sizes.map(|size| {
        let archive = archives.get(&size).unwrap().unwrap();
        assert!(archive.get().iter().map(|n| n.to_native()).eq(0..size), "size {size}");
        (size, archive.as_bytes().as_ptr().addr() % FRAME_ALIGN)
    });
    archives.close().unwrap();
    read.into()
}

#[test]
fn archives_from_files_lie_where_they_are_used_in_place() {
    let folder = TempDir::new().unwrap();
    let misplaced = |read: Vec<(u32, usize)>| read.into_iter().find(|(_, offset)| *offset > 0);
    assert_eq!(misplaced(read_back(segments(&folder))), None);
    assert_eq!(misplaced(read_back(Compress::new(Lz4, segments(&folder)))), None);
}

#[test]
fn values_of_serde_come_back_from_compressed_files() {
    let folder = TempDir::new().unwrap();
    let names = Compress::new(Lz4, segments(&folder)).coded::<Vec<Option<String>>, _>(Serde);
    let value = vec![Some("name".repeat(10_000)), None, Some(String::new())];
    names.insert(1, value.clone()).unwrap();
    names.flush().unwrap();
    assert!(names.stored_size(&1).unwrap().disk < 1000);
    assert_eq!(names.get(&1).unwrap(), Some(value));
    names.close().unwrap();
}
