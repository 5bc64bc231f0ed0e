//! One round of evictions: from above `spill` down to `target`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytesize::ByteSize;
use spill_core::{ManualEvict, Result};

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

/// Why a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Memory is no longer above the level.
    Reached,
    /// Fast memory holds nothing: what is left is not managed by the mapping.
    Empty,
    /// `evict` answered -1, and has logged why.
    Failed,
    /// Process memory could not be read.
    Unread,
    /// The monitor is stopping.
    Stopped,
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
}

impl Evictor {
    pub(super) fn new(level: u64, backoff: Duration) -> Self {
        Evictor { level, backoff, resume: Duration::ZERO, unmanaged: Throttle::new(UNMANAGED_EVERY) }
    }

    /// Evicts pair by pair until process memory, read anew before each, is at the level or nothing more can
    /// be done. `evicted` is told the weight of each pair; `stopped` is asked before each. `None` when a
    /// failure is so recent that nothing was tried.
    pub(super) fn round(
        &mut self,
        data: &dyn ManualEvict,
        read: impl Fn() -> Result<u64>,
        now: impl Fn() -> Duration,
        stopped: impl Fn() -> bool,
        mut evicted: impl FnMut(u64),
    ) -> Option<End> {
        if now() < self.resume {
            return None;
        }
        loop {
            if stopped() {
                return Some(End::Stopped);
            }
            let Ok(memory) = read() else { return Some(End::Unread) };
            if memory <= self.level {
                return Some(End::Reached);
            }
            match evict(data) {
                Eviction::Moved(weight) => evicted(weight),
                Eviction::Empty => {
                    if self.unmanaged.pass(now()) {
                        tracing::warn!(
                            "unmanaged memory is high: the process uses {}, more than {}, and no value is left \
                             to evict; something outside of the mapping holds it, or the allocator keeps it",
                            ByteSize(memory),
                            ByteSize(self.level),
                        );
                    }
                    return Some(End::Empty);
                }
                Eviction::Failed => {
                    self.resume = now().saturating_add(self.backoff);
                    return Some(End::Failed);
                }
            }
        }
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
    }

    impl ManualEvict for Process {
        fn evict(&self) -> i64 {
            assert!(!self.panics, "asked to panic");
            let n = self.evictions.fetch_add(1, SeqCst);
            if self.fails_from.is_some_and(|from| n >= from) {
                return -1;
            }
            self.pairs.fetch_sub(1, SeqCst);
            self.memory.fetch_sub(10, SeqCst);
            10
        }
        fn fast(&self) -> bool {
            self.pairs.load(SeqCst) > 0
        }
    }

    fn process(memory: u64, pairs: u64) -> Process {
        Process { memory: memory.into(), pairs: pairs.into(), ..Process::default() }
    }

    /// A round down to 60 bytes, and the bytes evicted.
    fn round(evictor: &mut Evictor, process: &Process, clock: &ManualClock) -> (Option<End>, u64) {
        let mut bytes = 0;
        let read = || Ok(process.memory.load(SeqCst));
        let end = evictor.round(process, read, || clock.now(), || false, |weight| bytes += weight);
        (end, bytes)
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

    /// W06: with nothing to evict a warning is logged, once in 300 seconds.
    #[test]
    fn unmanaged_memory_is_warned_about_once_in_300_seconds() {
        let process = process(95, 1);
        let (mut evictor, clock) = (Evictor::new(60, BACKOFF), ManualClock::new());
        let mut warnings_of_a_round = |expected| {
            let (result, warnings) = warnings::during(|| round(&mut evictor, &process, &clock));
            assert_eq!(result, expected);
            warnings
        };
        let first = warnings_of_a_round((Some(End::Empty), 10));
        assert!(first.len() == 1 && first[0].contains("unmanaged memory is high"), "{first:?}");
        clock.advance(UNMANAGED_EVERY - Duration::from_millis(1));
        assert_eq!(warnings_of_a_round((Some(End::Empty), 0)).len(), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(warnings_of_a_round((Some(End::Empty), 0)).len(), 1);
        assert_eq!(process.evictions.load(SeqCst), 1, "an empty mapping is not asked to evict");
    }

    #[test]
    fn a_reading_that_fails_ends_the_round_and_is_tried_again() {
        let process = process(95, 100);
        let mut evictor = Evictor::new(60, BACKOFF);
        let fail = || Err(Error::config("memory", "gone", "a reading"));
        let end = evictor.round(&process, fail, || Duration::ZERO, || false, |_| ());
        assert_eq!(end, Some(End::Unread));
        assert_eq!(process.evictions.load(SeqCst), 0, "nothing is evicted blindly");
        assert_eq!(round(&mut evictor, &process, &ManualClock::new()).0, Some(End::Reached));
    }

    #[test]
    fn stopping_is_asked_before_each_eviction() {
        let process = process(95, 100);
        let asked = Cell::new(0);
        let stopped = || asked.replace(asked.get() + 1) == 2;
        let read = || Ok(process.memory.load(SeqCst));
        let end = Evictor::new(60, BACKOFF).round(&process, read, || Duration::ZERO, stopped, |_| ());
        assert_eq!(end, Some(End::Stopped));
        assert_eq!(process.evictions.load(SeqCst), 2);
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
