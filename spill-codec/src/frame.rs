//! Values that are stored as one frame.

use bytes::Bytes;
use spill_core::{Error, Frames, Result};

/// The one frame of a value that `codec` stored as one.
#[inline]
pub(crate) fn single(codec: &'static str, frames: Frames) -> Result<Bytes> {
    let count = frames.as_slice().len();
    frames.into_single().ok_or_else(|| Error::codec(codec, format!("expected 1 frame, found {count}")))
}
