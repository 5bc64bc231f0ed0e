//! `Blocking`: from which threads it can be called, and what ends its calls.
#![expect(clippy::panic, clippy::unwrap_used, reason = "tests")]

mod support;
mod tasks;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use async_trait::async_trait;
use spill_core::conformance::{Gate, Memory};
use spill_core::{
    AsyncBuffer, AsyncMutableMapping, Blocking, Buffer, BufferBuilder, Error, ErrorKind, ManualEvict,
    MutableMapping, Offload, Result,
};
use support::{eventually, is_closed, is_io, is_panicked, quiet_injected_panics};
use tasks::on_each_kind_of_thread;

/// A service that does as its key says. `get` of an odd key never answers, of an even one at once; of 100 it
/// panics.
#[derive(Clone, Default)]
struct Service {
    pairs: Arc<Memory<u64, u64>>,
    calls: Arc<Calls>,
}

struct Calls {
    /// Calls that will never be answered.
    stuck: Gate,
    /// Of them, those that were ended from outside.
    ended: Gate,
    closed: AtomicU64,
}

impl Default for Calls {
    fn default() -> Self {
        Calls { stuck: Gate::opened(), ended: Gate::opened(), closed: AtomicU64::new(0) }
    }
}

/// Passes the gate when dropped.
struct Passes<'a>(&'a Gate);

impl Drop for Passes<'_> {
    fn drop(&mut self) {
        self.0.pass();
    }
}

#[async_trait]
impl AsyncMutableMapping<u64, u64> for Service {
    async fn get(&self, key: &u64) -> Result<Option<u64>> {
        match key {
            100 => panic!("injected"),
            key if key % 2 == 1 => {
                let _ends = Passes(&self.calls.ended);
                self.calls.stuck.pass();
                std::future::pending().await
            }
            key => self.pairs.get(key),
        }
    }
    async fn insert(&self, key: u64, value: u64) -> Result<()> {
        self.pairs.insert(key, value)
    }
    async fn remove(&self, key: &u64) -> Result<bool> {
        self.pairs.remove(key)
    }
    async fn take(&self, key: &u64) -> Result<Option<u64>> {
        self.pairs.take(key)
    }
    fn contains_key(&self, key: &u64) -> bool {
        self.pairs.contains_key(key)
    }
    fn len(&self) -> usize {
        self.pairs.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        self.pairs.for_each_key(f);
    }
    async fn close(&self) -> Result<()> {
        self.calls.closed.fetch_add(1, SeqCst);
        Err(Error::io("close", "the service", std::io::Error::other("injected")))
    }
}

fn blocking() -> Blocking<Service> {
    Blocking::new(Service::default(), 1).unwrap()
}

/// Makes a mapping, uses it, closes or drops it, all on the calling thread.
fn use_all_of_it(mapping: impl MutableMapping<u64, u64>) {
    for n in 0..20 {
        mapping.insert(n, n).unwrap();
    }
    assert_eq!(mapping.len(), 20);
    assert_eq!(mapping.get(&2).unwrap(), Some(2));
    assert_eq!(mapping.peek(&4).unwrap(), Some(4));
    assert_eq!(mapping.take(&6).unwrap(), Some(6));
    assert!(mapping.remove(&8).unwrap());
    let values: Vec<_> = mapping.get_many(&[10, 8]).into_iter().map(Result::unwrap).collect();
    assert_eq!(values, [Some(10), None]);
    mapping.clear().unwrap();
    mapping.flush().unwrap();
    assert_eq!(mapping.len(), 0);
}

