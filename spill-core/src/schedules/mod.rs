//! The buffer's state machine, and the layers that hold keys, under explored schedules (`--cfg shuttle`).
//!
//! Each test runs a handful of threads on one key many times; shuttle chooses at every lock and wait who goes
//! on. Every answer and the state that is left must be explained by some order of the operations that agrees
//! with real time ([`history`]). The storage below ([`store`]) can fail or panic before or after its effect.

mod cases;
mod history;
mod layers;
mod pairs;
mod store;
mod stored;

/// How often a test explores, times ten in the long run.
fn iterations(usual: usize) -> usize {
    if std::env::var_os("OVERSPILL_TEST_LONG").is_some() { usual * 10 } else { usual }
}
