//! How the memory limit is shared out.

use std::fmt;

use bytesize::ByteSize;
use spill_worker::Thresholds;

use crate::batch::BatchSize;
use crate::failure::Failure;
use crate::index::PART_BYTES;

/// One batch is filled while the other is added to the index.
pub(crate) const BATCHES: usize = 2;

const MIB: f64 = (1 << 20) as f64;

/// The share of the limit that a batch takes, and the bytes above which a larger one gains nothing.
const BATCH_FRACTION: f64 = 0.12;
const LARGEST_BATCH: f64 = 7.0 * MIB;

/// What the buffer's index of spilled parts keeps for one: a key of 8 bytes and, as `Segments` says, up to 41.
const SPILLED_PART: u64 = 49;

/// Bytes that the postings of a byte of text weigh, at most as sources of programs go. It only estimates how
/// many parts there will be.
const WEIGHT_OF_TEXT: u64 = 3;

/// With less the buffer would do little but move them.
const LEAST_BUFFER: u64 = 4 << 20;

/// The memory limit and what becomes of it, all in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) limit: u64,
    /// Where process memory is to be: the page's `target` threshold. The rest of the limit is left to the
    /// allocator, which keeps gaps between values that come and go, and to the monitor to act in.
    pub(crate) planned: u64,
    /// What the process used once it had listed the files.
    pub(crate) at_start: u64,
    pub(crate) batch: BatchSize,
    /// What both batches take.
    pub(crate) batches: u64,
    /// What the index of spilled parts will take.
    pub(crate) spilled_index: u64,
    /// What is left, for the preset: its target, its pool and its stage.
    pub(crate) buffer: u64,
}

impl Plan {
    /// Shares `limit` out, `at_start` bytes of which are in use, for an index of `text` bytes of text.
    pub(crate) fn new(
        limit: u64,
        thresholds: &Thresholds,
        at_start: u64,
        text: u64,
    ) -> Result<Self, Failure> {
        let fraction = thresholds.target.unwrap_or(1.0);
        let planned = (limit as f64 * fraction) as u64;
        let batch = BatchSize::within((limit as f64 * BATCH_FRACTION).min(LARGEST_BATCH) as u64);
        let batches = BATCHES as u64 * batch.bytes();
        let spilled_index = text.saturating_mul(WEIGHT_OF_TEXT) / PART_BYTES * SPILLED_PART;
        let own = at_start + batches + spilled_index;
        match planned.checked_sub(own).filter(|buffer| *buffer >= LEAST_BUFFER) {
            Some(buffer) => Ok(Plan { limit, planned, at_start, batch, batches, spilled_index, buffer }),
            None => {
                // Batches grow with the limit as long as they are below the largest.
                let fixed = (at_start + spilled_index + LEAST_BUFFER) as f64;
                let with_small = fixed / (fraction - BATCHES as f64 * BATCH_FRACTION);
                let with_largest = (fixed + BATCHES as f64 * LARGEST_BATCH) / fraction;
                Err(Failure::Usage(format!(
                    "--memory-limit of {} is too little: the program itself needs {} for this text, and the \
                     buffer {}, which is to be {fraction} of the limit; give it {} MiB or more",
                    ByteSize(limit),
                    ByteSize(own),
                    ByteSize(LEAST_BUFFER),
                    (with_small.min(with_largest) / MIB).ceil(),
                )))
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "memory limit {}, of which the program plans to use {}: {} are in use at the start, {} are for \
             batches and {} for the index of spilled parts, so {} are left to the buffer",
            ByteSize(self.limit),
            ByteSize(self.planned),
            ByteSize(self.at_start),
            ByteSize(self.batches),
            ByteSize(self.spilled_index),
            ByteSize(self.buffer),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn plan(limit: u64, at_start: u64, text: u64) -> Result<Plan, Failure> {
        Plan::new(limit, &Thresholds::new(), at_start, text)
    }

    #[test]
    fn all_parts_together_are_what_is_planned() {
        for limit in [32, 64, 500, 100_000] {
            let plan = plan(limit * MIB, 6 * MIB, 200 * MIB).unwrap();
            assert_eq!(plan.at_start + plan.batches + plan.spilled_index + plan.buffer, plan.planned);
            assert!(plan.planned < plan.limit && plan.buffer >= LEAST_BUFFER);
        }
    }

    #[test]
    fn the_limit_that_an_error_names_is_enough_and_little_more_than_that() {
        for (at_start, text) in [(3, 1), (6, 200), (100, 2000), (40, 0)] {
            let Err(Failure::Usage(message)) = plan(1024, at_start * MIB, text * MIB) else {
                panic!("1 KiB is enough for {at_start} MiB");
            };
            let (_, named) = message.rsplit_once("give it ").unwrap();
            let named: u64 = named.strip_suffix(" MiB or more").unwrap().parse().unwrap();
            assert!(plan(named * MIB, at_start * MIB, text * MIB).is_ok(), "{message}");
            assert!(plan((named - 3) * MIB, at_start * MIB, text * MIB).is_err(), "{message}");
        }
    }
}
