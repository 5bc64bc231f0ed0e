//! The shuffle with SSE2, which every x86-64 processor has, and AVX2 where it is found at run time.
//!
//! Sixteen items of `W` bytes fill `W` vectors of 16 bytes. The address of a byte in them is the number of its
//! item, four bits, and then its place in the item. Interleaving each vector of the first half with its
//! counterpart of the second turns all addresses left by one bit. Four turns swap the two parts, which is the
//! shuffle; as many turns as the place has bits swap them back. AVX2 interleaves within halves of 16 bytes, so
//! its vectors hold two such groups side by side.
//!
//! On memory that no cache holds, waiting for it would take three times as long as all else: it is asked for ahead.

use std::arch::x86_64::{
    __m128i, __m256i, _MM_HINT_ET0, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm_setzero_si128,
    _mm_storeu_si128, _mm_unpackhi_epi8, _mm_unpacklo_epi8, _mm256_loadu_si256, _mm256_permute2x128_si256,
    _mm256_setzero_si256, _mm256_storeu_si256, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};

use super::Lanes;

/// Items in a vector of 16 bytes of one lane.
const GROUP: usize = 16;

/// Turns of the addresses that shuffle a group: the bits of an item's number.
const TURNS: u32 = GROUP.ilog2();

/// How far ahead of its use memory is asked for, in bytes, and what is asked for at once.
const AHEAD: usize = 8 << 10;
const LINE: usize = 64;

/// Shuffles as many items as fill vectors and returns their number.
pub(super) fn shuffle<const W: usize>(from: &[u8], to: &mut [u8]) -> usize {
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        unsafe { avx2_shuffle::<W>(from, to) }
    } else {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { sse2_shuffle::<W>(from, to) }
    }
}

/// Undoes [`shuffle`] for as many items as fill vectors and returns their number.
pub(super) fn unshuffle<const W: usize>(from: &Lanes<'_>, to: &mut [u8]) -> usize {
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        unsafe { avx2_unshuffle::<W>(from, to) }
    } else {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { sse2_unshuffle::<W>(from, to) }
    }
}

#[target_feature(enable = "sse2")]
fn sse2_shuffle<const W: usize>(from: &[u8], to: &mut [u8]) -> usize {
    let items = from.len() / W;
    for item in (0..items / GROUP * GROUP).step_by(GROUP) {
        ask_for::<{ _MM_HINT_T0 }>(from.as_ptr(), item * W, GROUP * W);
        let mut v = [_mm_setzero_si128(); W];
        for (n, v) in v.iter_mut().enumerate() {
            *v = load(&from[item * W + n * GROUP..]);
        }
        for _ in 0..TURNS {
            v = turn(v);
        }
        for (byte, v) in v.into_iter().enumerate() {
            store(v, &mut to[byte * items + item..]);
        }
    }
    items / GROUP * GROUP
}

#[target_feature(enable = "sse2")]
fn sse2_unshuffle<const W: usize>(from: &Lanes<'_>, to: &mut [u8]) -> usize {
    let items = to.len() / W;
    for item in (0..items / GROUP * GROUP).step_by(GROUP) {
        ask_for::<{ _MM_HINT_ET0 }>(to.as_ptr(), item * W, GROUP * W);
        let mut v = [_mm_setzero_si128(); W];
        for (lane, v) in from.iter().zip(&mut v) {
            *v = load(&lane[item..]);
        }
        for _ in 0..W.ilog2() {
            v = turn(v);
        }
        for (n, v) in v.into_iter().enumerate() {
            store(v, &mut to[item * W + n * GROUP..]);
        }
    }
    items / GROUP * GROUP
}

#[target_feature(enable = "avx2")]
fn avx2_shuffle<const W: usize>(from: &[u8], to: &mut [u8]) -> usize {
    let items = from.len() / W;
    for item in (0..items / (2 * GROUP) * (2 * GROUP)).step_by(2 * GROUP) {
        ask_for::<{ _MM_HINT_T0 }>(from.as_ptr(), item * W, 2 * GROUP * W);
        let mut v = [_mm256_setzero_si256(); W];
        for (n, pair) in v.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            let low = load_wide(&from[item * W + n * 2 * GROUP..]);
            let high = load_wide(&from[(item + GROUP) * W + n * 2 * GROUP..]);
            *pair = halves(low, high);
        }
        for _ in 0..TURNS {
            v = turn_wide(v);
        }
        for (byte, v) in v.into_iter().enumerate() {
            store_wide(v, &mut to[byte * items + item..]);
        }
    }
    items / (2 * GROUP) * (2 * GROUP)
}

