//! The form of a value in an object: one record, checked as a whole.
//!
//! A record is a header of 32 bytes, the frames, and, unless there is one frame, a table of their lengths:
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 4 | checksum (CRC-32) of all that follows |
//! | 4 to 8 | number of frames |
//! | 8 to 16 | length of the frames with the gaps between them |
//! | 16 to 24 | weight |
//! | 24 to 32 | the object's number |
//!
//! Numbers are little-endian. Frames of a value of 4 KiB and more start on 64 bytes after the header, so that
//! they are used where they were read; those of a smaller one lie side by side and are moved apart. What RAM
//! keeps of a record is its place, length and checksum, so that nothing in it is believed before it is checked.

use std::ops::Range;

use bytes::Bytes;
use spill_core::{Error, ErrorKind, FRAME_ALIGN, Frames, Pool, PoolBuf, Result};

/// Bytes before the first frame.
pub(crate) const HEADER: usize = 32;

/// Below this many bytes, frames lie side by side.
const TOGETHER_BELOW: u64 = 4096;

/// Bytes of a length in the table.
const ENTRY: usize = 8;

/// What the largest object can hold: 5 TiB on S3, less on some others.
const LONGEST: u64 = 5 << 40;

static ZEROS: [u8; FRAME_ALIGN] = [0; FRAME_ALIGN];

/// The lengths of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    frames: u32,
    body: u64,
}

impl Shape {
    /// # Errors
    /// [`TooLarge`](ErrorKind::TooLarge) for more frames or bytes than a record can say.
    pub(crate) fn of(frames: &Frames) -> Result<Self> {
        let together = frames.byte_len() < TOGETHER_BELOW;
        let body =
            frames.iter().fold(0, |end, frame| start(end, frame.len() as u64, together) + frame.len() as u64);
        let count = frames.as_slice().len();
        let shape = Shape { frames: u32::try_from(count).unwrap_or(u32::MAX), body };
        if shape.frames == u32::MAX || shape.length() > LONGEST {
            return Err(too_large(shape.length().max(count as u64)));
        }
        Ok(shape)
    }

    /// Bytes of the record.
    pub(crate) fn length(self) -> u64 {
        HEADER as u64 + self.body + table(self.frames)
    }
}

fn too_large(size: u64) -> Error {
    let what = "a value for an object store".to_owned();
    ErrorKind::TooLarge { what, size, limit: LONGEST, setting: "the largest object" }.into()
}

/// Where a frame starts when the one before it ends at `end`.
fn start(end: u64, len: u64, together: bool) -> u64 {
    if together || len == 0 { end } else { end.next_multiple_of(FRAME_ALIGN as u64) }
}

fn table(frames: u32) -> u64 {
    if frames == 1 { 0 } else { u64::from(frames) * ENTRY as u64 }
}

/// Appends the record of `frames` to `out`, the frames themselves uncopied, and gives its checksum.
pub(crate) fn encode(frames: &Frames, shape: Shape, object: u64, out: &mut Vec<Bytes>) -> u32 {
    let together = frames.byte_len() < TOGETHER_BELOW;
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&shape.frames.to_le_bytes());
    header[8..16].copy_from_slice(&shape.body.to_le_bytes());
    header[16..24].copy_from_slice(&frames.weight().to_le_bytes());
    header[24..32].copy_from_slice(&object.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[4..]);
    let place = out.len();
    out.push(Bytes::new());
    let mut end = 0;
    for frame in frames.iter().filter(|frame| !frame.is_empty()) {
        let len = frame.len() as u64;
        let gap = (start(end, len, together) - end) as usize;
        if gap > 0 {
            hasher.update(&ZEROS[..gap]);
            out.push(Bytes::from_static(&ZEROS[..gap]));
        }
        hasher.update(frame);
        out.push(frame.clone());
        end += gap as u64 + len;
    }
    if shape.frames != 1 {
        let lengths: Vec<u8> = frames.iter().flat_map(|frame| (frame.len() as u64).to_le_bytes()).collect();
        hasher.update(&lengths);
        out.push(lengths.into());
    }
    let checksum = hasher.finalize();
    header[..4].copy_from_slice(&checksum.to_le_bytes());
    out[place] = Bytes::copy_from_slice(&header);
    checksum
}

/// How a record differs from what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) expected: String,
    pub(crate) found: String,
}

fn damage<T>(expected: String, found: String) -> std::result::Result<T, Damage> {
    Err(Damage { expected, found })
}

/// The value of a record, which must lie in a buffer whose byte [`HEADER`] is aligned.
pub(crate) fn decode(
    record: PoolBuf,
    pool: &Pool,
    object: u64,
    checksum: u32,
) -> std::result::Result<Frames, Damage> {
    let number = |at: usize| {
        record.get(at..at + 8).and_then(|bytes| bytes.first_chunk()).map(|b| u64::from_le_bytes(*b))
    };
    let word = |at: usize| {
        record.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).map(|b| u32::from_le_bytes(*b))
    };
    let (Some(said), Some(count), Some(body), Some(weight), Some(owner)) =
        (word(0), word(4), number(8), number(16), number(24))
    else {
        return damage(format!("a record of at least {HEADER} bytes"), format!("{} bytes", record.len()));
    };
    let found = crc32fast::hash(&record[4..]);
    if found != checksum || said != checksum {
        return damage(
            format!("checksum {checksum:08x}"),
            format!("checksum {found:08x} of bytes that say {said:08x}"),
        );
    }
    let whole = (HEADER as u64).checked_add(body).and_then(|end| end.checked_add(table(count)));
    if owner != object || whole != Some(record.len() as u64) {
        return damage(
            format!("a record of {} bytes in object {object}", record.len()),
            format!("{count} frames of {body} bytes in object {owner}"),
        );
    }
    // it lies in the record, which lies in memory
    let body = HEADER..HEADER + body as usize;
    if count == 1 {
        return Ok(Frames::from(record.freeze().slice(body)).with_weight(weight));
    }
    let Some(ranges) = ranges(&record[body.end..], body.len()) else {
        return damage(
            format!("frames of {} bytes in all", body.len()),
            "other lengths in their table".to_owned(),
        );
    };
    let frames: Frames = if (body.len() as u64) < TOGETHER_BELOW {
        apart(&record[body], &ranges, pool)
    } else {
        let bytes = record.freeze();
        ranges.into_iter().map(|range| bytes.slice(HEADER + range.start..HEADER + range.end)).collect()
    };
    Ok(frames.with_weight(weight))
}

