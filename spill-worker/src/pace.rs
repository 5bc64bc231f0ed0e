//! How often memory is read: seldom while there is room, often as the limit comes near or is approached fast.

use std::collections::VecDeque;
use std::time::Duration;

/// The shortest time between two readings, close to the limit. A reading takes microseconds, so this costs
/// less than a thousandth of one core.
const SHORTEST: Duration = Duration::from_millis(5);

/// Readings are as far apart as configured while at least this fraction of the limit is free. With less the
/// interval shrinks in proportion.
const ROOM: f64 = 0.4;

/// At the present slope there are at least this many more readings before the limit is reached.
const READINGS_AHEAD: f64 = 8.0;

/// The fastest that memory may begin to rise at any moment, in bytes a second. One core touches fresh pages
/// about half as fast.
#[cfg(target_os = "linux")]
const BURST: f64 = (4_u64 << 30) as f64;

/// A slope is taken over at least this time where readings allow it. One allocation between two readings that are
/// close together is no slope.
const WINDOW: Duration = Duration::from_millis(25);

/// How fast memory rises, by the last readings.
#[derive(Debug, Default)]
pub(crate) struct Slope(VecDeque<(Duration, u64)>);

impl Slope {
    /// Takes a reading of `memory` bytes made at `now`; bytes a second since the last reading that is no younger
    /// than the window, else since the first. 0 without one.
    pub(crate) fn take(&mut self, now: Duration, memory: u64) -> f64 {
        let is_old = |(then, _): &(Duration, u64)| now.saturating_sub(*then) >= WINDOW;
        while self.0.get(1).is_some_and(is_old) {
            self.0.pop_front();
        }
        let slope = self.0.front().map_or(0.0, |(then, before)| {
            let seconds = now.saturating_sub(*then).as_secs_f64();
            if seconds > 0.0 { (memory as f64 - *before as f64) / seconds } else { 0.0 }
        });
        self.0.push_back((now, memory));
        slope
    }
}

/// The time until the next reading: `longest` when there is room, less as the limit comes nearer or is
/// approached faster (`slope` in bytes a second).
pub(crate) fn interval(longest: Duration, limit: Option<u64>, memory: u64, slope: f64) -> Duration {
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

/// As [`interval`], and never so long that a rise which begins right after a reading could use up the room that
/// is left before the next. For those who cannot hold memory back but only end the process.
#[cfg(target_os = "linux")]
pub(crate) fn watchful_interval(longest: Duration, limit: Option<u64>, memory: u64, slope: f64) -> Duration {
    let wait = interval(longest, limit, memory, slope);
    let Some(limit) = limit else { return wait };
    let by_burst = Duration::from_secs_f64(limit.saturating_sub(memory) as f64 / BURST);
    wait.min(by_burst.max(SHORTEST.min(longest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DEFAULT_INTERVAL;

    const MIB: u64 = 1 << 20;

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

    #[cfg(target_os = "linux")]
    #[test]
    fn a_small_limit_is_read_more_often_from_the_start() {
        let at = |mib: u64| watchful_interval(DEFAULT_INTERVAL, Some(512 * MIB), mib * MIB, 0.0).as_millis();
        assert_eq!([0, 256, 384].map(at), [125, 62, 31]);
    }

    #[test]
    fn the_slope_is_that_since_the_reading_before() {
        let mut slope = Slope::default();
        let mut take = |bytes, millis| slope.take(Duration::from_millis(millis), bytes);
        assert_eq!(take(100, 0), 0.0, "one reading has no slope");
        assert_eq!(take(100, 0), 0.0, "nor have two at one moment");
        assert_eq!(take(200, 100), 1000.0);
        assert_eq!(take(150, 200), -500.0);
    }

    #[test]
    fn readings_close_together_are_taken_as_one() {
        let mut slope = Slope::default();
        let mut take = |bytes, millis| slope.take(Duration::from_millis(millis), bytes);
        let steps = [(0, 0), (0, 5), (100, 10), (100, 15), (200, 20), (200, 25), (300, 30), (300, 35)];
        let slopes = steps.map(|(bytes, millis)| take(bytes, millis));
        assert_eq!(slopes, [0.0, 0.0, 10_000.0, 100.0 / 0.015, 10_000.0, 8000.0, 12_000.0, 8000.0]);
        assert!(slope.0.len() <= 7);
    }

    #[test]
    fn a_configured_interval_below_the_shortest_is_kept() {
        let longest = Duration::from_millis(2);
        assert_eq!(interval(longest, Some(MIB), 0, 0.0), longest);
        assert_eq!(interval(longest, Some(MIB), MIB, 1e9), longest);
    }
}
