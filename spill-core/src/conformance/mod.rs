//! The shared conformance suite, the reference model and the faulty backend, for tests of mappings.
//!
//! Feature `conformance`. It is part of the published crate so that mappings written elsewhere are held to
//! the same promises as those written here. **It is not covered by semantic versioning**: a new release may
//! check more than the last one did. Enable it in `[dev-dependencies]` only.
//!
//! - [`contract`] checks what the documentation of [`MutableMapping`](crate::MutableMapping) promises, and
//!   nothing else. [`conformance_tests!`](crate::conformance_tests) turns every promise into a test.
//! - [`model`] predicts: a plain map that every answer is compared with, and an exact least-recently-used
//!   order that says which keys are in fast memory.
//! - [`Faulty`] is any mapping with errors, panics, full disks, held calls and damaged values at chosen
//!   calls. [`Gate`] holds a call in flight for as long as a test wants.
//! - [`Memory`] is the least that a mapping must write.
//!
//! Everything here panics when a promise is broken: that is how a test fails.
//!
//! ```
//! use bytes::Bytes;
//! use spill_core::MutableMapping;
//! use spill_core::conformance::{Fault, Faulty, Memory, Operation, Plan, Ready, contract};
//!
//! // Every promise, on a fresh mapping each.
//! contract::check_all(Memory::<String, Bytes>::new, &Ready);
//!
//! // A mapping whose second insert fails, having changed nothing.
//! let faulty = Faulty::new(Memory::<u64, u64>::new());
//! faulty.inject(Plan::nth(2).on([Operation::Insert]), Fault::full());
//! assert!(faulty.insert(1, 10).is_ok());
//! assert!(faulty.insert(2, 20).is_err_and(|error| error.is_full()));
//! assert_eq!(faulty.len(), 1);
//! assert_eq!(faulty.calls(Operation::Insert), 2);
//! ```
#![expect(clippy::panic, reason = "test support: a broken promise fails its test")]

pub mod contract;
mod faulty;
mod gate;
mod memory;
pub mod model;
mod samples;

pub use faulty::{Fault, Faulty, Operation, Plan};
pub use gate::{Gate, OpenOnDrop};
pub use memory::Memory;
pub use samples::{Ready, SampleKey, SampleValue, Samples};