/// Where in the body the frames of this table lie; `None` when they do not fill it.
fn ranges(table: &[u8], body: usize) -> Option<Vec<Range<usize>>> {
    let (entries, _) = table.as_chunks::<ENTRY>();
    let lengths = entries.iter().map(|entry| usize::try_from(u64::from_le_bytes(*entry)).ok());
    let total = lengths.clone().try_fold(0_usize, |sum, len| sum.checked_add(len?))?;
    let together = (total as u64) < TOGETHER_BELOW;
    let mut end = 0;
    let mut ranges = Vec::with_capacity(entries.len());
    for len in lengths.flatten() {
        let begin = start(end as u64, len as u64, together) as usize;
        end = begin.checked_add(len).filter(|end| *end <= body)?;
        ranges.push(begin..end);
    }
    (end == body).then_some(ranges)
}

/// Copies frames that lie side by side to where each starts on 64 bytes.
fn apart(body: &[u8], ranges: &[Range<usize>], pool: &Pool) -> Frames {
    let room = |range: &Range<usize>| range.len().next_multiple_of(FRAME_ALIGN);
    let mut spread = pool.take(ranges.iter().map(room).sum(), 0);
    let mut places = Vec::with_capacity(ranges.len());
    let mut at = 0;
    for range in ranges {
        let place = at..at + range.len();
        spread[place.clone()].copy_from_slice(&body[range.clone()]);
        places.push(place);
        at += room(range);
    }
    let bytes = spread.freeze();
    places.into_iter().map(|place| bytes.slice(place)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(frames: &Frames, object: u64, pool: &Pool) -> (PoolBuf, u32) {
        let shape = Shape::of(frames).unwrap();
        let mut pieces = Vec::new();
        let checksum = encode(frames, shape, object, &mut pieces);
        let bytes: Vec<u8> = pieces.concat();
        assert_eq!(bytes.len() as u64, shape.length());
        let mut buffer = pool.take(bytes.len(), HEADER);
        buffer.copy_from_slice(&bytes);
        (buffer, checksum)
    }

    proptest! {
        #[test]
        fn a_record_gives_its_frames_back(
            lengths in prop::collection::vec(prop_oneof![0..70_usize, 0..9000_usize], 0..6), weight: u64, object: u64,
        ) {
            let pool = Pool::new(0);
            let frames: Frames = lengths.iter().enumerate().map(|(n, len)| Bytes::from(vec![n as u8 + 1; *len])).collect();
            let frames = frames.with_weight(weight);
            let (buffer, checksum) = record(&frames, object, &pool);
            let found = decode(buffer, &pool, object, checksum).unwrap();
            prop_assert_eq!(found.weight(), weight);
            prop_assert_eq!(&found, &frames);
            for frame in found.iter().filter(|frame| !frame.is_empty()) {
                prop_assert_eq!(frame.as_ptr().addr() % FRAME_ALIGN, 0);
            }
        }

        #[test]
        fn a_changed_bit_is_damage(at in 0..100_usize, bit in 0..8_u32) {
            let pool = Pool::new(0);
            let frames: Frames = [10, 42].iter().map(|len| Bytes::from(vec![5; *len])).collect();
            let (mut buffer, checksum) = record(&frames, 7, &pool);
            buffer[at] ^= 1 << bit;
            prop_assert!(decode(buffer, &pool, 7, checksum).is_err());
        }
    }

    /// A right checksum over nonsense, which only a faulty writer makes: damage, not a panic.
    #[test]
    fn numbers_are_not_trusted_even_under_a_right_checksum() {
        let pool = Pool::new(0);
        for count in [0, 1, 2, 3, u32::MAX] {
            for body in [0, 1, 8, 24, 4096, u64::MAX - 31, u64::MAX] {
                for first in [0, 8, 4095, u64::MAX] {
                    let mut bytes = pool.take(HEADER + 24, HEADER);
                    bytes.fill(0);
                    bytes[4..8].copy_from_slice(&u32::to_le_bytes(count));
                    bytes[8..16].copy_from_slice(&u64::to_le_bytes(body));
                    bytes[HEADER + 8..HEADER + 16].copy_from_slice(&u64::to_le_bytes(first));
                    let checksum = crc32fast::hash(&bytes[4..]);
                    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
                    if let Ok(frames) = decode(bytes, &pool, 0, checksum) {
                        assert_eq!(Shape::of(&frames).unwrap().length(), HEADER as u64 + 24);
                    }
                }
            }
        }
    }

    #[test]
    fn a_record_of_another_object_is_damage() {
        let pool = Pool::new(0);
        let (buffer, checksum) = record(&Bytes::from_static(b"value").into(), 7, &pool);
        assert!(decode(buffer, &pool, 8, checksum).unwrap_err().found.contains("object 7"));
    }
}
