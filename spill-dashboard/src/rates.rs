//! How fast a worker's storage goes: sums that were seen lately, and what came between them.

use std::collections::{BTreeMap, VecDeque};

use spill_worker::{StorageStats, WorkerState};

use crate::model::Backend;

/// Rates are over so many seconds.
const WINDOW: f64 = 5.0;

/// Backends of one worker are shown up to here.
const MOST_BACKENDS: usize = 16;

/// The sums of one worker's backends, as they were seen.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    pid: u32,
    seen: BTreeMap<String, VecDeque<Sums>>,
}

#[derive(Clone, Copy, Debug)]
struct Sums {
    at: f64,
    written: u64,
    read: u64,
}

impl Rates {
    /// The worker's backends at `now`.
    pub(crate) fn backends(&mut self, worker: &WorkerState, now: f64) -> Vec<Backend> {
        if self.pid != worker.pid {
            // Another process counts from zero.
            *self = Rates { pid: worker.pid, ..Rates::default() };
        }
        if worker.backends.is_empty() {
            let storage = &worker.storage;
            let touched = storage.write.count + storage.read.count + storage.failures > 0;
            // Of a mapping as a whole, what is not in RAM.
            let mut whole =
                || Backend { values: storage.slow_count, ..self.backend("storage", storage, now) };
            return if touched { vec![whole()] } else { Vec::new() };
        }
        let shown = worker.backends.iter().take(MOST_BACKENDS);
        shown.map(|backend| self.backend(&backend.name, &backend.storage, now)).collect()
    }

    fn backend(&mut self, name: &str, storage: &StorageStats, now: f64) -> Backend {
        let seen = self.seen.entry(name.to_owned()).or_default();
        seen.push_back(Sums { at: now, written: storage.write.bytes, read: storage.read.bytes });
        // The oldest that is kept is at least a window old, or the first.
        while seen.get(1).is_some_and(|second| now - second.at >= WINDOW) {
            seen.pop_front();
        }
        let (mut write_rate, mut read_rate) = (0.0, 0.0);
        if let Some(first) = seen.front().filter(|first| now > first.at) {
            let rate = |sum: u64, before: u64| sum.saturating_sub(before) as f64 / (now - first.at);
            write_rate = rate(storage.write.bytes, first.written);
            read_rate = rate(storage.read.bytes, first.read);
        }
        let ratio = storage.spilled_memory as f64 / storage.spilled_disk as f64;
        Backend {
            name: name.to_owned(),
            write_rate,
            read_rate,
            written: storage.write.bytes,
            read: storage.read.bytes,
            ratio: (storage.spilled_disk > 0 && ratio.is_finite()).then_some(ratio),
            queue: storage.staged,
            deferred: storage.deferred,
            failures: storage.failures,
            values: storage.count,
            bytes: storage.spilled_disk,
            physical: storage.physical,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(pid: u32, written: u64) -> WorkerState {
        let mut worker = WorkerState::default();
        worker.pid = pid;
        worker.storage.write.bytes = written;
        worker.storage.write.count = 1;
        (worker.storage.spilled_memory, worker.storage.spilled_disk) = (300, 100);
        worker
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds_and_of_one_process() {
        let mut rates = Rates::default();
        let mut rate = |pid, written, now| rates.backends(&worker(pid, written), now)[0].write_rate;
        assert_eq!(rate(1, 100, 0.0), 0.0);
        assert_eq!(rate(1, 300, 2.0), 100.0);
        assert_eq!(rate(1, 300, 10.0), 0.0);
        assert_eq!(rate(2, 900, 11.0), 0.0, "a new process");
        assert_eq!(rate(2, 1000, 12.0), 100.0);
    }

    #[test]
    fn a_worker_without_storage_has_no_backend() {
        assert!(Rates::default().backends(&WorkerState::default(), 0.0).is_empty());
        let shown = Rates::default().backends(&worker(1, 1), 0.0);
        assert_eq!((shown[0].name.as_str(), shown[0].ratio), ("storage", Some(3.0)));
    }
}
