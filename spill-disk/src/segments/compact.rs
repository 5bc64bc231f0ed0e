//! Moving what still lives out of segments that are mostly dead, so that their files come back.
//!
//! One segment at a time is read from start to end, in windows. The tag in each record's header leads to the
//! entry of its key, and the entry says whether the record lives. Those that do are moved together in memory,
//! written with one call, and then their keys are pointed to the copies. No lock is held meanwhile: a record that
//! dies while it is copied leaves a dead copy, and a reader of the old one holds its file.
//!
//! Headers are only a way to find records. A walk that meets one that makes no sense (a range whose write failed)
//! ends there, and what lives behind it is found in the index. A live record whose bytes are not those that were
//! written stays where it is, so that reading it says what is wrong with it.

use std::io;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::MutexGuard;
use spill_core::{Error, Key, Result};

use super::closed;
use super::file::{Origin, SegmentFile};
use super::format::{Header, UNIT, checksum, reseal};
use super::index::Locator;
use super::state::{State, Written};
use super::store::Store;
use super::table::Victim;
use crate::failure;
use crate::io::{read_exact_at, write_all_vectored_at};

/// Bytes that are read at once.
const WINDOW: u64 = 256 << 10;

/// Entries that are looked up before the lock is offered to others.
const LOOKED_UP: usize = 256;

/// Memory that is kept from one segment to the next.
#[derive(Default)]
pub(super) struct Scratch {
    window: Vec<u8>,
    records: Vec<Record>,
    /// Records of the segment that live and are not what was written.
    damaged: u64,
}

/// A record in the window.
#[derive(Clone, Copy)]
struct Record {
    tag: u32,
    /// Where it begins in its segment, in bytes.
    offset: u64,
    /// Bytes.
    length: u64,
}

/// What ended a compaction early.
enum Failure {
    Read(Error),
    Write(Error),
}

impl<K: Key> Store<K> {
    /// Brings the files back below the bound, by waiting for compaction or by doing it. Where that fails, they
    /// stay above it: what was accepted stays accepted.
    pub(super) fn keep_bound(&self, state: &mut MutexGuard<'_, State<K>>) {
        while self.files.movable() + state.compaction.planned > state.most() && !state.closed {
            if self.unlocked(state, || self.files.give_back(true)) {
                continue;
            }
            if state.compaction.running {
                self.compaction_ended.wait(state);
            } else if state.compaction.failed || !matches!(self.compact_one(state, true), Ok(true)) {
                return;
            }
        }
    }

    /// See [`Segments::settle`](super::Segments::settle).
    pub(super) fn settle(&self) -> Result<()> {
        let mut state = self.state.lock();
        state.segments.wake();
        state.compaction_may_help();
        let outcome = loop {
            if state.closed {
                break Err(closed());
            }
            if state.compaction.running {
                self.compaction_ended.wait(&mut state);
            } else if !state.wants_compaction() {
                break Ok(());
            } else if let Err(error) = self.compact_one(&mut state, true) {
                break Err(error);
            }
        };
        self.keep_bound(&mut state);
        self.unlock(state);
        outcome
    }

