//! What a segment file holds.
//!
//! A segment is a sequence of *records*, one for each value, each beginning on a multiple of 8 bytes. All
//! numbers are little-endian. A record is
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | checksum: CRC-32 (the polynomial of zlib) of all from byte 8 on, padding included, XOR the segment times 0x9e3779b1 |
//! | 4..8 | segment: the number of the segment this record belongs to |
//! | 8..12 | tag: a hash of the key, by which the process that wrote the record finds its entry again |
//! | 12..16 | the number of frames |
//! | 16..24 | the length of the body in bytes |
//! | 24..32 | the weight that the value had in memory, in bytes |
//! | 32.. | the body |
//! | then | unless there is exactly one frame: the length of each frame, 8 bytes each |
//! | then | zeros up to the next multiple of 8 |
//!
//! The body holds the frames in order. In a body below 4096 bytes they are *packed*, one right after another.
//! In a longer one each frame that is not empty begins on a multiple of 64 bytes from the start of the body,
//! with zeros between; one read into memory whose byte 32 is aligned then aligns every frame.
//!
//! A file's name counts the files that were made, and tells nothing of its segments. Once nothing in a segment
//! lives, its file may be overwritten by another segment, with a number that no segment had before; what follows the last record of
//! the new segment is then left from the old one. A range whose write failed may hold anything, and other
//! writers' records may follow it. So a tool that looks for all records walks from the start of the file,
//! takes a record only if its checksum is right and its segment is that of the first record, goes on after it,
//! and where it finds none tries 8 bytes further. Which records live is known only to the process that wrote
//! them.

use bytes::Bytes;
use spill_core::{ErrorKind, FRAME_ALIGN, Frames, Pool, PoolBuf, Result, fetch_ahead};

use super::sum::{Sum, mark};

/// Bytes of a record before its body.
pub(crate) const HEADER: usize = 32;

/// Records begin and end on multiples of this many bytes.
pub(crate) const UNIT: u64 = 8;

/// Bodies below this many bytes are packed.
const PACKED_BELOW: u64 = 4096;

/// Bytes of one entry of the table of frame lengths.
const TABLE_ENTRY: u64 = 8;

/// The longest record, in bytes: its length is kept in 32 bits.
pub(super) const LONGEST: u64 = u32::MAX as u64 * UNIT;

/// The fixed part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) checksum: u32,
    pub(crate) tag: u32,
    pub(crate) segment: u32,
    pub(crate) frames: u32,
    pub(crate) body: u64,
    pub(crate) weight: u64,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.segment.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.tag.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.frames.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.body.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.weight.to_le_bytes());
        bytes
    }

    /// `None` when there are not enough bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (bytes, _) = bytes.split_first_chunk::<HEADER>()?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        Some(Header {
            checksum: u32_at(0),
            segment: u32_at(4),
            tag: u32_at(8),
            frames: u32_at(12),
            body: u64_at(16),
            weight: u64_at(24),
        })
    }

    /// What it says that the record's length is, in bytes. `None` when no record is that long.
    pub(crate) fn length(self) -> Option<u64> {
        let length = record_length(self.body, u64::from(self.frames)).checked_next_multiple_of(UNIT)?;
        (length <= LONGEST).then_some(length)
    }
}

/// Makes a sound record one of another segment. Returns its new checksum.
pub(super) fn reseal(record: &mut [u8], segment: u32) -> Option<u32> {
    let header = Header::from_bytes(record)?;
    let checksum = header.checksum ^ mark(header.segment) ^ mark(segment);
    record[..HEADER].copy_from_slice(&Header { checksum, segment, ..header }.to_bytes());
    Some(checksum)
}

/// The checksum of a whole record of this segment.
pub(crate) fn checksum(record: &[u8], segment: u32) -> u32 {
    Sum::of(record).checksum(segment)
}

