//! Many keys in one call: as single calls would in their order, in few calls of storage.

#[macro_use]
#[path = "support/forwarded.rs"]
mod forwarded;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use spill_core::conformance::{Fault, Gate, Memory, Operation, Plan};
use spill_core::{
    Buffer, BufferBuilder, Compose, ManualEvict, MappingExt, MutableMapping, Result, SpilledSize, Usage,
};
use support::{
    Val, builder, even, eventually, filled, is_closed, is_io, reads, slow, sorted_keys, val, writes,
};

/// Storage that counts its batches.
#[derive(Default)]
struct Batches {
    inner: support::Store,
    calls: [AtomicU64; 3],
}

impl Batches {
    /// Batches read, written and removed so far.
    fn taken(&self) -> [u64; 3] {
        [0, 1, 2].map(|n| self.calls[n].swap(0, SeqCst))
    }
}

impl MutableMapping<u64, Val> for Batches {
    forwarded!(u64, Val);
    fn get_many(&self, keys: &[u64]) -> Vec<Result<Option<Val>>> {
        self.calls[0].fetch_add(1, SeqCst);
        self.inner.get_many(keys)
    }
    fn insert_many(&self, pairs: Vec<(u64, Val)>) -> Vec<Result<()>> {
        self.calls[1].fetch_add(1, SeqCst);
        self.inner.insert_many(pairs)
    }
    fn remove_many(&self, keys: &[u64]) -> Vec<Result<bool>> {
        self.calls[2].fetch_add(1, SeqCst);
        self.inner.remove_many(keys)
    }
    fn usage(&self) -> Usage {
        self.inner.usage()
    }
    fn stored_size(&self, key: &u64) -> Option<SpilledSize> {
        self.inner.stored_size(key)
    }
}

fn unwrapped<T>(results: Vec<Result<T>>) -> Vec<T> {
    results.into_iter().map(Result::unwrap).collect()
}

/// What is slow is read in one call, hits and absent keys are answered, and all is in order; then the target holds.
#[test]
fn get_many_reads_slow_memory_once() {
    let buffer = builder(40).over(Batches::default()).unwrap();
    (1..=8).for_each(|key| buffer.insert(key, val(key, 10)).unwrap());
    buffer.slow().taken();
    let got = unwrapped(buffer.get_many(&[1, 6, 9, 2, 1, 8]));
    assert_eq!(got, [Some(1), Some(6), None, Some(2), Some(1), Some(8)].map(|id| id.map(|id| val(id, 10))));
    assert_eq!(buffer.slow().taken()[0], 1);
    let mut fast = buffer.fast_keys();
    fast.sort_unstable();
    assert_eq!(fast, [1, 2, 6, 8]);
    let stats = buffer.stats();
    assert_eq!((stats.misses, stats.promotions, stats.hits), (2, 2, 3));
    assert_eq!(unwrapped(buffer.get_many(&[8, 1])).len(), 2);
    assert_eq!(buffer.slow().taken()[0], 0, "all in fast memory");
    assert_eq!(buffer.fast_keys()[..2], [1, 8]);
}

/// A batch of which nothing comes to fast memory makes no room there, as a single read of a heavy value makes none.
#[test]
fn what_stays_slow_evicts_nothing() {
    let buffer = builder(2).over(slow()).unwrap();
    buffer.insert(1, val(1, 3)).unwrap();
    assert!(!buffer.fast(), "heavier than the target");
    for key in [2, 3, 4] {
        buffer.insert_without_evicting(key, val(key, 1)).unwrap();
    }
    let found = unwrapped(buffer.get_many(&[1, 2]));
    assert_eq!(found, [Some(val(1, 3)), Some(val(2, 1))]);
    assert_eq!(buffer.fast_keys(), [2, 4, 3]);
}

