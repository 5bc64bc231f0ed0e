//! The asynchronous half (feature `tokio`): a trait for storage that answers later, and adapters to and from
//! [`MutableMapping`](crate::MutableMapping).
//!
//! `host.rs` holds what the adapters share: where calls run, and how they end when it is closed.

mod blocking;
mod buffer;
mod host;
mod mapping;
mod offload;

pub use blocking::Blocking;
pub use buffer::{AsyncBuffer, Missing};
pub use mapping::AsyncMutableMapping;
pub use offload::Offload;

use crate::{Error, Result};

/// What each call of a batch of `count` returned, where the batch as a whole may have failed.
fn each<T>(count: usize, outcome: Result<Vec<Result<T>>>) -> Vec<Result<T>> {
    let all = |error: Error| (0..count).map(|_| Err(error.clone())).collect();
    outcome.unwrap_or_else(all)
}
