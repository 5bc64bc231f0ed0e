//! Bringing records into files.
//!
//! Their payloads were read for the checksums not long ago, and are in the processor's cache mostly.

use std::io::{self, IoSlice};

use spill_core::fetch_ahead;

use super::file::{PIECE, Reservation, SegmentFile};
use super::format::{Payload, UNIT, start};
use super::stage::Staged;
use super::state::Written;
use crate::io::{File, write_all_vectored_at};

/// Frames up to this many bytes are copied next to their headers: one buffer more costs the system about as
/// much as copying this.
const COPIED: usize = 8 << 10;

/// Zeros between frames and behind them, and behind a batch.
static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

/// Memory that records are put together in, kept from one batch to the next.
#[derive(Default)]
pub(super) struct Scratch {
    /// Headers, tables, zeros and small frames, in order.
    bytes: Vec<u8>,
    /// What is to be written, in order.
    pieces: Vec<Piece>,
}

enum Piece {
    /// The scratch bytes up to this index, from where the last such piece ended.
    Scratch(usize),
    /// A frame that stays where it is: indices of its record and of the frame.
    Frame(usize, usize),
}

/// Writes records one after another into the reserved range, and zeros into the rest of it. Where each one went is appended
/// to `written`.
pub(super) fn write_records(
    range: &Reservation,
    records: &[&Staged],
    scratch: &mut Scratch,
    written: &mut Vec<Written>,
) -> io::Result<()> {
    let (file, mut offset) = (&*range.file, range.offset);
    scratch.bytes.clear();
    let (mut done, mut first) = (0, offset);
    while done < records.len() {
        scratch.pieces.clear();
        let mut group = Group { segment: file.segment, scratch, referenced: 0 };
        let from = done;
        let end = (first + 1).next_multiple_of(PIECE);
        while done < records.len() && offset < end {
            if let Some(frame) = records.get(done + 1).and_then(|next| next.payload.frames.iter().next()) {
                fetch_ahead(&**frame); // while the one before is copied
            }
            let checksum = group.add(done - from, &records[done].payload);
            written.push(Written { segment: file.segment, offset: (offset / UNIT) as u32, checksum });
            offset += records[done].payload.shape.length();
            done += 1;
        }
        let last = (done == records.len()).then_some(range.padding);
        first = group.write_pieces(&*file.file, first, &records[from..done], last)?;
    }
    Ok(())
}

/// Writes one record of any length into the file at `offset`.
pub(super) fn write_record(file: &SegmentFile, offset: u64, record: &Staged) -> io::Result<Written> {
    let mut scratch = Scratch::default();
    let mut group = Group { segment: file.segment, scratch: &mut scratch, referenced: 0 };
    let checksum = group.add(0, &record.payload);
    group.write(&*file.file, offset, &[record])?;
    Ok(Written { segment: file.segment, offset: (offset / UNIT) as u32, checksum })
}

/// Writes a file from its start: a head, which is made from the record's checksum and of `head_length` bytes,
/// and one record. Returns the checksum.
pub(crate) fn write_behind_head(
    file: &dyn File,
    segment: u32,
    head_length: usize,
    head: impl FnOnce(u32, &mut [u8]),
    record: &Staged,
) -> io::Result<u32> {
    let mut scratch = Scratch::default();
    scratch.bytes.resize(head_length, 0);
    let mut group = Group { segment, scratch: &mut scratch, referenced: 0 };
    let checksum = group.add(0, &record.payload);
    head(checksum, &mut group.scratch.bytes[..head_length]);
    group.write(file, 0, &[record])?;
    Ok(checksum)
}

/// Records that are written together.
struct Group<'a> {
    segment: u32,
    scratch: &'a mut Scratch,
    /// Scratch bytes that belong to a piece already.
    referenced: usize,
}

impl Group<'_> {
    /// Puts one record in and returns its checksum.
    fn add(&mut self, number: usize, payload: &Payload) -> u32 {
        let Scratch { bytes, pieces } = &mut *self.scratch;
        let Payload { frames, shape, .. } = payload;
        let header = payload.header(self.segment);
        bytes.extend_from_slice(&header.to_bytes());
        let mut end = 0;
        for (index, frame) in frames.iter().enumerate() {
            let at = start(end, frame.len() as u64, shape.is_packed());
            bytes.extend_from_slice(&ZEROS[..(at - end) as usize]);
            end = at + frame.len() as u64;
            if frame.len() <= COPIED {
                bytes.extend_from_slice(frame);
            } else {
                if self.referenced < bytes.len() {
                    self.referenced = bytes.len();
                    pieces.push(Piece::Scratch(bytes.len()));
                }
                pieces.push(Piece::Frame(number, index));
            }
        }
        if shape.has_table() {
            frames.iter().for_each(|frame| bytes.extend_from_slice(&(frame.len() as u64).to_le_bytes()));
        }
        bytes.extend_from_slice(&ZEROS[..shape.padding()]);
        header.checksum
    }

    /// What was put in, in order.
    fn slices<'s>(&'s mut self, records: &'s [&Staged]) -> impl Iterator<Item = &'s [u8]> {
        let Scratch { bytes, pieces } = &mut *self.scratch;
        if self.referenced < bytes.len() {
            self.referenced = bytes.len();
            pieces.push(Piece::Scratch(bytes.len()));
        }
        let (bytes, mut from) = (&*bytes, 0);
        pieces.iter().map(move |piece| match piece {
            Piece::Scratch(to) => &bytes[std::mem::replace(&mut from, *to)..*to],
            Piece::Frame(record, frame) => &records[*record].payload.frames.as_slice()[*frame],
        })
    }

    /// Writes what was put in.
    fn write(mut self, file: &dyn File, offset: u64, records: &[&Staged]) -> io::Result<()> {
        let mut buffers: Vec<_> = self.slices(records).map(IoSlice::new).collect();
        write_all_vectored_at(file, &mut buffers, offset)
    }

    /// Writes what was put in with a call for each [piece](PIECE) of the file. With the `last` records the rest is written
    /// too, and so many zeros behind it; else it is left in the scratch bytes. Returns where what was not written begins.
    fn write_pieces(
        mut self,
        file: &dyn File,
        mut offset: u64,
        records: &[&Staged],
        last: Option<u64>,
    ) -> io::Result<u64> {
        let padding = last.unwrap_or(0);
        let zeros = (0..padding).step_by(ZEROS.len());
        let zeros = zeros.map(|at| &ZEROS[..ZEROS.len().min((padding - at) as usize)]);
        let (mut buffers, mut length) = (Vec::new(), 0);
        for mut slice in self.slices(records).chain(zeros) {
            while let rest = PIECE - (offset + length) % PIECE
                && let Some((these, behind)) = slice.split_at_checked(rest as usize)
            {
                buffers.push(IoSlice::new(these));
                write_all_vectored_at(file, &mut buffers, offset)?;
                buffers.clear();
                (offset, length, slice) = (offset + length + rest, 0, behind);
            }
            buffers.push(IoSlice::new(slice));
            length += slice.len() as u64;
        }
        if last.is_some() {
            write_all_vectored_at(file, &mut buffers, offset)?;
        } else {
            let rest: Vec<u8> = buffers.iter().flat_map(|rest| &**rest).copied().collect();
            self.scratch.bytes.clear();
            self.scratch.bytes.extend_from_slice(&rest);
        }
        Ok(offset)
    }
}
