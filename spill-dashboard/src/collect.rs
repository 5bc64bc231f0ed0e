//! Looks at the workers again and again, and keeps what the page shows of the past.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::Mutex;
use spill_core::Clock;
use spill_worker::{Observe, WorkerState};

use crate::model::{Block, BlockKind, History, LogEntry, Memory, State, VERSION, Worker};
use crate::rates::Rates;

/// Seconds between two samples of the history.
const SAMPLE_EVERY: f64 = 1.0;

/// Samples that are kept: ten minutes.
const SAMPLES: usize = 600;

/// Log entries that are kept.
const ENTRIES: usize = 1000;

/// Blocks that are kept.
const BLOCKS: usize = 4000;

/// Workers beyond are not shown.
const MOST_WORKERS: usize = 1000;

/// Texts from workers are cut to so many characters.
const LONGEST_TEXT: usize = 500;

/// One look at the workers.
pub(crate) struct Snapshot {
    pub(crate) state: State,
    /// What it was made of, for the metrics.
    pub(crate) workers: Vec<WorkerState>,
    /// How often each kind of event was seen, by worker and kind.
    pub(crate) events: BTreeMap<(String, String), u64>,
    json: OnceLock<Bytes>,
}

impl Snapshot {
    /// The state as JSON, written at most once.
    pub(crate) fn json(&self) -> Bytes {
        self.json.get_or_init(|| json(&self.state)).clone()
    }
}

/// JSON of a value that has a form in it.
pub(crate) fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).map(Bytes::from).unwrap_or_else(|error| {
        tracing::error!("the dashboard cannot write JSON: {error}");
        Bytes::from_static(b"null")
    })
}

/// What has been seen.
pub(crate) struct Collector {
    observe: Arc<dyn Observe>,
    clock: Arc<dyn Clock>,
    instance: String,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    last: Option<Arc<Snapshot>>,
    workers: HashMap<String, Seen>,
    total: Past,
    log: VecDeque<LogEntry>,
    next_entry: u64,
    blocks: VecDeque<Block>,
    next_block: u64,
    counts: BTreeMap<(String, String), u64>,
}

/// Of one worker.
#[derive(Default)]
struct Seen {
    events: u64,
    activities: u64,
    rates: Rates,
    past: Past,
}

/// Memory over time.
#[derive(Default)]
struct Past(VecDeque<(f64, Memory)>);

impl Past {
    fn add(&mut self, at: f64, memory: Memory) {
        if self.0.back().is_some_and(|(last, _)| at - last < SAMPLE_EVERY) {
            return;
        }
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back((at, memory));
    }

    fn history(&self, at: f64) -> History {
        let sample = |(at, memory): &(f64, Memory)| {
            (*at, memory.managed, memory.unmanaged, memory.unmanaged_recent, memory.spilled)
        };
        History { at, samples: self.0.iter().map(sample).collect() }
    }
}

impl Collector {
    pub(crate) fn new(observe: Arc<dyn Observe>, clock: Arc<dyn Clock>, instance: String) -> Self {
        Collector { observe, clock, instance, kept: Mutex::default() }
    }

    /// Seconds on the server's clock.
    pub(crate) fn now(&self) -> f64 {
        self.clock.now().as_secs_f64()
    }

    /// Tells one start of the server from another.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// Looks once.
    pub(crate) fn look(&self) -> Arc<Snapshot> {
        let workers = catch_unwind(AssertUnwindSafe(|| self.observe.workers()));
        let mut workers = workers.unwrap_or_else(|_| {
            tracing::error!("giving the workers' state panicked");
            Vec::new()
        });
        workers.truncate(MOST_WORKERS);
        let now = self.now();
        let mut kept = self.kept.lock();
        let shown: Vec<Worker> = workers.iter().map(|worker| kept.take(worker, now)).collect();
        kept.workers.retain(|name, _| shown.iter().any(|worker| worker.name == *name));
        kept.counts.retain(|(name, _), _| shown.iter().any(|worker| worker.name == *name));
        let mut total = Memory::default();
        shown.iter().for_each(|worker| total.add(&worker.memory));
        kept.total.add(now, total);
        let limit = shown.iter().try_fold(0_u64, |sum, worker| Some(sum.saturating_add(worker.limit?)));
        let instance = self.instance.clone();
        let state = State { version: VERSION, instance, at: now, total, limit, workers: shown };
        let events = kept.counts.clone();
        let snapshot = Arc::new(Snapshot { state, workers, events, json: OnceLock::new() });
        kept.last = Some(Arc::clone(&snapshot));
        snapshot
    }

