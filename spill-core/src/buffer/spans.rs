//! Spans of `tracing` around what moves between the memories, at level DEBUG: `spill` and `read_back`.
//!
//! Their fields are the keys moved by the call, the bytes that the values weigh in fast memory, and the setting of the
//! compressor, which the compression layer fills in, if there is one. A span that nobody listens to costs a check of
//! the level.

use tracing::field::Empty;
use tracing::span::EnteredSpan;

/// Around writing `keys` values that weigh `bytes` to slow memory.
pub(super) fn spill(keys: usize, bytes: u64) -> EnteredSpan {
    tracing::debug_span!("spill", keys, bytes, compressor = Empty).entered()
}

/// Around reading `keys` values back. [`read`] says what they weigh.
pub(super) fn read_back(keys: usize) -> EnteredSpan {
    tracing::debug_span!("read_back", keys, bytes = Empty, compressor = Empty).entered()
}

/// What was read in `span` weighs `bytes`.
pub(super) fn read(span: &EnteredSpan, bytes: u64) {
    span.record("bytes", bytes);
}
