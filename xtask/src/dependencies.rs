//! Which crate may depend on which: the arrows point toward `spill-core`, and `spill-core` stays small.

use crate::metadata::{self, Package};
use crate::shell::{Result, failed};

/// The siblings that each crate may depend on, for whatever purpose; `None` is any of them. Tests that put
/// several layers together belong in the facade's `tests/`.
const SIBLINGS: &[(&str, Option<&[&str]>)] = &[
    ("spill-core", Some(&["spill-core"])), // itself, for its tests, with the conformance suite switched on
    ("spill-codec", Some(&["spill-core"])),
    ("spill-compress", Some(&["spill-core"])),
    ("spill-disk", Some(&["spill-core"])),
    ("spill-object", Some(&["spill-core"])),
    ("spill-worker", Some(&["spill-core"])),
    ("spill-dashboard", Some(&["spill-core", "spill-worker"])),
    ("spill-py", None),
    ("overspill", None),
    ("xtask", Some(&[])),
];

/// What `spill-core` may pull into a program that uses it.
const CORE: &[&str] = &[
    "async-trait",
    "bytes",
    "bytesize",
    "get-size2",
    "hashbrown",
    "parking_lot",
    "thiserror",
    "tokio",
    "tracing",
];

/// Checks both rules.
pub(crate) fn run() -> Result {
    let problems = problems(&metadata::packages()?);
    if problems.is_empty() { Ok(()) } else { failed(problems.join("\n")) }
}

fn problems(packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages {
        let name = package.name.as_str();
        let Some((_, allowed)) = SIBLINGS.iter().find(|(known, _)| *known == name) else {
            problems.push(format!("{name}: say in xtask/src/dependencies.rs what it may depend on"));
            continue;
        };
        for dependency in &package.dependencies {
            let on = dependency.name.as_str();
            let sibling = packages.iter().any(|package| package.name == on);
            if sibling && allowed.is_some_and(|allowed| !allowed.contains(&on)) {
                problems.push(format!("{name} depends on {on}: arrows point toward spill-core only"));
            }
            // Only a build that explores schedules has `cfg(shuttle)`; no program ever does.
            let in_programs = !dependency.dev && dependency.target.as_deref() != Some("cfg(shuttle)");
            if name == "spill-core" && !sibling && in_programs && !CORE.contains(&on) {
                problems
                    .push(format!("spill-core depends on {on}: it may depend on {} only", CORE.join(", ")));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn package(name: &str, dependencies: &[(&str, bool, Option<&str>)]) -> Package {
        Package {
            name: name.to_owned(),
            rust_version: None,
            features: Vec::new(),
            dependencies: dependencies
                .iter()
                .map(|(name, dev, target)| Dependency {
                    name: (*name).to_owned(),
                    dev: *dev,
                    target: target.map(str::to_owned),
                })
                .collect(),
        }
    }

    #[test]
    fn arrows_point_toward_the_core() {
        let core = package("spill-core", &[("spill-core", true, None)]);
        let disk = package("spill-disk", &[("spill-core", false, None), ("rustix", false, None)]);
        let facade = package("overspill", &[("spill-disk", false, None), ("spill-core", false, None)]);
        assert_eq!(problems(&[core.clone(), disk.clone(), facade.clone()]), [""; 0]);

        let compress = package("spill-compress", &[("spill-disk", true, None)]);
        let found = problems(&[core, disk, facade, compress]);
        assert_eq!(found, ["spill-compress depends on spill-disk: arrows point toward spill-core only"]);
    }

    #[test]
    fn the_core_stays_small() {
        let core = package(
            "spill-core",
            &[("bytes", false, None), ("proptest", true, None), ("shuttle", false, Some("cfg(shuttle)"))],
        );
        assert_eq!(problems(&[core]), [""; 0]);
        let found = problems(&[package("spill-core", &[("serde", false, None)])]);
        assert!(found[0].starts_with("spill-core depends on serde"), "{found:?}");
    }

    #[test]
    fn a_new_crate_must_be_given_its_place() {
        let found = problems(&[package("spill-new", &[])]);
        assert!(found[0].starts_with("spill-new: say"), "{found:?}");
    }
}
