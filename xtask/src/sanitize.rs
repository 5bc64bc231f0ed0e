//! The unsafe code, run where a wrong access is noticed: under AddressSanitizer, else under valgrind.

use crate::install;
use crate::shell::{Failure, Line, Result};
use crate::steps::Context;

/// The packages with unsafe code, and their tests that reach it.
const TESTS: [&str; 10] = [
    "-p spill-codec --features rkyv --test archive",
    "-p spill-compress --lib shuffle",
    "-p spill-core --lib ahead",
    "-p spill-core --lib positions",
    "-p spill-core --lib table::places",
    "-p spill-disk --lib io::mapping",
    "-p spill-disk --lib io::page_cache",
    "-p spill-disk --test disk mapped::files",
    "-p spill-worker --lib trim::allocator",
    "-p spill-worker --lib nanny::bound",
];

/// Builds of another compiler with other flags, kept apart so that neither spoils what the other made.
const FOLDER: &str = "target/asan";

/// Runs the tests with what the machine has.
pub(crate) fn run(_: &Context) -> Result {
    let nightly = Line::new("rustc", "+nightly --version --verbose").text().ok();
    let host = nightly.as_deref().and_then(host);
    match host {
        Some(host) if has_runtime(host) => each(|tests| sanitized(tests, host).run()),
        _ => {
            install::debian(&[("valgrind", "--version", "valgrind")])?;
            let stable = Line::new("rustc", "--version --verbose").text()?;
            let host = host_of(&stable)?;
            each(|tests| watched(tests, host).run())
        }
    }
}

fn each(run: impl Fn(&str) -> Result) -> Result {
    TESTS.into_iter().try_for_each(run)
}

fn host_of(version: &str) -> Result<&str> {
    host(version).ok_or_else(|| Failure::Failed(format!("rustc does not say its host: {version}")))
}

/// The platform that a compiler builds for, of what `rustc --version --verbose` prints.
fn host(version: &str) -> Option<&str> {
    version.lines().find_map(|line| line.strip_prefix("host: "))
}

/// Whether the nightly compiler came with the sanitizer's runtime; not every platform has it.
fn has_runtime(host: &str) -> bool {
    let folder = Line::new("rustc", &format!("+nightly --print target-libdir --target {host}")).text();
    let files = folder.ok().and_then(|folder| std::fs::read_dir(folder.trim()).ok());
    files.is_some_and(|mut files| {
        files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().ends_with("_rt.asan.a")))
    })
}

/// With a target named, the flags are for what runs under the sanitizer and not for build scripts.
fn sanitized(tests: &str, host: &str) -> Line {
    Line::cargo(&format!("+nightly test {tests} --target {host} --target-dir {FOLDER}"))
        .env("RUSTFLAGS", "-Zsanitizer=address")
}

/// Each access is looked at as it is made, which is slow: fewer cases.
fn watched(tests: &str, host: &str) -> Line {
    let runner = format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace(['-', '.'], "_"));
    Line::cargo(&format!("test {tests}"))
        .env(&runner, "valgrind --quiet --error-exitcode=1")
        .env("PROPTEST_CASES", "16")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_found_in_what_the_compiler_says() {
        let version =
            "rustc 1.99.0-nightly\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\nrelease: 1.99.0\n";
        assert_eq!(host(version), Some("x86_64-unknown-linux-gnu"));
        assert!(host_of("rustc 1.99.0").is_err());
    }

    #[test]
    fn valgrind_runs_the_tests_of_the_host() {
        let line = watched(TESTS[0], "x86_64-unknown-linux-gnu").to_string();
        assert!(line.contains("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='valgrind "), "{line}");
        assert!(line.ends_with("--test archive"), "{line}");
    }
}