/// A result for each key: one that cannot be read does not fail the others, and stays where it is.
#[test]
fn a_batch_has_a_result_for_each_key() {
    let (buffer, _) = filled(u64::MAX, 4);
    buffer.evict_until_below(0);
    buffer.slow().inject(Plan::always().key(2), Fault::io());
    let results = buffer.get_many(&[1, 2, 3]);
    assert!(results[0].is_ok() && results[2].is_ok());
    assert!(results[1].as_ref().is_err_and(is_io));
    assert_eq!(buffer.stats().failures, 1);
    assert!(buffer.contains_key(&2));
    buffer.slow().heal();
    assert_eq!(buffer.get(&2).unwrap(), Some(val(2, 10)));
    // a batch whose call panics as a whole
    support::quiet_injected_panics();
    buffer.evict_until_below(0);
    buffer.slow().inject(Plan::nth(1).on([Operation::Get]), Fault::panic("injected"));
    assert!(buffer.get_many(&[1, 3]).iter().all(|result| result.as_ref().is_err_and(support::is_panicked)));
    assert_eq!(unwrapped(buffer.get_many(&[1, 3])).len(), 2);
    buffer.close().unwrap();
    assert!(buffer.get_many(&[1, 2]).iter().all(|result| result.as_ref().is_err_and(is_closed)));
    assert!(
        buffer.insert_many(vec![(1, val(1, 1))]).iter().all(|result| result.as_ref().is_err_and(is_closed))
    );
    assert!(buffer.remove_many(&[1]).iter().all(|result| result.as_ref().is_err_and(is_closed)));
}

/// A key that another call reads is waited for, and read once; one that is written during the read gives the new value.
#[test]
fn a_batch_shares_reads_with_other_calls() {
    let (buffer, _) = filled(u64::MAX, 3);
    buffer.evict_until_below(0);
    let gate = Gate::closed();
    buffer.slow().inject(Plan::always().on([Operation::Get]).key(2), Fault::block(&gate));
    thread::scope(|scope| {
        let single = scope.spawn(|| buffer.get(&2).unwrap());
        gate.wait_for(1);
        let batch = scope.spawn(|| unwrapped(buffer.get_many(&[1, 2, 3])));
        eventually("the others are read", || buffer.fast_keys().len() == 2);
        gate.open();
        assert_eq!(single.join().unwrap(), Some(val(2, 10)));
        assert_eq!(batch.join().unwrap(), [1, 2, 3].map(|id| Some(val(id, 10))));
    });
    assert_eq!(reads(buffer.slow()), 3);
    buffer.evict_until_below(0);
    gate.close();
    thread::scope(|scope| {
        let batch = scope.spawn(|| unwrapped(buffer.get_many(&[1, 2])));
        gate.wait_for(2);
        buffer.insert(1, val(9, 10)).unwrap();
        gate.open();
        assert_eq!(batch.join().unwrap(), [Some(val(9, 10)), Some(val(2, 10))]);
    });
    assert_eq!(buffer.get(&1).unwrap(), Some(val(9, 10)));
}

/// Of a key given twice the later value stays; the target holds at the end; a weight that cannot be told fails its own.
#[test]
fn insert_many_is_inserts_in_order() {
    let odd = BufferBuilder::weighed_by(|key: &u64, value: &Val| {
        assert_ne!(*key, 13, "injected");
        value.weight
    });
    support::quiet_injected_panics();
    let buffer: Buffer<u64, Val, _> = odd.target(30).over(slow()).unwrap();
    let pairs = [1, 2, 13, 3, 4, 2].into_iter().zip(1..).map(|(key, id)| (key, val(id, 10))).collect();
    let results = buffer.insert_many(pairs);
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, true, true, true]);
    assert_eq!(buffer.fast_keys(), [2, 4, 3]);
    assert_eq!(buffer.peek(&2).unwrap(), Some(val(6, 10)));
    assert_eq!((buffer.len(), sorted_keys(buffer.slow())), (4, vec![1]));
}

