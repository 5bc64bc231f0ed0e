//! The side that asks.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use spill_core::{Error, ErrorKind, Result};

use super::{Reply, Request, name, own_user, peer, place};
use crate::{Trimmed, WorkerState};

/// A reply is never longer than this, in bytes; a state takes some kilobytes.
const LONGEST_REPLY: u64 = 1 << 20;

/// How long an answer may take, but for a watch, which waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a running worker of this user.
pub struct Client {
    pid: u32,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the worker with process number `pid`, now or not at all.
    ///
    /// # Errors
    /// [`Io`](spill_core::ErrorKind::Io) when no worker listens there, or the one who does is another process or
    /// another user's, or has more connections to accept than it comes to.
    pub fn connect(pid: u32) -> Result<Self> {
        let failed = |error| Error::io("connect to", place(pid), error);
        let stream = connect_now(&name(pid)).map_err(failed)?;
        let (user, process) = peer(&stream).map_err(failed)?;
        if process != pid || (user != own_user() && own_user() != 0) {
            let denied = std::io::Error::new(
                std::io::ErrorKind::PermissionDenied,
                format!("it belongs to process {process} of user {user}"),
            );
            return Err(failed(denied));
        }
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Client { pid, stream: BufReader::new(stream) })
    }

    /// The worker's state now.
    ///
    /// # Errors
    /// [`Io`](spill_core::ErrorKind::Io) when the worker has gone or does not answer.
    pub fn state(&mut self) -> Result<WorkerState> {
        self.send(Request::State)?;
        match self.reply()? {
            Reply::State(state) => Ok(*state),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Hands the worker's unused memory back to the system.
    ///
    /// # Errors
    /// As [`state`](Self::state), and [`Backend`](spill_core::ErrorKind::Backend) with what the worker said when
    /// it failed.
    pub fn trim(&mut self) -> Result<Trimmed> {
        self.send(Request::Trim)?;
        match self.reply()? {
            Reply::Trimmed(trimmed) => Ok(trimmed),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Asks the worker to retire; once it was asked, to end at once. Does not wait until it has.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub fn retire(&mut self) -> Result<()> {
        self.send(Request::Retire)?;
        match self.reply()? {
            Reply::Retiring => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Calls `f` with the worker's state now, at each event and every half second, until `f` answers `false`
    /// or the worker ends.
    ///
    /// # Errors
    /// As [`state`](Self::state); the end of the worker is none.
    pub fn watch(mut self, mut f: impl FnMut(WorkerState) -> bool) -> Result<()> {
        self.send(Request::Watch)?;
        loop {
            match self.reply() {
                Ok(Reply::State(state)) => {
                    if !f(*state) {
                        return Ok(());
                    }
                }
                Ok(other) => return Err(self.unexpected(&other)),
                Err(error) => match error.kind() {
                    ErrorKind::Closed { .. } => return Ok(()),
                    _ => return Err(error),
                },
            }
        }
    }

    fn send(&mut self, request: Request) -> Result<()> {
        let sent = serde_json::to_string(&request).map_err(std::io::Error::other);
        sent.and_then(|text| writeln!(self.stream.get_mut(), "{text}"))
            .map_err(|error| Error::io("write to", place(self.pid), error))
    }

    fn reply(&mut self) -> Result<Reply> {
        let failed = |error| Error::io("read from", place(self.pid), error);
        let mut line = String::new();
        (&mut self.stream).take(LONGEST_REPLY).read_line(&mut line).map_err(failed)?;
        if line.is_empty() {
            return Err(ErrorKind::Closed { what: "the worker's control socket" }.into());
        }
        serde_json::from_str(&line).map_err(|error| failed(error.into()))
    }

    fn unexpected(&self, reply: &Reply) -> Error {
        let status = match reply {
            Reply::Failed(text) => text.clone(),
            other => format!("it answered {other:?}"),
        };
        ErrorKind::Backend { name: "worker", location: place(self.pid), status, transient: false }.into()
    }
}

/// Connects to an abstract name. Who connects as one usually does waits for ever for a listener that does not accept
/// and whose queue is full.
fn connect_now(name: &str) -> std::io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_whose_queue_is_full_is_not_waited_for() {
        let name = format!("overspill/test/{}", std::process::id());
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        let listener =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&listener, &address).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let waiting: Vec<_> = (0..10).map(|_| connect_now(&name)).collect();
        assert!(waiting[0].is_ok());
        let refused = waiting[9].as_ref().unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    }
}
