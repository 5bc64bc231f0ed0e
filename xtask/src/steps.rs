//! The steps of `cargo xtask test`: a heading and a time for each, and at the end what to run again.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::shell::{Failure, Result, failed};
use crate::tree::Status;

/// How much is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What one wants to know while writing.
    Quick,
    /// All that must hold.
    #[default]
    Full,
    /// The same with soak tests.
    Long,
}

/// What every step may look at.
pub(crate) struct Context {
    /// The folder of the workspace.
    pub(crate) root: PathBuf,
    /// How much is run.
    pub(crate) extent: Extent,
    /// Whether nobody is watching: `CI=true` in the environment.
    pub(crate) ci: bool,
    /// What git said of the working tree before the first step.
    pub(crate) before: Status,
    notices: RefCell<Vec<String>>,
}

impl Context {
    /// A context without notices.
    pub(crate) fn new(root: PathBuf, extent: Extent, ci: bool, before: Status) -> Self {
        Context { root, extent, ci, before, notices: RefCell::default() }
    }

    /// Says something that is no failure but must not pass unseen: what was left out, and why. Shown at once
    /// and again at the end.
    pub(crate) fn notice(&self, text: impl Into<String>) {
        let text = text.into();
        println!("note: {text}");
        self.notices.borrow_mut().push(text);
    }
}

/// One thing that must hold.
pub(crate) struct Step {
    /// A word to call it by.
    pub(crate) name: &'static str,
    /// What it proves, for the heading.
    pub(crate) proves: &'static str,
    /// Whether `--quick` runs it.
    pub(crate) quick: bool,
    /// Runs it.
    pub(crate) run: fn(&Context) -> Result,
}

/// Runs all of `steps` whatever fails, and fails if one did. Only a step that needs a person ends it at once,
/// since the steps behind it would fail for the same reason.
pub(crate) fn run(context: &Context, steps: &[&Step]) -> Result {
    let mut report = Vec::new();
    for step in steps {
        println!("\n== {}: {}", step.name, step.proves);
        let (time, result) = timed(|| (step.run)(context));
        match result {
            Ok(()) => {
                println!("== {}: passed in {}", step.name, seconds(time));
                report.push((step.name, time, None));
            }
            Err(Failure::Person(text)) => return Err(Failure::Person(text)),
            Err(Failure::Failed(text)) => {
                println!(
                    "{text}\n== {}: FAILED after {}; {}",
                    step.name,
                    seconds(time),
                    again(step, context)
                );
                report.push((step.name, time, Some(again(step, context))));
            }
        }
    }

    println!("\n== summary");
    for (name, time, failure) in &report {
        println!("{:<7} {:>8}  {name}", if failure.is_some() { "FAILED" } else { "passed" }, seconds(*time));
    }
    for notice in context.notices.borrow().iter() {
        println!("note: {notice}");
    }
    let failures: Vec<&str> = report.iter().filter_map(|(_, _, failure)| failure.as_deref()).collect();
    println!("steps: {} passed, {} failed", report.len() - failures.len(), failures.len());
    if failures.is_empty() { Ok(()) } else { failed(failures.join("\n")) }
}

fn again(step: &Step, context: &Context) -> String {
    let extent = match context.extent {
        Extent::Quick => " --quick",
        Extent::Full => "",
        Extent::Long => " --long",
    };
    format!("run again: cargo xtask test{extent} --only {}", step.name)
}

#[expect(clippy::disallowed_methods, reason = "tells people how long a step took; nothing depends on it")]
fn timed<T>(f: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = f();
    (start.elapsed(), result)
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context::new(PathBuf::new(), Extent::Quick, false, Status::default())
    }

    const PASSES: Step = Step { name: "passes", proves: "nothing", quick: true, run: |_| Ok(()) };
    const FAILS: Step = Step { name: "fails", proves: "nothing", quick: true, run: |_| failed("broken") };
    const NEEDS: Step =
        Step { name: "needs", proves: "nothing", quick: true, run: |_| Err(Failure::Person("do it".into())) };

    #[test]
    fn one_failed_step_fails_the_run_and_says_what_to_run_again() {
        assert!(run(&context(), &[&PASSES]).is_ok());
        let failure = run(&context(), &[&FAILS, &PASSES]).unwrap_err();
        assert!(matches!(failure, Failure::Failed(_)));
        assert_eq!(failure.to_string(), "run again: cargo xtask test --quick --only fails");
    }

    #[test]
    fn a_step_that_needs_a_person_ends_the_run() {
        let unreachable = Step { name: "later", proves: "nothing", quick: true, run: |_| panic!("was run") };
        let failure = run(&context(), &[&FAILS, &NEEDS, &unreachable]).unwrap_err();
        assert!(matches!(failure, Failure::Person(_)));
    }
}
