//! Bringing records into files.
//!
//! Their payloads were read for the checksums not long ago, and are in the processor's cache mostly.

use std::io::{self, IoSlice};

use spill_core::fetch_ahead;

use super::file::SegmentFile;
use super::format::{Part, Payload, UNIT};
use super::state::Written;
use crate::io::{File, write_all_vectored_at};

/// Frames up to this many bytes are copied next to their headers: one buffer more costs the system about as
/// much as copying this.
const COPIED: usize = 8 << 10;

/// Bytes of small records that are handed to the system at once, together in memory of that length.
const GROUP: u64 = 1 << 20;

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
    records: &[&Payload],
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
            if let Some(frame) = records.get(done + 1).and_then(|next| next.frames.iter().next()) {
                fetch_ahead(&**frame); // while the one before is copied
            }
            let checksum = group.add(done - from, records[done]);
            written.push(Written { segment: file.segment, offset: (offset / UNIT) as u32, checksum });
            offset += records[done].shape.length();
            done += 1;
        }
        group.write(&*file.file, first, &records[from..done])?;
    }
    Ok(())
}

/// Writes one record of any length into the file at `offset`.
pub(super) fn write_record(file: &SegmentFile, offset: u64, record: &Payload) -> io::Result<Written> {
    let mut scratch = Scratch::default();
    let mut group = Group { segment: file.segment, scratch: &mut scratch, referenced: 0 };
    let checksum = group.add(0, record);
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
    record: &Payload,
) -> io::Result<u32> {
    let mut scratch = Scratch::default();
    scratch.bytes.resize(head_length, 0);
    let mut group = Group { segment, scratch: &mut scratch, referenced: 0 };
    let checksum = group.add(0, record);
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
        let header = payload.header(self.segment);
        bytes.extend_from_slice(&header.to_bytes());
        payload.for_each_part(|part| match part {
            Part::Frame(index, frame) if frame.len() > COPIED => {
                if self.referenced < bytes.len() {
                    self.referenced = bytes.len();
                    pieces.push(Piece::Scratch(bytes.len()));
                }
                pieces.push(Piece::Frame(number, index));
            }
            Part::Frame(_, frame) => bytes.extend_from_slice(frame),
            Part::Between(between) => bytes.extend_from_slice(between),
        });
        header.checksum
    }

    /// Writes what was put in.
    fn write(self, file: &dyn File, offset: u64, records: &[&Payload]) -> io::Result<()> {
        let Scratch { bytes, pieces } = self.scratch;
        if self.referenced < bytes.len() {
            pieces.push(Piece::Scratch(bytes.len()));
        }
        let mut from = 0;
        let mut buffers: Vec<_> = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Scratch(to) => IoSlice::new(&bytes[std::mem::replace(&mut from, *to)..*to]),
                Piece::Frame(record, frame) => IoSlice::new(&records[*record].frames.as_slice()[*frame]),
            })
            .collect();
        write_all_vectored_at(file, &mut buffers, offset)
    }
}
