//! Mappings that hold more than memory does: the traits, and the layers that storage is put behind.
//!
//! ```
//! use spill_core::{BufferBuilder, Compose, Lru, ManualEvict, MutableMapping, Result};
//!
//! // Any mapping can be slow memory; segment files are in `spill-disk`. Here it is a map of text in RAM.
//! let slow: Lru<u32, String> = BufferBuilder::new().alone()?;
//!
//! // Numbers are stored as text, and stay in fast memory up to 64 bytes: eight of them.
//! let codec = (
//!     |n: &u64| -> Result<String> { Ok(n.to_string()) },
//!     |text: String| -> Result<u64> { text.parse().map_err(|_| spill_core::Error::codec("decimal", text)) },
//! );
//! let map = slow.coded(codec).buffered(BufferBuilder::new().target(64))?;
//!
//! for n in 0..100 {
//!     map.insert(n, u64::from(n) * 10)?;
//! }
//! assert_eq!(map.len(), 100); // all are there,
//! assert_eq!(map.stats().fast_count, 8); // eight in fast memory,
//! assert_eq!(map.get(&3)?, Some(30)); // and any of them comes back
//! assert_eq!(map.evict(), 8); // a memory monitor can ask for more
//! # Ok::<_, spill_core::Error>(())
//! ```
//!
//! # The parts
//!
//! - [`MutableMapping`] is the one interface: every layer and every backend is one, so that they go together in
//!   any order. [`ManualEvict`] is what a memory monitor needs of a mapping.
//! - [`Buffer`] keeps values in RAM up to a target and moves the least recently used to the mapping below.
//!   [`Lru`] is one without anything below. [`Func`] translates values by a [`Codec`], [`KeyMap`] keys.
//!   [`Cache`] keeps copies of what is slow to read, [`Sieve`] makes one mapping of several.
//! - [`Frames`] are the bytes of one value, passed on without being copied or joined. [`Pool`] recycles the
//!   memory that values are read into.
//! - `AsyncMutableMapping` (feature `tokio`) is the same interface for storage that answers later; `Blocking`
//!   and `Offload` lead from one to the other, and `AsyncBuffer` is a [`Buffer`] for tasks.
//! - [`Weigh`] says what a value takes, [`Usage`] what a mapping holds and where, [`Stats`] what it did.
//! - [`Error`] is sorted by what the caller can do about it.
//!
//! Why one trait of plain calls, and not a stream or a transaction: spilled values are read whole, by key, and
//! die with their process. A backend author writes seven methods, and feature `conformance` holds them to what
//! the documentation promises.
//!
//! # Dependencies
//!
//! Few, and none that does I/O: this crate never touches a file. Features: `tokio`, the asynchronous
//! half; `conformance`, the shared tests.

#[cfg(feature = "tokio")]
mod asynchronous;
mod buffer;
mod cache;
mod clock;
mod compose;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod evict;
mod frames;
mod func;
mod guard;
mod held;
mod key_codec;
mod key_map;
mod mapping;
mod pool;
#[cfg(all(test, shuttle))]
mod schedules;
mod sieve;
mod size;
mod stats;
mod sync;
mod table;
mod weight;

#[cfg(feature = "tokio")]
pub use asynchronous::{AsyncBuffer, AsyncMutableMapping, Blocking, Missing, Offload};
pub use buffer::{Buffer, BufferBuilder, FastMemory, Lru, Overflow, Ram, Shared, Stored};
pub use cache::Cache;
pub use clock::{Clock, ManualClock, SystemClock};
pub use compose::Compose;
pub use error::{Error, ErrorKind, Result};
pub use evict::ManualEvict;
pub use frames::Frames;
pub use func::{Codec, Func};
pub use get_size2::{GetSize, GetSizeTracker};
pub use key_codec::KeyCodec;
pub use key_map::{EncodedKeys, KeyMap};
pub use mapping::{Key, MappingExt, MutableMapping, Value};
pub use pool::{FRAME_ALIGN, Pool, PoolBuf};
pub use sieve::Sieve;
pub use size::{SpilledSize, Usage};
pub use stats::{Meter, Stats, Step};
pub use weight::{HeapSize, HeapWeigher, Weigh};
