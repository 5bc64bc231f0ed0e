//! When a nanny ends a worker. No process, no clock: readings in, decisions out.

use std::time::Duration;

use crate::pace::{Slope, watchful_interval};
use crate::{MemoryLimit, Thresholds};

/// What a program that was asked politely needs at least until it is gone. Where memory would pass the limit
/// within this time, asking is too slow.
const POLITE: Duration = Duration::from_millis(100);

/// Why a worker is ended by force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Force {
    /// Memory rises so fast that it would pass the limit before a polite end.
    Rises,
    /// It was asked to end, and takes more memory instead.
    GrowsOn,
    /// It was asked to end and is still there.
    StillThere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// Ask it to end (SIGTERM).
    Ask,
    /// End it (SIGKILL).
    Kill(Force),
}

/// The watch over one process of a worker, from its start to its end.
#[derive(Debug)]
pub(super) struct Watch {
    limit: Option<u64>,
    /// Above this it is ended.
    level: Option<u64>,
    interval: Duration,
    grace: Duration,
    slope: Slope,
    /// When it was asked to end, and its memory then.
    asked: Option<(Duration, u64)>,
}

impl Watch {
    pub(super) fn new(
        limit: MemoryLimit,
        thresholds: &Thresholds,
        interval: Duration,
        grace: Duration,
    ) -> Self {
        let limit = limit.bytes();
        let level = thresholds.terminate.and_then(|fraction| Some((fraction * limit? as f64) as u64));
        Watch { limit, level, interval, grace, slope: Slope::default(), asked: None }
    }

    /// The memory above which it is ended.
    pub(super) fn level(&self) -> Option<u64> {
        self.level
    }

    /// Whether it was asked to end.
    pub(super) fn has_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Takes a reading of `memory` bytes made at `now`: what to do, and how long to wait for the next.
    pub(super) fn step(&mut self, memory: u64, now: Duration) -> (Action, Duration) {
        let slope = self.slope.take(now, memory);
        let wait =
            watchful_interval(self.interval, self.limit.filter(|_| self.level.is_some()), memory, slope);
        let (Some(level), Some(limit)) = (self.level, self.limit) else { return (Action::Nothing, wait) };
        if memory <= level {
            return (Action::Nothing, wait);
        }
        let within = |time: Duration| memory as f64 + slope.max(0.0) * time.as_secs_f64();
        let action = match self.asked {
            None if within(POLITE) > limit as f64 => Action::Kill(Force::Rises),
            None => {
                self.asked = Some((now, memory));
                Action::Ask
            }
            Some((_, before)) if memory > before.saturating_add(limit / 100) => Action::Kill(Force::GrowsOn),
            Some(_) if within(2 * wait) > limit as f64 => Action::Kill(Force::Rises),
            Some((then, _)) if now.saturating_sub(then) >= self.grace => Action::Kill(Force::StillThere),
            Some(_) => Action::Nothing,
        };
        (action, wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemMemory;

    const MIB: u64 = 1 << 20;
    const GRACE: Duration = Duration::from_secs(1);

    fn watch(thresholds: Thresholds) -> Watch {
        let limit = MemoryLimit::from_bytes(1000 * MIB, &SystemMemory::from_bytes(1 << 40)).unwrap();
        Watch::new(limit, &thresholds, Duration::from_millis(200), GRACE)
    }

    /// Steps through readings of milliseconds and MiB.
    fn actions(watch: &mut Watch, readings: &[(u64, u64)]) -> Vec<Action> {
        let step = |(millis, mib): &(u64, u64)| watch.step(mib * MIB, Duration::from_millis(*millis)).0;
        readings.iter().map(step).collect()
    }

    /// W09: above `terminate` it is asked to end, and ended when it is still there.
    #[test]
    fn first_politely_then_by_force() {
        let readings = [(0, 950), (100, 951), (600, 951), (1000, 952), (1100, 952)];
        let expected =
            [Action::Nothing, Action::Ask, Action::Nothing, Action::Nothing, Action::Kill(Force::StillThere)];
        assert_eq!(actions(&mut watch(Thresholds::new()), &readings), expected);
    }

    #[test]
    fn one_that_grows_after_it_was_asked_is_ended_at_once() {
        let readings = [(0, 960), (100, 961), (200, 971)];
        let expected = [Action::Ask, Action::Nothing, Action::Kill(Force::GrowsOn)];
        assert_eq!(actions(&mut watch(Thresholds::new()), &readings), expected);
    }

    /// W09: a slope on which politeness would be too slow.
    #[test]
    fn a_steep_rise_is_ended_without_asking() {
        let readings = [(0, 900), (10, 920), (20, 951)];
        let expected = [Action::Nothing, Action::Nothing, Action::Kill(Force::Rises)];
        assert_eq!(actions(&mut watch(Thresholds::new()), &readings), expected);
        let slow = [(0, 940), (1000, 951)];
        assert_eq!(actions(&mut watch(Thresholds::new()), &slow), [Action::Nothing, Action::Ask]);
    }

    #[test]
    fn one_that_falls_below_again_is_left_alone() {
        let readings = [(0, 960), (500, 940), (5000, 940)];
        let expected = [Action::Ask, Action::Nothing, Action::Nothing];
        assert_eq!(actions(&mut watch(Thresholds::new()), &readings), expected);
    }

    /// W08: with `terminate` off nothing is ended.
    #[test]
    fn with_terminate_off_nothing_is_ended() {
        let mut watch = watch(Thresholds::new().terminate(None));
        assert_eq!(actions(&mut watch, &[(0, 999), (10, 2000)]), [Action::Nothing; 2]);
        assert_eq!(watch.step(999 * MIB, GRACE).1, Duration::from_millis(200), "and nothing is hurried");
    }
}
