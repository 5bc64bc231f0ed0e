//! One worker of a nanny, through all its processes.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytesize::ByteSize;
use parking_lot::{Condvar, Mutex};
use rustix::process::Signal;

use super::child::{Child, Received};
use super::guard::{End, Message};
use super::restart::Backoff;
use super::seen::Seen;
use super::tree::{Tree, send};
use super::watch::{Action, Force, Watch};
use super::{Cause, Death, Plan};
use crate::activity::{ActivityLog, adopted};
use crate::control::Client;
use crate::events::EventLog;
use crate::{
    EventKind, MEMORY_LIMIT_VARIABLE, NAME_VARIABLE, NTHREADS_VARIABLE, Readings, Status, WorkerState,
};

/// How often the worker's control socket is looked for.
const CONNECT_EVERY: Duration = Duration::from_millis(200);

/// One worker.
pub(super) struct Slot {
    plan: Arc<Plan>,
    name: String,
    events: EventLog,
    activity: ActivityLog,
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    /// No process is started any more.
    retiring: bool,
    /// Nor does one that runs go on.
    killing: bool,
    /// A process is being started. Signals wait in `pending` until its number is known.
    starting: bool,
    pending: Vec<Signal>,
    pid: u32,
    /// Resident bytes of the whole tree.
    memory: u64,
    restarts: u64,
    /// What the worker itself said last.
    shown: Option<WorkerState>,
    terminating: bool,
    end: Option<End>,
}

/// The connection to a worker's control socket, one after the other.
#[derive(Default)]
struct Watcher {
    /// Follows what the worker says; ends with the connection.
    thread: Option<JoinHandle<Seen>>,
    /// Of the connections before.
    seen: Seen,
    /// When a worker is looked for next.
    look: Duration,
}

impl Watcher {
    fn is_listening(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn join(&mut self) {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(seen)) => self.seen = seen,
            Some(Err(_)) => tracing::error!("a thread of the nanny panicked"),
            None => {}
        }
    }
}

