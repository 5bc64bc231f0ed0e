use std::sync::Arc;

use overspill::arrow_array::{ArrayRef, Int64Array, RecordBatch};
use overspill::{Arrow, BufferBuilder, Frames, Func, Lru, MutableMapping};

#[test]
fn arrow_brings_record_batches_as_values() {
    let storage: Lru<u32, Frames> = BufferBuilder::new().alone().unwrap();
    let mapping = Func::new(Arrow, storage);
    let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]));
    let batch = RecordBatch::try_from_iter([("count", column)]).unwrap();
    mapping.insert(1, batch.clone()).unwrap();
    assert_eq!(mapping.get(&1).unwrap(), Some(batch));
}
