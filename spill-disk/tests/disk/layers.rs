//! Stores on disk below the layers of the core: whole chains pass the same suite.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use spill_core::{
    BufferBuilder, Cache, Compose, Frames, KeyMap, Lru, MutableMapping, Sieve, conformance_tests,
};
use spill_disk::{Segments, Workspace};

use crate::common::{config, files, memory};

fn segments<K: spill_core::Key>() -> Segments<K> {
    Segments::open(config(memory()).segment_bytes(8_000).stage_bytes(4_000)).unwrap()
}

fn recent(target: u64) -> Lru<u64, Frames> {
    BufferBuilder::new().target(target).alone().unwrap()
}

fn by_length(_: &u64, value: &Frames) -> usize {
    usize::from(value.byte_len() % 2 == 1 || value.byte_len() > 4096)
}

conformance_tests!(segments_written_behind, || {
    Segments::<u64>::open(config(memory()).segment_bytes(8_000).stage_bytes(4_000).write_behind(true))
        .unwrap()
});
conformance_tests!(buffer_over_files, || {
    files::<u64>(memory()).buffered(BufferBuilder::new().target(2000)).unwrap()
});
conformance_tests!(buffer_with_writers_over_files, || {
    files::<u64>(memory()).buffered(BufferBuilder::new().target(2000).writers(2)).unwrap()
});
conformance_tests!(cache_over_files, || files::<u64>(memory()).cached(recent(4000)));
conformance_tests!(cache_over_segments, || Cache::new(segments::<u64>(), recent(4000)).update_on_set(false));
conformance_tests!(key_map_over_segments, || {
    KeyMap::<String, Bytes, Frames, _, _, _>::encoded(segments()).unwrap()
});
conformance_tests!(key_map_over_files, || {
    let to = |n: &u64| (format!("{}", n % 7), *n);
    let from = |key: &(String, u64)| Ok(key.1);
    KeyMap::new(to, from, files::<(String, u64)>(memory())).unwrap()
});
conformance_tests!(sieve_of_segments_and_files, || {
    let mappings: Vec<Arc<dyn MutableMapping<u64, Frames>>> =
        vec![Arc::new(segments()), Arc::new(files(memory()))];
    Sieve::new(mappings, by_length)
});
conformance_tests!(buffer_over_sieve, || {
    let sieve = Sieve::new(vec![segments(), segments()], by_length);
    sieve.buffered(BufferBuilder::new().target(2000).writers(1)).unwrap()
});

/// Z24: closing a chain gives up what its storage holds, through every layer.
#[test]
fn closing_reaches_the_storage_of_a_whole_chain() {
    let io = memory();
    let workspace = Workspace::open_with(Arc::new(io.clone()), Some(Path::new("/work"))).unwrap();
    let directory = workspace.path().to_owned();
    let store = Segments::open(spill_disk::SegmentsConfig::new(workspace)).unwrap();
    let chain = KeyMap::<u64, Bytes, Frames, _, _, _>::encoded(store).unwrap();
    let chain = Sieve::new(vec![chain.cached(recent(100))], |_: &u64, _: &Frames| 0);
    let chain = chain.buffered(BufferBuilder::new().target(2000)).unwrap();
    chain
        .insert_many((0..10).map(|n| (n, crate::common::value(n, 500))).collect())
        .into_iter()
        .for_each(Result::unwrap);
    chain.flush().unwrap();
    assert_eq!(chain.slow().usage().staged, 0, "flush went down to the files");
    assert!(spill_disk::io::Io::list(&io, &directory).unwrap().len() > 1);
    chain.close().unwrap();
    assert!(spill_disk::io::Io::list(&io, &directory).is_err());
}
