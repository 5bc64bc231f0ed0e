//! One frame in blocks: each shuffled, compressed and kept for itself, so that threads can share a long frame.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use spill_core::{Clock, FRAME_ALIGN, Pool, PoolBuf, Result};

use crate::compressor::{Compressor, damaged};
use crate::header::Packed;
use crate::lanes;
use crate::shuffle::{self, Width};
use crate::threads::Threads;

/// Results shorter than this are kept in memory of exactly their size; for longer ones the pool's buffers
/// spare the page faults of fresh memory.
const POOLED: usize = 4096;

/// Frames from this length on, in bytes, are worth another thread: to start one takes as long as to compress
/// some hundred KiB.
const SHARED: usize = 2 << 20;

/// What the work on a frame needs beside the frame.
pub(crate) struct Workshop<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) threads: &'a Threads,
    /// The most bytes of a block, whatever the compressor likes.
    pub(crate) longest_block: usize,
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
            block: Packed::block_of(compressor.block_len().min(self.longest_block)),
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
                    Some(made) => (desk.hand_out(made), true),
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
                } else if lanes::are_apart(packed.by_lanes, part.len()) {
                    let len = lanes::buffer_len(compressor, packed.width, stored, part.len())?;
                    let buffer = room(buffer, self.pool, len);
                    lanes::decompress(compressor, packed.width, stored, buffer, part)?;
                } else {
                    let shuffled = room(buffer, self.pool, part.len());
                    compressor.decompress(stored, shuffled)?;
                    shuffle::unshuffle(packed.width, &shuffle::lanes(packed.width, shuffled), part);
                }
                Ok(())
            },
        )?;
        Ok(output.freeze())
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

/// Room for the lengths of lanes before a shuffled block, so that the block itself lies well.
const LENGTHS: usize = FRAME_ALIGN;

const _: () = assert!(Width::WIDEST * lanes::LENGTH <= LENGTHS);

/// The memory in which one thread compresses blocks, one after another.
pub(crate) struct Desk<'a> {
    pool: &'a Pool,
    // It goes first, so that the pool hands out again for shuffling what was shuffled into: of scratch memory mostly the
    // first bytes are ever touched.
    scratch: Option<PoolBuf>,
    shuffled: Option<PoolBuf>,
}

/// Where on a [`Desk`] a compressed block lies, until the next one is compressed.
pub(crate) struct Made {
    in_shuffled: bool,
    bytes: Range<usize>,
}

impl Made {
    /// How many bytes the block takes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl<'a> Desk<'a> {
    pub(crate) fn new(pool: &'a Pool) -> Self {
        Desk { pool, scratch: None, shuffled: None }
    }

    /// Compresses `block`; `None` when it does not take fewer bytes then.
    pub(crate) fn compress(
        &mut self,
        compressor: &dyn Compressor,
        width: Width,
        block: &[u8],
    ) -> Result<Option<Made>> {
        let in_scratch = |len| Made { in_shuffled: false, bytes: 0..len };
        if width == Width::One {
            let scratch = room(&mut self.scratch, self.pool, compressor.scratch_len(block.len()));
            return Ok(compressor.compress_checked(block, scratch)?.map(in_scratch));
        }
        let shuffled = room(&mut self.shuffled, self.pool, LENGTHS + block.len());
        shuffle::shuffle(width, block, &mut shuffled[LENGTHS..]);
        if lanes::are_apart(compressor.by_lanes(), block.len()) {
            let begin = LENGTHS - lanes::lengths_len(width);
            let scratch_len = lanes::scratch_len(compressor, width, block.len());
            let scratch = room(&mut self.scratch, self.pool, scratch_len);
            let len = lanes::compress(compressor, width, &mut shuffled[begin..], scratch)?;
            return Ok(len.map(|len| Made { in_shuffled: true, bytes: begin..begin + len }));
        }
        let scratch = room(&mut self.scratch, self.pool, compressor.scratch_len(block.len()));
        Ok(compressor.compress_checked(&shuffled[LENGTHS..], scratch)?.map(in_scratch))
    }

    /// The bytes of a block: in the memory in which they were made where they fill five sixths of what was asked for, else in
    /// a copy.
    fn hand_out(&mut self, made: Made) -> Bytes {
        let place = if made.in_shuffled { &mut self.shuffled } else { &mut self.scratch };
        let full = |memory: &mut PoolBuf| made.len() >= POOLED && made.len() >= memory.len() / 6 * 5;
        if let Some(memory) = place.take_if(full) {
            return memory.freeze().slice(made.bytes);
        }
        let bytes = place.as_deref().map_or(&[][..], |memory| &memory[made.bytes]);
        if bytes.len() < POOLED {
            return Bytes::copy_from_slice(bytes);
        }
        let mut copy = self.pool.take(bytes.len(), 0);
        copy.copy_from_slice(bytes);
        copy.freeze()
    }
}

/// The first `len` bytes of `buffer`, after it was replaced if it is too short.
fn room<'b>(buffer: &'b mut Option<PoolBuf>, pool: &Pool, len: usize) -> &'b mut [u8] {
    if buffer.as_ref().is_some_and(|buffer| buffer.len() < len) {
        *buffer = None;
    }
    &mut buffer.get_or_insert_with(|| pool.take(len, 0))[..len]
}
