//! What makes the bytes of one block fewer, and brings them back.

use std::sync::Arc;

use spill_core::{Error, ErrorKind, Result};

/// What most compressors take at once, in bytes: what a value needs at least to be worth another thread.
const DEFAULT_BLOCK_LEN: usize = 1 << 20;

/// Frames stored as they are.
pub(crate) const NONE: u8 = 0;
/// Frames in lz4's block format.
pub(crate) const LZ4: u8 = 1;
/// Frames in zstd's frame format.
pub(crate) const ZSTD: u8 = 2;

/// Compresses single blocks: frames, or pieces of long ones. Usable as `dyn Compressor`; `Box` and `Arc` of one are compressors.
///
/// # For implementors
///
/// Both directions must do without panics whatever the bytes, and hold no lock while they work: they run on
/// any number of threads at once.
pub trait Compressor: Send + Sync + 'static {
    /// The number that stored frames carry to say who compressed them. 0 to 127 belong to this crate, 128 to
    /// 255 are free; a layer reads a number of the second kind only if its own compressor has it.
    fn id(&self) -> u8;

    /// The name that errors give, such as "lz4".
    fn name(&self) -> &'static str;

    /// The name with what was set, such as "zstd:3": how counters tell apart what one compressor does at
    /// several levels.
    fn setting(&self) -> String {
        self.name().to_owned()
    }

    /// The bytes that are compressed at once, a power of two of at least 4 KiB: a longer frame is cut into
    /// blocks of this length, each independent of the others, so that several threads can share it. Longer
    /// blocks shrink more and leave the processor's cache. 1 MiB unless overridden.
    fn block_len(&self) -> usize {
        DEFAULT_BLOCK_LEN
    }

    /// Whether each lane of a shuffled block, the first bytes of all its items, the second bytes, and so on, is given to
    /// [`compress`](Self::compress) for itself. Lanes that are noise then cost neither direction anything, but
    /// nothing is found from one lane to another. `false` unless overridden.
    fn by_lanes(&self) -> bool {
        false
    }

    /// Bytes of scratch memory that [`compress`](Self::compress) wants for a frame of `len` bytes, or 0 when
    /// it would not make a frame of that length any smaller; it is not called then.
    fn scratch_len(&self, len: usize) -> usize;

    /// Compresses `frame` into the start of `scratch` and returns the number of bytes it took, or `None` when
    /// they would not be fewer than the frame's.
    ///
    /// # Errors
    /// When the compressor could not work, by lack of memory for example; not when the data resists.
    fn compress(&self, frame: &[u8], scratch: &mut [u8]) -> Result<Option<usize>>;

    /// The most bytes that `compressed` can become, told from its length or its first bytes alone. Asked
    /// before memory is taken, so that a few damaged bytes cannot ask for gigabytes.
    fn largest_output(&self, compressed: &[u8]) -> u64;

    /// Decompresses `compressed` into all of `output`.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) when the bytes are damaged or do not give exactly `output.len()` bytes.
    fn decompress(&self, compressed: &[u8], output: &mut [u8]) -> Result<()>;
}

impl dyn Compressor + '_ {
    /// [`compress`](Compressor::compress) into as much of `room` as it asks for; nothing but lengths that are less than
    /// the frame's.
    ///
    /// # Errors
    /// As there, and when it says a length that it had no room for.
    pub(crate) fn compress_checked(&self, frame: &[u8], room: &mut [u8]) -> Result<Option<usize>> {
        let scratch_len = self.scratch_len(frame.len());
        if scratch_len == 0 {
            return Ok(None);
        }
        let len = self.compress(frame, &mut room[..scratch_len])?.filter(|len| *len < frame.len());
        match len {
            Some(len) if len > scratch_len => {
                Err(Error::codec(self.name(), format!("said {len} bytes of a scratch of {scratch_len}")))
            }
            len => Ok(len),
        }
    }
}

macro_rules! forward {
    ($pointer:ident) => {
        impl<C: Compressor + ?Sized> Compressor for $pointer<C> {
            fn id(&self) -> u8 {
                (**self).id()
            }
            fn name(&self) -> &'static str {
                (**self).name()
            }
            fn setting(&self) -> String {
                (**self).setting()
            }
            fn block_len(&self) -> usize {
                (**self).block_len()
            }
            fn by_lanes(&self) -> bool {
                (**self).by_lanes()
            }
            fn scratch_len(&self, len: usize) -> usize {
                (**self).scratch_len(len)
            }
            fn compress(&self, frame: &[u8], scratch: &mut [u8]) -> Result<Option<usize>> {
                (**self).compress(frame, scratch)
            }
            fn largest_output(&self, compressed: &[u8]) -> u64 {
                (**self).largest_output(compressed)
            }
            fn decompress(&self, compressed: &[u8], output: &mut [u8]) -> Result<()> {
                (**self).decompress(compressed, output)
            }
        }
    };
}
forward!(Box);
forward!(Arc);

/// Stores every frame as it is. A layer with it still reads what other compressors wrote.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCompression;

impl Compressor for NoCompression {
    fn id(&self) -> u8 {
        NONE
    }
    fn name(&self) -> &'static str {
        "none"
    }
    fn scratch_len(&self, _len: usize) -> usize {
        0
    }
    fn compress(&self, _frame: &[u8], _scratch: &mut [u8]) -> Result<Option<usize>> {
        Ok(None)
    }
    fn largest_output(&self, compressed: &[u8]) -> u64 {
        compressed.len() as u64
    }
    fn decompress(&self, compressed: &[u8], output: &mut [u8]) -> Result<()> {
        if compressed.len() != output.len() {
            return Err(damaged("none", expected_len(output.len()), format!("{} bytes", compressed.len())));
        }
        output.copy_from_slice(compressed);
        Ok(())
    }
}

/// The error for a stored frame that is not what `compressor` wrote.
pub(crate) fn damaged(compressor: &str, expected: String, found: impl Into<String>) -> Error {
    let location = format!("frame compressed by {compressor}");
    ErrorKind::Corrupt { location, expected, found: found.into() }.into()
}

/// How errors put the length a frame should have had.
pub(crate) fn expected_len(len: usize) -> String {
    format!("{len} bytes when decompressed")
}
