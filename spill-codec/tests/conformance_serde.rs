//! The shared suite over mappings whose values `Serde` stores.
#![cfg(feature = "serde")]

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use spill_codec::Serde;
use spill_core::conformance::Memory;
use spill_core::{Frames, Func, Value, conformance_tests};

fn serde<V: Value + Serialize + DeserializeOwned>() -> Func<u64, V, Frames, Serde, Memory<u64, Frames>> {
    Func::new(Serde, Memory::new())
}

conformance_tests!(of_numbers, serde::<u64>);
conformance_tests!(of_text, serde::<String>);
conformance_tests!(of_shared_vectors, serde::<Arc<Vec<u8>>>);
