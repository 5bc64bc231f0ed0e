//! One segment's file, and the ranges of it that are handed out to be written.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use super::mapped::Mapped;
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
    /// It is read through this, if at all.
    pub(super) mapped: Arc<OnceLock<Mapped>>,
}

/// How long the records of a segment have lived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
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

/// Where records that are to be written come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// From a caller, or the stage.
    Accepted,
    /// Out of another segment.
    Moved,
}

/// A range of a file that belongs to one writer until it has said how writing it went.
pub(super) struct Reservation {
    pub(super) file: Arc<SegmentFile>,
    /// Where the range begins, in bytes.
    pub(super) offset: u64,
    /// How many of the records asked for fit, at least one.
    pub(super) records: usize,
    /// Bytes of those that fit.
    pub(super) bytes: u64,
    pub(super) level: Level,
    /// A segment that this range begins; sealed already if nothing else may follow in it.
    pub(super) begins: Option<Begins>,
}

impl Reservation {
    pub(super) fn run(&self) -> Run {
        Run { segment: self.file.segment, bytes: self.bytes }
    }
}

/// What a new segment means for the others.
pub(super) struct Begins {
    pub(super) sealed: bool,
    /// The segment that was full.
    pub(super) seals: Option<u32>,
}
