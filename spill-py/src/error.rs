//! Errors as Python's exceptions.

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use spill_core::{Error, ErrorKind};

/// The number of "no space left on device".
const ENOSPC: i32 = 28;
/// The number of "input/output error".
const EIO: i32 = 5;

/// The exception that fits the kind of `error`, with its message.
pub(crate) fn raised(error: &Error) -> PyErr {
    let text = error.to_string();
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
