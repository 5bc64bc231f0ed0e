//! Workers and their nanny from end to end: real processes, real memory.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]
#![expect(clippy::disallowed_methods, reason = "what programs say is read by threads that end with them")]

/// What the modules of the examples call the same.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[path = "../built/mod.rs"]
mod built;
mod control_group;
mod hungry;
mod nanny;
mod queue;
mod support;
