//! Spilling behind the caller: by one thread and by two, in batches, over storage that is slow, fails or panics.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use spill_core::conformance::{Fault, Gate, Operation, Plan};
use spill_core::{
    Buffer, BufferBuilder, ManualClock, ManualEvict, MutableMapping, Result, SpilledSize, Stats, Usage,
};
use support::{
    Slow, Val, builder, eventually, is_closed, locked, quiet_injected_panics, refusal, slow, sorted_keys, val,
};

/// Storage that writes down which batches it was given, by whom.
struct Batches {
    slow: Slow,
    /// The keys of each batch, and the name of the thread that wrote it.
    seen: Mutex<Vec<(Vec<u64>, String)>>,
    /// How many results it withholds from each batch.
    withheld: usize,
}

impl Batches {
    fn new() -> Self {
        Batches { slow: slow(), seen: Mutex::default(), withheld: 0 }
    }

    fn sizes(&self) -> Vec<usize> {
        locked(&self.seen).iter().map(|(keys, _)| keys.len()).collect()
    }

    /// The keys written so far, in order.
    fn order(&self) -> Vec<u64> {
        locked(&self.seen).iter().flat_map(|(keys, _)| keys.clone()).collect()
    }

    fn note(&self, keys: Vec<u64>) {
        let thread = thread::current().name().unwrap_or_default().to_owned();
        locked(&self.seen).push((keys, thread));
    }
}

impl MutableMapping<u64, Val> for Batches {
    fn get(&self, key: &u64) -> Result<Option<Val>> {
        self.slow.get(key)
    }
    fn insert(&self, key: u64, value: Val) -> Result<()> {
        self.note(vec![key]);
        self.slow.insert(key, value)
    }
    fn insert_many(&self, pairs: Vec<(u64, Val)>) -> Vec<Result<()>> {
        self.note(pairs.iter().map(|(key, _)| *key).collect());
        let mut results = self.slow.insert_many(pairs);
        results.truncate(results.len().saturating_sub(self.withheld));
        results
    }
    fn remove(&self, key: &u64) -> Result<bool> {
        self.slow.remove(key)
    }
    fn take(&self, key: &u64) -> Result<Option<Val>> {
        self.slow.take(key)
    }
    fn contains_key(&self, key: &u64) -> bool {
        self.slow.contains_key(key)
    }
    fn len(&self) -> usize {
        self.slow.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        self.slow.for_each_key(f);
    }
    fn usage(&self) -> Usage {
        self.slow.usage()
    }
    fn stored_size(&self, key: &u64) -> Option<SpilledSize> {
        self.slow.stored_size(key)
    }
    fn flush(&self) -> Result<()> {
        self.slow.flush()
    }
    fn close(&self) -> Result<()> {
        self.slow.close()
    }
}

type Buf = Buffer<u64, Val, Arc<Batches>>;

fn over(builder: BufferBuilder<u64, Val>) -> Buf {
    builder.over(Arc::new(Batches::new())).unwrap()
}

/// One writer and a ceiling that is never met, unless a test says otherwise. Nobody loses patience, however late a thread.
fn behind(target: u64) -> BufferBuilder<u64, Val> {
    builder(target).writers(1).ceiling(u64::MAX).clock(Arc::new(ManualClock::new()))
}

fn fill(buffer: &Buf, keys: std::ops::RangeInclusive<u64>) {
    for key in keys {
        buffer.insert(key, val(key, 10)).unwrap();
    }
}

fn inject(buffer: &Buf, operation: Operation, fault: Fault<Val>) {
    buffer.slow().slow.inject(Plan::always().on([operation]), fault);
}

#[track_caller]
fn holds(buffer: &Buf, keys: std::ops::RangeInclusive<u64>) {
    for key in keys.clone() {
        assert_eq!(buffer.peek(&key).unwrap(), Some(val(key, 10)), "key {key}");
    }
    assert_eq!(sorted_keys(buffer), keys.collect::<Vec<_>>());
}

/// S05: fast memory comes down to its target behind the caller, the least recently used values first.
#[test]
fn fast_memory_comes_down_to_the_target() {
    for writers in [1, 2] {
        let buffer = over(behind(100).writers(writers));
        fill(&buffer, 1..=100);
        eventually("the target is met", || buffer.usage().fast <= 100);
        assert_eq!(buffer.usage().fast, 100, "and no more than needed goes");
        let newest: Vec<u64> = (91..=100).rev().collect();
        assert_eq!(buffer.fast_keys(), newest);
        holds(&buffer, 1..=100);
        let seen = locked(&buffer.slow().seen);
        assert!(seen.iter().all(|(_, thread)| thread.starts_with("overspill-write-")), "{seen:?}");
    }
}

