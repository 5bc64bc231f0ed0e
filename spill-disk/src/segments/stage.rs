//! Values that were accepted and wait in RAM until a batch of them is written.
//!
//! There are two halves: one is *filling*, the other, if any, is *in flight*: being written, or waiting for
//! another try after its write failed. Both serve reads. While a half is in flight its records are fixed, and
//! only the positions that say which of them still live change.

use std::sync::Arc;

use spill_core::Frames;

use super::file::Level;
use super::format::{Payload, Shape};
use super::packed::Packed;

/// The position of a staged record that was overwritten or removed.
const DEAD: u32 = u32::MAX;

/// Charged for a staged value beyond its record, so that many tiny values cannot hold much more RAM than
/// the stage may.
const OVERHEAD: u64 = (size_of::<Staged>() + size_of::<u32>()) as u64;

/// Packed bytes of a batch at most, but for the last record: what more there is of it is packed when it is written, as is
/// what has no neighbour among them any more.
const PACKED: u64 = 2 << 20;

/// A value that waits to be written.
pub(super) struct Staged {
    pub(super) payload: Payload,
    /// The kind of segment it goes to.
    pub(super) level: Level,
    /// Its place among the packed records of its batch, if it is short.
    pub(super) packed: Option<usize>,
}

impl Staged {
    pub(super) fn new(payload: Payload, level: Level) -> Self {
        Staged { payload, level, packed: None }
    }

    /// Whether it was packed right before `next`.
    pub(super) fn is_before(&self, next: &Staged) -> bool {
        let places = self.packed.zip(next.packed);
        places.is_some_and(|(at, next)| at as u64 + self.payload.shape.length() == next as u64)
    }

    /// The RAM it is charged for, in bytes.
    pub(super) fn charge(shape: Shape) -> u64 {
        shape.length() + OVERHEAD
    }
}

/// Where a staged value is: its batch and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) batch: u32,
    pub(super) slot: u32,
}

/// The stage of one store.
pub(super) struct Stage {
    half: u64,
    filling: Filling,
    flight: Option<Flight>,
    /// The memory that the next batch is packed into.
    spare: Packed,
}

/// A batch as who writes it gets it.
pub(super) struct Batch {
    pub(super) records: Arc<Vec<Staged>>,
    pub(super) packed: Packed,
}

#[derive(Default)]
struct Filling {
    batch: u32,
    records: Vec<Staged>,
    packed: Packed,
    /// The position of each record's entry in the index.
    positions: Vec<u32>,
    bytes: u64,
}

/// A batch that is being written, or whose write failed.
pub(super) struct Flight {
    batch: u32,
    pub(super) records: Arc<Vec<Staged>>,
    /// While nobody writes it.
    packed: Packed,
    positions: Vec<u32>,
    bytes: u64,
    /// Somebody is writing it.
    active: bool,
}

impl Flight {
    /// The position of each record's entry in the index, in order; `None` for those that died meanwhile.
    pub(super) fn positions(&self) -> impl Iterator<Item = Option<u32>> {
        self.positions.iter().map(|at| (*at != DEAD).then_some(*at))
    }
}

/// What a caller that wants to stage a value must do first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Nothing: there is room.
    Free,
    /// Write a batch.
    Write,
    /// Wait until somebody else has written one.
    Wait,
}

/// What a removal took out of the stage.
pub(super) struct Unstaged {
    /// Given back so that it can be dropped without a lock; a batch in flight keeps its own.
    pub(super) frames: Option<Frames>,
    /// The position of another entry that now has the place of the one removed.
    pub(super) moved: Option<u32>,
}

impl Stage {
    /// A stage that holds at most `bytes`, half of them in flight.
    pub(super) fn new(bytes: u64) -> Self {
        Stage { half: bytes / 2, filling: Filling::default(), flight: None, spare: Packed::default() }
    }

    /// Whether a value of this charge can be staged at all.
    pub(super) fn can_hold(&self, charge: u64) -> bool {
        charge <= self.half
    }

    /// Bytes of RAM held.
    pub(super) fn bytes(&self) -> u64 {
        self.filling.bytes + self.flight.as_ref().map_or(0, |flight| flight.bytes)
    }

    /// The number of the batch that is filling.
    pub(super) fn filling(&self) -> u32 {
        self.filling.batch
    }

    /// What must be done before a value of this charge is staged.
    ///
    /// A batch whose write failed is tried again first: a store that cannot write refuses, rather than
    /// filling its stage.
    pub(super) fn room(&self, charge: u64) -> Room {
        match &self.flight {
            Some(flight) if !flight.active => Room::Write,
            _ if self.filling.bytes + charge <= self.half => Room::Free,
            Some(_) => Room::Wait,
            None => Room::Write,
        }
    }

