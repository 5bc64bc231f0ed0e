//! Reading one record back, and saying precisely what is wrong with one that cannot be.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use spill_core::{Error, ErrorKind, Frames, Key, Result};

use super::files::SegmentFile;
use super::format::{HEADER, Identity, UNIT, decode};
use super::index::Locator;
use super::store::Store;
use crate::io::read_exact_at;

impl<K: Key> Store<K> {
    /// The value of a record. Takes no lock.
    ///
    /// # Errors
    /// `Corrupt` when the file does not hold what was written; `Io` when it cannot be read.
    pub(super) fn read(&self, file: &SegmentFile, locator: &Locator, tag: u32) -> Result<Frames> {
        let start = self.clock.now();
        let result = self.read_record(file, locator, tag);
        match result {
            Ok(_) => self.read.add(1, locator.length(), self.clock.now().saturating_sub(start)),
            Err(_) => {
                self.failures.fetch_add(1, Relaxed);
            }
        }
        result
    }

    fn read_record(&self, file: &SegmentFile, locator: &Locator, tag: u32) -> Result<Frames> {
        let (length, offset) = (locator.length(), u64::from(locator.offset) * UNIT);
        let corrupt = |expected: String, found: String| -> Error {
            let location = format!("{} offset {offset}", file.path.display());
            ErrorKind::Corrupt { location, expected, found }.into()
        };
        let Ok(buffer) = usize::try_from(length) else {
            let (what, limit) = ("a record to be read at once".to_owned(), usize::MAX as u64);
            return Err(
                ErrorKind::TooLarge { what, size: length, limit, setting: "the address space" }.into()
            );
        };
        let mut record = self.pool.take(buffer, HEADER);
        match read_exact_at(&*file.file, &mut record, offset) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(corrupt(format!("a record of {length} bytes"), error.to_string()));
            }
            Err(error) => return Err(Error::io("read", &file.path, error)),
        }
        let identity = Identity { segment: locator.segment, tag, checksum: locator.checksum };
        decode(record, &self.pool, identity).map_err(|damage| corrupt(damage.expected, damage.found))
    }
}
