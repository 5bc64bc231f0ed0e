//! One segment's file, and the ranges of it that are handed out to be written.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::table::Run;
use crate::io::File;

/// A segment's file. Readers hold it while they read.
pub(super) struct SegmentFile {
    pub(super) file: Arc<dyn File>,
    pub(super) path: PathBuf,
    pub(super) segment: u32,
    /// The number of its directory.
    pub(super) volume: usize,
    /// Bytes from the start that were ever handed out to a writer: what the file takes.
    pub(super) extent: AtomicU64,
    /// Bytes from the start that the page cache was made to forget.
    pub(super) forgotten: Arc<AtomicU64>,
}

/// How long the records of a segment have lived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Just written.
    Fresh,
    /// Moved once, or written over a record that was old.
    Survived,
    /// Moved again.
    Old,
}

impl Level {
    pub(super) const COUNT: usize = 3;

    /// Where the records go that are moved out of a segment of this level.
    pub(super) fn older(self) -> Level {
        match self {
            Level::Fresh => Level::Survived,
            Level::Survived | Level::Old => Level::Old,
        }
    }
}

/// A range of a file that belongs to one writer until it has said how writing it went.
pub(super) struct Reservation {
    pub(super) file: Arc<SegmentFile>,
    /// Where the range begins, in bytes.
    pub(super) offset: u64,
    /// How many of the records asked for fit, at least one.
    pub(super) records: usize,
    /// Bytes of the range.
    pub(super) bytes: u64,
    /// How many of them are behind the records.
    pub(super) padding: u64,
    pub(super) level: Level,
    /// A segment that this range begins; sealed already if nothing else may follow in it.
    pub(super) begins: Option<Begins>,
}

impl Reservation {
    pub(super) fn run(&self) -> Run {
        Run { segment: self.file.segment, bytes: self.bytes }
    }
}

/// The page cache keeps what one call writes in one piece of memory, as far as it begins on a multiple of its length: reading
/// a small value out of many pieces takes a fifth longer, and writing is slower too. Pieces longer than this are hard to
/// find: they take three times as long.
pub(super) const PIECE: u64 = 1 << 20;

/// With shorter pieces nothing is gained.
const SHORTEST_PIECE: u64 = 256 << 10;

/// The bytes to be left free behind a batch of `bytes` bytes that begins at `offset`, so that the next one begins well: none
/// unless it is a 32nd at most.
pub(super) fn padding(offset: u64, bytes: u64) -> u64 {
    let piece = bytes.next_power_of_two().min(PIECE);
    let end = offset + bytes;
    let gap = end.next_multiple_of(piece) - end;
    if piece >= SHORTEST_PIECE && gap <= bytes / 32 { gap } else { 0 }
}

/// What a new segment means for the others.
pub(super) struct Begins {
    pub(super) sealed: bool,
    /// The segment that was full.
    pub(super) seals: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_left_free_and_only_where_the_next_batch_gains_by_it() {
        assert_eq!(padding(0, PIECE - 100), 100);
        assert_eq!(padding(3 * PIECE, 2 * PIECE - 20_000), 20_000);
        assert_eq!(padding(0, PIECE), 0);
        assert_eq!(padding(0, PIECE / 2 - 8), 8, "short batches begin on multiples of what they are");
        assert_eq!(padding(0, PIECE - PIECE / 32), 0, "too much");
        assert_eq!(padding(PIECE / 2, PIECE - 100), 0, "it began anywhere");
        assert_eq!(padding(0, 100_000), 0, "too short");
        assert_eq!(padding(0, 0), 0);
    }
}
