//! Values that were accepted and wait in RAM until their pack is uploaded.
//!
//! One pack is *filling*; others are *uploads*: being uploaded, or waiting for another try after one failed. All serve
//! reads. What an upload holds is fixed, so that trying again puts the same bytes; only which of its values still
//! live changes.

use std::sync::Arc;

use spill_core::Frames;

use crate::pack::Shape;

/// The position of a value that was overwritten or removed.
const DEAD: u32 = u32::MAX;

/// A value that waits.
pub(crate) struct Staged {
    pub(crate) frames: Frames,
    pub(crate) shape: Shape,
}

impl Staged {
    /// The RAM that it is charged for, in bytes.
    fn charge(&self) -> u64 {
        charge(self.shape)
    }
}

/// Charged beyond the record, so that many tiny values cannot hold much more RAM than the stage may.
const OVERHEAD: u64 = (size_of::<Option<Staged>>() + size_of::<u32>()) as u64;

fn charge(shape: Shape) -> u64 {
    shape.length() + OVERHEAD
}

/// How much is staged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of a pack.
    pub(crate) pack: u64,
    /// A value of this many bytes is a pack of its own.
    pub(crate) large: u64,
    /// Bytes of all uploads at once; one larger than this goes alone.
    pub(crate) uploads: u64,
    /// Uploads at once.
    pub(crate) count: usize,
}

/// A pack whose content is fixed.
pub(crate) struct Upload {
    pub(crate) number: u64,
    /// `None` where a value died before.
    pub(crate) values: Arc<[Option<Staged>]>,
    positions: Vec<u32>,
    bytes: u64,
    status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Active,
    Failed,
}

impl Upload {
    /// The index's position for each of the values; `None` for those that died.
    pub(crate) fn positions(&self) -> impl Iterator<Item = Option<u32>> {
        self.positions.iter().map(|at| (*at != DEAD).then_some(*at))
    }
}

/// The pack that values are added to.
#[derive(Default)]
struct Filling {
    number: u64,
    values: Vec<Option<Staged>>,
    positions: Vec<u32>,
    /// Slots of values that died.
    free: Vec<u32>,
    bytes: u64,
}

impl Filling {
    fn is_empty(&self) -> bool {
        self.free.len() == self.values.len()
    }
}

/// What must be done before a value is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Nothing: there is room.
    Free,
    /// Close the filling pack.
    Close,
    /// Try a failed upload again.
    Retry,
    /// Wait until an upload has ended.
    Wait,
}

/// Where a value was staged.
pub(crate) struct Place {
    pub(crate) pack: u64,
    pub(crate) slot: u32,
    /// Whether it is the first of its pack, whose age counts from now.
    pub(crate) first: bool,
}

/// What is to be uploaded.
pub(crate) struct Job {
    pub(crate) number: u64,
    pub(crate) values: Arc<[Option<Staged>]>,
}

/// The stage of one store.
pub(crate) struct Stage {
    limits: Limits,
    filling: Filling,
    uploads: Vec<Upload>,
    /// The number of the next pack.
    next: u64,
}

impl Stage {
    pub(crate) fn new(limits: Limits) -> Self {
        Stage { limits, filling: Filling::default(), uploads: Vec::new(), next: 1 }
    }

    /// Bytes of RAM held.
    pub(crate) fn bytes(&self) -> u64 {
        self.filling.bytes + self.uploading()
    }

    fn uploading(&self) -> u64 {
        self.uploads.iter().map(|upload| upload.bytes).sum()
    }

    fn may_upload(&self, bytes: u64) -> bool {
        self.uploads.is_empty()
            || self.uploads.len() < self.limits.count && self.uploading() + bytes <= self.limits.uploads
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.uploads.iter().any(|upload| upload.status == Status::Failed)
    }

    fn is_large(&self, shape: Shape) -> bool {
        charge(shape) >= self.limits.large
    }

    /// What must be done before a value of this shape is staged. A failed upload is tried again first: a store that
    /// cannot write refuses, rather than filling its stage.
    pub(crate) fn room(&self, shape: Shape) -> Room {
        let charge = charge(shape);
        if self.has_failed() {
            Room::Retry
        } else if self.is_large(shape) {
            if self.may_upload(charge) { Room::Free } else { Room::Wait }
        } else if self.filling.is_empty() || self.filling.bytes + charge <= self.limits.pack {
            Room::Free
        } else if self.may_upload(self.filling.bytes) {
            Room::Close
        } else {
            Room::Wait
        }
    }

