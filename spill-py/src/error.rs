//! Errors as Python's exceptions.

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use spill_core::{Error, ErrorKind};

/// The number of "no space left on device".
const ENOSPC: i32 = 28;
/// The number of "input/output error".
const EIO: i32 = 5;

/// What the quota of the files is called in Python.
pub(crate) const MAX_SPILL: &str = "max_spill";

/// The exception that fits the kind of `error`, with its message.
pub(crate) fn raised(error: &Error) -> PyErr {
    let text = match error.kind() {
        ErrorKind::Full { path, used, limit, free, setting: "quota_bytes" } => {
            let (path, used, limit, free) = (path.clone(), *used, *limit, *free);
            Error::from(ErrorKind::Full { path, used, limit, free, setting: MAX_SPILL }).to_string()
        }
        _ => error.to_string(),
    };
    match error.kind() {
        ErrorKind::Full { .. } => PyOSError::new_err((ENOSPC, text)),
        ErrorKind::Io { source, .. } => PyOSError::new_err((source.raw_os_error().unwrap_or(EIO), text)),
        ErrorKind::Corrupt { .. } | ErrorKind::Backend { .. } => PyOSError::new_err((EIO, text)),
        ErrorKind::Codec { .. } => PyTypeError::new_err(text),
        ErrorKind::Config { .. } | ErrorKind::TooLarge { .. } | ErrorKind::Closed { .. } => {
            PyValueError::new_err(text)
        }
        _ => PyRuntimeError::new_err(text),
    }
}
