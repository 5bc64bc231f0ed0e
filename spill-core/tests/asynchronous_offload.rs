//! `Offload`: where calls run, and what dropped futures, closing and panics do to them.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Poll;
use std::thread;

use spill_core::conformance::{Fault, Faulty, Gate, Memory, Operation, Plan};
use spill_core::{AsyncMutableMapping, Error, MutableMapping, Offload};
use support::{eventually, is_closed, is_io, is_panicked, quiet_injected_panics};
use tasks::{at_once, begun, block_on, current_thread, multi_thread};

type Slow = Faulty<u64, u64, Memory<u64, u64>>;

fn slow() -> Slow {
    Faulty::new(Memory::new())
}

/// With key 1 present and calls of `operation` held at the gate.
fn held(operation: Operation, gate: &Gate, threads: usize) -> Offload<Slow> {
    let slow = slow();
    slow.insert(1, 10).unwrap();
    slow.inject(Plan::always().on([operation]), Fault::block(gate));
    Offload::new(slow, threads).unwrap()
}

#[test]
fn calls_run_on_threads_of_their_own() {
    let offload = Offload::new(Memory::<u64, u64>::new(), 1).unwrap();
    let name =
        |_: &Memory<u64, u64>| Ok((thread::current().id(), thread::current().name().map(str::to_owned)));
    let (first, name_of_first) = block_on(offload.run(name)).unwrap();
    let (second, _) = block_on(offload.run(name)).unwrap();
    assert_ne!(first, thread::current().id());
    assert_eq!(first, second, "one thread, as asked");
    assert_eq!(name_of_first.as_deref(), Some("overspill-offload"));
}

/// Any executor will do: here the future is polled by hand and the answer comes from the pool.
#[test]
fn futures_need_no_runtime() {
    let gate = Gate::closed();
    let offload = held(Operation::Get, &gate, 1);
    let mut get = begun(offload.get(&1));
    gate.wait_for(1);
    gate.open();
    let mut answer = Poll::Pending;
    eventually("the answer comes", || {
        answer = tasks::poll_once(&mut get);
        answer.is_ready()
    });
    assert!(matches!(answer, Poll::Ready(Ok(Some(10)))));
}

#[test]
fn a_future_that_was_not_polled_does_nothing() {
    let offload = Offload::new(slow(), 1).unwrap();
    drop(offload.insert(1, 10));
    block_on(offload.flush()).unwrap();
    assert_eq!(offload.inner().calls(Operation::Insert), 0);
}

#[test]
fn a_call_whose_future_was_dropped_runs_to_its_end() {
    let gate = Gate::closed();
    let offload = held(Operation::Insert, &gate, 1);
    let in_storage = begun(offload.insert(2, 20));
    gate.wait_for(1);
    let in_line = begun(offload.remove(&1));
    drop(in_storage);
    drop(in_line);
    gate.open();
    block_on(offload.flush()).unwrap(); // the one thread does everything in order
    assert!(!offload.contains_key(&1));
    assert_eq!(block_on(offload.get(&2)).unwrap(), Some(20));
}

#[test]
fn a_failed_call_gives_its_error_and_a_panic_is_one() {
    quiet_injected_panics();
    let offload = Offload::new(slow(), 1).unwrap();
    offload.inner().inject(Plan::nth(1).on([Operation::Insert]), Fault::io());
    offload.inner().inject(Plan::nth(2).on([Operation::Insert]), Fault::panic("injected"));
    assert!(is_io(&block_on(offload.insert(1, 10)).unwrap_err()));
    assert!(is_panicked(&block_on(offload.insert(1, 10)).unwrap_err()));
    assert!(is_panicked(
        &block_on(offload.run(|_| -> Result<(), Error> { panic!("injected") })).unwrap_err()
    ));
    offload.inner().inject(Plan::nth(2).on([Operation::Insert]), Fault::panic("injected"));
    let results = block_on(offload.insert_many(vec![(1, 10), (2, 20), (3, 30)]));
    assert!(results.iter().all(|result| is_panicked(result.as_ref().unwrap_err())));
    assert_eq!(results.len(), 3);
    block_on(offload.insert(4, 40)).unwrap();
    assert_eq!(block_on(offload.get(&4)).unwrap(), Some(40), "the pool is as good as new");
}