    /// What must be done before everything staged up to pack `last` is uploaded.
    pub(crate) fn drain(&self, last: u64) -> Room {
        if self.uploads.iter().any(|upload| upload.status == Status::Failed && upload.number <= last) {
            Room::Retry
        } else if self.filling.number <= last && !self.filling.is_empty() {
            if self.may_upload(self.filling.bytes) { Room::Close } else { Room::Wait }
        } else if self.uploads.iter().any(|upload| upload.number <= last) {
            Room::Wait
        } else {
            Room::Free
        }
    }

    /// The highest number of a pack so far.
    pub(crate) fn last(&self) -> u64 {
        self.next - 1
    }

    fn take_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Stages a value whose entry is at `position`. There must be [room](Self::room). A large one is an upload at once.
    pub(crate) fn push(&mut self, staged: Staged, position: u32) -> (Place, Option<Job>) {
        let charge = staged.charge();
        if self.is_large(staged.shape) {
            let number = self.take_number();
            let values: Arc<[_]> = [Some(staged)].into();
            let job = Job { number, values: Arc::clone(&values) };
            let positions = vec![position];
            self.uploads.push(Upload { number, values, positions, bytes: charge, status: Status::Active });
            return (Place { pack: number, slot: 0, first: false }, Some(job));
        }
        let first = self.filling.is_empty();
        if first {
            self.filling = Filling { number: self.take_number(), ..Filling::default() };
        }
        let filling = &mut self.filling;
        filling.bytes += charge;
        let slot = match filling.free.pop() {
            Some(slot) => {
                filling.values[slot as usize] = Some(staged);
                filling.positions[slot as usize] = position;
                slot
            }
            None => {
                filling.values.push(Some(staged));
                filling.positions.push(position);
                (filling.values.len() - 1) as u32
            }
        };
        (Place { pack: filling.number, slot, first }, None)
    }

    fn upload(&mut self, number: u64) -> Option<&mut Upload> {
        self.uploads.iter_mut().find(|upload| upload.number == number)
    }

    /// The staged value at this place.
    pub(crate) fn get(&self, pack: u64, slot: u32) -> Option<&Frames> {
        let values: &[Option<Staged>] = if pack == self.filling.number {
            &self.filling.values
        } else {
            &self.uploads.iter().find(|upload| upload.number == pack)?.values
        };
        values.get(slot as usize)?.as_ref().map(|staged| &staged.frames)
    }

    /// Takes the value at this place out. What an upload holds stays until that ends. The frames are given back so
    /// that they can be dropped without a lock.
    pub(crate) fn remove(&mut self, pack: u64, slot: u32) -> Option<Frames> {
        if pack != self.filling.number {
            let position = self.upload(pack)?.positions.get_mut(slot as usize)?;
            *position = DEAD;
            return None;
        }
        let staged = self.filling.values.get_mut(slot as usize)?.take()?;
        self.filling.free.push(slot);
        self.filling.positions[slot as usize] = DEAD;
        self.filling.bytes -= staged.charge();
        Some(staged.frames)
    }

    /// Closes the filling pack: it is an upload from now on.
    pub(crate) fn close(&mut self) -> Option<Job> {
        if self.filling.is_empty() {
            return None;
        }
        let filling = std::mem::take(&mut self.filling);
        let values: Arc<[_]> = filling.values.into();
        let job = Job { number: filling.number, values: Arc::clone(&values) };
        self.uploads.push(Upload {
            number: filling.number,
            values,
            positions: filling.positions,
            bytes: filling.bytes,
            status: Status::Active,
        });
        Some(job)
    }

    /// Closes the filling pack if it is still this one and may be uploaded. False when it must wait.
    pub(crate) fn close_aged(&mut self, pack: u64) -> (bool, Option<Job>) {
        if self.filling.number != pack || self.filling.is_empty() {
            return (true, None);
        }
        if self.has_failed() || !self.may_upload(self.filling.bytes) {
            return (false, None);
        }
        (true, self.close())
    }

    /// Takes up a failed upload again. `None` when none failed.
    pub(crate) fn retry(&mut self) -> Option<Job> {
        let upload = self.uploads.iter_mut().find(|upload| upload.status == Status::Failed)?;
        upload.status = Status::Active;
        Some(Job { number: upload.number, values: Arc::clone(&upload.values) })
    }

