//! What one reading of process memory leads to. No thread, no clock, no I/O: readings in, decisions out.

use std::time::Duration;

use super::State;
use crate::{MemoryLimit, Thresholds};

/// The shortest time between two readings, close to the limit. A reading takes microseconds, so this costs
/// less than a thousandth of one core.
const SHORTEST: Duration = Duration::from_millis(5);

/// Readings are as far apart as configured while at least this fraction of the limit is free. With less the
/// interval shrinks in proportion.
const ROOM: f64 = 0.4;

/// At the present slope there are at least this many more readings before the limit is reached.
const READINGS_AHEAD: f64 = 8.0;

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
    /// How long to wait before the next reading.
    pub(super) wait: Duration,
}

/// The sampler's memory between readings.
#[derive(Debug)]
pub(super) struct Sampler {
    levels: Levels,
    interval: Duration,
    state: State,
    previous: Option<(Duration, u64)>,
}

impl Sampler {
    pub(super) fn new(levels: Levels, interval: Duration) -> Self {
        Sampler { levels, interval, state: State::Running, previous: None }
    }

    /// Takes a reading of `memory` bytes made at `now`. The pause is decided first, then eviction.
    pub(super) fn step(&mut self, memory: u64, now: Duration) -> Actions {
        let state = if above(memory, self.levels.pause) { State::Paused } else { State::Running };
        let entered = (state != self.state).then_some(state);
        self.state = state;

        let slope = self.previous.replace((now, memory)).map_or(0.0, |(then, before)| {
            let seconds = now.saturating_sub(then).as_secs_f64();
            if seconds > 0.0 { (memory as f64 - before as f64) / seconds } else { 0.0 }
        });
        let wait = interval(self.interval, self.levels.limit, memory, slope);
        Actions { entered, evict: above(memory, self.levels.spill), wait }
    }
}

fn above(memory: u64, level: Option<u64>) -> bool {
    level.is_some_and(|level| memory > level)
}

/// The time until the next reading: `longest` when there is room, less as the limit comes nearer or is
/// approached faster (`slope` in bytes a second).
fn interval(longest: Duration, limit: Option<u64>, memory: u64, slope: f64) -> Duration {
    let Some(limit) = limit else { return longest };
    let headroom = limit.saturating_sub(memory) as f64;
    let by_room = longest.mul_f64((headroom / (ROOM * limit as f64)).clamp(0.0, 1.0));
    let by_slope = if slope > 0.0 {
        Duration::try_from_secs_f64(headroom / slope / READINGS_AHEAD).unwrap_or(longest)
    } else {
        longest
    };
    by_room.min(by_slope).clamp(SHORTEST.min(longest), longest)
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

    /// Steps through readings in MiB, a second apart.
    fn steps(thresholds: Thresholds, readings: &[u64]) -> Vec<(Option<State>, bool)> {
        let mut sampler = Sampler::new(levels(thresholds), DEFAULT_INTERVAL);
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
        let mut sampler = Sampler::new(levels, DEFAULT_INTERVAL);
        let actions = sampler.step(u64::MAX, Duration::ZERO);
        assert_eq!(actions, Actions { entered: None, evict: false, wait: DEFAULT_INTERVAL });
    }

    /// W05: readings are 200 ms apart by default, and closer as memory rises.
    #[test]
    fn the_interval_shrinks_with_the_room_left() {
        let at = |mib: u64| interval(DEFAULT_INTERVAL, Some(1000 * MIB), mib * MIB, 0.0).as_millis();
        assert_eq!([0, 300, 600].map(at), [200, 200, 200]);
        assert_eq!([700, 800, 900, 950].map(at), [150, 100, 50, 25]);
        assert_eq!([990, 1000, 2000].map(at), [5, 5, 5]);
    }

    #[test]
    fn the_interval_shrinks_with_the_slope() {
        let at = |mib: u64, slope: f64| {
            interval(DEFAULT_INTERVAL, Some(1000 * MIB), mib * MIB, slope * MIB as f64).as_millis()
        };
        assert_eq!(at(200, 100.0), 200, "a second for each reading");
        assert_eq!(at(200, 1000.0), 100, "800 ms to the limit, eight readings ahead");
        assert_eq!(at(200, 1e6), 5);
        assert_eq!(at(900, 100.0), 50, "the room decides where it is less");
        assert_eq!(at(900, -1000.0), 50, "falling memory is no reason to look less often");
        assert_eq!(at(200, f64::MIN_POSITIVE), 200);
    }

    #[test]
    fn the_slope_is_taken_from_the_last_two_readings() {
        let mut sampler = Sampler::new(levels(Thresholds::new()), DEFAULT_INTERVAL);
        let mut step =
            |mib: u64, millis| sampler.step(mib * MIB, Duration::from_millis(millis)).wait.as_millis();
        assert_eq!(step(100, 0), 200, "one reading has no slope");
        assert_eq!(step(200, 100), 100, "1000 MiB a second");
        assert_eq!(step(200, 200), 200, "level");
        assert_eq!(step(210, 200), 200, "two readings at one moment have no slope");
    }

    #[test]
    fn a_configured_interval_below_the_shortest_is_kept() {
        let longest = Duration::from_millis(2);
        assert_eq!(interval(longest, Some(MIB), 0, 0.0), longest);
        assert_eq!(interval(longest, Some(MIB), MIB, 1e9), longest);
    }
}
