//! The buffer as Python sees it: what `overspill.SpillBuffer` is built upon.

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::{PyKeyError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use spill_core::{Buffer, BufferBuilder, ManualEvict, MutableMapping, Pool};

use crate::error::raised;
use crate::fork::Process;
use crate::key::Key;
use crate::objects::{Hooks, Objects, take_read};
use crate::store;
use crate::value::Value;

/// What the pool of buffers for reading may keep idle, in bytes.
const POOL: u64 = 256 << 20;

struct Open {
    buffer: ManuallyDrop<Buffer<Key, Value, Arc<Objects>>>,
    weigh: Py<PyAny>,
    /// What a `bytes` object weighs beyond its length, while Dask weighs it so.
    bytes_extra: Option<u64>,
    process: Process,
    memory_reads: AtomicU64,
    memory_read_bytes: AtomicU64,
    /// Unpicklable values that are heavier than the target are forgotten, as Dask does.
    forgets: bool,
}

impl Drop for Open {
    /// In a forked child the buffer is left alone: its threads are not here, and its files are the parent's.
    #[expect(unsafe_code, reason = "a value that must not be dropped in a child")]
    fn drop(&mut self) {
        if self.process.is_this() {
            let buffer = &mut self.buffer;
            let mut release = || {
                // SAFETY: it is dropped here alone and never used again.
                unsafe { ManuallyDrop::drop(buffer) }
            };
            if Python::try_attach(|py| py.detach(&mut release)).is_none() {
                release();
            }
        }
    }
}

/// The native half of `SpillBuffer`. Made empty; `_open` gives it its settings.
#[pyclass(subclass, frozen, module = "overspill._native", name = "Buffer")]
pub(crate) struct NativeBuffer(OnceLock<Open>);

impl NativeBuffer {
    #[inline]
    fn open(&self) -> PyResult<&Open> {
        let open = self
            .0
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("SpillBuffer.__init__ was not called by its subclass"))?;
        open.process.check()?;
        Ok(open)
    }

    /// The key, if the object can be one; no other is ever present.
    fn known(object: &Bound<'_, PyAny>) -> PyResult<Key> {
        Key::of(object).map_err(|_| PyKeyError::new_err(object.clone().unbind()))
    }

    fn in_fast(open: &Open, key: &Key) -> bool {
        open.buffer.contains_key(key) && open.buffer.stored_size(key).is_none()
    }
}

