//! The running workers of this machine, seen through their control sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use spill_core::{Clock, Error, Result, SystemClock};
use spill_worker::control::{Client, list};
use spill_worker::{Observe, Readings, Status, WorkerState};

/// How often new workers are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A worker that has gone is shown for so long.
const SHOW_GONE: Duration = Duration::from_secs(60);

/// Workers that are followed at a time; each takes a thread that mostly waits.
const MOST: usize = 256;

/// How long dropping waits for workers that do not answer.
const DROP_WAIT: Duration = Duration::from_secs(2);

/// The workers of this user, or for root those of all, that run on this machine: all of them, also those that
/// start later, or those with given process numbers.
///
/// What only a nanny sees, such as restarts and ends by force, is not part of what they show; a nanny's own
/// dashboard has it.
pub struct LocalWorkers {
    shared: Arc<Shared>,
    finder: Option<JoinHandle<()>>,
}

struct Shared {
    /// Only these, or all.
    pids: Option<Vec<u32>>,
    clock: SystemClock,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    stop: bool,
    /// The processes that a thread follows, also those that have not said anything yet.
    followers: BTreeSet<u32>,
    /// Those that have.
    workers: BTreeMap<u32, Followed>,
    /// Beyond every number that workers have given so far.
    beyond: u64,
}

/// One worker.
struct Followed {
    state: WorkerState,
    /// When `state` was received.
    received: Duration,
    /// When it had gone.
    gone: Option<Duration>,
    /// What its events and activities are counted from here: a later process of the same name counts on.
    base: u64,
}

impl Followed {
    /// Beyond every number that it has given.
    fn beyond(&self) -> u64 {
        let event = self.state.events.last().map_or(0, |event| event.number + 1);
        let activity = self.state.activity.last().map_or(0, |activity| activity.number + 1);
        self.base + event.max(activity)
    }
}

impl Inner {
    /// Takes note of the numbers given so far; the first that nobody has given.
    fn remember(&mut self) -> u64 {
        self.beyond = self.workers.values().map(Followed::beyond).fold(self.beyond, u64::max);
        self.beyond
    }
}

impl LocalWorkers {
    /// All workers.
    ///
    /// # Errors
    /// [`Io`](spill_core::ErrorKind::Io) when sockets cannot be listed or a thread not be started.
    pub fn all() -> Result<Self> {
        list()?;
        Self::follow(None)
    }

    /// The workers with these process numbers.
    ///
    /// # Errors
    /// [`Io`](spill_core::ErrorKind::Io) when one of them cannot be connected to or a thread not be started.
    pub fn of(pids: Vec<u32>) -> Result<Self> {
        for pid in &pids {
            Client::connect(*pid)?;
        }
        Self::follow(Some(pids))
    }

    #[expect(clippy::disallowed_methods, reason = "joined when this is dropped")]
    fn follow(pids: Option<Vec<u32>>) -> Result<Self> {
        let shared = Arc::new(Shared::new(pids));
        let finding = Arc::clone(&shared);
        let finder = thread::Builder::new()
            .name("overspill-finder".to_owned())
            .spawn(move || finding.find())
            .map_err(|error| Error::io("start", "the thread that looks for workers", error))?;
        Ok(LocalWorkers { shared, finder: Some(finder) })
    }
}

impl Drop for LocalWorkers {
    fn drop(&mut self) {
        let mut inner = self.shared.inner.lock();
        inner.stop = true;
        self.shared.changed.notify_all();
        // They look at `stop` with each state that comes, so every half second; one whose worker hangs ends by
        // itself.
        let busy = |inner: &mut Inner| !inner.followers.is_empty();
        self.shared.changed.wait_while_for(&mut inner, busy, DROP_WAIT);
        drop(inner);
        if let Some(finder) = self.finder.take()
            && finder.join().is_err()
        {
            tracing::error!("the thread that looks for workers panicked");
        }
    }
}

impl Observe for LocalWorkers {
    fn workers(&self) -> Vec<WorkerState> {
        let now = self.shared.clock.now();
        let inner = self.shared.inner.lock();
        let mut shown: Vec<WorkerState> = Vec::with_capacity(inner.workers.len());
        // Those that run first: one that has gone is not shown beside its successor.
        let mut followed: Vec<_> = inner.workers.iter().collect();
        followed.sort_by_key(|(pid, followed)| (followed.gone.is_some(), **pid));
        for (pid, followed) in followed {
            let mut state = followed.state.clone();
            if shown.iter().any(|other| other.name == state.name) {
                if followed.gone.is_some() {
                    continue;
                }
                state.name = format!("{} ({pid})", state.name);
            }
            state.events.iter_mut().for_each(|event| event.number += followed.base);
            state.activity.iter_mut().for_each(|activity| activity.number += followed.base);
            // Its clock has gone on since.
            state.now += now.saturating_sub(followed.received).as_secs_f64();
            if followed.gone.is_some() {
                (state.status, state.pid) = (Status::Terminated, 0);
                (state.readings, state.running) = (Readings::default(), Vec::new());
                state.running_tasks = 0;
            }
            shown.push(state);
        }
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        shown
    }
}

