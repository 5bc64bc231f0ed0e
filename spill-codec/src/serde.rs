//! `Serde`: any type with serde's traits.

use std::any::type_name;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use spill_core::{Codec, Error, Frames, Result};

use crate::frame;

/// Stores any type that implements serde's traits, in one frame of [postcard]'s format: numbers as short as
/// they are, no names of fields. `Arc<T>` is stored as the `T`.
///
/// Encoding and decoding are a pass over the value each, and decoding allocates what the value holds.
/// [`Rkyv`](crate::Rkyv) avoids both for values that are read more often than changed.
///
/// # Types that do not fit
///
/// The format does not describe itself, so a type must be read by the same shape it was written by. These
/// attributes break that: `untagged`, `tag`, `flatten`, `skip_serializing_if`; and so do types that ask the
/// format what comes next, such as `serde_json::Value`. `flatten` is refused when the value is encoded. For
/// the others a build with debug assertions decodes each value as soon as it is encoded and refuses it there,
/// so that tests find such a type before data depends on it; a release build does not pay for that.
///
/// # Damaged bytes
///
/// Decoding fails with [`Codec`](spill_core::ErrorKind::Codec), naming the type, for a stored value that has
/// not exactly one frame, that ends early, says what the type cannot be, or goes on behind the value. A length
/// found in the bytes is not believed: no more than 1 MiB is allocated ahead of what has been read. Not all
/// damage can be seen, since most bytes are some value; storage that can damage bytes should have checksums,
/// as segments do. Two kinds of type are not for bytes that may be damaged: a recursive one (a list of boxes)
/// nests as deep as the bytes say and can exhaust the stack, and a sequence of elements without content
/// (`Vec<()>`) takes as long as its length says.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use spill_codec::Serde;
/// use spill_core::Codec;
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct Sample {
///     city: String,
///     degrees: Vec<f32>,
/// }
///
/// let sample = Sample { city: "Oslo".to_owned(), degrees: vec![-3.5, 1.25] };
/// let frames = Serde.encode(&sample)?;
/// assert_eq!(frames.byte_len(), 14);
/// let back: Sample = Serde.decode(frames)?;
/// assert_eq!(back, sample);
/// # Ok::<_, spill_core::Error>(())
/// ```
///
/// [postcard]: https://postcard.jamesmunns.com
#[derive(Clone, Copy, Debug, Default)]
pub struct Serde;

const NAME: &str = "serde";

impl<T: Serialize + DeserializeOwned> Codec<T> for Serde {
    fn encode(&self, value: &T) -> Result<Frames> {
        let encoded = postcard::to_stdvec(value)
            .map_err(|error| Error::codec(NAME, format!("cannot encode {}: {error}", type_name::<T>())))?;
        if cfg!(debug_assertions) {
            decode::<T>(&encoded).map_err(|error| {
                Error::codec(
                    NAME,
                    format!("{error}; a value just encoded does not decode, so its type does not fit"),
                )
            })?;
        }
        // A boxed slice gives the room that was taken while it grew back.
        Ok(Bytes::from(encoded.into_boxed_slice()).into())
    }
    fn decode(&self, stored: Frames) -> Result<T> {
        decode(&frame::single(NAME, stored)?)
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let refused = |why: &dyn std::fmt::Display| {
        Error::codec(NAME, format!("{} bytes are no {}: {why}", bytes.len(), type_name::<T>()))
    };
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|error| refused(&error))?;
    if rest.is_empty() { Ok(value) } else { Err(refused(&format_args!("{} bytes left over", rest.len()))) }
}