    /// What the last look saw; looks if there was none.
    pub(crate) fn last(&self) -> Arc<Snapshot> {
        let last = self.kept.lock().last.clone();
        last.unwrap_or_else(|| self.look())
    }

    /// Memory over time of all workers or of the one with this name, if there is one.
    pub(crate) fn history(&self, worker: Option<&str>) -> Option<History> {
        let now = self.now();
        let kept = self.kept.lock();
        let past = match worker {
            Some(name) => &kept.workers.get(name)?.past,
            None => &kept.total,
        };
        Some(past.history(now))
    }

    /// The log from this number on, and the number that comes next.
    pub(crate) fn log_since(&self, number: u64) -> (Vec<LogEntry>, u64) {
        let kept = self.kept.lock();
        let new = kept.log.iter().filter(|entry| entry.number >= number).cloned().collect();
        (new, kept.next_entry)
    }

    /// The blocks from this number on, and the number that comes next.
    pub(crate) fn blocks_since(&self, number: u64) -> (Vec<Block>, u64) {
        let kept = self.kept.lock();
        let from = kept.blocks.partition_point(|block| block.number < number);
        (kept.blocks.range(from..).cloned().collect(), kept.next_block)
    }
}

impl Kept {
    /// Takes in what one worker shows.
    fn take(&mut self, worker: &WorkerState, now: f64) -> Worker {
        let ahead = now - worker.now;
        let mut seen = self.workers.remove(&worker.name).unwrap_or_default();
        // Fewer than before: another process has taken the name.
        if worker.events.last().is_some_and(|last| last.number + 1 < seen.events) {
            (seen.events, seen.activities) = (0, 0);
        }
        for event in worker.events.iter().filter(|event| event.number >= seen.events) {
            let kind = json(&event.kind);
            let kind = String::from_utf8_lossy(&kind).trim_matches('"').to_owned();
            *self.counts.entry((worker.name.clone(), kind.clone())).or_default() += 1;
            if self.log.len() == ENTRIES {
                self.log.pop_front();
            }
            self.log.push_back(LogEntry {
                number: self.next_entry,
                at: event.at + ahead,
                worker: worker.name.clone(),
                kind,
                title: event.kind.name().to_owned(),
                text: event.text.chars().take(LONGEST_TEXT).collect(),
            });
            self.next_entry += 1;
        }
        seen.events = worker.events.last().map_or(seen.events, |event| event.number + 1);
        for activity in worker.activity.iter().filter(|activity| activity.number >= seen.activities) {
            let Some(kind) = BlockKind::of(activity.kind) else { continue };
            if self.blocks.len() == BLOCKS {
                self.blocks.pop_front();
            }
            self.blocks.push_back(Block {
                number: self.next_block,
                worker: worker.name.clone(),
                kind,
                lane: activity.lane,
                start: activity.start + ahead,
                end: activity.end + ahead,
                name: activity.name.clone(),
                count: activity.count,
                bytes: activity.bytes,
            });
            self.next_block += 1;
        }
        seen.activities = worker.activity.last().map_or(seen.activities, |activity| activity.number + 1);
        let shown = Worker::of(worker, &mut seen.rates, now, ahead);
        seen.past.add(now, shown.memory);
        self.workers.insert(worker.name.clone(), seen);
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use spill_core::ManualClock;
    use spill_worker::{Activity, ActivityKind, Event, EventKind, Readings};

    struct Workers(Mutex<Vec<WorkerState>>);

    impl Observe for Workers {
        fn workers(&self) -> Vec<WorkerState> {
            self.0.lock().clone()
        }
    }

    fn worker(name: &str) -> WorkerState {
        let mut worker = WorkerState::default();
        worker.name = name.to_owned();
        worker.limit = Some(1000);
        worker.readings =
            Readings { process: 60, managed: 10, unmanaged: 20, unmanaged_recent: 30, spilled: 5 };
        worker.now = 100.0;
        worker
    }

    fn event(number: u64, at: f64) -> Event {
        Event { number, at, kind: EventKind::UnmanagedHigh, text: "x".repeat(2000) }
    }

    fn collector(workers: Vec<WorkerState>) -> (Arc<Workers>, Arc<ManualClock>, Collector) {
        let (workers, clock) = (Arc::new(Workers(Mutex::new(workers))), Arc::new(ManualClock::new()));
        let collector = Collector::new(Arc::clone(&workers) as _, Arc::clone(&clock) as _, "one".to_owned());
        (workers, clock, collector)
    }

    #[test]
    fn sums_and_history_are_kept() {
        let (_, clock, collector) = collector(vec![worker("a"), worker("b")]);
        for _ in 0..2000 {
            clock.advance(Duration::from_millis(500));
            collector.look();
        }
        let state = collector.last();
        assert_eq!((state.state.total.process, state.state.limit), (120, Some(2000)));
        let history = collector.history(None).unwrap();
        assert_eq!(history.samples.len(), SAMPLES);
        assert_eq!(history.samples[SAMPLES - 1].1, 20);
        assert_eq!(collector.history(Some("b")).unwrap().samples[0].4, 5);
        assert!(collector.history(Some("c")).is_none());
    }

    #[test]
    fn each_event_and_activity_is_taken_once_on_the_servers_clock() {
        let mut one = worker("a");
        one.events = vec![event(0, 90.0), event(1, 99.0)];
        one.activity = vec![Activity {
            number: 0,
            kind: ActivityKind::Write,
            lane: 0,
            start: 98.0,
            end: 99.0,
            name: String::new(),
            count: 3,
            bytes: 9,
        }];
        let (workers, clock, collector) = collector(vec![one]);
        clock.advance(Duration::from_secs(1000));
        collector.look();
        collector.look();
        workers.0.lock()[0].events.push(event(2, 100.0));
        collector.look();
        let (log, next) = collector.log_since(0);
        assert_eq!(log.iter().map(|entry| entry.at).collect::<Vec<_>>(), [990.0, 999.0, 1000.0]);
        assert_eq!((log[0].kind.as_str(), log[0].text.len()), ("unmanaged_high", LONGEST_TEXT));
        assert_eq!((next, collector.log_since(2).0.len()), (3, 1));
        let (blocks, _) = collector.blocks_since(0);
        assert_eq!((blocks.len(), blocks[0].start, blocks[0].end), (1, 998.0, 999.0));
        assert_eq!(collector.last().events[&("a".to_owned(), "unmanaged_high".to_owned())], 3);
    }

    #[test]
    fn a_new_process_of_the_same_name_begins_anew() {
        let mut one = worker("a");
        one.events = (0..5).map(|number| event(number, 0.0)).collect();
        let (workers, _, collector) = collector(vec![one]);
        collector.look();
        workers.0.lock()[0].events = vec![event(0, 0.0)];
        collector.look();
        assert_eq!(collector.log_since(0).0.len(), 6);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut one = worker("a");
        one.events = (0..5000).map(|number| event(number, 0.0)).collect();
        let (workers, _, collector) = collector(vec![one; 1]);
        collector.look();
        assert_eq!(collector.log_since(0).0.len(), ENTRIES);
        *workers.0.lock() = (0..5000).map(|n| worker(&n.to_string())).collect();
        assert_eq!(collector.look().state.workers.len(), MOST_WORKERS);
    }

    #[test]
    fn an_observer_that_panics_shows_nothing() {
        struct Broken;
        impl Observe for Broken {
            fn workers(&self) -> Vec<WorkerState> {
                panic!("broken")
            }
        }
        let collector = Collector::new(Arc::new(Broken), Arc::new(ManualClock::new()), String::new());
        assert!(collector.look().state.workers.is_empty());
    }
}