/// tokio panics with these words when a call blocks on a future inside a runtime, and with others when a
/// runtime is dropped there. Neither happens, whatever thread a mapping is made, called, closed and dropped on.
#[test]
fn cannot_start_a_runtime_from_within_a_runtime() {
    on_each_kind_of_thread(|| {
        use_all_of_it(blocking());
        let closed = blocking();
        closed.close().unwrap_err();
        use_all_of_it(Blocking::new(Offload::new(Memory::new(), 1).unwrap(), 1).unwrap());
        let buffer = BufferBuilder::new().target(64).over(Memory::new()).unwrap();
        use_all_of_it(Blocking::new(AsyncBuffer::new(Arc::new(buffer), 2).unwrap(), 1).unwrap());
        let buffer: Buffer<u64, u64, _> = BufferBuilder::new().target(64).over(blocking()).unwrap();
        use_all_of_it(buffer);
    });
}

#[test]
fn a_panic_of_a_future_is_an_error() {
    quiet_injected_panics();
    let mapping = blocking();
    assert!(is_panicked(&mapping.get(&100).unwrap_err()));
    let results = mapping.get_many(&[2, 100]);
    assert!(results.iter().all(|result| is_panicked(result.as_ref().unwrap_err())));
    mapping.insert(2, 20).unwrap();
    assert_eq!(mapping.get(&2).unwrap(), Some(20), "it works as before");
}

#[test]
fn closing_ends_the_calls_in_flight() {
    let mapping = blocking();
    let calls = Arc::clone(&mapping.inner().calls);
    thread::scope(|scope| {
        let ends = [1, 3, 5].map(|key| {
            scope.spawn({
                let mapping = &mapping;
                move || mapping.get(&key)
            })
        });
        calls.stuck.wait_for(3);
        assert!(is_io(&mapping.close().unwrap_err()), "what the mapping below said");
        for end in ends {
            assert!(is_closed(&end.join().unwrap().unwrap_err()));
        }
    });
    calls.ended.wait_for(3);
    mapping.close().unwrap();
    assert_eq!(calls.closed.load(SeqCst), 1, "closed once");
    let results = [
        mapping.get(&2).map(drop),
        mapping.insert(2, 2),
        mapping.remove(&2).map(drop),
        mapping.take(&2).map(drop),
        mapping.flush(),
        mapping.clear(),
    ];
    assert!(results.iter().all(|result| is_closed(result.as_ref().unwrap_err())));
    assert!(mapping.get_many(&[2, 4]).into_iter().all(|result| is_closed(&result.unwrap_err())));
    assert_eq!(mapping.len(), 0, "readings from RAM are answered still");
}

/// A slow call delays nobody but those who wait for it, even with one thread.
#[test]
fn calls_overlap_on_one_thread() {
    let mapping = blocking();
    let calls = Arc::clone(&mapping.inner().calls);
    thread::scope(|scope| {
        scope.spawn(|| mapping.get(&1));
        calls.stuck.wait_for(1);
        mapping.insert(2, 20).unwrap();
        assert_eq!(mapping.get(&2).unwrap(), Some(20));
        mapping.close().unwrap_err();
    });
}

/// Its threads hold the mapping no longer than the calls take.
#[test]
fn dropping_it_drops_the_mapping_below() {
    let mapping = blocking();
    let pairs = Arc::clone(&mapping.inner().pairs);
    mapping.insert(2, 2).unwrap();
    drop(mapping);
    eventually("nobody has the mapping below", || Arc::strong_count(&pairs) == 1);
}

#[test]
fn a_buffer_spills_to_asynchronous_storage() {
    let buffer: Buffer<u64, u64, _> = BufferBuilder::new().target(16).over(blocking()).unwrap();
    for n in [2, 4, 6] {
        buffer.insert(n, n * 10).unwrap();
    }
    assert_eq!(buffer.slow().len(), 1);
    assert_eq!(buffer.get(&2).unwrap(), Some(20));
    assert_eq!(buffer.evict(), 8);
}

#[test]
fn it_needs_a_thread() {
    let error = Blocking::new(Service::default(), 0).map(drop).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Config { .. }));
    let error = Offload::new(Memory::<u64, u64>::new(), 0).map(drop).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Config { .. }));
}
