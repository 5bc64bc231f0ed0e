//! Keys of a task graph: text, bytes, numbers, `None` and tuples of such.
//!
//! Text is held as the object that it is, and compared as Python does; whatever else becomes bytes. Two keys are the
//! same exactly when Python calls them equal, so `1`, `1.0` and `True` are one key and `"1"` is another (PARITY B09).
//! No Python code runs when keys are compared.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyString, PyTuple};

/// A key.
pub(crate) enum Key {
    /// Of the very type `str`.
    Text(Py<PyString>),
    Other(Arc<[u8]>),
}

/// A key that is looked for, where it lies.
#[derive(Clone, Copy)]
pub(crate) enum KeyRef<'a, 'py> {
    Text(&'a Bound<'py, PyString>),
    Other(&'a [u8]),
}

const TEXT: u8 = b's';
/// Text with surrogates, which UTF-8 has no form for.
const SURROGATES: u8 = b'S';
const BYTES: u8 = b'b';
const INTEGER: u8 = b'i';
/// An integer beyond 64 bits, in hexadecimal digits.
const LONG: u8 = b'l';
const FLOAT: u8 = b'f';
const NONE: u8 = b'n';
const TUPLE: u8 = b't';

impl Key {
    pub(crate) fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Key::Text(text) => Key::Text(text.clone_ref(py)),
            Key::Other(bytes) => Key::Other(Arc::clone(bytes)),
        }
    }

    #[inline]
    pub(crate) fn is(&self, key: KeyRef<'_, '_>) -> bool {
        match (self, key) {
            (Key::Text(text), KeyRef::Text(key)) => {
                text.is(key) || text.bind(key.py()).as_any().eq(key).unwrap_or(false)
            }
            (Key::Other(bytes), KeyRef::Other(key)) => **bytes == *key,
            _ => false,
        }
    }

    /// The object.
    pub(crate) fn object<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Key::Text(text) => Ok(text.bind(py).clone().into_any()),
            Key::Other(bytes) => read(py, &mut &**bytes),
        }
    }
}

impl KeyRef<'_, '_> {
    /// Text has Python's hash, which its object remembers.
    #[inline]
    pub(crate) fn hash(self, hasher: &impl BuildHasher) -> u64 {
        match self {
            // it cannot fail
            KeyRef::Text(text) => text.hash().unwrap_or_default().cast_unsigned() as u64,
            KeyRef::Other(bytes) => hasher.hash_one(bytes),
        }
    }
}

impl From<KeyRef<'_, '_>> for Key {
    fn from(key: KeyRef<'_, '_>) -> Self {
        match key {
            KeyRef::Text(text) => Key::Text(text.clone().unbind()),
            KeyRef::Other(bytes) => Key::Other(bytes.into()),
        }
    }
}

/// A key that Python gave: text as it is, or bytes in memory that the thread has for that.
pub(crate) enum Lookup<'a, 'py> {
    Text(&'a Bound<'py, PyString>),
    /// Made of an object whose type is derived from `str`.
    Plain(Bound<'py, PyString>),
    Other(Scratch),
}

/// Bytes in memory that goes back to the thread.
pub(crate) struct Scratch(Vec<u8>);

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// More than this many bytes are not kept for the next key.
const LONG_KEY: usize = 4096;

impl<'a, 'py> Lookup<'a, 'py> {
    /// The key of `object`, or a `TypeError` when it is of a type that cannot be one.
    #[inline]
    pub(crate) fn of(object: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = object.cast_exact::<PyString>() {
            return Ok(Lookup::Text(text));
        }
        if let Ok(text) = object.cast::<PyString>() {
            let plain = object.py().get_type::<PyString>().call_method1("__str__", (text,))?;
            return Ok(Lookup::Plain(plain.cast_into_exact()?));
        }
        // taken out, since Python code that is called may look for a key itself
        let mut scratch = Scratch(SCRATCH.take());
        scratch.0.clear();
        write(object, &mut scratch.0)?;
        Ok(Lookup::Other(scratch))
    }

