//! `Lru` and the order in which a buffer evicts: zict's rules, row by row.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use spill_core::conformance::Memory;
use spill_core::{BufferBuilder, Error, ErrorKind, Lru, ManualEvict, MappingExt, MutableMapping, Result};

/// Values weigh what they are.
fn weighed() -> BufferBuilder<&'static str, u64> {
    BufferBuilder::weighed_by(|_: &&'static str, value: &u64| *value)
}

type Evicted = Arc<Mutex<Vec<(&'static str, u64)>>>;

fn recording(builder: BufferBuilder<&'static str, u64>) -> (Lru<&'static str, u64>, Evicted) {
    let evicted = Evicted::default();
    let log = Arc::clone(&evicted);
    let lru = builder.on_evict(move |key, value| {
        log.lock().unwrap().push((*key, *value));
        Ok(())
    });
    (lru.alone().unwrap(), evicted)
}

fn refusal() -> Error {
    ErrorKind::Backend {
        name: "observer",
        location: "a test".to_owned(),
        status: "no".to_owned(),
        transient: false,
    }
    .into()
}

/// Z02: evicts while the total weight and the offset are strictly above the target, oldest first.
#[test]
fn evicts_only_strictly_above_the_target() {
    let (lru, evicted) = recording(weighed().target(10).offset(2));
    lru.insert("a", 4).unwrap();
    lru.insert("b", 4).unwrap();
    assert!(evicted.lock().unwrap().is_empty(), "8 + 2 is not above 10");
    lru.insert("c", 1).unwrap();
    assert_eq!(*evicted.lock().unwrap(), [("a", 4)]);
    assert_eq!(lru.usage().fast, 5);
    assert!(!lru.contains_key(&"a"));
}

/// Z02: a read makes a key the most recently used, a peek and `contains_key` do not.
#[test]
fn reads_renew_and_peeks_do_not() {
    let (lru, evicted) = recording(weighed().target(3));
    for key in ["a", "b", "c"] {
        lru.insert(key, 1).unwrap();
    }
    lru.get(&"a").unwrap();
    lru.peek(&"b").unwrap();
    assert!(lru.contains_key(&"b"));
    lru.insert("d", 1).unwrap();
    assert_eq!(*evicted.lock().unwrap(), [("b", 1)]);
}

/// Z03: a value heavier than the target is evicted first and empties nothing else; of several the oldest
/// goes first.
#[test]
fn heavy_values_pass_through() {
    let (lru, evicted) = recording(weighed().target(10));
    lru.insert("a", 4).unwrap();
    lru.insert("b", 4).unwrap();
    lru.insert("heavy", 11).unwrap();
    assert_eq!(*evicted.lock().unwrap(), [("heavy", 11)]);
    assert_eq!(lru.len(), 2);
    let buffer = lru.as_buffer();
    buffer.insert_without_evicting("first", 12).unwrap();
    buffer.insert_without_evicting("second", 13).unwrap();
    evicted.lock().unwrap().clear();
    assert_eq!(lru.evict(), 12);
    assert_eq!(lru.evict(), 13);
    assert_eq!(lru.evict(), 4);
    assert_eq!(*evicted.lock().unwrap(), [("first", 12), ("second", 13), ("a", 4)]);
}

/// Z03: exactly the target is not heavy.
#[test]
fn a_value_of_exactly_the_target_is_not_heavy() {
    let (lru, evicted) = recording(weighed().target(10));
    lru.insert("a", 1).unwrap();
    lru.insert("b", 10).unwrap();
    assert_eq!(*evicted.lock().unwrap(), [("a", 1)]);
    assert!(lru.contains_key(&"b"));
}

/// Z04: what slow memory holds already is present and weighed as slow; nothing is evicted until an insert.
#[test]
fn a_filled_store_is_present_and_evicts_nothing() {
    let store = Memory::new();
    store.insert("a", 7).unwrap();
    store.insert("b", 8).unwrap();
    let buffer = weighed().target(10).over(store).unwrap();
    assert_eq!(buffer.len(), 2);
    let mut keys = buffer.keys();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "b"]);
    assert_eq!(buffer.evict(), -1);
    assert_eq!(buffer.get(&"a").unwrap(), Some(7));
    buffer.insert_without_evicting("c", 9).unwrap();
    assert_eq!(buffer.usage().fast, 16, "above the target, and nothing was evicted");
    buffer.insert("d", 1).unwrap();
    assert_eq!(buffer.fast_keys(), ["d", "c"]);
}

/// Z05: changing target or offset evicts nothing by itself; `evict_until_below` does, 0 meaning all.
#[test]
fn changing_the_target_evicts_nothing_by_itself() {
    let buffer = weighed().target(100).over(Memory::new()).unwrap();
    for key in ["a", "b", "c", "d"] {
        buffer.insert(key, 10).unwrap();
    }
    buffer.set_target(25);
    buffer.set_offset(10);
    assert_eq!(buffer.fast_keys(), ["d", "c", "b", "a"]);
    buffer.set_offset(0);
    assert_eq!(buffer.evict_until_below(25), 20);
    assert_eq!(buffer.fast_keys(), ["d", "c"]);
    assert_eq!(buffer.evict_until_below(0), 20);
    assert!(!buffer.fast());
    assert_eq!(buffer.len(), 4);
}