impl Shared {
    fn new(pids: Option<Vec<u32>>) -> Self {
        Shared { pids, clock: SystemClock::new(), inner: Mutex::default(), changed: Condvar::new() }
    }

    fn find(self: &Arc<Self>) {
        loop {
            let found = match &self.pids {
                Some(pids) => Ok(pids.clone()),
                None => list(),
            };
            match found {
                Ok(pids) => pids.into_iter().for_each(|pid| self.meet(pid)),
                Err(error) => tracing::warn!("workers cannot be looked for: {error}"),
            }
            let now = self.clock.now();
            let mut inner = self.inner.lock();
            inner.remember();
            inner
                .workers
                .retain(|_, followed| followed.gone.is_none_or(|gone| now.saturating_sub(gone) < SHOW_GONE));
            let goes_on = |inner: &mut Inner| !inner.stop;
            self.changed.wait_while_for(&mut inner, goes_on, LOOK_EVERY);
            if inner.stop {
                return;
            }
        }
    }

    /// Follows a worker, unless it is followed already or is somebody else's. Does not wait for it: it may be
    /// stopped, and others are not.
    #[expect(clippy::disallowed_methods, reason = "counted, and waited for when this is dropped")]
    fn meet(self: &Arc<Self>, pid: u32) {
        {
            let inner = self.inner.lock();
            if inner.stop || inner.followers.contains(&pid) || inner.followers.len() >= MOST {
                return;
            }
        }
        let client = match Client::connect(pid) {
            Ok(client) => client,
            Err(error) => return tracing::debug!("worker {pid} is not shown: {error}"),
        };
        self.inner.lock().followers.insert(pid);
        let follower = Follower(Arc::clone(self), pid);
        let thread = thread::Builder::new().name("overspill-follower".to_owned());
        if let Err(error) = thread.spawn(move || follower.run(client)) {
            tracing::warn!("worker {pid} cannot be followed: {error}");
        }
    }
}

/// Counts its thread out, however that ends; also one that never started.
struct Follower(Arc<Shared>, u32);

impl Follower {
    fn run(&self, client: Client) {
        let watched = client.watch(|state| self.hear(state));
        if let Err(error) = watched {
            tracing::debug!("worker {} shows itself no more: {error}", self.1);
        }
    }

    /// Keeps what the worker says of itself; whether more is wanted.
    fn hear(&self, mut state: WorkerState) -> bool {
        let received = self.0.clock.now();
        let mut inner = self.0.inner.lock();
        // Before its first word one that has gone may stand there.
        match inner.workers.get_mut(&self.1).filter(|followed| followed.gone.is_none()) {
            Some(followed) => {
                // A watch sends each activity once.
                let mut activity = std::mem::take(&mut followed.state.activity);
                let last = activity.last().map(|activity| activity.number);
                activity.extend(state.activity.into_iter().filter(|new| Some(new.number) > last));
                let beyond = activity.len().saturating_sub(spill_worker::ACTIVITIES);
                activity.drain(..beyond);
                state.activity = activity;
                (followed.state, followed.received) = (state, received);
            }
            None => {
                let base = inner.remember();
                inner.workers.insert(self.1, Followed { state, received, gone: None, base });
            }
        }
        !inner.stop
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let now = self.0.clock.now();
        let mut inner = self.0.inner.lock();
        inner.followers.remove(&self.1);
        if let Some(followed) = inner.workers.get_mut(&self.1) {
            followed.gone = followed.gone.or(Some(now));
        }
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_worker_that_does_not_answer_is_not_waited_for() {
        let pid = std::process::id();
        let name = format!("overspill/worker/{pid}");
        let mute = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        let shared = Arc::new(Shared::new(None));
        shared.meet(pid);
        shared.meet(pid);
        assert_eq!(shared.inner.lock().followers.len(), 1, "it is asked, once");
        drop(mute);
        let mut inner = shared.inner.lock();
        shared.changed.wait_while_for(&mut inner, |inner| !inner.followers.is_empty(), PATIENCE);
        assert!(inner.followers.is_empty() && inner.workers.is_empty());
    }
}
