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
//! A Python object is held as a counted pointer to a reference to it (`value`), so that the table of
//! [`spill_core::Buffer`] clones and moves it without the interpreter's lock. Text keys are held as the objects that
//! they are, others become bytes (`key`), and names of values (`names`, `ids`). `buffer` is what Python calls, `open`
//! what it is made of. `objects` is the layer between the buffer and storage: it turns objects into frames and back.
//! `leaf` has storage alone, for programs that stack mappings themselves.
//!
//! # The interpreter's lock
//!
//! Whoever holds a lock of ours or of a store never waits for the interpreter's: no Python code runs and no object
//! dies meanwhile. So a lock may be taken with the interpreter held, which calls do that find their value in fast
//! memory. Before anything else, which may wait for storage or for another thread, the interpreter is given up.
//! Names have no lock but the interpreter's (`gil`): whoever calls them holds that one.

mod buffer;
mod digest;
mod error;
mod fork;
mod gil;
mod ids;
mod key;
mod leaf;
mod memory;
mod names;
mod objects;
mod open;
mod slab;
mod store;
mod tally;
mod value;

use pyo3::prelude::*;

/// What Python imports as `overspill._native`. An interpreter that can do without its lock takes it again for this, and
/// one that was told never to is refused.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    gil::required(module.py())?;
    module.add_class::<buffer::NativeBuffer>()?;
    module.add_class::<leaf::NativeStore>()?;
    module.add_class::<memory::Memory>()?;
    module.add_function(wrap_pyfunction!(fork::forked, module)?)?;
    Ok(())
}