/// Z06: one missing key gives nothing and leaves the order untouched; otherwise all count as used.
#[test]
fn get_all_or_nothing_touches_all_or_none() {
    let buffer = weighed().target(3).over(Memory::new()).unwrap();
    for key in ["a", "b", "c"] {
        buffer.insert(key, 1).unwrap();
    }
    assert_eq!(buffer.get_all_or_nothing(&["a", "missing", "b"]).unwrap(), None);
    assert_eq!(buffer.fast_keys(), ["c", "b", "a"]);
    assert_eq!(buffer.get_all_or_nothing(&["a", "b"]).unwrap(), Some(vec![1, 1]));
    assert_eq!(buffer.fast_keys(), ["b", "a", "c"]);
}

/// Z07: inserts without evicting; when weighing panics the old value stays.
#[test]
fn a_failed_weighing_keeps_the_old_value() {
    let fails = Arc::new(AtomicBool::new(false));
    let weigher_fails = Arc::clone(&fails);
    let weigher = move |_: &u8, value: &u64| {
        assert!(!weigher_fails.load(SeqCst), "cannot weigh this");
        *value
    };
    let buffer = BufferBuilder::weighed_by(weigher).target(5).over(Memory::new()).unwrap();
    buffer.insert_without_evicting(1, 10).unwrap();
    buffer.insert_without_evicting(2, 20).unwrap();
    assert_eq!(buffer.usage().fast, 30);
    fails.store(true, SeqCst);
    for outcome in [buffer.insert_without_evicting(1, 11), buffer.insert(1, 12)] {
        let error = outcome.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Panicked { .. }));
        assert!(error.to_string().contains("cannot weigh this"), "{error}");
    }
    assert_eq!(buffer.get(&1).unwrap(), Some(10));
    assert_eq!(buffer.usage().fast, 30);
}

/// Z08: the value stays readable while observers run, without a lock; an error of one keeps the pair.
#[test]
fn an_observer_can_read_and_refuse() {
    let refuses = Arc::new(AtomicBool::new(true));
    let observer_refuses = Arc::clone(&refuses);
    let map: Arc<std::sync::OnceLock<Lru<&'static str, u64>>> = Arc::default();
    let seen = Arc::clone(&map);
    let lru = weighed()
        .on_evict(move |key, value| {
            let lru = seen.get().unwrap();
            assert_eq!(lru.peek(key).unwrap(), Some(*value), "readable, and no lock is held");
            assert_eq!(lru.len(), 1);
            if observer_refuses.load(SeqCst) { Err(refusal()) } else { Ok(()) }
        })
        .alone()
        .unwrap();
    let lru = map.get_or_init(|| lru);
    lru.insert("a", 5).unwrap();
    let error = lru.as_buffer().evict_key(&"a").unwrap_err();
    assert!(error.to_string().contains("observer"), "{error}");
    assert_eq!(lru.evict(), -1);
    assert_eq!(lru.get(&"a").unwrap(), Some(5));
    refuses.store(false, SeqCst);
    assert_eq!(lru.as_buffer().evict_key(&"a").unwrap(), Some(5));
    assert_eq!(lru.as_buffer().evict_key(&"a").unwrap(), None);
    assert!(lru.is_empty());
}

/// Z08: an eviction whose key is replaced or removed meanwhile is cancelled, and observers are told; a read
/// does not cancel it.
#[test]
fn a_write_cancels_an_eviction_and_a_read_does_not() {
    for (action, cancelled) in [("insert", 1), ("remove", 1), ("get", 0)] {
        let map: Arc<std::sync::OnceLock<Lru<&'static str, u64>>> = Arc::default();
        let cancels = Arc::new(Mutex::new(Vec::new()));
        let (seen, log) = (Arc::clone(&map), Arc::clone(&cancels));
        let lru = weighed()
            .on_evict(move |key, _| {
                let lru = seen.get().unwrap();
                match action {
                    "insert" => lru.insert(key, 6),
                    "remove" => lru.remove(key).map(drop),
                    _ => lru.get(key).map(drop),
                }
            })
            .on_cancel_evict(move |key, value| {
                log.lock().unwrap().push((*key, *value));
                Ok(())
            })
            .alone()
            .unwrap();
        let lru = map.get_or_init(|| lru);
        lru.insert("a", 5).unwrap();
        assert_eq!(lru.as_buffer().evict_key(&"a").ok().flatten(), (cancelled == 0).then_some(5), "{action}");
        assert_eq!(cancels.lock().unwrap().len(), cancelled, "{action}");
        assert_eq!(lru.peek(&"a").unwrap(), (action == "insert").then_some(6), "{action}");
        assert_eq!(lru.stats().cancelled, cancelled as u64);
    }
}

/// Z09: evicting from an empty mapping gives -1 and no panic.
#[test]
fn evicting_from_an_empty_mapping_gives_minus_one() {
    let lru = weighed().alone().unwrap();
    assert!(!lru.fast());
    assert_eq!(lru.evict(), -1);
    let result: Result<Option<u64>> = lru.as_buffer().evict_key(&"a");
    assert_eq!(result.unwrap(), None);
}
