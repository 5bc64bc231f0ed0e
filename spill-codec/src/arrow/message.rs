//! Messages of the IPC format: a marker, a length, and a table of flatbuffers.

use arrow_ipc::{Message, root_as_message_with_opts};
use flatbuffers::VerifierOptions;
use spill_core::Result;

use super::refused;

/// What every message starts with.
const MARKER: [u8; 4] = [0xFF; 4];

/// Bytes in front of a message's table: the marker and the length of the table.
pub(super) const PREFIX: usize = 8;

/// The length of the table behind `prefix`.
pub(super) fn table_len(prefix: &[u8]) -> Result<usize> {
    let (marker, rest) = prefix.split_first_chunk().ok_or_else(|| refused("a message ends early"))?;
    if *marker != MARKER {
        return Err(refused(format_args!("a message starts with {marker:02x?}")));
    }
    let len = rest.first_chunk().ok_or_else(|| refused("a message ends early"))?;
    usize::try_from(i32::from_le_bytes(*len)).map_err(|_| refused("a message of a negative length"))
}

/// Takes the first message off `rest`.
pub(super) fn take<'a>(rest: &mut &'a [u8]) -> Result<Message<'a>> {
    let len = table_len(rest)?;
    let table = rest.get(PREFIX..).and_then(|behind| behind.get(..len));
    let table = table.ok_or_else(|| refused("a message ends early"))?;
    *rest = &rest[PREFIX + len..];
    parse(table)
}

/// The message that `table` is.
pub(super) fn parse(table: &[u8]) -> Result<Message<'_>> {
    // A table takes four bytes at least, and none is in two places. So a few bytes that refer to each other
    // again and again are refused before they cost more time than their length is worth.
    let options = VerifierOptions { max_tables: table.len() / 4, ..VerifierOptions::default() };
    root_as_message_with_opts(&options, table).map_err(refused)
}