#[target_feature(enable = "avx2")]
fn avx2_unshuffle<const W: usize>(from: &Lanes<'_>, to: &mut [u8]) -> usize {
    let items = to.len() / W;
    for item in (0..items / (2 * GROUP) * (2 * GROUP)).step_by(2 * GROUP) {
        ask_for::<{ _MM_HINT_ET0 }>(to.as_ptr(), item * W, 2 * GROUP * W);
        let mut v = [_mm256_setzero_si256(); W];
        for (lane, v) in from.iter().zip(&mut v) {
            *v = load_wide(&lane[item..]);
        }
        for _ in 0..W.ilog2() {
            v = turn_wide(v);
        }
        for (n, [first, second]) in v.as_chunks::<2>().0.iter().enumerate() {
            let [low, high] = halves(*first, *second);
            store_wide(low, &mut to[item * W + n * 2 * GROUP..]);
            store_wide(high, &mut to[(item + GROUP) * W + n * 2 * GROUP..]);
        }
    }
    items / (2 * GROUP) * (2 * GROUP)
}

#[target_feature(enable = "sse2")]
#[inline]
fn turn<const W: usize>(v: [__m128i; W]) -> [__m128i; W] {
    let mut turned = v;
    for n in 0..W / 2 {
        turned[2 * n] = _mm_unpacklo_epi8(v[n], v[n + W / 2]);
        turned[2 * n + 1] = _mm_unpackhi_epi8(v[n], v[n + W / 2]);
    }
    turned
}

#[target_feature(enable = "avx2")]
#[inline]
fn turn_wide<const W: usize>(v: [__m256i; W]) -> [__m256i; W] {
    let mut turned = v;
    for n in 0..W / 2 {
        turned[2 * n] = _mm256_unpacklo_epi8(v[n], v[n + W / 2]);
        turned[2 * n + 1] = _mm256_unpackhi_epi8(v[n], v[n + W / 2]);
    }
    turned
}

/// The lower halves of both vectors in one, and the upper halves in another.
#[target_feature(enable = "avx2")]
#[inline]
fn halves(first: __m256i, second: __m256i) -> [__m256i; 2] {
    [_mm256_permute2x128_si256::<0x20>(first, second), _mm256_permute2x128_si256::<0x31>(first, second)]
}

/// Has the `len` bytes brought into the cache that lie [`AHEAD`] behind number `at`.
#[target_feature(enable = "sse2")]
#[inline]
fn ask_for<const HINT: i32>(bytes: *const u8, at: usize, len: usize) {
    for line in (0..len).step_by(LINE) {
        // Any address may be asked for, also one beyond the bytes: nothing is read.
        _mm_prefetch::<HINT>(bytes.wrapping_add(at + AHEAD + line).cast());
    }
}

#[target_feature(enable = "sse2")]
#[inline]
fn load(from: &[u8]) -> __m128i {
    let from = &from[..size_of::<__m128i>()];
    // SAFETY: the slice holds the bytes that are read; any alignment will do.
    unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
#[inline]
fn store(v: __m128i, to: &mut [u8]) {
    let to = &mut to[..size_of::<__m128i>()];
    // SAFETY: the slice holds the bytes that are written; any alignment will do.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), v) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_wide(from: &[u8]) -> __m256i {
    let from = &from[..size_of::<__m256i>()];
    // SAFETY: the slice holds the bytes that are read; any alignment will do.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store_wide(v: __m256i, to: &mut [u8]) {
    let to = &mut to[..size_of::<__m256i>()];
    // SAFETY: the slice holds the bytes that are written; any alignment will do.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), v) }
}

/// One set of instructions, for tests that compare them.
#[cfg(test)]
pub(super) struct Way {
    pub(super) shuffle: fn(&[u8], &mut [u8]) -> usize,
    pub(super) unshuffle: fn(&Lanes<'_>, &mut [u8]) -> usize,
}

/// What this processor can do, whichever of it [`shuffle`] would take.
#[cfg(test)]
pub(super) fn ways<const W: usize>() -> Vec<Way> {
    let mut ways = vec![Way {
        // SAFETY: every x86-64 processor has SSE2.
        shuffle: |from, to| unsafe { sse2_shuffle::<W>(from, to) },
        // SAFETY: as above.
        unshuffle: |from, to| unsafe { sse2_unshuffle::<W>(from, to) },
    }];
    if is_x86_feature_detected!("avx2") {
        ways.push(Way { shuffle: shuffle::<W>, unshuffle: unshuffle::<W> });
    }
    ways
}
