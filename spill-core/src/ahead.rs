//! Asking for memory before it is needed.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instruction has no safe binding"))]

/// A line of the processor's cache.
const LINE: usize = 64;

/// How far it asks: what follows, the processor asks for itself.
const FAR: usize = 4096;

/// Asks the processor for the first 4 KiB of what is read soon, and returns at once. It is worth it where something else is
/// done meanwhile, and what is asked for was not used for long.
#[inline]
pub fn fetch_ahead<T: ?Sized>(what: &T) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..size_of_val(what).min(FAR)).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = std::ptr::from_ref(what).cast::<i8>().wrapping_add(at);
        // SAFETY: every processor of this kind has the instruction, and nothing is read: any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (what, LINE, FAR);
}

/// Asks the processor for what the words of `what` point to, as far as they are pointers: two lines of each, since a header
/// on the heap may begin anywhere in the first.
#[inline]
pub(crate) fn fetch_behind<T>(what: &T) {
    #[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
    for at in (0..(size_of::<T>() & !7).min(LINE)).step_by(8) {
        let word = std::ptr::from_ref(what).cast::<u8>().wrapping_add(at);
        // SAFETY: the word is one of a value that is there; whether it was written, nobody asks. What is no address is
        // prefetched from nowhere.
        unsafe {
            std::arch::asm!(
                "mov {to}, [{word}]",
                "prefetcht0 [{to}]",
                "prefetcht0 [{to} + 64]",
                word = in(reg) word,
                to = out(reg) _,
                options(nostack, preserves_flags, readonly),
            );
        }
    }
    #[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64")))]
    let _ = what;
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

    #[test]
    fn words_need_be_no_pointers() {
        let value = (Box::new(5), [0, 1, usize::MAX, 1 << 63, usize::MAX / 2], 7_u8);
        fetch_behind(&value);
        fetch_behind(&value.2);
        fetch_behind(&());
        assert_eq!((*value.0, value.1[1], value.2), (5, 1, 7));
    }
}
