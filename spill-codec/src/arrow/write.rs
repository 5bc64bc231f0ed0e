//! A record batch as frames.

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::writer::StreamEncoder;
use bytes::Bytes;
use spill_core::{Error, Frames, Result};

use super::{NAME, message};

/// The frames of `batch`.
pub(super) fn frames(batch: &RecordBatch) -> Result<Frames> {
    let refused = |why| Error::codec(NAME, format!("cannot encode a record batch: {why}"));
    let mut encoder = StreamEncoder::try_new(batch.schema_ref()).map_err(refused)?;
    let mut stream = VecDeque::from(encoder.encode(batch).map_err(refused)?);
    let mut messages = Vec::new();
    let mut frames = vec![Bytes::new()];
    while !stream.is_empty() {
        let start = messages.len();
        fill(&mut messages, &mut stream, start + message::PREFIX)?;
        let table = start + message::PREFIX;
        let end = table + message::table_len(&messages[start..])?;
        fill(&mut messages, &mut stream, end)?;
        body(&messages[table..end], &mut stream, &mut frames)?;
    }
    frames[0] = messages.into();
    Ok(frames.into())
}

/// Moves bytes of `stream` behind `bytes` until these are `len`: where messages begin and end, buffers do.
fn fill(bytes: &mut Vec<u8>, stream: &mut VecDeque<Buffer>, len: usize) -> Result<()> {
    while bytes.len() < len {
        bytes.extend_from_slice(&stream.pop_front().ok_or_else(unexpected)?);
    }
    if bytes.len() == len { Ok(()) } else { Err(unexpected()) }
}

/// Moves the buffers that belong to the message of `table` to `frames`, without those that are empty and
/// without what pads them.
fn body(table: &[u8], stream: &mut VecDeque<Buffer>, frames: &mut Vec<Bytes>) -> Result<()> {
    let message = message::parse(table)?;
    let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
    let Some(batch) = message.header_as_record_batch().or(dictionary) else { return Ok(()) };
    let mut end = 0;
    for described in batch.buffers().into_iter().flatten() {
        padding(described.offset() - end, stream)?;
        let buffer = stream.pop_front().ok_or_else(unexpected)?;
        if buffer.len() as i64 != described.length() {
            return Err(unexpected());
        }
        end = described.offset() + described.length();
        if !buffer.is_empty() {
            frames.push(Bytes::from_owner(buffer));
        }
    }
    padding(message.bodyLength() - end, stream)
}

/// Takes `len` bytes of padding, which are one buffer if any.
fn padding(len: i64, stream: &mut VecDeque<Buffer>) -> Result<()> {
    let taken = if len == 0 { 0 } else { stream.pop_front().map_or(0, |buffer| buffer.len() as i64) };
    if taken == len { Ok(()) } else { Err(unexpected()) }
}

/// The encoder gives its buffers in another way than its documentation says.
fn unexpected() -> Error {
    Error::codec(NAME, "the encoder of arrow-ipc gave buffers that do not match their messages")
}
