//! `TransferLimiter`: how much is on its way to and from a worker.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::{Condvar, Mutex};

use super::waiters::Waiters;

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To this worker.
    Incoming,
    /// From this worker.
    Outgoing,
}

/// Bounds the bytes on their way, in each direction: what is received takes memory before it is a value, and
/// what is sent is read back first. While paused one transfer at a time goes on in each direction, so that a
/// worker can still get rid of what it holds. First come, first served; one that is larger than the bound goes
/// alone. Clones are the same limiter.
///
/// ```
/// use spill_worker::{Direction::Incoming, TransferLimiter};
///
/// let transfers = TransferLimiter::new(Some(100));
/// let one = transfers.begin(Incoming, 60);
/// assert!(transfers.try_begin(Incoming, 60).is_none());
/// drop(one);
/// assert!(transfers.try_begin(Incoming, 60).is_some());
/// ```
#[derive(Clone, Debug)]
pub struct TransferLimiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: Option<u64>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    paused: bool,
    incoming: Lane,
    outgoing: Lane,
    waiters: Waiters,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    count: usize,
    bytes: u64,
    /// The numbers of those who wait.
    queue: VecDeque<u64>,
}

impl State {
    fn lane(&mut self, direction: Direction) -> &mut Lane {
        match direction {
            Direction::Incoming => &mut self.incoming,
            Direction::Outgoing => &mut self.outgoing,
        }
    }

    /// Begins a transfer if there is room and nobody else's turn. `number` is in the queue, or 0.
    fn take(&mut self, direction: Direction, bytes: u64, number: u64, limit: Option<u64>) -> bool {
        let paused = self.paused;
        let lane = self.lane(direction);
        let turn = lane.queue.front().is_none_or(|first| *first == number);
        let fits = limit.is_none_or(|limit| lane.bytes.saturating_add(bytes) <= limit);
        let begins = turn && (lane.count == 0 || (fits && !paused));
        if begins {
            if number != 0 {
                lane.queue.pop_front();
            }
            lane.count += 1;
            lane.bytes = lane.bytes.saturating_add(bytes);
        }
        begins
    }

    /// Takes a place at the end of the queue.
    fn queue(&mut self, direction: Direction) -> u64 {
        let number = self.waiters.number();
        self.lane(direction).queue.push_back(number);
        number
    }
}

impl TransferLimiter {
    /// At most `limit` bytes at a time in each direction; `None` is no bound but while paused.
    #[must_use]
    pub fn new(limit: Option<u64>) -> Self {
        TransferLimiter(Arc::new(Inner { limit, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// The bound in bytes.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        self.0.limit
    }

    /// Waits until `bytes` may be transferred.
    pub fn begin(&self, direction: Direction, bytes: u64) -> Transfer {
        let mut state = self.0.state.lock();
        let number = state.queue(direction);
        while !state.take(direction, bytes, number, self.0.limit) {
            self.0.changed.wait(&mut state);
        }
        drop(state);
        // Whoever is next in the queue may fit too.
        self.0.change(|_| ());
        self.transfer(direction, bytes)
    }

    /// Begins a transfer if there is room now and nobody waits.
    #[must_use]
    pub fn try_begin(&self, direction: Direction, bytes: u64) -> Option<Transfer> {
        let begins = self.0.state.lock().take(direction, bytes, 0, self.0.limit);
        begins.then(|| self.transfer(direction, bytes))
    }

    /// As [`begin`](Self::begin), for a task of any async runtime. Dropped, it waits no more.
    #[must_use]
    pub fn beginning(&self, direction: Direction, bytes: u64) -> Beginning {
        let number = self.0.state.lock().queue(direction);
        Beginning { limiter: self.clone(), direction, bytes, number, begun: false }
    }

    /// Transfers under way.
    #[must_use]
    pub fn count(&self, direction: Direction) -> usize {
        self.0.state.lock().lane(direction).count
    }

    /// One transfer at a time until [`resume`](Self::resume); those under way go on.
    pub fn pause(&self) {
        self.0.change(|state| state.paused = true);
    }

    /// As many as the bound allows.
    pub fn resume(&self) {
        self.0.change(|state| state.paused = false);
    }

    fn transfer(&self, direction: Direction, bytes: u64) -> Transfer {
        Transfer { inner: Arc::clone(&self.0), direction, bytes }
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

/// A transfer under way; dropping it says that it has ended.
#[derive(Debug)]
#[must_use = "a transfer counts only as long as this is held"]
pub struct Transfer {
    inner: Arc<Inner>,
    direction: Direction,
    bytes: u64,
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.inner.change(|state| {
            let lane = state.lane(self.direction);
            lane.count -= 1;
            lane.bytes = lane.bytes.saturating_sub(self.bytes);
        });
    }
}

/// Waits for its turn; see [`TransferLimiter::beginning`].
#[derive(Debug)]
pub struct Beginning {
    limiter: TransferLimiter,
    direction: Direction,
    bytes: u64,
    number: u64,
    begun: bool,
}

impl Future for Beginning {
    type Output = Transfer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Transfer> {
        let limiter = self.limiter.clone();
        let mut state = limiter.0.state.lock();
        if !state.take(self.direction, self.bytes, self.number, limiter.0.limit) {
            state.waiters.set(self.number, context.waker());
            return Poll::Pending;
        }
        drop(state);
        self.begun = true;
        // Whoever is next in the queue may fit too.
        limiter.0.change(|_| ());
        Poll::Ready(limiter.transfer(self.direction, self.bytes))
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        if self.begun {
            return;
        }
        self.limiter.0.change(|state| {
            state.waiters.forget(self.number);
            state.lane(self.direction).queue.retain(|number| *number != self.number);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc::{Sender, channel};
    use std::task::{Wake, Waker};
    use std::thread;
    use std::time::Duration;

    use super::Direction::Incoming;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    struct Tells(Sender<()>);

    impl Wake for Tells {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }

    /// A task looks when the transfer before it ends, finds a thread before it in the queue, and waits on: the thread
    /// that gets in wakes it, since nothing else will.
    #[test]
    fn a_thread_that_gets_in_wakes_the_task_behind_it() {
        let transfers = TransferLimiter::new(Some(100));
        // Its end is told by hand, so that the task looks before the thread does.
        std::mem::forget(transfers.begin(Incoming, 100));
        let (began, begins) = channel();
        let (woken, wakes) = channel();
        let waker = Waker::from(Arc::new(Tells(woken)));
        let mut context = Context::from_waker(&waker);
        thread::scope(|scope| {
            scope.spawn(|| began.send(transfers.begin(Incoming, 40)).unwrap());
            while transfers.0.state.lock().incoming.queue.is_empty() {
                thread::yield_now();
            }
            let mut task = pin!(transfers.beginning(Incoming, 40));
            {
                let mut state = transfers.0.state.lock();
                (state.incoming.count, state.incoming.bytes) = (0, 0);
            }
            assert!(task.as_mut().poll(&mut context).is_pending(), "the thread is first");
            transfers.0.changed.notify_all();
            let of_thread = begins.recv_timeout(PATIENCE).unwrap();
            wakes.recv_timeout(PATIENCE).unwrap();
            let Poll::Ready(of_task) = task.as_mut().poll(&mut context) else { panic!("both fit") };
            assert_eq!(transfers.count(Incoming), 2);
            drop((of_thread, of_task));
        });
    }
}
