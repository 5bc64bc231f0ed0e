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
//! - [`Frames`] are the bytes of one value, passed on without being copied or joined. [`Pool`] recycles the
//!   memory that values are read into.
//! - `AsyncMutableMapping` (feature `tokio`) is the same interface for storage that answers later; `Blocking`
//!   and `Offload` lead from one to the other, and `AsyncBuffer` is a [`Buffer`] for tasks.
//! - [`Weigh`] says what a value takes, [`Usage`] what a mapping holds and where, [`Stats`] what it did.
//! - [`Error`] is sorted by what the caller can do about it.
//!
//! # Which layer when
//!
//! Start with what the program wants to hold and with where it may lie, and put between them what is missing. Each
//! layer is a mapping over a mapping, and [`Compose`] writes the chain from storage upwards:
//!
//! ```text
//!  get, insert, update ...                      a program's own keys and values
//!         |
//!      Buffer  ---- evict() <-- memory monitor  in RAM up to a target; the least recently used go down
//!         |
//!       Func                                    values <-> frames, by a codec
//!         |
//!  Buffer, Stored ---- evict()                  on disk up to a target of its own; the rest goes further down
//!     |        |
//! Compress  Compress                            smaller records (in `spill-compress`)
//!     |        |
//! Segments  Objects                             segment files, an object store (`spill-disk`, `spill-object`)
//! ```
//!
//! - Data that does not fit in RAM and must not be lost: a [`Buffer`]. It is the layer that has a target, knows what
//!   was used last, and answers hits without touching what is below. Put it where values have the form in which they
//!   are used, above the codec, so that a hit decodes nothing.
//! - A disk that is too small as well: two of them, the lower one with [`Stored`] fast memory
//!   ([`BufferBuilder::stored`], [`Compose::behind`]). Each level has its target, its `evict()` and its [`Usage`]; put
//!   compression below the lower one, so that its target counts the bytes that the disk holds.
//! - Data that may be forgotten since it can be made again: an [`Lru`], which is a buffer with nothing below.
//! - Values that storage cannot take as they are: a [`Func`] with a [`Codec`]. It holds nothing and costs what the
//!   codec costs; the weigher goes into it too ([`Func::weighed_by`]), so that storage can say what values weighed.
//! - Data that lives elsewhere, complete, and is slow to read: a [`Cache`] in front of it. Unlike a buffer it writes
//!   through: nothing is ever in the cache alone, and the cache may lose whatever it likes.
//! - Pairs that belong in different places by what they are, not by when they were used: a [`Sieve`]. Large values into
//!   files, small ones into segments; some keys here and others there.
//! - Keys of another type than storage has: a [`KeyMap`], which keeps no key of its own.
//!
//! Which goes above which? A hit pays for every layer above the buffer, a miss for those below as well. So what is
//! cheap and always needed ([`KeyMap`]) can stand above, and what costs ([`Func`], compression) stands below. A `Cache`
//! over a `Buffer` keeps values twice, and a `Buffer` over a `Cache` is right where storage is remote.
//!
//! What threads may expect of each other is told by each layer under *Threads: what is locked, what is not, who wins*.
//! In short: no layer holds a lock while storage, a codec, a weigher or an observer runs; a write wins over whatever
//! was on its way of the same key; nobody who is served from RAM waits for storage.
//!
//! Why one trait of plain calls, and not a stream or a transaction: spilled values are read whole, by key, and
//! die with their process. A backend author writes seven methods, and feature `conformance` holds them to what
//! the documentation promises.
//!
//! # Dependencies
//!
//! Few, and none that does I/O: this crate never touches a file. Features: `tokio`, the asynchronous
//! half; `conformance`, the shared tests.

mod ahead;
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
mod positions;
#[cfg(all(test, shuttle))]
mod schedules;
mod sieve;
mod size;
mod stats;
mod sync;
mod table;
mod weight;

#[doc(hidden)] // for spill-disk
pub use ahead::fetch_ahead;
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
#[doc(hidden)] // for spill-disk
pub use positions::Positions;
pub use sieve::Sieve;
pub use size::{SpilledSize, Usage};
pub use stats::{Meter, Stats, Step};
pub use weight::{HeapSize, HeapWeigher, Weigh};