#[pymethods]
impl NativeBuffer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        NativeBuffer(OnceLock::new())
    }

    /// Opens the buffer. `hooks` has `dumps`, `loads`, `failed` and `weigh`.
    #[expect(clippy::too_many_arguments, reason = "called by name, from one place in Python")]
    #[pyo3(signature = (*, directory, target, max_spill, compressor, writers, forgets, hooks))]
    fn _open(
        &self,
        py: Python<'_>,
        directory: Option<PathBuf>,
        target: u64,
        max_spill: Option<u64>,
        compressor: &str,
        writers: usize,
        forgets: bool,
        hooks: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let weigh = hooks.getattr("weigh")?.unbind();
        let bytes_extra = hooks.getattr("bytes_extra")?.extract()?;
        let hooks = Hooks {
            dumps: hooks.getattr("dumps")?.unbind(),
            loads: hooks.getattr("loads")?.unbind(),
            failed: hooks.getattr("failed")?.unbind(),
        };
        let buffer = py.detach(|| {
            let pool = Pool::new(POOL.min(target / 8));
            let store = store::open(directory.as_deref(), compressor, max_spill, &pool)?;
            let objects = Arc::new(Objects::new(store, hooks, pool));
            let checked = Arc::clone(&objects);
            BufferBuilder::weighed_by(|_: &Key, value: &Value| value.weight())
                .target(target)
                .writers(writers)
                .ceiling(u64::MAX)
                .on_evict(move |key, value| checked.recheck(key, value))
                .over(objects)
                .map_err(|error| raised(&error))
        })?;
        let open = Open {
            buffer: ManuallyDrop::new(buffer),
            weigh,
            bytes_extra,
            process: Process::this(),
            memory_reads: AtomicU64::new(0),
            memory_read_bytes: AtomicU64::new(0),
            forgets,
        };
        self.0.set(open).map_err(|_| PyRuntimeError::new_err("the buffer is open already"))
    }

    fn __getitem__<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let open = self.open()?;
        let py = object.py();
        let key = Self::known(object)?;
        let (value, read) = py.detach(|| {
            take_read();
            (open.buffer.get(&key), take_read())
        });
        let value = value
            .map_err(|error| raised(&error))?
            .ok_or_else(|| PyKeyError::new_err(object.clone().unbind()))?;
        if !read {
            open.memory_reads.fetch_add(1, Relaxed);
            open.memory_read_bytes.fetch_add(value.weight(), Relaxed);
        }
        Ok(value.object(py))
    }

    fn __setitem__(&self, object: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let open = self.open()?;
        let py = object.py();
        let key = Key::of(object)?;
        let weight = match (value.cast_exact::<PyBytes>(), open.bytes_extra) {
            (Ok(bytes), Some(extra)) => bytes.as_bytes().len() as u64 + extra,
            _ => open.weigh.bind(py).call1((value,))?.extract()?,
        };
        let value = Value::new(value, weight);
        let failed = py.detach(|| {
            let heavy = weight > open.buffer.target();
            if heavy {
                open.buffer.slow().watch(&key);
            }
            let inserted = open.buffer.insert(key.clone(), value).map_err(|error| raised(&error));
            let failed = if heavy { open.buffer.slow().unwatch(&key) } else { None };
            if failed.is_some() && open.forgets {
                open.buffer.remove(&key).map_err(|error| raised(&error))?;
            }
            inserted.map(|()| failed)
        })?;
        match failed {
            None => Ok(()),
            Some(error) => Err(error),
        }
    }

    fn __delitem__(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let open = self.open()?;
        let key = Self::known(object)?;
        let removed = object.py().detach(|| open.buffer.remove(&key)).map_err(|error| raised(&error))?;
        if removed { Ok(()) } else { Err(PyKeyError::new_err(object.clone().unbind())) }
    }

    fn __contains__(&self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        let open = self.open()?;
        let Ok(key) = Key::of(object) else { return Ok(false) };
        Ok(object.py().detach(|| open.buffer.contains_key(&key)))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let open = self.open()?;
        Ok(py.detach(|| open.buffer.len()))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self._keys(py, None)?.try_iter()?.into_any())
    }

    /// The keys of a snapshot: all, or those in fast (`True`) or slow memory (`False`).
    #[pyo3(signature = (fast=None))]
    fn _keys<'py>(&self, py: Python<'py>, fast: Option<bool>) -> PyResult<Bound<'py, PyList>> {
        let open = self.open()?;
        let keys = py.detach(|| {
            let mut keys = Vec::new();
            open.buffer.for_each_key(&mut |key| keys.push(key.clone()));
            if let Some(fast) = fast {
                keys.retain(|key| Self::in_fast(open, key) == fast);
            }
            keys
        });
        let objects: PyResult<Vec<_>> = keys.iter().map(|key| key.object(py)).collect();
        PyList::new(py, objects?)
    }

    /// Where a key is: `True` in fast memory, `False` in slow memory, `None` nowhere.
    fn _where(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
        let open = self.open()?;
        let Ok(key) = Key::of(object) else { return Ok(None) };
        Ok(object.py().detach(|| open.buffer.contains_key(&key).then(|| Self::in_fast(open, &key))))
    }

    /// The value of a key, without counting as a use.
    fn peek<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let open = self.open()?;
        let key = Self::known(object)?;
        let value = object.py().detach(|| open.buffer.peek(&key)).map_err(|error| raised(&error))?;
        Ok(value.ok_or_else(|| PyKeyError::new_err(object.clone().unbind()))?.object(object.py()))
    }

    /// What a value in fast memory weighs, in bytes.
    fn _weight(&self, object: &Bound<'_, PyAny>) -> PyResult<u64> {
        let open = self.open()?;
        let key = Self::known(object)?;
        let value = object
            .py()
            .detach(|| Self::in_fast(open, &key).then(|| open.buffer.peek(&key)).transpose())
            .map_err(|error| raised(&error))?;
        Ok(value.flatten().ok_or_else(|| PyKeyError::new_err(object.clone().unbind()))?.weight())
    }

    /// The weight that a spilled value had and the bytes of its record.
    fn _stored(&self, object: &Bound<'_, PyAny>) -> PyResult<(u64, u64)> {
        let open = self.open()?;
        let key = Self::known(object)?;
        let size = object.py().detach(|| open.buffer.stored_size(&key));
        let size = size.ok_or_else(|| PyKeyError::new_err(object.clone().unbind()))?;
        Ok((size.memory, size.disk))
    }

    /// Moves one pair from fast to slow memory. What it weighed in bytes, or -1: the pair is still in fast memory
    /// and the problem has been logged. Never raises.
    fn evict(&self, py: Python<'_>) -> i64 {
        self.open().map_or(-1, |open| py.detach(|| open.buffer.evict()))
    }

    /// Values and bytes: (in fast memory, their weight, in slow memory, the weight they had, their records).
    fn _sizes(&self, py: Python<'_>) -> PyResult<(u64, u64, u64, u64, u64)> {
        let open = self.open()?;
        Ok(py.detach(|| {
            let (stats, spilled) = (open.buffer.stats(), open.buffer.usage().spilled);
            (stats.fast_count, stats.fast_bytes, stats.slow_count, spilled.memory, spilled.disk)
        }))
    }

    /// What was done so far, by Dask's names: (label, unit) to a number.
    fn _metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let open = self.open()?;
        let (stats, [read, write]) = py.detach(|| (open.buffer.stats(), open.buffer.slow().transfers()));
        let metrics = PyDict::new(py);
        let seconds = [
            ("serialize", stats.encode.time),
            ("compress", stats.compress.time),
            ("disk-write", stats.write.time),
            ("disk-read", stats.read.time),
            ("decompress", stats.decompress.time),
            ("deserialize", stats.decode.time),
        ];
        for (label, time) in seconds {
            if !time.is_zero() {
                metrics.set_item((label, "seconds"), time.as_secs_f64())?;
            }
        }
        let memory = (open.memory_reads.load(Relaxed), open.memory_read_bytes.load(Relaxed));
        for (label, (count, bytes)) in [("disk-read", read), ("disk-write", write), ("memory-read", memory)] {
            if count > 0 {
                metrics.set_item((label, "count"), count)?;
                metrics.set_item((label, "bytes"), bytes)?;
            }
        }
        Ok(metrics)
    }

    /// Stops the threads and removes the files. What was spilled is gone.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let open = self.open()?;
        py.detach(|| open.buffer.close()).map_err(|error| raised(&error))
    }

    /// Writes what is held back in memory to storage; values stay readable as before.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let open = self.open()?;
        py.detach(|| open.buffer.slow().flush()).map_err(|error| raised(&error))
    }
}
