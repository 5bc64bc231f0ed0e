//! Where calls run, and how they end when it is closed.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;

use crate::guard::guarded;
use crate::sync::Mutex;
use crate::{Error, ErrorKind, Result};

/// A runtime, of our own or somebody else's, and whether the adapter that calls into it is closed.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) handle: Handle,
    /// Only what we started do we shut down.
    own: Mutex<Option<Runtime>>,
    closed: watch::Sender<bool>,
    what: &'static str,
}

/// Tells a call that it is to end.
#[derive(Debug)]
pub(super) struct Closing {
    closed: watch::Receiver<bool>,
    what: &'static str,
}

impl Host {
    /// A runtime of our own for `what`, as `builder` says. `threads` is how many it was told to have.
    pub(super) fn own(what: &'static str, threads: usize, builder: &mut Builder) -> Result<Self> {
        if threads == 0 {
            return Err(Error::config("threads", threads, "at least 1"));
        }
        // the runtime panics where the system refuses it a thread
        let runtime = guarded("starting a runtime", || {
            builder.build().map_err(|source| Error::io("start a runtime for", what, source))
        })?;
        let host = Host::given(what, runtime.handle().clone());
        *host.own.lock() = Some(runtime);
        Ok(host)
    }

    /// The runtime of somebody else, who drives it and shuts it down.
    pub(super) fn given(what: &'static str, handle: Handle) -> Self {
        Host { handle, own: Mutex::new(None), closed: watch::Sender::new(false), what }
    }

    /// Ends the calls in flight with `Closed`, and refuses later ones. False when that was done before.
    pub(super) fn close(&self) -> bool {
        !self.closed.send_replace(true)
    }

    /// Stops the threads, if they are ours, without waiting for them: one that is in a call ends after it.
    /// What had not begun is forgotten.
    pub(super) fn shut_down(&self) {
        let own = self.own.lock().take();
        if let Some(runtime) = own {
            runtime.shutdown_background();
        }
    }

    /// For one call: `Closed`, or what tells it later.
    pub(super) fn open(&self) -> Result<Closing> {
        let closing = Closing { closed: self.closed.subscribe(), what: self.what };
        closing.check()?;
        Ok(closing)
    }

    /// The error of a call that the runtime will not run.
    pub(super) fn ended(&self) -> Error {
        ErrorKind::Closed { what: self.what }.into()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // dropping a runtime waits for its threads, which is not allowed inside another
        self.shut_down();
    }
}

impl Closing {
    pub(super) fn check(&self) -> Result<()> {
        if *self.closed.borrow() { Err(ErrorKind::Closed { what: self.what }.into()) } else { Ok(()) }
    }

    /// What `call` returns, or `Closed` once that comes first.
    pub(super) async fn or<T>(mut self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let error = ErrorKind::Closed { what: self.what };
        let mut call = pin!(call);
        let mut closed = pin!(self.closed.wait_for(|closed| *closed));
        let ended = poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => closed.as_mut().poll(context).map(|_| None),
        });
        ended.await.unwrap_or_else(|| Err(error.into()))
    }
}

/// What `call` returns; its panic becomes `Panicked` (R7).
pub(super) async fn caught<T>(during: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
    let mut call = pin!(call);
    poll_fn(|context| {
        let polled = guarded(during, || match call.as_mut().poll(context) {
            Poll::Ready(outcome) => outcome.map(Some),
            Poll::Pending => Ok(None),
        });
        match polled {
            Ok(None) => Poll::Pending,
            Ok(Some(answer)) => Poll::Ready(Ok(answer)),
            Err(error) => Poll::Ready(Err(error)),
        }
    })
    .await
}
