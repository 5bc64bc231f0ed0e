//! What the tests of the asynchronous half share: futures polled by hand, and every kind of thread.
#![allow(dead_code, reason = "each test file uses its part")]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;

use tokio::runtime::{Builder, Runtime};

pub(crate) fn poll_once<T>(future: &mut Pin<Box<impl Future<Output = T> + ?Sized>>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// The answer that a future has at its first poll, without anybody to wake it.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match poll_once(&mut Box::pin(future)) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// A future that was polled once, and has no answer yet.
#[track_caller]
pub(crate) fn begun<T, F: Future<Output = T>>(future: F) -> Pin<Box<F>> {
    let mut future = Box::pin(future);
    assert!(poll_once(&mut future).is_pending(), "it had an answer at its first poll");
    future
}

pub(crate) fn current_thread() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

pub(crate) fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).build().unwrap()
}

/// Drives a future to its end on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    current_thread().block_on(future)
}

/// Runs `call` on a plain thread, in the main future and a task of both kinds of runtime, and on a thread that
/// a runtime keeps for blocking calls.
pub(crate) fn on_each_kind_of_thread(call: impl Fn() + Send + Sync + 'static) {
    let call = Arc::new(call);
    thread::scope(|scope| scope.spawn(|| call()).join().unwrap());
    for runtime in [current_thread(), multi_thread()] {
        runtime.block_on(async { call() });
        let task = Arc::clone(&call);
        runtime.block_on(runtime.spawn(async move { task() })).unwrap();
        let blocking = Arc::clone(&call);
        runtime.block_on(runtime.spawn_blocking(move || blocking())).unwrap();
    }
}
