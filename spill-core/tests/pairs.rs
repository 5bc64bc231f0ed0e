//! The shared suite over every pair of layers, upon each other in both orders, over chains deeper than that, and over
//! the asynchronous adapters above each layer.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use bytes::Bytes;
use spill_core::conformance::contract::check_all;
use spill_core::conformance::{Memory, Ready};
use spill_core::{BufferBuilder, Cache, Compose, Frames, Func, MutableMapping, Result, Sieve};

type Mapping = Arc<dyn MutableMapping<u64, Frames>>;

/// Puts a layer over a mapping.
type Layer = fn(Mapping) -> Mapping;

/// Small enough that the suite's values of some hundred bytes leave again soon.
const SMALL: u64 = 2000;

fn memory() -> Mapping {
    Arc::new(Memory::new())
}

fn settings() -> BufferBuilder<u64, Frames> {
    BufferBuilder::new().target(SMALL)
}

/// Each way in which a layer can stand over a mapping.
const LAYERS: [(&str, Layer); 9] = [
    ("buffer", |below| Arc::new(settings().over(below).unwrap())),
    ("buffer with writers", |below| Arc::new(settings().writers(2).over(below).unwrap())),
    ("stored buffer over", |below| Arc::new(settings().stored(memory(), below).unwrap())),
    ("stored buffer in", |below| Arc::new(settings().stored(below, memory()).unwrap())),
    ("func", |below| {
        // a frame more
        let encode = |frames: &Frames| -> Result<Frames> {
            let marked: Frames = frames.iter().cloned().chain([Bytes::from_static(b"mark")]).collect();
            Ok(marked.with_weight(frames.weight()))
        };
        let decode = |stored: Frames| -> Result<Frames> {
            let frames = stored.as_slice().split_last().map_or(&[][..], |(_, frames)| frames);
            Ok(Frames::from(frames.to_vec()).with_weight(stored.weight()))
        };
        Arc::new(Func::<u64, Frames, Frames, _, _>::new((encode, decode), below))
    }),
    ("cache over", |below| Arc::new(Cache::new(below, memory()))),
    ("cache in", |below| Arc::new(Cache::new(memory(), below).update_on_set(false))),
    ("sieve", |below| {
        Arc::new(Sieve::new(vec![below, memory()], |key: &u64, frames: &Frames| {
            (usize::from(key.is_multiple_of(3)) + frames.byte_len() as usize) % 2
        }))
    }),
    ("key map", |below| {
        let from = |key: &u64| -> Result<u64> { Ok(!key) };
        Arc::new(below.keyed(|key: &u64| !key, from).unwrap())
    }),
];

/// Checks `make`, and names what it makes where it fails.
fn holds(name: &str, make: impl Fn() -> Mapping) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check_all(&make, &Ready))) {
        eprintln!("this failed: {name}");
        resume_unwind(panic);
    }
}

fn over_each_layer(upper: usize) {
    let (upper_name, upper) = LAYERS[upper];
    for (lower_name, lower) in LAYERS {
        holds(&format!("{upper_name}, over {lower_name}"), || upper(lower(memory())));
    }
}

macro_rules! pairs {
    ($($test:ident: $upper:expr),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                over_each_layer($upper);
            }
        )*
    };
}

pairs! {
    a_buffer_over_each_layer: 0,
    a_buffer_with_writers_over_each_layer: 1,
    a_stored_buffer_over_each_layer: 2,
    a_stored_buffer_in_each_layer: 3,
    a_func_over_each_layer: 4,
    a_cache_over_each_layer: 5,
    a_cache_in_each_layer: 6,
    a_sieve_of_each_layer: 7,
    a_key_map_over_each_layer: 8,
}

#[test]
fn chains_of_four_and_more() {
    let [buffer, _, stored, _, func, cache, _, sieve, key_map] = LAYERS.map(|(_, layer)| layer);
    holds("a chain of four", || buffer(func(sieve(key_map(memory())))));
    holds("another order", || key_map(cache(stored(func(memory())))));
    holds("all of them", || cache(key_map(buffer(func(sieve(stored(cache(memory()))))))));
}

#[cfg(feature = "tokio")]
mod asynchronous {
    use super::{Arc, LAYERS, Mapping, holds, memory, settings};
    use spill_core::{AsyncBuffer, Blocking, Offload};

    #[test]
    fn adapters_over_each_layer() {
        for (name, layer) in LAYERS {
            holds(&format!("offload, over {name}"), || -> Mapping {
                Arc::new(Blocking::new(Offload::new(layer(memory()), 2).unwrap(), 1).unwrap())
            });
        }
    }

    #[test]
    fn an_async_buffer_over_each_layer() {
        for (name, layer) in LAYERS {
            holds(&format!("async buffer, over {name}"), || -> Mapping {
                let buffer = Arc::new(settings().over(layer(memory())).unwrap());
                Arc::new(Blocking::new(AsyncBuffer::new(buffer, 2).unwrap(), 1).unwrap())
            });
        }
    }

    #[test]
    fn each_layer_over_asynchronous_storage() {
        for (name, layer) in LAYERS {
            holds(&format!("{name}, over asynchronous storage"), || {
                layer(Arc::new(Blocking::new(Offload::new(memory(), 2).unwrap(), 1).unwrap()))
            });
        }
    }
}
