//! The small frame in front of every stored value that says how each of its frames was stored.
//!
//! ```text
//! 'z'  version  count  { compressor  length } * count
//! ```
//!
//! `count` and `length` (bytes before compression) are unsigned LEB128, the others one byte each. The header
//! ends with the last length: a byte more or less, or a count other than the number of frames that follow, is
//! an error. A value of one frame takes five bytes, plus one for each seven bits of its length beyond seven.

use bytes::Bytes;
use spill_core::{Error, ErrorKind, Result};

const MAGIC: u8 = b'z';
const VERSION: u8 = 1;

/// How one frame was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Who compressed it.
    pub(crate) compressor: u8,
    /// Its length in bytes before that.
    pub(crate) len: u64,
}

/// The header of a value whose frames were stored as `entries` say.
pub(crate) fn write(entries: &[Entry]) -> Bytes {
    let mut header = Vec::with_capacity(4 + 6 * entries.len());
    header.extend([MAGIC, VERSION]);
    write_number(&mut header, entries.len() as u64);
    for entry in entries {
        header.push(entry.compressor);
        write_number(&mut header, entry.len);
    }
    header.into()
}

/// The entries of `header`, one for each of the `frames` frames that follow it.
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
    if count != frames as u64 {
        return Err(corrupt(format!("{count} frames, as it says"), format!("{frames} frames")));
    }
    let entries = (0..frames)
        .map(|_| Ok(Entry { compressor: take_byte(&mut rest)?, len: take_number(&mut rest)? }))
        .collect::<Result<_>>()?;
    if !rest.is_empty() {
        return Err(corrupt("nothing after the last length", format!("{} bytes", rest.len())));
    }
    Ok(entries)
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

    fn entry(compressor: u8, len: u64) -> Entry {
        Entry { compressor, len }
    }

    #[test]
    fn the_format_is_what_the_module_says() {
        assert_eq!(write(&[]), [b'z', 1, 0].as_slice());
        assert_eq!(write(&[entry(2, 5)]), [b'z', 1, 1, 2, 5].as_slice());
        assert_eq!(write(&[entry(0, 0), entry(1, 300)]), [b'z', 1, 2, 0, 0, 1, 0xAC, 2].as_slice());
    }

    #[test]
    fn one_frame_takes_at_most_16_bytes() {
        assert_eq!(write(&[entry(1, 16 << 30)]).len(), 9);
        assert_eq!(write(&[entry(1, u64::MAX)]).len(), 14);
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
    fn a_wrong_start_count_or_end_is_refused() {
        let good = write(&[entry(1, 300), entry(0, 7)]);
        read(&good, 2).unwrap();
        read(&good, 1).unwrap_err();
        read(&good, 3).unwrap_err();
        for cut in 0..good.len() {
            read(&good[..cut], 2).unwrap_err();
        }
        read(&[&good[..], &[0]].concat(), 2).unwrap_err();
        read(&[b'z', 2, 0], 0).unwrap_err();
        read(&[b'y', 1, 0], 0).unwrap_err();
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn every_header_reads_back(list in prop::collection::vec(any::<(u8, u64)>(), 0..20)) {
            let entries: Vec<_> = list.into_iter().map(|(id, len)| entry(id, len)).collect();
            prop_assert_eq!(read(&write(&entries), entries.len()).unwrap(), entries);
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
