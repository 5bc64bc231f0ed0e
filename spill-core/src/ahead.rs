//! Asking for memory before it is needed.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instruction has no safe binding"))]

/// A line of the processor's cache.
const LINE: usize = 64;

/// How far it asks: what follows, the processor asks for itself.
const FAR: usize = 4096;

/// Asks the processor for the first 4 KiB of what is read soon, and returns at once. It is worth it where something else is
/// done meanwhile, and what is asked for was not used for long.
#[inline]
pub fn fetch_ahead(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..bytes.len().min(FAR)).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = bytes.as_ptr().wrapping_add(at);
        // SAFETY: every processor of this kind has the instruction, and nothing is read: any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, LINE, FAR);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_may_be_asked_for() {
        let bytes = vec![7; 3 * FAR + 1];
        for len in [0, 1, LINE - 1, LINE, FAR - 1, FAR, FAR + 1, bytes.len()] {
            fetch_ahead(&bytes[..len]);
            fetch_ahead(&bytes[bytes.len() - len..]);
        }
        assert_eq!(bytes, vec![7; 3 * FAR + 1], "it changes nothing");
    }
}
