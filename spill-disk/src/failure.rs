//! What a failure below is to the caller of a store.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use spill_core::{Error, ErrorKind, Result};

use crate::io::Io;

/// What a failed operation on a file is: no room in `directory`, where `used` bytes are ours, or what the system
/// said.
pub(crate) fn failed(
    io: &dyn Io,
    directory: &Path,
    used: u64,
    operation: &'static str,
    path: &Path,
    source: io::Error,
) -> Error {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    if !matches!(source.kind(), StorageFull | QuotaExceeded) {
        return Error::io(operation, path, source);
    }
    let free = io.space(directory).map_or(0, |space| space.free);
    ErrorKind::Full {
        path: Some(directory.to_owned()),
        used,
        limit: used.saturating_add(free),
        free: Some(free),
        setting: "the device's size or quota",
    }
    .into()
}

/// Runs `f`; its panic is an error.
pub(crate) fn caught<T>(during: &'static str, f: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(f))
        .map_err(|panic| ErrorKind::Panicked { during, message: message(&*panic) }.into())
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}
