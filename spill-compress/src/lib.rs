//! The compression layer: a mapping of [`Frames`](spill_core::Frames) over a mapping of smaller ones.
//!
//! [`Compress`] stands between a codec and storage. Each frame of a value is compressed by itself, so that the
//! boundaries stay and nothing is concatenated; a frame that does not get smaller is passed on as it is, not
//! copied. A small header frame, first in every stored value, says what was done to each frame, so that values
//! written by different compressors read back side by side.
//!
//! Which compressor: [`Adaptive`], the default, finds one for each frame. [`Lz4`] costs little and suits fast
//! disks; [`Zstd`] makes smaller records and suits slow disks and networks; both shuffle numbers first where
//! [`Compression::shuffled`] says so. [`NoCompression`] writes plain frames and still reads what the others
//! wrote. A [`Compression`] is any of them, also by name.
//!
//! ```
//! use bytes::Bytes;
//! use spill_compress::{Compress, Zstd};
//! use spill_core::{Frames, MutableMapping, Result};
//!
//! # #[cfg(not(feature = "zstd"))]
//! # fn main() {}
//! # #[cfg(feature = "zstd")]
//! fn main() -> Result<()> {
//!     // Any mapping of `Frames` will do: segment files, one file a key, an object store.
//!     let mapping = Compress::new(Zstd::new(1)?, Storage::default());
//!
//!     mapping.insert(1, Bytes::from(vec![7; 1 << 20]).into())?;
//!     assert_eq!(mapping.get(&1)?.map(|value| value.byte_len()), Some(1 << 20));
//!     assert!(mapping.inner().get(&1)?.is_some_and(|stored| stored.byte_len() < 1024));
//!     Ok(())
//! }
//! # #[derive(Default)]
//! # struct Storage(std::sync::Mutex<std::collections::BTreeMap<u64, Frames>>);
//! # impl MutableMapping<u64, Frames> for Storage {
//! #     fn get(&self, key: &u64) -> Result<Option<Frames>> { Ok(self.0.lock().unwrap().get(key).cloned()) }
//! #     fn insert(&self, key: u64, value: Frames) -> Result<()> {
//! #         self.0.lock().unwrap().insert(key, value);
//! #         Ok(())
//! #     }
//! #     fn remove(&self, key: &u64) -> Result<bool> { Ok(self.0.lock().unwrap().remove(key).is_some()) }
//! #     fn take(&self, key: &u64) -> Result<Option<Frames>> { Ok(self.0.lock().unwrap().remove(key)) }
//! #     fn contains_key(&self, key: &u64) -> bool { self.0.lock().unwrap().contains_key(key) }
//! #     fn len(&self) -> usize { self.0.lock().unwrap().len() }
//! #     fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
//! #         let keys: Vec<_> = self.0.lock().unwrap().keys().copied().collect();
//! #         keys.iter().for_each(f);
//! #     }
//! # }
//! ```
//!
//! Features: `lz4`, `zstd`, both on by default. A value whose compressor is not compiled in is an error that
//! names the feature.

mod adaptive;
mod blocks;
mod compression;
mod compressor;
mod header;
mod lanes;
mod layer;
#[cfg(feature = "lz4")]
mod lz4;
mod sample;
mod shuffle;
mod tally;
mod threads;
#[cfg(feature = "zstd")]
mod zstd;

pub use adaptive::Adaptive;
pub use compression::Compression;
pub use compressor::{Compressor, NoCompression};
pub use layer::{Compress, DEFAULT_MAX_VALUE_BYTES};
#[cfg(feature = "lz4")]
pub use lz4::{Lz4, Lz4Fast};
pub use shuffle::Width;
pub use tally::Tally;
#[cfg(feature = "zstd")]
pub use zstd::Zstd;