    /// What the compacting thread does until the store is closed.
    pub(super) fn compact_until_closed(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            if state.wants_compaction() {
                // Counted where it failed, and tried again once something was written.
                let _ = self.compact_one(&mut state, false);
            } else {
                self.compaction_wanted.wait(&mut state);
            }
        }
        self.unlock(state);
    }

    /// Compacts one segment, the lock given up meanwhile. Says whether anything changed. Nobody may be
    /// compacting. When it is urgent, a segment that is still open may be sealed for it, and the files may be above
    /// their bound while records have two copies; else there must be room for those.
    pub(super) fn compact_one(&self, state: &mut MutexGuard<'_, State<K>>, urgent: bool) -> Result<bool> {
        let Some(victim) = state.segments.choose() else {
            if let Some(open) = state.segments.open_with_most_dead().filter(|_| urgent) {
                self.unlocked(state, || self.files.seal(open));
                state.segments.seal(open);
                return Ok(true);
            }
            state.compaction.in_vain = true;
            return Ok(false);
        };
        let outcome = self.compact_victim(state, &victim, urgent);
        // its file may go with it, which takes long
        self.unlocked(state, || drop(victim));
        outcome
    }

    fn compact_victim(
        &self,
        state: &mut MutexGuard<'_, State<K>>,
        victim: &Victim,
        urgent: bool,
    ) -> Result<bool> {
        let has_room = |state: &State<K>| {
            let is_within = |bytes: u64, most: u64| bytes.saturating_add(victim.live) <= most;
            is_within(self.files.physical(), self.files.quota())
                && (urgent || is_within(self.files.movable(), state.most()))
        };
        while !has_room(state) {
            if !self.unlocked(state, || self.files.give_back(true)) {
                state.compaction.in_vain = true;
                return Ok(false);
            }
        }
        if state.compaction.running || state.closed {
            return Ok(true);
        }
        state.compaction.running = true;
        state.compaction.planned = victim.live;
        let outcome = self.unlocked(state, || {
            failure::caught("compacting a segment", || self.evacuate_somewhere(victim))
                .unwrap_or_else(|panicked| Err(Failure::Write(panicked)))
        });
        state.compaction.running = false;
        state.compaction.planned = 0;
        let id = victim.file.segment;
        let outcome = match outcome {
            Ok(0) => Ok(true),
            Ok(_) => {
                state.segments.rest(id, true);
                Ok(true)
            }
            Err(Failure::Read(error)) => {
                self.failures.fetch_add(1, Relaxed);
                state.segments.rest(id, false);
                Err(error)
            }
            Err(Failure::Write(error)) => {
                state.compaction.failed = true;
                Err(error)
            }
        };
        self.compaction_ended.notify_all();
        if let Err(error) = &outcome
            && !state.closed
        {
            let file = victim.file.path.display();
            self.unlocked(state, || tracing::warn!(%error, %file, "a segment could not be compacted"));
        }
        outcome
    }

    /// As [`evacuate`](Self::evacuate): to another directory where one fails, and to the room that was set aside
    /// where there is no other.
    fn evacuate_somewhere(&self, victim: &Victim) -> Result<u64, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.evacuate(victim) {
                Err(Failure::Write(error)) if self.files.has_another_volume(tries) => {
                    tracing::debug!(%error, "compaction goes on in another directory");
                }
                Err(Failure::Write(error)) if error.is_full() && self.files.use_reserve() => {
                    let outcome = self.evacuate(victim);
                    let sealed = self.files.spare_reserve();
                    let mut state = self.state.lock();
                    sealed.into_iter().for_each(|segment| state.segments.seal(segment));
                    self.unlock(state);
                    while self.files.give_back(false) {}
                    return outcome;
                }
                outcome => return outcome,
            }
        }
    }

    /// Moves all that lives out of a segment, but for what is damaged. Returns how many records are.
    fn evacuate(&self, victim: &Victim) -> Result<u64, Failure> {
        let mut scratch = self.compaction.lock();
        scratch.damaged = 0;
        let mut at = 0;
        while at < victim.tail {
            match self.walk(victim, at, &mut scratch)? {
                Some(next) => at = next,
                None => break,
            }
        }
        if self.state.lock().segments.live(victim.file.segment) > 0 {
            // It finds the damaged ones again.
            scratch.damaged = 0;
            self.search(victim, &mut scratch)?;
        }
        scratch.window.truncate(WINDOW as usize);
        scratch.window.shrink_to(WINDOW as usize);
        Ok(scratch.damaged)
    }

    /// Moves what lives in one window that begins at `at` with a record. Returns where the next one begins, or
    /// `None` when the headers lead no further.
    fn walk(&self, victim: &Victim, at: u64, scratch: &mut Scratch) -> Result<Option<u64>, Failure> {
        let window = WINDOW.min(victim.tail - at);
        if !read(&victim.file, &mut scratch.window, at, window)? {
            return Ok(None);
        }
        scratch.records.clear();
        let mut end = 0;
        let next = loop {
            if end == window {
                break Some(at + end);
            }
            let rest = victim.tail - at - end;
            let Some(header) = scratch.window.get(end as usize..).and_then(Header::from_bytes) else {
                // The window ends within a header.
                break Some(at + end).filter(|_| end > 0);
            };
            let length =
                header.length().filter(|length| header.segment == victim.file.segment && *length <= rest);
            let Some(length) = length else { break None };
            let record = Record { tag: header.tag, offset: at + end, length };
            if end + length > window {
                if end == 0 {
                    self.move_one(victim, record.tag, record.offset, scratch)?;
                    return Ok(Some(at + length));
                }
                break Some(at + end);
            }
            scratch.records.push(record);
            end += length;
        };
        self.move_live(victim, at, scratch)?;
        Ok(next)
    }

    /// Moves what lives in a segment and was not found by walking through it.
    fn search(&self, victim: &Victim, scratch: &mut Scratch) -> Result<(), Failure> {
        let mut found = Vec::new();
        let mut from = Some(0);
        while let Some(position) = from {
            // Entries change places meanwhile: one that is missed is found the next time.
            from = self.state.lock().records_in(victim.file.segment, position, &mut found);
        }
        found.sort_unstable_by_key(|(_, offset)| *offset);
        for (tag, offset) in found {
            self.move_one(victim, tag, u64::from(offset) * UNIT, scratch)?;
        }
        Ok(())
    }

    /// Moves one record, if it lives.
    fn move_one(&self, victim: &Victim, tag: u32, offset: u64, scratch: &mut Scratch) -> Result<(), Failure> {
        let found = self.state.lock().record(tag, victim.file.segment, (offset / UNIT) as u32);
        let Some(locator) = found else { return Ok(()) };
        if read(&victim.file, &mut scratch.window, offset, locator.length())? {
            scratch.records.clear();
            scratch.records.push(Record { tag, offset, length: locator.length() });
            return self.move_live(victim, offset, scratch);
        }
        scratch.damaged += 1;
        Ok(())
    }

    /// Moves those records of a window that live. The window begins at `base`.
    fn move_live(&self, victim: &Victim, base: u64, scratch: &mut Scratch) -> Result<(), Failure> {
        let start = self.clock.now();
        self.keep_sound(victim.file.segment, base, scratch)?;
        let Scratch { window, records, .. } = scratch;
        let bytes: u64 = records.iter().map(|record| record.length).sum();
        let mut written = 0;
        let mut done = 0;
        while done < records.len() {
            let lengths = records[done..].iter().map(|record| record.length);
            let level = self.state.lock().level_for_moved(victim.level);
            let run = self.reserve(Origin::Moved, level, lengths);
            let run = run.map_err(|failed| Failure::Write(failed.error))?;
            let some = &records[done..done + run.records];
            let block = &mut window[written as usize..(written + run.bytes) as usize];
            let outcome = self.written_or_sealed(&run, || {
                let copies = stamp(&run.file, run.offset, some, block)?;
                let mut buffers = [io::IoSlice::new(block)];
                write_all_vectored_at(&*run.file.file, &mut buffers, run.offset).map(|()| copies)
            });
            let mut state = self.state.lock();
            match &outcome {
                Ok(copies) => {
                    for (chunk, copies) in some.chunks(LOOKED_UP).zip(copies.chunks(LOOKED_UP)) {
                        for (record, copy) in chunk.iter().zip(copies) {
                            let offset = (record.offset / UNIT) as u32;
                            state.moved(record.tag, victim.file.segment, offset, *copy);
                        }
                        MutexGuard::bump(&mut state);
                    }
                }
                Err(failed) => failed.book(&mut state.segments),
            }
            if outcome.is_ok() {
                state.segments.finished(run.run());
            }
            state.compaction.planned = state.compaction.planned.saturating_sub(run.bytes);
            self.unlock(state);
            outcome.map_err(|failed| Failure::Write(failed.error))?;
            written += run.bytes;
            done += run.records;
        }
        self.moved.add(records.len() as u64, bytes, self.clock.now().saturating_sub(start));
        Ok(())
    }

    /// Keeps of `records` those that live and are as they were written, and moves their bytes together at the
    /// window's start.
    fn keep_sound(&self, segment: u32, base: u64, scratch: &mut Scratch) -> Result<(), Failure> {
        let Scratch { window, records, damaged } = scratch;
        let mut live: Vec<Option<Locator>> = Vec::with_capacity(records.len());
        for chunk in records.chunks(LOOKED_UP) {
            let state = self.state.lock();
            if state.closed {
                return Err(Failure::Write(closed()));
            }
            live.extend(
                chunk.iter().map(|record| state.record(record.tag, segment, (record.offset / UNIT) as u32)),
            );
        }
        let mut end = 0;
        let mut live = live.into_iter();
        records.retain(|record| {
            let Some(locator) = live.next().flatten() else { return false };
            let from = (record.offset - base) as usize;
            let bytes = from..from + record.length as usize;
            let sound = locator.length() == record.length
                && checksum(&window[bytes.clone()], segment) == locator.checksum
                && Header::from_bytes(&window[bytes.clone()])
                    .is_some_and(|header| header.checksum == locator.checksum);
            if sound {
                window.copy_within(bytes, end);
                end += record.length as usize;
            } else {
                *damaged += 1;
            }
            sound
        });
        Ok(())
    }
}

/// Fills the window with `length` bytes of the file. `false` when the file ends before.
fn read(file: &SegmentFile, window: &mut Vec<u8>, at: u64, length: u64) -> Result<bool, Failure> {
    // The lengths are those of RAM, and no longer than a segment.
    window.resize(length as usize, 0);
    match read_exact_at(&*file.file, window, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(Failure::Read(Error::io("read", &file.path, error))),
    }
}

/// Makes the records in `block`, which were seen to be sound, those of another segment, and says where they will be.
fn stamp(
    file: &SegmentFile,
    mut offset: u64,
    records: &[Record],
    block: &mut [u8],
) -> io::Result<Vec<Written>> {
    let mut rest = block;
    let mut written = Vec::with_capacity(records.len());
    for record in records {
        let (bytes, behind) = rest.split_at_mut(record.length as usize);
        let checksum = reseal(bytes, file.segment).ok_or(io::ErrorKind::InvalidData)?;
        written.push(Written { segment: file.segment, offset: (offset / UNIT) as u32, checksum });
        offset += record.length;
        rest = behind;
    }
    Ok(written)
}
