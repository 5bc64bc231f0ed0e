//! The oldest compiler that the manifests promise is one that really builds the workspace.

use crate::metadata;
use crate::shell::{self, Line, Result, failed};
use crate::steps::Context;

/// Checks that all manifests and clippy.toml state one version, and builds with it where it is installed.
pub(crate) fn run(context: &Context) -> Result {
    let mut stated: Vec<String> =
        metadata::packages()?.into_iter().map(|p| p.rust_version.unwrap_or_default()).collect();
    stated.dedup();
    let [stated] = stated.as_slice() else {
        return failed(format!("the packages state different rust-versions: {}", stated.join(", ")));
    };
    let clippy = shell::read(&context.root.join("clippy.toml"))?;
    let stated = full(stated);
    if !clippy.lines().any(|line| line.trim() == format!("msrv = \"{stated}\"")) {
        return failed(format!("clippy.toml must state msrv = \"{stated}\", as the manifests do"));
    }

    let running = Line::new("rustc", "--version").text()?;
    let running = running.split_whitespace().nth(1).unwrap_or_default();
    if running == stated {
        println!("rust-version {stated} is the running compiler, which the other steps build with");
        Ok(())
    } else if Line::new("rustup", &format!("run {stated} cargo --version")).succeeds() {
        Line::new("rustup", &format!("run {stated} cargo check --workspace --all-features")).run()
    } else {
        context.notice(format!(
            "the stated rust-version {stated} was not built with, since it is not installed (running: \
             {running}); to check it: rustup toolchain install {stated}"
        ));
        Ok(())
    }
}

/// `1.95` is the release `1.95.0`.
fn full(version: &str) -> String {
    if version.split('.').count() == 2 { format!("{version}.0") } else { version.to_owned() }
}
