//! Whole chains on real files: every composition that the facade offers passes the shared suite, and what it
//! says of its sizes is what the files hold.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use overspill::presets::{self, CompressedDisk, Disk, Preset};
use overspill::{
    BufferBuilder, Compose, Compress, Compressor, Frames, Func, Lz4, ManualEvict, MutableMapping,
    NoCompression, Raw, Segments, SegmentsConfig, Workspace, Zstd, conformance_tests,
};

/// Small enough that the suite's values leave fast memory at once, and larger ones pass through.
const TARGET: u64 = 2000;

fn segments() -> Segments<u64> {
    Segments::open(SegmentsConfig::new(Workspace::open(None).unwrap()).segment_bytes(1 << 20)).unwrap()
}

fn unstaged() -> Segments<u64> {
    let config = SegmentsConfig::new(Workspace::open(None).unwrap());
    Segments::open(config.segment_bytes(4096).stage_bytes(0)).unwrap()
}

fn compressed<Z: Compressor>(compressor: Z) -> CompressedDisk<u64, Frames> {
    presets::compressed_disk(TARGET, None, compressor).unwrap()
}

conformance_tests!(segments_alone, segments);
conformance_tests!(segments_unstaged, unstaged);
conformance_tests!(compressed_segments, || Compress::new(Lz4, segments()));
conformance_tests!(plain, || -> Disk<u64, Frames> { presets::disk(TARGET, None).unwrap() });
conformance_tests!(plain_with_writers, || -> Disk<u64, Frames> {
    Preset::new(TARGET).writers(2).disk(Raw).unwrap()
});
conformance_tests!(text, || -> Disk<String, String> { presets::disk(TARGET, None).unwrap() });
conformance_tests!(with_lz4, || compressed(Lz4));
conformance_tests!(with_zstd, || compressed(Zstd::new(1).unwrap()));
conformance_tests!(with_headers_alone, || compressed(NoCompression));
conformance_tests!(compressor_chosen_at_run_time, || {
    let choice: Arc<dyn Compressor> = Arc::new(Lz4);
    compressed(choice)
});
conformance_tests!(behind_dyn, || -> Arc<dyn MutableMapping<u64, Bytes>> {
    let stored: Arc<dyn MutableMapping<u64, Frames>> = Arc::new(segments());
    let smaller: Arc<dyn MutableMapping<u64, Frames>> = Arc::new(Compress::new(Lz4, stored));
    let values: Arc<dyn MutableMapping<u64, Bytes>> = Arc::new(Func::new(Raw, smaller));
    Arc::new(BufferBuilder::new().target(TARGET).over(values).unwrap())
});

/// All bytes of the segment files below `directory`.
fn bytes_of_files(directory: &Path) -> u64 {
    let workspaces = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    workspaces
        .filter(|path| path.is_dir())
        .flat_map(|path| std::fs::read_dir(path).unwrap())
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "spill"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum()
}

/// What `work` logs, spans included, which are written when they end.
fn logged(work: impl FnOnce()) -> String {
    let lines = tempfile::NamedTempFile::new().unwrap();
    let file = lines.reopen().unwrap();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || file.try_clone().unwrap())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    std::fs::read_to_string(lines.path()).unwrap()
}

#[test]
fn a_spill_and_a_read_back_are_spans_with_keys_bytes_and_compressor() {
    let map = presets::compressed_disk::<u64, Bytes>(1 << 20, None, Lz4).unwrap();
    let weight = 100_000 + size_of::<Bytes>();
    map.insert(7, Bytes::from(vec![7; 100_000])).unwrap();
    let spilled = logged(|| assert_eq!(map.evict(), weight as i64));
    assert!(spilled.contains(&format!("spill{{keys=1 bytes={weight} compressor=\"lz4\"}}: ")), "{spilled}");
    let read = logged(|| assert!(map.get(&7).unwrap().is_some()));
    assert!(read.contains(&format!("read_back{{keys=1 compressor=\"lz4\" bytes={weight}}}: ")), "{read}");
    let hit = logged(|| assert!(map.get(&7).unwrap().is_some()));
    assert_eq!(hit, "", "a hit moves nothing");
}

