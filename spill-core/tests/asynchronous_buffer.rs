//! `AsyncBuffer`: what is answered at the first poll, and what the rest waits for.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;
mod tasks;

use std::sync::Arc;
use std::task::Poll;

use spill_core::conformance::{Fault, Gate, Operation, Plan};
use spill_core::{
    AsyncBuffer, AsyncMutableMapping, Blocking, BufferBuilder, ErrorKind, ManualClock, ManualEvict, Missing,
    MutableMapping, Overflow, Result,
};
use support::{
    Slow, Val, builder, is_closed, is_panicked, quiet_injected_panics, reads, slow, sorted_keys, val, writes,
};
use tasks::{at_once, begun, block_on, current_thread, multi_thread, poll_once};

type Tasks = AsyncBuffer<u64, Val, Slow>;

fn over(builder: BufferBuilder<u64, Val>) -> Tasks {
    AsyncBuffer::new(Arc::new(builder.over(slow()).unwrap()), 4).unwrap()
}

/// Keys 1 and 2 are slow, 3 is fast; each weighs 10 of a target of 100.
fn half_spilled() -> Tasks {
    let tasks = over(builder(100));
    for n in 1..=3 {
        block_on(tasks.insert(n, val(n, 10))).unwrap();
    }
    assert_eq!(block_on(tasks.evict_until_below(10)).unwrap(), 20);
    assert_eq!(tasks.buffer().fast_keys(), [3]);
    tasks
}

/// Holds the calls of an operation at the gate from now on.
fn hold(tasks: &Tasks, operation: Operation, gate: &Gate) {
    tasks.buffer().slow().inject(Plan::always().on([operation]), Fault::block(gate));
}

/// Z17: a value in fast memory, and the absence of a key, are answered at the first poll, with nobody to wake
/// the future, while storage hangs.
#[test]
fn hits_are_answered_at_the_first_poll() {
    let tasks = half_spilled();
    let gate = Gate::closed();
    tasks.buffer().slow().inject(
        Plan::always().on([Operation::Get, Operation::Peek, Operation::Insert, Operation::Remove]),
        Fault::block(&gate),
    );
    let before = tasks.stats();
    assert_eq!(at_once(tasks.get(&3)).unwrap().unwrap(), Some(val(3, 10)));
    assert_eq!(at_once(tasks.peek(&3)).unwrap().unwrap(), Some(val(3, 10)));
    assert_eq!(at_once(tasks.get(&9)).unwrap().unwrap(), None);
    assert_eq!(at_once(tasks.peek(&9)).unwrap().unwrap(), None);
    assert_eq!(at_once(tasks.take(&9)).unwrap().unwrap(), None);
    assert!(!at_once(tasks.remove(&9)).unwrap().unwrap());
    assert_eq!(at_once(tasks.get_all(&[3, 3], Missing::Raise)).unwrap().unwrap().len(), 2);
    let many = at_once(tasks.get_many(&[3])).unwrap();
    assert_eq!(many.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [Some(val(3, 10))]);
    assert_eq!(tasks.stats().hits - before.hits, 4, "one for get and each key of get_all and get_many");
    assert_eq!(tasks.stats().misses, before.misses);
    assert_eq!(at_once(tasks.take(&3)).unwrap().unwrap(), Some(val(3, 10)));
    at_once(tasks.insert(3, val(4, 10))).unwrap().unwrap();
    assert!(at_once(tasks.remove(&3)).unwrap().unwrap());
    assert_eq!((gate.arrived(), tasks.len()), (0, 2));
    gate.open();
}

