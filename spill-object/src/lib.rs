//! S3 and other object stores as slow memory.
//!
//! [`Objects`] is a mapping of keys to [`Frames`](spill_core::Frames) over any store that the crate `object_store`
//! speaks to: Amazon S3 and its like (feature `aws`), Google Cloud Storage (`gcp`), Azure Blob Storage (`azure`), a
//! directory, or memory. It is asynchronous by nature; [`Objects::blocking`] is the same for plain threads, and
//! stands below a [`Buffer`](spill_core::Buffer). [`Store`] says where, [`ObjectsConfig`] how. [`leftovers`] and
//! [`purge`] deal with what dead processes left.
//!
//! ```
//! use bytes::Bytes;
//! use spill_core::{BufferBuilder, Frames, MutableMapping};
//! use spill_object::{Objects, ObjectsConfig, Store};
//!
//! let storage = Objects::blocking(ObjectsConfig::new(Store::open("memory:///")?))?; // or "s3://bucket/prefix"
//! let map = BufferBuilder::new().target(1 << 20).over(storage)?;
//! for n in 0..1000_u32 {
//!     map.insert(n, Frames::from(Bytes::from(vec![n as u8; 4096])))?;
//! }
//! assert!(map.stats().fast_bytes <= 1 << 20);
//! assert_eq!(map.get(&3)?, Some(Frames::from(Bytes::from(vec![3; 4096]))));
//! map.close()?; // deletes the objects
//! # Ok::<_, spill_core::Error>(())
//! ```
//!
//! # What it is not
//!
//! It is no way to keep data: what is stored dies with its mapping, and nothing is ever found again by another
//! process. It is slow memory for more than a disk holds, with few requests, since those are what a store charges for.

mod client;
mod compact;
mod config;
mod ending;
mod failure;
mod index;
mod lease;
mod objects;
mod pack;
mod read;
mod retry;
mod shared;
mod stage;
mod state;
mod upload;
mod url;

pub use client::Requests;
pub use config::ObjectsConfig;
pub use lease::{Leftover, leftovers, purge};
pub use object_store;
pub use objects::Objects;
pub use url::Store;
