//! The layer between the buffer and storage: Python objects over frames.
//!
//! It is called where the buffer holds no lock, by threads that gave up the interpreter's, and takes that one for
//! the codec alone; its own lock is never held meanwhile.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyWeakrefMethods, PyWeakrefReference};
use spill_core::{
    Clock, Error, ErrorKind, Frames, Meter, MutableMapping, Pool, Result, SpilledSize, Stats, SystemClock,
    Usage,
};

use crate::digest::Digest;
use crate::error::raised;
use crate::key::Key;
use crate::memory::{self, Memory, shared, snapshot};
use crate::names::{Id, Names};
use crate::store::{ObjectLevel, Store};
use crate::tally::{self, Step, Tally};
use crate::value::{Value, address};

/// Frames up to this many bytes are given to Python as a copy, which costs less than an array over them.
const COPIED: usize = 4096;

/// From this weight in bytes on, the time that compression takes is told from that of the disk.
const TOLD_APART: u64 = 64 << 10;

/// What Python code is called for.
pub(crate) struct Hooks {
    /// `dumps(object) -> list of buffers`
    pub(crate) dumps: Py<PyAny>,
    /// `loads(list of buffers) -> object`
    pub(crate) loads: Py<PyAny>,
    /// `failed(key, exception, pickling)`: a value was not spilled, since it could not be serialised, which is told
    /// once and with a key; or since storage did not take it. Logs it.
    pub(crate) failed: Py<PyAny>,
}

/// Objects over frames.
pub(crate) struct Objects {
    inner: Store,
    level: Option<ObjectLevel>,
    hooks: Hooks,
    pool: Pool,
    names: Arc<Names>,
    state: Mutex<State>,
    /// How many values are stored at most, so that none is looked for where there are none.
    stored: AtomicUsize,
    /// What the threads of the buffer did since they were last asked.
    behind: Mutex<Tally>,
    clock: SystemClock,
    encode: Meter,
    decode: Meter,
    write: Meter,
    read: Meter,
}

#[derive(Default)]
struct State {
    /// Of stored values, but for those of which nothing needs to be known.
    records: HashMap<Id, Record>,
    /// Values that are being set by a caller who wants to know when they cannot be encoded.
    watched: HashMap<Id, Option<PyErr>>,
}

/// What is known of a stored value that somebody can change.
struct Record {
    hash: u128,
    /// It was written for the eviction that is under way.
    fresh: bool,
    /// The object itself, should somebody keep it alive (PARITY B01).
    weak: Option<Py<PyWeakrefReference>>,
}

impl Objects {
    /// Over `inner`, in which `level` is the last.
    pub(crate) fn new(
        inner: Store,
        level: Option<ObjectLevel>,
        hooks: Hooks,
        names: Arc<Names>,
        pool: Pool,
    ) -> Self {
        Objects {
            inner,
            level,
            hooks,
            pool,
            names,
            state: Mutex::default(),
            stored: AtomicUsize::new(0),
            behind: Mutex::default(),
            clock: SystemClock::new(),
            encode: Meter::default(),
            decode: Meter::default(),
            write: Meter::default(),
            read: Meter::default(),
        }
    }

    /// From now on a failure to encode `key` is kept for [`unwatch`](Self::unwatch) and not logged.
    pub(crate) fn watch(&self, key: &Id) {
        self.state.lock().watched.insert(*key, None);
    }

    /// Ends [`watch`](Self::watch): why `key` could not be encoded, if so.
    pub(crate) fn unwatch(&self, key: &Id) -> Option<PyErr> {
        self.state.lock().watched.remove(key).flatten()
    }

    /// What the threads of the buffer did since this was last asked: the tally, and the time now.
    pub(crate) fn take_behind(&self) -> (Tally, Duration) {
        (std::mem::take(&mut *self.behind.lock()), self.clock.now())
    }

    /// Books to the call on this thread, or to what is done behind the callers.
    fn book(&self, add: impl Fn(&mut Tally)) {
        if !tally::note(&add) {
            add(&mut self.behind.lock());
        }
    }

    /// What is in the object store.
    pub(crate) fn in_objects(&self) -> SpilledSize {
        self.level.as_ref().map(ObjectLevel::held).unwrap_or_default()
    }

    /// Reads and writes of stored values: how many, how many bytes, and what they took with compression.
    pub(crate) fn transfers(&self) -> [spill_core::Step; 2] {
        [self.read.read(), self.write.read()]
    }