/// A part of what is behind the header of a record.
pub(super) enum Part<'s, 'b> {
    /// A frame.
    Frame(&'s Bytes),
    /// Zeros, or the length of a frame.
    Between(&'b [u8]),
}

/// What goes into a record, whichever segment it will be of.
pub(crate) struct Payload {
    pub(crate) frames: Frames,
    pub(crate) shape: Shape,
    /// The hash of the key.
    pub(crate) tag: u32,
    /// That of the record in segment 0.
    checksum: u32,
}

impl Payload {
    /// Reads all of the frames. `shape` is theirs.
    pub(crate) fn of(frames: Frames, shape: Shape, tag: u32) -> Self {
        let mut payload = Payload { frames, shape, tag, checksum: 0 };
        let mut sum = Sum::of(&payload.header(0).to_bytes());
        payload.for_each_part(|part| match part {
            Part::Frame(frame) => {
                fetch_ahead(&**frame);
                sum.add(frame);
            }
            Part::Between(bytes) => sum.add(bytes),
        });
        payload.checksum = sum.checksum(0);
        payload
    }

    /// What is behind the header, in order.
    pub(super) fn for_each_part<'s>(&'s self, mut f: impl FnMut(Part<'s, '_>)) {
        const ZEROS: [u8; FRAME_ALIGN] = [0; FRAME_ALIGN];
        let mut end = 0;
        for frame in &self.frames {
            let at = start(end, frame.len() as u64, self.shape.is_packed());
            f(Part::Between(&ZEROS[..(at - end) as usize]));
            f(Part::Frame(frame));
            end = at + frame.len() as u64;
        }
        if self.shape.has_table() {
            self.frames.iter().for_each(|frame| f(Part::Between(&(frame.len() as u64).to_le_bytes())));
        }
        f(Part::Between(&ZEROS[..self.shape.padding()]));
    }

    /// The header of its record in this segment.
    pub(crate) fn header(&self, segment: u32) -> Header {
        let Shape { frames, body, .. } = self.shape;
        let checksum = self.checksum ^ mark(segment);
        Header { checksum, segment, tag: self.tag, frames, body, weight: self.frames.weight() }
    }
}

/// How the frames of one value lie in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The number of frames.
    pub(crate) frames: u32,
    /// Bytes of the body.
    pub(crate) body: u64,
    /// The record's length in units of 8 bytes, header, table and padding included.
    pub(crate) units: u32,
}

impl Shape {
    /// # Errors
    /// `TooLarge` when the record would be longer than its length can say.
    pub(crate) fn of(frames: &Frames) -> Result<Shape> {
        let list = frames.as_slice();
        let packed = list.iter().fold(0, |sum: u64, frame| sum.saturating_add(frame.len() as u64));
        let body = if list.len() == 1 || packed < PACKED_BELOW {
            packed
        } else {
            list.iter().fold(0, |end, frame| {
                start(end, frame.len() as u64, false).saturating_add(frame.len() as u64)
            })
        };
        let length = record_length(body, list.len() as u64);
        match (u32::try_from(list.len()), u32::try_from(length.div_ceil(UNIT))) {
            (Ok(count), Ok(units)) => Ok(Shape { frames: count, body, units }),
            _ => Err(ErrorKind::TooLarge {
                what: format!("a record of {} frames", list.len()),
                size: length,
                limit: LONGEST,
                setting: "the segment format",
            }
            .into()),
        }
    }

    /// The record's length in bytes.
    pub(crate) fn length(self) -> u64 {
        u64::from(self.units) * UNIT
    }

    /// Whether the frames lie one right after another.
    fn is_packed(self) -> bool {
        self.body < PACKED_BELOW
    }

    /// Whether a table of frame lengths follows the body.
    fn has_table(self) -> bool {
        self.frames != 1
    }

    /// Zeros at the end of the record.
    fn padding(self) -> usize {
        let used = HEADER as u64 + self.body + table_length(u64::from(self.frames));
        (self.length() - used) as usize
    }
}

/// Where a frame of `len` bytes begins when the one before it ends at `end`.
fn start(end: u64, len: u64, packed: bool) -> u64 {
    if packed || len == 0 {
        end
    } else {
        end.checked_next_multiple_of(FRAME_ALIGN as u64).unwrap_or(u64::MAX)
    }
}

fn table_length(frames: u64) -> u64 {
    if frames == 1 { 0 } else { frames.saturating_mul(TABLE_ENTRY) }
}

/// Without the padding.
fn record_length(body: u64, frames: u64) -> u64 {
    (HEADER as u64).saturating_add(body).saturating_add(table_length(frames))
}

/// What RAM knows of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) segment: u32,
    pub(crate) tag: u32,
    pub(crate) checksum: u32,
}

/// How a record differs from what was written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

fn damage<T>(
    expected: impl std::fmt::Display,
    found: impl std::fmt::Display,
) -> std::result::Result<T, Damage> {
    Err(Damage { expected: expected.to_string(), found: found.to_string() })
}

