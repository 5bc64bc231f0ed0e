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

/// What the names of all workers' sockets begin with.
const PREFIX: &str = "overspill/worker/";

/// The processes of this machine that listen as workers do, whosever they are. Costs a look through all Unix
/// sockets. In a container those of the same network namespace are seen.
///
/// # Errors
/// [`Io`](spill_core::ErrorKind::Io) when the system does not list its sockets.
pub fn list() -> Result<Vec<u32>> {
    const SOCKETS: &str = "/proc/net/unix";
    let text = std::fs::read_to_string(SOCKETS).map_err(|error| Error::io("read", SOCKETS, error))?;
    Ok(listeners(&text))
}

fn listeners(sockets: &str) -> Vec<u32> {
    // The path comes last, and an abstract one begins with `@`. The fourth column has the flag of listeners.
    let pid = |line: &str| {
        let (columns, name) = line.split_once(" @")?;
        let flags = columns.split_ascii_whitespace().nth(3)?;
        let listens = u32::from_str_radix(flags, 16).ok()? & 0x1_0000 != 0;
        listens.then(|| name.strip_prefix(PREFIX)?.parse().ok())?
    };
    let mut pids: Vec<u32> = sockets.lines().filter_map(pid).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The name at which the worker with this process number listens.
fn name(pid: u32) -> String {
    format!("{PREFIX}{pid}")
}

/// The same as an address.
fn address(pid: u32) -> Result<SocketAddr> {
    SocketAddr::from_abstract_name(name(pid)).map_err(|error| Error::io("name", place(pid), error))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_workers_are_found_among_all_sockets() {
        let sockets = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 18000 /run/some.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 18001 @overspill/worker/42\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 18002 @overspill/worker/42\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 18003 @overspill/worker/43\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 18004 @overspill/worker/x\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 18005 @overspill/worker/7\n";
        assert_eq!(listeners(sockets), [7, 42]);
    }
}
