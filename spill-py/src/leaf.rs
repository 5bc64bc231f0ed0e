//! Storage alone, as mappings of text to bytes: what stands wherever `zict.File` does.

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::{PyException, PyKeyError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyString, PyTuple};
use spill_compress::{Compress, Compression};
use spill_core::{Frames, MutableMapping, Pool, Result};
use spill_disk::{Files, FilesConfig, Segments, SegmentsConfig, Workspace};

use crate::error::raised;
use crate::fork::Process;
use crate::memory::{shared, snapshot};
use crate::store::Capped;

/// The UTF-8 bytes of a text.
type Text = String;

/// What the pool of buffers for reading may keep idle, in bytes.
const POOL: u64 = 64 << 20;

/// Bytes that reach storage together at most, but for the last value.
const BATCH: u64 = 8 << 20;

/// What a pair counts among these beyond its key and its value.
const PAIR: u64 = 128;

struct Leaf {
    mapping: ManuallyDrop<Arc<dyn MutableMapping<Text, Frames>>>,
    pool: Pool,
    process: Process,
}

impl Drop for Leaf {
    /// In a forked child it is left alone, as a buffer is.
    #[expect(unsafe_code, reason = "a value that must not be dropped in a child")]
    fn drop(&mut self) {
        if self.process.is_this() {
            let mapping = &mut self.mapping;
            let mut release = || {
                // A private directory or prefix goes. A problem has nobody to be told to.
                _ = mapping.close();
                // SAFETY: it is dropped here alone and never used again.
                unsafe { ManuallyDrop::drop(mapping) }
            };
            if Python::try_attach(|py| py.detach(&mut release)).is_none() {
                release();
            }
        }
    }
}

/// The native half of `Segments`, `Files` and `Objects`. Made empty; one of the `_open` methods gives it storage.
#[pyclass(subclass, frozen, module = "overspill._native", name = "Store")]
pub(crate) struct NativeStore(OnceLock<Leaf>);

impl NativeStore {
    fn open(&self) -> PyResult<&Leaf> {
        let leaf = self
            .0
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("__init__ of the store was not called by its subclass"))?;
        leaf.process.check()?;
        Ok(leaf)
    }

    /// Puts what `build` opens under compression and a limit.
    fn with<M: MutableMapping<Text, Frames> + 'static>(
        &self,
        py: Python<'_>,
        compressor: &str,
        max_bytes: Option<u64>,
        build: impl FnOnce(&Pool) -> Result<M> + Send,
    ) -> PyResult<()> {
        let pool = Pool::new(POOL);
        let mapping = py
            .detach(|| -> Result<Arc<dyn MutableMapping<Text, Frames>>> {
                let compression: Compression = compressor.parse()?;
                let inner = Capped { inner: build(&pool)?, limit: max_bytes, setting: "max_bytes" };
                if compressor == "none" {
                    return Ok(Arc::new(inner));
                }
                Ok(Arc::new(Compress::new(compression, inner).with_pool(pool.clone())))
            })
            .map_err(|error| raised(&error))?;
        let leaf = Leaf { mapping: ManuallyDrop::new(mapping), pool, process: Process::this() };
        self.0.set(leaf).map_err(|_| PyRuntimeError::new_err("the store is open already"))
    }

    fn key(object: &Bound<'_, PyAny>) -> PyResult<Text> {
        match object.cast::<PyString>() {
            Ok(text) => Ok(text.to_str()?.to_owned()),
            Err(_) => Err(PyTypeError::new_err(format!(
                "a key of a store is text; this one is of type {}",
                object.get_type().name()?
            ))),
        }
    }

    /// The key, if the object can be one; no other is ever present.
    fn known(object: &Bound<'_, PyAny>) -> PyResult<Text> {
        Self::key(object).map_err(|_| PyKeyError::new_err(object.clone().unbind()))
    }

    fn frames(&self, value: &Bound<'_, PyAny>) -> PyResult<Frames> {
        let pool = &self.open()?.pool;
        let one = |part: &Bound<'_, PyAny>| match part.cast_exact::<PyBytes>() {
            Ok(bytes) => Ok(shared(bytes)),
            Err(_) => snapshot(part, pool),
        };
        if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            let parts: PyResult<Vec<_>> = value.try_iter()?.map(|part| one(&part?)).collect();
            Ok(parts?.into())
        } else {
            Ok(Frames::from(one(value)?))
        }
    }

    /// A key and a value, of any two things in a row.
    fn pair(&self, pair: &Bound<'_, PyAny>) -> PyResult<(Text, Frames)> {
        let parts: Vec<_> = pair.try_iter()?.take(3).collect::<PyResult<_>>()?;
        let [key, value] = &*parts else {
            return Err(PyValueError::new_err(format!(
                "a key and a value were expected, and an element of type {} is not two things",
                pair.get_type().name()?
            )));
        };
        Ok((Self::key(key)?, self.frames(value)?))
    }
}

