//! What the store's one lock guards: the index, the stage, and what lives in each segment.
//!
//! Nothing here touches a file. Files that are done with are collected in `retired`, to be dealt with once
//! the lock is gone.

use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};
use spill_core::{Frames, Key, Result, SpilledSize};

use super::files::{Reservation, SegmentFile};
use super::format::Shape;
use super::index::{Index, Locator, STAGED};
use super::stage::{Place, Stage, Staged};

/// What is known of a segment.
struct Segment {
    file: Arc<SegmentFile>,
    /// Records that some key points to.
    live: u64,
    /// Ranges reserved whose writers have not come back.
    pending: u32,
    /// Nothing more will be reserved in it.
    sealed: bool,
}

pub(super) struct State<K> {
    index: Index<K>,
    pub(super) stage: Stage,
    segments: HashMap<u32, Segment, DefaultHashBuilder>,
    /// Sum of the weights of all keys. Each is a caller's word and may be anything, so the sum is wider.
    weight: u128,
    /// Sum of the record lengths of all keys, in bytes.
    length: u64,
    pub(super) retired: Vec<Arc<SegmentFile>>,
    pub(super) closed: bool,
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

/// What a change left over, to be dropped without the lock: dropping a key or a value may run anybody's code.
pub(super) struct Leftover<K> {
    _key: K,
    _frames: Option<Frames>,
}

impl<K: Key> State<K> {
    pub(super) fn new(hasher: DefaultHashBuilder, stage_bytes: u64) -> Self {
        State {
            index: Index::new(hasher.clone()),
            stage: Stage::new(stage_bytes),
            segments: HashMap::with_hasher(hasher),
            weight: 0,
            length: 0,
            retired: Vec::new(),
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

    pub(super) fn locator(&self, hash: u64, key: &K) -> Option<Locator> {
        self.index.find(hash, key).map(|at| *self.index.locator(at))
    }

    pub(super) fn find(&self, hash: u64, key: &K) -> Option<Found> {
        let locator = self.locator(hash, key)?;
        if locator.is_staged() {
            self.stage.get(place(&locator)).cloned().map(Found::Staged)
        } else {
            let segment = self.segments.get(&locator.segment)?;
            Some(Found::Stored(Arc::clone(&segment.file), locator))
        }
    }

    /// Stages a value, for which there must be room.
    ///
    /// # Errors
    /// When the index is full; nothing changed.
    pub(super) fn stage(
        &mut self,
        hash: u64,
        key: K,
        frames: Frames,
        shape: Shape,
    ) -> Result<Option<Leftover<K>>> {
        let weight = frames.weight();
        let locate = |place: Place| Locator {
            weight,
            segment: STAGED,
            offset: place.slot,
            units: shape.units,
            checksum: place.batch,
        };
        let replaced = if let Some(at) = self.index.find(hash, &key) {
            let replaced = self.release(at);
            *self.index.locator_mut(at) = locate(self.stage.push(Staged { frames, shape }, at));
            Some(Leftover { _key: key, _frames: replaced })
        } else {
            let at = self.index.next_position()?;
            let place = self.stage.push(Staged { frames, shape }, at);
            self.index.push(hash, key, at, locate(place));
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
    pub(super) fn store(&mut self, hash: u64, key: K, locator: Locator) -> Result<Option<Leftover<K>>> {
        let replaced = if let Some(at) = self.index.find(hash, &key) {
            let replaced = self.release(at);
            *self.index.locator_mut(at) = locator;
            Some(Leftover { _key: key, _frames: replaced })
        } else {
            let at = self.index.next_position()?;
            self.index.push(hash, key, at, locator);
            None
        };
        self.weight += u128::from(locator.weight);
        self.length += locator.length();
        if let Some(segment) = self.segments.get_mut(&locator.segment) {
            segment.live += 1;
        }
        Ok(replaced)
    }

    pub(super) fn remove(&mut self, hash: u64, key: &K) -> Option<Leftover<K>> {
        let at = self.index.find(hash, key)?;
        let frames = self.release(at);
        let removed = self.index.remove(hash, at);
        if let Some(to) = removed.moved_to {
            let moved = *self.index.locator(to);
            if moved.is_staged() {
                self.stage.moved(place(&moved), to);
            }
        }
        Some(Leftover { _key: removed.key, _frames: frames })
    }

    /// Books a reservation, and the segment that it begins.
    pub(super) fn reserved(&mut self, reservation: &Reservation) {
        let id = reservation.file.segment;
        if let Some(begins) = &reservation.begins {
            if let Some(full) = begins.seals {
                self.seal(full);
            }
            let file = Arc::clone(&reservation.file);
            self.segments.insert(id, Segment { file, live: 0, pending: 0, sealed: begins.sealed });
        }
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.pending += 1;
        }
    }

    /// The writer of a reservation is done and has stored what lives in it.
    pub(super) fn finished(&mut self, id: u32) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.pending -= 1;
        }
        self.drop_if_dead(id);
    }

    pub(super) fn seal(&mut self, id: u32) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.sealed = true;
        }
        self.drop_if_dead(id);
    }

    /// Points the keys of the batch in flight, those that still live, to their records. Returns the batch,
    /// to be dropped without the lock.
    pub(super) fn written(&mut self, records: &[Written]) -> Option<Arc<Vec<Staged>>> {
        let flight = self.stage.written()?;
        for (at, record) in flight.positions().zip(records) {
            let Some(at) = at else { continue };
            let locator = self.index.locator_mut(at);
            locator.segment = record.segment;
            locator.offset = record.offset;
            locator.checksum = record.checksum;
            if let Some(segment) = self.segments.get_mut(&record.segment) {
                segment.live += 1;
            }
        }
        Some(flight.records)
    }

    /// Empties everything and refuses from now on. Returns what was there, to be dropped without the lock.
    pub(super) fn close(&mut self, hasher: DefaultHashBuilder) -> State<K> {
        let empty = State { closed: true, ..State::new(hasher, 0) };
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
        if let Some(segment) = self.segments.get_mut(&locator.segment) {
            segment.live -= 1;
        }
        self.drop_if_dead(locator.segment);
        None
    }

    fn drop_if_dead(&mut self, id: u32) {
        let dead = |segment: &Segment| segment.sealed && segment.live == 0 && segment.pending == 0;
        if self.segments.get(&id).is_some_and(dead)
            && let Some(segment) = self.segments.remove(&id)
        {
            self.retired.push(segment.file);
        }
    }
}

fn place(locator: &Locator) -> Place {
    Place { batch: locator.checksum, slot: locator.offset }
}
