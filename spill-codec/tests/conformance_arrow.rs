//! The shared suite over a mapping of record batches.
#![cfg(feature = "arrow")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch};
use spill_codec::Arrow;
use spill_core::conformance::{Memory, SampleValue, Samples};
use spill_core::{Frames, Func, conformance_tests};

type Chain = Func<u64, RecordBatch, Frames, Arrow, Memory<u64, Frames>>;

fn batch(number: u64, content: &[u8]) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![number as i64]));
    let contents: ArrayRef = Arc::new(BinaryArray::from(vec![content]));
    RecordBatch::try_from_iter([("number", numbers), ("content", contents)]).unwrap()
}

struct Batches;

impl Samples<u64, RecordBatch> for Batches {
    fn key(&self, n: u64) -> u64 {
        n
    }
    fn value(&self, n: u64) -> RecordBatch {
        batch(n, &Vec::sample(n))
    }
    fn number(&self, value: &RecordBatch) -> Option<u64> {
        let numbers = value.column(0).as_any().downcast_ref::<Int64Array>()?;
        let n = numbers.value(0) as u64;
        self.same(value, &self.value(n)).then_some(n)
    }
    fn same(&self, a: &RecordBatch, b: &RecordBatch) -> bool {
        a == b
    }
    fn value_of_len(&self, n: u64, len: usize) -> RecordBatch {
        batch(n, &Vec::of_len(n, len))
    }
    fn odd_values(&self) -> Vec<RecordBatch> {
        Vec::odd().into_iter().map(|content| batch(0, &content)).collect()
    }
}

fn batches() -> Chain {
    Func::new(Arrow, Memory::new())
}

conformance_tests!(of_batches, batches, Batches);
