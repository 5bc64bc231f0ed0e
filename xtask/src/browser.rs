//! The dashboard's page: the committed bundle is what its sources are built into, and in a real browser it shows what
//! a person should see of a live nanny.

use std::collections::BTreeMap;
use std::path::Path;

use crate::install;
use crate::shell::{self, Failure, Line, Result, failed};
use crate::steps::Context;

/// The sources, and what they are built into: the one generated thing that is committed.
const SOURCES: &str = "spill-dashboard/web";
const BUNDLE: &str = "spill-dashboard/page";

/// Where it is built to be compared.
const BUILT: &str = "target/page";

/// Python's reader of Prometheus metrics: its environment, and its version.
const ENVIRONMENT: &str = "target/dashboard-venv";
const REQUIREMENTS: &str = "spill-dashboard/web/test/requirements.txt";

/// What the step needs: the program, arguments that show that it works, and Debian's package.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("node", "--version", "nodejs"),
    ("npm", "--version", "npm"),
    ("chromium", "--version", "chromium"),
    ("python3", "-m ensurepip --version", "python3-venv"),
];

/// The first version of node that the bundler runs with.
const NODE: [u32; 2] = [20, 19];

/// Builds the page and compares, builds the programs, and runs the tests.
pub(crate) fn run(context: &Context) -> Result {
    install::debian(PROGRAMS)?;
    node()?;
    Line::new("npm", &format!("--prefix {SOURCES} ci --no-audit --no-fund"))
        .env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1")
        .run()?;
    npm("run check").run()?;
    let built = context.root.join(BUILT);
    npm("run build --").args(["--outDir".to_owned(), built.display().to_string()]).run()?;
    compare(&context.root.join(BUNDLE), &built)?;
    python(context)?;
    Line::cargo("build -p overspill --all-features --bin overspill --example driven").run()?;
    Line::new("node", "--test --test-reporter=spec")
        .args(["page", "api"].map(|name| format!("{SOURCES}/test/{name}.test.mjs")))
        .env("OVERSPILL_PYTHON", &context.root.join(ENVIRONMENT).join("bin/python").display().to_string())
        .run()
}

fn npm(args: &str) -> Line {
    Line::new("npm", &format!("--prefix {SOURCES} {args}"))
}

fn node() -> Result {
    let said = Line::new("node", "--version").text()?;
    if version(&said).is_some_and(|version| version >= NODE) {
        return Ok(());
    }
    Err(Failure::Person(format!(
        "the page is built with node {}.{} or later, and this is {}; to install: https://nodejs.org/en/download",
        NODE[0],
        NODE[1],
        said.trim()
    )))
}

fn version(said: &str) -> Option<[u32; 2]> {
    let mut parts = said.trim().strip_prefix('v')?.split('.');
    Some([parts.next()?.parse().ok()?, parts.next()?.parse().ok()?])
}

/// Fails unless both folders hold the same files.
fn compare(committed: &Path, built: &Path) -> Result {
    let (committed, built) = (files(committed)?, files(built)?);
    let differ: Vec<&str> = committed
        .keys()
        .chain(built.keys())
        .filter(|name| committed.get(*name) != built.get(*name))
        .map(String::as_str)
        .collect();
    if differ.is_empty() {
        return Ok(());
    }
    failed(format!(
        "{BUNDLE} is not what {SOURCES} is built into ({}); to build it: npm --prefix {SOURCES} run build",
        differ.join(", ")
    ))
}

fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let unreadable = |error| Failure::Failed(format!("cannot read {}: {error}", folder.display()));
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let bytes = std::fs::read(entry.path()).map_err(unreadable)?;
        found.insert(entry.file_name().to_string_lossy().into_owned(), bytes);
    }
    Ok(found)
}

/// An environment with what the requirements name, unless that was made with the same file.
fn python(context: &Context) -> Result {
    let wanted = shell::read(&context.root.join(REQUIREMENTS))?;
    let done = context.root.join(ENVIRONMENT).join("requirements.txt");
    if std::fs::read_to_string(&done).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    Line::new("python3", &format!("-m venv {ENVIRONMENT}")).run()?;
    Line::new(&format!("{ENVIRONMENT}/bin/pip"), &format!("install --quiet -r {REQUIREMENTS}")).run()?;
    shell::write(&done, &wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node_are_compared_as_numbers() {
        assert_eq!(version("v20.20.2\n"), Some([20, 20]));
        assert!(version("v18.19.0").unwrap() < NODE && version("v24.1.0").unwrap() > NODE);
        assert_eq!(version("20"), None);
    }

    #[test]
    fn a_bundle_that_differs_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        for path in [&one, &two] {
            shell::write(&path.join("page.js"), "1").unwrap();
        }
        assert!(compare(&one, &two).is_ok());
        shell::write(&two.join("page.js"), "2").unwrap();
        shell::write(&two.join("more.js"), "3").unwrap();
        let failure = compare(&one, &two).unwrap_err().to_string();
        assert!(failure.contains("more.js, page.js") || failure.contains("page.js, more.js"), "{failure}");
    }
}
