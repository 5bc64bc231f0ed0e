//! A Python object as a value that any thread can hold.

#![expect(unsafe_code, reason = "memory of the interpreter's allocator, and a count of who uses it")]

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicUsize, fence};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::names::{Id, Names};

/// An object in the buffer. Cloning needs no interpreter.
///
/// It is an [`Arc`] whose memory is the interpreter's own, which has some of this size at hand: it is made and goes with
/// the interpreter held anyway.
pub(crate) struct Value(NonNull<Held>);

struct Held {
    /// How many values there are of it.
    count: AtomicUsize,
    object: Py<PyAny>,
    weight: u64,
    id: Id,
    /// They live as long as this: they count it (`Names::held`).
    names: NonNull<Names>,
    immutable: bool,
}

// SAFETY: what is held may be read by any thread and is never changed, but for the count, which is atomic. `Py` and
// `Names` may be shared and sent.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

impl Value {
    /// `object`, the value `id`, which weighs `weight` bytes. `names` knows where it is.
    #[inline]
    pub(crate) fn new(names: &Arc<Names>, id: Id, object: &Bound<'_, PyAny>, weight: u64) -> Self {
        let weight = weight.min(1 << 48); // as the buffer bounds it, so that sums do not overflow
        let held = Held {
            count: AtomicUsize::new(1),
            object: object.clone().unbind(),
            weight,
            id,
            names: NonNull::from(&**names),
            immutable: object.is_exact_instance_of::<PyBytes>() || object.is_exact_instance_of::<PyString>(),
        };
        // SAFETY: the interpreter is held, as `object` shows.
        let memory = unsafe { ffi::PyObject_Malloc(size_of::<Held>()) };
        let Some(memory) = NonNull::new(memory.cast::<Held>()) else {
            handle_alloc_error(Layout::new::<Held>())
        };
        // SAFETY: the memory is of the size asked for, aligned to twice the size of a pointer, and nobody else's.
        unsafe { memory.write(held) };
        names.held(object.py(), weight);
        Value(memory)
    }

    #[inline]
    fn held(&self) -> &Held {
        // SAFETY: it was written by `new`, and is there as long as one value counts.
        unsafe { self.0.as_ref() }
    }

    /// The object.
    #[inline]
    pub(crate) fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.held().object.bind(py).clone()
    }

    /// What it weighed when it came in, in bytes.
    #[inline]
    pub(crate) fn weight(&self) -> u64 {
        self.held().weight
    }

    /// Whether nobody can change it.
    pub(crate) fn immutable(&self) -> bool {
        self.held().immutable
    }
}

/// Where an object is, while somebody holds it.
pub(crate) fn address(object: &Bound<'_, PyAny>) -> usize {
    object.as_ptr().addr()
}

impl Clone for Value {
    #[inline]
    fn clone(&self) -> Self {
        // Whoever clones has one, so that nobody sees the last one go. Each clone takes eight bytes somewhere, and that
        // many bytes there are not.
        self.held().count.fetch_add(1, Relaxed);
        Value(self.0)
    }
}

impl Drop for Value {
    /// With the last one an object dies here and now, whichever thread drops it, so that evicting frees its memory at
    /// once. While the interpreter shuts down it is left to it.
    #[inline]
    fn drop(&mut self) {
        if self.held().count.fetch_sub(1, Release) == 1 {
            // what others did with theirs comes before
            fence(Acquire);
            Python::try_attach(|py| self.end(py));
        }
    }
}

impl Value {
    /// Gives up the object and the memory. Only the last one there is does so, once, and is not used after it.
    fn end(&mut self, py: Python<'_>) {
        // SAFETY: nobody else leads here, and the memory is not used again before it is given back.
        let held = unsafe { self.0.read() };
        // SAFETY: the interpreter is held, and the memory is one that it gave.
        unsafe { ffi::PyObject_Free(self.0.as_ptr().cast()) };
        let address = address(held.object.bind(py));
        // SAFETY: they were counted on by `new` and stay until that is taken back here.
        let names = unsafe { held.names.as_ref() };
        let last = names.left(py, held.id, address, held.weight);
        drop(last);
        drop(held);
    }
}
