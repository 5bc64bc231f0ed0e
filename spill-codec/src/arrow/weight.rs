//! What a batch takes in memory.

use arrow_array::{Array, RecordBatch};
use arrow_buffer::Buffer;
use arrow_data::ArrayData;

/// Bytes of the memory that the buffers of `batch` lie in. Several often lie in one piece of memory, as they
/// were read: it is counted once, and in full also where the batch uses a part of it.
pub(super) fn of(batch: &RecordBatch) -> u64 {
    let mut pieces = Vec::new();
    batch.columns().iter().for_each(|column| collect(&column.to_data(), &mut pieces));
    pieces.sort_unstable();
    pieces.dedup();
    pieces.iter().map(|(_, bytes)| *bytes as u64).sum()
}

/// Adds the place and length of each piece of memory that `data` uses.
fn collect(data: &ArrayData, pieces: &mut Vec<(usize, usize)>) {
    let mut add = |buffer: &Buffer| pieces.push((buffer.data_ptr().addr().get(), buffer.capacity()));
    data.buffers().iter().for_each(&mut add);
    if let Some(nulls) = data.nulls() {
        add(nulls.buffer());
    }
    data.child_data().iter().for_each(|child| collect(child, pieces));
}