#[test]
fn a_lower_target_is_followed_at_once() {
    let buffer = over(behind(1000));
    fill(&buffer, 1..=50);
    assert_eq!(buffer.slow().sizes(), [0; 0]);
    buffer.set_target(200);
    eventually("the new target is met", || buffer.usage().fast == 200);
    buffer.set_offset(100);
    eventually("the offset is followed too", || buffer.usage().fast == 100);
    holds(&buffer, 1..=50);
}

#[test]
fn a_read_back_makes_the_writers_spill_others() {
    let buffer = over(behind(100));
    fill(&buffer, 1..=20);
    eventually("the target is met", || buffer.usage().fast == 100);
    for key in 1..=20 {
        assert_eq!(buffer.get(&key).unwrap(), Some(val(key, 10)));
    }
    eventually("the target is met", || buffer.usage().fast == 100);
    buffer.update(&20, |value| value.weight = 60).unwrap();
    eventually("the target is met", || buffer.usage().fast <= 100);
    assert_eq!(buffer.fast_keys()[0], 20);
}

#[test]
fn writers_take_batches_in_the_order_of_eviction() {
    let buffer = over(behind(100));
    let gate = Gate::closed();
    let open = gate.open_on_drop();
    buffer.slow().slow.inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&gate));
    fill(&buffer, 1..=11);
    gate.wait_for(1);
    fill(&buffer, 12..=211);
    buffer.get(&20).unwrap();
    drop(open);
    eventually("the target is met", || buffer.usage().fast == 100);
    assert_eq!(buffer.slow().sizes(), [1, 64, 64, 64, 8]);
    let expected: Vec<u64> = (1..=202).filter(|key| *key != 20).collect();
    assert_eq!(buffer.slow().order(), expected);
    assert_eq!(buffer.stats().evictions, 201);
    holds(&buffer, 1..=211);
}

#[test]
fn a_batch_of_large_values_is_short() {
    let buffer = over(behind(1 << 20));
    let gate = Gate::closed();
    let open = gate.open_on_drop();
    buffer.slow().slow.inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&gate));
    let insert = |key| buffer.insert(key, val(key, 300 << 10)).unwrap();
    (1..=4).for_each(insert);
    gate.wait_for(1);
    (5..=20).for_each(insert);
    drop(open);
    eventually("the target is met", || buffer.usage().fast <= 1 << 20);
    let sizes = buffer.slow().sizes();
    assert_eq!(sizes.iter().sum::<usize>(), 17);
    assert!(sizes.iter().all(|size| *size <= 4), "about a MiB each: {sizes:?}");
}

/// The only writer reads for somebody and writes nothing: an insert waits for it all the same.
#[test]
fn an_insert_above_the_ceiling_waits_for_a_writer_that_is_late() {
    let buffer = over(behind(100).ceiling(120));
    fill(&buffer, 1..=20);
    eventually("the target is met", || buffer.usage().fast <= 100);
    let gate = Gate::closed();
    let open = gate.open_on_drop();
    inject(&buffer, Operation::Get, Fault::block(&gate));
    buffer.prefetch(&[1]);
    gate.wait_for(1);
    let insert = |key| {
        buffer.insert(key, val(key, 10)).unwrap();
        buffer.usage().fast
    };
    let most = thread::scope(|scope| {
        let inserter = scope.spawn(|| (21..=60).map(insert).max());
        eventually("what is below the ceiling is filled", || buffer.usage().fast >= 120);
        drop(open);
        inserter.join().unwrap()
    });
    assert!(most <= Some(130), "the ceiling, and what was read: {most:?}");
    holds(&buffer, 1..=60);
}

#[test]
fn two_writers_write_at_once() {
    let buffer = over(behind(100).writers(2));
    let gate = Gate::closed();
    let open = gate.open_on_drop();
    inject(&buffer, Operation::Insert, Fault::block(&gate));
    fill(&buffer, 1..=11);
    gate.wait_for(1);
    fill(&buffer, 12..=12);
    gate.wait_for(2); // hangs unless a second write begins while the first is held
    assert_eq!(buffer.usage().managed(), 120, "what is being written counts as managed");
    holds(&buffer, 1..=12);
    drop(open);
    eventually("the target is met", || buffer.usage().fast == 100);
}

