//! A nanny's hold on a guard, and by it on one worker process.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child as Process, Command, Stdio};
use std::time::Duration;

use spill_core::{Error, Result};

use super::guard::Message;

/// How to start a guard: a program that calls [`run_guard`](crate::nanny::run_guard) with what follows its own
/// arguments: `--directory DIR` for each directory, `--`, and the worker's command.
#[derive(Clone, Debug)]
pub struct GuardProgram {
    /// The program.
    pub program: PathBuf,
    /// What makes it a guard.
    pub arguments: Vec<OsString>,
}

/// A running guard. Dropping it ends the worker by force and waits until everything is gone.
pub(super) struct Child {
    guard: Process,
    /// Closing it tells the guard to end everything.
    socket: Option<UnixStream>,
    /// What was received of the next message.
    partial: Vec<u8>,
}

/// What came of waiting for a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Message(Message),
    /// None within the time.
    Nothing,
    /// The guard is gone, or can be heard no more, and why.
    Lost(String),
}

impl Received {
    fn ended() -> Self {
        Received::Lost("its guard ended".to_owned())
    }

    fn unheard(error: impl std::fmt::Display) -> Self {
        Received::Lost(format!("its guard is not understood: {error}"))
    }
}

impl Child {
    pub(super) fn start(
        guard: &GuardProgram,
        directories: &[PathBuf],
        command: &[OsString],
        environment: &[(String, OsString)],
    ) -> Result<Self> {
        let failed = |error| Error::io("start", &guard.program, error);
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        let mut process = Command::new(&guard.program);
        process.args(&guard.arguments);
        for directory in directories {
            process.arg("--directory").arg(directory);
        }
        process.arg("--").args(command);
        process.envs(environment.iter().map(|(name, value)| (name, value)));
        process.stdin(Stdio::from(OwnedFd::from(theirs)));
        // A group of its own: what a terminal sends to the nanny reaches the worker once, from the nanny.
        process.process_group(0);
        let guard = process.spawn().map_err(failed)?;
        Ok(Child { guard, socket: Some(socket), partial: Vec::new() })
    }

    /// The guard's process.
    pub(super) fn guard(&self) -> u32 {
        self.guard.id()
    }

    /// Waits for a message of the guard, for at most `time`.
    pub(super) fn receive(&mut self, time: Duration) -> Received {
        loop {
            if let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                return serde_json::from_slice(&line).map_or_else(Received::unheard, Received::Message);
            }
            let Some(socket) = &mut self.socket else { return Received::ended() };
            if let Err(error) = socket.set_read_timeout(Some(time.max(Duration::from_millis(1)))) {
                return Received::unheard(error);
            }
            let mut bytes = [0; 1024];
            match socket.read(&mut bytes) {
                Ok(0) => return Received::ended(),
                Ok(n) => self.partial.extend(bytes.iter().take(n)),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Received::Nothing,
                    io::ErrorKind::Interrupted => {}
                    _ => return Received::unheard(error),
                },
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.socket = None;
        if let Err(error) = self.guard.wait() {
            tracing::warn!("a guard cannot be waited for: {error}");
        }
    }
}
