//! `cargo xtask test`: everything that must hold before a change is handed in.

use crate::parity;
use crate::shell::{self, Failure, Line, Result};
use crate::steps::{self, Context, Extent, Step};
use crate::{browser, dependencies, features, install, links, msrv, python, room, sanitize, tree};

/// In order: what fails fast, and what others build upon, comes first.
const STEPS: &[Step] = &[
    Step { name: "room", proves: "the disk has room for what is built", quick: true, run: |_| room::run() },
    Step { name: "format", proves: "rustfmt would change nothing", quick: true, run: format },
    Step { name: "parity", proves: "numbered behaviours and tests agree", quick: true, run: run_parity },
    Step { name: "links", proves: "pages link to files that exist", quick: true, run: links::run },
    Step { name: "sizes", proves: "files hold one idea (notes only)", quick: false, run: tree::sizes },
    Step {
        name: "dependencies",
        proves: "arrows point toward spill-core, which stays small",
        quick: true,
        run: |_| dependencies::run(),
    },
    Step { name: "licences", proves: "licences, bans, sources, advisories", quick: false, run: licences },
    Step { name: "lints", proves: "clippy has nothing to say", quick: true, run: lints },
    Step { name: "msrv", proves: "the stated rust-version builds", quick: false, run: msrv::run },
    Step { name: "tests", proves: "unit and integration tests pass", quick: true, run: tests },
    Step { name: "doctests", proves: "examples in the documentation run", quick: true, run: doctests },
    Step { name: "docs", proves: "the documentation builds without warnings", quick: false, run: docs },
    Step { name: "shuttle", proves: "the buffer's rules hold in many schedules", quick: false, run: shuttle },
    Step {
        name: "sanitize",
        proves: "the unsafe code touches only its own memory",
        quick: false,
        run: sanitize::run,
    },
    Step {
        name: "features",
        proves: "each feature alone works for a user",
        quick: false,
        run: features::run,
    },
    Step {
        name: "python",
        proves: "the Python package builds, and works under Dask",
        quick: false,
        run: python::run,
    },
    Step {
        name: "browser",
        proves: "the dashboard's page is what it is built from, and shows what a person should see",
        quick: false,
        run: browser::run,
    },
    Step { name: "tree", proves: "the tests left nothing behind", quick: false, run: tree::clean },
];

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    extent: Extent,
    only: Vec<String>,
    list: bool,
}

impl Options {
    /// Reads the arguments behind `test`.
    pub(crate) fn parse(args: &[String]) -> Result<Self> {
        let mut options = Options::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => options.extent = Extent::Quick,
                "--long" => options.extent = Extent::Long,
                "--list" => options.list = true,
                "--only" => match args.next() {
                    Some(name) if STEPS.iter().any(|step| step.name == name) => {
                        options.only.push(name.clone())
                    }
                    name => {
                        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
                        return Err(Failure::Person(format!(
                            "--only needs one of these: {}; it was given {:?}",
                            names.join(", "),
                            name.map_or("", String::as_str)
                        )));
                    }
                },
                _ => return Err(Failure::Person(format!("`test` knows no {arg:?}; see `cargo xtask help`"))),
            }
        }
        Ok(options)
    }

    fn steps(&self) -> Vec<&'static Step> {
        STEPS
            .iter()
            .filter(|step| match self.only.as_slice() {
                [] => step.quick || self.extent != Extent::Quick,
                only => only.iter().any(|name| name == step.name),
            })
            .collect()
    }
}

/// Runs the steps asked for.
pub(crate) fn run(options: &Options) -> Result {
    if options.list {
        for step in STEPS {
            println!("{:<14} {}{}", step.name, step.proves, if step.quick { " (also --quick)" } else { "" });
        }
        return Ok(());
    }
    install::run()?;
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    let context = Context::new(shell::root(), options.extent, ci, tree::Status::now());
    steps::run(&context, &options.steps())
}

fn format(_: &Context) -> Result {
    Line::cargo("fmt --all --check").run()
}

