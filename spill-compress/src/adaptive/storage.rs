//! What storage was seen to take for a byte.

use std::time::Duration;

/// What a stored byte is taken to cost before storage was used, in nanoseconds, that of 500 MB/s: to store as it is what
/// should have been compressed loses more on slow storage than the other way round on a fast one. Storage that takes
/// [`GUESSED`] bytes sooner is taken for one of a gigabyte a second, until it is known.
const FIRST_GUESS: f64 = 2.0;
const SECOND_GUESS: f64 = 1.0;
const GUESSED: f64 = (256 << 10) as f64;

/// Storage may gather so many bytes before it writes them, so that one hand-over takes the time of all: that it is fast is
/// believed of no fewer bytes together.
const GATHERED: f64 = (1 << 20) as f64;

/// That it is slow is half believed of so many, but for the hand-over that took longest.
const SLOW: f64 = (16 << 10) as f64;

/// Storage is remembered over about this many stored bytes.
const MEMORY: f64 = (16 << 20) as f64;

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    bytes: f64,
    nanos: f64,
}

/// How long storage takes for a byte, as it was lately.
#[derive(Debug, Default)]
pub(super) struct Storage {
    /// What was handed over in parts of [`GATHERED`] bytes or more, and since the last of these.
    parts: Sum,
    since: Sum,
    longest: f64,
}

impl Storage {
    pub(super) fn add(&mut self, bytes: u64, time: Duration) {
        let nanos = time.as_nanos() as f64;
        self.since.bytes += bytes as f64;
        self.since.nanos += nanos;
        self.longest = self.longest.max(nanos);
        if self.since.bytes < GATHERED {
            return;
        }
        let part = std::mem::take(&mut self.since);
        self.longest = 0.0;
        self.parts.bytes += part.bytes;
        self.parts.nanos += part.nanos;
        while self.parts.bytes > MEMORY {
            self.parts.bytes /= 2.0;
            self.parts.nanos /= 2.0;
        }
    }

    /// Nanoseconds for a byte.
    pub(super) fn per_byte(&self) -> f64 {
        let Sum { bytes, nanos } = self.parts;
        let settled = if bytes > 0.0 {
            nanos / bytes
        } else {
            let left = (GUESSED - self.since.bytes).max(0.0);
            let mean = (self.since.nanos + left * FIRST_GUESS) / (self.since.bytes + left);
            mean.clamp(SECOND_GUESS, FIRST_GUESS)
        };
        let lately = (self.since.nanos - self.longest + SLOW * settled) / (self.since.bytes + SLOW);
        settled.max(lately)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 0.1 * expected, "{found} instead of {expected}");
    }

    fn add(storage: &mut Storage, count: usize, bytes: u64, per_byte: u64) {
        (0..count).for_each(|_| storage.add(bytes, Duration::from_nanos(bytes * per_byte)));
    }

    #[test]
    fn what_is_gathered_first_is_taken_neither_for_fast_nor_for_slow() {
        let mut storage = Storage::default();
        for n in 1..=1000 {
            // Every hundred and fiftieth of these values has all those before it written.
            let time = if n % 150 == 0 { Duration::from_micros(1050) } else { Duration::ZERO };
            storage.add(7000, time);
            let found = storage.per_byte();
            // Until all was written for the first time, it is a guess.
            if n < 150 { assert!((1.0..=2.0).contains(&found), "{found}") } else { assert_near(found, 1.0) }
        }
    }

    #[test]
    fn slow_storage_is_noticed_by_its_second_value_and_fast_storage_by_its_first_mebibyte() {
        let mut storage = Storage::default();
        assert_near(storage.per_byte(), FIRST_GUESS);
        add(&mut storage, 2, 32 << 10, 97);
        assert_near(storage.per_byte(), 39.0);
        let mut storage = Storage::default();
        storage.add(1 << 20, Duration::from_micros(262));
        assert_near(storage.per_byte(), 0.25);
    }

    #[test]
    fn what_changes_is_noticed() {
        let mut storage = Storage::default();
        for per_byte in [1, 100, 3] {
            add(&mut storage, 1600, 64 << 10, per_byte);
            assert_near(storage.per_byte(), per_byte as f64);
        }
    }
}
