//! Object stores at the end of chains, and what the command does with them.
#![expect(clippy::unwrap_used, reason = "tests")]

mod chains;
#[cfg(feature = "aws")]
mod example;
#[cfg(all(feature = "aws", feature = "cli"))]
mod purge;
mod tiers;
#[cfg(feature = "aws")]
#[expect(dead_code, reason = "its `main` is not called here")]
#[path = "../../examples/tiers/main.rs"]
mod tiers_example;
