//! The one place with unsafe code: bytes seen as the value that they were found to be.
#![expect(unsafe_code, reason = "validating a value at each access would cost a pass over it each time")]

use std::marker::PhantomData;
use std::num::NonZeroUsize;

use bytes::Bytes;
use rkyv::api::{access_unchecked, access_with_context};
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::validation::shared::SharedValidator;

use super::archive::Archivable;
use super::refusal::Refusal;

/// How deep pointers may nest. Each level takes stack while it is validated.
pub(super) const MAX_DEPTH: usize = 128;

/// Bytes that are a valid archive of `T` where they lie.
pub(super) struct View<T: rkyv::Archive> {
    /// Never changed once checked: the field is private here, and `check` alone makes a view.
    bytes: Bytes,
    /// A view lends its `T::Archived`, so it may cross threads only where that may.
    archived: PhantomData<T::Archived>,
}

impl<T: rkyv::Archive> View<T> {
    /// The archived value. It costs an addition.
    pub(super) fn get(&self) -> &T::Archived {
        // SAFETY: `check` found a valid `T::Archived` at the end of these very bytes, everything that it
        // points to included. What it found still holds:
        // - the bytes lie where they lay: moving or cloning a `Bytes` does not move what it refers to;
        // - nobody changed them: a `Bytes` lends them shared only, and `T::Archived` has no interior
        //   mutability, which `Portable` demands of it;
        // - they live as long as the borrow of `self`, which holds them.
        unsafe { access_unchecked::<T::Archived>(&self.bytes) }
    }

    /// The bytes that were checked.
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl<T: Archivable> View<T> {
    /// The view of `bytes`, or `bytes` and why they are none: out of bounds, badly aligned where they lie,
    /// values that a type does not have, or nested too deep.
    pub(super) fn check(bytes: Bytes) -> Result<Self, (Bytes, Refusal)> {
        // The first step into the root counts as well, and the last one must not reach zero.
        let depth = NonZeroUsize::new(MAX_DEPTH + 2);
        let mut context =
            Validator::new(ArchiveValidator::with_max_depth(&bytes, depth), SharedValidator::new());
        match access_with_context::<T::Archived, _, Refusal>(&bytes, &mut context) {
            Ok(_) => Ok(View { bytes, archived: PhantomData }),
            Err(why) => Err((bytes, why)),
        }
    }
}

impl<T: rkyv::Archive> Clone for View<T> {
    fn clone(&self) -> Self {
        View { bytes: self.bytes.clone(), archived: PhantomData }
    }
}
