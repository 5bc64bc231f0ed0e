//! Codecs: ready pairs of functions between values and [`Frames`](spill_core::Frames).
//!
//! A codec says how a value of a type is stored; [`Func`](spill_core::Func) makes a mapping of such values
//! out of a mapping of frames.
//!
//! - [`Raw`] is for values that are bytes or text already.
//! - `Serde` (feature `serde`) stores any type with serde's traits: the least to write.
//! - `Rkyv` (feature `rkyv`) stores `Archive<T>`, which is used where it was read: for large values that are
//!   read more often than changed.
//! - `Arrow` (feature `arrow`) stores record batches of Arrow, whose buffers are used where they were read.
//!
//! A pair of functions is a codec as well, see [`Codec`](spill_core::Codec).
//!
//! ```
//! use spill_codec::Raw;
//! use spill_core::Codec;
//!
//! let name = String::from("Ada");
//! let frames = Raw.encode(&name)?;
//! assert_eq!(frames.byte_len(), 3);
//! let back: String = Raw.decode(frames)?;
//! assert_eq!(back, name);
//! # Ok::<_, spill_core::Error>(())
//! ```

#[cfg(feature = "arrow")]
mod arrow;
mod frame;
mod raw;
#[cfg(feature = "rkyv")]
mod rkyv;
#[cfg(feature = "serde")]
mod serde;

#[cfg(feature = "arrow")]
pub use self::arrow::Arrow;
pub use self::raw::Raw;
#[cfg(feature = "rkyv")]
pub use self::rkyv::{Archivable, Archive, Rkyv};
#[cfg(feature = "serde")]
pub use self::serde::Serde;
/// Arrow's own crates, of the version that [`Arrow`] speaks.
#[cfg(feature = "arrow")]
pub use {arrow_array, arrow_ipc, arrow_schema};
