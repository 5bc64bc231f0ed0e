//! The small frame in front of every stored value that says how each of its frames was stored.
//!
//! ```text
//! 'z'  version  count  { compressor  [layout  length] } * count
//! ```
//!
//! `count` and `length` (bytes before compression) are unsigned LEB128, the others one byte each. Of a frame stored
//! as it is, compressor 0, there is no more to say. Otherwise the layout is `9 * (block - 12) + way`: 2 to the `block` is the
//! length of its blocks, up to 2 GiB; 2 to the `way`, up to 4, is the width that the frame was shuffled by; and beyond 4,
//! 2 to the `way - 4`, with each lane compressed for itself ([`lanes`](crate::lanes)). Each block is a stored frame of its own. The header ends with the last entry: a byte more or less is an error,
//! and so is a number of stored frames other than that of all blocks. The header of one frame takes four bytes, or
//! six and one for each seven bits of its length beyond seven.

use bytes::Bytes;
use spill_core::{Error, ErrorKind, Result};

use crate::compressor::NONE;
use crate::shuffle::Width;

const MAGIC: u8 = b'z';
const VERSION: u8 = 4;

/// The header of a value of one frame that was stored as it is.
const PLAIN: [u8; 4] = [MAGIC, VERSION, 1, NONE];

/// Blocks shorter than this would be more bookkeeping than data, and let a header claim millions of them.
const SHORTEST_BLOCK: u8 = 12;
const LONGEST_BLOCK: u8 = 31;

/// Ways to lay out a block: each width, and each but the narrowest by lanes.
const WAYS: u8 = 2 * Width::ALL.len() as u8 - 1;

/// How one frame was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// As it is.
    Plain,
    /// Made smaller.
    Packed {
        /// How.
        how: Packed,
        /// Its length in bytes before that.
        len: u64,
    },
}

/// How the blocks of one frame were made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    /// Who compressed them; never [`NONE`].
    pub(crate) compressor: u8,
    /// What each was shuffled by before.
    pub(crate) width: Width,
    /// Whether each lane of a block was compressed for itself; never where the width is one.
    pub(crate) by_lanes: bool,
    /// The length of a block in bytes, but the last, as a power of two.
    pub(crate) block: u8,
}

impl Entry {
    /// How many stored frames hold it: one for each block.
    pub(crate) fn blocks(&self) -> u64 {
        match self {
            Entry::Plain => 1,
            Entry::Packed { how, len } => len.div_ceil(how.block_len()),
        }
    }
}

impl Packed {
    /// The length of a block in bytes, but the last.
    pub(crate) fn block_len(&self) -> u64 {
        1 << self.block
    }

    /// The power of two of a block of `len` bytes, brought to what a header can say.
    pub(crate) fn block_of(len: usize) -> u8 {
        (len.max(1).ilog2() as u8).clamp(SHORTEST_BLOCK, LONGEST_BLOCK)
    }

    fn layout(self) -> u8 {
        let lanes = if self.by_lanes { Width::ALL.len() as u8 - 1 } else { 0 };
        WAYS * (self.block - SHORTEST_BLOCK) + self.width.power() + lanes
    }

    fn of(compressor: u8, layout: u8) -> Option<Self> {
        let (block, way) = (SHORTEST_BLOCK + layout / WAYS, layout % WAYS);
        let (width, by_lanes) = match Width::from_power(way) {
            Some(width) => (width, false),
            None => (Width::from_power(way - (Width::ALL.len() as u8 - 1))?, true),
        };
        (block <= LONGEST_BLOCK).then_some(Packed { compressor, width, by_lanes, block })
    }
}

/// The header of a value whose frames were stored as `entries` say.
pub(crate) fn write(entries: &[Entry]) -> Bytes {
    if let [Entry::Plain] = entries {
        return Bytes::from_static(&PLAIN);
    }
    let mut header = Vec::with_capacity(4 + 7 * entries.len());
    header.extend([MAGIC, VERSION]);
    write_number(&mut header, entries.len() as u64);
    for entry in entries {
        match entry {
            Entry::Plain => header.push(NONE),
            Entry::Packed { how, len } => {
                header.extend([how.compressor, how.layout()]);
                write_number(&mut header, *len);
            }
        }
    }
    header.into()
}

