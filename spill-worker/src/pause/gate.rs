//! `Gate`: the permission to start a task.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use spill_core::{ErrorKind, Result};

use super::waiters::Waiters;
use crate::activity::ActivityLog;

/// The permission to start a task. Open, it gives a [`Permit`] at once; paused, callers wait until it resumes;
/// closed, they get an error. A task that runs keeps its permit, whatever happens to the gate. Clones are the
/// same gate.
///
/// ```
/// use spill_worker::Gate;
///
/// let gate = Gate::new();
/// let task = gate.enter()?;
/// gate.pause();
/// assert!(gate.try_enter()?.is_none()); // no task starts,
/// assert_eq!(gate.running(), 1); // and the one that runs goes on
/// drop(task);
/// gate.resume();
/// assert!(gate.try_enter()?.is_some());
/// # Ok::<_, spill_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
    /// Where it is noted when tasks ran.
    activity: Option<Arc<ActivityLog>>,
}

#[derive(Debug, Default)]
struct State {
    paused: bool,
    closed: bool,
    running: usize,
    waiters: Waiters,
}

impl State {
    /// Takes a permit, if the gate gives any now.
    fn take(&mut self) -> Result<bool> {
        if self.closed {
            return Err(ErrorKind::Closed { what: "the gate (the worker is retiring)" }.into());
        }
        if !self.paused {
            self.running += 1;
        }
        Ok(!self.paused)
    }
}

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An open gate that notes when tasks ran.
    pub(crate) fn noted_in(activity: Arc<ActivityLog>) -> Self {
        Gate(Arc::new(Inner { activity: Some(activity), ..Inner::default() }))
    }

    fn permit(&self) -> Permit {
        let lane = self.0.activity.as_ref().map(|activity| activity.begin());
        Permit { gate: Arc::clone(&self.0), lane }
    }

    /// Waits until a task may start.
    ///
    /// # Errors
    /// [`Closed`](spill_core::ErrorKind::Closed) once no task starts any more.
    pub fn enter(&self) -> Result<Permit> {
        let mut state = self.0.state.lock();
        while !state.take()? {
            self.0.changed.wait(&mut state);
        }
        drop(state);
        Ok(self.permit())
    }

    /// As [`enter`](Self::enter), for at most `time`; `None` when it was paused all the while.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn enter_within(&self, time: Duration) -> Result<Option<Permit>> {
        let mut state = self.0.state.lock();
        let shut = |state: &mut State| state.paused && !state.closed;
        self.0.changed.wait_while_for(&mut state, shut, time);
        let taken = state.take()?;
        drop(state);
        Ok(taken.then(|| self.permit()))
    }

    /// A permit if a task may start now.
    ///
    /// # Errors
    /// As [`enter`](Self::enter).
    pub fn try_enter(&self) -> Result<Option<Permit>> {
        let taken = self.0.state.lock().take()?;
        Ok(taken.then(|| self.permit()))
    }

    /// As [`enter`](Self::enter), for a task of any async runtime. Dropped, it waits no more.
    #[must_use]
    pub fn entering(&self) -> Entering {
        let number = self.0.state.lock().waiters.number();
        Entering { gate: self.clone(), number }
    }

    /// Whether a task may start now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let state = self.0.state.lock();
        !state.paused && !state.closed
    }

    /// Permits that are held: tasks that run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.state.lock().running
    }

    /// Gives no permit until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.0.change(|state| state.paused = true);
    }

    /// Gives permits again.
    pub fn resume(&self) {
        self.0.change(|state| state.paused = false);
    }

    /// Gives no permit any more; who waits for one gets the error.
    pub fn close(&self) {
        self.0.change(|state| state.closed = true);
    }

    /// Waits until no permit is held, for at most `time` if one is given; says whether that is so.
    #[must_use]
    pub fn wait_idle(&self, time: Option<Duration>) -> bool {
        let mut state = self.0.state.lock();
        let busy = |state: &mut State| state.running > 0;
        match time {
            Some(time) => _ = self.0.changed.wait_while_for(&mut state, busy, time),
            None => self.0.changed.wait_while(&mut state, busy),
        }
        state.running == 0
    }
}

impl Inner {
    fn change(&self, f: impl FnOnce(&mut State)) {
        let wakers = {
            let mut state = self.state.lock();
            f(&mut state);
            state.waiters.take()
        };
        self.changed.notify_all();
        wakers.into_iter().for_each(std::task::Waker::wake);
    }
}

/// Held by a task that runs; dropping it says that the task has ended.
#[derive(Debug)]
#[must_use = "a task runs only as long as it holds its permit"]
pub struct Permit {
    gate: Arc<Inner>,
    lane: Option<usize>,
}

impl Permit {
    /// Gives the task a name, under which a [`Worker`](crate::Worker)'s dashboard shows it; cut to 80 characters.
    pub fn named(self, name: &str) -> Self {
        if let (Some(activity), Some(lane)) = (&self.gate.activity, self.lane) {
            activity.name(lane, name);
        }
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let (Some(activity), Some(lane)) = (&self.gate.activity, self.lane) {
            activity.end(lane);
        }
        self.gate.change(|state| state.running -= 1);
    }
}

/// Waits for a [`Permit`]; see [`Gate::entering`].
#[derive(Debug)]
pub struct Entering {
    gate: Gate,
    number: u64,
}

impl Future for Entering {
    type Output = Result<Permit>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.gate.0.state.lock();
        match state.take() {
            Ok(true) => {
                drop(state);
                Poll::Ready(Ok(self.gate.permit()))
            }
            Ok(false) => {
                state.waiters.set(self.number, context.waker());
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        self.gate.0.state.lock().waiters.forget(self.number);
    }
}
