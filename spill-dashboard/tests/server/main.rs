//! The server over real sockets: what it answers, whom it refuses, and that nobody holds it up.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod bounds;
mod common;
#[cfg(target_os = "linux")]
mod local;
mod refusals;
