//! What a worker did lately, for a time line: tasks, and the time that storage took.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use spill_core::{Clock, Step};

/// How many pieces of [`Activity`] are kept.
pub const ACTIVITIES: usize = 512;

/// Names are cut to so many characters.
const LONGEST_NAME: usize = 80;

/// Lanes are counted to here; tasks beyond share the last.
const MOST_LANES: usize = 256;

/// Short tasks of one lane that follow each other within this time are shown as one.
const GAP: Duration = Duration::from_millis(5);

/// But not for longer than this.
const LONGEST_MERGED: Duration = Duration::from_millis(250);

/// Something that took time and is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Activity {
    /// Counts the pieces of one list, from 0.
    pub number: u64,
    /// What.
    pub kind: ActivityKind,
    /// For tasks: which of those that ran side by side, from 0.
    pub lane: usize,
    /// When it began, in seconds on the clock of [`WorkerState::now`](crate::WorkerState::now).
    pub start: f64,
    /// When it ended.
    pub end: f64,
    /// The name of the task, as far as it has one.
    pub name: String,
    /// How many tasks or values.
    pub count: u64,
    /// Bytes written or read.
    pub bytes: u64,
}

/// The kinds of [`Activity`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivityKind {
    /// A task ran.
    Task,
    /// Values were written to storage.
    Write,
    /// Values were read from storage.
    Read,
}

/// A task that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// Which of those that run side by side, from 0.
    pub lane: usize,
    /// When it began, in seconds on the clock of [`WorkerState::now`](crate::WorkerState::now).
    pub start: f64,
    /// Its name, as far as it has one.
    pub name: String,
}

/// The last activities. Bounded, whatever the tasks do; recording takes a lock of its own for some dozen
/// instructions.
pub(crate) struct ActivityLog {
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    next: u64,
    over: VecDeque<Activity>,
    lanes: Vec<Lane>,
    /// The sums of writing and reading at the last look, and when that was.
    storage: [Step; 2],
    looked: Duration,
}

#[derive(Default)]
struct Lane {
    running: Option<(Duration, String)>,
    /// What ended last and may still be joined by what follows.
    ended: Option<Activity>,
}

impl ActivityLog {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        ActivityLog { clock, kept: Mutex::default() }
    }

    /// A task begins; its lane.
    pub(crate) fn begin(&self) -> usize {
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        let free = kept.lanes.iter().position(|lane| lane.running.is_none());
        let lane = free.unwrap_or_else(|| {
            if kept.lanes.len() < MOST_LANES {
                kept.lanes.push(Lane::default());
            }
            kept.lanes.len() - 1
        });
        if let Some(lane) = kept.lanes.get_mut(lane) {
            lane.running = Some((now, String::new()));
        }
        lane
    }

    /// The task of this lane is called so.
    pub(crate) fn name(&self, lane: usize, name: &str) {
        if let Some((_, old)) = self.kept.lock().lanes.get_mut(lane).and_then(|lane| lane.running.as_mut()) {
            *old = cut(name);
        }
    }

    /// The task of this lane is over.
    pub(crate) fn end(&self, lane: usize) {
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        let Some(place) = kept.lanes.get_mut(lane) else { return };
        let Some((start, name)) = place.running.take() else { return };
        let (start, end) = (start.as_secs_f64(), now.as_secs_f64());
        if let Some(before) = &mut place.ended
            && before.name == name
            && start - before.end <= GAP.as_secs_f64()
            && end - before.start <= LONGEST_MERGED.as_secs_f64()
        {
            (before.end, before.count) = (end, before.count + 1);
            return;
        }
        let task =
            Activity { number: 0, kind: ActivityKind::Task, lane, start, end, name, count: 1, bytes: 0 };
        if let Some(before) = place.ended.replace(task) {
            kept.keep(before);
        }
    }

    /// Looks at what storage has done in all: what came since the last look becomes activities that end now.
    pub(crate) fn look(&self, write: Step, read: Step) {
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        let since = std::mem::replace(&mut kept.looked, now);
        let before = std::mem::replace(&mut kept.storage, [write, read]);
        for (kind, step, before) in
            [(ActivityKind::Write, write, before[0]), (ActivityKind::Read, read, before[1])]
        {
            let count = step.count.saturating_sub(before.count);
            if count == 0 {
                continue;
            }
            // Several threads may have spent more than the time that passed.
            let took = step.time.saturating_sub(before.time).min(now.saturating_sub(since));
            kept.keep(Activity {
                number: 0,
                kind,
                lane: 0,
                start: now.saturating_sub(took).as_secs_f64(),
                end: now.as_secs_f64(),
                name: String::new(),
                count,
                bytes: step.bytes.saturating_sub(before.bytes),
            });
        }
    }

    /// Takes over what another log says; this one's clock reads `ahead` seconds more than its.
    pub(crate) fn adopt(&self, others: &[Activity], ahead: f64) {
        let mut kept = self.kept.lock();
        for other in others.iter().rev().take(ACTIVITIES).rev() {
            kept.keep(Activity {
                number: 0,
                lane: other.lane.min(MOST_LANES - 1),
                start: other.start + ahead,
                end: other.end + ahead,
                name: cut(&other.name),
                ..*other
            });
        }
    }

    /// What is over, oldest first, and the tasks that run.
    pub(crate) fn list(&self) -> (Vec<Activity>, Vec<Running>) {
        let mut kept = self.kept.lock();
        let ended: Vec<_> = kept.lanes.iter_mut().filter_map(|lane| lane.ended.take()).collect();
        ended.into_iter().for_each(|activity| kept.keep(activity));
        let running = kept.lanes.iter().enumerate().filter_map(|(lane, place)| {
            let (start, name) = place.running.as_ref()?;
            Some(Running { lane, start: start.as_secs_f64(), name: name.clone() })
        });
        let running = running.collect();
        (kept.over.iter().cloned().collect(), running)
    }
}