/// S07: values are readable by any thread while their batch is being written, and can be replaced and removed.
#[test]
fn values_are_readable_and_writable_while_their_batch_is_written() {
    for after in [false, true] {
        let buffer = over(behind(100));
        let gate = Gate::closed();
        let fault = Fault::block(&gate);
        let fault = if after { fault.after() } else { fault };
        fill(&buffer, 1..=10);
        thread::scope(|scope| {
            let open = gate.open_on_drop();
            inject(&buffer, Operation::Insert, fault);
            buffer.set_target(0);
            gate.wait_for(1);
            scope.spawn(|| holds(&buffer, 1..=10)).join().unwrap();
            assert_eq!(buffer.usage().managed(), 100);
            buffer.insert(1, val(111, 10)).unwrap();
            buffer.insert(2, val(222, 10)).unwrap();
            assert!(buffer.remove(&3).unwrap());
            assert_eq!(buffer.take(&4).unwrap(), Some(val(4, 10)));
            let updating = scope.spawn(|| buffer.update(&5, |value| value.id));
            drop(open);
            assert_eq!(updating.join().unwrap().unwrap(), Some(5));
        });
        eventually("all is written", || buffer.usage().fast == 0);
        eventually("nothing old is left", || buffer.slow().len() == 8);
        for (key, id) in [(1, Some(111)), (2, Some(222)), (3, None), (4, None), (5, Some(5)), (10, Some(10))]
        {
            let expected = id.map(|id| val(id, 10));
            assert_eq!(buffer.peek(&key).unwrap(), expected, "key {key}");
            assert_eq!(buffer.slow().slow.inner().held(key), expected, "key {key}");
        }
        assert_eq!(buffer.len(), 8);
    }
}

/// Above the ceiling an insert waits while a write is in flight, and goes on when it ended.
#[test]
fn an_insert_above_the_ceiling_waits_for_a_write() {
    let buffer = over(behind(100).ceiling(130));
    let gate = Gate::closed();
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        inject(&buffer, Operation::Insert, Fault::block(&gate));
        fill(&buffer, 1..=11);
        gate.wait_for(1);
        fill(&buffer, 12..=13); // up to the ceiling none waits
        assert_eq!(buffer.usage().fast, 130);
        buffer.insert_without_evicting(99, val(99, 0)).unwrap();
        let waiting = scope.spawn(|| buffer.insert(14, val(14, 10)));
        for _ in 0..10_000 {
            thread::yield_now();
        }
        assert!(!waiting.is_finished());
        assert!(!buffer.contains_key(&14));
        assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)), "reads do not wait");
        assert!(buffer.remove(&99).unwrap(), "nor do removals");
        drop(open);
        waiting.join().unwrap().unwrap();
    });
    eventually("the target is met", || buffer.usage().fast == 100);
    holds(&buffer, 1..=14);
}

