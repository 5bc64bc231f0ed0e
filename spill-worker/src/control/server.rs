//! The side that answers: a thread that listens, and one for each connection.
#![expect(clippy::disallowed_methods, reason = "the server owns its threads: dropping it joins them")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use spill_core::{Error, Result};

use super::{Reply, Request, address, own_user, peer, place};
use crate::{Trimmed, WorkerState};

/// More than a nanny, a dashboard and some commands need.
const MOST_CONNECTIONS: usize = 32;

/// A request is never longer than this, in bytes.
const LONGEST_REQUEST: u64 = 1024;

/// How often a watcher is sent the state when nothing happens.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// A client that does not read for so long is cut off.
const WRITE_PATIENCE: Duration = Duration::from_secs(2);

/// How long it waits after a connection that could not be accepted: without descriptors the next fails too.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What is served.
pub(crate) trait Serve: Send + Sync {
    fn state(&self) -> WorkerState;
    fn trim(&self) -> Result<Trimmed>;
    fn retire(&self);
    /// Waits until there were more than `seen` events, for at most `time`; how many there were.
    fn wait_for_event(&self, seen: u64, time: Duration) -> u64;
    /// Ends every such wait, from now on.
    fn wait_no_more(&self);
}

/// Serves until it is dropped.
pub(crate) struct Server {
    shared: Arc<Shared>,
    serve: Weak<dyn Serve>,
    listening: Option<JoinHandle<()>>,
}

struct Shared {
    listener: UnixListener,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    stopping: bool,
    connections: Vec<(UnixStream, JoinHandle<()>)>,
}