impl Kept {
    fn keep(&mut self, activity: Activity) {
        if self.over.len() == ACTIVITIES {
            self.over.pop_front();
        }
        self.over.push_back(Activity { number: self.next, ..activity });
        self.next += 1;
    }
}

impl fmt::Debug for ActivityLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActivityLog").finish_non_exhaustive()
    }
}

fn cut(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}

/// Running tasks of another process, on a clock that reads `ahead` seconds more than its.
pub(crate) fn adopted(running: Vec<Running>, ahead: f64) -> Vec<Running> {
    let shift = |other: Running| Running {
        lane: other.lane.min(MOST_LANES - 1),
        start: other.start + ahead,
        name: cut(&other.name),
    };
    running.into_iter().take(MOST_LANES).map(shift).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use spill_core::ManualClock;

    const MS: Duration = Duration::from_millis(1);

    fn log() -> (Arc<ManualClock>, ActivityLog) {
        let clock = Arc::new(ManualClock::new());
        (Arc::clone(&clock), ActivityLog::new(clock))
    }

    #[test]
    fn tasks_side_by_side_have_lanes_and_short_ones_are_joined() {
        let (clock, log) = log();
        let (one, two) = (log.begin(), log.begin());
        log.name(two, "load");
        clock.advance(100 * MS);
        log.end(one);
        clock.advance(2 * MS);
        let again = log.begin();
        clock.advance(8 * MS);
        log.end(again);
        assert_eq!((one, two, again), (0, 1, 0));
        let (over, running) = log.list();
        assert_eq!(running, [Running { lane: 1, start: 0.0, name: "load".to_owned() }]);
        let shown: Vec<_> = over.iter().map(|a| (a.lane, a.start, a.end, a.count)).collect();
        assert_eq!(shown, [(0, 0.0, 0.11, 2)]);

        clock.advance(MS);
        log.end(log.begin()); // what was listed is not joined any more
        assert_eq!(log.list().0.len(), 2);
    }

    #[test]
    fn what_storage_did_since_the_last_look_ends_now() {
        let (clock, log) = log();
        let step = |count, bytes, millis| Step { count, bytes, time: Duration::from_millis(millis) };
        clock.advance(1000 * MS);
        log.look(step(0, 0, 0), step(0, 0, 0));
        clock.advance(200 * MS);
        log.look(step(3, 3000, 50), step(0, 0, 0));
        clock.advance(200 * MS);
        log.look(step(3, 3000, 50), step(9, 900, 5000));
        let shown: Vec<_> = log.list().0.iter().map(|a| (a.kind, a.start, a.end, a.count, a.bytes)).collect();
        assert_eq!(
            shown,
            [(ActivityKind::Write, 1.15, 1.2, 3, 3000), (ActivityKind::Read, 1.2, 1.4, 9, 900)]
        );
    }

    #[test]
    fn what_others_say_is_bounded_and_moved_to_this_clock() {
        let (_, log) = log();
        let activity = Activity {
            number: 7,
            kind: ActivityKind::Task,
            lane: usize::MAX,
            start: 1.0,
            end: 2.0,
            name: "x".repeat(1000),
            count: 1,
            bytes: 0,
        };
        log.adopt(&vec![activity; 3 * ACTIVITIES], 10.0);
        let (over, _) = log.list();
        assert_eq!(over.len(), ACTIVITIES);
        let last = &over[ACTIVITIES - 1];
        assert_eq!((last.number, last.start, last.end), (ACTIVITIES as u64 - 1, 11.0, 12.0));
        assert!(last.lane < MOST_LANES && last.name.len() == LONGEST_NAME);
    }
}
