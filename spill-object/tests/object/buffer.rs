//! Below a buffer: what a failing store means for `evict()`.

use std::sync::Arc;
use std::time::Duration;

use spill_core::{Buffer, BufferBuilder, Frames, ManualEvict, MutableMapping};
use spill_object::{Objects, ObjectsConfig, Store, object_store};

use crate::failures::{forbidden, internal_error, not_found, reset, slow_down};
use crate::support::{Op, Strike, Unreliable, value};

const COUNT: u64 = 100;
const LEN: usize = 1000;

fn buffer(store: &Arc<Unreliable>) -> Buffer<u64, Frames, impl MutableMapping<u64, Frames> + 'static> {
    let place = Store::with_parts(Arc::clone(store), "test://bucket");
    // one try each, and a stage of few values
    let config = ObjectsConfig::new(place).deadline(Duration::ZERO).try_timeout(Duration::from_millis(100));
    let slow = Objects::blocking(config.pack_bytes(10_000).stage_bytes(10_000)).unwrap();
    BufferBuilder::new().over(slow).unwrap()
}

fn assert_complete(map: &impl MutableMapping<u64, Frames>) {
    assert_eq!(map.len() as u64, COUNT);
    for n in 0..COUNT {
        assert_eq!(map.get(&n).unwrap(), Some(value(n, LEN)), "value {n}");
    }
}

/// S35: what was accepted is served, what could not be evicted is still in fast memory, and once the store works
/// eviction does again.
#[test]
fn evict_over_a_store_that_fails_is_minus_one_and_keeps_the_pair() {
    let dns = || object_store::Error::Generic {
        store: "S3",
        source: Box::new(std::io::Error::other("failed to lookup address information")),
    };
    for strike in [
        Strike::Before(internal_error),
        Strike::Before(slow_down),
        Strike::Before(forbidden),
        Strike::Before(not_found),
        Strike::Before(reset),
        Strike::Before(dns),
        Strike::After(slow_down),
        Strike::Hang,
        Strike::HangAfter,
    ] {
        let store = Arc::new(Unreliable::default());
        let map = buffer(&store);
        for n in 0..COUNT {
            map.insert(n, value(n, LEN)).unwrap();
        }
        store.always(Op::Put, strike);
        let mut moved = 0;
        loop {
            match map.evict() {
                -1 => break,
                weight => assert!(weight >= LEN as i64, "{strike:?}: {weight}"),
            }
            moved += 1;
            assert!(moved < COUNT / 2, "{strike:?}: what the store does not take is not gone");
        }
        assert!(store.struck() > 0 && map.fast(), "{strike:?}");
        assert_eq!(map.stats().fast_count, COUNT - moved, "{strike:?}");
        assert_eq!(map.evict(), -1, "{strike:?}");
        assert_eq!(map.stats().fast_count, COUNT - moved, "{strike:?}");
        assert_complete(&map);

        store.heal();
        // tries that hung before may still be on their way to failing
        while map.slow().flush().is_err() {}
        assert!(map.evict() >= LEN as i64, "{strike:?}");
        map.evict_until_below(0);
        map.flush().unwrap();
        assert_complete(&map);
        map.close().unwrap();
        let contents =
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(store.contents());
        assert_eq!(contents, [], "{strike:?}");
    }
}

/// Reads fail with a typed error, and the pair stays where it is.
#[test]
fn a_read_that_fails_leaves_the_pair_in_the_store() {
    let store = Arc::new(Unreliable::default());
    let map = buffer(&store);
    for n in 0..COUNT {
        map.insert(n, value(n, LEN)).unwrap();
    }
    map.evict_until_below(0);
    map.flush().unwrap();
    store.always(Op::Get, Strike::Before(forbidden));
    for n in 0..COUNT {
        let error = map.get(&n).unwrap_err();
        assert!(error.to_string().contains("permission denied") && map.contains_key(&n), "{error}");
    }
    store.heal();
    assert_complete(&map);
    map.close().unwrap();
}
