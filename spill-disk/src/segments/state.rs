//! What the store's one lock guards: the index, the stage, and what lives in each segment.
//!
//! Nothing here touches a file. Files that are done with are collected in `retired`, to be dealt with once
//! the lock is gone.

use std::sync::Arc;

use hashbrown::DefaultHashBuilder;
use spill_core::{Frames, Key, Result, SpilledSize};

use super::bound::Bound;
use super::file::{Level, SegmentFile};
use super::format::Payload;
use super::index::{Index, Locator, STAGED};
use super::packed::Packed;
use super::stage::{Batch, Place, Stage, Staged};
use super::table::SegmentTable;

pub(super) struct State<K> {
    index: Index<K>,
    pub(super) stage: Stage,
    /// A thread writes what is handed to it.
    pub(super) writes_behind: bool,
    /// The batch in flight, while nobody has begun to write it.
    pub(super) handed: Option<Batch>,
    pub(super) segments: SegmentTable,
    bound: Bound,
    pub(super) compaction: Compaction,
    /// Sum of the weights of all keys. Each is a caller's word and may be anything, so the sum is wider.
    weight: u128,
    /// Sum of the record lengths of all keys, in bytes.
    length: u64,
    pub(super) closed: bool,
}

/// How compaction stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compaction {
    /// Somebody is moving records.
    pub(super) running: bool,
    /// Bytes that are still to be moved.
    pub(super) planned: u64,
    /// It failed, and is not tried again before something was written.
    pub(super) failed: bool,
    /// There was nothing to be won when it was last looked for, and no segment has changed since.
    pub(super) in_vain: bool,
}

/// A value as a reader finds it.
pub(super) enum Found {
    /// In the stage.
    Staged(Frames),
    /// In a file, which stays as it is while it is held.
    Stored(Arc<SegmentFile>, Locator),
}

/// Where a record was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) segment: u32,
    /// In units of 8 bytes.
    pub(super) offset: u32,
    pub(super) checksum: u32,
}

impl Written {
    /// Not yet.
    pub(super) const NOWHERE: Written = Written { segment: STAGED, offset: 0, checksum: 0 };
}

/// What a change left over, to be dropped without the lock: dropping a key or a value may run anybody's code.
pub(super) struct Leftover<K> {
    _key: K,
    _frames: Option<Frames>,
}

