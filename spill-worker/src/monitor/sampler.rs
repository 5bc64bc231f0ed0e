//! What one reading of process memory leads to. No thread, no clock, no I/O: readings in, decisions out.

use std::time::Duration;

use super::State;
use crate::pace::{Slope, interval};
use crate::{MemoryLimit, Thresholds};

/// The thresholds in bytes. `None` is off; without a limit all are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Levels {
    pub(super) limit: Option<u64>,
    /// Eviction begins above this.
    pub(super) spill: Option<u64>,
    /// And goes on until this is reached. Off when `spill` is.
    pub(super) evict_to: Option<u64>,
    pub(super) pause: Option<u64>,
}

impl Levels {
    pub(super) fn new(limit: MemoryLimit, thresholds: &Thresholds) -> Self {
        let level = |fraction: Option<f64>| Some((fraction? * limit.bytes()? as f64) as u64);
        let spill = level(thresholds.spill);
        Levels {
            limit: limit.bytes(),
            spill,
            evict_to: spill.and(level(thresholds.target).or(spill)),
            pause: level(thresholds.pause),
        }
    }
}

/// What to do after a reading, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Actions {
    /// The state that was entered, when it changed.
    pub(super) entered: Option<State>,
    /// Whether values should be evicted.
    pub(super) evict: bool,
    /// Whether it has been paused for so long that somebody should know.
    pub(super) alarm: bool,
    /// How long to wait before the next reading.
    pub(super) wait: Duration,
}

/// The sampler's memory between readings.
#[derive(Debug)]
pub(super) struct Sampler {
    levels: Levels,
    interval: Duration,
    /// How long a pause may last before the alarm, and between two alarms.
    patience: Duration,
    state: State,
    /// When the next alarm is due, while paused.
    alarm: Option<Duration>,
    slope: Slope,
}

impl Sampler {
    pub(super) fn new(levels: Levels, interval: Duration, patience: Duration) -> Self {
        Sampler { levels, interval, patience, state: State::Running, alarm: None, slope: Slope::default() }
    }

    /// Whether a reading of `memory` bytes would begin a pause.
    pub(super) fn would_pause(&self, memory: u64) -> bool {
        self.state == State::Running && above(memory, self.levels.pause)
    }

    /// Takes a reading of `memory` bytes made at `now`. The pause is decided first, then eviction.
    pub(super) fn step(&mut self, memory: u64, now: Duration) -> Actions {
        let state = if above(memory, self.levels.pause) { State::Paused } else { State::Running };
        let entered = (state != self.state).then_some(state);
        self.state = state;

        self.alarm = match state {
            State::Running => None,
            State::Paused => self.alarm.or_else(|| now.checked_add(self.patience)),
        };
        let alarm = self.alarm.is_some_and(|due| now >= due);
        if alarm {
            self.alarm = now.checked_add(self.patience);
        }
        let wait = interval(self.interval, self.levels.limit, memory, self.slope.take(now, memory));
        Actions { entered, evict: above(memory, self.levels.spill), alarm, wait }
    }
}

fn above(memory: u64, level: Option<u64>) -> bool {
    level.is_some_and(|level| memory > level)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DEFAULT_INTERVAL, SystemMemory};

    const MIB: u64 = 1 << 20;

    fn levels(thresholds: Thresholds) -> Levels {
        let system = SystemMemory::from_bytes(1 << 40);
        Levels::new(MemoryLimit::from_bytes(1000 * MIB, &system).unwrap(), &thresholds)
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    fn sampler(thresholds: Thresholds) -> Sampler {
        Sampler::new(levels(thresholds), DEFAULT_INTERVAL, PATIENCE)
    }

    /// Steps through readings in MiB, a second apart.
    fn steps(thresholds: Thresholds, readings: &[u64]) -> Vec<(Option<State>, bool)> {
        let mut sampler = sampler(thresholds);
        let step = |(second, mib): (u64, &u64)| {
            let actions = sampler.step(mib * MIB, Duration::from_secs(second));
            (actions.entered, actions.evict)
        };
        (0..).zip(readings).map(step).collect()
    }

    /// W07: paused above `pause`, running again as soon as memory is not above it.
    #[test]
    fn pauses_above_the_threshold_and_resumes_as_soon_as_below() {
        let steps = steps(Thresholds::new().spill(None), &[100, 800, 801, 999, 801, 800, 801, 500]);
        let entered: Vec<_> = steps.into_iter().map(|(entered, _)| entered).collect();
        let (pause, run) = (Some(State::Paused), Some(State::Running));
        assert_eq!(entered, [None, None, pause, None, None, run, pause, run]);
    }

    #[test]
    fn eviction_starts_above_spill_only() {
        let steps = steps(Thresholds::new(), &[600, 650, 700, 701, 650, 850]);
        let evict: Vec<_> = steps.into_iter().map(|(_, evict)| evict).collect();
        assert_eq!(evict, [false, false, false, true, false, true]);
    }

    #[test]
    fn one_reading_may_pause_and_evict() {
        assert_eq!(steps(Thresholds::new(), &[900]), [(Some(State::Paused), true)]);
    }

    /// W08: `spill`, `pause` and `target` are off each alone, and all together.
    #[test]
    fn each_threshold_is_off_alone() {
        let on = Thresholds::new();
        assert_eq!(steps(on.spill(None), &[999]), [(Some(State::Paused), false)]);
        assert_eq!(steps(on.pause(None), &[999]), [(None, true)]);
        assert_eq!(steps(on.spill(None).pause(None), &[999]), [(None, false)]);

        assert_eq!(levels(on).evict_to, Some(600 * MIB));
        assert_eq!(levels(on.spill(None)).evict_to, None);
        assert_eq!(levels(on.target(None)).evict_to, Some(700 * MIB), "down to spill without a target");
        assert_eq!(steps(on.target(None), &[999]), [(Some(State::Paused), true)]);
    }

    #[test]
    fn without_a_limit_nothing_is_done() {
        let levels = Levels::new(MemoryLimit::NONE, &Thresholds::new());
        assert_eq!(levels, Levels { limit: None, spill: None, evict_to: None, pause: None });
        let mut sampler = Sampler::new(levels, DEFAULT_INTERVAL, PATIENCE);
        let actions = sampler.step(u64::MAX, Duration::ZERO);
        assert_eq!(actions, Actions { entered: None, evict: false, alarm: false, wait: DEFAULT_INTERVAL });
    }

    /// W07: 60 s of pause raise an alarm, and each further 60 s another; a resume ends it.
    #[test]
    fn a_long_pause_raises_an_alarm_again_and_again() {
        let mut sampler = sampler(Thresholds::new());
        let mut alarm = |mib: u64, second| sampler.step(mib * MIB, Duration::from_secs(second)).alarm;
        let paused = [0, 59, 60, 61, 119, 120].map(|second| alarm(900, second));
        assert_eq!(paused, [false, false, true, false, false, true]);
        assert!(!alarm(500, 190), "relief");
        assert_eq!([200, 259, 260].map(|second| alarm(900, second)), [false, false, true]);
    }
}
