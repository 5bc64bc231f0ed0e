//! Handing out ranges to be written, in the file that is open or in the next one.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use spill_core::{Error, ErrorKind, Result};

use super::making::Maker;
use super::{Files, Inner, Open, QUOTA};
use crate::segments::closed;
use crate::segments::file::{Begins, Level, Origin, Reservation, SegmentFile};
use crate::segments::index::STAGED;

/// Why nothing was reserved.
enum Refused<'a> {
    /// There must be a file first.
    NoFile(Maker<'a>),
    /// The quota is reached.
    NoRoom,
    For(Error),
}

impl Files {
    /// A range for the first of the records of these lengths in bytes and for as many of the others as fit
    /// behind it. `begin` runs under the lock with what was reserved, so that no other reservation of the
    /// same segment is seen before a new segment is.
    ///
    /// What is accepted leaves a segment of the quota to what is moved, whatever its level.
    ///
    /// # Errors
    /// What creating a file failed with; `Full` when the quota is reached; `Closed`.
    pub(in crate::segments) fn reserve(
        &self,
        origin: Origin,
        level: Level,
        lengths: impl Iterator<Item = u64> + Clone,
        begin: impl FnOnce(&Reservation),
    ) -> Result<Reservation> {
        // Counted as its maker until the file has its place.
        let mut maker = None;
        let mut made = None;
        let mut failed = None;
        let outcome = loop {
            let refused = {
                let mut inner = self.inner.lock();
                match self.reserve_in(&mut inner, origin, level, lengths.clone(), &mut made) {
                    Ok(reservation) => {
                        begin(&reservation);
                        break Ok(reservation);
                    }
                    Err(refused) => refused,
                }
            };
            match (refused, failed.take()) {
                (Refused::NoFile(_), Some(error)) => break Err(error),
                // Where it fails it is looked once more: another writer may have made one.
                (Refused::NoFile(new), None) => match new.create(&self.volumes, self.physical()) {
                    Ok(file) => (made, maker) = (Some(file), Some(new)),
                    Err(error) => failed = Some(error),
                },
                (Refused::NoRoom, _) => break Err(self.quota_reached()),
                (Refused::For(error), _) => break Err(error),
            }
        };
        if let Some(spare) = made {
            // Another writer's was there first.
            self.retire(spare);
        }
        drop(maker);
        outcome
    }

