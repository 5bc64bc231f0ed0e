//! One round of evictions: from above `spill` down to `target`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use spill_core::{ManualEvict, Result};

use crate::Trimmed;

/// How often it is said that memory is high and nothing can be evicted, as in Dask.
const UNMANAGED_EVERY: Duration = Duration::from_secs(300);

/// Lets something happen once in a while.
#[derive(Debug)]
pub(super) struct Throttle {
    every: Duration,
    next: Duration,
}

impl Throttle {
    pub(super) fn new(every: Duration) -> Self {
        Throttle { every, next: Duration::ZERO }
    }

    /// Whether it may happen at `now`; if so, not again for a while.
    pub(super) fn pass(&mut self, now: Duration) -> bool {
        let pass = now >= self.next;
        if pass {
            self.next = now.saturating_add(self.every);
        }
        pass
    }
}

/// How often an allocator is asked to hand memory back; each time that it had nothing to give, it is left alone for
/// twice as long, up to [`TRIM_SELDOM`].
const TRIM_EVERY: Duration = Duration::from_secs(1);

/// The cap: memory that the program frees while it is paused goes back after so long at most.
const TRIM_SELDOM: Duration = Duration::from_secs(10);

/// What an allocator must hand back for its trim to have been of use, in bytes.
const OF_USE: u64 = 1 << 20;

/// Why a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Memory is no longer above the level.
    Reached,
    /// Fast memory holds nothing: what is left is not managed by the mapping.
    Empty,
    /// The same, and it is time to say so.
    UnmanagedHigh {
        /// Process memory, in bytes.
        memory: u64,
    },
    /// `evict` answered -1, and has logged why.
    Failed,
    /// Process memory could not be read.
    Unread,
    /// The monitor is stopping.
    Stopped,
}

/// What a round needs of the monitor.
pub(super) trait Surroundings {
    /// Process memory in bytes.
    fn read(&self) -> Result<u64>;
    /// The time.
    fn now(&self) -> Duration;
    /// Asked before each eviction.
    fn stopped(&self) -> bool;
    /// Evicting begins.
    fn begins(&self, memory: u64);
    /// A pair of this weight left fast memory.
    fn evicted(&self, weight: u64);
    /// Hands unused memory back to the system: how process memory went, or `None` when that failed.
    fn trim(&self) -> Option<Trimmed>;
    /// A trim that is worth telling.
    fn trimmed(&self, trimmed: Trimmed);
}

/// The evictor's memory between rounds.
#[derive(Debug)]
pub(super) struct Evictor {
    /// Down to this process memory, in bytes.
    level: u64,
    /// How long a mapping that failed is left alone.
    backoff: Duration,
    resume: Duration,
    unmanaged: Throttle,
    trim: Throttle,
}

impl Evictor {
    pub(super) fn new(level: u64, backoff: Duration) -> Self {
        Evictor {
            level,
            backoff,
            resume: Duration::ZERO,
            unmanaged: Throttle::new(UNMANAGED_EVERY),
            trim: Throttle::new(TRIM_EVERY),
        }
    }

