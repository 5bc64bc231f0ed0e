//! The layer from outside: one binary, since each links for seconds.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(all(feature = "lz4", feature = "zstd"))]
mod adaptive;
mod conformance;
#[cfg(all(feature = "lz4", feature = "zstd"))]
mod fuzz;
#[cfg(all(feature = "lz4", feature = "zstd"))]
mod hostile;
#[cfg(all(feature = "lz4", feature = "zstd"))]
mod layer;
mod memory;
#[cfg(not(all(feature = "lz4", feature = "zstd")))]
mod missing;
mod samples;
#[cfg(all(feature = "lz4", feature = "zstd"))]
mod sizes;
