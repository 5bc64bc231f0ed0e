//! The guard: a small process between a nanny and one worker, which outlives both.
//!
//! It is the *subreaper* of the worker: whatever the worker starts stays below it, however often that forks. So
//! when the worker has ended, or the nanny is gone (the socket that they share says so, however the nanny died),
//! it ends all of them, removes the worker's directories and ends too. Should the guard itself be killed, the
//! kernel ends the worker.

use std::env;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use rustix::io::Errno;
use rustix::process::{Signal, WaitOptions, WaitStatus, getpid, set_child_subreaper, wait};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use spill_core::{Error, Result};

use super::bound::bind_to_parent;
use super::directory::Directory;
use super::tree::{descendants, send};
use crate::LOCAL_DIRECTORY_VARIABLE;

/// What a guard tells its nanny, a line of JSON each.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// The worker runs as this process.
    Started(u32),
    /// It could not be started, and why.
    Failed(String),
    /// It has ended, and all that it started.
    Ended(End),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Exited(code) => write!(f, "with exit code {code}"),
            End::Signalled(signal) => write!(f, "by signal {signal}"),
        }
    }
}

impl End {
    /// The exit code of one who ends as this process did, as shells count.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            End::Exited(code) => u8::try_from(code).unwrap_or(1),
            End::Signalled(signal) => u8::try_from(128 + signal).unwrap_or(1),
        }
    }
}

/// Runs the guard: the whole of a process that a [`Nanny`](crate::nanny::Nanny) started by its
/// [`GuardProgram`](crate::nanny::GuardProgram). `directories` are those below which the worker gets one of its
/// own each, `command` is the worker. Returns when everything is gone.
///
/// # Errors
/// [`Io`](spill_core::ErrorKind::Io) when standard input is not a nanny's socket, the directories cannot be made
/// or the worker not be started.
pub fn run_guard(directories: &[PathBuf], command: &[OsString]) -> Result<()> {
    let failed = |error: io::Error| Error::io("talk to", "the nanny", error);
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let socket = UnixStream::from(socket);
    socket.local_addr().map_err(failed)?; // nobody's socket: somebody started it by hand
    match guarded(directories, command, &socket) {
        Ok(end) => tell(&socket, &Message::Ended(end)),
        Err(error) => {
            tell(&socket, &Message::Failed(error.to_string()));
            return Err(error);
        }
    }
    Ok(())
}

/// A nanny that has gone needs no message.
fn tell(mut socket: &UnixStream, message: &Message) {
    if let Ok(mut text) = serde_json::to_vec(message) {
        text.push(b'\n');
        let _ = socket.write_all(&text);
    }
}

fn guarded(directories: &[PathBuf], command: &[OsString], socket: &UnixStream) -> Result<End> {
    let failed = |error: io::Error| Error::io("guard", "the worker", error);
    set_child_subreaper(Some(getpid())).map_err(|error| failed(error.into()))?;
    // Signals are the nanny's to pass on; the guard stays to clean up.
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        let ignored = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal, ignored).map_err(failed)?;
    }
    let made: Vec<Directory> =
        directories.iter().map(|parent| Directory::make(parent)).collect::<Result<_>>()?;
    let [program, arguments @ ..] = command else {
        return Err(Error::config("command", "nothing", "a program to start"));
    };
    let mut worker = Command::new(program);
    worker.args(arguments).stdin(Stdio::null());
    if !made.is_empty() {
        let paths = env::join_paths(made.iter().map(Directory::path)).map_err(|error| {
            Error::config("local directory", format!("{directories:?}"), error.to_string())
        })?;
        worker.env(LOCAL_DIRECTORY_VARIABLE, paths);
    }
    bind_to_parent(&mut worker);
    let started = worker.spawn().map_err(|error| Error::io("start", PathBuf::from(program), error))?;
    let pid = started.id();
    tell(socket, &Message::Started(pid));

    let listening = socket.try_clone().map_err(failed)?;
    end_with_the_nanny(listening)?;
    let end = reap(pid);
    drop(made);
    Ok(end)
}

/// Ends everything once the nanny is gone. The thread ends with the process.
#[expect(clippy::disallowed_methods, reason = "it waits for the end of the nanny or of this process")]
fn end_with_the_nanny(mut socket: UnixStream) -> Result<()> {
    let wait = move || {
        // The nanny never writes: this returns when its end is closed.
        let _ = socket.read(&mut [0]);
        kill_all();
    };
    let thread = thread::Builder::new().name("overspill-guard".to_owned()).spawn(wait);
    thread.map(drop).map_err(|error| {
        kill_all();
        Error::io("start", "the guard's thread", error)
    })
}

fn kill_all() {
    for pid in descendants(std::process::id()) {
        send(pid, Signal::KILL);
    }
}

/// Waits for the worker's end, then ends all that it left; orphans come to us, so that waiting finds them all.
fn reap(worker: u32) -> End {
    let mut end = None;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                if u32::try_from(pid.as_raw_nonzero().get()) == Ok(worker) {
                    end = Some(end_of(status));
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(_) => return end.unwrap_or(End::Signalled(9)),
        }
        if end.is_some() {
            kill_all();
        }
    }
}

fn end_of(status: WaitStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signalled(signal.unwrap_or(9)),
    }
}
