//! Keeps a process below its memory limit: how much there is, how much is used, and what is done about it.
//!
//! - [`MemoryLimit`] is what the process may use, read from text, the environment or a number;
//!   [`SystemMemory`] is what the machine and its control groups leave to it.
//! - [`ProcessMemory`] reads the resident memory of this process; any function can stand in for it.
//! - [`Thresholds`] are the fractions of the limit at which something happens.
//! - [`MemoryMonitor`] watches: it evicts from a mapping when process memory is high although the mapping
//!   itself is below its target, and says when work should pause.
//!
//! A process whose memory comes from elsewhere than its mapping, which grows from 50 to 75 of 100 MiB:
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
//! use std::sync::mpsc;
//!
//! use spill_core::ManualEvict;
//! use spill_worker::{MemoryLimit, MemoryMonitor, SystemMemory};
//!
//! const MIB: u64 = 1 << 20;
//!
//! /// Stands for a buffer whose values are of 5 MiB each.
//! struct Data(Arc<AtomicU64>, mpsc::Sender<()>);
//!
//! impl ManualEvict for Data {
//!     fn evict(&self) -> i64 {
//!         self.0.fetch_sub(5 * MIB, SeqCst);
//!         let _ = self.1.send(());
//!         5 * MIB as i64
//!     }
//!     fn fast(&self) -> bool {
//!         true
//!     }
//! }
//!
//! let memory = Arc::new(AtomicU64::new(50 * MIB));
//! let (evicted, evictions) = mpsc::channel();
//! let system = SystemMemory::from_bytes(1024 * MIB);
//! let source = Arc::clone(&memory);
//! let monitor = MemoryMonitor::builder(MemoryLimit::parse("100 MiB", &system, 1, 1)?)
//!     .data(Arc::new(Data(Arc::clone(&memory), evicted)))
//!     .source(move || Ok(source.load(SeqCst)))
//!     .start()?;
//!
//! memory.store(75 * MIB, SeqCst); // above `spill`, 70 MiB: down to `target`, 60 MiB
//! for _ in 0..3 {
//!     evictions.recv().unwrap();
//! }
//! monitor.stop();
//! assert_eq!(memory.load(SeqCst), 60 * MIB);
//! # Ok::<_, spill_core::Error>(())
//! ```
//!
//! Process memory is read on Linux. Elsewhere everything compiles, and [`ProcessMemory`] and
//! [`SystemMemory::read`] return an error of kind [`Unsupported`](std::io::ErrorKind::Unsupported).

mod activity;
#[cfg(feature = "config")]
pub mod config;
#[cfg(target_os = "linux")]
pub mod control;
mod data;
mod events;
mod limit;
mod monitor;
#[cfg(target_os = "linux")]
pub mod nanny;
mod pace;
mod pause;
mod pressure;
mod process;
mod readings;
mod settings;
mod state;
mod system;
mod thresholds;
mod trim;
#[cfg(test)]
mod warnings;
mod worker;

pub use activity::{ACTIVITIES, Activity, ActivityKind, Running};
pub use data::{Data, DataContext, IntoData};
pub use events::EVENTS;
pub use limit::{MEMORY_LIMIT_VARIABLE, MemoryLimit};
pub use monitor::{
    DEFAULT_INTERVAL, DEFAULT_PAUSE_ALARM, DEFAULT_RECENT_TO_OLD, MemoryMonitor, MonitorBuilder,
    MonitorEvent, MonitorStatus, State,
};
pub use pause::{Beginning, Direction, Entering, Gate, Permit, Transfer, TransferLimiter};
pub use pressure::Pressure;
pub use process::{MemorySource, ProcessMemory};
pub use readings::{Measure, Readings};
pub use settings::{LOCAL_DIRECTORY_VARIABLE, NAME_VARIABLE, NTHREADS_VARIABLE, Rebalance, Settings};
pub use state::{BackendState, Event, EventKind, Observe, Status, StepStats, StorageStats, WorkerState};
pub use system::SystemMemory;
pub use thresholds::Thresholds;
pub use trim::{Allocator, Trimmed, trim};
pub use worker::{Retired, Worker, WorkerBuilder};
