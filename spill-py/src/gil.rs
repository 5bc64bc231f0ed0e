//! State that the interpreter's lock guards. Who has to hold that one anyway takes no second lock, which on each call
//! would wait until all that was written before it has reached the cache.

#![expect(unsafe_code, reason = "a lock that is taken elsewhere")]

use std::cell::RefCell;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

/// Whatever only threads attached to the interpreter touch.
#[derive(Default)]
pub(crate) struct UnderGil<T>(RefCell<T>);

/// # Errors
/// `ImportError` where the interpreter runs without its lock.
pub(crate) fn required(py: Python<'_>) -> PyResult<()> {
    let sys = py.import("sys")?;
    if let Ok(enabled) = sys.getattr("_is_gil_enabled")
        && !enabled.call0()?.is_truthy()?
    {
        let how =
            "overspill needs the global interpreter lock; start Python without PYTHON_GIL=0 and -X gil=0";
        return Err(PyImportError::new_err(how));
    }
    Ok(())
}

// SAFETY: the cell is reached through `with` alone, by a thread that is attached to the interpreter, as the token says;
// that it holds the interpreter's lock then was seen when the module was imported ([`required`]), and pyo3 does not let a
// second interpreter of the process import it. So one thread at a time counts the borrows of the cell; should
// one hand over the lock while it has a borrow, the other sees that. `T: Send`, since one thread after another has it.
unsafe impl<T: Send> Sync for UnderGil<T> {}

impl<T> UnderGil<T> {
    /// Runs `f` alone with what is guarded. `f` must not hand over the interpreter's lock: it runs no Python code and
    /// drops no object that could.
    ///
    /// # Panics
    /// Where `f` did so, and another call found what is guarded borrowed.
    #[inline]
    pub(crate) fn with<R>(&self, _attached: Python<'_>, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}
