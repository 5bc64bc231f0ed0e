//! `Arrow`: record batches in the format that Arrow's own files and streams have.

mod array;
mod message;
mod read;
mod weight;
mod write;

use std::fmt::Display;

use arrow_array::RecordBatch;
use spill_core::{Codec, Error, Frames, Key, Result, Weigh};

/// The codec's name in errors.
const NAME: &str = "arrow";

/// Stores a [`RecordBatch`] by Arrow's IPC format: one frame of messages (schema, dictionaries, batch), and a
/// frame for each buffer that is not empty.
///
/// Encoding copies no buffer: frames share the memory of the arrays, of a sliced batch only its own part. A
/// compressing layer below sees each buffer by itself, so that it can tell numbers from text. Decoding gives
/// arrays that lie in the frames as they were read; a buffer is copied only where its frame is not aligned for
/// its type, which happens to small ones in segment files. What it costs is a pass over the data that checks
/// offsets, dictionary keys and text.
///
/// With zero bytes between them the frames are an IPC stream: each buffer is padded to 64 bytes there.
///
/// Decoding fails with [`Codec`](spill_core::ErrorKind::Codec) for frames that are no such value: whatever the
/// bytes, no array is made that would read outside of them. Encoding fails for what the format cannot say, a
/// dictionary whose values are a dictionary.
///
/// It also weighs batches, as a [`Weigh`]: the memory that their buffers lie in, once where they share it, and in
/// full where a batch is a slice.
///
/// ```
/// use arrow_array::{Float64Array, RecordBatch};
/// use spill_codec::Arrow;
/// use spill_core::Codec;
/// use std::sync::Arc;
///
/// let degrees = Float64Array::from(vec![-3.5, 1.25]);
/// let batch = RecordBatch::try_from_iter([("degrees", Arc::new(degrees) as _)]).unwrap();
/// let frames = Arrow.encode(&batch)?;
/// assert_eq!(frames.iter().count(), 2); // messages, and the numbers
/// assert_eq!(Arrow.decode(frames)?, batch);
/// # Ok::<_, spill_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrow;

impl Codec<RecordBatch> for Arrow {
    fn encode(&self, batch: &RecordBatch) -> Result<Frames> {
        write::frames(batch)
    }
    fn decode(&self, stored: Frames) -> Result<RecordBatch> {
        read::batch(&stored)
    }
}

impl<K: Key> Weigh<K, RecordBatch> for Arrow {
    fn weigh(&self, _key: &K, batch: &RecordBatch) -> u64 {
        weight::of(batch)
    }
}

/// The error for frames that are no record batch.
fn refused(why: impl Display) -> Error {
    Error::codec(NAME, format!("the frames are no record batch: {why}"))
}