impl Slot {
    pub(super) fn new(plan: Arc<Plan>, name: String) -> Self {
        let events = EventLog::new(Arc::clone(&plan.clock), name.clone());
        let activity = ActivityLog::new(Arc::clone(&plan.clock));
        Slot {
            plan,
            name,
            events,
            activity,
            now: Mutex::new(Now { starting: true, ..Now::default() }),
            changed: Condvar::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Signals the process that runs or is being started; where there is none, nobody.
    pub(super) fn signal(&self, signal: Signal) {
        let mut now = self.now.lock();
        if now.pid != 0 {
            send(now.pid, signal);
        } else if now.starting {
            now.pending.push(signal);
        }
    }

    pub(super) fn retire(&self) {
        self.now.lock().retiring = true;
        self.changed.notify_all();
    }

    pub(super) fn kill(&self) {
        let pid = {
            let mut now = self.now.lock();
            (now.retiring, now.killing) = (true, true);
            now.pid
        };
        self.changed.notify_all();
        if pid != 0 {
            // The guard ends the rest.
            send(pid, Signal::KILL);
        }
    }

    pub(super) fn exit_code(&self) -> u8 {
        self.now.lock().end.map_or(1, End::exit_code)
    }

    pub(super) fn state(&self) -> WorkerState {
        let settings = &self.plan.settings;
        let now = self.now.lock();
        let mut state = now.shown.clone().unwrap_or_else(|| WorkerState {
            pid: now.pid,
            nthreads: settings.nthreads,
            limit: settings.memory_limit.bytes(),
            thresholds: settings.thresholds,
            // From outside nothing is known to be managed.
            readings: Readings { process: now.memory, unmanaged: now.memory, ..Readings::default() },
            ..WorkerState::default()
        });
        state.name.clone_from(&self.name);
        state.restarts = now.restarts;
        if now.pid == 0 || now.terminating {
            state.status = Status::Terminated;
        }
        if now.pid == 0 {
            (state.pid, state.readings) = (0, Readings::default());
        }
        drop(now);
        state.now = self.plan.clock.now().as_secs_f64();
        state.activity = self.activity.list().0;
        state.events = self.events.list();
        state
    }

    /// The thread of this worker: one process after the other.
    pub(super) fn run(self: &Arc<Self>) {
        let clock = Arc::clone(&self.plan.clock);
        let mut backoff = Backoff::default();
        loop {
            let began = clock.now();
            let kills = self.plan.pressure.kills();
            let (pid, cause, end) = self.run_process();
            let killed = cause == Cause::Ended && end == Some(End::Signalled(9));
            let cause = if killed && self.plan.pressure.kills() > kills { Cause::Watchdog } else { cause };
            let wait = backoff.wait(clock.now().saturating_sub(began));
            let restarts = {
                let mut now = self.now.lock();
                (now.pid, now.memory, now.shown, now.terminating) = (0, 0, None, false);
                now.starting = false;
                now.pending.clear();
                now.end = end;
                let well = cause == Cause::Ended && end == Some(End::Exited(0));
                !(now.retiring || self.plan.once || well)
            };
            if let Some(end) = end {
                let why = match cause {
                    Cause::Watchdog => ": the system killed it, being out of memory",
                    _ => "",
                };
                self.events.add(EventKind::Ended, format!("process {pid} ended {end}{why}"));
            }
            let death = Death { name: self.name.clone(), pid, cause, end, restarts };
            if let Some(on_death) = &self.plan.on_death
                && catch_unwind(AssertUnwindSafe(|| on_death(&death))).is_err()
            {
                tracing::error!("the callback for a worker's death panicked");
            }
            let mut now = self.now.lock();
            if restarts {
                let retiring = |now: &mut Now| !now.retiring;
                self.changed.wait_while_for(&mut now, retiring, wait);
            }
            if !restarts || now.retiring {
                return;
            }
            now.starting = true;
            now.restarts += 1;
            let text = format!("for the {}. time, after {wait:?}", now.restarts);
            drop(now);
            self.events.add(EventKind::Restarting, text);
        }
    }

    /// Starts a process and watches it until it and all that it started have gone.
    fn run_process(self: &Arc<Self>) -> (u32, Cause, Option<End>) {
        let plan = &self.plan;
        let directories = match plan.settings.local_directories.as_slice() {
            [] => vec![std::env::temp_dir()],
            given => given.to_vec(),
        };
        let started = Child::start(&plan.guard, &directories, &plan.command, &self.environment());
        let mut child = match started {
            Ok(child) => child,
            Err(error) => return self.failed(&error.to_string()),
        };
        let pid = loop {
            match child.receive(Duration::from_secs(1)) {
                Received::Message(Message::Started(pid)) => break pid,
                Received::Nothing => {}
                Received::Message(Message::Failed(problem)) | Received::Lost(problem) => {
                    return self.failed(&problem);
                }
                Received::Message(Message::Ended(end)) => {
                    return self.failed(&format!("it ended {end} before it began"));
                }
            }
            if self.now.lock().killing {
                return self.failed("all are being ended by force");
            }
        };
        let killing = {
            let mut now = self.now.lock();
            now.pid = pid;
            now.pending.drain(..).for_each(|signal| send(pid, signal));
            now.killing
        };
        self.events.add(EventKind::Started, format!("process {pid}"));
        if killing {
            send(pid, Signal::KILL);
        }
        let mut watcher = Watcher::default();
        let (cause, end) = self.watch(&mut child, pid, &mut watcher);
        // Its connection ended with the worker.
        watcher.join();
        (pid, cause, end)
    }

    fn failed(&self, problem: &str) -> (u32, Cause, Option<End>) {
        self.events.add(EventKind::Ended, format!("it could not be started: {problem}"));
        (0, Cause::Failed, None)
    }

    fn environment(&self) -> Vec<(String, OsString)> {
        let settings = &self.plan.settings;
        let limit = settings.memory_limit.bytes().map_or("none".to_owned(), |bytes| bytes.to_string());
        let given = settings.nanny_environ.iter().map(|(name, value)| (name.clone(), value.into()));
        let mut environment: Vec<(String, OsString)> = given.collect();
        environment.push((MEMORY_LIMIT_VARIABLE.to_owned(), limit.into()));
        environment.push((NTHREADS_VARIABLE.to_owned(), settings.nthreads.to_string().into()));
        environment.push((NAME_VARIABLE.to_owned(), self.name.clone().into()));
        environment.extend(self.plan.environment.iter().cloned());
        environment
    }

    fn watch(self: &Arc<Self>, child: &mut Child, pid: u32, watcher: &mut Watcher) -> (Cause, Option<End>) {
        let (plan, settings) = (&self.plan, &self.plan.settings);
        let mut watch =
            Watch::new(settings.memory_limit, &settings.thresholds, settings.monitor_interval, plan.grace);
        let mut tree = Tree::below(child.guard());
        let mut killed = false;
        loop {
            let now = plan.clock.now();
            let memory = tree.memory(now, watch.level());
            self.now.lock().memory = memory;
            let (action, wait) = watch.step(memory, now);
            let shown = || match settings.memory_limit.bytes() {
                Some(limit) => format!("{} of {}", ByteSize(memory), ByteSize(limit)),
                None => ByteSize(memory).to_string(),
            };
            match action {
                Action::Ask => {
                    tree.signal(Signal::TERM);
                    self.now.lock().terminating = true;
                    self.events.add(EventKind::Terminating, format!("process {pid} at {}", shown()));
                }
                Action::Kill(force) if !killed => {
                    // The order matters: each process that ends early is one that takes no more memory.
                    send(pid, Signal::KILL);
                    tree.signal(Signal::KILL);
                    killed = true;
                    self.now.lock().terminating = true;
                    let why = match force {
                        Force::Rises => "rises too fast to be asked",
                        Force::GrowsOn => "takes more memory although it was asked to end",
                        Force::StillThere => "was asked to end and is still there",
                    };
                    self.events.add(EventKind::Killed, format!("process {pid} {why}, at {}", shown()));
                }
                Action::Kill(_) | Action::Nothing => {}
            }
            if now >= watcher.look && !watcher.is_listening() {
                watcher.look = now.saturating_add(CONNECT_EVERY);
                watcher.join();
                watcher.thread = self.connect(&tree.pids(), watcher.seen.clone());
            }
            let cause = if killed || watch.has_asked() { Cause::Memory } else { Cause::Ended };
            match child.receive(wait) {
                Received::Nothing | Received::Message(Message::Started(_)) => {}
                Received::Message(Message::Ended(end)) => return (cause, Some(end)),
                Received::Message(Message::Failed(problem)) | Received::Lost(problem) => {
                    // Killed by somebody. The kernel ends the worker; what else is known is ended here.
                    tree.pids().into_iter().for_each(|pid| send(pid, Signal::KILL));
                    self.events.add(EventKind::Ended, format!("process {pid} ended unseen: {problem}"));
                    return (Cause::Failed, None);
                }
            }
        }
    }

    /// Follows what the worker says of itself, once one of its processes listens. Also again: a worker that was
    /// stopped for long, or whose nanny was, is cut off and goes on.
    #[expect(clippy::disallowed_methods, reason = "joined when it has ended, at the latest with the process")]
    fn connect(self: &Arc<Self>, pids: &[u32], mut seen: Seen) -> Option<JoinHandle<Seen>> {
        // Rather the worker that was seen before than another one of the tree.
        let before = pids.iter().find(|pid| seen.is_of_process(**pid));
        let client = match before {
            Some(pid) => Client::connect(*pid).ok()?,
            None => pids.iter().find_map(|pid| Client::connect(*pid).ok())?,
        };
        let slot = Arc::clone(self);
        let follow = move || {
            let watched = client.watch(|state| {
                slot.hear(state, &mut seen);
                true
            });
            if let Err(error) = watched {
                tracing::debug!("{} shows itself no more: {error}", slot.name);
            }
            slot.now.lock().shown = None;
            seen
        };
        thread::Builder::new().name("overspill-watcher".to_owned()).spawn(follow).ok()
    }

    /// Takes over what the worker says of itself.
    fn hear(&self, mut state: WorkerState, seen: &mut Seen) {
        seen.keep_new(&mut state);
        for event in state.events.iter().filter(|event| event.kind != EventKind::Started) {
            self.events.add(event.kind, event.text.clone());
        }
        // From the worker's clock to the nanny's.
        let ahead = self.plan.clock.now().as_secs_f64() - state.now;
        self.activity.adopt(&state.activity, ahead);
        state.activity.clear();
        state.running = adopted(std::mem::take(&mut state.running), ahead);
        self.now.lock().shown = Some(state);
    }
}