/// The value of a record, whose length RAM knew, and of whose bytes `sum` is. The record must lie in a buffer whose byte
/// [`HEADER`] is aligned. Nothing in it is believed before the checksum is that of RAM, and no sum is trusted after.
pub(crate) fn decode(
    record: PoolBuf,
    sum: Sum,
    pool: &Pool,
    wanted: Identity,
) -> std::result::Result<Frames, Damage> {
    let Some(header) = Header::from_bytes(&record) else {
        return damage(
            format_args!("a record of at least {HEADER} bytes"),
            format_args!("{} bytes", record.len()),
        );
    };
    let checksum = sum.checksum(header.segment);
    if checksum != wanted.checksum || header.checksum != wanted.checksum {
        return damage(
            format_args!("checksum {:08x}", wanted.checksum),
            format_args!("checksum {checksum:08x} of bytes that say {:08x}", header.checksum),
        );
    }
    if (header.segment, header.tag) != (wanted.segment, wanted.tag) {
        return damage(
            format_args!("segment {} tag {:08x}", wanted.segment, wanted.tag),
            format_args!("segment {} tag {:08x}", header.segment, header.tag),
        );
    }
    let length = record_length(header.body, u64::from(header.frames));
    if length.checked_next_multiple_of(UNIT) != Some(record.len() as u64) {
        return damage(
            format_args!("a record of {} bytes", record.len()),
            format_args!("{} frames in a body of {} bytes", header.frames, header.body),
        );
    }
    // It fits in the record, which fits in memory.
    let body = HEADER..HEADER + header.body as usize;
    let frames = if header.frames == 1 {
        Frames::from(record.freeze().slice(body))
    } else {
        let table = &record[body.end..body.end + header.frames as usize * TABLE_ENTRY as usize];
        let Some(ranges) = ranges(table, header.body) else {
            return damage(
                format_args!("frames of {} bytes in all", header.body),
                "other lengths in their table",
            );
        };
        if header.body < PACKED_BELOW {
            spread(&record[body], &ranges, pool)
        } else {
            let bytes = record.freeze();
            ranges.into_iter().map(|range| bytes.slice(HEADER + range.start..HEADER + range.end)).collect()
        }
    };
    Ok(frames.with_weight(header.weight))
}

/// Where in the body the frames of this table lie. `None` when they do not fill the body exactly.
fn ranges(table: &[u8], body: u64) -> Option<Vec<std::ops::Range<usize>>> {
    let (entries, _) = table.as_chunks::<{ TABLE_ENTRY as usize }>();
    let mut end = 0_u64;
    let mut ranges = Vec::with_capacity(entries.len());
    for entry in entries {
        let len = u64::from_le_bytes(*entry);
        let start = start(end, len, body < PACKED_BELOW);
        end = start.checked_add(len).filter(|end| *end <= body)?;
        ranges.push(start as usize..end as usize);
    }
    (end == body).then_some(ranges)
}

