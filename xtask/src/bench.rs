//! `cargo xtask bench`: the benchmarks, which are a workspace of their own so that no build, lint or test ever
//! compiles the peers they are held against.

use crate::shell::{Line, Result};

/// What makes a fair peer of c-blosc2, whose build otherwise leaves out its fastest shuffle.
const AVX2: &str = "-mavx2 -DSHUFFLE_AVX2_ENABLED=1";

/// Builds and runs the benchmarks named, or all.
pub(crate) fn run(names: &[String]) -> Result {
    let line = Line::cargo("run --release --manifest-path bench/Cargo.toml --target-dir target/bench --");
    let line = if cfg!(target_arch = "x86_64") { line.env("CFLAGS", AVX2) } else { line };
    line.args(names.iter().cloned()).run()
}