    /// What must be done before everything staged up to batch `last` is written.
    pub(super) fn drain(&self, last: u32) -> Room {
        match &self.flight {
            Some(flight) if is_after(flight.batch, last) => Room::Free,
            Some(flight) if flight.active => Room::Wait,
            Some(_) => Room::Write,
            None if is_after(self.filling.batch, last) || self.filling.records.is_empty() => Room::Free,
            None => Room::Write,
        }
    }

    /// Stages a value whose entry is at `position`. There must be [room](Self::room).
    pub(super) fn push(&mut self, mut staged: Staged, position: u32) -> Place {
        if (self.filling.packed.len() as u64) < self.half.min(PACKED) {
            staged.packed = self.filling.packed.add_short(&staged.payload);
        }
        let slot = self.filling.records.len() as u32;
        self.filling.bytes += Staged::charge(staged.payload.shape);
        self.filling.records.push(staged);
        self.filling.positions.push(position);
        Place { batch: self.filling.batch, slot }
    }

    /// The value at this place.
    pub(super) fn get(&self, place: Place) -> Option<&Staged> {
        let records = match &self.flight {
            Some(flight) if flight.batch == place.batch => flight.records.as_slice(),
            _ => &self.filling.records,
        };
        records.get(place.slot as usize)
    }

    /// The entry of the value at this place is at `position` now.
    pub(super) fn moved(&mut self, place: Place, position: u32) {
        let positions = match &mut self.flight {
            Some(flight) if flight.batch == place.batch => &mut flight.positions,
            _ => &mut self.filling.positions,
        };
        if let Some(at) = positions.get_mut(place.slot as usize) {
            *at = position;
        }
    }

    /// Takes the value at this place out: another value of the same half gets its place, or the batch in
    /// flight writes it for nothing.
    pub(super) fn remove(&mut self, place: Place) -> Unstaged {
        let slot = place.slot as usize;
        if let Some(flight) = &mut self.flight
            && flight.batch == place.batch
        {
            if let Some(at) = flight.positions.get_mut(slot) {
                *at = DEAD;
            }
            return Unstaged { frames: None, moved: None };
        }
        if slot >= self.filling.records.len() {
            return Unstaged { frames: None, moved: None };
        }
        let staged = self.filling.records.swap_remove(slot);
        self.filling.positions.swap_remove(slot);
        self.filling.bytes -= Staged::charge(staged.payload.shape);
        if self.filling.records.is_empty() {
            self.filling.packed.clear();
        }
        Unstaged { frames: Some(staged.payload.frames), moved: self.filling.positions.get(slot).copied() }
    }

    /// Begins to write a batch: the one whose write failed, or else the half that is filling. `None` when
    /// somebody writes already or nothing waits.
    pub(super) fn begin(&mut self) -> Option<Batch> {
        match &mut self.flight {
            Some(flight) if flight.active => None,
            Some(flight) => {
                flight.active = true;
                let packed = std::mem::take(&mut flight.packed);
                Some(Batch { records: Arc::clone(&flight.records), packed })
            }
            None if self.filling.records.is_empty() => None,
            None => {
                let next = Filling {
                    batch: self.filling.batch.wrapping_add(1),
                    records: Vec::with_capacity(self.filling.records.len()),
                    packed: std::mem::take(&mut self.spare),
                    positions: Vec::with_capacity(self.filling.records.len()),
                    bytes: 0,
                };
                let mut full = std::mem::replace(&mut self.filling, next);
                full.packed.keep();
                let flight = self.flight.insert(Flight {
                    batch: full.batch,
                    records: Arc::new(full.records),
                    packed: Packed::default(),
                    positions: full.positions,
                    bytes: full.bytes,
                    active: true,
                });
                Some(Batch { records: Arc::clone(&flight.records), packed: full.packed })
            }
        }
    }

    /// Begins to write the half that is filling, unless a batch is in flight.
    pub(super) fn begin_first(&mut self) -> Option<Batch> {
        if self.flight.is_some() { None } else { self.begin() }
    }

    /// The write failed: the batch stays, and somebody else may try again.
    pub(super) fn failed(&mut self, packed: Packed) {
        if let Some(flight) = &mut self.flight {
            flight.active = false;
            flight.packed = packed;
        }
    }

