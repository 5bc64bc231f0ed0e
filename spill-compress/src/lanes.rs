//! A shuffled block in which each lane is compressed for itself.
//!
//! ```text
//! { length } * lanes  { lane } * lanes
//! ```
//!
//! A length has four bytes, the lowest first. A lane that did not shrink is stored as it is, and its length says so. One
//! in which all bytes are the same has length 0, and that byte once for each 32 KiB begun: so nothing that is stored
//! stands for more than zstd lets it. Blocks of less than 64 KiB are compressed whole.

use spill_core::Result;

use crate::compressor::{Compressor, damaged, expected_len};
use crate::shuffle::{self, Lanes, Width};

/// Blocks shorter than this, in bytes, are compressed whole: what is found from lane to lane, and lengths saved, are worth
/// more in them.
const SHORTEST: usize = 64 << 10;

/// What one byte of a lane of equal bytes stands for.
const RUN: usize = 32 << 10;

/// Bytes of a length.
pub(crate) const LENGTH: usize = size_of::<u32>();

/// Whether a block of `len` bytes is stored lane by lane, where its frame is.
pub(crate) fn are_apart(by_lanes: bool, len: usize) -> bool {
    by_lanes && len >= SHORTEST
}

/// Bytes that the lengths of the lanes take before them.
pub(crate) fn lengths_len(width: Width) -> usize {
    width.bytes() * LENGTH
}

/// Bytes of scratch memory that [`compress`] wants for a block of `len` bytes.
pub(crate) fn scratch_len(compressor: &dyn Compressor, width: Width, len: usize) -> usize {
    shuffle::lane_lens(width, len).map(|lane| compressor.scratch_len(lane)).max().unwrap_or(0)
}

/// Compresses the lanes of a shuffled block, which begin behind the room for their [lengths](lengths_len), in place. How
/// many bytes of `block` are used then; `None` when that would not be fewer than the lanes had.
pub(crate) fn compress(
    compressor: &dyn Compressor,
    width: Width,
    block: &mut [u8],
    scratch: &mut [u8],
) -> Result<Option<usize>> {
    let (lengths, lanes) = block.split_at_mut(lengths_len(width));
    // None takes more than it had, so that what is stored never reaches what is still to be read.
    let (mut begin, mut end) = (0, 0);
    for (length, len) in lengths.as_chunks_mut().0.iter_mut().zip(shuffle::lane_lens(width, lanes.len())) {
        let lane = &lanes[begin..begin + len];
        let (said, stored) = if is_run(lane) {
            let (byte, count) = (lane[0], len.div_ceil(RUN));
            lanes[end..end + count].fill(byte);
            (0, count)
        } else if let Some(smaller) = compressor.compress_checked(lane, scratch)?.filter(|len| *len > 0) {
            lanes[end..end + smaller].copy_from_slice(&scratch[..smaller]);
            (smaller, smaller)
        } else {
            lanes.copy_within(begin..begin + len, end);
            (len, len)
        };
        *length = (said as u32).to_le_bytes();
        begin += len;
        end += stored;
    }
    let used = lengths_len(width) + end;
    Ok((used < lanes.len()).then_some(used))
}

/// Whether `stored` can be a block of `len` bytes, told without decompressing it.
pub(crate) fn check(compressor: &dyn Compressor, width: Width, stored: &[u8], len: usize) -> Result<()> {
    for_each(compressor, width, stored, len, |_, lane, len| match lane {
        Lane::Packed(stored) if compressor.largest_output(stored) < len as u64 => {
            let most = compressor.largest_output(stored);
            Err(damaged(compressor.name(), expected_len(len), format!("a lane of {most} bytes at most")))
        }
        _ => Ok(()),
    })
}

/// Bytes of the buffer that [`decompress`] wants for a block of `len` bytes: lanes that did not shrink need none.
pub(crate) fn buffer_len(
    compressor: &dyn Compressor,
    width: Width,
    stored: &[u8],
    len: usize,
) -> Result<usize> {
    let mut sum = 0;
    for_each(compressor, width, stored, len, |_, lane, len| {
        sum += if matches!(lane, Lane::Plain(_)) { 0 } else { len };
        Ok(())
    })?;
    Ok(sum)
}