/// Removing many removes their old copies in one call; each says whether it was present.
#[test]
fn remove_many_removes_in_one_call() {
    let buffer = builder(20).over(Batches::default()).unwrap();
    (1..=6).for_each(|key| buffer.insert(key, val(key, 10)).unwrap());
    buffer.slow().taken();
    assert_eq!(unwrapped(buffer.remove_many(&[1, 6, 9, 1, 2])), [true, true, false, false, true]);
    assert_eq!(buffer.slow().taken()[2], 1);
    assert_eq!(sorted_keys(&buffer), [3, 4, 5]);
    buffer.clear().unwrap();
    assert_eq!((buffer.len(), buffer.slow().len(), buffer.usage()), (0, 0, Usage::default()));
}

/// With fast memory in a mapping each batch is one call of that mapping as well.
#[test]
fn batches_stay_batches_in_stored_memory() {
    let level = builder(1000).stored(Batches::default(), Batches::default()).unwrap();
    unwrapped(level.insert_many((1..=8).map(|key| (key, val(key, 10))).collect()));
    assert_eq!(level.stored().taken(), [0, 1, 0]);
    level.evict_until_below(0);
    level.stored().taken();
    level.slow().taken();
    let got = unwrapped(level.get_many(&[1, 2, 3]));
    assert_eq!(got, [1, 2, 3].map(|id| Some(val(id, 10))));
    assert_eq!((level.slow().taken(), level.stored().taken()), ([1, 0, 0], [0, 1, 0]));
    assert_eq!(unwrapped(level.get_many(&[1, 4, 2])).len(), 3);
    assert_eq!((level.slow().taken(), level.stored().taken()), ([1, 0, 0], [1, 1, 0]));
    assert_eq!(unwrapped(level.remove_many(&[1, 2, 7])), [true; 3]);
    let removals = (level.slow().taken(), level.stored().taken());
    assert_eq!(
        removals,
        ([0, 0, 2], [0, 0, 1]),
        "7 is slow only; 1 and 2 are removed from fast memory first"
    );
    assert_eq!(level.len(), 5);
    level.clear().unwrap();
    assert_eq!((level.stored().len(), level.slow().len(), level.usage()), (0, 0, Usage::default()));
}

/// A failing memory fails nothing of a batch that another memory can take or answer.
#[test]
fn stored_batches_survive_a_failing_memory() {
    let level = builder(1000).stored(even(), slow()).unwrap();
    level.stored().inject(Plan::always().on([Operation::Insert]).key(2), Fault::io());
    unwrapped(level.insert_many((1..=3).map(|key| (key, val(key, 10))).collect()));
    assert_eq!((sorted_keys(level.stored()), sorted_keys(level.slow())), (vec![1, 3], vec![2]));
    level.stored().heal();
    level.evict_until_below(0);
    unwrapped(level.get_many(&[1, 2, 3]));
    level.stored().inject(Plan::always().on([Operation::Get]).key(3), Fault::io());
    assert_eq!(
        unwrapped(level.get_many(&[1, 3, 2])),
        [1, 3, 2].map(|id| Some(val(id, 10))),
        "3 from slow memory"
    );
}

/// A prefetch brings what fits, in one call for many, and never evicts what it brought itself.
#[test]
fn prefetch_brings_what_fits() {
    let buffer = builder(40).over(Batches::default()).unwrap();
    (1..=9).for_each(|key| buffer.insert(key, val(key, 10)).unwrap());
    buffer.slow().taken();
    buffer.prefetch(&[1, 2, 77]);
    assert_eq!(buffer.slow().taken()[0], 1);
    let mut fast = buffer.fast_keys();
    fast.sort_unstable();
    assert_eq!(fast, [1, 2, 8, 9], "others made room");
    buffer.prefetch(&[3, 4, 5, 6, 7, 1]);
    assert_eq!(buffer.fast_keys(), [6, 5, 4, 3], "as many as fit, in their order");
    assert!(buffer.stats().fast_bytes <= 40);
    let unsized_storage: Buffer<u64, Val, Memory<u64, Val>> = builder(40).over(Memory::new()).unwrap();
    (1..=500).for_each(|key| unsized_storage.insert(key, val(key, 10)).unwrap());
    let before = unsized_storage.stats().misses;
    unsized_storage.prefetch(&(1..=400).collect::<Vec<_>>());
    assert!(unsized_storage.stats().misses - before <= 64, "without sizes it stops after the first batch");
    assert!(unsized_storage.stats().fast_bytes <= 40);
}

