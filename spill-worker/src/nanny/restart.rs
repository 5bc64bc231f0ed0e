//! How long to wait before a worker is started again.

use std::time::Duration;

/// The first wait after a worker that ran well.
const SHORTEST: Duration = Duration::from_millis(100);

/// The cap.
const LONGEST: Duration = Duration::from_secs(30);

/// A worker that ran for so long ran well.
const HEALTHY: Duration = Duration::from_secs(60);

/// Exponential backoff: each wait is twice the one before, up to a cap, until a worker has run well.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The wait after a worker that ran for `ran`.
    pub(super) fn wait(&mut self, ran: Duration) -> Duration {
        let wait = match self.last {
            Some(last) if ran < HEALTHY => (2 * last).min(LONGEST),
            _ => SHORTEST,
        };
        self.last = Some(wait);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_cap_until_a_worker_has_run_well() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..11).map(|_| backoff.wait(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(backoff.wait(HEALTHY), SHORTEST);
        assert_eq!(backoff.wait(Duration::ZERO), 2 * SHORTEST);
    }
}
