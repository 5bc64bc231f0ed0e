//! The Python package: its wheel is built and put into an environment of its own, where its tests run, its unsafe
//! code is watched and its types are checked.

use crate::shell::{self, Line, Result};
use crate::steps::Context;

/// The environment, and the versions that it holds.
const ENVIRONMENT: &str = "target/py-venv";
const REQUIREMENTS: &str = "spill-py/requirements.txt";

/// Where the wheel is built.
const TARGET: &str = "target/py";

/// Makes the environment, builds the wheel, and runs pytest, valgrind and mypy.
pub(crate) fn run(context: &Context) -> Result {
    environment(context)?;
    let wheels = context.root.join(TARGET).join("wheels");
    // a wheel of an older version would be found beside the new one
    if wheels.exists() {
        std::fs::remove_dir_all(&wheels)
            .or_else(|error| shell::failed(format!("cannot remove {}: {error}", wheels.display())))?;
    }
    tool("maturin", &format!("build --release --manifest-path spill-py/Cargo.toml --out {TARGET}/wheels"))
        .env("CARGO_TARGET_DIR", TARGET)
        .env("VIRTUAL_ENV", ENVIRONMENT)
        .run()?;
    tool(
        "pip",
        &format!(
            "install --quiet --force-reinstall --no-deps --no-index --find-links {TARGET}/wheels overspill"
        ),
    )
    .run()?;
    tool("python", "-m pytest -q -p no:cacheprovider -c spill-py/pyproject.toml spill-py/tests").run()?;
    watched(context)?;
    // What an example answers, held against polars. Of the whole workspace, whose features are built already.
    Line::cargo("nextest run --workspace --all-features --test columns --run-ignored only")
        .env("OVERSPILL_TEST_PYTHON", &context.root.join(ENVIRONMENT).join("bin/python").to_string_lossy())
        .run()?;
    tool("mypy", &format!("--strict --cache-dir {TARGET}/mypy -p overspill")).run()
}

/// Memory that crosses the boundary between Python and Rust, with each access looked at.
fn watched(context: &Context) -> Result {
    if !Line::new("valgrind", "--version").succeeds() {
        context.notice("the unsafe code of spill-py was not watched: valgrind is not installed");
        return Ok(());
    }
    Line::new(
        "valgrind",
        &format!(
            "--quiet --undef-value-errors=no --error-exitcode=9 --suppressions=spill-py/tests/valgrind.supp \
             {ENVIRONMENT}/bin/python spill-py/tests/touch_memory.py"
        ),
    )
    .env("PYTHONMALLOC", "malloc")
    .run()
}

/// Installs what the requirements name, unless that was done with the same file.
fn environment(context: &Context) -> Result {
    let wanted = shell::read(&context.root.join(REQUIREMENTS))?;
    let done = context.root.join(ENVIRONMENT).join("requirements.txt");
    if std::fs::read_to_string(&done).is_ok_and(|done| done == wanted) {
        return Ok(());
    }
    Line::new("python3", &format!("-m venv {ENVIRONMENT}")).run()?;
    tool("pip", &format!("install --quiet -r {REQUIREMENTS}")).run()?;
    shell::write(&done, &wanted)
}

/// A program of the environment.
fn tool(name: &str, args: &str) -> Line {
    Line::new(&format!("{ENVIRONMENT}/bin/{name}"), args)
}
