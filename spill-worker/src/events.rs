//! The log of events that a worker or a nanny keeps and shows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use spill_core::Clock;

use crate::{Event, EventKind};

/// How many events are kept.
pub const EVENTS: usize = 100;

/// The last events, and what is told of each new one. Every event is logged too.
pub(crate) struct EventLog {
    clock: Arc<dyn Clock>,
    /// Who the events are about, in the log.
    name: String,
    kept: Mutex<Kept>,
    added: Condvar,
}

#[derive(Default)]
struct Kept {
    /// Nobody waits any more.
    closed: bool,
    next: u64,
    events: VecDeque<Event>,
}

impl EventLog {
    pub(crate) fn new(clock: Arc<dyn Clock>, name: String) -> Self {
        EventLog { clock, name, kept: Mutex::default(), added: Condvar::new() }
    }

    /// Keeps and logs an event.
    pub(crate) fn add(&self, kind: EventKind, text: impl Into<String>) {
        let text = text.into();
        match kind {
            EventKind::UnmanagedHigh
            | EventKind::PausedLong
            | EventKind::Terminating
            | EventKind::Killed
            | EventKind::Paused => tracing::warn!("{}: {}: {text}", self.name, kind.name()),
            _ => tracing::info!("{}: {}: {text}", self.name, kind.name()),
        }
        let mut kept = self.kept.lock();
        let event = Event { number: kept.next, at: self.clock.now().as_secs_f64(), kind, text };
        kept.next += 1;
        if kept.events.len() == EVENTS {
            kept.events.pop_front();
        }
        kept.events.push_back(event);
        drop(kept);
        self.added.notify_all();
    }

    /// The events kept, oldest first.
    pub(crate) fn list(&self) -> Vec<Event> {
        self.kept.lock().events.iter().cloned().collect()
    }

    /// Waits until there were more than `seen` events, for at most `time`; how many there were.
    pub(crate) fn wait_beyond(&self, seen: u64, time: Duration) -> u64 {
        let mut kept = self.kept.lock();
        self.added.wait_while_for(&mut kept, |kept| kept.next <= seen && !kept.closed, time);
        kept.next
    }

    /// Ends every [`wait_beyond`](Self::wait_beyond), from now on.
    pub(crate) fn close(&self) {
        self.kept.lock().closed = true;
        self.added.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spill_core::ManualClock;

    #[test]
    fn the_last_events_are_kept_in_order() {
        let clock = Arc::new(ManualClock::new());
        let log = EventLog::new(Arc::clone(&clock) as Arc<dyn Clock>, "w".to_owned());
        for n in 0..EVENTS as u64 + 10 {
            clock.advance(Duration::from_secs(1));
            log.add(EventKind::Spilled, n.to_string());
        }
        let events = log.list();
        assert_eq!((events.len(), log.wait_beyond(0, Duration::ZERO)), (EVENTS, EVENTS as u64 + 10));
        for (n, event) in (10..).zip(&events) {
            assert_eq!((event.number, event.at, &*event.text), (n, n as f64 + 1.0, &*n.to_string()));
        }
    }
}
