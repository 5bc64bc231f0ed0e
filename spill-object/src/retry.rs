//! Trying a request again: how often, how long, and how long to wait between.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use spill_core::Clock;

use crate::failure::Failure;

/// The wait before the second try; it doubles with each further one, up to [`LONGEST_WAIT`]. The wait itself is
/// drawn between half of it and all of it, so that many processes do not come back at once.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How requests are tried again.
pub(crate) struct Retry {
    /// No try begins later than this after the first one did.
    deadline: Duration,
    /// What one try may take; for a body, until its next piece.
    try_timeout: Duration,
    clock: Arc<dyn Clock>,
    random: Random,
}

/// Whether a request that fails is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tries {
    /// Once: the store has just been failing for a whole deadline.
    One,
    /// Until the deadline.
    Many,
}

impl Retry {
    pub(crate) fn new(deadline: Duration, try_timeout: Duration, clock: Arc<dyn Clock>, seed: u64) -> Self {
        Retry { deadline, try_timeout, clock, random: Random(AtomicU64::new(seed)) }
    }

    /// Runs `request` until it succeeds, fails for good, or the deadline has passed. `request` is told the number of
    /// the try, from zero.
    pub(crate) async fn run<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        tries: Tries,
        mut request: impl FnMut(u32) -> F,
    ) -> Result<T, Failure> {
        let start = self.clock.now();
        let mut wait = FIRST_WAIT;
        for number in 0.. {
            let failure = match request(number).await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            let pause = wait / 2 + wait.mul_f64(self.random.fraction() / 2.0);
            let next = self.clock.now().saturating_sub(start) + pause;
            if !failure.transient || tries == Tries::One || next > self.deadline {
                return Err(Failure { status: told(failure.status, number + 1), ..failure });
            }
            tracing::debug!(status = failure.status, tries = number + 1, "a request is tried again");
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        Err(Failure::transient("no try is left"))
    }

    /// What `request` returns, or a transient failure once a try has taken too long. Whether a write was applied is
    /// not known then.
    pub(crate) async fn bounded<T, E: Into<Failure>>(
        &self,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.try_timeout, request).await {
            Ok(answer) => answer.map_err(Into::into),
            Err(_) => Err(Failure::transient(format!("no answer within {:?}", self.try_timeout))),
        }
    }
}

fn told(status: String, tries: u32) -> String {
    if tries == 1 { status } else { format!("{status} (tried {tries} times)") }
}

/// Numbers that look drawn at random: the sequence of `splitmix64`, from a seed.
struct Random(AtomicU64);

impl Random {
    /// From 0, up to but not 1.
    fn fraction(&self) -> f64 {
        let mut x = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Relaxed);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    struct Paused(tokio::time::Instant);
    impl Clock for Paused {
        fn now(&self) -> Duration {
            self.0.elapsed()
        }
    }

    fn retry() -> Retry {
        let clock = Arc::new(Paused(tokio::time::Instant::now()));
        Retry::new(Duration::from_secs(30), Duration::from_secs(5), clock, 1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_transient_failure_is_tried_again_until_it_passes() {
        let start = tokio::time::Instant::now();
        let done = retry()
            .run(
                Tries::Many,
                async |number| {
                    if number < 3 { Err(Failure::transient("503")) } else { Ok(number) }
                },
            )
            .await;
        assert_eq!(done, Ok(3));
        let waited = start.elapsed();
        assert!(waited >= Duration::from_millis(350) && waited <= Duration::from_millis(710), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_try_begins_after_the_deadline() {
        let start = tokio::time::Instant::now();
        let tries = AtomicU32::new(0);
        let failed = retry()
            .run(Tries::Many, async |_| {
                tries.fetch_add(1, Relaxed);
                Err::<(), _>(Failure::transient("503"))
            })
            .await;
        let tries = tries.load(Relaxed);
        assert_eq!(failed, Err(Failure::transient(format!("503 (tried {tries} times)"))));
        assert!(start.elapsed() <= Duration::from_secs(30) && tries > 5, "{tries}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_pass_is_tried_once() {
        let failed = retry().run(Tries::Many, async |_| Err::<(), _>(Failure::permanent("403"))).await;
        assert_eq!(failed, Err(Failure::permanent("403")));
        let failed = retry().run(Tries::One, async |_| Err::<(), _>(Failure::transient("503"))).await;
        assert_eq!(failed, Err(Failure::transient("503")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_hangs_is_given_up() {
        let hung = retry().bounded(std::future::pending::<Result<(), Failure>>()).await;
        assert_eq!(hung, Err(Failure::transient("no answer within 5s")));
    }
}
