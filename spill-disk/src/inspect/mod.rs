//! Looking into files of this crate: those that others use, and those that were left behind.
//!
//! Nothing here changes a file, and nothing that a file says is believed before its checksum is right. The formats
//! are described in `docs/format.md`.
//!
//! ```
//! use bytes::Bytes;
//! use spill_core::{Frames, MutableMapping};
//! use spill_disk::inspect::{Found, Records};
//! use spill_disk::io::{Io, RealIo};
//! use spill_disk::{Segments, SegmentsConfig, Workspace};
//!
//! let workspace = Workspace::open(None)?;
//! let path = workspace.path().join("segment-0.spill");
//! let segments = Segments::open(SegmentsConfig::new(workspace))?;
//! segments.insert("answer", Frames::from(Bytes::from_static(b"42")))?;
//! segments.flush()?;
//!
//! let file = RealIo.open(&path)?;
//! let found: Vec<Found> = Records::new(&*file).collect::<std::io::Result<_>>()?;
//! let [Found::Record(record)] = &found[..] else { panic!("one record is expected") };
//! assert_eq!((record.offset, record.length, record.frames, record.weight), (0, 40, 1, 2));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod records;
mod value;
mod workspaces;

pub use records::{Found, Record, Records};
pub use value::{ValueFile, value_file};
pub use workspaces::{Contents, Seen, State, contents, workspaces};
