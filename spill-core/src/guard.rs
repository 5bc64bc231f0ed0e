//! Catching panics of code that is not ours, and saying what failed without flooding the log.

use std::any::Any;
use std::mem::Discriminant;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use hashbrown::HashMap;

use crate::sync::Mutex;
use crate::{Error, ErrorKind, Result};

/// Runs `f`; its panic becomes [`ErrorKind::Panicked`] (R7).
pub(crate) fn guarded<T>(during: &'static str, f: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| {
        let error = panicked(during, &*payload);
        if !payload.is::<String>() && !payload.is::<&'static str>() {
            // dropping a payload of unknown type might panic in its turn
            std::mem::forget(payload);
        }
        Err(error)
    })
}

/// The error that a caught panic becomes.
pub(crate) fn panicked(during: &'static str, payload: &(dyn Any + Send)) -> Error {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&'static str>().copied());
    ErrorKind::Panicked { during, message: text.unwrap_or("a panic without a message").to_owned() }.into()
}

/// Runs a call that answers for each of `count` keys: all of them get the error of a panic, and those that a
/// mapping forgot get an error that says so.
pub(crate) fn guarded_many<T>(
    during: &'static str,
    count: usize,
    f: impl FnOnce() -> Vec<Result<T>>,
) -> Vec<Result<T>> {
    let mut results = match guarded(during, || Ok(f())) {
        Ok(results) => results,
        Err(error) => return (0..count).map(|_| Err(error.clone())).collect(),
    };
    let given = results.len();
    results.truncate(count);
    results.resize_with(count, || {
        Err(ErrorKind::Backend {
            name: "mapping",
            location: during.to_owned(),
            status: format!("{given} results for a batch of {count}"),
            transient: false,
        }
        .into())
    });
    results
}

/// How long one cause stays quiet after it was logged (as Dask logs a failing spill, PARITY B06).
const QUIET: Duration = Duration::from_secs(10);

/// Lets one message in ten seconds through for each cause: a kind of error during one activity.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<HashMap<(&'static str, Discriminant<ErrorKind>), Duration>>);

impl LogLimit {
    pub(crate) fn allows(&self, activity: &'static str, error: &Error, now: Duration) -> bool {
        let mut last = self.0.lock();
        let cause = (activity, std::mem::discriminant(error.kind()));
        let quiet = last.get(&cause).is_some_and(|&then| now.saturating_sub(then) < QUIET);
        if !quiet {
            last.insert(cause, now);
        }
        !quiet
    }
}