/// Whether `header` says that the `frames` stored frames behind it were all stored as they are. Takes no memory.
/// What is not so may be anything else that [`read`] accepts, or damage that it explains.
pub(crate) fn says_plain(header: &[u8], frames: usize) -> bool {
    if frames == 1 {
        return header == PLAIN;
    }
    let Some(mut rest) = header.strip_prefix(&[MAGIC, VERSION]) else { return false };
    take_number(&mut rest).is_ok_and(|count| count == frames as u64)
        && rest.len() == frames
        && rest.iter().all(|compressor| *compressor == NONE)
}

/// The entries of `header`, which `frames` stored frames follow.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) for anything that [`write`] does not write.
pub(crate) fn read(header: &[u8], frames: usize) -> Result<Vec<Entry>> {
    let mut rest = header;
    let start = [take_byte(&mut rest)?, take_byte(&mut rest)?];
    if start != [MAGIC, VERSION] {
        return Err(corrupt(format!("a start of {:?}", [MAGIC, VERSION]), format!("{start:?}")));
    }
    let count = take_number(&mut rest)?;
    // Each entry takes a byte at least, so a count beyond that is no reason to take memory.
    let mut entries = Vec::with_capacity(header.len().min(usize::try_from(count).unwrap_or(usize::MAX)));
    let mut blocks: u64 = 0;
    for _ in 0..count {
        let entry = read_entry(&mut rest)?;
        blocks = blocks.saturating_add(entry.blocks());
        entries.push(entry);
    }
    if !rest.is_empty() {
        return Err(corrupt("nothing after the last entry", format!("{} bytes", rest.len())));
    }
    if blocks != frames as u64 {
        return Err(corrupt(format!("{blocks} frames, as it says"), format!("{frames} frames")));
    }
    Ok(entries)
}

fn read_entry(rest: &mut &[u8]) -> Result<Entry> {
    let compressor = take_byte(rest)?;
    if compressor == NONE {
        return Ok(Entry::Plain);
    }
    let layout = take_byte(rest)?;
    let how = Packed::of(compressor, layout)
        .ok_or_else(|| corrupt("a layout of frames", format!("{layout:#04x}")))?;
    let len = take_number(rest)?;
    if len == 0 {
        return Err(corrupt("an empty frame stored as it is", "an empty frame compressed"));
    }
    Ok(Entry::Packed { how, len })
}

fn write_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn take_byte(rest: &mut &[u8]) -> Result<u8> {
    let (first, others) = rest.split_first().ok_or_else(|| corrupt("another byte", "its end"))?;
    *rest = others;
    Ok(*first)
}

/// Refuses numbers beyond 64 bits and those written longer than needed.
fn take_number(rest: &mut &[u8]) -> Result<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = take_byte(rest)?;
        let bits = u64::from(byte & 0x7F);
        if bits.leading_zeros() < shift {
            break;
        }
        number |= bits << shift;
        if byte < 0x80 {
            if byte == 0 && shift > 0 {
                break;
            }
            return Ok(number);
        }
    }
    Err(corrupt("a number of up to 64 bits in its shortest form", "another"))
}

