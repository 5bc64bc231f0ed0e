//! A process that forked: its child has the memory of the parent's buffers and none of their threads, and would
//! write to the parent's files.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// How many forks lie between the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// Called by the interpreter in the child of a fork.
#[pyfunction]
pub(crate) fn forked() {
    FORKS.fetch_add(1, Relaxed);
}

/// The process that something was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn this() -> Self {
        Process(FORKS.load(Relaxed))
    }

    pub(crate) fn is_this(self) -> bool {
        self == Self::this()
    }

    /// Fails in a child of the process.
    #[inline]
    pub(crate) fn check(self) -> PyResult<()> {
        if self.is_this() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(
            "this buffer belongs to the process that this one was forked from: its threads and files stayed \
             there. Make a new buffer here, or start processes by `spawn` or `forkserver`",
        ))
    }
}
