//! What the tests need on the machine: installed here, or the exact command a person must run.

use crate::shell::{Failure, Line, Result};

/// Cargo's own subcommands, from crates.io: the subcommand, and the package that brings it.
const CARGO: &[(&str, &str)] = &[("nextest", "cargo-nextest"), ("deny", "cargo-deny")];

/// Parts of the Rust toolchain: the subcommand, and the rustup component that brings it.
const COMPONENTS: &[(&str, &str)] = &[("fmt", "rustfmt"), ("clippy", "clippy")];

/// Programs from Debian's packages: the program, arguments that show that it works, and the package that brings it.
const DEBIAN: &[(&str, &str, &str)] = &[
    ("git", "--version", "git"),
    ("python3", "-m ensurepip --version", "python3-venv"),
    // Workers are tested under it.
    ("dpkg", "--status libjemalloc2", "libjemalloc2"),
];

/// Installs what is missing.
pub(crate) fn run() -> Result {
    components()?;
    debian(DEBIAN)?;
    for (subcommand, package) in CARGO {
        if !Line::cargo(&format!("{subcommand} --version")).succeeds() {
            Line::cargo(&format!("install {package} --locked")).run()?;
        }
    }
    Ok(())
}

fn components() -> Result {
    let missing: Vec<&str> = COMPONENTS
        .iter()
        .filter(|(subcommand, _)| !Line::cargo(&format!("{subcommand} --version")).succeeds())
        .map(|(_, component)| *component)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::Person(format!(
        "missing from the Rust toolchain: {0}; to install: rustup component add {0}",
        missing.join(" ")
    )))
}

/// Installs the packages of the programs that cannot be run, as root; without the rights a person must do it.
pub(crate) fn debian(programs: &[(&str, &str, &str)]) -> Result {
    let missing: Vec<&str> = programs
        .iter()
        .filter(|(program, works, _)| !Line::new(program, works).succeeds())
        .map(|(.., package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let is_root = Line::new("id", "-u").text().is_ok_and(|id| id.trim() == "0");
    if !is_root {
        return Err(Failure::Person(format!(
            "missing on this machine: {packages}; to install: sudo sh -c 'apt-get update && apt-get install \
             --yes --no-install-recommends {packages}'"
        )));
    }
    let apt = |args: &str| Line::new("apt-get", args).env("DEBIAN_FRONTEND", "noninteractive").run();
    apt("update")?;
    apt(&format!("install --yes --no-install-recommends {packages}"))
}
