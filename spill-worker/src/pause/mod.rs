//! What a pause holds back: the start of tasks, and transfers.

mod gate;
mod transfer;
mod waiters;

pub use gate::{Entering, Gate, Permit};
pub use transfer::{Beginning, Direction, Transfer, TransferLimiter};