    /// The upload failed: it stays, and may be tried again.
    pub(crate) fn failed(&mut self, number: u64) {
        if let Some(upload) = self.upload(number) {
            upload.status = Status::Failed;
        }
    }

    /// The upload is done, and leaves the stage.
    pub(crate) fn done(&mut self, number: u64) -> Option<Upload> {
        let at = self.uploads.iter().position(|upload| upload.number == number)?;
        Some(self.uploads.swap_remove(at))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn staged(len: usize) -> Staged {
        let frames = Frames::from(Bytes::from(vec![1; len]));
        Staged { shape: Shape::of(&frames).unwrap(), frames }
    }

    fn small() -> Staged {
        staged(68)
    }

    const CHARGE: u64 = 100 + OVERHEAD;

    /// Packs of two small values, two uploads of them.
    fn stage() -> Stage {
        Stage::new(Limits { pack: 2 * CHARGE, large: 1000, uploads: 4 * CHARGE, count: 2 })
    }

    fn fill(stage: &mut Stage) -> Job {
        for position in 0..2 {
            assert_eq!(stage.room(small().shape), Room::Free);
            stage.push(small(), position);
        }
        stage.close().unwrap()
    }

    #[test]
    fn packs_fill_while_others_are_uploaded() {
        let mut stage = stage();
        let first = fill(&mut stage);
        fill(&mut stage);
        stage.push(small(), 2);
        stage.push(small(), 3);
        assert_eq!(stage.room(small().shape), Room::Wait, "two uploads are all");
        assert_eq!(stage.bytes(), 6 * CHARGE);
        let done = stage.done(first.number).unwrap();
        assert_eq!(done.positions().collect::<Vec<_>>(), [Some(0), Some(1)]);
        assert_eq!(stage.room(small().shape), Room::Close);
    }

    #[test]
    fn a_large_value_is_an_upload_of_its_own() {
        let mut stage = stage();
        let (place, job) = stage.push(staged(5000), 7);
        assert_eq!((place.pack, place.slot), (job.unwrap().number, 0));
        assert_eq!(stage.room(staged(5000).shape), Room::Wait, "one larger than the stage goes alone");
        assert_eq!(stage.room(small().shape), Room::Free);
        stage.done(place.pack).unwrap();
        assert_eq!(stage.room(staged(5000).shape), Room::Free);
    }

    #[test]
    fn a_failed_upload_comes_first_and_keeps_its_values() {
        let mut stage = stage();
        let job = fill(&mut stage);
        let last = stage.last();
        stage.failed(job.number);
        assert_eq!((stage.room(small().shape), stage.drain(last)), (Room::Retry, Room::Retry));
        assert!(stage.get(job.number, 1).is_some());
        let again = stage.retry().unwrap();
        assert!(Arc::ptr_eq(&again.values, &job.values) && again.number == job.number);
        assert!(stage.retry().is_none());
        assert_eq!(stage.drain(last), Room::Wait);
        stage.done(job.number).unwrap();
        assert_eq!(stage.drain(last), Room::Free);
    }

    #[test]
    fn what_dies_in_an_upload_is_known_when_it_ends() {
        let mut stage = stage();
        let job = fill(&mut stage);
        assert!(stage.remove(job.number, 0).is_none());
        assert!(stage.get(job.number, 1).is_some());
        assert_eq!(stage.done(job.number).unwrap().positions().collect::<Vec<_>>(), [None, Some(1)]);
    }

    #[test]
    fn slots_of_the_filling_pack_are_used_again() {
        let mut stage = stage();
        let (place, _) = stage.push(small(), 0);
        stage.push(small(), 1);
        for _ in 0..1000 {
            assert_eq!(stage.remove(place.pack, place.slot).unwrap().byte_len(), 68);
            let (again, _) = stage.push(small(), 0);
            assert_eq!((again.pack, again.slot), (place.pack, place.slot));
        }
        assert_eq!(stage.bytes(), 2 * CHARGE);
    }

    #[test]
    fn only_the_pack_that_aged_is_closed() {
        let mut stage = stage();
        let (place, _) = stage.push(small(), 0);
        assert!(place.first);
        assert!(matches!(stage.close_aged(place.pack + 1), (true, None)));
        assert!(matches!(stage.close_aged(place.pack), (true, Some(_))));
        assert!(matches!(stage.close_aged(place.pack), (true, None)));
    }
}
