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
    // Full disks are tested on a file system that is too small, and the page cache is asked what it holds.
    ("mkfs.ext4", "-V", "e2fsprogs"),
    ("fincore", "--version", "util-linux-extra"),
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
    let missing = missing.join(" ");
    if Line::new("rustup", &format!("component add {missing}")).succeeds() {
        return Ok(());
    }
    Err(Failure::Person(format!(
        "missing from the Rust toolchain: {missing}; to install: rustup component add {missing}"
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
        return Err(by_a_person(&packages));
    }
    let apt = |args: &str| Line::new("apt-get", args).env("DEBIAN_FRONTEND", "noninteractive").run();
    apt("update")?;
    apt(&format!("install --yes --no-install-recommends {packages}"))
}

fn by_a_person(packages: &str) -> Failure {
    Failure::Person(format!(
        "missing on this machine: {packages}; to install: sudo sh -c 'apt-get update && apt-get install --yes \
         --no-install-recommends {packages}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_rights_a_person_is_told_the_command() {
        let Failure::Person(text) = by_a_person("git e2fsprogs") else { unreachable!("a person must do it") };
        assert!(
            text.ends_with(
                "sudo sh -c 'apt-get update && apt-get install --yes --no-install-recommends git e2fsprogs'"
            ),
            "{text}"
        );
    }

    #[test]
    fn what_works_is_not_installed() {
        debian(&[("true", "", "no-such-package")]).unwrap();
    }
}
