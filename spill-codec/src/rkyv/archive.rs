//! `Archive`: a value in the form in which it is stored.

use std::any::type_name;
use std::fmt;

use bytes::Bytes;
use rkyv::api::high::{HighSerializer, HighValidator, to_bytes_in};
use rkyv::bytecheck::CheckBytes;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use spill_core::{Error, FRAME_ALIGN, GetSize, GetSizeTracker, HeapSize, Result};

use super::NAME;
use super::refusal::Refusal;
use super::view::View;

/// What can be archived: every type that derives rkyv's `Archive` and `Serialize`, and every type that rkyv
/// does it for. Not to be implemented by hand; it is a short name for what such a type can do.
pub trait Archivable:
    rkyv::Archive<Archived: for<'a> CheckBytes<HighValidator<'a, Refusal>>>
    + for<'a> rkyv::Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Refusal>>
    + 'static
{
}

impl<T> Archivable for T where
    T: rkyv::Archive<Archived: for<'a> CheckBytes<HighValidator<'a, Refusal>>>
        + for<'a> rkyv::Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Refusal>>
        + 'static
{
}

/// A `T` in rkyv's archived form, which is read in place: a value of its own, for mappings whose values are
/// read more often than changed.
///
/// It holds bytes that were validated once, when it was made of them, and gives a `&T::Archived` into them.
/// Nothing is deserialised or copied to use it, so reading a value back from storage costs the read and one
/// pass of validation. Cloning costs a reference count. It is [`Send`] and [`Sync`] where `T::Archived` is.
///
/// `T` derives rkyv's `Archive` and `Serialize` (version 0.8). To change a value, deserialise it with
/// `rkyv::deserialize` and make a new archive.
///
/// # Limits
///
/// An archive is at most 2 GiB with rkyv's usual relative pointers of 32 bits. Pointers in it may nest
/// [128](Self::MAX_DEPTH) deep, so that validation has a bounded need of stack. No type in it may need more
/// than 64 bytes of alignment. [`new`](Self::new) refuses what would not be read back.
///
/// ```
/// use spill_codec::Archive;
///
/// let archive = Archive::new(&vec![(1u32, "one".to_owned()), (2, "two".to_owned())])?;
/// let pairs = archive.get(); // &ArchivedVec<ArchivedTuple2<u32_le, ArchivedString>>
/// assert_eq!(pairs[1].0, 2);
/// assert_eq!(pairs[1].1, "two");
///
/// // Bytes of elsewhere are an archive only if they are valid.
/// assert!(Archive::<Vec<u32>>::from_bytes(vec![0xff; 100].into()).is_err());
/// # Ok::<_, spill_core::Error>(())
/// ```
pub struct Archive<T: rkyv::Archive>(View<T>);

impl<T: rkyv::Archive> Archive<T> {
    /// How deep pointers may nest.
    pub const MAX_DEPTH: usize = super::view::MAX_DEPTH;

    /// The archived value.
    #[must_use]
    pub fn get(&self) -> &T::Archived {
        self.0.get()
    }

    /// The bytes that it is, as they are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        self.0.bytes()
    }
}

impl<T: Archivable> Archive<T> {
    /// Archives `value`: one pass to write it and one to see that it can be read back.
    ///
    /// # Errors
    /// [`Codec`](spill_core::ErrorKind::Codec) when `value` cannot be serialised, or is beyond the
    /// [limits](Self#limits).
    pub fn new(value: &T) -> Result<Self> {
        let written = to_bytes_in::<_, Refusal>(value, Vec::new())
            .map_err(|why| Error::codec(NAME, format!("cannot archive a {}: {why}", type_name::<T>())))?;
        // A boxed slice gives the room that was taken while it grew back.
        Self::from_bytes(written.into_boxed_slice().into())
    }

    /// The archive that `bytes` are. They are validated, and copied only if they do not lie where `T` can be
    /// read in place: never if they start on [`FRAME_ALIGN`].
    ///
    /// # Errors
    /// [`Codec`](spill_core::ErrorKind::Codec) when they are no valid archive of `T`.
    pub fn from_bytes(bytes: Bytes) -> Result<Self> {
        let checked = match View::check(bytes) {
            // It may be only for its place that it was refused. How the parts must lie is known to the check
            // alone, so it decides in the second place as well.
            Err((bytes, _)) if !bytes.as_ptr().addr().is_multiple_of(FRAME_ALIGN) => {
                View::check(aligned(&bytes))
            }
            checked => checked,
        };
        checked.map(Archive).map_err(|(bytes, why)| {
            Error::codec(NAME, format!("{} bytes are no archive of {}: {why}", bytes.len(), type_name::<T>()))
        })
    }
}

/// A copy that starts on [`FRAME_ALIGN`].
fn aligned(bytes: &[u8]) -> Bytes {
    let mut copy = AlignedVec::<FRAME_ALIGN>::with_capacity(bytes.len());
    copy.extend_from_slice(bytes);
    Bytes::from_owner(copy)
}

impl<T: rkyv::Archive> Clone for Archive<T> {
    fn clone(&self) -> Self {
        Archive(self.0.clone())
    }
}

impl<T: rkyv::Archive> fmt::Debug for Archive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("of", &type_name::<T>()).field("len", &self.as_bytes().len()).finish()
    }
}

impl<T: rkyv::Archive> GetSize for Archive<T> {
    fn get_heap_size_with_tracker<U: GetSizeTracker>(&self, tracker: U) -> (usize, U) {
        (self.as_bytes().len(), tracker)
    }
}

impl<T: rkyv::Archive> HeapSize for Archive<T> {
    fn is_shared(&self) -> bool {
        self.0.bytes().is_shared()
    }
}
