//! The file of one value, as `Files` writes it.

use std::io;
use std::path::Path;

use spill_core::{Frames, Pool};

use crate::files::header;
use crate::io::Io;
use crate::segments::format::{HEADER, Identity, UNIT, decode};
use crate::segments::sum::read_summed;

/// What the file of one value holds.
#[derive(Clone, Debug)]
pub struct ValueFile {
    /// The key, as its `KeyCodec` gives it.
    pub key: Vec<u8>,
    /// The number that tells values of one key apart.
    pub generation: u64,
    /// The weight that the value had in memory, in bytes.
    pub weight: u64,
    /// Bytes of the file.
    pub length: u64,
    /// The value, or what is wrong with its record.
    pub value: Result<Frames, String>,
}

/// Reads the file of one value.
///
/// # Errors
/// What reading failed with. In what was read, an error says why it is no such file.
pub fn value_file(io: &dyn Io, path: &Path) -> io::Result<Result<ValueFile, &'static str>> {
    let file = io.open(path)?;
    let (head, key) = match header::read(&*file)? {
        Ok(found) => found,
        Err(reason) => return Ok(Err(reason)),
    };
    let at = header::length(key.len()) as u64;
    let record = u64::from(head.units) * UNIT;
    let length = at + record;
    // The head has a checksum, but anybody can write one: memory is taken only for what is there.
    let in_file = io.len_of(path)?;
    let value = if in_file < length || record < HEADER as u64 {
        Err(format!("expected {length} bytes, found {in_file}"))
    } else {
        let pool = Pool::new(0);
        let size = usize::try_from(record).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = pool.take(size, HEADER);
        let sum = read_summed(&*file, &mut bytes, at)?;
        let owner = header::owner(head.generation);
        let identity = Identity { segment: owner.segment, tag: owner.tag, checksum: head.checksum };
        decode(bytes, sum, &pool, identity).map_err(|damage| damage.to_string())
    };
    Ok(Ok(ValueFile { key, generation: head.generation, weight: head.weight, length, value }))
}