/// Moves packed frames apart, so that each begins on 64 bytes.
fn spread(body: &[u8], ranges: &[std::ops::Range<usize>], pool: &Pool) -> Frames {
    let room: usize = ranges.iter().map(|range| range.len().next_multiple_of(FRAME_ALIGN)).sum();
    let mut apart = pool.take(room, 0);
    let mut at = 0;
    for range in ranges {
        apart[at..at + range.len()].copy_from_slice(&body[range.clone()]);
        at += range.len().next_multiple_of(FRAME_ALIGN);
    }
    let bytes = apart.freeze();
    let mut at = 0;
    ranges
        .iter()
        .map(|range| {
            let frame = bytes.slice(at..at + range.len());
            at += range.len().next_multiple_of(FRAME_ALIGN);
            frame
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(lengths: &[usize]) -> Shape {
        Shape::of(&lengths.iter().map(|len| Bytes::from(vec![7; *len])).collect()).unwrap()
    }

    #[test]
    fn a_record_of_another_segment_has_the_checksum_it_would_have_had_there() {
        let mut record = vec![7; HEADER + 8];
        let header = Header { checksum: 0, tag: 1, segment: 3, frames: 1, body: 8, weight: 9 };
        record[..HEADER].copy_from_slice(&header.to_bytes());
        let sound = checksum(&record, 3);
        record[..4].copy_from_slice(&sound.to_le_bytes());
        for segment in [4, 0, u32::MAX, 3] {
            let told = reseal(&mut record, segment).unwrap();
            let found = Header::from_bytes(&record).unwrap();
            assert_eq!((found.checksum, found.segment), (told, segment));
            assert_eq!(told, checksum(&record, segment));
            assert_eq!((found.tag, found.frames, found.body, found.weight), (1, 1, 8, 9));
        }
        assert_eq!(reseal(&mut record[..HEADER - 1], 5), None);
    }

    #[test]
    fn a_header_survives_its_bytes() {
        let header = Header { checksum: 1, tag: 2, segment: 3, frames: 4, body: 5 << 33, weight: u64::MAX };
        assert_eq!(Header::from_bytes(&header.to_bytes()), Some(header));
        assert_eq!(Header::from_bytes(&header.to_bytes()[..31]), None);
    }

    #[test]
    fn shapes_follow_the_format() {
        assert_eq!(shape(&[]), Shape { frames: 0, body: 0, units: 4 });
        assert_eq!(shape(&[0]), Shape { frames: 1, body: 0, units: 4 });
        assert_eq!(shape(&[1]), Shape { frames: 1, body: 1, units: 5 });
        assert_eq!(shape(&[4095]), Shape { frames: 1, body: 4095, units: 516 });
        assert_eq!(shape(&[1, 2]), Shape { frames: 2, body: 3, units: 7 });
        assert_eq!(shape(&[1, 4094]), Shape { frames: 2, body: 4095, units: (32 + 4095 + 16 + 1) / 8 });
        // 4096 packed, so each frame on its own 64 bytes; the empty one needs no place.
        assert_eq!(
            shape(&[1, 0, 4095]),
            Shape { frames: 3, body: 64 + 4095, units: (32 + 4159 + 24 + 1) / 8 }
        );
        assert_eq!(shape(&[4096]).padding(), 0);
        assert_eq!(shape(&[1]).padding(), 7);
    }

    #[test]
    fn frames_that_together_pass_the_longest_record_are_refused() {
        let big = Bytes::from(vec![0; 1 << 20]);
        let frames: Frames = std::iter::repeat_n(big, (LONGEST >> 20) as usize + 1).collect();
        assert!(matches!(Shape::of(&frames).unwrap_err().kind(), ErrorKind::TooLarge { limit: LONGEST, .. }));
    }

    /// A record whose checksum is right and whose numbers are nonsense: damage, not a panic.
    #[test]
    fn numbers_are_not_trusted_even_under_a_right_checksum() {
        let pool = Pool::new(0);
        let nonsense = [0, 1, 7, 8, 24, 4095, 4096, u64::from(u32::MAX), u64::MAX - 7, u64::MAX];
        for frames in [0, 1, 2, 3, u32::MAX] {
            for body in nonsense {
                for first in nonsense {
                    let mut record = pool.take(HEADER + 24, HEADER);
                    let header = Header { checksum: 0, tag: 1, segment: 2, frames, body, weight: 3 };
                    record[..HEADER].copy_from_slice(&header.to_bytes());
                    record[HEADER..].fill(0);
                    record[HEADER + 8..HEADER + 16].copy_from_slice(&first.to_le_bytes());
                    let checksum = checksum(&record, 2);
                    record[..4].copy_from_slice(&checksum.to_le_bytes());
                    let identity = Identity { segment: 2, tag: 1, checksum };
                    let sum = Sum::of(&record);
                    if let Ok(found) = decode(record, sum, &pool, identity) {
                        assert_eq!(Shape::of(&found).unwrap().length(), HEADER as u64 + 24);
                        assert_eq!(found.weight(), 3);
                    }
                }
            }
        }
    }

    #[test]
    fn a_record_of_another_key_is_damage() {
        let pool = Pool::new(0);
        let mut record = pool.take(HEADER, HEADER);
        let header = Header { checksum: 0, tag: 1, segment: 2, frames: 1, body: 0, weight: 0 };
        record.copy_from_slice(&header.to_bytes());
        let checksum = checksum(&record, 2);
        record[..4].copy_from_slice(&checksum.to_le_bytes());
        let sum = Sum::of(&record);
        let found = decode(record, sum, &pool, Identity { segment: 2, tag: 2, checksum }).unwrap_err();
        assert_eq!(found.found, "segment 2 tag 00000001");
    }
}
