//! Larger-than-memory mappings: the traits and the layers.
//!
//! (to be opened with a runnable example)

mod buffer;
mod clock;
mod compose;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod evict;
mod frames;
mod func;
mod guard;
mod mapping;
mod pool;
#[cfg(all(test, shuttle))]
mod schedules;
mod size;
mod stats;
mod sync;
mod table;
mod weight;

pub use buffer::{Buffer, BufferBuilder, Lru, Overflow};
pub use clock::{Clock, ManualClock, SystemClock};
pub use compose::Compose;
pub use error::{Error, ErrorKind, Result};
pub use evict::ManualEvict;
pub use frames::Frames;
pub use func::{Codec, Func};
pub use mapping::{Key, MappingExt, MutableMapping, Value};
pub use pool::{FRAME_ALIGN, Pool, PoolBuf};
pub use size::{SpilledSize, Usage};
pub use stats::{Meter, Stats, Step};
pub use weight::{HeapSize, HeapWeigher, Weigh};