/// Z17: a miss is answered later and read on the pool; then the value is in fast memory.
#[test]
fn misses_are_awaited_and_promoted() {
    let tasks = half_spilled();
    let gate = Gate::closed();
    hold(&tasks, Operation::Get, &gate);
    let mut get = begun(tasks.get(&1));
    gate.wait_for(1);
    assert!(poll_once(&mut get).is_pending());
    assert_eq!(at_once(tasks.get(&3)).unwrap().unwrap(), Some(val(3, 10)), "it delays no hit");
    gate.open();
    assert_eq!(block_on(get).unwrap(), Some(val(1, 10)));
    assert_eq!(tasks.buffer().fast_keys(), [1, 3]);
    assert_eq!(at_once(tasks.get(&1)).unwrap().unwrap(), Some(val(1, 10)));
}

/// A reader who gives up takes nothing from the others, though it was its call that reads.
#[test]
fn readers_of_one_key_share_a_read_that_nobody_can_cancel() {
    let tasks = half_spilled();
    let gate = Gate::closed();
    hold(&tasks, Operation::Get, &gate);
    let first = begun(tasks.get(&1));
    gate.wait_for(1);
    let others: Vec<_> = (0..6).map(|_| begun(tasks.get(&1))).collect();
    drop(first);
    gate.open();
    for other in others {
        assert_eq!(block_on(other).unwrap(), Some(val(1, 10)));
    }
    assert_eq!(reads(tasks.buffer().slow()), 1);
}

#[test]
fn an_abandoned_read_still_promotes() {
    let tasks = half_spilled();
    let gate = Gate::closed();
    hold(&tasks, Operation::Get, &gate);
    drop(begun(tasks.get(&1)));
    gate.open();
    support::eventually("promoted", || tasks.buffer().fast_keys() == [1, 3]);
}

/// Z17: missing keys raise, before anything is read, or are left out.
#[test]
fn missing_keys_raise_or_are_omitted() {
    let tasks = half_spilled();
    let absent =
        |index| move |kind: &ErrorKind| matches!(kind, ErrorKind::Absent { index: i } if *i == index);
    for (keys, index) in [(&[9, 3, 1][..], 0), (&[3, 9, 1], 1), (&[3, 1, 9], 2), (&[3, 1, 8, 9], 2)] {
        let error = at_once(tasks.get_all(keys, Missing::Raise)).unwrap().unwrap_err();
        assert!(absent(index)(error.kind()), "{keys:?}: {error}");
    }
    assert_eq!(reads(tasks.buffer().slow()), 0);
    assert_eq!(tasks.buffer().fast_keys(), [3]);

    let pairs = block_on(tasks.get_all(&[9, 2, 3, 8, 1], Missing::Omit)).unwrap();
    assert_eq!(pairs, [2, 3, 1].map(|n| (n, val(n, 10))));
    assert_eq!(block_on(tasks.get_all(&[1, 2, 1], Missing::Raise)).unwrap().len(), 3);
    assert_eq!(at_once(tasks.get_all(&[9], Missing::Omit)).unwrap().unwrap(), []);
    assert_eq!(at_once(tasks.get_all(&[], Missing::Raise)).unwrap().unwrap(), []);
}

/// A key that goes while others are read is treated as one that was absent.
#[test]
fn keys_removed_meanwhile_raise_or_are_omitted() {
    for missing in [Missing::Raise, Missing::Omit] {
        let tasks = half_spilled();
        let gate = Gate::closed();
        hold(&tasks, Operation::Get, &gate);
        let all = begun(tasks.get_all(&[1, 2, 3], missing));
        gate.wait_for(1);
        assert!(tasks.buffer().remove(&2).unwrap());
        gate.open();
        let pairs = block_on(all);
        match missing {
            Missing::Raise => {
                assert!(matches!(pairs.unwrap_err().kind(), ErrorKind::Absent { index: 1 }));
            }
            Missing::Omit => assert_eq!(pairs.unwrap(), [1, 3].map(|n| (n, val(n, 10)))),
        }
    }
}

