//! Values whose compressor is not compiled in.

use crate::memory::Memory;
use bytes::Bytes;
use spill_compress::{Compress, NoCompression};
use spill_core::{ErrorKind, Frames, MutableMapping};

fn read(compressor: u8) -> String {
    let mapping = Compress::new(NoCompression, Memory::default());
    let header = Bytes::from(vec![b'z', 4, 1, compressor, 19 * 9, 100]);
    mapping.inner().insert(1, Frames::from_iter([header, Bytes::from_static(b"whatever")])).unwrap();
    let error = mapping.get(&1).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Codec { .. }), "{error}");
    error.to_string()
}

#[cfg(not(feature = "lz4"))]
#[test]
fn the_error_for_a_missing_lz4_names_it_and_its_feature() {
    let message = read(1);
    assert!(message.contains("codec lz4") && message.contains("feature \"lz4\""), "{message}");
}

#[cfg(not(feature = "zstd"))]
#[test]
fn the_error_for_a_missing_zstd_names_it_and_its_feature() {
    let message = read(2);
    assert!(message.contains("codec zstd") && message.contains("feature \"zstd\""), "{message}");
}

#[test]
fn plain_frames_are_read_and_written_without_any_feature() {
    let mapping = Compress::new(NoCompression, Memory::default());
    let value = Frames::from_iter([Bytes::from_static(b"a"), Bytes::new()]);
    mapping.insert(1, value.clone()).unwrap();
    assert_eq!(mapping.get(&1).unwrap(), Some(value));
}
