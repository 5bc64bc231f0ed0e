//! The buffer as Python sees it: what `overspill.SpillBuffer` is built upon.

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::{PyKeyError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};
use spill_core::{BufferBuilder, ManualEvict, MutableMapping, Pool};

use crate::error::raised;
use crate::fork::Process;
use crate::key::Lookup;
use crate::names::{Begun, Id, Names, Removed};
use crate::objects::{Hooks, Objects};
use crate::open::{Calls, Open, figures};
use crate::store;
use crate::value::{Value, address};

/// What the pool of buffers may keep idle, in bytes; a 16th of the target at most, since it comes on top of it, or one
/// buffer of an eighth.
const POOL: u64 = 256 << 20;

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
    fn known<'a, 'py>(object: &'a Bound<'py, PyAny>) -> PyResult<Lookup<'a, 'py>> {
        Lookup::of(object).map_err(|_| PyKeyError::new_err(object.clone().unbind()))
    }
}

#[pymethods]
impl NativeBuffer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        NativeBuffer(OnceLock::new())
    }

    /// Opens the buffer. `hooks` has what [`Hooks`] and [`Calls`] name.
    #[expect(clippy::too_many_arguments, reason = "called by name, from one place in Python")]
    #[pyo3(signature = (
        *, directories, target, max_spill, object_store, compressor, writers, forgets, hooks
    ))]
    fn _open(
        &self,
        py: Python<'_>,
        directories: Vec<PathBuf>,
        target: u64,
        max_spill: Option<u64>,
        object_store: Option<String>,
        compressor: String,
        writers: usize,
        forgets: bool,
        hooks: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let calls = Calls {
            weigh: hooks.getattr("weigh")?.unbind(),
            bytes_extra: hooks.getattr("bytes_extra")?.extract()?,
            refused: hooks.getattr("refused")?.unbind(),
            listeners: hooks.getattr("listeners")?.unbind(),
            metered: hooks.getattr("metered")?.unbind(),
        };
        let hooks = Hooks {
            dumps: hooks.getattr("dumps")?.unbind(),
            loads: hooks.getattr("loads")?.unbind(),
            failed: hooks.getattr("failed")?.unbind(),
        };
        let names = Arc::new(Names::default());
        let settings = store::Settings { directories, compressor, max_spill, object_store, target };
        let (buffer, uploads) = py.detach(|| {
            let pool = Pool::with_longest(POOL.min(target / 16), POOL.min(target / 8));
            let (store, level) = store::open(&settings, &pool)?;
            let uploads = level.as_ref().map_or(0, |level| level.uploads);
            let objects = Arc::new(Objects::new(store, level, hooks, Arc::clone(&names), pool));
            let checked = Arc::clone(&objects);
            let builder = BufferBuilder::weighed_by(|_: &Id, value: &Value| value.weight());
            // Dask looks no further than the least recently used value
            let builder = if forgets { builder.candidates(1) } else { builder };
            builder
                .target(target.saturating_sub(uploads))
                .writers(writers)
                .ceiling(u64::MAX)
                .on_evict(move |key, value| checked.recheck(key, value))
                .over(objects)
                .map(|buffer| (buffer, uploads))
                .map_err(|error| raised(&error))
        })?;
        let open = Open {
            buffer: ManuallyDrop::new(buffer),
            names,
            hooks: calls,
            process: Process::this(),
            target: AtomicU64::new(target),
            uploads,
            behind: writers > 0,
            last_weight: AtomicU64::new(0),
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
        let absent = || PyKeyError::new_err(object.clone().unbind());
        loop {
            let id = open.names.id(py, key.as_ref()).ok_or_else(absent)?;
            // What is in fast memory is given without letting the interpreter go: who else wants it would keep
            // it for some milliseconds.
            if let Some(value) = open.buffer.get_fast(&id).map_err(|error| raised(&error))? {
                open.hit(py, value.weight())?;
                return Ok(value.object(py));
            }
            match open.booked(py, || open.read(id))?.map_err(|error| raised(&error))? {
                Some(value) => return Ok(value.object(py)),
                // it was replaced meanwhile, or is gone
                None if open.names.id(py, key.as_ref()) == Some(id) => return Err(absent()),
                None => {}
            }
        }
    }

    fn __setitem__(&self, object: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let open = self.open()?;
        let py = object.py();
        let key = Lookup::of(object)?;
        let id = match open.names.begin(py, key.as_ref(), address(value)) {
            Begun::Shared(removed) => return open.release(py, removed),
            Begun::New(id) => id,
        };
        let weighed = match (value.cast_exact::<PyBytes>(), open.hooks.bytes_extra) {
            (Ok(bytes), Some(extra)) => Ok(bytes.as_bytes().len() as u64 + extra),
            _ => open.hooks.weigh.bind(py).call1((value,)).and_then(|weight| weight.extract()),
        };
        let weight = weighed.inspect_err(|_| open.names.give_up(py, id))?;
        open.last_weight.store(weight, Relaxed);
        // where threads spill, nobody waits for how that ends
        let heavy = !open.behind && weight > open.fast_target();
        if heavy {
            open.buffer.slow().watch(&id);
        }
        // the number is new, so nothing of it is under way and nothing is waited for
        let inserted = open.buffer.insert_without_evicting(id, Value::new(&open.names, id, value, weight));
        if let Err(error) = inserted {
            open.names.give_up(py, id);
            open.buffer.slow().unwatch(&id);
            return Err(raised(&error));
        }
        open.release(py, open.names.link(py, key.as_ref(), id))?;
        open.shrink(py)?;
        let failed = if heavy { open.buffer.slow().unwatch(&id) } else { None };
        let Some(error) = failed else { return Ok(()) };
        if open.forgets {
            open.release(py, open.names.unlink_from(py, key.as_ref(), id))?;
        }
        let error = open.hooks.refused.bind(py).call1((object, error.value(py)))?;
        Err(PyErr::from_value(error))
    }

    fn __delitem__(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let open = self.open()?;
        let key = Self::known(object)?;
        let py = object.py();
        match open.names.unlink(py, key.as_ref()) {
            Removed::Nothing => Err(PyKeyError::new_err(object.clone().unbind())),
            removed => open.release(py, removed),
        }
    }

    /// Removes all keys; no value is read.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let open = self.open()?;
        for (key, _) in open.names.all(py) {
            let key = key.object(py)?;
            open.release(py, open.names.unlink(py, Lookup::of(&key)?.as_ref()))?;
        }
        Ok(())
    }

    fn __contains__(&self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        let open = self.open()?;
        let Ok(key) = Lookup::of(object) else { return Ok(false) };
        Ok(open.names.id(object.py(), key.as_ref()).is_some())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.open()?.names.len(py))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self._keys(py, None)?.try_iter()?.into_any())
    }

    /// The keys of a snapshot, in the order in which their values came to memory: all, or those in fast (`True`) or slow
    /// memory (`False`).
    #[pyo3(signature = (fast=None))]
    fn _keys<'py>(&self, py: Python<'py>, fast: Option<bool>) -> PyResult<Bound<'py, PyList>> {
        let open = self.open()?;
        let mut keys = open.names.all(py);
        if let Some(fast) = fast {
            let unspilled: Vec<_> = py.detach(|| keys.iter().map(|(_, id)| open.is_unspilled(*id)).collect());
            let mut unspilled = unspilled.into_iter();
            keys.retain(|(_, id)| fast == (unspilled.next() == Some(true) && open.names.is_here(py, *id)));
        }
        let objects: PyResult<Vec<_>> = keys.iter().map(|(key, _)| key.object(py)).collect();
        PyList::new(py, objects?)
    }

    /// Where a key is: `True` in fast memory, `False` in slow memory, `None` nowhere.
    fn _where(&self, object: &Bound<'_, PyAny>) -> PyResult<Option<bool>> {
        let open = self.open()?;
        let (py, Ok(key)) = (object.py(), Lookup::of(object)) else { return Ok(None) };
        Ok(open.names.id(py, key.as_ref()).map(|id| open.is_unspilled(id) && open.names.is_here(py, id)))
    }

    /// The value of a key, without counting as a use.
    fn peek<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let open = self.open()?;
        let (py, key) = (object.py(), Self::known(object)?);
        let absent = || PyKeyError::new_err(object.clone().unbind());
        loop {
            let id = open.names.id(py, key.as_ref()).ok_or_else(absent)?;
            match open.booked(py, || open.buffer.peek(&id))?.map_err(|error| raised(&error))? {
                Some(value) => return Ok(value.object(py)),
                None if open.names.id(py, key.as_ref()) == Some(id) => return Err(absent()),
                None => {}
            }
        }
    }

    /// What a value in fast memory weighs, in bytes.
    fn _weight(&self, object: &Bound<'_, PyAny>) -> PyResult<u64> {
        let open = self.open()?;
        let absent = || PyKeyError::new_err(object.clone().unbind());
        let py = object.py();
        let id = open.names.id(py, Self::known(object)?.as_ref()).ok_or_else(absent)?;
        Ok(open.stored_in_fast(py, id)?.ok_or_else(absent)?.weight())
    }

    /// The weight that a spilled value had and the bytes of its record; nothing of what is on its way to an object store.
    fn _stored(&self, object: &Bound<'_, PyAny>) -> PyResult<(u64, u64)> {
        let open = self.open()?;
        let py = object.py();
        let absent = || PyKeyError::new_err(object.clone().unbind());
        let id = open.names.id(py, Self::known(object)?.as_ref()).ok_or_else(absent)?;
        let stored = |id| py.detach(|| open.buffer.stored_size(&id));
        // asked again, since it may have been stored meanwhile
        let moving = || {
            let moves = !open.in_fast(py, id) && py.detach(|| open.buffer.contains_key(&id));
            moves.then(|| stored(id).unwrap_or_default())
        };
        let size = stored(id).or_else(moving).ok_or_else(absent)?;
        Ok((size.memory, size.disk))
    }

    /// Moves one pair from fast to slow memory. What it weighed in bytes, or -1: the pair is still in fast memory
    /// and the problem has been logged. Never raises.
    fn evict(&self, py: Python<'_>) -> i64 {
        let evicted = self.open().and_then(|open| open.booked(py, || open.buffer.evict()));
        evicted.unwrap_or_else(|error| {
            error.write_unraisable(py, None);
            -1
        })
    }

    /// The target in bytes.
    #[getter]
    fn target(&self) -> PyResult<u64> {
        Ok(self.open()?.target.load(Relaxed))
    }

    /// Changes the target; values that are too many then are spilled.
    #[setter]
    fn set_target(&self, py: Python<'_>, target: u64) -> PyResult<()> {
        let open = self.open()?;
        open.target.store(target, Relaxed);
        py.detach(|| open.buffer.set_target(open.fast_target()));
        open.shrink(py)
    }

    /// The keys whose failure to be serialised has been logged.
    fn _reported<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let keys: PyResult<Vec<_>> =
            self.open()?.names.reported(py).iter().map(|key| key.object(py)).collect();
        PyList::new(py, keys?)
    }

    /// What the buffer's threads did since this was last asked: the seconds since it began and since it ended,
    /// and a list of (label, value, unit). `None`: nothing.
    fn _behind<'py>(&self, py: Python<'py>) -> PyResult<Option<(f64, f64, Bound<'py, PyList>)>> {
        let (tally, now) = self.open()?.buffer.slow().take_behind();
        let Some((began, ended)) = tally.span else { return Ok(None) };
        let since = |time| now.saturating_sub(time).as_secs_f64();
        Ok(Some((since(began), since(ended), figures(py, &tally, true)?)))
    }

    /// Values and bytes: (in fast memory, their weight, in slow memory, the weight they had, their records).
    fn _sizes(&self, py: Python<'_>) -> PyResult<(u64, u64, u64, u64, u64)> {
        let open = self.open()?;
        Ok(py.detach(|| {
            let (stats, spilled) = (open.buffer.stats(), open.buffer.usage().spilled);
            (stats.fast_count, stats.fast_bytes, stats.slow_count, spilled.memory, spilled.disk)
        }))
    }

    /// Of what is in slow memory, and of copies of what came back from there, that in the object store: the weight it
    /// had and the bytes of its records.
    fn _in_objects(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let open = self.open()?;
        let held = py.detach(|| open.buffer.slow().in_objects());
        Ok((held.memory, held.disk))
    }

    /// What was done so far, by Dask's names: (label, unit) to a number.
    fn _metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let open = self.open()?;
        let (stats, [read, write]) = py.detach(|| (open.buffer.stats(), open.buffer.slow().transfers()));
        let metrics = PyDict::new(py);
        // storage is everything below the objects, of which compression is told by itself
        let seconds = [
            ("serialize", stats.encode.time),
            ("compress", stats.compress.time),
            ("disk-write", write.time.saturating_sub(stats.compress.time)),
            ("disk-read", read.time.saturating_sub(stats.decompress.time)),
            ("decompress", stats.decompress.time),
            ("deserialize", stats.decode.time),
        ];
        for (label, time) in seconds {
            if !time.is_zero() {
                metrics.set_item((label, "seconds"), time.as_secs_f64())?;
            }
        }
        let memory = (open.memory_reads.load(Relaxed), open.memory_read_bytes.load(Relaxed));
        let moved = |step: spill_core::Step| (step.count, step.bytes);
        for (label, (count, bytes)) in
            [("disk-read", moved(read)), ("disk-write", moved(write)), ("memory-read", memory)]
        {
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
