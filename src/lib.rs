#![doc = include_str!("../README.md")]
//!
//! # Which layer when
//!
//! - [`Lru`]: a map in RAM that forgets what was not used lately.
//! - [`Buffer`]: a map that forgets nothing: what does not fit moves to the mapping below.
//! - [`Func`]: values of one type stored as another, by a [`Codec`].
//! - [`Compress`]: smaller records, where the disk is slower than a core.
//! - [`Segments`]: the files. [`Files`] has one for each key, and can be opened again by a later process.
//! - `object::Objects` (feature `object`): the same in S3 and other object stores, where no disk is large enough.
//! - [`Cache`]: copies of what is slow to read; [`Sieve`]: several mappings as one, each pair where it belongs;
//!   [`KeyMap`]: other keys.
//!
//! Features: `disk` and `compress` (both by default), `serde`, `rkyv`, `arrow`, `worker`, `dashboard`, `tokio`,
//! `object` with `aws`, `gcp` and `azure`, `conformance`. Without any, this is the core: traits and layers, and no storage.

#[cfg(feature = "disk")]
pub mod presets;

#[cfg(feature = "conformance")]
pub use spill_core::conformance_tests;
pub use spill_core::*;

#[cfg(any(feature = "disk", feature = "serde", feature = "rkyv", feature = "arrow"))]
pub use spill_codec::*;
#[cfg(feature = "compress")]
pub use spill_compress::*;
#[cfg(feature = "dashboard")]
pub use spill_dashboard as dashboard;
#[cfg(feature = "disk")]
pub use spill_disk::{
    Files, FilesConfig, Purged, Segments, SegmentsConfig, Workspace, WorkspaceConfig, purge,
};
#[cfg(feature = "object")]
pub use spill_object as object;
#[cfg(feature = "worker")]
pub use spill_worker as worker;

#[cfg(all(doctest, feature = "conformance"))]
#[doc = include_str!("../docs/backends.md")]
mod backends {}
