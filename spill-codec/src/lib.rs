//! Codecs: ready pairs of functions between values and [`Frames`](spill_core::Frames).
//!
//! A codec says how a value of a type is stored; [`Func`](spill_core::Func) makes a mapping of such values
//! out of a mapping of frames. [`Raw`] is for values that are bytes or text already. A pair of functions is a
//! codec as well, see [`Codec`](spill_core::Codec).
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

mod raw;

pub use raw::Raw;
