//! One frame in blocks: each shuffled, compressed and kept for itself, so that threads can share a long frame.

use std::time::Duration;

use bytes::Bytes;
use spill_core::{Clock, Pool, PoolBuf, Result};

use crate::compressor::{Compressor, damaged};
use crate::header::Packed;
use crate::lanes;
use crate::shuffle::{self, Width};
use crate::threads::Threads;

/// Results shorter than this are kept in memory of exactly their size; for longer ones the pool's buffers,
/// which waste an eighth at most, spare the page faults of fresh memory.
const POOLED: usize = 4096;

/// Frames from this length on, in bytes, are worth another thread: to start one takes as long as to compress
/// some hundred KiB.
const SHARED: usize = 2 << 20;

/// What the work on a frame needs beside the frame.
pub(crate) struct Workshop<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) threads: &'a Threads,
}

/// A frame made smaller.
pub(crate) struct Smaller {
    pub(crate) packed: Packed,
    /// The stored bytes of each block; one that did not shrink is the frame's own memory.
    pub(crate) blocks: Vec<Bytes>,
}

/// How long the work on a frame took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    /// All threads together.
    pub(crate) work: Duration,
    /// From begin to end, as the caller waits for it.
    pub(crate) wait: Duration,
}

impl Workshop<'_> {
    /// Compresses `frame`, shuffled by `width`. `None` when no block shrank.
    pub(crate) fn pack(
        &self,
        compressor: &dyn Compressor,
        width: Width,
        frame: &Bytes,
    ) -> Result<(Option<Smaller>, Took)> {
        let begun = self.clock.now();
        let packed = Packed {
            compressor: compressor.id(),
            width,
            by_lanes: width != Width::One && compressor.by_lanes(),
            block: Packed::block_of(compressor.block_len()),
        };
        let len = packed.block_len() as usize;
        let count = frame.len().div_ceil(len);
        let starts = (0..count).map(|n| n * len);
        let made = self.threads.run(
            helpers(frame.len(), count),
            starts,
            || Desk::new(self.pool),
            |desk, start| {
                let block = frame.slice(start..frame.len().min(start + len));
                let begun = self.clock.now();
                let stored = match desk.compress(compressor, width, &block)? {
                    Some(smaller) => (self.copy(smaller), true),
                    None => (block, false),
                };
                Ok((stored, self.clock.now().saturating_sub(begun)))
            },
        )?;
        let work = made.iter().map(|(_, time)| *time).sum();
        let took = Took { work, wait: self.clock.now().saturating_sub(begun) };
        if !made.iter().any(|((_, shrunk), _)| *shrunk) {
            return Ok((None, took));
        }
        let blocks = made.into_iter().map(|((block, _), _)| block).collect();
        Ok((Some(Smaller { packed, blocks }), took))
    }

    /// The frame of `len` bytes whose blocks these are, each of which [`check`] has seen.
    pub(crate) fn unpack(
        &self,
        compressor: &dyn Compressor,
        packed: Packed,
        blocks: &[Bytes],
        len: usize,
    ) -> Result<Bytes> {
        let mut output = self.pool.take(len, 0);
        let parts = output.chunks_mut(packed.block_len() as usize).zip(blocks);
        self.threads.run(
            helpers(len, blocks.len()),
            parts,
            || None,
            |buffer: &mut Option<PoolBuf>, (part, stored)| {
                if stored.len() == part.len() {
                    part.copy_from_slice(stored);
                } else if packed.width == Width::One {
                    compressor.decompress(stored, part)?;
                } else {
                    // The first block is the longest.
                    let buffer = buffer.get_or_insert_with(|| self.pool.take(part.len(), 0));
                    let shuffled = &mut buffer[..part.len()];
                    if lanes::are_apart(packed.by_lanes, part.len()) {
                        lanes::decompress(compressor, packed.width, stored, shuffled, part)?;
                    } else {
                        compressor.decompress(stored, shuffled)?;
                        shuffle::unshuffle(packed.width, &shuffle::lanes(packed.width, shuffled), part);
                    }
                }
                Ok(())
            },
        )?;
        Ok(output.freeze())
    }

    fn copy(&self, bytes: &[u8]) -> Bytes {
        if bytes.len() < POOLED {
            return Bytes::copy_from_slice(bytes);
        }
        let mut buffer = self.pool.take(bytes.len(), 0);
        buffer.copy_from_slice(bytes);
        buffer.freeze()
    }
}

fn helpers(len: usize, blocks: usize) -> usize {
    if len < SHARED { 0 } else { (len / (SHARED / 2) - 1).min(blocks.saturating_sub(1)) }
}

/// Whether these blocks can be a frame of `len` bytes, told without decompressing them.
///
/// # Errors
/// [`Corrupt`](spill_core::ErrorKind::Corrupt) when one of them cannot be what its place in the frame asks for.
pub(crate) fn check(compressor: &dyn Compressor, packed: Packed, blocks: &[Bytes], len: u64) -> Result<()> {
    let mut rest = len;
    for stored in blocks {
        let here = rest.min(packed.block_len());
        rest -= here;
        if stored.len() as u64 == here {
            continue;
        }
        if let Ok(here) = usize::try_from(here)
            && lanes::are_apart(packed.by_lanes, here)
            && stored.len() < here
        {
            lanes::check(compressor, packed.width, stored, here)?;
            continue;
        }
        let most = compressor.largest_output(stored);
        if stored.len() as u64 > here || here > most {
            let expected = format!("{here} bytes when decompressed");
            let found = format!("{} bytes, which can become {most} at most", stored.len());
            return Err(damaged(compressor.name(), expected, found));
        }
    }
    Ok(())
}

/// The memory in which one thread compresses blocks, one after another.
pub(crate) struct Desk<'a> {
    pool: &'a Pool,
    shuffled: Option<PoolBuf>,
    scratch: Option<PoolBuf>,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Self {
        Desk { pool, shuffled: None, scratch: None }
    }

    /// The compressed bytes of `block`, or `None` when they are not fewer.
    pub(crate) fn compress(
        &mut self,
        compressor: &dyn Compressor,
        width: Width,
        block: &[u8],
    ) -> Result<Option<&[u8]>> {
        if width == Width::One {
            let scratch = room(&mut self.scratch, self.pool, compressor.scratch_len(block.len()));
            let len = compressor.compress_checked(block, scratch)?;
            return Ok(len.map(|len| &scratch[..len]));
        }
        let shuffled = room(&mut self.shuffled, self.pool, block.len());
        shuffle::shuffle(width, block, shuffled);
        let by_lanes = lanes::are_apart(compressor.by_lanes(), block.len());
        let scratch_len = if by_lanes {
            lanes::scratch_len(compressor, width, block.len())
        } else {
            compressor.scratch_len(block.len())
        };
        let scratch = room(&mut self.scratch, self.pool, scratch_len);
        let len = if by_lanes {
            lanes::compress(compressor, width, shuffled, scratch)?
        } else {
            compressor.compress_checked(shuffled, scratch)?
        };
        Ok(len.map(|len| &scratch[..len]))
    }
}

/// The first `len` bytes of `buffer`, after it was replaced if it is too short.
fn room<'b>(buffer: &'b mut Option<PoolBuf>, pool: &Pool, len: usize) -> &'b mut [u8] {
    if buffer.as_ref().is_some_and(|buffer| buffer.len() < len) {
        *buffer = None;
    }
    &mut buffer.get_or_insert_with(|| pool.take(len, 0))[..len]
}
