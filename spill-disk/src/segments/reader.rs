//! Reading records back, and saying precisely what is wrong with one that cannot be read.

use std::io::{self, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use spill_core::{Error, ErrorKind, Frames, Key, PoolBuf, Result};

use super::file::SegmentFile;
use super::format::{HEADER, Identity, decode};
use super::index::Locator;
use super::store::Store;
use super::sum::Sum;
use crate::io::MOST_BUFFERS;

/// The most bytes that neighbours are read together in.
const TOGETHER: u64 = 1 << 20;

/// The most bytes between two records that are read together: reading them costs less than another call.
const GAP: u64 = 4096;

/// A record that is wanted.
pub(super) struct Wanted {
    /// Its place among the keys asked for.
    pub(super) at: usize,
    pub(super) file: Arc<SegmentFile>,
    pub(super) locator: Locator,
    pub(super) tag: u32,
}

impl Wanted {
    fn start(&self) -> u64 {
        self.locator.start()
    }

    fn end(&self) -> u64 {
        self.start() + self.locator.length()
    }
}

impl<K: Key> Store<K> {
    /// The value of a record. Takes no lock.
    ///
    /// # Errors
    /// `Corrupt` when the file does not hold what was written; `Io` when it cannot be read.
    pub(super) fn read(&self, file: &SegmentFile, locator: &Locator, tag: u32) -> Result<Frames> {
        let start = self.clock.now();
        let result = self.read_record(file, locator, tag);
        match result {
            Ok(_) => {
                self.read.add(1, locator.length(), self.clock.now().saturating_sub(start));
                self.files.was_read(file, locator.start(), locator.length());
            }
            Err(_) => {
                self.failures.fetch_add(1, Relaxed);
            }
        }
        result
    }

    /// The values of records, in any order: those that lie near each other are read with one call. Each result is
    /// handed over with the place of its record.
    pub(super) fn read_many(&self, mut wanted: Vec<Wanted>, mut done: impl FnMut(usize, Result<Frames>)) {
        wanted.sort_unstable_by_key(|one| (one.locator.segment, one.locator.offset));
        let mut rest = wanted.as_slice();
        while let [first, ..] = rest {
            let mut end = first.end();
            let mut near = |(before, next): (&Wanted, &Wanted)| {
                let is_near = before.locator.segment == next.locator.segment
                    && (before.end()..=before.end() + GAP).contains(&next.start())
                    && next.end() - first.start() <= TOGETHER;
                end = if is_near { next.end() } else { end };
                is_near
            };
            let count = 1 + rest
                .iter()
                .zip(&rest[1..])
                .take(MOST_BUFFERS / 2 - 1)
                .take_while(|pair| near(*pair))
                .count();
            let (run, behind) = rest.split_at(count);
            if count == 1 {
                done(first.at, self.read(&first.file, &first.locator, first.tag));
            } else {
                self.read_run(run, end - first.start(), &mut done);
            }
            rest = behind;
        }
    }

    /// Reads neighbours, `length` bytes from the first one's start on, with one call. Those that it did not bring
    /// are read one by one, so that each has its own error.
    fn read_run(&self, run: &[Wanted], length: u64, done: &mut impl FnMut(usize, Result<Frames>)) {
        let [first, ..] = run else { return };
        let start = self.clock.now();
        let mut records: Vec<_> =
            run.iter().map(|one| self.pool.take(one.locator.length() as usize, HEADER)).collect();
        let gaps: Vec<usize> =
            run.windows(2).map(|pair| (pair[1].start() - pair[0].end()) as usize).collect();
        let read = {
            let mut between = vec![0; gaps.iter().sum()];
            let mut between = between.as_mut_slice();
            let mut buffers = Vec::with_capacity(2 * run.len());
            for (n, record) in records.iter_mut().enumerate() {
                buffers.push(IoSliceMut::new(record));
                if let Some(skip) = gaps.get(n).filter(|skip| **skip > 0) {
                    let (these, behind) = between.split_at_mut(*skip);
                    buffers.push(IoSliceMut::new(these));
                    between = behind;
                }
            }
            first.file.file.read_vectored_at(&mut buffers, first.start()).unwrap_or(0) as u64
        };
        let took = self.clock.now().saturating_sub(start);
        self.files.was_read(&first.file, first.start(), length);
        for (one, record) in run.iter().zip(records) {
            if one.end() - first.start() > read {
                done(one.at, self.read(&one.file, &one.locator, one.tag));
                continue;
            }
            let sum = Sum::of(&record);
            let result = self.decoded(&one.file, &one.locator, one.tag, record, sum);
            match result {
                Ok(_) => self.read.add(1, one.locator.length(), took / run.len() as u32),
                Err(_) => {
                    self.failures.fetch_add(1, Relaxed);
                }
            }
            done(one.at, result);
        }
    }

    fn read_record(&self, file: &SegmentFile, locator: &Locator, tag: u32) -> Result<Frames> {
        let (length, offset) = (locator.length(), locator.start());
        let Ok(buffer) = usize::try_from(length) else {
            let (what, limit) = ("a record to be read at once".to_owned(), usize::MAX as u64);
            return Err(
                ErrorKind::TooLarge { what, size: length, limit, setting: "the address space" }.into()
            );
        };
        let mut record = self.pool.take(buffer, HEADER);
        match self.mappings.read(file, &mut record, offset) {
            Ok(sum) => self.decoded(file, locator, tag, record, sum),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(corrupt(file, locator, format!("a record of {length} bytes"), error.to_string()))
            }
            Err(error) => Err(Error::io("read", &file.path, error)),
        }
    }

    fn decoded(
        &self,
        file: &SegmentFile,
        locator: &Locator,
        tag: u32,
        record: PoolBuf,
        sum: Sum,
    ) -> Result<Frames> {
        let identity = Identity { segment: locator.segment, tag, checksum: locator.checksum };
        decode(record, sum, &self.pool, identity)
            .map_err(|damage| corrupt(file, locator, damage.expected, damage.found))
    }
}

fn corrupt(file: &SegmentFile, locator: &Locator, expected: String, found: String) -> Error {
    let offset = locator.start();
    let location = format!("{} offset {offset}", file.path.display());
    ErrorKind::Corrupt { location, expected, found }.into()
}