/// Unless set, the ceiling is an eighth above the target.
#[test]
fn the_ceiling_is_an_eighth_above_the_target_unless_set() {
    let buffer = over(builder(800).writers(1).clock(Arc::new(ManualClock::new())));
    let gate = Gate::closed();
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        inject(&buffer, Operation::Insert, Fault::block(&gate));
        fill(&buffer, 1..=81);
        gate.wait_for(1);
        fill(&buffer, 82..=90);
        assert_eq!(buffer.usage().fast, 900);
        let waiting = scope.spawn(|| buffer.insert(91, val(91, 1)));
        for _ in 0..10_000 {
            thread::yield_now();
        }
        assert!(!waiting.is_finished());
        drop(open);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_failing_store_hangs_nobody() {
    quiet_injected_panics();
    for writers in [1, 2] {
        for fault in [Fault::io(), Fault::full(), Fault::panic("injected"), Fault::io().after()] {
            let clock = Arc::new(ManualClock::new());
            let buffer = over(builder(100).writers(writers).clock(clock.clone()));
            inject(&buffer, Operation::Insert, fault);
            fill(&buffer, 1..=60);
            holds(&buffer, 1..=60);
            assert_eq!(buffer.usage().fast, 600);
            let all = |stats: Stats| stats.deferred == 60 && stats.failures == 60;
            eventually("all were tried once", || all(buffer.stats()));
            assert_eq!(buffer.slow().len(), 0);
            buffer.slow().slow.heal();
            clock.advance(Duration::from_secs(10));
            buffer.set_target(100); // time stands still for sleepers: this wakes them
            eventually("the target is met", || buffer.usage().fast == 100);
            holds(&buffer, 1..=60);
        }
    }
}

#[test]
fn one_value_that_cannot_be_written_does_not_block_its_batch() {
    let clock = Arc::new(ManualClock::new());
    let buffer = over(behind(1000).clock(clock));
    buffer.slow().slow.inject(Plan::always().on([Operation::Insert]).key(5), Fault::io());
    fill(&buffer, 1..=20);
    buffer.set_target(0);
    eventually("the others are written", || buffer.usage().fast == 10);
    assert_eq!(buffer.fast_keys(), [5]);
    assert_eq!(buffer.stats().deferred, 1);
    holds(&buffer, 1..=20);
}

/// A batch that panics half written is kept in fast memory whole, and nothing of it is left in storage.
#[test]
fn a_batch_that_panics_loses_nothing() {
    quiet_injected_panics();
    let clock = Arc::new(ManualClock::new());
    let buffer = over(behind(1000).clock(clock.clone()));
    fill(&buffer, 1..=20);
    buffer.slow().slow.inject(Plan::nth(10).on([Operation::Insert]), Fault::panic("injected"));
    buffer.set_target(0);
    eventually("the batch failed", || buffer.stats().failures >= 20);
    eventually("what it left is gone", || buffer.slow().len() == 0);
    assert_eq!(buffer.slow().sizes(), [20]);
    assert_eq!(buffer.usage().fast, 200);
    holds(&buffer, 1..=20);
    clock.advance(Duration::from_secs(10));
    buffer.set_target(0);
    eventually("they are tried again", || buffer.usage().fast == 0);
    holds(&buffer, 1..=20);
    assert_eq!(buffer.slow().len(), 20);
}

/// Storage that answers for fewer values than it was given keeps its promise for those it answered for.
#[test]
fn values_without_a_result_are_kept() {
    let store = Batches { withheld: 3, ..Batches::new() };
    let buffer = behind(1000).clock(Arc::new(ManualClock::new())).over(Arc::new(store)).unwrap();
    fill(&buffer, 1..=10);
    buffer.set_target(0);
    eventually("seven left", || buffer.usage().fast == 30 && buffer.stats().deferred == 3);
    assert_eq!(buffer.fast_keys(), [10, 9, 8]);
    assert_eq!(sorted_keys(buffer.slow()), (1..=7).collect::<Vec<_>>());
    holds(&buffer, 1..=10);
}

#[test]
fn full_storage_gives_up_copies_for_a_batch() {
    let buffer = over(behind(1000));
    fill(&buffer, 1..=10);
    buffer.flush().unwrap();
    buffer.slow().slow.inner().set_limit(100);
    fill(&buffer, 11..=20);
    for key in 1..=10 {
        buffer.get(&key).unwrap();
    }
    buffer.set_target(100);
    eventually("the target is met", || buffer.usage().fast == 100);
    assert_eq!(sorted_keys(buffer.slow()), (11..=20).collect::<Vec<_>>());
    holds(&buffer, 1..=20);
    assert_eq!(buffer.stats().deferred, 0);
}

/// What has a good copy on slow memory leaves without being written.
#[test]
fn writers_write_no_value_twice() {
    let buffer = over(behind(1000));
    fill(&buffer, 1..=10);
    buffer.flush().unwrap();
    let written = buffer.slow().order().len();
    buffer.set_target(0);
    eventually("all left", || buffer.usage().fast == 0);
    assert_eq!(buffer.slow().order().len(), written);
    assert_eq!(buffer.stats().clean_evictions, 10);
}

#[test]
fn observers_are_told_by_the_writers_and_may_refuse() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let observer = move |key: &u64, _: &Val| {
        locked(&log).push(*key);
        if *key == 3 { Err(refusal()) } else { Ok(()) }
    };
    let buffer = over(behind(1000).on_evict(observer).clock(Arc::new(ManualClock::new())));
    fill(&buffer, 1..=5);
    buffer.set_target(0);
    eventually("the others left", || buffer.usage().fast == 10);
    eventually("its copy is taken back", || buffer.slow().len() == 4);
    assert_eq!(buffer.fast_keys(), [3]);
    assert_eq!(*locked(&told), [1, 2, 3, 4, 5]);
    holds(&buffer, 1..=5);
}