    /// A value whose copy was written earlier is about to leave: writes it again where it was changed in place
    /// since.
    pub(crate) fn recheck(&self, key: &Id, value: &Value) -> Result<()> {
        let known = {
            let mut state = self.state.lock();
            let Some(record) = state.records.get_mut(key) else { return Ok(()) };
            if std::mem::take(&mut record.fresh) || value.immutable() {
                return Ok(());
            }
            record.hash
        };
        let changed = self.encoded(key, value, |py| {
            let parts = self.parts(py, value)?;
            if digest(&parts)? == known { Ok(None) } else { self.frames(&parts).map(Some) }
        })?;
        let Some(frames) = changed else { return Ok(()) };
        self.put(key, value, frames)?;
        if let Some(record) = self.state.lock().records.get_mut(key) {
            record.fresh = false;
        }
        Ok(())
    }

    fn put(&self, key: &Id, value: &Value, frames: Frames) -> Result<()> {
        let hash = (!value.immutable()).then(|| Digest::of(&frames));
        let told = value.weight() >= TOLD_APART;
        let before = if told { self.inner.stats().compress.time } else { Duration::ZERO };
        let began = self.clock.now();
        if let Err(error) = self.inner.insert(*key, frames.with_weight(value.weight())) {
            let full = matches!(error.kind(), ErrorKind::Full { .. } | ErrorKind::TooLarge { .. });
            let problem = self.level.as_ref().filter(|_| full).and_then(ObjectLevel::problem);
            let told = raised(problem.as_ref().unwrap_or(&error));
            Python::attach(|py| self.failed(py, None, &told));
            // the buffer makes room where storage is full, whatever is behind that
            return Err(error);
        }
        let ended = self.clock.now();
        let compress = if told { self.inner.stats().compress.time.saturating_sub(before) } else { before };
        let compressed = ended.min(began + compress);
        let bytes = self.inner.stored_size(key).map_or(0, |size| size.disk);
        self.write.add(1, bytes, ended.saturating_sub(began));
        self.book(|tally| {
            tally.add(Step::Compress, began, compressed);
            tally.add(Step::DiskWrite, compressed, ended);
            tally.written.0 += 1;
            tally.written.1 += bytes;
        });
        if let Some(hash) = hash {
            self.note(key, value, hash, true);
        }
        Ok(())
    }

    /// Remembers what was stored of a value, and where it is. Of bytes and text there is nothing to remember: nobody can
    /// change them, and nothing leads weakly to them.
    fn note(&self, key: &Id, value: &Value, hash: u128, fresh: bool) {
        let weak = Python::attach(|py| PyWeakrefReference::new(&value.object(py)).ok().map(Bound::unbind));
        let old = self.state.lock().records.insert(*key, Record { hash, fresh, weak });
        drop(old); // with the lock given back
    }

    /// What `encode` makes of `value`. Why it makes nothing is logged, or kept for who watches.
    fn encoded<R>(
        &self,
        key: &Id,
        value: &Value,
        encode: impl FnOnce(Python<'_>) -> PyResult<R>,
    ) -> Result<R> {
        let start = self.clock.now();
        let encoded = Python::attach(|py| {
            encode(py).map_err(|error| {
                let text = error.to_string();
                let mut state = self.state.lock();
                if let Some(watched) = state.watched.get_mut(key) {
                    *watched = Some(error);
                } else {
                    drop(state);
                    // what no key names yet will fail again
                    if let Some(key) = self.names.report(py, *key) {
                        self.failed(py, Some(&key), &error);
                    }
                }
                Error::codec("python", text)
            })
        });
        let now = self.clock.now();
        self.encode.add(1, value.weight(), now.saturating_sub(start));
        self.book(|tally| tally.add(Step::Serialize, start, now));
        encoded
    }

    fn failed(&self, py: Python<'_>, key: Option<&Key>, error: &PyErr) {
        let pickling = key.is_some();
        let key = key.map(|key| key.object(py)).transpose();
        let told = key.and_then(|key| self.hooks.failed.call1(py, (key, error.value(py), pickling)));
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }

    fn encode(&self, py: Python<'_>, value: &Value) -> PyResult<Frames> {
        if let Ok(bytes) = value.object(py).cast_exact::<PyBytes>() {
            return Ok(Frames::from(shared(bytes)));
        }
        self.frames(&self.parts(py, value)?)
    }

    /// The buffers that an object is serialised as.
    fn parts<'py>(&self, py: Python<'py>, value: &Value) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.hooks.dumps.bind(py).call1((value.object(py),))?.try_iter()?.collect()
    }

    fn frames(&self, parts: &[Bound<'_, PyAny>]) -> PyResult<Frames> {
        // a head of no bytes tells the frames of an object from plain bytes, which are one frame
        let head = Ok(Bytes::new());
        let parts = parts.iter().map(|part| match part.cast_exact::<PyBytes>() {
            Ok(bytes) => Ok(shared(bytes)),
            Err(_) => snapshot(part, &self.pool),
        });
        let frames: Vec<_> = std::iter::once(head).chain(parts).collect::<PyResult<_>>()?;
        Ok(frames.into())
    }

    /// The object of `frames`, which were read until `start`.
    fn decode(&self, key: &Id, frames: Frames, start: Duration) -> Result<Value> {
        let weight = frames.weight();
        let decoded = Python::attach(|py| {
            let object = match frames.as_slice() {
                [only] => PyBytes::new(py, only).into_any(),
                [_, parts @ ..] => {
                    let list = PyList::empty(py);
                    for part in parts {
                        if part.len() <= COPIED {
                            list.append(PyBytes::new(py, part))?;
                        } else {
                            list.append(Memory::of(part.clone()))?;
                        }
                    }
                    self.hooks.loads.bind(py).call1((list,))?
                }
                [] => return Err(pyo3::exceptions::PyTypeError::new_err("no frames")),
            };
            Ok(self.value(key, &object, weight))
        });
        let now = self.clock.now();
        self.decode.add(1, weight, now.saturating_sub(start));
        self.book(|tally| tally.add(Step::Deserialize, start, now));
        decoded.map_err(|error: PyErr| Error::codec("python", error.to_string()))
    }

    /// The object of a stored value, should somebody keep it alive.
    fn alive(&self, key: &Id) -> Option<Value> {
        self.state.lock().records.get(key)?.weak.as_ref()?;
        let weight = self.inner.stored_size(key)?.memory; // storage has a lock: before the interpreter's
        Python::attach(|py| {
            let weak = self.state.lock().records.get(key)?.weak.as_ref()?.clone_ref(py);
            weak.bind(py).upgrade().map(|object| self.value(key, &object, weight))
        })
    }

    fn value(&self, key: &Id, object: &Bound<'_, PyAny>, weight: u64) -> Value {
        self.names.arrived(object.py(), *key, address(object));
        Value::new(&self.names, *key, object, weight)
    }
}

