//! `cargo xtask bench`: the benchmarks, which are a workspace of their own so that no build, lint or test ever
//! compiles the peers they are held against.

use crate::shell::{Line, Result};

/// Builds and runs the benchmarks named, or all.
pub(crate) fn run(names: &[String]) -> Result {
    Line::cargo("run --release --manifest-path bench/Cargo.toml --target-dir target/bench --")
        .args(names.iter().cloned())
        .run()
}
