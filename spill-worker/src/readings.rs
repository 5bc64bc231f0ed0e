//! What a worker's memory is made of, and how much of it is recent.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spill_core::{Error, Result, Usage};

/// One sample of a worker's memory, in bytes, as Dask's dashboard divides it. In every sample
/// `managed + unmanaged + unmanaged_recent == process`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readings {
    /// Resident memory, as the operating system measures it.
    pub process: u64,
    /// Weight of the values held in RAM; at most `process`, since weights are estimates.
    pub managed: u64,
    /// The rest, as far as it was there for longer than the recent window: the program itself, memory that
    /// the allocator keeps, leaks.
    pub unmanaged: u64,
    /// The rest that appeared within the recent window: mostly what running tasks use.
    pub unmanaged_recent: u64,
    /// Bytes of the records on storage whose values are not in RAM.
    pub spilled: u64,
}

impl Readings {
    /// `managed` and `unmanaged`: what memory would be if everything recent went away.
    #[must_use]
    pub fn optimistic(&self) -> u64 {
        self.managed.saturating_add(self.unmanaged)
    }

    /// The bytes that `measure` counts.
    #[must_use]
    pub fn measure(&self, measure: Measure) -> u64 {
        match measure {
            Measure::Process => self.process,
            Measure::Optimistic => self.optimistic(),
            Measure::Managed => self.managed.saturating_add(self.spilled),
            Measure::ManagedInMemory => self.managed,
        }
    }
}

/// Which memory a decision between workers looks at (Dask's `worker.memory.rebalance.measure`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// All resident memory.
    Process,
    /// Without what appeared within the recent window.
    #[default]
    Optimistic,
    /// Values in RAM, and what was spilled.
    Managed,
    /// Values in RAM only, whatever the process uses.
    ManagedInMemory,
}

impl Measure {
    /// The name in settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Measure::Process => "process",
            Measure::Optimistic => "optimistic",
            Measure::Managed => "managed",
            Measure::ManagedInMemory => "managed_in_memory",
        }
    }
}

impl FromStr for Measure {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let all = [Measure::Process, Measure::Optimistic, Measure::Managed, Measure::ManagedInMemory];
        all.into_iter().find(|measure| measure.name() == text).ok_or_else(|| {
            Error::config("measure", text, "process, optimistic, managed or managed_in_memory")
        })
    }
}

/// Remembers unmanaged memory over the recent window. What was there all the time is old: the least of the
/// window. Holds the samples that may still become the least, so a few bytes for each sample at most.
#[derive(Debug)]
pub(crate) struct Recent {
    window: Duration,
    /// When, and unmanaged bytes: both rise from front to back.
    lows: VecDeque<(Duration, u64)>,
}

impl Recent {
    pub(crate) fn new(window: Duration) -> Self {
        Recent { window, lows: VecDeque::new() }
    }

    /// Divides `process` bytes, read at `now`, of which a mapping holds `usage`.
    pub(crate) fn divide(&mut self, now: Duration, process: u64, usage: &Usage) -> Readings {
        let managed = usage.managed().min(process);
        let rest = process - managed;
        while self.lows.back().is_some_and(|(_, low)| *low >= rest) {
            self.lows.pop_back();
        }
        self.lows.push_back((now, rest));
        while self.lows.front().is_some_and(|(then, _)| now.saturating_sub(*then) > self.window) {
            self.lows.pop_front();
        }
        let old = self.lows.front().map_or(rest, |(_, low)| *low);
        Readings {
            process,
            managed,
            unmanaged: old,
            unmanaged_recent: rest - old,
            spilled: usage.spilled.disk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spill_core::SpilledSize;

    const SECOND: Duration = Duration::from_secs(1);

    fn usage(fast: u64, disk: u64) -> Usage {
        Usage { fast, spilled: SpilledSize { memory: 4 * disk, disk }, ..Usage::default() }
    }

    /// W10: managed is at most the process, spilled is what is on disk, and optimistic leaves recent out.
    #[test]
    fn a_sample_is_divided_as_dask_divides_it() {
        let mut recent = Recent::new(30 * SECOND);
        let first = recent.divide(SECOND, 100, &usage(40, 7));
        let expected = Readings { process: 100, managed: 40, unmanaged: 60, unmanaged_recent: 0, spilled: 7 };
        assert_eq!(first, expected);
        let second = recent.divide(2 * SECOND, 150, &usage(40, 7));
        assert_eq!((second.unmanaged, second.unmanaged_recent), (60, 50));
        assert_eq!(second.optimistic(), 100);
        let heavy = recent.divide(3 * SECOND, 150, &usage(400, 7));
        assert_eq!((heavy.managed, heavy.unmanaged, heavy.unmanaged_recent), (150, 0, 0));
    }

    /// S23: a spike is recent for the whole window; what stays longer is not.
    #[test]
    fn a_spike_is_recent_and_a_leak_becomes_old() {
        let mut recent = Recent::new(30 * SECOND);
        let mut at = |second: u32, process| {
            let readings = recent.divide(second * SECOND, process, &usage(0, 0));
            (readings.unmanaged, readings.unmanaged_recent)
        };
        assert_eq!(at(0, 100), (100, 0));
        assert_eq!(at(10, 300), (100, 200), "a spike");
        assert_eq!(at(20, 100), (100, 0), "and its end");
        assert_eq!(at(30, 150), (100, 50), "a leak");
        assert_eq!(at(50, 150), (100, 50), "100 was there 30 s ago");
        assert_eq!(at(51, 150), (150, 0), "and no more");
        assert_eq!(at(52, 120), (120, 0), "what is given back was not recent");
    }

    /// S22: what grows outside of the mapping is unmanaged, with any window.
    #[test]
    fn a_leak_grows_unmanaged_memory() {
        let mut recent = Recent::new(Duration::ZERO);
        for (second, leaked) in (0..50).map(|n| (n, u64::from(n) * 10)) {
            let readings = recent.divide(second * SECOND, 1000 + leaked, &usage(700, 0));
            assert_eq!((readings.unmanaged, readings.unmanaged_recent), (300 + leaked, 0));
        }
    }

    /// S26: the sum holds in every sample, whatever is read.
    #[test]
    fn the_sum_is_the_process_in_every_sample() {
        let (mut recent, mut seed) = (Recent::new(5 * SECOND), 1_u64);
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut now = Duration::ZERO;
        let mut all = VecDeque::new();
        for _ in 0..20_000 {
            now += Duration::from_millis(random(800));
            let (process, fast) = (random(1000), random(1000));
            let readings = recent.divide(now, process, &usage(fast, 0));
            assert_eq!(readings.managed + readings.unmanaged + readings.unmanaged_recent, process);
            all.push_back((now, process - readings.managed));
            all.retain(|(then, _)| now - *then <= 5 * SECOND);
            assert_eq!(Some(readings.unmanaged), all.iter().map(|(_, rest)| *rest).min());
        }
        assert!(recent.lows.len() <= all.len());
    }

    /// S31, W10: a measure is a function of the readings.
    #[test]
    fn each_measure_counts_what_its_name_says() {
        let readings =
            Readings { process: 100, managed: 40, unmanaged: 35, unmanaged_recent: 25, spilled: 11 };
        for (name, bytes) in
            [("process", 100), ("optimistic", 75), ("managed", 51), ("managed_in_memory", 40)]
        {
            let measure: Measure = name.parse().unwrap();
            assert_eq!((measure.name(), readings.measure(measure)), (name, bytes));
        }
        assert!("managd".parse::<Measure>().is_err());
        assert_eq!(Measure::default(), Measure::Optimistic);
    }
}
