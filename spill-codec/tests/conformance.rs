//! The shared suite over mappings of every type that `Raw` stores.

use std::marker::PhantomData;

use bytes::Bytes;
use spill_codec::Raw;
use spill_core::conformance::Memory;
use spill_core::{Codec, Frames, Func, Value, conformance_tests};

fn raw<V: Value>(_: PhantomData<V>) -> Func<u64, V, Frames, Raw, Memory<u64, Frames>>
where
    Raw: Codec<V>,
{
    Func::new(Raw, Memory::new())
}

conformance_tests!(of_frames, || raw(PhantomData::<Frames>));
conformance_tests!(of_bytes, || raw(PhantomData::<Bytes>));
conformance_tests!(of_vectors, || raw(PhantomData::<Vec<u8>>));
conformance_tests!(of_text, || raw(PhantomData::<String>));