    /// The write is done: the batch leaves the stage, and the memory that it was packed in is used again.
    pub(super) fn written(&mut self, mut packed: Packed) -> Option<Flight> {
        packed.clear();
        self.spare = packed;
        self.flight.take()
    }
}

/// Whether batch `a` was begun after `b`; numbers wrap around.
fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn staged(len: usize) -> Staged {
        let frames = Frames::from(Bytes::from(vec![1; len]));
        let shape = Shape::of(&frames).unwrap();
        Staged::new(Payload::of(frames, shape, 0), Level::Fresh)
    }

    const CHARGE: u64 = 136 + OVERHEAD;

    fn stage() -> Stage {
        Stage::new(4 * CHARGE)
    }

    #[test]
    fn a_half_fills_while_the_other_is_written() {
        let mut stage = stage();
        for position in 0..2 {
            assert_eq!(stage.room(CHARGE), Room::Free);
            stage.push(staged(100), position);
        }
        assert_eq!(stage.room(CHARGE), Room::Write);
        assert_eq!(stage.begin().unwrap().records.len(), 2);
        assert!(stage.begin().is_none(), "one writes at a time");
        for position in 2..4 {
            assert_eq!(stage.room(CHARGE), Room::Free);
            stage.push(staged(100), position);
        }
        assert_eq!(stage.room(CHARGE), Room::Wait);
        assert_eq!(stage.bytes(), 4 * CHARGE);
        let written = stage.written(Packed::default()).unwrap();
        assert_eq!(written.positions().collect::<Vec<_>>(), [Some(0), Some(1)]);
        assert_eq!(stage.room(CHARGE), Room::Write);
    }

    #[test]
    fn a_failed_batch_comes_first() {
        let mut stage = stage();
        stage.push(staged(100), 0);
        stage.begin().unwrap();
        stage.failed(Packed::default());
        assert_eq!(stage.room(CHARGE), Room::Write);
        assert_eq!(stage.drain(stage.filling()), Room::Write);
        stage.begin().unwrap();
        assert_eq!(stage.room(CHARGE), Room::Free);
        assert!(stage.written(Packed::default()).is_some());
        assert_eq!(stage.drain(stage.filling()), Room::Free);
    }

    #[test]
    fn removal_keeps_places_and_positions_together() {
        let mut stage = stage();
        let places: Vec<_> =
            (0..3).map(|position| stage.push(staged(10 + position as usize), position)).collect();
        let gone = stage.remove(places[0]);
        assert_eq!(gone.frames.unwrap().byte_len(), 10);
        assert_eq!(gone.moved, Some(2), "the last one has its place");
        assert_eq!(stage.get(places[0]).unwrap().payload.frames.byte_len(), 12);
        stage.moved(places[0], 9);
        stage.begin().unwrap();
        assert!(stage.remove(places[1]).frames.is_none());
        assert_eq!(
            stage.get(places[1]).unwrap().payload.frames.byte_len(),
            11,
            "what is in flight stays until it is written"
        );
        assert_eq!(
            stage.written(Packed::default()).unwrap().positions().collect::<Vec<_>>(),
            [Some(9), None]
        );
    }

    #[test]
    fn short_records_are_packed_one_behind_another() {
        let mut stage = Stage::new(1 << 20);
        for (position, len) in [10, 9000, 20, 30].into_iter().enumerate() {
            stage.push(staged(len), position as u32);
        }
        let Place { batch, .. } = stage.push(staged(40), 4);
        stage.remove(Place { batch, slot: 2 });
        let Batch { records, packed } = stage.begin().unwrap();
        let [ten, long, forty, thirty] = records.as_slice() else { panic!("{} records", records.len()) };
        assert_eq!(long.packed, None);
        assert!(thirty.is_before(forty), "the last one got the place of the one removed");
        assert!(!ten.is_before(long) && !ten.is_before(forty) && !long.is_before(forty));
        stage.written(packed);
    }

    #[test]
    fn what_dies_while_it_is_staged_takes_no_memory_for_long() {
        let mut stage = Stage::new(1 << 20);
        for _ in 0..100_000 {
            let place = stage.push(staged(100), 0);
            stage.remove(place);
        }
        assert_eq!(stage.filling.packed.len(), 0);
        let place = stage.push(staged(100), 0);
        assert_eq!(stage.get(place).unwrap().packed, Some(0));
    }

    #[test]
    fn numbers_of_batches_wrap() {
        assert!(is_after(0, u32::MAX));
        assert!(!is_after(u32::MAX, 0));
        assert!(!is_after(5, 5));
    }
}