/// With writers a prefetch happens behind the caller; what cannot be read is counted, and told to who gets it.
#[test]
fn writers_prefetch_behind_the_caller() {
    let buffer = builder(1000).writers(2).over(slow()).unwrap();
    (1..=9).for_each(|key| buffer.insert(key, val(key, 10)).unwrap());
    buffer.evict_until_below(0);
    buffer.slow().inject(Plan::always().on([Operation::Get]).key(3), Fault::io());
    buffer.prefetch(&(1..=9).collect::<Vec<_>>());
    eventually("they are here", || buffer.fast_keys().len() == 8);
    // counted when the writer has let go of the lock, under which the others came
    eventually("the failure is counted", || buffer.stats().failures >= 1);
    assert!(is_io(&buffer.get(&3).unwrap_err()));
    buffer.close().unwrap();
    buffer.prefetch(&[3]); // does nothing, and does not panic
}

/// In a chain a prefetch reads the level below, which keeps its own copy.
#[test]
fn prefetch_passes_through_the_levels() {
    let map = builder(100).stored(even(), slow()).unwrap().buffered(builder(50)).unwrap();
    (0..40).for_each(|key| map.insert(key, val(key, 10)).unwrap());
    map.prefetch(&[0, 1, 2]);
    assert!([0, 1, 2].iter().all(|key| map.fast_keys().contains(key)));
    assert!([0, 1, 2].iter().all(|key| map.slow().fast_keys().contains(key)));
    assert!(map.slow().stats().fast_bytes <= 100);
}

/// `reclaim` frees at least what it is asked for, least recently used first, where that can be done.
#[test]
fn reclaim_frees_what_is_asked_for() {
    let (buffer, _) = filled(u64::MAX, 10);
    assert_eq!(buffer.reclaim(0), 0);
    assert_eq!(buffer.reclaim(25), 30);
    assert_eq!(sorted_keys(buffer.slow()), [1, 2, 3]);
    buffer.slow().inject(Plan::always().on([Operation::Insert]).key(4), Fault::io());
    assert_eq!(buffer.reclaim(10), 10, "past one that cannot be spilled");
    assert_eq!(buffer.reclaim(u64::MAX), 50);
    assert_eq!((buffer.fast_keys(), buffer.reclaim(10)), (vec![4], 0));
    assert!(writes(buffer.slow()) >= 10);
    buffer.slow().heal();
    assert_eq!(buffer.evict(), 10);
}

/// Batches by many threads over the same keys, in all orders, lose nothing and end.
#[test]
fn batches_of_many_threads() {
    let buffer = Arc::new(builder(60).over(slow()).unwrap());
    (0..20).for_each(|key| buffer.insert(key, val(key, 10)).unwrap());
    thread::scope(|scope| {
        for n in 0..8u64 {
            let buffer = Arc::clone(&buffer);
            scope.spawn(move || {
                for step in 0..300u64 {
                    let mut keys: Vec<u64> = (0..7).map(|at| (at * 3 + step * (n + 1)) % 20).collect();
                    if n % 2 == 0 {
                        keys.reverse();
                    }
                    match step % 4 {
                        0 => {
                            _ = unwrapped(
                                buffer.insert_many(keys.iter().map(|&key| (key, val(key, 10))).collect()),
                            )
                        }
                        1 => buffer.prefetch(&keys),
                        _ => {
                            let expected: Vec<_> = keys.iter().map(|&key| Some(val(key, 10))).collect();
                            assert_eq!(unwrapped(buffer.get_many(&keys)), expected);
                        }
                    }
                }
            });
        }
    });
    assert_eq!(buffer.keys().len(), 20);
    assert!(buffer.usage().fast <= 60);
    assert!((0..20).all(|key| buffer.get(&key).unwrap() == Some(val(key, 10))));
    assert!(buffer.fast());
}
