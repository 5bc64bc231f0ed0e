//! Memory that crosses the boundary: Python's buffers as bytes of ours, and the other way round.

#![expect(unsafe_code, reason = "the buffer protocol is one of pointers")]

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};

use bytes::Bytes;
use parking_lot::Mutex;
use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use spill_core::Pool;

use crate::digest::Digest;

/// Python's `Py_buffer`: part of the stable interface since 3.11, and of the same layout in 3.10.
#[repr(C)]
struct View {
    buf: *mut c_void,
    obj: *mut ffi::PyObject,
    len: isize,
    itemsize: isize,
    readonly: c_int,
    ndim: c_int,
    format: *mut i8,
    shape: *mut isize,
    strides: *mut isize,
    suboffsets: *mut isize,
    internal: *mut c_void,
}

unsafe extern "C" {
    fn PyObject_GetBuffer(object: *mut ffi::PyObject, view: *mut View, flags: c_int) -> c_int;
    fn PyBuffer_Release(view: *mut View);
}

/// `PyBUF_SIMPLE`: contiguous bytes, or an error.
const SIMPLE: c_int = 0;

/// So many bytes of a frame are digested at once: they stay in the core's first cache between copy and hash.
const PIECE: usize = 16 << 10;

/// The memory of an object that others may write to meanwhile: it is copied from, and read in no other way.
struct Source(View);

// SAFETY: what is pointed to is copied from alone, and the view keeps it in place. It is made and released by a thread
// that holds the interpreter; a simple view has no pointers into itself, and may be moved.
unsafe impl Sync for Source {}

impl Source {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut view = View {
            buf: std::ptr::null_mut(),
            obj: std::ptr::null_mut(),
            len: 0,
            itemsize: 0,
            readonly: 0,
            ndim: 0,
            format: std::ptr::null_mut(),
            shape: std::ptr::null_mut(),
            strides: std::ptr::null_mut(),
            suboffsets: std::ptr::null_mut(),
            internal: std::ptr::null_mut(),
        };
        // SAFETY: the object is alive and the view is a valid place for an answer.
        if unsafe { PyObject_GetBuffer(object.as_ptr(), &raw mut view, SIMPLE) } != 0 {
            return Err(PyErr::take(object.py()).unwrap_or_else(|| PyBufferError::new_err("no buffer")));
        }
        Ok(Source(view))
    }

    fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }

    /// Fills `to` with the bytes from `at` on, of which there are as many.
    fn copy(&self, at: usize, to: &mut [u8]) {
        assert!(at <= self.len() && to.len() <= self.len() - at);
        // SAFETY: as many bytes lie there as was asserted, which the view keeps in place; `to` is apart.
        unsafe {
            std::ptr::copy_nonoverlapping(self.0.buf.cast::<u8>().add(at), to.as_mut_ptr(), to.len());
        }
    }

    /// Does `work` without the interpreter's lock, unless it is short: to give that up costs more then.
    fn long<R: Send>(&self, py: Python<'_>, work: impl FnOnce(&Self) -> R + Send) -> R {
        if self.len() < 64 << 10 { work(self) } else { py.detach(|| work(self)) }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // SAFETY: the view was filled by `of` and is released once, with the interpreter held, as it was there.
        unsafe { PyBuffer_Release(&raw mut self.0) };
    }
}

/// A copy of the bytes of `object`, made in memory of `pool` without the interpreter's lock. Everything that follows
/// reads the copy only.
pub(crate) fn snapshot(object: &Bound<'_, PyAny>, pool: &Pool) -> PyResult<Bytes> {
    let copied = Source::of(object)?.long(object.py(), |source| {
        let mut to = pool.take(source.len(), 0);
        source.copy(0, &mut to);
        to
    });
    Ok(OUTGOING.keep(copied.freeze()))
}

/// Adds the bytes of `object` to `digest` as one frame, without the interpreter's lock and without a copy of the whole:
/// it would take as much memory as the value, and most values were not changed.
pub(crate) fn digest(object: &Bound<'_, PyAny>, digest: &mut Digest) -> PyResult<()> {
    Source::of(object)?.long(object.py(), |source| {
        digest.frame(source.len());
        let mut piece = vec![0; source.len().min(PIECE)];
        for at in (0..source.len()).step_by(PIECE) {
            let piece = &mut piece[..(source.len() - at).min(PIECE)];
            source.copy(at, piece);
            digest.bytes(piece);
        }
    });
    Ok(())
}

/// The bytes of an object that nobody can change, not copied.
pub(crate) fn shared(object: &Bound<'_, PyBytes>) -> Bytes {
    OUTGOING.keep(Bytes::from_owner(Immutable(object.clone().unbind(), object.as_bytes().into())))
}

/// A `bytes` object and where its bytes are. Where it is dropped without the interpreter's lock, the object dies
/// when somebody next takes that: a store may drop it under a lock of its own, and must not wait for another.
struct Immutable(#[expect(dead_code, reason = "it keeps the bytes")] Py<PyBytes>, std::ptr::NonNull<[u8]>);

// SAFETY: the bytes are never changed and live as long as the object, which any thread may hold.
unsafe impl Send for Immutable {}
// SAFETY: as above.
unsafe impl Sync for Immutable {}

impl AsRef<[u8]> for Immutable {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the object is held until this is dropped, and its bytes are never changed.
        unsafe { self.1.as_ref() }
    }
}

/// Where frames lie that were made here. A store may serve one of them before it is written; whatever lies
/// elsewhere was read, and belongs to its one reader.
struct Outgoing(Mutex<BTreeMap<usize, Range>>);

/// How long such a frame is, and how many are there: one object may be on its way under two keys.
#[derive(Default)]
struct Range {
    len: usize,
    count: usize,
}

static OUTGOING: Outgoing = Outgoing(Mutex::new(BTreeMap::new()));

impl Outgoing {
    fn keep(&self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        {
            let mut ranges = self.0.lock();
            let range = ranges.entry(bytes.as_ptr().addr()).or_default();
            range.len = range.len.max(bytes.len());
            range.count += 1;
        }
        Bytes::from_owner(Kept(bytes))
    }

    /// Whether a frame that came back is one that was made here, or a part of one.
    fn holds(&self, frame: &[u8]) -> bool {
        let at = frame.as_ptr().addr();
        self.0.lock().range(..=at).next_back().is_some_and(|(start, range)| at < start + range.len)
    }
}

struct Kept(Bytes);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let at = self.0.as_ptr().addr();
        let mut kept = OUTGOING.0.lock();
        if let Some(range) = kept.get_mut(&at) {
            range.count -= 1;
            if range.count == 0 {
                kept.remove(&at);
            }
        }
    }
}

/// Memory that was read back, as numpy sees it: an array over it holds it.
#[pyclass(frozen, module = "overspill._native")]
pub(crate) struct Memory(Bytes);

impl Memory {
    /// `frame`, for one reader who may write to it: a copy where storage still has it.
    pub(crate) fn of(frame: Bytes) -> Self {
        if frame.is_empty() || !OUTGOING.holds(&frame) {
            return Memory(frame);
        }
        Memory(Bytes::from_owner(frame.to_vec()))
    }
}

#[pymethods]
impl Memory {
    /// Where the bytes are, in numpy's array interface, version 3.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", "|u1")?;
        interface.set_item("shape", (self.0.len(),))?;
        interface.set_item("data", (self.0.as_ptr().expose_provenance(), false))?;
        Ok(interface)
    }
}
