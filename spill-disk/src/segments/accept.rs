//! How a value gets from a caller into a file: by way of the stage or at once, and what is tried where there is no
//! room.

use std::sync::atomic::Ordering::Relaxed;

use parking_lot::MutexGuard;
use spill_core::{Error, ErrorKind, Frames, Key, Result};

use super::closed;
use super::file::{Level, Origin, Reservation};
use super::files::QUOTA;
use super::format::{Payload, Shape};
use super::index::Locator;
use super::packed::Packed;
use super::stage::{Batch, Room, Staged};
use super::state::{State, Written};
use super::store::Store;
use super::table::{Run, SegmentTable};
use super::writer;
use crate::failure;

/// Records from this many bytes on are written by the caller and not staged: a system call costs little
/// beside the copy, and staging them would only hold their memory longer.
const WRITTEN_THROUGH: u64 = 256 << 10;

/// A value that is to be stored.
pub(super) enum Offer {
    Short(Payload),
    /// Written through, and read for its checksum right before, so that the write finds it in the processor's cache.
    Long(Frames, Shape, u32),
}

impl Offer {
    fn tag(&self) -> u32 {
        match self {
            Offer::Short(payload) => payload.tag,
            Offer::Long(_, _, tag) => *tag,
        }
    }

    fn payload(self) -> Payload {
        match self {
            Offer::Short(payload) => payload,
            Offer::Long(frames, shape, tag) => Payload::of(frames, shape, tag),
        }
    }
}

impl<K: Key> Store<K> {
    /// What is done for a value before the lock is taken: the checksum of one that is staged is the caller's work, since
    /// the thread that writes has more to do.
    ///
    /// # Errors
    /// When no record can be as long as it, unless the store is closed, which comes first.
    pub(super) fn offer(&self, key: &K, frames: Frames) -> Result<Offer> {
        let shape =
            self.shape(&frames).map_err(|error| if self.state.lock().closed { closed() } else { error })?;
        let tag = self.tag(key);
        Ok(if shape.length() >= WRITTEN_THROUGH {
            Offer::Long(frames, shape, tag)
        } else {
            Offer::Short(Payload::of(frames, shape, tag))
        })
    }

    fn shape(&self, frames: &Frames) -> Result<Shape> {
        let shape = Shape::of(frames)?;
        let (size, limit) = (shape.length(), self.files.longest());
        if size <= limit {
            return Ok(shape);
        }
        let what = format!("a record in {}", self.files.path().display());
        Err(ErrorKind::TooLarge { what, size, limit, setting: QUOTA }.into())
    }

    /// Accepts one value. Gives the lock up while it writes or waits.
    pub(super) fn accept(&self, state: &mut MutexGuard<'_, State<K>>, key: K, offer: Offer) -> Result<()> {
        let payload = match offer {
            Offer::Short(payload) if state.stage.can_hold(Staged::charge(payload.shape)) => payload,
            through => {
                let level = state.level_of(through.tag(), &key);
                let record = self.unlocked(state, || Staged::new(through.payload(), level));
                let written =
                    self.with_room(state, |state| self.unlocked(state, || self.write_range(&record)))?;
                return self.unlocked(state, || self.store_written(key, &record, written));
            }
        };
        self.make_room(state, Staged::charge(payload.shape))?;
        let leftover = state.stage(key, payload)?;
        if leftover.is_some() {
            self.unlocked(state, || drop(leftover));
        }
        Ok(())
    }

    /// Returns once a value of this charge may be staged.
    fn make_room(&self, state: &mut MutexGuard<'_, State<K>>, charge: u64) -> Result<()> {
        loop {
            if state.closed {
                return Err(closed());
            }
            match state.stage.room(charge) {
                Room::Free => return Ok(()),
                Room::Write if self.hand_over(state) => {}
                Room::Write => self.write_batch(state)?,
                Room::Wait => self.batch_ended.wait(state),
            }
        }
    }

    /// Writes the batch that is due, the lock given up meanwhile. All of it is stored, or it all stays staged.
    pub(super) fn write_batch(&self, state: &mut MutexGuard<'_, State<K>>) -> Result<()> {
        self.with_room(state, |state| self.try_batch(state))
    }