/// S25: under compression, spilled is the bytes that the files hold for spilled values, and no longer what the
/// values weighed; a copy kept beside a value in memory does not count.
#[test]
fn spilled_is_what_the_files_hold() {
    let home = tempfile::tempdir().unwrap();
    let map = presets::compressed_disk::<u64, Bytes>(1 << 20, Some(home.path()), Lz4).unwrap();
    for n in 0..64 {
        map.insert(n, Bytes::from(vec![n as u8; 100_000])).unwrap();
    }
    map.evict_until_below(0);
    map.flush().unwrap();
    let usage = map.usage();
    assert_eq!(usage.spilled.memory, 64 * (100_000 + size_of::<Bytes>() as u64));
    assert_eq!(usage.spilled.disk, bytes_of_files(home.path()), "each value was written once");
    assert!(usage.spilled.disk * 50 < usage.spilled.memory);

    let one = usage.spilled.disk / 64;
    map.get(&7).unwrap().unwrap();
    let read_back = map.usage();
    assert_eq!(read_back.fast, 100_000 + size_of::<Bytes>() as u64);
    assert_eq!(usage.spilled.disk - read_back.spilled.disk, one);
    assert_eq!(map.evict(), read_back.fast as i64);
    assert_eq!(map.usage(), usage);
    assert_eq!(bytes_of_files(home.path()), usage.spilled.disk, "an unchanged value is not written again");
}

/// S21: managed memory is the sum of what the values in memory weigh, through spilling and reading back.
#[test]
fn managed_is_what_is_in_memory() {
    let map = presets::disk::<u64, Bytes>(1 << 20, None).unwrap();
    let one = 10_000 + size_of::<Bytes>() as u64;
    for n in 0..300u64 {
        map.insert(n, Bytes::from(vec![n as u8; 10_000])).unwrap();
        let stats = map.stats();
        assert_eq!(map.usage().fast, stats.fast_count * one);
        assert_eq!(stats.fast_count + stats.slow_count, n + 1);
        assert_eq!(stats.slow_bytes, stats.slow_count * one);
    }
    for n in 0..300 {
        assert_eq!(map.get(&n).unwrap().unwrap()[..], vec![n as u8; 10_000]);
        let usage = map.usage();
        assert_eq!(usage.fast + usage.spilled.memory, 300 * one);
        assert!(usage.fast <= map.target());
    }
}

/// The directory is there while the map lives, and nothing of it afterwards.
#[test]
fn a_map_leaves_no_file_behind() {
    let home = tempfile::tempdir().unwrap();
    let map = presets::disk::<u64, Bytes>(1000, Some(home.path())).unwrap();
    map.insert(1, Bytes::from(vec![1; 1 << 20])).unwrap();
    assert!(bytes_of_files(home.path()) > 0);
    drop(map);
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| !path.is_dir()), "{left:?}");
}

/// Layers go together by method calls as well, with a codec and a weigher of one's own.
#[test]
fn a_chain_is_built_by_method_calls() {
    let codec = (
        |words: &Arc<Vec<String>>| -> overspill::Result<Frames> { Ok(Bytes::from(words.join(" ")).into()) },
        |frames: Frames| -> overspill::Result<Arc<Vec<String>>> {
            let text = frames.into_single().unwrap_or_default();
            let text =
                std::str::from_utf8(&text).map_err(|e| overspill::Error::codec("words", e.to_string()))?;
            Ok(Arc::new(text.split(' ').map(str::to_owned).collect()))
        },
    );
    let weigher = |_: &u64, words: &Arc<Vec<String>>| words.iter().map(|word| word.len() as u64).sum();
    let map =
        Compress::new(Lz4, segments()).coded(codec).buffered(BufferBuilder::weighed_by(weigher).target(30));
    let map = map.unwrap();
    for n in 0..10 {
        map.insert(n, Arc::new(vec![format!("word-{n}"), "another".to_owned()])).unwrap();
    }
    assert_eq!(map.stats().fast_count, 2);
    assert_eq!(*map.get(&0).unwrap().unwrap(), ["word-0", "another"]);
    let stats = map.stats();
    assert_eq!((stats.encode.count, stats.decode.count), (9, 1));
    // Too short to shrink, so stored as it is: there is nothing to decompress.
    assert_eq!((stats.compress.count, stats.decompress.count), (9, 0));
}
