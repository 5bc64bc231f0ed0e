//! The shared suite over everything this crate builds of mappings: fast memory alone, buffers over storage and
//! over each other, and codecs.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use spill_core::conformance::contract::{Trial, failed_calls_change_nothing};
use spill_core::conformance::{Fault, Faulty, Memory, Operation, Plan, Ready};
use spill_core::{
    Buffer, BufferBuilder, Error, Frames, Func, HeapSize, Lru, MutableMapping, Result, SpilledSize, Stored,
    Usage, Value, conformance_tests,
};

type Store<V> = Memory<u64, V>;
type Buf<V, S = Store<V>> = Buffer<u64, V, S>;
type Buf2<V> = Buffer<u64, V, Store<V>, Stored<Store<V>>>;

fn lru() -> Lru<u64, Frames> {
    BufferBuilder::new().alone().unwrap()
}

fn buffer<V: Value + HeapSize>(target: u64, writers: usize) -> Buf<V> {
    BufferBuilder::new().target(target).writers(writers).over(Memory::new()).unwrap()
}

/// Small enough that the suite's values of some hundred bytes leave again soon.
const SMALL: u64 = 2000;

conformance_tests!(lru_alone, lru);
conformance_tests!(lru_of_text, || -> Lru<String, String> { BufferBuilder::new().alone().unwrap() });
conformance_tests!(small, || buffer::<Frames>(SMALL, 0));
conformance_tests!(zero, || buffer::<Frames>(0, 0));
conformance_tests!(unlimited, || buffer::<Frames>(u64::MAX, 0));
conformance_tests!(small_with_writers, || buffer::<Frames>(SMALL, 2));
conformance_tests!(zero_with_writers, || buffer::<Frames>(0, 2));
conformance_tests!(unlimited_with_writers, || buffer::<Frames>(u64::MAX, 2));
conformance_tests!(bytes_by_name, || -> Buffer<String, Bytes, Memory<String, Bytes>> {
    BufferBuilder::new().target(SMALL).over(Memory::new()).unwrap()
});
conformance_tests!(shared_vectors, || buffer::<Arc<Vec<u8>>>(SMALL, 0));
conformance_tests!(numbers, || buffer::<u64>(64, 0));
conformance_tests!(buffer_over_buffer, || -> Buf<Frames, Buf<Frames>> {
    BufferBuilder::new().target(SMALL).over(buffer(2 * SMALL, 0)).unwrap()
});
conformance_tests!(buffer_over_buffer_with_writers, || -> Buf<Frames, Buf<Frames>> {
    BufferBuilder::new().target(SMALL).writers(2).over(buffer(2 * SMALL, 1)).unwrap()
});
conformance_tests!(stored, || -> Buf2<Frames> {
    BufferBuilder::new().target(SMALL).stored(Memory::new(), Memory::new()).unwrap()
});
conformance_tests!(stored_zero, || -> Buf2<Frames> {
    BufferBuilder::new().target(0).stored(Memory::new(), Memory::new()).unwrap()
});
conformance_tests!(stored_with_writers, || -> Buf2<Frames> {
    BufferBuilder::new().target(SMALL).writers(2).stored(Memory::new(), Memory::new()).unwrap()
});
conformance_tests!(three_levels, || -> Buf<Frames, Buf2<Frames>> {
    let lower = BufferBuilder::new().target(2 * SMALL).stored(Memory::new(), Memory::new()).unwrap();
    BufferBuilder::new().target(SMALL).over(lower).unwrap()
});
conformance_tests!(shared_and_unnamed, || -> Arc<dyn MutableMapping<u64, Frames>> {
    Arc::new(buffer(SMALL, 0))
});
conformance_tests!(over_unnamed_storage, || -> Buf<Frames, Arc<dyn MutableMapping<u64, Frames>>> {
    let store: Arc<dyn MutableMapping<u64, Frames>> = Arc::new(Memory::new());
    BufferBuilder::new().target(SMALL).over(store).unwrap()
});
conformance_tests!(func, || Func::new(text_codec(), Memory::<u64, Frames>::new()));
conformance_tests!(buffer_over_func, || {
    let store = Func::new(text_codec(), Memory::<u64, Frames>::new());
    BufferBuilder::new().target(SMALL).over(store).unwrap()
});
conformance_tests!(func_over_buffer, || Func::new(text_codec(), buffer::<Frames>(SMALL, 0)));
conformance_tests!(over_storage_that_reports_sizes, || -> Buf<Frames, Sizes> {
    BufferBuilder::new().target(SMALL).over(Sizes(Memory::new())).unwrap()
});

fn text_codec() -> impl spill_core::Codec<String> {
    (
        |text: &String| -> Result<Frames> { Ok(Bytes::from(text.clone()).into()) },
        |frames: Frames| -> Result<String> {
            String::from_utf8(frames.into_single().unwrap_or_default().into())
                .map_err(|_| Error::codec("text", "not UTF-8"))
        },
    )
}

/// Storage that says how much it holds.
struct Sizes(Memory<u64, Frames>);

impl MutableMapping<u64, Frames> for Sizes {
    fn get(&self, key: &u64) -> Result<Option<Frames>> {
        self.0.get(key)
    }
    fn insert(&self, key: u64, value: Frames) -> Result<()> {
        self.0.insert(key, value)
    }
    fn remove(&self, key: &u64) -> Result<bool> {
        self.0.remove(key)
    }
    fn take(&self, key: &u64) -> Result<Option<Frames>> {
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
    fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        self.0.for_each_key(&mut |key| {
            let Some(size) = self.stored_size(key) else { return };
            usage.count += 1;
            usage.spilled += size;
        });
        usage
    }
    fn stored_size(&self, key: &u64) -> Option<SpilledSize> {
        let frames = self.0.get(key).ok().flatten()?;
        Some(SpilledSize { memory: frames.weight(), disk: frames.byte_len() })
    }
}

/// Over storage whose calls fail, before or after they took effect, a call of the buffer that fails changed
/// nothing, and what was accepted is there at last.
#[test]
fn failed_calls_of_a_buffer_change_nothing() {
    support::quiet_injected_panics();
    let faults = [
        Fault::<Frames>::io(),
        Fault::io().after(),
        Fault::full(),
        Fault::full().after(),
        Fault::panic("injected"),
        Fault::panic("injected").after(),
    ];
    for (writers, every) in [(0, 2), (0, 1), (2, 3), (2, 1)] {
        for fault in &faults {
            let buffer: Buf<Frames, Arc<Faulty<u64, Frames, Store<Frames>>>> = BufferBuilder::new()
                .target(SMALL)
                .writers(writers)
                .over(Arc::new(Faulty::new(Memory::new())))
                .unwrap();
            let slow = Arc::clone(buffer.slow());
            failed_calls_change_nothing(&Trial::new(&buffer, &Ready), &|failing| {
                slow.heal();
                if failing {
                    let operations = [Operation::Get, Operation::Insert, Operation::Remove, Operation::Flush];
                    slow.inject(Plan::every(every).on(operations), fault.clone());
                }
            });
            assert!(slow.struck() > 10, "{}", slow.struck());
        }
    }
}
