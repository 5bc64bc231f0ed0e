//! What a file holds: a head, which says whose value it is, and one record.
//!
//! All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0..8 | `overfile` |
//! | 8..12 | checksum: CRC-32 (the polynomial of zlib) of the head from byte 12 to the end of the key |
//! | 12..16 | version of this format: 2 |
//! | 16..24 | generation |
//! | 24..32 | the weight that the value had in memory, in bytes |
//! | 32..36 | the length of the record in units of 8 bytes |
//! | 36..40 | the record's checksum |
//! | 40..44 | the length of the key in bytes |
//! | 44..48 | zeros |
//! | 48.. | the key, as its `KeyCodec` gives it |
//! | then | zeros up to the next multiple of 8 |
//! | then | the record, as in a segment; as its segment and tag it has the higher and the lower half of the file's generation |
//!
//! The head is all that is read when a directory is opened: it has a checksum of its own.

use std::io;

use crate::io::{File, fill_at};
use crate::segments::format::Shape;

/// Bytes before the key.
const FIXED: usize = 48;

/// The longest key, in bytes. What a damaged head says of the length of its key is believed up to this.
pub(super) const LONGEST_KEY: usize = 16 << 20;

/// Bytes read at first: the head of nearly every file.
const FIRST_READ: usize = 512;

const MAGIC: [u8; 8] = *b"overfile";
const VERSION: u32 = 2;

/// What the head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) generation: u64,
    pub(crate) weight: u64,
    /// Of the record.
    pub(crate) units: u32,
    /// Of the record.
    pub(crate) checksum: u32,
}

/// Whose a record is: it is written in its header, so that it is taken for nobody else's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) segment: u32,
    pub(crate) tag: u32,
}

/// Whose the record of a file of this generation is.
pub(crate) fn owner(generation: u64) -> Owner {
    Owner { segment: (generation >> 32) as u32, tag: generation as u32 }
}

/// Bytes before the record of a key of this length, which is at most [`LONGEST_KEY`].
pub(crate) fn length(key: usize) -> usize {
    (FIXED + key).next_multiple_of(8)
}

impl Head {
    pub(super) fn new(generation: u64, weight: u64, shape: Shape, checksum: u32) -> Self {
        Head { generation, weight, units: shape.units, checksum }
    }

    /// Writes the head into `out`, which is as long as [`length`] says and all zeros.
    pub(super) fn write(self, key: &[u8], out: &mut [u8]) {
        out[0..8].copy_from_slice(&MAGIC);
        out[12..16].copy_from_slice(&VERSION.to_le_bytes());
        out[16..24].copy_from_slice(&self.generation.to_le_bytes());
        out[24..32].copy_from_slice(&self.weight.to_le_bytes());
        out[32..36].copy_from_slice(&self.units.to_le_bytes());
        out[36..40].copy_from_slice(&self.checksum.to_le_bytes());
        out[40..44].copy_from_slice(&(key.len() as u32).to_le_bytes());
        out[FIXED..FIXED + key.len()].copy_from_slice(key);
        let checksum = crc32fast::hash(&out[12..FIXED + key.len()]);
        out[8..12].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Reads the head of a file, and the key in it.
///
/// # Errors
/// What reading failed with.
pub(crate) fn read(file: &dyn File) -> io::Result<Result<(Head, Vec<u8>), &'static str>> {
    let mut bytes = vec![0; FIRST_READ];
    let found = fill_at(file, &mut bytes, 0)?;
    bytes.truncate(found);
    let Some((fixed, _)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(Err("it is shorter than a head"));
    };
    let u32_at = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if fixed[..8] != MAGIC {
        return Ok(Err("it does not begin as a value's file does"));
    }
    if u32_at(12) != VERSION {
        return Ok(Err("another version wrote it, or its head is damaged"));
    }
    let (stored, key) = (u32_at(8), u32_at(40) as usize);
    let head = Head { generation: u64_at(16), weight: u64_at(24), units: u32_at(32), checksum: u32_at(36) };
    if key > LONGEST_KEY {
        return Ok(Err("its head is damaged"));
    }
    let end = FIXED + key;
    if end > bytes.len() {
        let have = bytes.len();
        // Anybody can write a length: memory is taken only for what is there.
        if fill_at(file, &mut [0], end as u64 - 1)? == 0 {
            return Ok(Err("it ends within its head"));
        }
        bytes.resize(end, 0);
        let more = fill_at(file, &mut bytes[have..], have as u64)?;
        if have + more < end {
            return Ok(Err("it ends within its head"));
        }
    }
    if crc32fast::hash(&bytes[12..end]) != stored {
        return Ok(Err("its head is damaged"));
    }
    bytes.truncate(end);
    bytes.drain(..FIXED);
    Ok(Ok((head, bytes)))
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::path::Path;

    use super::*;
    use crate::io::{Io, MemoryIo, write_all_vectored_at};

    fn written(key: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; length(key.len())];
        HEAD.write(key, &mut bytes);
        bytes
    }

    const HEAD: Head = Head { generation: 1 << 40 | 5, weight: u64::MAX, units: 9, checksum: 0xdead_beef };

    fn read_back(bytes: &[u8]) -> Result<(Head, Vec<u8>), &'static str> {
        let io = MemoryIo::new();
        let file = io.create(Path::new("/file")).unwrap();
        write_all_vectored_at(&*file, &mut [IoSlice::new(bytes)], 0).unwrap();
        read(&*file).unwrap()
    }

    #[test]
    fn heads_come_back_whatever_the_key() {
        for len in [0, 1, 7, 8, 463, 464, 465, 512, 5000] {
            let key: Vec<u8> = (0..len).map(|n: usize| n as u8).collect();
            let mut bytes = written(&key);
            assert_eq!(bytes.len() % 8, 0);
            assert_eq!(read_back(&bytes), Ok((HEAD, key.clone())), "{len}");
            bytes.extend([7; 100]);
            assert_eq!(read_back(&bytes), Ok((HEAD, key)), "{len}, a record behind it");
        }
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_found() {
        let key = b"a key of nineteen b";
        let whole = written(key);
        for at in 0..48 + key.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                assert!(read_back(&bytes).is_err(), "byte {at}");
            }
            assert!(read_back(&whole[..at]).is_err(), "{at} bytes");
        }
    }
}
