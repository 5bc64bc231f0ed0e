//! Copying out of a mapping, any page of which may turn out to be gone, and summing what was copied.
//!
//! The checksum is made of what the registers hold while it is copied, where the processor can: whoever reads it out of the
//! target would wait until all of that, which has not been touched for long, had come to the processor.

use std::arch::naked_asm;

use crc32fast::Hasher;

use crate::io::PIECE;

/// Bytes of code within which all of [`copy`] lies, and all of [`copy_folding`].
const CODE: usize = 256;

/// Bytes that are folded at once.
const BLOCK: usize = 64;

/// How a range is copied and summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    /// Both at once, a block at a time.
    Folding,
    /// One after the other.
    Plain,
}

impl Copying {
    /// The best of those that the processor can do.
    pub(super) fn best() -> Self {
        // what `copy_folding` is made of
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("vpclmulqdq") {
            Copying::Folding
        } else {
            Copying::Plain
        }
    }
}

/// Copies as many bytes as the target has. Gives the CRC-32 (zlib's) of those behind the first `unsummed`, or `None` where a
/// page of the source could not be had; then some bytes may have been copied.
///
/// # Safety
/// The source is mapped and does not overlap the target, and the processor can do this kind of copying. What is mapped may
/// be written meanwhile by anybody: such bytes come out old or new, as they would out of a call of the system, since the
/// compiler knows nothing of them.
pub(super) unsafe fn copy_summed(
    to: &mut [u8],
    from: *const u8,
    unsummed: usize,
    copying: Copying,
) -> Option<u32> {
    let summed = to.len().saturating_sub(unsummed);
    // what is left over when there are only blocks behind it
    let first = match summed % BLOCK {
        0 => BLOCK,
        rest => rest,
    };
    if copying == Copying::Plain || summed <= first || first < size_of::<u32>() {
        // SAFETY: as for this function.
        return unsafe { copy_then_sum(to, from, unsummed) };
    }
    let (head, blocks) = to.split_at_mut(unsummed + first);
    // SAFETY: as for this function: the first part of both ranges.
    if unsafe { copy(head.as_mut_ptr(), from, head.len()) } != 0 {
        return None;
    }
    // A checksum begins with all bits set, which is the same as to invert the first 32 bits of what is summed. From there on
    // it is linear, and zeros in front do not change it: so the first block may be shorter.
    let mut state = [0; BLOCK];
    let begin = BLOCK - first;
    state[begin..].copy_from_slice(&head[unsummed..]);
    state[begin..begin + size_of::<u32>()].iter_mut().for_each(|byte| *byte = !*byte);
    let (place, source) = (blocks.as_mut_ptr(), from.wrapping_add(head.len()));
    // SAFETY: as for this function: the rest of both ranges, which are blocks, at least one; and a block of ours. The
    // processor can do it.
    if unsafe { copy_folding(place, source, blocks.len(), state.as_mut_ptr()) } != 0 {
        return None;
    }
    // a hasher inverts what it begins with, so this one begins with no bits set
    let mut sum = Hasher::new_with_initial(u32::MAX);
    sum.update(&state);
    Some(sum.finalize())
}

/// As [`copy_summed`], in pieces, each of which is summed while the processor has it.
///
/// # Safety
/// As for [`copy`].
unsafe fn copy_then_sum(to: &mut [u8], from: *const u8, unsummed: usize) -> Option<u32> {
    let mut sum = Hasher::new();
    let mut copied = 0;
    for piece in to.chunks_mut(PIECE) {
        // SAFETY: as for this function: a part of both ranges.
        if unsafe { copy(piece.as_mut_ptr(), from.wrapping_add(copied), piece.len()) } != 0 {
            return None;
        }
        sum.update(piece.get(unsummed.saturating_sub(copied)..).unwrap_or_default());
        copied += piece.len();
    }
    Some(sum.finalize())
}

/// Whether an instruction is one of those that copy, which are behind the first, by which `r10` has `end`, and before that,
/// where the copy ends if a page is gone.
pub(super) fn is_copying(instruction: usize, end: usize) -> bool {
    [copy as *const (), copy_folding as *const ()].iter().any(|code| {
        let code = code.addr();
        (code + 1..end.min(code + CODE)).contains(&instruction)
    })
}