/// The error for a stored value whose header is not one.
pub(crate) fn corrupt(expected: impl Into<String>, found: impl Into<String>) -> Error {
    let location = "compression header".to_owned();
    ErrorKind::Corrupt { location, expected: expected.into(), found: found.into() }.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    fn packed(compressor: u8, width: Width, block: u8, len: u64) -> Entry {
        Entry::Packed { how: Packed { compressor, width, by_lanes: false, block }, len }
    }

    fn by_lanes(width: Width, block: u8, len: u64) -> Entry {
        Entry::Packed { how: Packed { compressor: 1, width, by_lanes: true, block }, len }
    }

    #[test]
    fn the_format_is_what_the_module_says() {
        assert_eq!(write(&[]), [b'z', 4, 0].as_slice());
        assert_eq!(write(&[Entry::Plain]), [b'z', 4, 1, 0].as_slice());
        assert_eq!(write(&[Entry::Plain; 2]), [b'z', 4, 2, 0, 0].as_slice());
        assert_eq!(
            write(&[Entry::Plain, packed(1, Width::Eight, 19, 300)]),
            [b'z', 4, 2, 0, 1, 7 * 9 + 3, 0xAC, 2].as_slice()
        );
        assert_eq!(write(&[by_lanes(Width::Two, 12, 1)]), [b'z', 4, 1, 1, 5, 1].as_slice());
        assert_eq!(write(&[by_lanes(Width::Sixteen, 31, 1)]), [b'z', 4, 1, 1, 19 * 9 + 8, 1].as_slice());
    }

    #[test]
    fn one_frame_takes_at_most_16_bytes() {
        assert_eq!(write(&[packed(1, Width::One, 19, 16 << 30)]).len(), 10);
        assert_eq!(write(&[packed(1, Width::One, 19, u64::MAX)]).len(), 15);
    }

    #[test]
    fn a_frame_has_as_many_blocks_as_it_fills() {
        assert_eq!(Entry::Plain.blocks(), 1);
        for (len, blocks) in [(1, 1), (4096, 1), (4097, 2), (u64::MAX, 1 << 52)] {
            assert_eq!(packed(1, Width::One, 12, len).blocks(), blocks, "{len} bytes");
        }
    }

    #[test]
    fn numbers_beyond_64_bits_or_in_a_longer_form_are_refused() {
        let max = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1];
        assert_eq!(take_number(&mut max.as_slice()).unwrap(), u64::MAX);
        for bad in [
            [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2].as_slice(),
            &[0x80; 11],
            &[0x80, 0],
            &[0x85, 0x80, 0],
            &[0x80],
            &[],
        ] {
            take_number(&mut &*bad).unwrap_err();
        }
    }

    #[test]
    fn a_wrong_start_count_layout_or_end_is_refused() {
        let good = write(&[packed(1, Width::Two, 12, 5000), Entry::Plain]);
        read(&good, 3).unwrap();
        read(&good, 2).unwrap_err();
        read(&good, 4).unwrap_err();
        for cut in 0..good.len() {
            read(&good[..cut], 3).unwrap_err();
        }
        read(&[&good[..], &[0]].concat(), 3).unwrap_err();
        read(&[b'z', 3, 0], 0).unwrap_err();
        read(&[b'y', 4, 0], 0).unwrap_err();
        for (layout, len) in [(20 * 9, 9), (255, 9), (0, 0)] {
            read(&[b'z', 4, 1, 1, layout, len], 1).unwrap_err();
        }
    }

    #[test]
    fn only_the_header_of_so_many_plain_frames_says_so() {
        for count in [0, 1, 2, 127, 128, 1000] {
            let header = write(&vec![Entry::Plain; count]);
            assert!(says_plain(&header, count));
            assert!(!says_plain(&header, count + 1));
            assert!((0..header.len()).all(|cut| !says_plain(&header[..cut], count)), "{count} frames");
            assert!(!says_plain(&[&header[..], &[0]].concat(), count));
        }
        assert!(!says_plain(&write(&[Entry::Plain, packed(1, Width::One, 19, 7)]), 2));
        assert!(!says_plain(&[b'z', 3, 1, 0], 1));
    }

    #[test]
    fn a_count_of_billions_is_refused_without_taking_memory_for_it() {
        let header =
            [&[b'z', 4][..], &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1], &[0, 1]].concat();
        read(&header, 1).unwrap_err();
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn every_header_reads_back(
            list in prop::collection::vec((any::<u8>(), 0_usize..9, 12_u8..32, 1_u64..1 << 40), 0..20),
        ) {
            let entries: Vec<_> = list
                .into_iter()
                .map(|(id, width, block, len)| match id {
                    NONE => Entry::Plain,
                    id if width < 5 => packed(id, Width::ALL[width], block, len),
                    _ => by_lanes(Width::ALL[width - 4], block, len),
                })
                .collect();
            let (header, blocks) = (write(&entries), entries.iter().map(Entry::blocks).sum::<u64>() as usize);
            prop_assert_eq!(says_plain(&header, blocks), entries.iter().all(|entry| *entry == Entry::Plain));
            prop_assert_eq!(read(&header, blocks).unwrap(), entries);
        }

        #[test]
        fn what_reads_is_what_was_written(bytes in prop::collection::vec(any::<u8>(), 0..30), frames in 0_usize..5) {
            let started = [&[MAGIC, VERSION], &bytes[..]].concat();
            for header in [bytes, started] {
                if let Ok(entries) = read(&header, frames) {
                    prop_assert_eq!(write(&entries), header);
                }
            }
        }
    }
}
