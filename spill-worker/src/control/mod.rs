//! The control socket of a worker: whoever runs it can look at it and give it orders.
//!
//! A worker listens on an abstract Unix socket whose name has its process number, so that nothing lies on disk
//! and nothing is left behind. Both sides ask the kernel who the other is: a worker answers its own user and
//! root only, a client talks only to the process it asked for. Requests and replies are lines of JSON.

mod client;
mod server;

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use serde::{Deserialize, Serialize};
use spill_core::{Error, Result};

use crate::{Trimmed, WorkerState};

pub use client::Client;
pub(crate) use server::{Serve, Server};

/// What can be asked of a worker.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    State,
    /// The state now, and again at each event and every half second, until the connection ends.
    Watch,
    Trim,
    Retire,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    State(Box<WorkerState>),
    Trimmed(Trimmed),
    Retiring,
    Failed(String),
}

/// Where the worker with this process number listens.
fn address(pid: u32) -> Result<SocketAddr> {
    let name = format!("overspill/worker/{pid}");
    SocketAddr::from_abstract_name(name).map_err(|error| Error::io("name", place(pid), error))
}

/// How errors call the socket.
fn place(pid: u32) -> String {
    format!("the control socket of process {pid}")
}

/// The user and process at the other end.
fn peer(stream: &UnixStream) -> std::io::Result<(u32, u32)> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    Ok((peer.uid.as_raw(), u32::try_from(peer.pid.as_raw_nonzero().get()).unwrap_or(0)))
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}