#[pymethods]
impl NativeStore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        NativeStore(OnceLock::new())
    }

    /// Segment files in a private directory under `directory`, which go with the store.
    #[pyo3(signature = (directory, compressor, max_bytes))]
    fn _open_segments(
        &self,
        py: Python<'_>,
        directory: Option<PathBuf>,
        compressor: &str,
        max_bytes: Option<u64>,
    ) -> PyResult<()> {
        self.with(py, compressor, max_bytes, |pool| {
            let workspace = Workspace::open(directory.as_deref())?;
            Segments::open(SegmentsConfig::new(workspace).pool(pool.clone()))
        })
    }

    /// A file a key in `directory`, which stay; or in a private directory, which go.
    #[pyo3(signature = (directory, compressor, max_bytes))]
    fn _open_files(
        &self,
        py: Python<'_>,
        directory: Option<PathBuf>,
        compressor: &str,
        max_bytes: Option<u64>,
    ) -> PyResult<()> {
        self.with(py, compressor, max_bytes, |pool| {
            let config = match directory {
                Some(directory) => FilesConfig::at(directory),
                None => FilesConfig::new(Workspace::open(None)?),
            };
            Files::open(config.pool(pool.clone()))
        })
    }

    /// Objects under a private prefix of an object store, which go with the store.
    #[cfg(feature = "object")]
    #[pyo3(signature = (url, options, compressor, max_bytes))]
    fn _open_objects(
        &self,
        py: Python<'_>,
        url: &str,
        options: Vec<(String, String)>,
        compressor: &str,
        max_bytes: Option<u64>,
    ) -> PyResult<()> {
        self.with(py, compressor, max_bytes, |pool| {
            let options: Vec<_> = options.iter().map(|(key, value)| (&**key, &**value)).collect();
            let store = spill_object::Store::open_with(url, &options)?;
            spill_object::Objects::blocking(spill_object::ObjectsConfig::new(store).pool(pool.clone()))
        })
    }

    fn __getitem__<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyByteArray>> {
        let leaf = self.open()?;
        let py = object.py();
        let key = Self::known(object)?;
        let frames = py.detach(|| leaf.mapping.get(&key)).map_err(|error| raised(&error))?;
        let frames = frames.ok_or_else(|| PyKeyError::new_err(object.clone().unbind()))?;
        let len = usize::try_from(frames.byte_len())?;
        PyByteArray::new_with(py, len, |mut out| {
            for frame in &frames {
                let (part, rest) = out.split_at_mut(frame.len());
                part.copy_from_slice(frame);
                out = rest;
            }
            Ok(())
        })
    }

    fn __setitem__(&self, object: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let leaf = self.open()?;
        let (key, frames) = (Self::key(object)?, self.frames(value)?);
        object.py().detach(|| leaf.mapping.insert(key, frames)).map_err(|error| raised(&error))
    }

    fn __delitem__(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let leaf = self.open()?;
        let key = Self::known(object)?;
        let removed = object.py().detach(|| leaf.mapping.remove(&key)).map_err(|error| raised(&error))?;
        if removed { Ok(()) } else { Err(PyKeyError::new_err(object.clone().unbind())) }
    }

    /// Sets many pairs, some at a time. The first problem is raised; the pairs before it are set all the same.
    fn _set_many(&self, pairs: &Bound<'_, PyAny>) -> PyResult<()> {
        let leaf = self.open()?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let set = |batch| {
            let results = pairs.py().detach(|| leaf.mapping.insert_many(batch));
            results.into_iter().find_map(Result::err).map_or(Ok(()), |error| Err(raised(&error)))
        };
        let mut ended = Ok(());
        for pair in pairs.try_iter()? {
            match pair.and_then(|pair| self.pair(&pair)) {
                Ok((key, frames)) => {
                    bytes += key.len() as u64 + frames.byte_len() + PAIR;
                    batch.push((key, frames));
                }
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            }
            if bytes >= BATCH {
                set(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        let sent = set(batch);
        match ended {
            // an interruption is not held back
            Err(error) if !error.is_instance_of::<PyException>(pairs.py()) => Err(error),
            ended => sent.and(ended),
        }
    }

    /// Removes all keys.
    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        let leaf = self.open()?;
        py.detach(|| leaf.mapping.clear()).map_err(|error| raised(&error))
    }

    fn __contains__(&self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        let leaf = self.open()?;
        let Ok(key) = Self::key(object) else { return Ok(false) };
        Ok(object.py().detach(|| leaf.mapping.contains_key(&key)))
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        let leaf = self.open()?;
        Ok(py.detach(|| leaf.mapping.len()))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let leaf = self.open()?;
        let keys = py.detach(|| {
            let mut keys = Vec::new();
            leaf.mapping.for_each_key(&mut |key| keys.push(key.clone()));
            keys
        });
        Ok(PyList::new(py, keys)?.try_iter()?.into_any())
    }

    /// The bytes of the values and those of their records.
    fn _sizes(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        let leaf = self.open()?;
        let spilled = py.detach(|| leaf.mapping.usage().spilled);
        Ok((spilled.memory, spilled.disk))
    }

    /// Writes what is held back in memory to storage; values stay readable as before.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let leaf = self.open()?;
        py.detach(|| leaf.mapping.flush()).map_err(|error| raised(&error))
    }

    /// Closes the store. A private directory or prefix goes with all that is in it.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let leaf = self.open()?;
        py.detach(|| leaf.mapping.close()).map_err(|error| raised(&error))
    }
}
