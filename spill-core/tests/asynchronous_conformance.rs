//! The shared suite over the asynchronous half: every adapter, seen through `Blocking`, from every kind of
//! thread.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;
mod tasks;

use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use spill_core::conformance::contract::{Trial, check_all, failed_calls_change_nothing};
use spill_core::conformance::{Fault, Faulty, Memory, Operation, Plan, Ready};
use spill_core::{
    AsyncBuffer, AsyncMutableMapping, Blocking, Buffer, BufferBuilder, Frames, MutableMapping, Offload,
    Result, conformance_tests,
};
use tasks::{current_thread, multi_thread};

/// Small enough that the suite's values of some hundred bytes leave again soon.
const SMALL: u64 = 2000;

type Store = Memory<u64, Frames>;

fn offload(threads: usize) -> Offload<Store> {
    Offload::new(Memory::new(), threads).unwrap()
}

fn async_buffer<S: MutableMapping<u64, Frames> + 'static>(
    builder: BufferBuilder<u64, Frames>,
    store: S,
) -> AsyncBuffer<u64, Frames, S> {
    AsyncBuffer::new(Arc::new(builder.over(store).unwrap()), 3).unwrap()
}

fn builder(target: u64, writers: usize) -> BufferBuilder<u64, Frames> {
    BufferBuilder::new().target(target).writers(writers)
}

fn blocking<M>(inner: M) -> Blocking<M> {
    Blocking::new(inner, 1).unwrap()
}

conformance_tests!(over_offload, || blocking(offload(2)));
conformance_tests!(over_offload_with_one_thread, || blocking(offload(1)));
conformance_tests!(with_two_threads, || Blocking::new(offload(2), 2).unwrap());
conformance_tests!(over_later, || blocking(Later(Memory::new())));
conformance_tests!(over_shared_and_unnamed, || -> Blocking<Arc<dyn AsyncMutableMapping<u64, Frames>>> {
    blocking(Arc::new(offload(2)))
});
conformance_tests!(over_boxed_and_unnamed, || -> Blocking<Box<dyn AsyncMutableMapping<u64, Frames>>> {
    blocking(Box::new(Later(Memory::new())))
});
conformance_tests!(async_buffer_small, || blocking(async_buffer(builder(SMALL, 0), Store::new())));
conformance_tests!(async_buffer_zero, || blocking(async_buffer(builder(0, 0), Store::new())));
conformance_tests!(async_buffer_unlimited, || blocking(async_buffer(builder(u64::MAX, 0), Store::new())));
conformance_tests!(async_buffer_with_writers, || blocking(async_buffer(builder(SMALL, 2), Store::new())));
conformance_tests!(async_buffer_over_async_storage, || {
    blocking(async_buffer(builder(SMALL, 0), blocking(Later(Memory::new()))))
});
conformance_tests!(buffer_over_async_storage, || -> Buffer<u64, Frames, Blocking<Later>> {
    builder(SMALL, 0).over(blocking(Later(Memory::new()))).unwrap()
});

/// Asynchronous by nature, with nothing but what an implementor must write: each call waits once.
struct Later(Store);

async fn wait() {
    let mut waited = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[async_trait]
impl AsyncMutableMapping<u64, Frames> for Later {
    async fn get(&self, key: &u64) -> Result<Option<Frames>> {
        wait().await;
        self.0.get(key)
    }
    async fn insert(&self, key: u64, value: Frames) -> Result<()> {
        wait().await;
        self.0.insert(key, value)
    }
    async fn remove(&self, key: &u64) -> Result<bool> {
        wait().await;
        self.0.remove(key)
    }
    async fn take(&self, key: &u64) -> Result<Option<Frames>> {
        wait().await;
        self.0.take(key)
    }
    fn contains_key(&self, key: &u64) -> bool {
        self.0.contains_key(key)
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        self.0.for_each_key(f);
    }
}

/// Everything above ran on plain threads.
fn the_suite_holds() {
    check_all(|| blocking(offload(2)), &Ready);
    check_all(|| blocking(async_buffer(builder(SMALL, 0), Store::new())), &Ready);
}

#[test]
fn the_suite_holds_in_a_task_of_a_current_thread_runtime() {
    let runtime = current_thread();
    runtime.block_on(runtime.spawn(async { the_suite_holds() })).unwrap();
}

#[test]
fn the_suite_holds_in_a_task_of_a_multi_thread_runtime() {
    let runtime = multi_thread();
    runtime.block_on(runtime.spawn(async { the_suite_holds() })).unwrap();
}

#[test]
fn the_suite_holds_on_a_thread_for_blocking_calls() {
    let runtime = current_thread();
    runtime.block_on(runtime.spawn_blocking(the_suite_holds)).unwrap();
}

#[test]
fn failed_calls_of_adapters_change_nothing() {
    for fault in [Fault::<Frames>::io(), Fault::full()] {
        let store = Arc::new(Faulty::new(Store::new()));
        let mapping = blocking(Offload::new(Arc::clone(&store), 2).unwrap());
        failed_calls_change_nothing(&Trial::new(&mapping, &Ready), &|failing| {
            store.heal();
            if failing {
                let operations = [Operation::Get, Operation::Peek, Operation::Insert, Operation::Flush];
                store.inject(Plan::every(2).on(operations), fault.clone());
            }
        });
        assert!(store.struck() > 10, "{}", store.struck());
    }
}

#[test]
fn failed_calls_of_an_async_buffer_change_nothing() {
    support::quiet_injected_panics();
    let faults = [
        Fault::<Frames>::io(),
        Fault::io().after(),
        Fault::full(),
        Fault::panic("injected"),
        Fault::panic("injected").after(),
    ];
    for writers in [0, 2] {
        for fault in &faults {
            let store = Arc::new(Faulty::new(Store::new()));
            let mapping = blocking(async_buffer(builder(SMALL, writers), Arc::clone(&store)));
            failed_calls_change_nothing(&Trial::new(&mapping, &Ready), &|failing| {
                store.heal();
                if failing {
                    let operations = [Operation::Get, Operation::Insert, Operation::Remove, Operation::Flush];
                    store.inject(Plan::every(2).on(operations), fault.clone());
                }
            });
            assert!(store.struck() > 10, "{}", store.struck());
        }
    }
}
