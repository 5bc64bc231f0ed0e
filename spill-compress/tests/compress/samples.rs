//! Data of known kinds, the same for the same seed.
#![allow(dead_code, reason = "some features leave tests out that use it")]

use bytes::Bytes;

/// Numbers without any pattern.
pub(crate) fn random(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    })
}

/// Bytes without any pattern.
pub(crate) fn noise(len: usize, seed: u64) -> Bytes {
    random(seed).map(|n| (n >> 32) as u8).take(len).collect()
}

/// A ramp of float64, 100,000 numbers on from `start`.
pub(crate) fn ramp(len: usize, start: u32) -> Bytes {
    (0..len as u32 / 8).flat_map(|n| (f64::from(start + n) * 0.1).to_le_bytes()).collect()
}

/// Counters of int32.
pub(crate) fn counters(len: usize, start: u32) -> Bytes {
    (0..len as u32 / 4).flat_map(|n| ((start + n) * 3).to_le_bytes()).collect()
}

/// What a sensor gives as float32: about 20 degrees, with noise in all lower bits.
pub(crate) fn sensor(len: usize, seed: u64) -> Bytes {
    let degrees = random(seed).map(|n| 20.0 + (n >> 40) as f32 / (1 << 24) as f32);
    degrees.take(len / 4).flat_map(f32::to_le_bytes).collect()
}