#[test]
fn inserts_up_to_the_target_are_done_at_once() {
    let tasks = over(builder(30));
    for n in 1..=3 {
        at_once(tasks.insert(n, val(n, 10))).unwrap().unwrap();
    }
    at_once(tasks.insert(1, val(11, 10))).unwrap().unwrap(); // in the place of another
    let gate = Gate::closed();
    hold(&tasks, Operation::Insert, &gate);
    let insert = begun(tasks.insert(4, val(4, 1)));
    gate.wait_for(1);
    assert_eq!(tasks.buffer().fast_keys()[0], 4, "it is there before room was made");
    assert_eq!(at_once(tasks.get(&2)).unwrap().unwrap(), Some(val(2, 10)), "and what leaves is readable");
    gate.open();
    block_on(insert).unwrap();
    assert_eq!(tasks.usage().fast, 21);
    assert_eq!(tasks.len(), 4);
}

/// One that is heavier than the whole target, though fast memory is empty.
#[test]
fn a_heavy_insert_is_not_done_at_once() {
    let tasks = over(builder(30));
    block_on(tasks.insert(1, val(1, 31))).unwrap();
    assert_eq!((tasks.usage().fast, tasks.len()), (0, 1));
    block_on(tasks.insert(1, val(2, 5))).unwrap();
    let gate = Gate::closed();
    hold(&tasks, Operation::Insert, &gate);
    let insert = begun(tasks.insert(1, val(3, 31)));
    gate.open();
    block_on(insert).unwrap();
    assert_eq!((tasks.usage().fast, tasks.len()), (0, 1));
}

/// With writer threads there is room up to the ceiling; above it the task waits, and no thread of the caller.
#[test]
fn inserts_up_to_the_ceiling_are_done_at_once_with_writers() {
    let tasks = over(builder(20).writers(1).ceiling(40).clock(Arc::new(ManualClock::new())));
    let gate = Gate::closed();
    hold(&tasks, Operation::Insert, &gate);
    for n in 1..=4 {
        at_once(tasks.insert(n, val(n, 10))).unwrap().unwrap();
    }
    gate.wait_for(1); // a writer is in storage
    let mut insert = begun(tasks.insert(5, val(5, 10)));
    assert!(poll_once(&mut insert).is_pending());
    gate.open();
    block_on(insert).unwrap();
    assert_eq!(tasks.len(), 5);
}

#[test]
fn refusals_are_answered_as_by_the_buffer() {
    let tasks = over(builder(20).overflow(Overflow::Reject));
    at_once(tasks.insert(1, val(1, 20))).unwrap().unwrap();
    let error = block_on(tasks.insert(2, val(2, 21))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }));
    tasks.buffer().slow().inject(Plan::always().on([Operation::Insert]), Fault::io());
    assert!(block_on(tasks.insert(2, val(2, 10))).unwrap_err().is_full());
    tasks.buffer().slow().heal();
    block_on(tasks.insert(2, val(2, 10))).unwrap();
    assert_eq!(tasks.buffer().fast_keys(), [2]);
}

