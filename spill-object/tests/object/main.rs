//! Behaviour of `Objects` over stores that work, fail, and speak S3.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod buffer;
mod conformance;
mod failures;
mod lease;
mod machine;
mod packing;
#[cfg(feature = "aws")]
mod s3;
mod space;
mod support;
#[cfg(feature = "aws")]
mod wire;
