//! The commands people type: `cargo xtask test`, `cargo xtask bench`, `cargo xtask parity`.
//!
//! ```text
//! cargo xtask test --quick        # while writing
//! cargo xtask test                # before handing in; continuous integration runs exactly this
//! cargo xtask parity              # which numbered behaviours have a test
//! ```

mod bench;
mod browser;
mod dependencies;
mod features;
mod install;
mod links;
mod metadata;
mod msrv;
mod parity;
mod python;
mod room;
mod sanitize;
mod shell;
mod steps;
mod test;
mod tree;

use std::process::ExitCode;

use shell::Failure;

const HELP: &str = "\
The commands of this project.

Usage: cargo xtask test [--quick | --long] [--only STEP]...
       cargo xtask bench [NAMES...]
       cargo xtask parity

  test           everything that must hold before a change is handed in; installs the tools it needs
    --quick      the short form for while you write: under three minutes once built
    --long       everything, with the soak tests (sets OVERSPILL_TEST_LONG=1)
    --only STEP  only this step, and installing its tools; may be repeated (`--list` names the steps)
    --list       names the steps and what they prove
  bench          builds and runs the benchmarks: all of them, or those named
  parity         holds docs/parity.md against the tests that carry its row numbers

Examples:
  cargo xtask test --quick
  cargo xtask test --only shuttle --long
  cargo xtask bench
  cargo xtask parity

Exit code: 0 when all is well, 1 when something failed, 2 when the command line is wrong or a person must
install something first.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\n{failure}");
            ExitCode::from(match failure {
                Failure::Failed(_) => 1,
                Failure::Person(_) => 2,
            })
        }
    }
}

fn run(args: &[String]) -> shell::Result {
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", args),
    };
    match command {
        "test" => test::run(&test::Options::parse(rest)?),
        "bench" => bench::run(rest),
        "parity" if rest.is_empty() => parity::run(&shell::root()),
        "" | "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(Failure::Person(format!("`cargo xtask {}` is not a command.\n\n{HELP}", args.join(" ")))),
    }
}
