//! `Raw`: values that are bytes or text already.

use std::sync::Arc;

use bytes::Bytes;
use spill_core::{Codec, Error, Frames, Result};

use crate::frame;

/// Stores bytes and text as they are, in one frame; [`Frames`] with all of theirs.
///
/// `Bytes` and `Frames` pass both ways without a copy. `Arc<[u8]>` is shared with storage on the way in and
/// copied on the way out; `Vec<u8>`, `String` and `Arc<str>` are copied both ways, one pass over the bytes.
///
/// Decoding fails with [`Codec`](spill_core::ErrorKind::Codec) for a stored value that has not exactly one
/// frame, and for text that is not UTF-8.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

#[inline]
fn single(frames: Frames) -> Result<Bytes> {
    frame::single("raw", frames)
}

fn text(frame: &[u8]) -> Result<&str> {
    std::str::from_utf8(frame).map_err(|error| Error::codec("raw", format!("not UTF-8 text: {error}")))
}

impl Codec<Frames> for Raw {
    #[inline]
    fn encode(&self, value: &Frames) -> Result<Frames> {
        Ok(value.clone())
    }
    #[inline]
    fn decode(&self, stored: Frames) -> Result<Frames> {
        Ok(stored)
    }
    #[inline]
    fn trivial(&self) -> bool {
        true
    }
}

impl Codec<Bytes> for Raw {
    #[inline]
    fn encode(&self, value: &Bytes) -> Result<Frames> {
        Ok(value.clone().into())
    }
    #[inline]
    fn decode(&self, stored: Frames) -> Result<Bytes> {
        single(stored)
    }
    #[inline]
    fn trivial(&self) -> bool {
        true
    }
}

impl Codec<Vec<u8>> for Raw {
    fn encode(&self, value: &Vec<u8>) -> Result<Frames> {
        Ok(Bytes::copy_from_slice(value).into())
    }
    fn decode(&self, stored: Frames) -> Result<Vec<u8>> {
        Ok(single(stored)?.to_vec())
    }
}

impl Codec<String> for Raw {
    fn encode(&self, value: &String) -> Result<Frames> {
        Ok(Bytes::copy_from_slice(value.as_bytes()).into())
    }
    fn decode(&self, stored: Frames) -> Result<String> {
        Ok(text(&single(stored)?)?.to_owned())
    }
}

impl Codec<Arc<[u8]>> for Raw {
    fn encode(&self, value: &Arc<[u8]>) -> Result<Frames> {
        Ok(Bytes::from_owner(Arc::clone(value)).into())
    }
    fn decode(&self, stored: Frames) -> Result<Arc<[u8]>> {
        Ok(Arc::from(&*single(stored)?))
    }
}

impl Codec<Arc<str>> for Raw {
    fn encode(&self, value: &Arc<str>) -> Result<Frames> {
        Ok(Bytes::copy_from_slice(value.as_bytes()).into())
    }
    fn decode(&self, stored: Frames) -> Result<Arc<str>> {
        Ok(Arc::from(text(&single(stored)?)?))
    }
}
