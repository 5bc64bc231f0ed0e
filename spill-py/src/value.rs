//! A Python object as a value that any thread can hold.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::names::{Id, Names};

/// An object in the buffer. Cloning needs no interpreter.
#[derive(Clone)]
pub(crate) struct Value(Arc<Held>);

struct Held {
    object: Option<Py<PyAny>>,
    weight: u64,
    immutable: bool,
    id: Id,
    names: Arc<Names>,
}

impl Value {
    /// `object`, the value `id`, which weighs `weight` bytes. `names` knows where it is.
    pub(crate) fn new(names: &Arc<Names>, id: Id, object: &Bound<'_, PyAny>, weight: u64) -> Self {
        let immutable = object.is_exact_instance_of::<PyBytes>() || object.is_exact_instance_of::<PyString>();
        names.held(object.py(), weight);
        let object = Some(object.clone().unbind());
        Value(Arc::new(Held { object, weight, immutable, id, names: Arc::clone(names) }))
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

/// Where an object is, while somebody holds it.
pub(crate) fn address(object: &Bound<'_, PyAny>) -> usize {
    object.as_ptr().addr()
}

impl Drop for Held {
    /// An object dies here and now, whichever thread drops it, so that evicting frees its memory at once. While
    /// the interpreter shuts down it is left to it.
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            let mut object = Some(object);
            let attached = Python::try_attach(|py| {
                if let Some(object) = object.take() {
                    self.names.left(py, self.id, address(object.bind(py)), self.weight);
                }
            });
            if attached.is_none() {
                std::mem::forget(object);
            }
        }
    }
}
