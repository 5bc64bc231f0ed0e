//! Spilled data on a local disk: segment files in a private workspace, or one file a key.
//!
//! [`Segments`] is a mapping of keys to [`Frames`](spill_core::Frames) over append-only files: every value
//! costs one record in a file and some 40 bytes of RAM beyond its key. [`Workspace`] is the private directory
//! that its files live in; nothing of it outlives its process for longer than until the next one starts.
//! [`Files`] is a mapping that has a file for each key, in a workspace or in a directory of your own that a later
//! process can open again.
//! [`inspect`] looks into the files of either.
//! [`io`] is the only door to the operating system, where tests put memory and faults in.
//!
//! ```
//! use bytes::Bytes;
//! use spill_core::{Frames, MutableMapping};
//! use spill_disk::{Segments, SegmentsConfig, Workspace};
//!
//! let segments = Segments::open(SegmentsConfig::new(Workspace::open(None)?))?;
//! segments.insert("answer", Frames::from(Bytes::from_static(b"42")))?;
//! segments.flush()?;
//! assert_eq!(segments.get(&"answer")?, Some(Frames::from(Bytes::from_static(b"42"))));
//! assert_eq!(segments.usage().spilled.memory, 2);
//! segments.close()?;
//! # Ok::<_, spill_core::Error>(())
//! ```
//!
//! # What it is not
//!
//! It is no database: [`flush`](spill_core::MutableMapping::flush) hands data to the operating system and does
//! not wait for the device. Spilled data dies with the process that spilled it, but for the directories that
//! [`Files`] are given.

mod failure;
mod files;
pub mod inspect;
pub mod io;
mod segments;
mod workspace;

pub use files::{Files, FilesConfig};
pub use segments::{Segments, SegmentsConfig};
pub use workspace::{Purged, Workspace, WorkspaceConfig, purge};
