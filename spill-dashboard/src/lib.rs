//! What workers do, for people who would rather look than read logs: a web page, the same as JSON, and metrics
//! for Prometheus.
//!
//! A dashboard stands over anything that gives the state of workers ([`Observe`](spill_worker::Observe)): one
//! [`Worker`](spill_worker::Worker) of this process, a nanny, or the running workers of this machine
//! ([`LocalWorkers`]).
//!
//! ```
//! use std::sync::Arc;
//!
//! use spill_dashboard::Dashboard;
//! use spill_worker::{Settings, Worker};
//!
//! let worker = Arc::new(Worker::builder(Settings::default()).control_socket(false).start()?);
//! let dashboard = Dashboard::builder(worker).address(([127, 0, 0, 1], 0).into()).start()?;
//! println!("look at {}", dashboard.url());
//! # assert!(dashboard.url().starts_with("http://127.0.0.1:"));
//! # Ok::<_, spill_core::Error>(())
//! ```
//!
//! | path | what |
//! |---|---|
//! | `/` | the page |
//! | `/api/v1/state` | everything that is known now, JSON ([`State`]) |
//! | `/api/v1/schema` | its JSON schema |
//! | `/api/v1/history`, `?worker=ID` | memory over the last ten minutes, of all workers or one |
//! | `/api/v1/stream` | server-sent events: the state more than twice a second, the log, the time line |
//! | `/metrics` | Prometheus text format |
//!
//! Everything is read-only. Requests by a foreign name (DNS rebinding) or from another site's page are refused,
//! sizes and connections are bounded, and all of it runs on one thread of its own, so that no client can hold up
//! a worker.

mod collect;
mod connection;
mod guard;
#[cfg(target_os = "linux")]
mod local;
mod metrics;
mod model;
mod rates;
mod routes;
mod server;
mod stream;

#[cfg(target_os = "linux")]
pub use local::LocalWorkers;
pub use model::{
    Backend, Block, BlockKind, Colour, History, Levels, LogEntry, Memory, RunningTask, State, Worker,
    WorkerStatus, schema,
};
pub use server::{DEFAULT_ADDRESS, DEFAULT_INTERVAL, DEFAULT_PATIENCE, Dashboard, DashboardBuilder};
