//! One backend with one compressor, and the user's values.

use std::time::Duration;

use overspill::{Clock, Compress, Compression, Frames, MutableMapping, Pool, SystemClock};

use super::backend::Backend;
use super::sample::Sample;
use crate::failure::Failure;

/// What one run took.
pub(super) struct Run {
    insert: Direction,
    read: Direction,
    stored: u64,
    cpu: Duration,
    /// Resident memory beyond what the process had before, in bytes; unknown where the system does not tell.
    peak: Option<u64>,
}

/// All values, one way.
struct Direction {
    /// From the first call to the last, and until storage has everything.
    total: Duration,
    /// Of each call.
    latencies: Vec<Duration>,
}

/// Stores all values, reads them back in another order, and looks at each byte.
pub(super) fn run(backend: &Backend, compression: &str, sample: &Sample) -> Result<Run, Failure> {
    let clock = SystemClock::new();
    let pool = Pool::default();
    let compression: Compression = compression.parse()?;
    let memory = Memory::watch();
    let cpu = cpu_time();
    let mapping = Compress::new(compression, backend.open(&pool)?).with_pool(pool);

    let begun = clock.now();
    let mut latencies = Vec::with_capacity(sample.values.len());
    for (key, value) in (0..).zip(&sample.values) {
        let call = clock.now();
        mapping.insert(key, value.clone())?;
        latencies.push(clock.now() - call);
    }
    mapping.flush()?;
    let insert = Direction { total: clock.now() - begun, latencies };
    let stored = mapping.usage().spilled.disk;

    let mut latencies = Vec::with_capacity(sample.values.len());
    for key in shuffled(sample.values.len()) {
        let call = clock.now();
        let value = mapping.get(&(key as u64))?;
        latencies.push(clock.now() - call);
        if value.as_ref() != sample.values.get(key) {
            return Err(Failure::System(std::io::Error::other(format!(
                "{backend} gave back other bytes than it was given; this must never happen, please report it"
            ))));
        }
    }
    let read = Direction { total: latencies.iter().sum(), latencies };
    let cpu = cpu_time().saturating_sub(cpu);
    let peak = memory.and_then(Memory::grown);
    <_ as MutableMapping<u64, Frames>>::close(&mapping)?;
    Ok(Run { insert, read, stored, cpu, peak })
}

/// The numbers below `count`, each once, in an order without a pattern that is always the same.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    for last in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(last, (state % (last as u64 + 1)) as usize);
    }
    order
}

/// What all threads of this process have computed.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Resident memory of this process, from where it was.
struct Memory(u64);

impl Memory {
    /// Lets the system forget the peak so far.
    fn watch() -> Option<Self> {
        std::fs::write("/proc/self/clear_refs", "5").ok()?;
        status("VmRSS:").map(Memory)
    }

    /// How far it rose since.
    fn grown(self) -> Option<u64> {
        status("VmHWM:").map(|peak| peak.saturating_sub(self.0))
    }
}

/// A size in bytes that the system tells of this process.
fn status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// The medians of all runs of one combination.
pub(super) struct Measured {
    pub(super) backend: &'static str,
    pub(super) compression: String,
    /// Megabytes a second (10^6) before compression, in and out.
    pub(super) speed_in: f64,
    pub(super) speed_out: f64,
    /// Bytes before compression over bytes stored.
    pub(super) ratio: f64,
    /// Seconds of processor time for a gigabyte (10^9), in and out.
    pub(super) cpu: f64,
    /// Bytes.
    pub(super) peak: Option<u64>,
    pub(super) latency_in: Latency,
    pub(super) latency_out: Latency,
}

/// How long single calls took, over all runs.
pub(super) struct Latency {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) max: Duration,
}

impl Measured {
    pub(super) fn of(backend: &'static str, compression: &str, sample: &Sample, runs: &[Run]) -> Self {
        let of = |f: &dyn Fn(&Run) -> f64| median(runs.iter().map(f).collect());
        let bytes = sample.bytes as f64;
        let speed = |total: Duration| bytes / 1e6 / total.as_secs_f64().max(1e-9);
        Measured {
            backend,
            compression: compression.to_owned(),
            speed_in: of(&|run| speed(run.insert.total)),
            speed_out: of(&|run| speed(run.read.total)),
            ratio: of(&|run| bytes / run.stored.max(1) as f64),
            cpu: of(&|run| run.cpu.as_secs_f64() / (bytes / 1e9)),
            peak: runs
                .iter()
                .map(|run| run.peak)
                .collect::<Option<Vec<_>>>()
                .map(|peaks| median(peaks.into_iter().map(|peak| peak as f64).collect()) as u64),
            latency_in: Latency::of(runs.iter().map(|run| &run.insert)),
            latency_out: Latency::of(runs.iter().map(|run| &run.read)),
        }
    }

    /// Seconds for a megabyte in and out again.
    pub(super) fn cost(&self) -> f64 {
        1.0 / self.speed_in + 1.0 / self.speed_out
    }
}

impl Latency {
    fn of<'a>(directions: impl Iterator<Item = &'a Direction>) -> Self {
        let mut all: Vec<Duration> =
            directions.flat_map(|direction| direction.latencies.iter().copied()).collect();
        all.sort_unstable();
        let at = |part: f64| {
            let place = (part * all.len() as f64).ceil() as usize;
            all.get(place.saturating_sub(1)).copied().unwrap_or_default()
        };
        Latency { p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_read_once_in_an_order_of_its_own() {
        let order = shuffled(1000);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
        assert_ne!(order, sorted);
    }

    #[test]
    fn percentiles_are_calls_that_happened() {
        let latencies = (1..=200).map(Duration::from_micros).collect();
        let direction = Direction { total: Duration::ZERO, latencies };
        let latency = Latency::of([&direction].into_iter());
        assert_eq!(latency.p50, Duration::from_micros(100));
        assert_eq!(latency.p99, Duration::from_micros(198));
        assert_eq!(latency.max, Duration::from_micros(200));
    }
}