    #[inline]
    pub(crate) fn as_ref(&self) -> KeyRef<'_, 'py> {
        match self {
            Lookup::Text(text) => KeyRef::Text(text),
            Lookup::Plain(text) => KeyRef::Text(text),
            Lookup::Other(scratch) => KeyRef::Other(&scratch.0),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.0.capacity() <= LONG_KEY {
            SCRATCH.set(std::mem::take(&mut self.0));
        }
    }
}

fn write(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    if let Ok(text) = object.cast::<PyString>() {
        match text.to_str() {
            Ok(text) => part(out, TEXT, text.as_bytes()),
            Err(_) => {
                let bytes = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
                part(out, SURROGATES, bytes.cast::<PyBytes>()?.as_bytes());
            }
        }
    } else if let Ok(items) = object.cast::<PyTuple>() {
        out.push(TUPLE);
        out.extend((items.len() as u32).to_le_bytes());
        for item in items.iter() {
            write(&item, out)?;
        }
    } else if object.is_instance_of::<PyInt>() {
        integer(object, out)?;
    } else if let Ok(bytes) = object.cast::<PyBytes>() {
        part(out, BYTES, bytes.as_bytes());
    } else if let Ok(number) = object.cast::<PyFloat>() {
        let value = number.value();
        if value.is_finite() && value.fract() == 0.0 {
            integer(&object.call_method0("__int__")?, out)?;
        } else {
            out.push(FLOAT);
            out.extend(value.to_bits().to_le_bytes());
        }
    } else if object.is_none() {
        out.push(NONE);
    } else {
        return Err(PyTypeError::new_err(format!(
            "a key is text, bytes, a number, None or a tuple of such; this one is of type {}",
            object.get_type().name()?
        )));
    }
    Ok(())
}

fn integer(object: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    match object.extract::<i64>() {
        Ok(number) => {
            out.push(INTEGER);
            out.extend(number.to_le_bytes());
        }
        Err(_) => part(out, LONG, format!("{:x}", object.extract::<Big>()?).as_bytes()),
    }
    Ok(())
}

/// An integer of any size, in hexadecimal digits as Python writes them.
struct Big(String);

impl<'py> FromPyObject<'_, 'py> for Big {
    type Error = PyErr;
    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        object.call_method1("__format__", ("x",))?.extract().map(Big)
    }
}

impl std::fmt::LowerHex for Big {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn part(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn read<'py>(py: Python<'py>, rest: &mut &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let [tag] = number(rest)?;
    Ok(match tag {
        TEXT => PyString::from_bytes(py, sized(rest)?)?.into_any(),
        SURROGATES => PyBytes::new(py, sized(rest)?).call_method1("decode", ("utf-8", "surrogatepass"))?,
        BYTES => PyBytes::new(py, sized(rest)?).into_any(),
        INTEGER => i64::from_le_bytes(number(rest)?).into_pyobject(py)?.into_any(),
        LONG => {
            let digits = PyString::from_bytes(py, sized(rest)?)?;
            py.get_type::<PyInt>().call1((digits, 16))?
        }
        FLOAT => PyFloat::new(py, f64::from_bits(u64::from_le_bytes(number(rest)?))).into_any(),
        NONE => py.None().into_bound(py),
        TUPLE => {
            let count = u32::from_le_bytes(number(rest)?);
            let items: PyResult<Vec<_>> = (0..count).map(|_| read(py, rest)).collect();
            PyTuple::new(py, items?)?.into_any()
        }
        _ => return Err(damaged()),
    })
}

fn number<const N: usize>(rest: &mut &[u8]) -> PyResult<[u8; N]> {
    let (number, after) = rest.split_first_chunk::<N>().ok_or_else(damaged)?;
    *rest = after;
    Ok(*number)
}

fn sized<'a>(rest: &mut &'a [u8]) -> PyResult<&'a [u8]> {
    let length = u32::from_le_bytes(number(rest)?) as usize;
    let (bytes, after) = rest.split_at_checked(length).ok_or_else(damaged)?;
    *rest = after;
    Ok(bytes)
}

fn damaged() -> PyErr {
    PyTypeError::new_err("these bytes are no key")
}