/// Where storage has a copy to remove, the call is not done at once: removing may take long.
#[test]
fn writes_over_a_copy_on_storage_are_offloaded() {
    type Write = (&'static str, fn(&Tasks) -> bool);
    const WRITES: [Write; 3] = [
        ("insert", |tasks| at_once(tasks.insert(1, val(9, 10))).is_some()),
        ("remove", |tasks| at_once(tasks.remove(&1)).is_some()),
        ("take", |tasks| at_once(tasks.take(&1)).is_some()),
    ];
    for (name, write) in WRITES {
        for fast in [false, true] {
            let tasks = half_spilled();
            if fast {
                block_on(tasks.get(&1)).unwrap(); // a clean copy stays behind
            }
            let gate = Gate::closed();
            hold(&tasks, Operation::Remove, &gate);
            assert!(!write(&tasks), "{name}, fast: {fast}");
            gate.wait_for(1);
            gate.open();
            let left = if name == "insert" { 3 } else { 2 };
            support::eventually("it took place", || tasks.len() == left);
            support::eventually("the copy is gone", || tasks.buffer().slow().inner().held(1).is_none());
        }
    }
}

#[test]
fn a_batch_of_inserts_goes_on_where_it_had_to_wait() {
    let tasks = over(builder(30));
    let pairs = vec![(1, val(1, 10)), (2, val(2, 10)), (3, val(3, 10)), (4, val(4, 10)), (1, val(9, 10))];
    let results = block_on(tasks.insert_many(pairs));
    assert!(results.len() == 5 && results.iter().all(Result::is_ok));
    assert_eq!(block_on(tasks.get(&1)).unwrap(), Some(val(9, 10)), "the later of two values for one key");
    assert_eq!(sorted_keys(&**tasks.buffer()), [1, 2, 3, 4]);
    assert_eq!(tasks.usage().fast, 30);
    let removed = block_on(tasks.remove_many(&[1, 2, 9]));
    assert_eq!(removed.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [true, true, false]);
    block_on(tasks.clear()).unwrap();
    assert_eq!(tasks.len(), 0);
}

#[test]
fn a_panicking_weigher_is_an_error_at_once() {
    quiet_injected_panics();
    let builder = BufferBuilder::weighed_by(|_: &u64, value: &Val| match value.weight {
        0 => panic!("injected"),
        weight => weight,
    });
    let tasks = over(builder);
    at_once(tasks.insert(1, val(1, 10))).unwrap().unwrap();
    assert!(is_panicked(&at_once(tasks.insert(1, val(2, 0))).unwrap().unwrap_err()));
    assert_eq!(at_once(tasks.get(&1)).unwrap().unwrap(), Some(val(1, 10)));
}

/// Z17: closing cancels the reads in flight, while storage hangs.
#[test]
fn closing_cancels_reads_in_flight() {
    let tasks = half_spilled();
    let gate = Gate::closed();
    hold(&tasks, Operation::Get, &gate);
    let get = begun(tasks.get(&1));
    gate.wait_for(1);
    let waits = begun(tasks.get(&1));
    let all = begun(tasks.get_all(&[1, 2, 3], Missing::Omit));
    gate.wait_for(2); // for the second key; the first is read already
    block_on(tasks.close()).unwrap();
    assert!(is_closed(&block_on(get).unwrap_err()));
    assert!(is_closed(&block_on(waits).unwrap_err()));
    assert!(is_closed(&block_on(all).unwrap_err()));
    gate.open();
    support::eventually("the calls on the pool ended", || Arc::strong_count(tasks.buffer()) == 1);
    assert!(is_closed(&at_once(tasks.get(&3)).unwrap().unwrap_err()));
    assert!(is_closed(&at_once(tasks.insert(4, val(4, 10))).unwrap().unwrap_err()));
    assert!(is_closed(&block_on(tasks.get_all(&[3], Missing::Omit)).unwrap_err()));
    assert_eq!(reads(tasks.buffer().slow()), 2, "nothing was read that had not begun");
}

/// Z17: an eviction does nothing while one to an equal or a lower target is in flight.
#[test]
fn an_eviction_that_another_covers_does_nothing() {
    let tasks = over(builder(100));
    for n in 1..=5 {
        block_on(tasks.insert(n, val(n, 10))).unwrap();
    }
    assert_eq!(at_once(tasks.evict_until_below(50)).unwrap().unwrap(), 0, "it is below already");
    let gate = Gate::closed();
    hold(&tasks, Operation::Insert, &gate);
    let to_30 = begun(tasks.evict_until_below(30));
    gate.wait_for(1);
    assert_eq!(at_once(tasks.evict_until_below(30)).unwrap().unwrap(), 0, "an equal one is in flight");
    assert_eq!(at_once(tasks.evict_until_below(40)).unwrap().unwrap(), 0, "a lower one is in flight");
    let to_0 = begun(tasks.evict_until_below(0));
    gate.wait_for(2);
    assert_eq!(at_once(tasks.evict_until_below(10)).unwrap().unwrap(), 0, "the lowest counts");
    drop(to_30); // goes on, and counts until it ends
    gate.open();
    assert!(block_on(to_0).unwrap() > 0);
    support::eventually("all are slow", || !tasks.buffer().fast());
    block_on(tasks.insert(6, val(6, 10))).unwrap();
    support::eventually("none is in flight", || block_on(tasks.evict_until_below(0)).unwrap() == 10);
}

/// Z17: a runtime that was given serves others afterwards.
#[test]
fn an_external_executor_is_never_shut_down() {
    for runtime in [current_thread(), multi_thread()] {
        let buffer = Arc::new(builder(10).over(slow()).unwrap());
        let tasks = AsyncBuffer::on(buffer, runtime.handle().clone());
        runtime.block_on(async {
            for n in 1..=3 {
                tasks.insert(n, val(n, 10)).await.unwrap();
            }
            assert_eq!(tasks.get(&1).await.unwrap(), Some(val(1, 10)));
            tasks.close().await.unwrap();
        });
        drop(tasks);
        assert_eq!(runtime.block_on(runtime.spawn_blocking(|| 7)).unwrap(), 7);
    }
}

/// Z24: `flush` and `close` reach storage through every layer.
#[test]
fn flush_and_close_go_down_the_chain() {
    let store = Arc::new(slow());
    let below = builder(100).over(Arc::clone(&store)).unwrap();
    let chain =
        Blocking::new(AsyncBuffer::new(Arc::new(builder(50).over(below).unwrap()), 1).unwrap(), 1).unwrap();
    for n in 1..=8 {
        chain.insert(n, val(n, 10)).unwrap();
    }
    assert_eq!(writes(&store), 0);
    chain.flush().unwrap();
    assert_eq!(store.calls(Operation::Flush), 1);
    assert_eq!(writes(&store), 8, "everything is on storage, what is in fast memory too");
    assert_eq!(chain.get(&8).unwrap(), Some(val(8, 10)));
    chain.close().unwrap();
    chain.close().unwrap();
    assert_eq!(store.calls(Operation::Close), 1);
    assert!(is_closed(&chain.inner().buffer().get(&1).unwrap_err()));
    assert!(is_closed(&chain.inner().buffer().slow().get(&1).unwrap_err()));
}

#[test]
fn compound_operations_run_on_the_pool() {
    let tasks = half_spilled();
    let update = tasks.offload().run(|buffer| buffer.update(&1, |value| value.weight = 20));
    assert_eq!(block_on(update).unwrap(), Some(()));
    assert_eq!(at_once(tasks.get(&1)).unwrap().unwrap(), Some(val(1, 20)));
}

/// Plain threads and tasks use one buffer, and a memory monitor has it too.
#[test]
fn tasks_share_the_buffer_with_plain_threads() {
    let buffer = Arc::new(builder(50).over(slow()).unwrap());
    let tasks = Arc::new(AsyncBuffer::new(Arc::clone(&buffer), 2).unwrap());
    let runtime = multi_thread();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..200).for_each(|n| buffer.insert(n, val(n, 1 + n % 7)).unwrap()));
        scope.spawn(|| (0..100).for_each(|_| _ = buffer.evict()));
        let running: Vec<_> = (200..400)
            .map(|n| {
                let tasks = Arc::clone(&tasks);
                runtime.spawn(async move {
                    tasks.insert(n, val(n, 1 + n % 7)).await?;
                    tasks.get(&n).await
                })
            })
            .collect();
        for (n, task) in (200..).zip(running) {
            assert_eq!(runtime.block_on(task).unwrap().unwrap(), Some(val(n, 1 + n % 7)));
        }
    });
    assert_eq!(tasks.len(), 400);
    for n in 0..400 {
        assert_eq!(runtime.block_on(tasks.get(&n)).unwrap(), Some(val(n, 1 + n % 7)));
    }
    assert!(matches!(poll_once(&mut Box::pin(tasks.peek(&399))), Poll::Ready(Ok(Some(_)))));
}
