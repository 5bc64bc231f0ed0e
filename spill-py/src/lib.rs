//! The native half of the Python package `overspill`.
//!
//! ```python
//! from distributed import Client, LocalCluster
//! import overspill
//!
//! with LocalCluster(n_workers=2, memory_limit="1 GiB", data=overspill.SpillBuffer) as cluster:
//!     with Client(cluster) as client:
//!         ...
//! ```
//!
//! A Python object is held as an [`Arc`](std::sync::Arc) of a reference to it ([`value`]), so that the table of
//! [`spill_core::Buffer`] clones and moves it without the interpreter's lock. Keys become bytes at the boundary
//! ([`key`]). [`objects`] is the layer between the buffer and storage: it turns objects into frames and back.
//!
//! # The interpreter's lock
//!
//! It is given up before any lock of ours is taken, and taken again only by [`objects`], where the buffer holds
//! none. So no Python code runs, and no object dies, while a table is locked.

mod buffer;
mod error;
mod fork;
mod key;
mod memory;
mod objects;
mod store;
mod value;

use pyo3::prelude::*;

/// What Python imports as `overspill._native`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<buffer::NativeBuffer>()?;
    module.add_class::<memory::Memory>()?;
    module.add_function(wrap_pyfunction!(fork::forked, module)?)?;
    Ok(())
}
