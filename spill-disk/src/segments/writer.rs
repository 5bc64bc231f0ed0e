//! Bringing records into files.

use std::io;

use super::file::SegmentFile;
use super::format::{Payload, UNIT};
use super::packed::Packed;
use super::stage::Staged;
use super::state::Written;
use crate::io::{File, write_all_vectored_at};

/// Bytes of records that are handed to the system at once.
const GROUP: u64 = 1 << 20;

/// Writes records one after another into the file, from `offset` on. `packed` has those that were packed when they were
/// staged. Where each one went is appended to `written`.
pub(super) fn write_records(
    file: &SegmentFile,
    mut offset: u64,
    mut records: &[&Staged],
    packed: &mut Packed,
    written: &mut Vec<Written>,
) -> io::Result<()> {
    let mut places = Vec::new();
    while !records.is_empty() {
        packed.drop_added();
        places.clear();
        let first = offset;
        let mut before = None;
        for (n, staged) in records.iter().enumerate() {
            if offset - first >= GROUP {
                break;
            }
            // one that stands alone would be a buffer of its own, which costs more than to pack it again
            let follows = before.is_some_and(|before: &Staged| before.is_before(staged));
            let leads = records.get(n + 1).is_some_and(|next| staged.is_before(next));
            let place = staged.packed.filter(|_| follows || leads);
            before = place.map(|_| *staged);
            let (at, checksum) = packed.seal(place, &staged.payload, file.segment);
            places.push(at);
            written.push(Written { segment: file.segment, offset: (offset / UNIT) as u32, checksum });
            offset += staged.payload.shape.length();
        }
        let (these, behind) = records.split_at(places.len());
        let payloads = these.iter().map(|staged| &staged.payload);
        let mut slices = packed.slices(places.iter().copied().zip(payloads));
        write_all_vectored_at(&*file.file, &mut slices, first)?;
        records = behind;
    }
    Ok(())
}

/// Writes one record of any length into the file at `offset`.
pub(super) fn write_record(file: &SegmentFile, offset: u64, record: &Payload) -> io::Result<Written> {
    let mut packed = Packed::default();
    let (at, checksum) = packed.seal(None, record, file.segment);
    write_all_vectored_at(&*file.file, &mut packed.slices([(at, record)].into_iter()), offset)?;
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
    let mut packed = Packed::behind(head_length);
    let (at, checksum) = packed.seal(None, record, segment);
    head(checksum, packed.head());
    let mut slices = packed.slices([(at, record)].into_iter());
    write_all_vectored_at(file, &mut slices, 0)?;
    Ok(checksum)
}