impl Server {
    /// Listens at the address of this process. `serve` is let go of when it is gone.
    pub(crate) fn start(serve: Weak<dyn Serve>) -> Result<Self> {
        let pid = std::process::id();
        let failed = |error| Error::io("listen on", place(pid), error);
        let listener = UnixListener::bind_addr(&address(pid)?).map_err(failed)?;
        let shared = Arc::new(Shared { listener, open: Mutex::default() });
        let (of_thread, served) = (Arc::clone(&shared), Weak::clone(&serve));
        let listening = thread::Builder::new()
            .name("overspill-control".to_owned())
            .spawn(move || listen(&of_thread, &served))
            .map_err(failed)?;
        Ok(Server { shared, serve, listening: Some(listening) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let connections = {
            let mut open = self.shared.open.lock();
            open.stopping = true;
            std::mem::take(&mut open.connections)
        };
        // Wakes the thread that accepts, and those that read.
        let _ = rustix::net::shutdown(&self.shared.listener, rustix::net::Shutdown::Both);
        let own = thread::current().id();
        for (stream, _) in &connections {
            let _ = stream.shutdown(Shutdown::Read);
        }
        // Watchers are sent the last state: how it ended.
        if let Some(served) = self.serve.upgrade() {
            served.wait_no_more();
        }
        if let Some(listening) = &self.listening {
            listening.thread().unpark();
        }
        let threads = connections.into_iter().map(|(_, thread)| thread).chain(self.listening.take());
        for thread in threads.filter(|thread| thread.thread().id() != own) {
            if thread.join().is_err() {
                tracing::error!("a thread of the control socket panicked");
            }
        }
    }
}

fn listen(shared: &Arc<Shared>, serve: &Weak<dyn Serve>) {
    for stream in shared.listener.incoming() {
        let Ok(stream) = stream else {
            if shared.open.lock().stopping {
                return;
            }
            thread::park_timeout(ACCEPT_AGAIN);
            continue;
        };
        if !peer(&stream).is_ok_and(|(user, _)| user == own_user() || user == 0) {
            tracing::warn!("another user tried to use the control socket");
            continue;
        }
        let (Ok(kept), Ok(())) = (stream.try_clone(), stream.set_write_timeout(Some(WRITE_PATIENCE))) else {
            continue;
        };
        let mut open = shared.open.lock();
        if open.stopping {
            return;
        }
        open.connections.retain(|(_, thread)| !thread.is_finished());
        if open.connections.len() >= MOST_CONNECTIONS {
            tracing::warn!("too many connections to the control socket");
            continue;
        }
        let (of_thread, serve) = (Arc::clone(shared), Weak::clone(serve));
        let connection = thread::Builder::new().name("overspill-control".to_owned());
        let stream = Answered(stream);
        match connection.spawn(move || answer(&of_thread, &stream, &serve)) {
            Ok(thread) => open.connections.push((kept, thread)),
            Err(error) => tracing::warn!("a connection to the control socket is not served: {error}"),
        }
    }
}

/// A connection that its thread answers. Dropped, it has ended for the client too, although the server still keeps
/// a handle to it.
struct Answered(UnixStream);

impl Drop for Answered {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Answers requests until the connection ends. A client that has gone is no failure of ours.
fn answer(shared: &Shared, stream: &Answered, serve: &Weak<dyn Serve>) {
    let stream = &stream.0;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        match (&mut reader).take(LONGEST_REQUEST).read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let Some(served) = serve.upgrade() else { return };
        let reply = match serde_json::from_str(&line) {
            Ok(Request::State) => Reply::State(Box::new(served.state())),
            Ok(Request::Trim) => served.trim().map_or_else(|e| Reply::Failed(e.to_string()), Reply::Trimmed),
            Ok(Request::Retire) => {
                served.retire();
                Reply::Retiring
            }
            Ok(Request::Watch) => {
                drop(served);
                return watch(shared, stream, serve);
            }
            Err(error) => Reply::Failed(format!("not understood: {error}")),
        };
        drop(served);
        if write(stream, &reply).is_err() {
            return;
        }
    }
}

fn watch(shared: &Shared, stream: &UnixStream, serve: &Weak<dyn Serve>) {
    let (mut seen, mut sent) = (0, 0);
    loop {
        let Some(served) = serve.upgrade() else { return };
        // asked first: a state that is made before the end lacks what the end says
        let last = shared.open.lock().stopping;
        let mut state = served.state();
        state.activity.retain(|activity| activity.number >= sent);
        sent = state.activity.last().map_or(sent, |activity| activity.number + 1);
        let reply = Reply::State(Box::new(state));
        if write(stream, &reply).is_err() || last {
            return;
        }
        seen = served.wait_for_event(seen, WATCH_EVERY);
    }
}

fn write(mut stream: &UnixStream, reply: &Reply) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(reply)?;
    text.push(b'\n');
    stream.write_all(&text)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A process has one control socket, for which its tests take turns.
    static TURN: Mutex<()> = Mutex::new(());

    /// Is stopped while it makes a state, which then is that of before.
    struct Stopped {
        is_over: Mutex<bool>,
        asked: Sender<()>,
        stopped: Sender<()>,
        stops: Mutex<Receiver<()>>,
    }

    impl Serve for Stopped {
        fn state(&self) -> WorkerState {
            let over = *self.is_over.lock();
            let state = WorkerState { uptime: f64::from(u8::from(over)), ..WorkerState::default() };
            if !over {
                self.asked.send(()).unwrap();
                self.stops.lock().recv().unwrap();
            }
            state
        }
        fn trim(&self) -> Result<Trimmed> {
            unreachable!()
        }
        fn retire(&self) {
            unreachable!()
        }
        fn wait_for_event(&self, seen: u64, _: Duration) -> u64 {
            seen
        }
        fn wait_no_more(&self) {
            *self.is_over.lock() = true;
            self.stopped.send(()).unwrap();
        }
    }

    /// A server, a client of it, and what is to be heard when a state is asked for.
    fn served() -> (Arc<Stopped>, Server, UnixStream, Receiver<()>) {
        let ((asked, is_asked), (stopped, stops)) = (channel(), channel());
        let served =
            Arc::new(Stopped { is_over: Mutex::new(false), asked, stopped, stops: Mutex::new(stops) });
        let server = Server::start(Arc::downgrade(&served) as Weak<dyn Serve>).unwrap();
        let stream = UnixStream::connect_addr(&address(std::process::id()).unwrap()).unwrap();
        (served, server, stream, is_asked)
    }

    #[test]
    fn the_last_state_that_a_watcher_is_sent_was_made_after_the_end() {
        let _turn = TURN.lock();
        let (_served, server, stream, is_asked) = served();
        serde_json::to_writer(&stream, &Request::Watch).unwrap();
        (&stream).write_all(b"\n").unwrap();
        is_asked.recv().unwrap();
        drop(server);
        let replies =
            BufReader::new(stream).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        let uptimes: Vec<f64> = replies
            .map(|reply| match reply {
                Reply::State(state) => state.uptime,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(uptimes, [0.0, 1.0]);
    }

    #[test]
    fn a_client_that_is_answered_no_more_sees_the_end_while_the_server_goes_on() {
        let _turn = TURN.lock();
        let (served, server, stream, _is_asked) = served();
        drop(served);
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        (&stream).write_all(b"\"state\"\n").unwrap();
        assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
        drop(server);
    }
}
