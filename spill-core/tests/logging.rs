//! What a failing spill says in the log.

mod support;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use spill_core::conformance::{Fault, Operation, Plan};
use spill_core::{ManualEvict, MutableMapping};
use support::log::Log;
use support::{filled, quiet_injected_panics, val};

/// S35: the problem is logged, at most once in ten seconds for one cause, however many keys it strikes; another
/// cause is logged by itself.
#[test]
fn a_failing_eviction_is_logged_once_in_ten_seconds_for_one_cause() {
    quiet_injected_panics();
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let (buffer, clock) = filled(u64::MAX, 20);
        let fails_with = |fault| {
            buffer.slow().heal();
            buffer.slow().inject(Plan::always().on([Operation::Insert]), fault);
        };
        fails_with(Fault::io());
        assert_eq!(buffer.evict(), -1);
        let messages = log.take();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert!(messages[0].contains("injected fault"), "{messages:?}");
        for _ in 0..5 {
            assert_eq!(buffer.evict(), -1);
            clock.advance(Duration::from_millis(1999));
        }
        assert_eq!(log.take(), [""; 0]);
        clock.advance(Duration::from_millis(5));
        assert_eq!(buffer.evict(), -1);
        assert_eq!(log.take().len(), 1, "ten seconds later");
        fails_with(Fault::full());
        assert_eq!(buffer.evict(), -1);
        let messages = log.take();
        assert_eq!(messages.len(), 1, "another cause: {messages:?}");
        assert!(messages[0].contains("full"), "{messages:?}");
        fails_with(Fault::panic("injected panic"));
        assert_eq!(buffer.evict(), -1);
        let messages = log.take();
        assert_eq!(messages.len(), 1, "a third cause: {messages:?}");
        assert!(messages[0].contains("injected panic"), "{messages:?}");
        assert_eq!(buffer.stats().deferred, 20);
    });
}

#[test]
fn an_eviction_of_nothing_and_one_that_works_are_not_logged() {
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let (buffer, _) = filled(u64::MAX, 2);
        assert_eq!([buffer.evict(), buffer.evict(), buffer.evict()], [10, 10, -1]);
        buffer.get(&1).unwrap();
        buffer.remove(&2).unwrap();
    });
    assert_eq!(log.take(), [""; 0]);
}

/// A failure of one's own read is given to the caller, and a failed eviction on the way is logged.
#[test]
fn what_fails_on_the_way_of_a_read_is_logged() {
    let log = Log::default();
    let evictions = AtomicU64::new(0);
    tracing::subscriber::with_default(log.clone(), || {
        let (buffer, _) = filled(u64::MAX, 3);
        buffer.evict_key(&1).unwrap();
        buffer.set_target(20);
        buffer.slow().inject(Plan::always().on([Operation::Insert]), Fault::io());
        assert_eq!(buffer.get(&1).unwrap(), Some(val(1, 10)));
        evictions.store(buffer.stats().failures, SeqCst);
    });
    assert!(evictions.load(SeqCst) > 0);
    assert_eq!(log.take().len(), 1);
}