/// Calls in flight are told, though storage hangs; those in line never begin.
#[test]
fn closing_ends_the_calls_in_flight() {
    let gate = Gate::closed();
    let offload = held(Operation::Get, &gate, 1);
    let in_storage = begun(offload.get(&1));
    gate.wait_for(1);
    let in_line = begun(offload.insert(2, 20));
    let closing = begun(offload.close());
    assert!(is_closed(&block_on(in_storage).unwrap_err()));
    assert!(is_closed(&block_on(in_line).unwrap_err()));
    assert!(is_closed(&at_once(offload.peek(&1)).unwrap().unwrap_err()));
    gate.open();
    block_on(closing).unwrap();
    at_once(offload.close()).unwrap().unwrap();
    assert_eq!(offload.inner().calls(Operation::Insert), 1, "but for the one made at first");
    assert_eq!(offload.inner().calls(Operation::Close), 1);
    assert!(offload.contains_key(&1), "readings from RAM are answered still");
}

#[test]
fn a_call_that_outlives_its_adapter_ends_by_itself() {
    let gate = Gate::closed();
    let slow = Arc::new(slow());
    slow.inject(Plan::always().on([Operation::Insert]), Fault::block(&gate));
    let offload = Offload::new(Arc::clone(&slow), 1).unwrap();
    drop(begun(offload.insert(1, 10)));
    gate.wait_for(1);
    drop(offload); // does not wait for the thread
    gate.open();
    eventually("the call ended and its thread let go", || Arc::strong_count(&slow) == 1);
    assert!(slow.contains_key(&1));
}

/// Z17: an executor that was given stays as it is.
#[test]
fn a_runtime_that_was_given_is_never_shut_down() {
    for runtime in [current_thread(), multi_thread()] {
        let offload = Offload::on(slow(), runtime.handle().clone());
        runtime.block_on(offload.insert(1, 10)).unwrap();
        runtime.block_on(offload.close()).unwrap();
        drop(offload);
        assert_eq!(runtime.block_on(runtime.spawn_blocking(|| 7)).unwrap(), 7);
    }
}

#[test]
fn a_runtime_that_its_owner_shut_down_is_closed() {
    let runtime = current_thread();
    let offload = Offload::on(slow(), runtime.handle().clone());
    runtime.shutdown_background();
    assert!(is_closed(&block_on(offload.insert(1, 10)).unwrap_err()));
    assert!(is_closed(&block_on(offload.close()).unwrap_err()));
}

/// Tasks that outnumber the threads wait in line, and all are served.
#[test]
fn more_tasks_than_threads_are_all_served() {
    let runtime = multi_thread();
    let offload = Arc::new(Offload::new(Memory::<u64, u64>::new(), 2).unwrap());
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let offload = Arc::clone(&offload);
            runtime.spawn(async move {
                offload.insert(n, n).await?;
                offload.get(&n).await
            })
        })
        .collect();
    for (n, task) in (0..).zip(tasks) {
        assert_eq!(runtime.block_on(task).unwrap().unwrap(), Some(n));
    }
    assert_eq!(offload.len(), 200);
}

/// The current-thread runtime goes on with other tasks while storage is busy.
#[test]
fn a_call_does_not_hold_up_the_runtime() {
    let gate = Gate::closed();
    let offload = Arc::new(held(Operation::Get, &gate, 1));
    let passed = AtomicBool::new(false);
    let runtime = current_thread();
    runtime.block_on(async {
        let reading = Arc::clone(&offload);
        let get = runtime.spawn(async move { reading.get(&1).await });
        let opens = gate.clone();
        runtime.spawn(async move { opens.open() }).await.unwrap();
        assert_eq!(get.await.unwrap().unwrap(), Some(10));
        passed.store(true, SeqCst);
    });
    assert!(passed.load(SeqCst));
}
