//! An open buffer and what is called around it: storage without the interpreter's lock, and Python's meters.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pyo3::prelude::*;
use pyo3::types::PyList;
use spill_core::{Buffer, MutableMapping};

use crate::error::raised;
use crate::fork::Process;
use crate::names::{Id, Names, Removed};
use crate::objects::Objects;
use crate::tally::{LABELS, Step, Tally, counted};
use crate::value::Value;

/// From so many bytes on a value is large.
const LARGE: u64 = 256 << 10;

/// What a buffer has once it got its settings.
pub(crate) struct Open {
    pub(crate) buffer: ManuallyDrop<Buffer<Id, Value, Arc<Objects>>>,
    pub(crate) names: Arc<Names>,
    pub(crate) hooks: Calls,
    pub(crate) process: Process,
    pub(crate) target: AtomicU64,
    /// What values take of it below the buffer while they are being uploaded, in bytes.
    pub(crate) uploads: u64,
    /// Whether threads of the buffer spill.
    pub(crate) behind: bool,
    /// What the value weighed that was set or read from slow memory last, in bytes.
    pub(crate) last_weight: AtomicU64,
    pub(crate) memory_reads: AtomicU64,
    pub(crate) memory_read_bytes: AtomicU64,
    /// Unpicklable values that are heavier than the target are forgotten, as Dask does.
    pub(crate) forgets: bool,
}

/// What is called in Python where the buffer is called.
pub(crate) struct Calls {
    /// `weigh(object) -> bytes`
    pub(crate) weigh: Py<PyAny>,
    /// What a `bytes` object weighs beyond its length, while Dask weighs it so.
    pub(crate) bytes_extra: Option<u64>,
    /// `refused(key, exception) -> exception`: what is raised where a value cannot be serialised.
    pub(crate) refused: Py<PyAny>,
    /// `listeners() -> dict`: empty where nobody wants to know what a call did.
    pub(crate) listeners: Py<PyAny>,
    /// `metered([(label, value, unit)])`: books what a call did to whoever listens.
    pub(crate) metered: Py<PyAny>,
}

impl Drop for Open {
    /// In a forked child the buffer is left alone: its threads are not here, and its files are the parent's.
    #[expect(unsafe_code, reason = "a value that must not be dropped in a child")]
    fn drop(&mut self) {
        if self.process.is_this() {
            let buffer = &mut self.buffer;
            let mut release = || {
                // Files and objects go. A problem has nobody to be told to.
                _ = buffer.close();
                // SAFETY: it is dropped here alone and never used again.
                unsafe { ManuallyDrop::drop(buffer) }
            };
            if Python::try_attach(|py| py.detach(&mut release)).is_none() {
                release();
            }
        }
    }
}

impl Open {
    /// Whether the value is in fast memory.
    pub(crate) fn in_fast(&self, py: Python<'_>, id: Id) -> bool {
        py.detach(|| self.is_unspilled(id)) && self.names.is_here(py, id)
    }

    /// Whether no size of the value on storage is known. What is on its way to an object store has none yet, and no
    /// object.
    pub(crate) fn is_unspilled(&self, id: Id) -> bool {
        self.buffer.contains_key(&id) && self.buffer.stored_size(&id).is_none()
    }

    /// Runs a call of the buffer without the interpreter's lock, and books what it did to whoever listens.
    pub(crate) fn booked<R: Send>(&self, py: Python<'_>, call: impl FnOnce() -> R + Send) -> PyResult<R> {
        let (result, tally) = py.detach(|| counted(call));
        if !tally.is_empty() && self.listened(py)? {
            self.hooks.metered.bind(py).call1((figures(py, &tally, false)?,))?;
        }
        Ok(result)
    }

    fn listened(&self, py: Python<'_>) -> PyResult<bool> {
        self.hooks.listeners.bind(py).call0()?.is_truthy()
    }

    /// A value was read that was in fast memory.
    pub(crate) fn hit(&self, py: Python<'_>, weight: u64) -> PyResult<()> {
        self.memory_reads.fetch_add(1, Relaxed);
        self.memory_read_bytes.fetch_add(weight, Relaxed);
        if self.listened(py)? {
            let read = [("memory-read", 1.0, "count"), ("memory-read", weight as f64, "bytes")];
            self.hooks.metered.bind(py).call1((PyList::new(py, read)?,))?;
        }
        Ok(())
    }

    /// Reads a value that is not in fast memory. Where the caller spills, a large one has its room made before, so that
    /// memory seldom holds it beside what it drives out. To ask for its size costs as much as reading a small one, so it is
    /// not asked for where the one before was small.
    pub(crate) fn read(&self, id: Id) -> spill_core::Result<Option<Value>> {
        if !self.behind && self.last_weight.load(Relaxed) >= LARGE {
            let (weight, target) =
                (self.buffer.stored_size(&id).map_or(0, |size| size.memory), self.fast_target());
            // a heavier one drives nothing out
            if (1..=target).contains(&weight) {
                self.buffer.evict_until_below((target - weight).max(1));
            }
        }
        let value = self.buffer.get(&id)?;
        self.last_weight.store(value.as_ref().map_or(0, Value::weight), Relaxed);
        Ok(value)
    }

    /// A value whose last name went leaves the buffer.
    pub(crate) fn release(&self, py: Python<'_>, removed: Removed) -> PyResult<()> {
        let Removed::Value(id) = removed else { return Ok(()) };
        // what is in fast memory alone goes without waiting for anybody
        let gone = if self.buffer.slow().contains_key(&id) {
            py.detach(|| self.buffer.remove(&id))
        } else {
            self.buffer.remove(&id)
        };
        gone.map(drop).map_err(|error| raised(&error))
    }

    /// What values in fast memory may weigh.
    pub(crate) fn fast_target(&self) -> u64 {
        self.target.load(Relaxed).saturating_sub(self.uploads)
    }

    /// Brings fast memory down to its target, here or on the buffer's threads.
    pub(crate) fn shrink(&self, py: Python<'_>) -> PyResult<()> {
        let target = self.fast_target();
        // what is held at all is counted here, so that the buffer need not be asked
        if self.names.weight(py) <= target || !self.buffer.is_above_target() {
            return Ok(());
        }
        if self.behind {
            self.buffer.set_target(target); // which tells them
            Ok(())
        } else {
            self.booked(py, || self.buffer.evict_until_below(target)).map(drop)
        }
    }

    pub(crate) fn stored_in_fast(&self, py: Python<'_>, id: Id) -> PyResult<Option<Value>> {
        let peeked = self.in_fast(py, id).then(|| py.detach(|| self.buffer.peek(&id)));
        peeked.transpose().map(Option::flatten).map_err(|error| raised(&error))
    }
}

/// What was done, as `[(label, value, unit)]`. Dask's own serialisers tell their times themselves, but not where
/// they run `behind` the callers.
pub(crate) fn figures<'py>(py: Python<'py>, tally: &Tally, behind: bool) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for (step, time) in tally.time.iter().enumerate() {
        let coded = step == Step::Serialize as usize || step == Step::Deserialize as usize;
        if !time.is_zero() && (behind || !coded) {
            list.append((LABELS[step], time.as_secs_f64(), "seconds"))?;
        }
    }
    for (step, (count, bytes)) in [(Step::DiskWrite, tally.written), (Step::DiskRead, tally.read)] {
        if count > 0 {
            list.append((LABELS[step as usize], count, "count"))?;
            list.append((LABELS[step as usize], bytes, "bytes"))?;
        }
    }
    Ok(list)
}