    /// Evicts pair by pair until process memory, read anew before each, is at the level or nothing more can
    /// be done. `None` when a failure is so recent that nothing was tried.
    ///
    /// Where as much was evicted as there was too much, and memory is still above the level, the allocator
    /// keeps what was freed: it is trimmed, since otherwise every value would be evicted in vain. The same
    /// before it is said that unmanaged memory is high.
    pub(super) fn round(&mut self, data: &dyn ManualEvict, around: &impl Surroundings) -> Option<End> {
        if around.now() < self.resume {
            return None;
        }
        // Bytes to evict before memory should be at the level, once it is known.
        let mut enough = None;
        let (mut begun, mut trimmed_empty) = (false, false);
        loop {
            if around.stopped() {
                return Some(End::Stopped);
            }
            let Ok(memory) = around.read() else { return Some(End::Unread) };
            if memory <= self.level {
                return Some(End::Reached);
            }
            if enough == Some(0) && self.trim.pass(around.now()) {
                self.trim(around);
                enough = None;
                continue;
            }
            let missing = enough.get_or_insert(memory - self.level);
            match evict(data) {
                Eviction::Moved(weight) => {
                    if !begun {
                        begun = true;
                        around.begins(memory);
                    }
                    around.evicted(weight);
                    *missing = missing.saturating_sub(weight);
                }
                Eviction::Empty if !trimmed_empty && self.trim.pass(around.now()) => {
                    trimmed_empty = true;
                    self.trim(around);
                }
                Eviction::Empty if self.unmanaged.pass(around.now()) => {
                    return Some(End::UnmanagedHigh { memory });
                }
                Eviction::Empty => return Some(End::Empty),
                Eviction::Failed => {
                    self.resume = around.now().saturating_add(self.backoff);
                    return Some(End::Failed);
                }
            }
        }
    }
}

impl Evictor {
    /// Trims, and sees to it that an allocator with nothing to give is asked less and less often. The first of
    /// several trims in vain is told, so that the log shows it once.
    fn trim(&mut self, around: &impl Surroundings) {
        let Some(trimmed) = around.trim() else { return };
        let of_use = trimmed.before.saturating_sub(trimmed.after) >= OF_USE;
        if of_use || self.trim.every == TRIM_EVERY {
            around.trimmed(trimmed);
        }
        self.trim.every = if of_use { TRIM_EVERY } else { (2 * self.trim.every).min(TRIM_SELDOM) };
        self.trim.next = around.now().saturating_add(self.trim.every);
    }
}

enum Eviction {
    /// One pair left fast memory, of this weight.
    Moved(u64),
    Empty,
    Failed,
}