/// A monitor's call takes what the writers do not have in hand.
#[test]
fn an_eviction_by_hand_passes_by_what_is_being_written() {
    let buffer = over(behind(100));
    let gate = Gate::closed();
    let open = gate.open_on_drop();
    buffer.slow().slow.inject(Plan::nth(1).on([Operation::Insert]), Fault::block(&gate));
    fill(&buffer, 1..=11);
    gate.wait_for(1);
    assert_eq!(buffer.evict(), 10);
    assert_eq!(sorted_keys(buffer.slow()), [2]);
    drop(open);
    eventually("the first write ended", || buffer.slow().contains_key(&1));
    holds(&buffer, 1..=11);
}

#[test]
fn flush_writes_everything_beside_the_writers() {
    for writers in [1, 2] {
        let buffer = over(behind(100).writers(writers));
        fill(&buffer, 1..=100);
        buffer.flush().unwrap();
        assert_eq!(buffer.slow().len(), 100);
        let mut written = buffer.slow().order();
        written.sort_unstable();
        assert_eq!(written, (1..=100).collect::<Vec<_>>(), "each once");
        holds(&buffer, 1..=100);
    }
}

/// After `close` no thread is left; a call that waited for room is refused and not left hanging.
#[test]
fn closing_ends_the_writers_and_those_who_wait() {
    let buffer = over(behind(100).ceiling(110));
    let gate = Gate::closed();
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        inject(&buffer, Operation::Insert, Fault::block(&gate));
        fill(&buffer, 1..=11);
        gate.wait_for(1);
        let waiting = scope.spawn(|| buffer.insert(12, val(12, 10)));
        let closing = scope.spawn(|| buffer.close());
        // Joined while the write is still held.
        assert!(is_closed(&waiting.join().unwrap().unwrap_err()));
        drop(open);
        closing.join().unwrap().unwrap();
    });
    assert_eq!(buffer.slow().slow.calls(Operation::Close), 1);
    assert!(is_closed(&buffer.insert(13, val(13, 10)).unwrap_err()));
    let store = Arc::clone(buffer.slow());
    drop(buffer);
    assert_eq!(Arc::strong_count(&store), 1, "nobody else uses the storage");
}

#[test]
fn dropping_a_buffer_ends_its_writers() {
    for writers in [1, 2] {
        let buffer = over(behind(100).writers(writers));
        fill(&buffer, 1..=50);
        let store = Arc::clone(buffer.slow());
        drop(buffer);
        assert_eq!(Arc::strong_count(&store), 1);
    }
}

#[test]
fn dropping_a_buffer_whose_write_is_held_ends_when_storage_answers() {
    let buffer = over(behind(100));
    let gate = Gate::closed();
    inject(&buffer, Operation::Insert, Fault::block(&gate));
    fill(&buffer, 1..=20);
    let store = Arc::clone(buffer.slow());
    thread::scope(|scope| {
        let open = gate.open_on_drop();
        gate.wait_for(1);
        let dropping = scope.spawn(move || drop(buffer));
        for _ in 0..10_000 {
            thread::yield_now();
        }
        assert_eq!(store.len(), 0);
        drop(open);
        dropping.join().unwrap();
    });
    assert_eq!(Arc::strong_count(&store), 1);
}

/// A storage that fails for ever does not keep a buffer from being dropped.
#[test]
fn dropping_a_buffer_over_failing_storage_ends() {
    quiet_injected_panics();
    for fault in [Fault::io(), Fault::panic("injected"), Fault::full()] {
        let buffer = over(behind(0).writers(2));
        inject(&buffer, Operation::Insert, fault.clone());
        inject(&buffer, Operation::Remove, fault);
        fill(&buffer, 1..=30);
        let store = Arc::clone(buffer.slow());
        drop(buffer);
        assert_eq!(Arc::strong_count(&store), 1);
    }
}

/// Two levels with writers of their own come down to their targets one after the other.
#[test]
fn writers_of_two_levels_work_together() {
    let lower = Arc::new(over(behind(200)));
    let upper = behind(100).over(Arc::clone(&lower)).unwrap();
    for key in 1..=100 {
        upper.insert(key, val(key, 10)).unwrap();
    }
    eventually("the upper target is met", || upper.usage().fast - lower.usage().fast <= 100);
    eventually("the lower target is met", || lower.usage().fast <= 200);
    for key in 1..=100 {
        assert_eq!(upper.peek(&key).unwrap(), Some(val(key, 10)));
    }
    assert_eq!(sorted_keys(&upper), (1..=100).collect::<Vec<_>>());
    upper.close().unwrap();
    assert!(is_closed(&lower.get(&1).unwrap_err()), "closing goes down the chain");
}