fn run_parity(context: &Context) -> Result {
    parity::run(&context.root)
}

fn lints(context: &Context) -> Result {
    Line::cargo(match context.extent {
        Extent::Quick => "clippy --workspace --all-targets -- -D warnings",
        Extent::Full | Extent::Long => "clippy --workspace --all-targets --all-features -- -D warnings",
    })
    .run()
}

fn licences(context: &Context) -> Result {
    let deny = |checks: &str| Line::cargo(&format!("deny --workspace check --hide-inclusion-graph {checks}"));
    let fetched = Line::cargo("deny fetch db").output()?;
    if fetched.status.success() {
        return deny("").run();
    }
    // Where only package registries can be reached there is no advisory database. The rest is checked all
    // the same, and the gap is said.
    let reason = String::from_utf8_lossy(&fetched.stderr);
    let reason = reason.lines().find(|line| line.starts_with("fatal:")).or(reason.lines().last());
    context.notice(format!(
        "known vulnerabilities (advisories) were left out, since their database could not be fetched: {}",
        reason.unwrap_or("no reason given").trim()
    ));
    deny("licenses bans sources").run()
}

/// For how many seconds each fuzz target runs.
const FUZZ: &str = "OVERSPILL_FUZZ_SECONDS";

fn tests(context: &Context) -> Result {
    match context.extent {
        Extent::Quick => Line::cargo("nextest run --workspace --profile quick").env("PROPTEST_CASES", "32"),
        // A minute of arbitrary files, see spill-disk/tests/disk/fuzz.rs.
        Extent::Full => Line::cargo("nextest run --workspace --all-features").env(FUZZ, "60"),
        Extent::Long => soak("nextest run --workspace --all-features --profile long").env(FUZZ, "300"),
    }
    .args(["--test-threads".to_owned(), test_threads().to_string()])
    .run()
}

/// One more than there are processors: many tests wait for a server, a clock or a process.
fn test_threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from) + 1
}

fn doctests(context: &Context) -> Result {
    Line::cargo(match context.extent {
        Extent::Quick => "test --doc -p spill-core",
        Extent::Full | Extent::Long => "test --doc --workspace --all-features",
    })
    .run()
}

fn docs(_: &Context) -> Result {
    Line::cargo("doc --workspace --no-deps --all-features").env("RUSTDOCFLAGS", "-D warnings").run()
}

fn shuttle(context: &Context) -> Result {
    let args = "nextest run -p spill-core --features conformance --lib --cargo-profile shuttle";
    match context.extent {
        Extent::Long => soak(args).args(["--profile", "long"].map(str::to_owned)),
        Extent::Quick | Extent::Full => Line::cargo(args),
    }
    .args(["-E", "test(schedules::)"].map(str::to_owned))
    .env("RUSTFLAGS", "--cfg shuttle")
    .run()
}

/// A line whose tests run as long as they can make use of.
fn soak(args: &str) -> Line {
    Line::cargo(args).env("OVERSPILL_TEST_LONG", "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options> {
        Options::parse(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_short_form_runs_a_part_and_the_full_form_everything() {
        let quick = parse(&["--quick"]).unwrap().steps();
        assert!(quick.iter().all(|step| step.quick));
        assert_eq!(parse(&[]).unwrap().steps().len(), STEPS.len());
        assert_eq!(parse(&["--long"]).unwrap().steps().len(), STEPS.len());
    }

    #[test]
    fn only_names_steps_whatever_the_form() {
        let names: Vec<_> =
            parse(&["--quick", "--only", "shuttle"]).unwrap().steps().iter().map(|step| step.name).collect();
        assert_eq!(names, ["shuttle"]);
    }

    #[test]
    fn a_wrong_command_line_needs_a_person() {
        for args in [&["--only"][..], &["--only", "nothing"], &["--fast"], &["quick"]] {
            assert!(matches!(parse(args), Err(Failure::Person(_))), "{args:?}");
        }
    }
}
