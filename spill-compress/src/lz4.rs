//! lz4, block format: fast both ways.

use lz4::block::{self, CompressionMode};
use spill_core::{Error, Result};

use crate::compressor::{Compressor, LZ4, damaged, expected_len};

/// The longest input that lz4's block format allows (`LZ4_MAX_INPUT_SIZE` of the reference implementation).
const LONGEST: usize = 0x7E00_0000;

/// The shortest input in which a block may hold a match; shorter ones only grow.
const SHORTEST: usize = 13;

/// A byte of a block can stand for at most this many bytes: match lengths go on by up to 255 a byte.
const MAX_RATIO: u64 = 255;

/// The most that lz4 makes a difference between (`LZ4_ACCELERATION_MAX` of the reference implementation).
const MOST_ACCELERATION: i32 = 65_537;

/// lz4 in its block format, by the reference implementation in C. Its decoder checks every length and offset
/// against both ends of both buffers, so that no input makes it touch other memory.
///
/// Blocks beyond about 2.1 GB, which the format does not allow, are stored as they are. A block needs scratch
/// memory of its own length while it is compressed; only as much of it is touched as the result takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lz4;

impl Compressor for Lz4 {
    fn id(&self) -> u8 {
        LZ4
    }

    fn name(&self) -> &'static str {
        "lz4"
    }

    fn by_lanes(&self) -> bool {
        true
    }

    /// The block's own length: lz4 gives up as soon as the result would be longer.
    fn scratch_len(&self, len: usize) -> usize {
        if (SHORTEST..=LONGEST).contains(&len) { len } else { 0 }
    }

    fn compress(&self, frame: &[u8], scratch: &mut [u8]) -> Result<Option<usize>> {
        compress(CompressionMode::DEFAULT, frame, scratch)
    }

    fn largest_output(&self, compressed: &[u8]) -> u64 {
        (compressed.len() as u64).saturating_mul(MAX_RATIO)
    }

    fn decompress(&self, compressed: &[u8], output: &mut [u8]) -> Result<()> {
        let expected = output.len();
        let refused = |found: String| damaged("lz4", expected_len(expected), found);
        let size =
            i32::try_from(expected).ok().filter(|_| expected <= LONGEST && compressed.len() <= LONGEST);
        let size = size.ok_or_else(|| refused(format!("a block of {} bytes", compressed.len())))?;
        match block::decompress_to_buffer(compressed, Some(size), output) {
            Ok(len) if len == expected => Ok(()),
            Ok(len) => Err(refused(format!("{len} bytes"))),
            Err(_) => Err(refused("a block that is no lz4".to_owned())),
        }
    }
}

/// [`Lz4`] that looks for matches in fewer places: faster, and larger results. Either reads what the other
/// wrote.
#[derive(Clone, Copy, Debug)]
pub struct Lz4Fast(i32);

impl Lz4Fast {
    /// lz4 with this acceleration: 1 is that of [`Lz4`], each step beyond about 3% faster.
    ///
    /// # Errors
    /// [`Config`](spill_core::ErrorKind::Config) unless it is between 1 and 65,537.
    pub fn new(acceleration: i32) -> Result<Self> {
        if !(1..=MOST_ACCELERATION).contains(&acceleration) {
            let expected = format!("an acceleration from 1 to {MOST_ACCELERATION}");
            return Err(Error::config("lz4 acceleration", acceleration, expected));
        }
        Ok(Lz4Fast(acceleration))
    }
}

impl Compressor for Lz4Fast {
    fn id(&self) -> u8 {
        LZ4
    }
    fn name(&self) -> &'static str {
        "lz4"
    }
    fn setting(&self) -> String {
        format!("lz4:{}", self.0)
    }
    fn by_lanes(&self) -> bool {
        Lz4.by_lanes()
    }
    fn scratch_len(&self, len: usize) -> usize {
        Lz4.scratch_len(len)
    }
    fn compress(&self, frame: &[u8], scratch: &mut [u8]) -> Result<Option<usize>> {
        compress(CompressionMode::FAST(self.0), frame, scratch)
    }
    fn largest_output(&self, compressed: &[u8]) -> u64 {
        Lz4.largest_output(compressed)
    }
    fn decompress(&self, compressed: &[u8], output: &mut [u8]) -> Result<()> {
        Lz4.decompress(compressed, output)
    }
}

fn compress(mode: CompressionMode, frame: &[u8], scratch: &mut [u8]) -> Result<Option<usize>> {
    let room = scratch.len().min(frame.len());
    // The one error there is for such lengths says that the scratch is too short: the block resists.
    let len = block::compress_to_buffer(frame, Some(mode), false, &mut scratch[..room]);
    Ok(len.ok().filter(|len| *len < frame.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_on_expansion_holds_for_the_most_compressible_data() {
        for len in [SHORTEST, 100, 1000, 1 << 20, 10 << 20] {
            let frame = vec![0; len];
            let mut scratch = vec![0; Lz4.scratch_len(len)];
            if let Some(n) = Lz4.compress(&frame, &mut scratch).unwrap() {
                assert!(Lz4.largest_output(&scratch[..n]) >= len as u64, "{len} bytes became {n}");
            }
        }
    }

    #[test]
    fn an_acceleration_beyond_what_lz4_knows_is_refused() {
        for bad in [0, -1, MOST_ACCELERATION + 1] {
            Lz4Fast::new(bad).unwrap_err();
        }
        let frame = b"abcdefgh".repeat(500);
        let mut scratch = vec![0; frame.len()];
        let len = Lz4Fast::new(9).unwrap().compress(&frame, &mut scratch).unwrap().unwrap();
        let mut back = vec![0; frame.len()];
        Lz4.decompress(&scratch[..len], &mut back).unwrap();
        assert_eq!(back, frame);
    }

    #[test]
    fn frames_that_lz4_cannot_shrink_for_their_length_are_not_tried() {
        assert_eq!(Lz4.scratch_len(0), 0);
        assert_eq!(Lz4.scratch_len(SHORTEST - 1), 0);
        assert_eq!(Lz4.scratch_len(LONGEST + 1), 0);
    }
}
