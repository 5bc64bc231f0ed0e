//! What tells whether a serialised value was changed.

use spill_core::Frames;
use xxhash_rust::xxh3::Xxh3;

/// 128 bits that lists of frames have in common whose bytes and boundaries are equal.
pub(crate) struct Digest(Xxh3);

impl Digest {
    pub(crate) fn new() -> Self {
        Digest(Xxh3::new())
    }

    /// That of `frames`.
    pub(crate) fn of(frames: &Frames) -> u128 {
        let mut digest = Digest::new();
        for frame in frames {
            digest.frame(frame.len());
            digest.bytes(frame);
        }
        digest.finish()
    }

    /// A frame of `len` bytes begins, which follow in pieces.
    pub(crate) fn frame(&mut self, len: usize) {
        self.0.update(&(len as u64).to_le_bytes());
    }

    /// The next bytes of the frame.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(&self) -> u128 {
        self.0.digest128()
    }
}
