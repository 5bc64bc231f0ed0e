//! Bringing records into files.
//!
//! Their payloads were read for the checksums not long ago, and are in the processor's cache mostly.

use std::io::{self, IoSlice};

use spill_core::fetch_ahead;

use super::file::SegmentFile;
use super::format::{Payload, UNIT, start};
use super::stage::Staged;
use super::state::Written;
use crate::io::{File, write_all_vectored_at};

/// Frames up to this many bytes are copied next to their headers: one buffer more costs the system about as
/// much as copying this.
const COPIED: usize = 8 << 10;

/// Bytes of small records that are handed to the system at once, together in memory of that length.
const GROUP: u64 = 1 << 20;

/// Zeros between frames and behind them.
const ZEROS: [u8; 64] = [0; 64];

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

/// Writes records one after another into the file, from `offset` on. Where each one went is appended to
/// `written`.
pub(super) fn write_records(
    file: &SegmentFile,
    mut offset: u64,
    records: &[&Staged],
    scratch: &mut Scratch,
    written: &mut Vec<Written>,
) -> io::Result<()> {
    let mut done = 0;
    while done < records.len() {
        scratch.bytes.clear();
        scratch.pieces.clear();
        let mut group = Group { segment: file.segment, scratch, referenced: 0 };
        let first = offset;
        let from = done;
        while done < records.len() && offset - first < GROUP {
            if let Some(frame) = records.get(done + 1).and_then(|next| next.payload.frames.iter().next()) {
                fetch_ahead(&**frame); // while the one before is copied
            }
            let checksum = group.add(done - from, &records[done].payload);
            written.push(Written { segment: file.segment, offset: (offset / UNIT) as u32, checksum });
            offset += records[done].payload.shape.length();
            done += 1;
        }
        group.write(&*file.file, first, &records[from..done])?;
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

    /// Writes what was put in.
    fn write(self, file: &dyn File, offset: u64, records: &[&Staged]) -> io::Result<()> {
        let Scratch { bytes, pieces } = self.scratch;
        if self.referenced < bytes.len() {
            pieces.push(Piece::Scratch(bytes.len()));
        }
        let mut from = 0;
        let mut buffers: Vec<_> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Scratch(to) => IoSlice::new(&bytes[std::mem::replace(&mut from, *to)..*to]),
                Piece::Frame(record, frame) => {
                    IoSlice::new(&records[*record].payload.frames.as_slice()[*frame])
                }
            })
            .collect();
        write_all_vectored_at(file, &mut buffers, offset)
    }
}