    /// Tries `write` again as long as it fails for want of room and some can be had, or in one directory of several.
    fn with_room<T>(
        &self,
        state: &mut MutexGuard<'_, State<K>>,
        mut write: impl FnMut(&mut MutexGuard<'_, State<K>>) -> Result<T>,
    ) -> Result<T> {
        let mut tries = 0;
        loop {
            tries += 1;
            let before = self.taken(state);
            match write(state) {
                Err(error) if !matches!(error.kind(), ErrorKind::Panicked { .. }) && !state.closed => {
                    let is_quota = matches!(error.kind(), ErrorKind::Full { setting: QUOTA, .. });
                    let elsewhere = !is_quota && self.files.has_another_volume(tries);
                    if !(elsewhere || error.is_full() && self.reclaim(state, before)) {
                        return Err(error);
                    }
                }
                outcome => {
                    if outcome.is_ok() && self.files.has_begun_another() {
                        let most = state.most();
                        self.unlocked(state, || self.files.set_aside(most));
                    }
                    return outcome;
                }
            }
        }
    }

    fn taken(&self, state: &State<K>) -> Taken {
        Taken { physical: self.files.physical(), used: state.segments.used() }
    }

    /// Storage had no room: gives back what nobody needs, or compacts what wins much. Says whether there is more room
    /// than `before` the write that failed: what that one had taken, the next would take again.
    fn reclaim(&self, state: &mut MutexGuard<'_, State<K>>, before: Taken) -> bool {
        loop {
            while self.unlocked(state, || self.files.give_back(false)) {
                if self.taken(state).is_below(before) {
                    return true;
                }
            }
            if state.closed {
                // The next write says so.
                return true;
            }
            if state.compaction.running {
                self.compaction_ended.wait(state);
            } else if state.compaction.failed
                || !state.segments.is_worth_compacting()
                || !matches!(self.compact_one(state, true), Ok(true))
            {
                return false;
            }
            if self.files.reuses_idle() && self.taken(state).is_below(before) {
                return true;
            }
        }
    }

    fn try_batch(&self, state: &mut MutexGuard<'_, State<K>>) -> Result<()> {
        let Some(Batch { records, mut packed }) = state.handed.take().or_else(|| state.stage.begin()) else {
            return Ok(());
        };
        let mut runs = Vec::new();
        let mut written = vec![Written::NOWHERE; records.len()];
        let outcome = self.unlocked(state, || {
            let outcome = failure::caught("writing a batch", || {
                self.write_runs(&records, &mut packed, &mut runs, &mut written)
            });
            drop(records);
            outcome.unwrap_or_else(|error| Err(Failed { run: None, error }))
        });
        let done = match &outcome {
            Ok(()) => state.written(&written, packed),
            Err(failed) => {
                state.stage.failed(packed);
                failed.book(&mut state.segments);
                None
            }
        };
        runs.into_iter().for_each(|run| state.segments.finished(run));
        self.batch_ended.notify_all();
        self.unlocked(state, || drop(done));
        outcome.map_err(|failed| failed.error)
    }

    /// Writes records, those of each level one after another, split among as many segments as it takes. Each range
    /// that was written is added to `runs`; where each record went is noted at its place in `written`.
    fn write_runs(
        &self,
        records: &[Staged],
        packed: &mut Packed,
        runs: &mut Vec<Run>,
        written: &mut [Written],
    ) -> std::result::Result<(), Failed> {
        let start = self.clock.now();
        let (mut these, mut places) = (Vec::with_capacity(records.len()), Vec::with_capacity(records.len()));
        let mut went = Vec::with_capacity(records.len());
        let mut bytes = 0;
        // Only moved records are old at once.
        for level in [Level::Fresh, Level::Survived] {
            these.clear();
            places.clear();
            went.clear();
            for (place, staged) in records.iter().enumerate().filter(|(_, staged)| staged.level == level) {
                these.push(staged);
                places.push(place);
            }
            while let Some(rest) = these.get(went.len()..).filter(|rest| !rest.is_empty()) {
                let lengths = rest.iter().map(|staged: &&Staged| staged.payload.shape.length());
                let run = self.reserve(Origin::Accepted, level, lengths)?;
                let rest = &rest[..run.records];
                self.written_or_sealed(&run, || {
                    writer::write_records(&run.file, run.offset, rest, packed, &mut went)
                })?;
                runs.push(run.run());
                bytes += run.bytes;
            }
            for (place, went) in places.iter().zip(&went) {
                written[*place] = *went;
            }
        }
        self.write.add(records.len() as u64, bytes, self.clock.now().saturating_sub(start));
        Ok(())
    }

    /// Writes a record that is too large to be staged. No key points to it yet.
    fn write_range(&self, record: &Staged) -> Result<(Run, Written)> {
        let start = self.clock.now();
        let length = record.payload.shape.length();
        let reserved = self.reserve(Origin::Accepted, record.level, std::iter::once(length));
        let reserved = reserved.map_err(|failed| failed.error)?;
        let outcome = self.written_or_sealed(&reserved, || {
            writer::write_record(&reserved.file, reserved.offset, &record.payload)
        });
        match outcome {
            Ok(written) => {
                self.write.add(1, length, self.clock.now().saturating_sub(start));
                Ok((reserved.run(), written))
            }
            Err(failed) => {
                let mut state = self.state.lock();
                failed.book(&mut state.segments);
                drop(reserved);
                self.unlock(state);
                Err(failed.error)
            }
        }
    }

    /// Points a key to a record that was written.
    fn store_written(&self, key: K, record: &Staged, (run, written): (Run, Written)) -> Result<()> {
        let mut state = self.state.lock();
        let outcome = if state.closed {
            Err(closed())
        } else {
            state.compaction_may_help();
            let Written { segment, offset, checksum } = written;
            let (weight, units) = (record.payload.frames.weight(), record.payload.shape.units);
            state.store(record.payload.tag, key, Locator { weight, segment, offset, units, checksum })
        };
        state.segments.finished(run);
        self.unlock(state);
        outcome.map(drop)
    }

    pub(super) fn reserve(
        &self,
        origin: Origin,
        level: Level,
        lengths: impl Iterator<Item = u64> + Clone,
    ) -> std::result::Result<Reservation, Failed> {
        let reserved = self.files.reserve(origin, level, lengths, |reservation| {
            self.state.lock().segments.reserved(reservation);
        });
        reserved.map_err(|error| {
            self.failures.fetch_add(1, Relaxed);
            Failed { run: None, error }
        })
    }

    /// Runs a write into a reserved range. When it fails or panics, nothing more is reserved behind it.
    pub(super) fn written_or_sealed<T>(
        &self,
        run: &Reservation,
        write: impl FnOnce() -> std::io::Result<T>,
    ) -> std::result::Result<T, Failed> {
        let failed = match failure::caught("writing a segment", write) {
            Ok(Ok(written)) => {
                self.files.was_written(&run.file, run.offset, run.bytes);
                return Ok(written);
            }
            Ok(Err(source)) => Ok(source),
            Err(panicked) => Err(panicked),
        };
        self.failures.fetch_add(1, Relaxed);
        // First, so that the error tells the room there is without it.
        let is_last = self.files.abandon(run);
        let error =
            failed.map_or_else(|panicked| panicked, |source| self.files.failure("write", &run.file, source));
        Err(Failed { run: Some((run.run(), is_last)), error })
    }
}

/// Bytes that a store takes.
#[derive(Clone, Copy)]
struct Taken {
    /// Of the device.
    physical: u64,
    /// Of its segments.
    used: u64,
}

impl Taken {
    /// Whether there is more room: on the device, or in files to be used again.
    fn is_below(self, before: Taken) -> bool {
        self.physical < before.physical || self.used < before.used
    }
}

/// Why a write failed.
pub(super) struct Failed {
    /// The range that was reserved for it, and whether its segment ends there.
    run: Option<(Run, bool)>,
    pub(super) error: Error,
}

impl Failed {
    /// Nothing lives in the range, and nothing more is reserved in its segment.
    pub(super) fn book(&self, segments: &mut SegmentTable) {
        if let Some((run, is_last)) = self.run {
            segments.seal(run.segment);
            if is_last { segments.ends_before(run) } else { segments.finished(run) }
        }
    }
}