/// Evicts one pair. A mapping must not panic here; one that does has failed to evict.
fn evict(data: &dyn ManualEvict) -> Eviction {
    let attempt = || {
        if !data.fast() {
            return Eviction::Empty;
        }
        u64::try_from(data.evict()).map_or(Eviction::Failed, Eviction::Moved)
    };
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|_| {
        tracing::error!("a mapping panicked while it was asked to evict; it is asked again later");
        Eviction::Failed
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use spill_core::{Clock, Error, ManualClock};

    use super::*;
    use crate::warnings;

    const BACKOFF: Duration = Duration::from_millis(200);

    /// Process memory and a mapping that holds some of it, in pairs of 10 bytes.
    #[derive(Default)]
    struct Process {
        memory: AtomicU64,
        pairs: AtomicU64,
        evictions: AtomicU64,
        /// Evictions from this one on answer -1.
        fails_from: Option<u64>,
        panics: bool,
        /// What the allocator keeps until it is trimmed.
        keeps: bool,
        kept: AtomicU64,
        trims: AtomicU64,
        /// Trims that were told.
        told: AtomicU64,
    }

    impl ManualEvict for Process {
        fn evict(&self) -> i64 {
            assert!(!self.panics, "asked to panic");
            let n = self.evictions.fetch_add(1, SeqCst);
            if self.fails_from.is_some_and(|from| n >= from) {
                return -1;
            }
            self.pairs.fetch_sub(1, SeqCst);
            if self.keeps {
                self.kept.fetch_add(10, SeqCst);
            } else {
                self.memory.fetch_sub(10, SeqCst);
            }
            10
        }
        fn fast(&self) -> bool {
            self.pairs.load(SeqCst) > 0
        }
    }

    fn process(memory: u64, pairs: u64) -> Process {
        Process { memory: memory.into(), pairs: pairs.into(), ..Process::default() }
    }

    /// A process, a clock, and what was evicted.
    struct Around<'a> {
        process: &'a Process,
        clock: &'a ManualClock,
        evicted: Cell<u64>,
        begun: Cell<u32>,
        stop_after: Option<u64>,
        unread: bool,
    }

    impl Surroundings for Around<'_> {
        fn read(&self) -> Result<u64> {
            if self.unread {
                return Err(Error::config("memory", "gone", "a reading"));
            }
            Ok(self.process.memory.load(SeqCst))
        }
        fn now(&self) -> Duration {
            self.clock.now()
        }
        fn stopped(&self) -> bool {
            self.stop_after.is_some_and(|n| self.process.evictions.load(SeqCst) >= n)
        }
        fn begins(&self, _: u64) {
            self.begun.set(self.begun.get() + 1);
        }
        fn evicted(&self, weight: u64) {
            self.evicted.set(self.evicted.get() + weight);
        }
        fn trim(&self) -> Option<Trimmed> {
            self.process.trims.fetch_add(1, SeqCst);
            let freed = self.process.kept.swap(0, SeqCst);
            let before = self.process.memory.fetch_sub(freed, SeqCst) << 20;
            Some(Trimmed { allocator: None, released: None, before, after: before - (freed << 20) })
        }
        fn trimmed(&self, _: Trimmed) {
            self.process.told.fetch_add(1, SeqCst);
        }
    }

    fn around<'a>(process: &'a Process, clock: &'a ManualClock) -> Around<'a> {
        Around { process, clock, evicted: Cell::new(0), begun: Cell::new(0), stop_after: None, unread: false }
    }

    /// A round down to 60 bytes, and the bytes evicted.
    fn round(evictor: &mut Evictor, process: &Process, clock: &ManualClock) -> (Option<End>, u64) {
        let around = around(process, clock);
        let end = evictor.round(process, &around);
        (end, around.evicted.get())
    }

    fn fresh_round(process: &Process) -> (Option<End>, u64) {
        round(&mut Evictor::new(60, BACKOFF), process, &ManualClock::new())
    }

    /// W06: memory is read again after each eviction, and the round ends where the level is reached.
    #[test]
    fn evicts_until_process_memory_is_at_the_level() {
        let process = process(95, 100);
        assert_eq!(fresh_round(&process), (Some(End::Reached), 40));
        assert_eq!(process.memory.load(SeqCst), 55);
        assert_eq!(fresh_round(&process), (Some(End::Reached), 0), "nothing is evicted at the level");
    }

    /// W06: -1 ends the round, and the mapping is left alone for a while.
    #[test]
    fn a_failed_eviction_ends_the_round() {
        let process = Process { fails_from: Some(2), ..process(95, 100) };
        let (mut evictor, clock) = (Evictor::new(60, BACKOFF), ManualClock::new());
        assert_eq!(round(&mut evictor, &process, &clock), (Some(End::Failed), 20));
        assert_eq!(round(&mut evictor, &process, &clock), (None, 0));
        assert_eq!(process.evictions.load(SeqCst), 3, "not asked again at once");
        clock.advance(BACKOFF);
        assert_eq!(round(&mut evictor, &process, &clock), (Some(End::Failed), 0));
        assert_eq!(process.evictions.load(SeqCst), 4);
    }

    /// W06: with nothing to evict it is said that unmanaged memory is high, once in 300 seconds, and only
    /// after a trim.
    #[test]
    fn unmanaged_memory_is_warned_about_once_in_300_seconds() {
        let process = process(95, 1);
        let (mut evictor, clock) = (Evictor::new(60, BACKOFF), ManualClock::new());
        let high = Some(End::UnmanagedHigh { memory: 85 });
        assert_eq!(round(&mut evictor, &process, &clock), (high, 10));
        assert_eq!(process.trims.load(SeqCst), 1);
        clock.advance(UNMANAGED_EVERY - Duration::from_millis(1));
        assert_eq!(round(&mut evictor, &process, &clock), (Some(End::Empty), 0));
        clock.advance(Duration::from_millis(1));
        assert_eq!(round(&mut evictor, &process, &clock), (high, 0));
        assert_eq!(process.evictions.load(SeqCst), 1, "an empty mapping is not asked to evict");
        assert_eq!(process.trims.load(SeqCst), 2, "at most one trim a second");
    }

    #[test]
    fn memory_that_the_allocator_keeps_is_trimmed_before_more_is_evicted() {
        let process = Process { keeps: true, ..process(95, 100) };
        assert_eq!(fresh_round(&process), (Some(End::Reached), 40), "as much as was above the level");
        assert_eq!((process.trims.load(SeqCst), process.memory.load(SeqCst)), (1, 55));
    }

    /// W06: evicting in vain trims, once a second at first and ever less often while the allocator has nothing to
    /// give; only the first of those is told.
    #[test]
    fn trims_in_vain_become_rare_and_are_told_once() {
        let process = process(95, 0);
        let (mut evictor, clock) = (Evictor::new(60, BACKOFF), ManualClock::new());
        let mut trims = Vec::new();
        for second in 0..40_u64 {
            let before = process.trims.load(SeqCst);
            round(&mut evictor, &process, &clock);
            trims.extend((process.trims.load(SeqCst) > before).then_some(second));
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(trims, [0, 2, 6, 14, 24, 34]);
        assert_eq!(process.told.load(SeqCst), 1);
        process.kept.store(20, SeqCst);
        clock.advance(TRIM_SELDOM);
        round(&mut evictor, &process, &clock);
        assert_eq!(process.told.load(SeqCst), 2, "one of use");
        clock.advance(TRIM_EVERY);
        round(&mut evictor, &process, &clock);
        assert_eq!(process.trims.load(SeqCst), 8, "and then soon again");
    }

    #[test]
    fn a_round_begins_once_however_often_it_trims() {
        let (process, clock) = (Process { keeps: true, ..process(95, 100) }, ManualClock::new());
        let around = around(&process, &clock);
        Evictor::new(20, BACKOFF).round(&process, &around);
        assert_eq!((around.begun.get(), process.trims.load(SeqCst)), (1, 1));
    }

    #[test]
    fn a_trim_that_frees_enough_makes_the_warning_unnecessary() {
        let process = Process { kept: 40.into(), ..process(95, 0) };
        assert_eq!(fresh_round(&process), (Some(End::Reached), 0));
        assert_eq!(process.memory.load(SeqCst), 55);
    }

    #[test]
    fn a_reading_that_fails_ends_the_round_and_is_tried_again() {
        let (process, clock) = (process(95, 100), ManualClock::new());
        let mut evictor = Evictor::new(60, BACKOFF);
        let blind = Around { unread: true, ..around(&process, &clock) };
        assert_eq!(evictor.round(&process, &blind), Some(End::Unread));
        assert_eq!(process.evictions.load(SeqCst), 0, "nothing is evicted blindly");
        assert_eq!(round(&mut evictor, &process, &clock).0, Some(End::Reached));
    }

    #[test]
    fn stopping_is_asked_before_each_eviction() {
        let (process, clock) = (process(95, 100), ManualClock::new());
        let around = Around { stop_after: Some(2), ..around(&process, &clock) };
        assert_eq!(Evictor::new(60, BACKOFF).round(&process, &around), Some(End::Stopped));
        assert_eq!((process.evictions.load(SeqCst), around.begun.get()), (2, 1));
    }

    #[test]
    fn a_mapping_that_panics_has_failed_to_evict() {
        let process = Process { panics: true, ..process(95, 100) };
        let (result, logged) = warnings::during(|| fresh_round(&process));
        assert_eq!(result, (Some(End::Failed), 0));
        assert!(logged[0].contains("panicked"), "{logged:?}");
    }

    #[test]
    fn a_throttle_passes_at_once_and_then_once_in_a_while() {
        let mut throttle = Throttle::new(Duration::from_secs(10));
        let passes: Vec<_> = [0, 1, 9, 10, 11, 20].map(|s| throttle.pass(Duration::from_secs(s))).into();
        assert_eq!(passes, [true, false, false, true, false, true]);
    }
}
