//! The sum over the bytes of a record, made while they are read.
//!
//! A long record is read in pieces, and each is summed before the next is read: it is in the processor's cache then, from
//! which it would be gone once the whole record was there.

use std::io;

use crc32fast::Hasher;

use super::format::{SUMMED, mark};
use crate::io::{File, read_in_pieces};

/// Bytes that are read before they are summed, at most. Half as much, or twice, is as good.
pub(super) const PIECE: usize = 128 << 10;

/// The sum over a record's bytes, whichever segment it is of.
#[derive(Default)]
pub(crate) struct Sum {
    hasher: Hasher,
    /// Bytes that came in.
    seen: usize,
}

impl Sum {
    /// That of a whole record.
    pub(crate) fn of(record: &[u8]) -> Self {
        let mut sum = Sum::default();
        sum.add(record);
        sum
    }

    /// Adds the bytes that follow those that came in.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let unsummed = SUMMED.saturating_sub(self.seen);
        self.hasher.update(bytes.get(unsummed..).unwrap_or_default());
        self.seen += bytes.len();
    }

    /// The checksum of a record of this segment.
    pub(crate) fn checksum(self, segment: u32) -> u32 {
        self.hasher.finalize() ^ mark(segment)
    }
}

/// Reads a record that begins at `offset`, and sums it.
///
/// # Errors
/// As [`read_exact_at`](crate::io::read_exact_at).
pub(crate) fn read_summed(file: &dyn File, record: &mut [u8], offset: u64) -> io::Result<Sum> {
    let mut sum = Sum::default();
    read_in_pieces(file, record, offset, PIECE, |bytes| sum.add(bytes))?;
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_sum_is_the_same_in_any_pieces(
            record in prop::collection::vec(any::<u8>(), 0..100),
            pieces in prop::collection::vec(0..20_usize, 0..20),
        ) {
            let (mut sum, mut rest) = (Sum::default(), record.as_slice());
            for piece in pieces {
                let (these, behind) = rest.split_at(piece.min(rest.len()));
                sum.add(these);
                rest = behind;
            }
            sum.add(rest);
            prop_assert_eq!(sum.checksum(7), crc32fast::hash(record.get(SUMMED..).unwrap_or_default()) ^ mark(7));
        }
    }
}
