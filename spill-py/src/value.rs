//! A Python object as a value that any thread can hold.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// An object in the buffer. Cloning needs no interpreter.
#[derive(Clone)]
pub(crate) struct Value(Arc<Held>);

struct Held {
    object: Option<Py<PyAny>>,
    weight: u64,
    immutable: bool,
}

impl Value {
    /// `object`, which weighs `weight` bytes.
    pub(crate) fn new(object: &Bound<'_, PyAny>, weight: u64) -> Self {
        let immutable = object.is_exact_instance_of::<PyBytes>() || object.is_exact_instance_of::<PyString>();
        Value(Arc::new(Held { object: Some(object.clone().unbind()), weight, immutable }))
    }

    /// The object.
    pub(crate) fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match &self.0.object {
            Some(object) => object.bind(py).clone(),
            None => py.None().into_bound(py), // it is taken by the drop alone
        }
    }

    /// What it weighed when it came in, in bytes.
    pub(crate) fn weight(&self) -> u64 {
        self.0.weight
    }

    /// Whether nobody can change it.
    pub(crate) fn immutable(&self) -> bool {
        self.0.immutable
    }
}

impl Drop for Held {
    /// An object dies here and now, whichever thread drops it, so that evicting frees its memory at once. While
    /// the interpreter shuts down it is left to it.
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            let mut object = Some(object);
            if Python::try_attach(|_| drop(object.take())).is_none() {
                std::mem::forget(object);
            }
        }
    }
}