/// Decompresses `stored` into all of `output`, by way of a `buffer` of [`buffer_len`].
pub(crate) fn decompress(
    compressor: &dyn Compressor,
    width: Width,
    stored: &[u8],
    buffer: &mut [u8],
    output: &mut [u8],
) -> Result<()> {
    let (mut lanes, mut runs, mut rest) = (Lanes::default(), Lanes::default(), buffer);
    for_each(compressor, width, stored, output.len(), |n, lane, len| {
        let mut own = || {
            let own;
            (own, rest) = std::mem::take(&mut rest).split_at_mut(len);
            own
        };
        lanes[n] = match lane {
            // It is read where it is stored.
            Lane::Plain(bytes) => bytes,
            Lane::Run(byte) => {
                let same = runs.iter().find(|run| run.len() >= len && run.first() == Some(&byte));
                runs[n] = if let Some(same) = same {
                    &same[..len]
                } else {
                    let own = own();
                    own.fill(byte);
                    own
                };
                runs[n]
            }
            Lane::Packed(bytes) => {
                let own = own();
                compressor.decompress(bytes, own)?;
                own
            }
        };
        Ok(())
    })?;
    shuffle::unshuffle(width, &lanes, output);
    Ok(())
}

/// How one lane is stored.
enum Lane<'a> {
    Plain(&'a [u8]),
    Run(u8),
    Packed(&'a [u8]),
}

/// Calls `f` with the number, the stored form and the length of each lane of a block of `len` bytes.
fn for_each<'a>(
    compressor: &dyn Compressor,
    width: Width,
    stored: &'a [u8],
    len: usize,
    mut f: impl FnMut(usize, Lane<'a>, usize) -> Result<()>,
) -> Result<()> {
    let wrong = |found: &str| damaged(compressor.name(), expected_len(len), found);
    let (lengths, mut rest) = stored
        .split_at_checked(lengths_len(width))
        .ok_or_else(|| wrong("fewer bytes than the lengths of its lanes take"))?;
    let lengths = lengths.as_chunks().0.iter().map(|length| u32::from_le_bytes(*length) as usize);
    for (n, (said, len)) in lengths.zip(shuffle::lane_lens(width, len)).enumerate() {
        let count = if said == 0 { len.div_ceil(RUN) } else { said };
        let (lane, others) = rest
            .split_at_checked(count)
            .filter(|_| count <= len)
            .ok_or_else(|| wrong(&format!("a lane that takes {count} of {} bytes", rest.len())))?;
        rest = others;
        let lane = match lane.first() {
            Some(byte) if said == 0 => {
                if !is_run(lane) {
                    return Err(wrong("a lane of equal bytes that are not equal"));
                }
                Lane::Run(*byte)
            }
            _ if count == len => Lane::Plain(lane),
            _ => Lane::Packed(lane),
        };
        f(n, lane, len)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(wrong("bytes behind its last lane")) }
}

/// Whether all bytes are the same.
fn is_run(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes[1..] == bytes[..bytes.len() - 1]
}

#[cfg(feature = "lz4")]
#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;
    use spill_core::ErrorKind;

    use super::*;
    use crate::lz4::Lz4;
    use crate::sample::noise_bytes;

    /// Items of four bytes: one that does not change, one that changes seldom, and two of noise.
    fn numbers(len: usize) -> Vec<u8> {
        noise_bytes()
            .take(len)
            .enumerate()
            .map(|(n, noise)| [7, (n / 4000) as u8, noise, noise][n % 4])
            .collect()
    }

    fn stored(width: Width, block: &[u8]) -> Option<Vec<u8>> {
        let mut made = vec![0; lengths_len(width) + block.len()];
        shuffle::shuffle(width, block, &mut made[lengths_len(width)..]);
        let mut scratch = vec![0; scratch_len(&Lz4, width, block.len())];
        let len = compress(&Lz4, width, &mut made, &mut scratch).unwrap()?;
        made.truncate(len);
        Some(made)
    }

    fn read(width: Width, stored: &[u8], len: usize) -> Result<Vec<u8>> {
        check(&Lz4, width, stored, len)?;
        let mut buffer = vec![0; buffer_len(&Lz4, width, stored, len)?];
        let mut output = vec![0; len];
        decompress(&Lz4, width, stored, &mut buffer, &mut output)?;
        Ok(output)
    }

    fn lengths(width: Width, stored: &[u8]) -> Vec<usize> {
        let bytes = &stored[..lengths_len(width)];
        bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes) as usize).collect()
    }

    #[test]
    fn blocks_of_any_length_and_width_read_back() {
        for width in Width::ALL.into_iter().skip(1) {
            for len in (SHORTEST..SHORTEST + 20).chain([100_001, 1 << 20]) {
                let block = numbers(len);
                // Two bytes wide, each lane holds noise.
                let Some(stored) = stored(width, &block) else { continue };
                assert_eq!(read(width, &stored, len).unwrap(), block, "{width:?}, {len} bytes");
            }
        }
    }

    #[test]
    fn a_lane_of_equal_bytes_takes_a_byte_for_32_kib_and_one_of_noise_itself() {
        let len = 4 * (100 << 10);
        let block = numbers(len);
        let stored = stored(Width::Four, &block).unwrap();
        let found = lengths(Width::Four, &stored);
        assert_eq!((found[0], found[2]), (0, len / 4));
        assert!((10..1000).contains(&found[1]), "{found:?}");
        assert_eq!(stored[4 * LENGTH..][..4], [7; 4], "100 KiB of sevens");
        assert_eq!(stored.len(), 4 * LENGTH + 4 + found[1] + found[2] + found[3]);
    }

    #[test]
    fn a_block_in_which_no_lane_shrinks_is_none() {
        let block: Vec<u8> = noise_bytes().take(200_000).collect();
        for width in Width::ALL.into_iter().skip(1) {
            assert_eq!(stored(width, &block), None, "{width:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_block_is_refused() {
        let len = 4 * (100 << 10);
        let good = stored(Width::Four, &numbers(len)).unwrap();
        let refused = |stored: &[u8], len: usize| {
            let error = check(&Lz4, Width::Four, stored, len).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
        };
        for cut in (0..100).chain([good.len() - 1]) {
            refused(&good[..cut], len);
        }
        refused(&[&good[..], &[0]].concat(), len);
        // A run that is none, one that stands for more than it may, a lane longer than it can be, and one that lz4 cannot
        // make so long.
        let mut changed = good.clone();
        changed[4 * LENGTH + 1] ^= 1;
        refused(&changed, len);
        refused(&good, len + 4 * (32 << 10));
        let mut changed = good.clone();
        changed[3] = 0x80;
        refused(&changed, len);
        let second = lengths(Width::Four, &good)[1];
        refused(&good, 4 * (255 * second + 1));
    }

    #[test]
    fn four_lanes_of_runs_stand_for_no_more_than_32_kib_a_byte() {
        let runs = [&[0; 4 * LENGTH][..], &[7; 4]].concat();
        let most = 4 * RUN;
        assert_eq!(read(Width::Four, &runs, most).unwrap(), vec![7; most]);
        check(&Lz4, Width::Four, &runs, most + 4).unwrap_err();
        check(&Lz4, Width::Four, &runs, usize::MAX).unwrap_err();
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn damaged_blocks_give_as_many_bytes_or_a_typed_error(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            in_lengths in any::<bool>(),
            width in 1_usize..5,
        ) {
            let width = Width::ALL[width];
            let len = 70_000;
            let block: Vec<u8> =
                noise_bytes().take(len).enumerate().map(|(n, noise)| if n % 16 == 0 { noise } else { (n / 5000) as u8 }).collect();
            let mut stored = stored(width, &block).unwrap();
            for (at, byte) in damage {
                let most = if in_lengths { lengths_len(width) + 4 } else { stored.len() };
                let at = at.index(most.min(stored.len()));
                stored[at] ^= byte;
            }
            match read(width, &stored, len) {
                Ok(read) => prop_assert_eq!(read.len(), len),
                Err(error) => prop_assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{}", error),
            }
        }
    }
}
