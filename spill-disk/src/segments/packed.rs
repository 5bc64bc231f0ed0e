//! Records as they go to a file: headers, tables, zeros and short frames side by side in memory of ours, while long
//! frames stay where they are.
//!
//! A short record is packed when it is staged. It was read for its checksum right before, and is in that core's cache; and
//! who writes batches has more to do than who stages.

use std::io::IoSlice;

use super::format::{HEADER, Part, Payload};

/// Frames up to this many bytes are copied next to their headers: one buffer more costs the system about as much as
/// copying this.
const COPIED: usize = 8 << 10;

/// Records up to this many bytes are packed when they are staged, and whole: none of their frames stays where it is.
const SHORT: u64 = (COPIED + HEADER) as u64;

/// Whether a frame stays where it is.
fn is_long(frame: &[u8]) -> bool {
    frame.len() > COPIED
}

/// Records behind one another.
#[derive(Default)]
pub(super) struct Packed {
    bytes: Vec<u8>,
    /// How many of them are of no record, and come first.
    head: usize,
    /// How many stay until [`clear`](Self::clear).
    kept: usize,
}

impl Packed {
    /// Behind `length` bytes of something else.
    pub(super) fn behind(length: usize) -> Self {
        Packed { bytes: vec![0; length], head: length, kept: length }
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Puts a short record in, but for its header, which tells the segment. Gives its place.
    pub(super) fn add_short(&mut self, payload: &Payload) -> Option<usize> {
        (payload.shape.length() <= SHORT).then(|| self.add(payload))
    }

    fn add(&mut self, payload: &Payload) -> usize {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER]);
        payload.for_each_part(|part| match part {
            Part::Frame(frame) if is_long(frame) => {}
            Part::Frame(frame) => self.bytes.extend_from_slice(frame),
            Part::Between(between) => self.bytes.extend_from_slice(between),
        });
        at
    }

    /// What is there stays when others are [dropped](Self::drop_added).
    pub(super) fn keep(&mut self) {
        self.kept = self.bytes.len();
    }

    /// Drops what was added since [`keep`](Self::keep).
    pub(super) fn drop_added(&mut self) {
        self.bytes.truncate(self.kept);
    }

    /// Empties it; the memory stays.
    pub(super) fn clear(&mut self) {
        self.bytes.truncate(self.head);
        self.kept = self.head;
    }

    /// Puts the record of `payload` into this segment: the one kept at `at`, or a new one. Gives its place and its
    /// checksum.
    pub(super) fn seal(&mut self, at: Option<usize>, payload: &Payload, segment: u32) -> (usize, u32) {
        let at = at.filter(|at| *at < self.kept).unwrap_or_else(|| self.add(payload));
        let header = payload.header(segment);
        self.bytes[at..at + HEADER].copy_from_slice(&header.to_bytes());
        (at, header.checksum)
    }

    /// The bytes that it is [`behind`](Self::behind).
    pub(super) fn head(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.head]
    }

    /// What is to be written of records at these places, in order: those that lie behind one another are one slice. The
    /// bytes that it is [`behind`](Self::behind) come first.
    pub(super) fn slices<'a>(
        &'a self,
        records: impl Iterator<Item = (usize, &'a Payload)>,
    ) -> Vec<IoSlice<'a>> {
        let mut slices = Vec::new();
        let (mut from, mut to) = (0, self.head);
        for (at, payload) in records {
            if at != to {
                slices.push(IoSlice::new(&self.bytes[from..to]));
                from = at;
            }
            to = at + HEADER;
            payload.for_each_part(|part| match part {
                Part::Frame(frame) if is_long(frame) => {
                    slices.push(IoSlice::new(&self.bytes[from..to]));
                    slices.push(IoSlice::new(frame));
                    from = to;
                }
                Part::Frame(frame) => to += frame.len(),
                Part::Between(between) => to += between.len(),
            });
        }
        slices.push(IoSlice::new(&self.bytes[from..to]));
        slices.retain(|slice| !slice.is_empty());
        slices
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use spill_core::Frames;

    use super::super::format::{Shape, checksum};
    use super::*;

    fn payload(lengths: &[usize]) -> Payload {
        let frames: Vec<_> = lengths.iter().map(|len| Bytes::from(vec![*len as u8; *len])).collect();
        let frames = Frames::from(frames);
        let shape = Shape::of(&frames).unwrap();
        Payload::of(frames, shape, 5)
    }

    fn written(packed: &Packed, records: &[(usize, &Payload)]) -> (usize, Vec<u8>) {
        let slices = packed.slices(records.iter().copied());
        (slices.len(), slices.iter().flat_map(|slice| slice.to_vec()).collect())
    }

    #[test]
    fn records_are_whole_whatever_their_frames() {
        let shapes: [&[usize]; 6] =
            [&[], &[0], &[100], &[COPIED, 1, COPIED + 1, 7], &[COPIED + 1; 3], &[9; 300]];
        for lengths in shapes {
            let payload = payload(lengths);
            let mut packed = Packed::default();
            let (at, sum) = packed.seal(None, &payload, 7);
            let (_, record) = written(&packed, &[(at, &payload)]);
            assert_eq!(record.len() as u64, payload.shape.length(), "{lengths:?}");
            assert_eq!(record[..HEADER], payload.header(7).to_bytes());
            assert_eq!(sum, checksum(&record, 7), "{lengths:?}");
        }
    }

    #[test]
    fn neighbours_are_one_slice_and_what_died_between_them_is_left_out() {
        let payloads = [payload(&[100]), payload(&[200]), payload(&[300])];
        let mut packed = Packed::default();
        let places: Vec<_> = payloads.iter().map(|payload| packed.add(payload)).collect();
        packed.keep();
        let all: Vec<_> = places.iter().copied().zip(&payloads).collect();
        let (slices, bytes) = written(&packed, &all);
        assert_eq!((slices, bytes.len()), (1, packed.len()));
        let (slices, bytes) = written(&packed, &[all[0], all[2]]);
        assert_eq!(slices, 2);
        assert_eq!(bytes.len() as u64, payloads[0].shape.length() + payloads[2].shape.length());
    }

    #[test]
    fn a_record_that_is_not_kept_is_put_in_again() {
        let (kept, added) = (payload(&[100]), payload(&[200]));
        let mut packed = Packed::default();
        let at = packed.add(&kept);
        packed.keep();
        assert_eq!(packed.seal(Some(at), &kept, 1).0, at);
        let behind = packed.seal(None, &added, 1).0;
        assert_eq!(behind as u64, kept.shape.length());
        packed.drop_added();
        assert_eq!(
            packed.seal(Some(behind), &added, 1).0,
            behind,
            "its place was lost, and it gets a new one"
        );
        packed.clear();
        assert_eq!(packed.seal(Some(at), &kept, 1).0, 0);
        let (_, record) = written(&packed, &[(0, &kept)]);
        assert_eq!(record[..HEADER], kept.header(1).to_bytes());
    }

    #[test]
    fn a_long_frame_is_handed_over_where_it_is() {
        let payload = payload(&[5, COPIED + 1]);
        let mut packed = Packed::default();
        let (at, _) = packed.seal(None, &payload, 0);
        let long = &payload.frames.as_slice()[1];
        let slices = packed.slices([(at, &payload)].into_iter());
        assert!(slices.iter().any(|slice| (slice.as_ptr(), slice.len()) == (long.as_ptr(), long.len())));
    }

    #[test]
    fn a_head_comes_first() {
        let payload = payload(&[100]);
        let mut packed = Packed::behind(16);
        let (at, _) = packed.seal(None, &payload, 0);
        packed.head().fill(3);
        let (slices, bytes) = written(&packed, &[(at, &payload)]);
        assert_eq!((slices, bytes.len() as u64), (1, 16 + payload.shape.length()));
        assert_eq!(bytes[..16], [3; 16]);
    }
}
