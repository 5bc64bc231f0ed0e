//! `Rkyv` and `Archive`: values that are used where they were read.

mod archive;
mod refusal;
mod view;

pub use archive::{Archivable, Archive};

use spill_core::{Codec, Frames, Result};

use crate::frame;

/// The codec's name in errors.
const NAME: &str = "rkyv";

/// Stores an [`Archive`] as the one frame that it is.
///
/// Encoding costs a reference count. Decoding validates the bytes, once, and copies nothing where storage
/// gives them aligned enough, as every storage of this project does.
///
/// Decoding fails with [`Codec`](spill_core::ErrorKind::Codec) for a stored value that has not exactly one
/// frame, and for bytes that are no archive of the type.
///
/// ```
/// use spill_codec::{Archive, Rkyv};
/// use spill_core::{Codec, Frames};
///
/// let names = Archive::new(&vec!["Ada".to_owned(), "Grace".to_owned()])?;
/// let frames = Rkyv.encode(&names)?;
/// let back: Archive<Vec<String>> = Rkyv.decode(frames)?;
/// assert_eq!(back.get()[1], "Grace");
/// assert_eq!(back.as_bytes().as_ptr(), names.as_bytes().as_ptr()); // the same bytes, not copied
/// # Ok::<_, spill_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Rkyv;

impl<T: Archivable> Codec<Archive<T>> for Rkyv {
    fn encode(&self, value: &Archive<T>) -> Result<Frames> {
        Ok(value.as_bytes().clone().into())
    }
    fn decode(&self, stored: Frames) -> Result<Archive<T>> {
        Archive::from_bytes(frame::single(NAME, stored)?)
    }
}
