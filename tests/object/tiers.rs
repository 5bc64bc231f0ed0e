//! RAM over disk over an object store: local first, and back again when there is room.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use overspill::object::{Objects, ObjectsConfig, Store};
use overspill::{
    Blocking, Buffer, BufferBuilder, Compose, Frames, Func, HeapWeigher, ManualEvict, MutableMapping, Raw,
    Segments, SegmentsConfig, Stored, Usage, Workspace, presets,
};
use spill_disk::io::MemoryIo;

type Level = Buffer<u64, Frames, Blocking<Objects<u64>>, Stored<Segments<u64>>>;
type Chain = Buffer<u64, Bytes, Func<u64, Bytes, Frames, Raw, Level>>;

const LEN: u64 = 4000;

fn value(n: u64) -> Bytes {
    Bytes::from((0..LEN).map(|at| (n * 31 + at) as u8).collect::<Vec<u8>>())
}

fn store() -> Store {
    Store::open("memory:///p").unwrap()
}

/// A chain over a device of `device` bytes, of which files may take `quota`.
fn chain(device: &MemoryIo, quota: u64) -> Chain {
    let workspace = Workspace::open_with(Arc::new(device.clone()), Some(Path::new("/spill"))).unwrap();
    let config = SegmentsConfig::new(workspace).quota_bytes(quota).segment_bytes(64 << 10).stage_bytes(0);
    let objects = Objects::blocking(ObjectsConfig::new(store()).pack_bytes(100_000)).unwrap();
    let level = objects.behind(Segments::open(config).unwrap(), BufferBuilder::new()).unwrap();
    Func::new(Raw, level).weighed_by(HeapWeigher).buffered(BufferBuilder::new().target(10 * LEN)).unwrap()
}

fn assert_complete(map: &impl MutableMapping<u64, Bytes>, keys: std::ops::Range<u64>) {
    assert_eq!(map.len() as u64, keys.end - keys.start);
    for n in keys {
        assert_eq!(map.peek(&n).unwrap(), Some(value(n)), "value {n}");
    }
}

/// The keys that are on disk.
fn on_disk(map: &Chain) -> Vec<u64> {
    let mut keys = Vec::new();
    map.slow().inner().stored().for_each_key(&mut |key| keys.push(*key));
    keys.sort_unstable();
    keys
}

/// What the disk has no room for goes to the store, at once and completely, and what is written or read when
/// there is room again is on disk.
fn falls_through_and_comes_back(map: &Chain, free: impl Fn(u64)) {
    let count = 500;
    for n in 0..count {
        map.insert(n, value(n)).unwrap();
    }
    let level = map.slow().inner();
    let full = on_disk(map);
    assert!((50..300).contains(&full.len()), "{}", full.len());
    assert!(level.slow().len() > 150, "{}", level.slow().len());
    assert!(map.usage().fast <= 10 * (LEN + 32), "{:?}", map.usage());
    assert_complete(map, 0..count);

    // room: by removing values that are there, or by a larger device
    free(full[full.len() / 2]);
    let later = map.len() as u64;
    let keys: Vec<u64> = (1000..1020).collect();
    for n in &keys {
        map.insert(*n, value(*n)).unwrap();
    }
    map.evict_until_below(0);
    let there = on_disk(map);
    assert!(keys.iter().all(|key| there.contains(key)), "{there:?}");
    assert_eq!(map.len() as u64, later + 20);

    // and what is read from the store comes back to disk
    let mut far = Vec::new();
    level.slow().for_each_key(&mut |key| far.push(*key));
    far.sort_unstable();
    far.retain(|key| !there.contains(key));
    for key in &far[..5] {
        assert_eq!(map.get(key).unwrap(), Some(value(*key)));
    }
    let there = on_disk(map);
    assert!(far[..5].iter().all(|key| there.contains(key)), "{there:?}");
    map.close().unwrap();
}

/// S07: values stay available, whichever level has room.
#[test]
fn a_full_quota_falls_through_to_the_store_and_comes_back() {
    let device = MemoryIo::limited(100 << 20);
    let map = chain(&device, 1 << 20);
    falls_through_and_comes_back(&map, |below| {
        for key in on_disk(&map).into_iter().filter(|key| *key < below) {
            assert!(map.remove(&key).unwrap());
        }
    });
}

/// S07: values stay available, whichever level has room.
#[test]
fn a_full_disk_falls_through_to_the_store_and_comes_back() {
    let device = MemoryIo::limited(1 << 20);
    let map = chain(&device, u64::MAX);
    falls_through_and_comes_back(&map, |_| device.set_limit(100 << 20));
}

/// Each level keeps to its target, evicts by hand, and reports both sizes; the sums are those of the chain.
fn each_level_keeps_its_target_evicts_and_reports(store: Store) {
    let (target, quota, count) = (2 << 20, 4 << 20, 2000);
    let map = presets::tiers::<u64, Bytes>(target, None, quota, store).unwrap();
    let level = map.slow().inner();
    for n in 0..count {
        map.insert(n, value(n)).unwrap();
        assert!(map.usage().managed() <= target, "{:?}", map.usage());
        assert!(level.stored().usage().physical <= quota, "{:?}", level.stored().usage());
    }
    let (ram, disk) = (map.stats(), level.stats());
    assert!(ram.fast_bytes <= map.target() && disk.fast_bytes <= level.target());
    assert!(ram.fast_count > 100 && disk.fast_count > 300, "{ram:?} {disk:?}");
    assert_eq!(ram.fast_count + disk.fast_count + disk.slow_count, count);
    let parts: [Usage; 3] = [level.stored().usage(), level.slow().usage(), level.usage()];
    assert_eq!(parts[0].count + parts[1].count, level.len(), "written once, in one place");
    assert_eq!(parts[0].spilled + parts[1].spilled, parts[2].spilled);
    assert_eq!(map.usage().spilled, parts[2].spilled);
    assert_eq!(parts[2].spilled.memory, level.len() as u64 * (LEN + size_of::<Bytes>() as u64));
    assert!(parts[2].spilled.disk > level.len() as u64 * LEN);

    assert_eq!(map.evict(), (LEN + size_of::<Bytes>() as u64) as i64);
    assert!(level.evict() > LEN as i64);
    assert!(map.fast() && level.fast());
    level.evict_until_below(0);
    assert_eq!((level.fast(), level.stored().len()), (false, 0), "all of it is in the store");
    map.flush().unwrap();
    assert_eq!(level.slow().usage().staged, 0);
    assert_complete(&map, 0..count);
    map.close().unwrap();
}

#[test]
fn three_levels_over_memory() {
    each_level_keeps_its_target_evicts_and_reports(store());
}

#[cfg(feature = "aws")]
#[test]
fn three_levels_over_a_server() {
    use crate::tiers_example::server::Server;
    let server = Server::start(std::time::Duration::ZERO).unwrap();
    let url = format!("s3://{}/some/prefix", Server::BUCKET);
    each_level_keeps_its_target_evicts_and_reports(Store::open_with(&url, &server.options()).unwrap());
    assert!(server.objects().unwrap().is_empty(), "closing leaves nothing");
}
