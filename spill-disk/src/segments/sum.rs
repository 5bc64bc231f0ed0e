//! The sum over the bytes of a record, made while they are read.
//!
//! A long record is read in pieces, and each is summed before the next is read: it is in the processor's cache then, from
//! which it would be gone once the whole record was there.

use std::io;

use crc32fast::Hasher;

use crate::io::{File, PIECE, read_in_pieces};

/// Bytes at a record's beginning that are not summed: the checksum itself, and the segment, so that the checksum is known
/// before the segment is, and that of a record that is moved follows from the one it had.
pub(super) const UNSUMMED: usize = 8;

/// What a segment does to the checksum: no two do the same, since the factor is odd.
pub(super) fn mark(segment: u32) -> u32 {
    segment.wrapping_mul(0x9e37_79b1)
}

/// The sum over a record's bytes, whichever segment it is of.
pub(crate) struct Sum {
    hasher: Hasher,
    /// How many of the next bytes are not among it.
    skipped: usize,
}

impl Sum {
    /// That of no bytes yet.
    pub(crate) fn new() -> Self {
        Sum { hasher: Hasher::new(), skipped: UNSUMMED }
    }

    /// That of a whole record.
    pub(crate) fn of(record: &[u8]) -> Self {
        let mut sum = Sum::new();
        sum.add(record);
        sum
    }

    /// That of a record whose bytes behind the [`UNSUMMED`] have this CRC-32.
    pub(super) fn of_crc(crc: u32) -> Self {
        Sum { hasher: Hasher::new_with_initial(crc), skipped: 0 }
    }

    /// Adds the bytes that follow those that came in.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let (skipped, summed) = bytes.split_at(self.skipped.min(bytes.len()));
        self.skipped -= skipped.len();
        self.hasher.update(summed);
    }

    /// The checksum of a record of this segment.
    pub(crate) fn checksum(self, segment: u32) -> u32 {
        self.hasher.finalize() ^ mark(segment)
    }
}

/// Reads a record that begins at `offset`, and sums it.
///
/// What is not in the page cache is read with one call, since the system takes several for the beginning of a stream: it would
/// read what is behind the record too.
///
/// # Errors
/// As [`read_exact_at`](crate::io::read_exact_at).
pub(crate) fn read_summed(file: &dyn File, record: &mut [u8], offset: u64) -> io::Result<Sum> {
    let pieces = record.len() / PIECE;
    // the middle, since neighbours share the pages that a record begins and ends in
    let most = if pieces > 1 && file.is_cached(offset + record.len() as u64 / 2) {
        record.len().div_ceil(pieces)
    } else {
        usize::MAX
    };
    let mut sum = Sum::new();
    read_in_pieces(file, record, offset, most, |bytes| sum.add(bytes))?;
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
            let (mut sum, mut rest) = (Sum::new(), record.as_slice());
            for piece in pieces {
                let (these, behind) = rest.split_at(piece.min(rest.len()));
                sum.add(these);
                rest = behind;
            }
            sum.add(rest);
            prop_assert_eq!(sum.checksum(7), crc32fast::hash(record.get(UNSUMMED..).unwrap_or_default()) ^ mark(7));
        }
    }
}