impl<K: Key> State<K> {
    pub(super) fn new(hasher: DefaultHashBuilder, stage_bytes: u64, bound: Bound) -> Self {
        State {
            index: Index::new(hasher.clone()),
            stage: Stage::new(stage_bytes),
            writes_behind: false,
            handed: None,
            segments: SegmentTable::new(hasher),
            bound,
            compaction: Compaction::default(),
            weight: 0,
            length: 0,
            closed: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    pub(super) fn keys(&self) -> Vec<K> {
        self.index.iter().map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn spilled(&self) -> SpilledSize {
        SpilledSize { memory: u64::try_from(self.weight).unwrap_or(u64::MAX), disk: self.length }
    }

    pub(super) fn locator(&self, tag: u32, key: &K) -> Option<Locator> {
        self.index.find(tag, key).map(|at| *self.index.locator(at))
    }

    pub(super) fn find(&self, tag: u32, key: &K) -> Option<Found> {
        let locator = self.locator(tag, key)?;
        if locator.is_staged() {
            self.stage.get(place(&locator)).map(|staged| Found::Staged(staged.payload.frames.clone()))
        } else {
            Some(Found::Stored(Arc::clone(self.segments.file(locator.segment)?), locator))
        }
    }

    /// The most bytes that the files may take now.
    pub(super) fn most(&self) -> u64 {
        self.bound.most(self.length).saturating_add(self.segments.out_of_reach())
    }

    /// Whether compaction should begin.
    pub(super) fn wants_compaction(&self) -> bool {
        let Compaction { running, failed, in_vain, .. } = self.compaction;
        !running && !failed && !in_vain && self.segments.used() > self.bound.begin(self.length)
    }

    /// The segment that what overwrites the record at this position goes to. What replaces an old record will
    /// live longer than most.
    fn level_over(&self, at: u32) -> Level {
        let locator = self.index.locator(at);
        if locator.is_staged() {
            return self.stage.get(place(locator)).map_or(Level::Fresh, |staged| staged.level);
        }
        match self.segments.level(locator.segment) {
            Level::Old if self.bound.is_deep(self.length) => Level::Survived,
            _ => Level::Fresh,
        }
    }

    /// The segment that a value of this key goes to.
    pub(super) fn level_of(&self, tag: u32, key: &K) -> Level {
        self.index.find(tag, key).map_or(Level::Fresh, |at| self.level_over(at))
    }

    /// The segment that records go to which are moved out of one that leads to `level`.
    pub(super) fn level_for_moved(&self, level: Level) -> Level {
        if self.bound.is_deep(self.length) { level } else { Level::Survived }
    }

    /// Stages a value, for which there must be room.
    ///
    /// # Errors
    /// When the index is full; nothing changed.
    pub(super) fn stage(&mut self, key: K, payload: Payload) -> Result<Option<Leftover<K>>> {
        let (weight, shape, tag) = (payload.frames.weight(), payload.shape, payload.tag);
        let locate = |place: Place| Locator {
            weight,
            segment: STAGED,
            offset: place.slot,
            units: shape.units,
            checksum: place.batch,
        };
        let replaced = if let Some(at) = self.index.find(tag, &key) {
            let level = self.level_over(at);
            let replaced = self.release(at);
            *self.index.locator_mut(at) = locate(self.stage.push(Staged::new(payload, level), at));
            Some(Leftover { _key: key, _frames: replaced })
        } else {
            let at = self.index.next_position()?;
            let place = self.stage.push(Staged::new(payload, Level::Fresh), at);
            self.index.push(tag, key, at, locate(place));
            None
        };
        self.weight += u128::from(weight);
        self.length += shape.length();
        Ok(replaced)
    }

    /// Points a key to a record that was written through.
    ///
    /// # Errors
    /// When the index is full; nothing changed.
    pub(super) fn store(&mut self, tag: u32, key: K, locator: Locator) -> Result<Option<Leftover<K>>> {
        let replaced = if let Some(at) = self.index.find(tag, &key) {
            let replaced = self.release(at);
            *self.index.locator_mut(at) = locator;
            Some(Leftover { _key: key, _frames: replaced })
        } else {
            let at = self.index.next_position()?;
            self.index.push(tag, key, at, locator);
            None
        };
        self.weight += u128::from(locator.weight);
        self.length += locator.length();
        self.segments.lives(locator.segment, locator.length());
        Ok(replaced)
    }

    pub(super) fn remove(&mut self, tag: u32, key: &K) -> Option<Leftover<K>> {
        let at = self.index.find(tag, key)?;
        let frames = self.release(at);
        let removed = self.index.remove(tag, at);
        if let Some(to) = removed.moved_to {
            let moved = *self.index.locator(to);
            if moved.is_staged() {
                self.stage.moved(place(&moved), to);
            }
        }
        Some(Leftover { _key: removed.key, _frames: frames })
    }

    /// Points the keys of the batch in flight, those that still live, to their records. Returns the batch,
    /// to be dropped without the lock.
    pub(super) fn written(&mut self, records: &[Written], packed: Packed) -> Option<Arc<Vec<Staged>>> {
        let flight = self.stage.written(packed)?;
        for (at, record) in flight.positions().zip(records) {
            let Some(at) = at else { continue };
            let locator = self.index.locator_mut(at);
            locator.segment = record.segment;
            locator.offset = record.offset;
            locator.checksum = record.checksum;
            let bytes = locator.length();
            self.segments.lives(record.segment, bytes);
        }
        self.compaction_may_help();
        Some(flight.records)
    }

    /// Something was written, so compaction that failed or found nothing may do better.
    pub(super) fn compaction_may_help(&mut self) {
        self.compaction.failed = false;
        self.compaction.in_vain = false;
    }

    /// The locator of the live record that begins there, if there is one.
    pub(super) fn record(&self, tag: u32, segment: u32, offset: u32) -> Option<Locator> {
        self.index.find_record(tag, segment, offset).map(|at| *self.index.locator(at))
    }

    /// Points the key of the record that begins there to its new place. Nothing happens when it died meanwhile.
    pub(super) fn moved(&mut self, tag: u32, segment: u32, offset: u32, to: Written) {
        let Some(at) = self.index.find_record(tag, segment, offset) else { return };
        let locator = self.index.locator_mut(at);
        locator.segment = to.segment;
        locator.offset = to.offset;
        locator.checksum = to.checksum;
        let bytes = locator.length();
        self.segments.lives(to.segment, bytes);
        self.segments.dies(segment, bytes);
    }

    /// Tag and offset of the live records of a segment among the entries from this position on, as far as one
    /// step looks, and where the next step begins.
    pub(super) fn records_in(&self, segment: u32, from: u32, into: &mut Vec<(u32, u32)>) -> Option<u32> {
        const STEP: u32 = 4096;
        let len = self.index.len() as u32;
        let to = from.saturating_add(STEP).min(len);
        for at in from..to {
            let locator = self.index.locator(at);
            if locator.segment == segment {
                into.push((self.index.tag_at(at), locator.offset));
            }
        }
        (to < len).then_some(to)
    }

    /// Empties everything and refuses from now on. Returns what was there, to be dropped without the lock.
    pub(super) fn close(&mut self, hasher: DefaultHashBuilder) -> State<K> {
        let empty = State { closed: true, ..State::new(hasher, 0, self.bound) };
        std::mem::replace(self, empty)
    }

    /// Lets go of the value of the entry at this position, which stays.
    fn release(&mut self, at: u32) -> Option<Frames> {
        let locator = *self.index.locator(at);
        self.weight -= u128::from(locator.weight);
        self.length -= locator.length();
        if locator.is_staged() {
            let unstaged = self.stage.remove(place(&locator));
            if let Some(moved) = unstaged.moved {
                self.index.locator_mut(moved).offset = locator.offset;
            }
            return unstaged.frames;
        }
        self.segments.dies(locator.segment, locator.length());
        self.compaction.in_vain = false;
        None
    }
}

fn place(locator: &Locator) -> Place {
    Place { batch: locator.checksum, slot: locator.offset }
}