    /// As [`reserve`](Self::reserve), with the file that was `made` where another is needed.
    fn reserve_in(
        &self,
        inner: &mut Inner,
        origin: Origin,
        level: Level,
        lengths: impl Iterator<Item = u64> + Clone,
        made: &mut Option<Arc<SegmentFile>>,
    ) -> std::result::Result<Reservation, Refused<'_>> {
        if inner.closed {
            return Err(Refused::For(closed()));
        }
        // The room set aside is for what is moved: nothing else follows that there.
        let level = if origin == Origin::Accepted && inner.uses_reserve { Level::Fresh } else { level };
        let first = lengths.clone().next().unwrap_or(0);
        // Asked for once: it may shrink meanwhile, and a segment that was begun must not be refused.
        let room = self.room(inner, origin);
        if first > self.segment_bytes {
            // Alone in its segment, and the open one goes on.
            if first > room {
                return Err(Refused::NoRoom);
            }
            inner.has_number()?;
            let file = self.made_file(inner, made)?;
            self.extend(&file, first);
            let begins = Some(Begins { sealed: true, seals: None });
            return Ok(Reservation { file, offset: 0, records: 1, bytes: first, level, begins });
        }
        let mut begins = None;
        // What follows in a directory that is out of use would fail there too.
        let goes_on = |open: &Open| self.volumes.is_in_use(open.file.volume) || !self.volumes.has_another();
        let fits = |open: &Open| open.tail + first <= self.segment_bytes && goes_on(open);
        if !inner.open[level as usize].as_ref().is_some_and(fits) {
            inner.has_number()?;
            let file = self.next_file(inner, (origin, level), first, room, made)?;
            let full = inner.open[level as usize].replace(Open { file, tail: 0 });
            begins = Some(Begins { sealed: false, seals: full.as_ref().map(|full| full.file.segment) });
            inner.loosen(full);
            self.begun.store(true, Relaxed);
        }
        let Some(open) = inner.open[level as usize].as_mut() else {
            return Err(Refused::For(closed()));
        };
        let offset = open.tail;
        if (offset + first).saturating_sub(open.file.extent.load(Relaxed)) > room {
            return Err(Refused::NoRoom);
        }
        let most = self.segment_bytes.min(open.file.extent.load(Relaxed).max(offset).saturating_add(room));
        let mut records = 0;
        for length in lengths {
            if open.tail + length > most {
                break;
            }
            open.tail += length;
            records += 1;
        }
        let (file, bytes) = (Arc::clone(&open.file), open.tail - offset);
        self.extend(&file, open.tail);
        Ok(Reservation { file, offset, records, bytes, level, begins })
    }

    /// Bytes that files may still grow by for records from there.
    fn room(&self, inner: &Inner, origin: Origin) -> u64 {
        if self.quota == u64::MAX {
            return u64::MAX;
        }
        self.quota.saturating_sub(self.kept(inner, origin)).saturating_sub(self.physical())
    }

    /// Bytes of the quota that are not for records from there.
    fn kept(&self, inner: &Inner, origin: Origin) -> u64 {
        if origin == Origin::Accepted && !inner.has_set_aside() { self.segment_bytes } else { 0 }
    }

    /// Whether records from there may go to an idle file. Beyond their room that is given back, for what is to be moved next.
    fn reuses(&self, inner: &Inner, origin: Origin) -> bool {
        self.quota == u64::MAX || self.physical() <= self.quota.saturating_sub(self.kept(inner, origin))
    }

    /// Whether a file that compaction empties serves what is accepted as it is.
    pub(in crate::segments) fn reuses_idle(&self) -> bool {
        self.reuses(&self.inner.lock(), Origin::Accepted)
    }

    fn quota_reached(&self) -> Error {
        ErrorKind::Full {
            path: Some(self.volumes.path().to_owned()),
            used: self.physical(),
            limit: self.quota,
            free: Some(self.volumes.free()),
            setting: QUOTA,
        }
        .into()
    }

    /// An idle file that nobody reads, or else a new one. Only fresh records get idle files: they are what a
    /// caller waits for, and a used one that is slowly filled holds room that nothing needs.
    fn next_file(
        &self,
        inner: &mut Inner,
        (origin, level): (Origin, Level),
        first: u64,
        room: u64,
        made: &mut Option<Arc<SegmentFile>>,
    ) -> std::result::Result<Arc<SegmentFile>, Refused<'_>> {
        if origin == Origin::Moved
            && inner.uses_reserve
            && let Some(file) = inner.reserve.take()
        {
            return Ok(inner.numbered(file));
        }
        if level == Level::Fresh && self.reuses(inner, origin) {
            for at in 0..inner.idle.len() {
                let Some(file) = inner.idle.get_mut(at) else { break };
                if !self.volumes.is_in_use(file.volume)
                    || first.saturating_sub(file.extent.load(Relaxed)) > room
                {
                    continue;
                }
                // Only the index gives files away, and it let go of this one; so without a reader now, without
                // one for good.
                if let Some(file) = Arc::get_mut(file) {
                    self.cached.gone(file);
                    file.forgotten.store(0, Relaxed);
                    let file = inner.idle.swap_remove(at);
                    return Ok(inner.numbered(file));
                }
            }
        }
        if first > room {
            return Err(Refused::NoRoom);
        }
        self.made_file(inner, made)
    }

    /// The file that was made, or else who is to make one.
    fn made_file(
        &self,
        inner: &mut Inner,
        made: &mut Option<Arc<SegmentFile>>,
    ) -> std::result::Result<Arc<SegmentFile>, Refused<'_>> {
        match made.take() {
            Some(file) => Ok(inner.numbered(file)),
            None => Err(Refused::NoFile(self.makers.join())),
        }
    }
}

impl Inner {
    /// Whether there is a number for another segment.
    fn has_number(&self) -> std::result::Result<(), Refused<'static>> {
        if self.next != STAGED {
            return Ok(());
        }
        let limit = u64::from(STAGED);
        let what = "the number of segments".to_owned();
        let setting = "their 32-bit numbers";
        Err(Refused::For(ErrorKind::TooLarge { what, size: limit + 1, limit, setting }.into()))
    }

    /// Gives the next segment a file that no other has.
    fn numbered(&mut self, mut file: Arc<SegmentFile>) -> Arc<SegmentFile> {
        if let Some(unshared) = Arc::get_mut(&mut file) {
            unshared.segment = self.next;
            self.next += 1;
        }
        file
    }
}
