//! What a pause holds back.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use spill_core::ErrorKind;
use spill_worker::Direction::{Incoming, Outgoing};
use spill_worker::{Gate, TransferLimiter};

const PATIENCE: Duration = Duration::from_secs(60);

/// Counts how often it is woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// S12: at a pause no further task starts, those that run go on, and those held start at the resume.
#[test]
fn tasks_are_held_while_paused_and_released_after() {
    let gate = Gate::new();
    let running = gate.enter().unwrap();
    gate.pause();
    assert!(gate.try_enter().unwrap().is_none() && !gate.is_open());
    assert!(gate.enter_within(Duration::from_millis(1)).unwrap().is_none());
    let (started, starts) = channel();
    thread::scope(|scope| {
        for _ in 0..3 {
            let (gate, started) = (gate.clone(), started.clone());
            scope.spawn(move || {
                let permit = gate.enter().unwrap();
                started.send(permit).unwrap();
            });
        }
        assert_eq!(gate.running(), 1, "the one that ran goes on");
        assert!(starts.try_recv().is_err());
        gate.resume();
        let held: Vec<_> = (0..3).map(|_| starts.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(gate.running(), 4);
        drop(held);
    });
    drop(running);
    assert!(gate.wait_idle(None));
}

/// S12: the same for tasks of an async runtime: woken by the resume, and not at all once dropped.
#[test]
fn an_async_task_is_woken_by_the_resume() {
    let gate = Gate::new();
    gate.pause();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    {
        let mut dropped = pin!(gate.entering());
        assert!(dropped.as_mut().poll(&mut context).is_pending());
        assert!(dropped.as_mut().poll(&mut context).is_pending(), "polled twice, woken once");
    }
    let mut entering = pin!(gate.entering());
    assert!(entering.as_mut().poll(&mut context).is_pending());
    gate.resume();
    assert_eq!(woken.0.load(SeqCst), 1);
    let Poll::Ready(Ok(permit)) = entering.as_mut().poll(&mut context) else { panic!("the gate is open") };
    assert_eq!(gate.running(), 1);
    drop(permit);
    assert_eq!(gate.running(), 0);
}

#[test]
fn a_closed_gate_ends_the_waiting_with_an_error() {
    let gate = Gate::new();
    let running = gate.enter().unwrap();
    gate.pause();
    let error = thread::scope(|scope| {
        let waiting = scope.spawn(|| gate.enter().map(drop));
        gate.close();
        waiting.join().unwrap().unwrap_err()
    });
    assert!(matches!(error.kind(), ErrorKind::Closed { .. }), "{error}");
    gate.resume();
    assert!(gate.enter().is_err() && gate.try_enter().is_err(), "closed for good");
    assert!(!gate.wait_idle(Some(Duration::from_millis(1))));
    drop(running);
    assert!(gate.wait_idle(Some(PATIENCE)));
}

/// S13: while paused transfers go one at a time, in each direction.
#[test]
fn transfers_go_one_at_a_time_while_paused_in_both_directions() {
    let transfers = TransferLimiter::new(Some(100));
    transfers.pause();
    for direction in [Incoming, Outgoing] {
        let first = transfers.begin(direction, 1);
        assert!(transfers.try_begin(direction, 1).is_none());
        drop(first);
        let second = transfers.begin(direction, 1);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| transfers.begin(direction, 1));
            drop(second);
            let third = waiting.join().unwrap();
            assert_eq!(transfers.count(direction), 1);
            drop(third);
        });
    }
    let held = transfers.begin(Incoming, 1);
    transfers.resume();
    drop((transfers.begin(Incoming, 50), transfers.begin(Incoming, 40), held));
    assert_eq!((transfers.count(Incoming), transfers.count(Outgoing)), (0, 0));
}

/// S13: otherwise the bytes on their way are bounded, and what is larger goes alone.
#[test]
fn bytes_on_their_way_are_bounded() {
    let transfers = TransferLimiter::new(Some(100));
    let first = transfers.begin(Incoming, 60);
    assert!(transfers.try_begin(Incoming, 41).is_none());
    let second = transfers.try_begin(Incoming, 40).unwrap();
    assert!(transfers.try_begin(Outgoing, 100).is_some(), "a direction of its own");
    drop((first, second));
    let large = transfers.begin(Incoming, 1000);
    assert!(transfers.try_begin(Incoming, 1).is_none());
    drop(large);
    let unbounded = TransferLimiter::new(None);
    drop((unbounded.begin(Incoming, u64::MAX), unbounded.begin(Incoming, u64::MAX)));
}

#[test]
fn transfers_begin_in_the_order_they_were_asked_for() {
    let transfers = TransferLimiter::new(Some(100));
    let first = transfers.begin(Incoming, 60);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut large = pin!(transfers.beginning(Incoming, 90));
    let small = transfers.beginning(Incoming, 10);
    let mut small = Box::pin(small);
    assert!(large.as_mut().poll(&mut context).is_pending());
    assert!(small.as_mut().poll(&mut context).is_pending(), "it would fit, and waits behind the large one");
    assert!(transfers.try_begin(Incoming, 10).is_none());
    drop(first);
    let Poll::Ready(large) = large.as_mut().poll(&mut context) else { panic!("there is room") };
    let woken_before = woken.0.load(SeqCst);
    assert!(woken_before >= 2, "the small one was woken as well");
    let Poll::Ready(small) = small.as_mut().poll(&mut context) else { panic!("both fit") };
    assert_eq!(transfers.count(Incoming), 2);
    drop((large, small));

    let held = transfers.begin(Incoming, 100);
    let mut given_up = Box::pin(transfers.beginning(Incoming, 100));
    assert!(given_up.as_mut().poll(&mut context).is_pending());
    drop(given_up);
    drop(held);
    assert!(transfers.try_begin(Incoming, 100).is_some(), "who gave up does not block the queue");
}
