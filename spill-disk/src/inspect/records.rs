//! The records of a segment file.

use std::io;

use spill_core::{Frames, Pool};

use crate::io::{File, fill_at};
use crate::segments::format::{HEADER, Header, Identity, UNIT, decode};
use crate::segments::sum::{Sum, read_summed};

/// Bytes that are read at once.
const WINDOW: usize = 1 << 20;

/// A part of a segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A record whose checksum is right. Whether its value lives is known only to the process that wrote it.
    Record(Record),
    /// Bytes that are no record of this segment: what an older segment left, or a write that failed, or damage.
    Other {
        /// Where they begin, in bytes.
        offset: u64,
        /// How many there are.
        length: u64,
    },
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it begins in its file, in bytes.
    pub offset: u64,
    /// Bytes, with header and padding.
    pub length: u64,
    /// The number of its segment.
    pub segment: u32,
    /// A hash of its key.
    pub tag: u32,
    /// The number of its frames.
    pub frames: u32,
    /// Bytes of the frames, with what aligns them.
    pub body: u64,
    /// The weight that the value had in memory, in bytes.
    pub weight: u64,
    /// The checksum of the record.
    pub checksum: u32,
}

impl Record {
    /// Reads its value.
    ///
    /// # Errors
    /// What reading fails with; `InvalidData` when the record is not the one that was found, or what it says of its
    /// frames makes no sense.
    pub fn value(&self, file: &dyn File) -> io::Result<Frames> {
        let pool = Pool::new(0);
        let length = usize::try_from(self.length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = pool.take(length, HEADER);
        let sum = read_summed(file, &mut bytes, self.offset)?;
        let identity = Identity { segment: self.segment, tag: self.tag, checksum: self.checksum };
        decode(bytes, sum, &pool, identity)
            .map_err(|damage| io::Error::new(io::ErrorKind::InvalidData, damage.to_string()))
    }
}

/// Walks a segment file from its start. Costs one pass over the file, and a MiB of memory.
pub struct Records<'a> {
    file: &'a dyn File,
    at: u64,
    /// The segment of the first record: others are what was there before.
    segment: Option<u32>,
    window: Vec<u8>,
    /// Where the window begins.
    base: u64,
    /// Found behind bytes that are no record, and not told yet.
    next: Option<Record>,
    done: bool,
}

impl<'a> Records<'a> {
    /// Begins at the start of the file.
    #[must_use]
    pub fn new(file: &'a dyn File) -> Self {
        Records { file, at: 0, segment: None, window: Vec::new(), base: 0, next: None, done: false }
    }

    /// The bytes from `at` on, at most `length`; fewer only where the file ends.
    fn bytes(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        let end = self.base + self.window.len() as u64;
        if at < self.base || at + length as u64 > end {
            self.window.resize(WINDOW.max(length), 0);
            let filled = fill_at(self.file, &mut self.window, at)?;
            self.window.truncate(filled);
            self.base = at;
        }
        let from = ((at - self.base) as usize).min(self.window.len());
        let to = from.saturating_add(length).min(self.window.len());
        Ok(&self.window[from..to])
    }

    /// The record that begins at `at`, if one does.
    fn record(&mut self, at: u64) -> io::Result<Option<Record>> {
        let wanted = self.segment;
        let Some(header) = Header::from_bytes(self.bytes(at, HEADER)?) else { return Ok(None) };
        let Some(length) = header.length().filter(|_| wanted.is_none_or(|segment| segment == header.segment))
        else {
            return Ok(None);
        };
        // The last byte first: a length that is wrong mostly leads behind the end of the file.
        if length > WINDOW as u64 && fill_at(self.file, &mut [0], at + length - 1)? == 0 {
            return Ok(None);
        }
        let mut sum = Sum::new();
        let mut done = 0;
        while done < length {
            let step = (length - done).min(WINDOW as u64);
            let bytes = self.bytes(at + done, step as usize)?;
            if (bytes.len() as u64) < step {
                return Ok(None);
            }
            sum.add(bytes);
            done += step;
        }
        if sum.checksum(header.segment) != header.checksum {
            return Ok(None);
        }
        let Header { checksum, tag, segment, frames, body, weight } = header;
        Ok(Some(Record { offset: at, length, segment, tag, frames, body, weight, checksum }))
    }

    fn step(&mut self) -> io::Result<Option<Found>> {
        if let Some(record) = self.next.take() {
            return Ok(Some(self.told(record)));
        }
        let from = self.at;
        loop {
            if let Some(record) = self.record(self.at)? {
                if self.at == from {
                    return Ok(Some(self.told(record)));
                }
                self.next = Some(record);
                break;
            }
            let rest = self.bytes(self.at, UNIT as usize)?.len() as u64;
            self.at += rest;
            if rest < UNIT {
                break;
            }
        }
        let length = self.at - from;
        Ok((length > 0).then_some(Found::Other { offset: from, length }))
    }

    fn told(&mut self, record: Record) -> Found {
        self.segment = Some(record.segment);
        self.at = record.offset + record.length;
        Found::Record(record)
    }
}

impl Iterator for Records<'_> {
    type Item = io::Result<Found>;

    /// Ends after the first error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step().transpose();
        self.done = !matches!(step, Some(Ok(_)));
        step
    }
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("at", &self.at).finish_non_exhaustive()
    }
}