/// That of the frames which these parts of an object become.
fn digest(parts: &[Bound<'_, PyAny>]) -> PyResult<u128> {
    let mut digest = Digest::new();
    digest.frame(0); // the head
    for part in parts {
        memory::digest(part, &mut digest)?;
    }
    Ok(digest.finish())
}

impl MutableMapping<Id, Value> for Objects {
    fn get(&self, key: &Id) -> Result<Option<Value>> {
        if let Some(value) = self.alive(key) {
            return Ok(Some(value));
        }
        let size = self.inner.stored_size(key);
        let bytes = size.map_or(0, |size| size.disk);
        let told = size.is_some_and(|size| size.memory >= TOLD_APART);
        let before = if told { self.inner.stats().decompress.time } else { Duration::ZERO };
        let began = self.clock.now();
        let Some(frames) = self.inner.get(key)? else { return Ok(None) };
        let ended = self.clock.now();
        let decompress =
            if told { self.inner.stats().decompress.time.saturating_sub(before) } else { before };
        let read = began.max(ended.saturating_sub(decompress));
        self.read.add(1, bytes, ended.saturating_sub(began));
        self.book(|tally| {
            tally.add(Step::DiskRead, began, read);
            tally.add(Step::Decompress, read, ended);
            tally.read.0 += 1;
            tally.read.1 += bytes;
        });
        let value = self.decode(key, frames, ended)?;
        let hash = self.state.lock().records.get(key).map(|record| record.hash);
        if let Some(hash) = hash {
            self.note(key, &value, hash, false);
        }
        Ok(Some(value))
    }
    fn insert(&self, key: Id, value: Value) -> Result<()> {
        let frames = self.encoded(&key, &value, |py| self.encode(py, &value))?;
        self.stored.fetch_add(1, AcqRel);
        self.put(&key, &value, frames)
    }
    fn remove(&self, key: &Id) -> Result<bool> {
        let removed = self.inner.remove(key)?;
        if removed {
            self.stored.fetch_sub(1, AcqRel);
        }
        let record = self.state.lock().records.remove(key);
        drop(record); // with the lock given back
        Ok(removed)
    }
    /// A value that cannot be decoded stays.
    fn take(&self, key: &Id) -> Result<Option<Value>> {
        let Some(value) = self.get(key)? else { return Ok(None) };
        Ok(self.remove(key)?.then_some(value))
    }
    fn contains_key(&self, key: &Id) -> bool {
        self.stored.load(Acquire) > 0 && self.inner.contains_key(key)
    }
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&Id)) {
        self.inner.for_each_key(f);
    }
    fn usage(&self) -> Usage {
        self.inner.usage()
    }
    fn stored_size(&self, key: &Id) -> Option<SpilledSize> {
        self.inner.stored_size(key)
    }
    fn stats(&self) -> Stats {
        let mut stats = self.inner.stats();
        stats.encode = self.encode.read();
        stats.decode = self.decode.read();
        stats
    }
    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
    fn close(&self) -> Result<()> {
        self.inner.close()
    }
}
