//! Each feature alone: every crate builds with it, and a program outside the workspace can use what it brings.

use std::path::Path;

use crate::metadata::{self, Package};
use crate::shell::{self, Line, Result, failed};
use crate::steps::Context;

/// Where the programs that use the facade are made.
const FOLDER: &str = "target/consumer";

/// What a user of the facade does with each of its features; the empty name is no feature at all.
const CONSUMERS: &[(&str, &str)] = &[
    ("", include_str!("../consumer/core.rs")),
    ("disk", include_str!("../consumer/disk.rs")),
    ("compress", include_str!("../consumer/compress.rs")),
    ("arrow", include_str!("../consumer/arrow.rs")),
    ("rkyv", include_str!("../consumer/rkyv.rs")),
    ("serde", include_str!("../consumer/serde.rs")),
    ("tokio", include_str!("../consumer/tokio.rs")),
    ("worker", include_str!("../consumer/worker.rs")),
    ("dashboard", include_str!("../consumer/dashboard.rs")),
    ("object", include_str!("../consumer/object.rs")),
    ("aws", include_str!("../consumer/object.rs")),
    ("gcp", include_str!("../consumer/object.rs")),
    ("azure", include_str!("../consumer/object.rs")),
    ("cli", include_str!("../consumer/worker.rs")),
    ("conformance", include_str!("../consumer/conformance.rs")),
];

/// Builds each crate with each of its features alone, then runs the consumers.
pub(crate) fn run(context: &Context) -> Result {
    let packages = metadata::packages()?;
    without_storage()?;
    for package in packages.iter().filter(|package| package.name != "xtask") {
        for feature in alone(package) {
            let feature = if feature.is_empty() { String::new() } else { format!("--features {feature}") };
            Line::cargo(&format!("check -p {} --no-default-features {feature}", package.name)).run()?;
        }
    }
    let facade = packages.iter().find(|package| package.name == "overspill");
    let Some(facade) = facade else { return failed("the workspace has no package `overspill`") };
    for feature in alone(facade) {
        let Some((_, test)) = CONSUMERS.iter().find(|(known, _)| *known == feature) else {
            return failed(format!("feature {feature}: show its use in xtask/consumer/ and features.rs"));
        };
        let manifest = consumer(&context.root, feature, test)?;
        let line = Line::cargo(&format!("test --lib --manifest-path {manifest} --target-dir {FOLDER}/build"));
        // no debug information: a dozen programs are built to be run once
        line.env("CARGO_PROFILE_DEV_DEBUG", "0").run()?;
    }
    Ok(())
}

/// A core alone brings no storage with it.
fn without_storage() -> Result {
    let tree =
        Line::cargo("tree -p overspill --no-default-features --edges normal --prefix none --format {lib}");
    let tree = tree.text()?;
    match tree.lines().find(|name| name.starts_with("spill_") && *name != "spill_core") {
        Some(name) => failed(format!("the facade without features depends on {name}")),
        None if tree.lines().any(|name| name == "spill_core") => Ok(()),
        None => failed(format!("cargo does not say what the facade depends on: {tree}")),
    }
}

/// No feature, then each by itself.
fn alone(package: &Package) -> Vec<&str> {
    let features = package.features.iter().map(String::as_str).filter(|feature| *feature != "default");
    std::iter::once("").chain(features).collect()
}

/// Makes a package that depends on the facade with `feature` only and holds `test`; its manifest's path, seen
/// from the workspace.
fn consumer(root: &Path, feature: &str, test: &str) -> Result<String> {
    let name = if feature.is_empty() { "core" } else { feature };
    let folder = format!("{FOLDER}/{name}");
    let manifest = format!("{folder}/Cargo.toml");
    let features = if feature.is_empty() { String::new() } else { format!("\"{feature}\"") };
    shell::write(
        &root.join(&manifest),
        &format!(
            "[workspace]\n\n\
             [package]\nname = \"consumer-{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\npublish = false\n\n\
             [lib]\npath = \"lib.rs\"\n\n\
             [dependencies]\n\
             overspill = {{ path = \"../../..\", default-features = false, features = [{features}] }}\n\n\
             [profile.dev]\ndebug = false\n"
        ),
    )?;
    shell::write(&root.join(&folder).join("lib.rs"), test)?;
    // The same versions as the workspace tests with; cargo drops what the consumer does not need.
    shell::write(&root.join(&folder).join("Cargo.lock"), &shell::read(&root.join("Cargo.lock"))?)?;
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_taken_alone_and_none_as_well() {
        let package = Package {
            name: "overspill".to_owned(),
            rust_version: None,
            features: ["compress", "default", "disk"].map(str::to_owned).to_vec(),
            dependencies: Vec::new(),
        };
        assert_eq!(alone(&package), ["", "compress", "disk"]);
    }

    #[test]
    fn a_consumer_depends_on_the_facade_with_one_feature() {
        let root = tempfile::tempdir().unwrap();
        shell::write(&root.path().join("Cargo.lock"), "version = 4\n").unwrap();
        let manifest = consumer(root.path(), "disk", "#[test] fn t() {}").unwrap();
        assert_eq!(manifest, "target/consumer/disk/Cargo.toml");
        let text = shell::read(&root.path().join(manifest)).unwrap();
        assert!(text.contains("default-features = false, features = [\"disk\"] }"), "{text}");
    }
}
