//! Chains with an object store at their end: RAM above it, a compressor between, a local read cache beside it.

use bytes::Bytes;
use overspill::object::{Objects, ObjectsConfig, Store};
use overspill::{
    Blocking, BufferBuilder, Cache, Compose, Compress, Frames, Lz4, ManualEvict, MutableMapping, Segments,
    SegmentsConfig, Workspace, presets,
};

fn objects() -> Blocking<Objects<u64>> {
    Objects::blocking(ObjectsConfig::new(Store::open("memory:///p").unwrap()).pack_bytes(200_000)).unwrap()
}

fn value(n: u64) -> Bytes {
    Bytes::from(vec![n as u8; 4096])
}

#[test]
fn a_preset_spills_to_an_object_store_and_keeps_its_target() {
    let target = 2 << 20;
    let map = presets::objects::<u64, Bytes>(target, Store::open("memory:///p").unwrap()).unwrap();
    for n in 0..3000 {
        map.insert(n, value(n)).unwrap();
        assert!(map.usage().managed() <= target, "{:?}", map.usage());
    }
    for n in 0..3000 {
        assert_eq!(map.get(&n).unwrap(), Some(value(n)));
    }
    assert!(map.evict() >= 4096 && map.fast());
    map.close().unwrap();
}

/// A second read of a value comes from the local copies.
#[test]
fn a_cache_keeps_local_copies_of_what_was_read_from_an_object_store() {
    let directory = tempfile::tempdir().unwrap();
    let local =
        Segments::open(SegmentsConfig::new(Workspace::open(Some(directory.path())).unwrap())).unwrap();
    let cache = Cache::new(objects(), local).update_on_set(false);
    for n in 0..200 {
        cache.insert(n, Frames::from(value(n))).unwrap();
    }
    cache.flush().unwrap();
    let read_all = || {
        for n in 0..200 {
            assert_eq!(cache.get(&n).unwrap(), Some(Frames::from(value(n))));
        }
        cache.data().inner().requests().gets
    };
    let first = read_all();
    assert!(first >= 200, "{first}");
    assert_eq!(read_all(), first, "nothing is fetched again");
    cache.insert(3, Frames::from(value(99))).unwrap();
    assert_eq!(
        cache.get(&3).unwrap(),
        Some(Frames::from(value(99))),
        "what is written anew is not the old copy"
    );
    cache.close().unwrap();
}

#[test]
fn compressed_values_are_packed_as_they_are_stored() {
    let map = Compress::new(Lz4, objects()).buffered(BufferBuilder::new().target(50_000)).unwrap();
    for n in 0..1000 {
        map.insert(n, Frames::from(value(n))).unwrap();
    }
    map.flush().unwrap();
    let spilled = map.usage().spilled;
    assert!(spilled.disk < spilled.memory / 10, "{spilled:?}");
    for n in 0..1000 {
        assert_eq!(map.get(&n).unwrap(), Some(Frames::from(value(n))));
    }
    map.close().unwrap();
}

/// Through all levels of a chain: what is asked for together is read together.
#[test]
fn a_chain_reads_many_values_with_few_requests() {
    let store = Store::open("memory:///p").unwrap();
    let map = presets::tiers::<u64, Bytes>(16 << 20, None, 8 << 20, store).unwrap();
    for n in 0..12_000 {
        map.insert(n, value(n)).unwrap();
    }
    map.flush().unwrap();
    let objects = map.slow().inner().slow();
    let gets = || objects.inner().requests().gets;
    let far: Vec<u64> = (0..1100).collect();
    assert!(far.iter().all(|key| objects.contains_key(key)), "the oldest are in the store");

    let before = gets();
    let found = map.get_many(&far[..1000]);
    assert!(found.into_iter().zip(&far).all(|(found, n)| found.unwrap() == Some(value(*n))));
    let many = gets() - before;
    assert!((1..=20).contains(&many), "{many}");

    map.prefetch(&far[1000..]);
    let ahead = gets() - before - many;
    assert!((1..=8).contains(&ahead), "{ahead}");
    for n in &far[1000..] {
        assert_eq!(map.get(n).unwrap(), Some(value(*n)));
    }
    assert_eq!(gets() - before, many + ahead, "they are in RAM");
    map.close().unwrap();
}