/// Copies `len` bytes. Returns 0, or 1 when a page of the source could not be had; then some bytes may have been copied.
///
/// It asks for lines of the processor's cache eight lines ahead, since neither side has been touched for long. Where it
/// goes on after a bus error is in `r10`, whose value the calling convention leaves to us.
///
/// # Safety
/// The source is mapped, the target may be written, and they do not overlap.
#[unsafe(naked)]
unsafe extern "sysv64" fn copy(to: *mut u8, from: *const u8, len: usize) -> usize {
    naked_asm!(
        "lea r10, [rip + 5f]",
        "2:",
        "cmp rdx, 64",
        "jb 3f",
        "prefetcht0 [rsi + 512]",
        "prefetchw [rdi + 512]",
        "movups xmm0, [rsi]",
        "movups xmm1, [rsi + 16]",
        "movups xmm2, [rsi + 32]",
        "movups xmm3, [rsi + 48]",
        "movups [rdi], xmm0",
        "movups [rdi + 16], xmm1",
        "movups [rdi + 32], xmm2",
        "movups [rdi + 48], xmm3",
        "add rsi, 64",
        "add rdi, 64",
        "sub rdx, 64",
        "jmp 2b",
        "3:",
        "cmp rdx, 8",
        "jb 4f",
        "mov rax, [rsi]",
        "mov [rdi], rax",
        "add rsi, 8",
        "add rdi, 8",
        "sub rdx, 8",
        "jmp 3b",
        "4:",
        "test rdx, rdx",
        "jz 6f",
        "mov rcx, rdx",
        "rep movsb",
        "6:",
        "xor eax, eax",
        "ret",
        "5:",
        "mov eax, 1",
        "ret",
        ".fill {code}, 1, 0xcc",
        code = const CODE,
    )
}

/// Copies `len` bytes, which are blocks, at least one, and folds each into `state`, a block too: what that is in the end
/// has the CRC-32 of what it was, with the blocks behind it, if that begins with no bits set. Returns as [`copy`] does.
///
/// How to fold is from "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction" (Intel, 2009): the
/// remainders of x^(512+32) and x^(512-32), bits reflected.
///
/// # Safety
/// As for [`copy`]; `len` is a multiple of 64 and not 0; `state` is 64 bytes, which may be written and are part of neither
/// range; and the processor has AVX-512F and VPCLMULQDQ.
#[unsafe(naked)]
unsafe extern "sysv64" fn copy_folding(to: *mut u8, from: *const u8, len: usize, state: *mut u8) -> usize {
    naked_asm!(
        "lea r10, [rip + 3f]",
        "mov rax, 0x154442bd4",
        "vmovq xmm1, rax",
        "mov rax, 0x1c6e41596",
        "vmovq xmm2, rax",
        "vpunpcklqdq xmm1, xmm1, xmm2",
        "vshufi64x2 zmm1, zmm1, zmm1, 0",
        "vmovdqu64 zmm0, [rcx]",
        "2:",
        "vmovdqu64 zmm2, [rsi]",
        "vpclmulqdq zmm3, zmm0, zmm1, 0x00",
        "vpclmulqdq zmm0, zmm0, zmm1, 0x11",
        "vpternlogq zmm0, zmm3, zmm2, 0x96", // all three, exclusive or
        "vmovdqu64 [rdi], zmm2",
        "add rsi, 64",
        "add rdi, 64",
        "sub rdx, 64",
        "jnz 2b",
        "vmovdqu64 [rcx], zmm0",
        "vzeroupper",
        "xor eax, eax",
        "ret",
        "3:",
        "vzeroupper",
        "mov eax, 1",
        "ret",
        ".fill {code}, 1, 0xcc",
        code = const CODE,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that this processor can do. Where folding is not among it, it is not tested.
    fn kinds() -> [Copying; 2] {
        [Copying::Plain, Copying::best()]
    }

    /// Copies `from`, and looks at what is before and behind the target too.
    fn check(from: &[u8], place: usize, unsummed: usize) {
        for copying in kinds() {
            let mut memory = vec![7; place + from.len() + 100];
            let to = &mut memory[place..place + from.len()];
            // SAFETY: two slices, and a kind that the processor can do.
            let sum = unsafe { copy_summed(to, from.as_ptr(), unsummed, copying) };
            assert_eq!(sum, Some(crc32fast::hash(from.get(unsummed..).unwrap_or_default())), "{copying:?}");
            assert!(memory[place..place + from.len()] == *from, "{copying:?}");
            let around = memory[..place].iter().chain(&memory[place + from.len()..]);
            assert!(around.into_iter().all(|byte| *byte == 7), "{copying:?}");
        }
    }

    #[test]
    fn what_the_processor_can_do_is_done() {
        let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let flags = processors.lines().find(|line| line.starts_with("flags")).unwrap();
        let has = |flag: &str| flags.split_whitespace().any(|word| word == flag);
        // valgrind, which knows no such instructions, hides them
        let preloaded = std::env::var("LD_PRELOAD").unwrap_or_default();
        let folds = has("avx512f") && has("vpclmulqdq") && !preloaded.contains("vgpreload");
        assert_eq!(Copying::best() == Copying::Folding, folds);
    }

    proptest! {
        #[test]
        fn what_is_copied_is_the_same_and_summed(
            from in prop::collection::vec(any::<u8>(), 0..1000),
            skipped in 0..65_usize,
            place in 0..65_usize,
            unsummed in 0..200_usize,
        ) {
            check(from.get(skipped..).unwrap_or_default(), place, unsummed);
        }
    }

    #[test]
    fn any_length_is_copied_and_summed() {
        let from: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
        for len in (0..600).chain([4096, 4104, 4128, 70_000, PIECE - 1, PIECE + 4, PIECE + 64, from.len()]) {
            check(&from[..len], 32, 8);
        }
    }
}
