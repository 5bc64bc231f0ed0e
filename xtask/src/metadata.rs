//! What cargo knows of the workspace's packages.

use serde_json::Value;

use crate::shell::{Failure, Line, Result};

/// A package of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// The oldest compiler it promises to build with.
    pub(crate) rust_version: Option<String>,
    /// Its features, sorted.
    pub(crate) features: Vec<String>,
    /// What it depends on, for whatever purpose.
    pub(crate) dependencies: Vec<Dependency>,
}

/// A line of a `[dependencies]` table, of whatever kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// The package depended on.
    pub(crate) name: String,
    /// Only for tests, examples and benchmarks.
    pub(crate) dev: bool,
    /// The platform or `cfg` it is limited to.
    pub(crate) target: Option<String>,
}

/// The packages of the workspace, sorted by name.
pub(crate) fn packages() -> Result<Vec<Package>> {
    parse(&Line::cargo("metadata --format-version 1 --no-deps").text()?)
}

fn parse(json: &str) -> Result<Vec<Package>> {
    let json: Value = serde_json::from_str(json)
        .map_err(|error| Failure::Failed(format!("`cargo metadata` gave no JSON: {error}")))?;
    let mut packages: Vec<Package> = items(&json["packages"]).iter().map(package).collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

fn package(json: &Value) -> Package {
    let mut features: Vec<String> =
        json["features"].as_object().map(|all| all.keys().cloned().collect()).unwrap_or_default();
    features.sort();
    Package {
        name: text(&json["name"]).unwrap_or_default(),
        rust_version: text(&json["rust_version"]),
        features,
        dependencies: items(&json["dependencies"])
            .iter()
            .map(|json| Dependency {
                name: text(&json["name"]).unwrap_or_default(),
                dev: json["kind"] == "dev",
                target: text(&json["target"]),
            })
            .collect(),
    }
}

fn items(json: &Value) -> &[Value] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn text(json: &Value) -> Option<String> {
    json.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_cargo_says() {
        let packages = parse(
            r#"{"packages": [
                {"name": "b", "rust_version": "1.95", "features": {"default": ["x"], "a": []}, "dependencies": [
                    {"name": "bytes", "kind": null, "target": null},
                    {"name": "shuttle", "kind": null, "target": "cfg(shuttle)"},
                    {"name": "proptest", "kind": "dev", "target": null}]},
                {"name": "a", "rust_version": null, "features": {}, "dependencies": []}]}"#,
        )
        .unwrap();
        let names: Vec<_> = packages.iter().map(|package| package.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(packages[1].features, ["a", "default"]);
        assert_eq!(packages[1].rust_version.as_deref(), Some("1.95"));
        let dev: Vec<_> = packages[1].dependencies.iter().map(|dependency| dependency.dev).collect();
        assert_eq!(dev, [false, false, true]);
        assert_eq!(packages[1].dependencies[1].target.as_deref(), Some("cfg(shuttle)"));
    }

    #[test]
    fn refuses_what_is_no_json() {
        assert!(parse("error: no such command").is_err());
    }
}
