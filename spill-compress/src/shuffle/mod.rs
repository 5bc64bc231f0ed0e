//! Byte shuffle: the first bytes of all items together, then the second bytes, and so on.
//!
//! Neighbouring numbers share their high bytes, so that the shuffled bytes hold long runs that a compressor
//! finds quickly. It is the filter of the same name in HDF5 and Blosc: byte `b` of item `i` of `n` moves to
//! `b * n + i`; bytes behind the last whole item stay where they are.

mod portable;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector loads and stores, and functions for instructions found at run time")]
mod x86;

use spill_core::{Error, Result};

/// The length of the items in a frame, in bytes: what a byte shuffle sorts by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// Bytes: nothing to shuffle.
    #[default]
    One,
    /// Items of two bytes, such as `i16`.
    Two,
    /// Items of four bytes, such as `f32`.
    Four,
    /// Items of eight bytes, such as `f64`.
    Eight,
    /// Items of sixteen bytes, such as `u128`, or pairs of `f64`.
    Sixteen,
}

impl Width {
    /// All widths, narrow to wide.
    pub const ALL: [Width; 5] = [Width::One, Width::Two, Width::Four, Width::Eight, Width::Sixteen];

    /// Bytes of the widest items.
    pub(crate) const WIDEST: usize = 16;

    /// The width of `bytes` bytes.
    ///
    /// # Errors
    /// [`Config`](spill_core::ErrorKind::Config) unless that is 1, 2, 4, 8 or 16.
    pub fn new(bytes: usize) -> Result<Width> {
        let found = Width::ALL.into_iter().find(|width| width.bytes() == bytes);
        found.ok_or_else(|| Error::config("shuffle width", bytes, "1, 2, 4, 8 or 16 bytes"))
    }

    /// The length of an item in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        1 << self.power()
    }

    /// Its logarithm to base 2.
    pub(crate) fn power(self) -> u8 {
        self as u8
    }

    /// The width of 2 to the `power` bytes.
    pub(crate) fn from_power(power: u8) -> Option<Width> {
        Width::ALL.get(usize::from(power)).copied()
    }
}

/// The first bytes of all items, the second bytes, and so on, as many as an item has; the last holds the bytes behind the
/// last whole item too.
pub(crate) type Lanes<'a> = [&'a [u8]; Width::WIDEST];

/// Writes `from` to `to` with the bytes of its items sorted by their place in the item. Both have one length.
pub(crate) fn shuffle(width: Width, from: &[u8], to: &mut [u8]) {
    match width {
        Width::One => to.copy_from_slice(from),
        Width::Two => apart::<2>(from, to),
        Width::Four => apart::<4>(from, to),
        Width::Eight => apart::<8>(from, to),
        Width::Sixteen => apart::<16>(from, to),
    }
}

/// Undoes [`shuffle`] of these lanes, which are together as long as `to`.
pub(crate) fn unshuffle(width: Width, from: &Lanes<'_>, to: &mut [u8]) {
    match width {
        Width::One => to.copy_from_slice(from[0]),
        Width::Two => together::<2>(from, to),
        Width::Four => together::<4>(from, to),
        Width::Eight => together::<8>(from, to),
        Width::Sixteen => together::<16>(from, to),
    }
}

/// The lanes of what is shuffled.
pub(crate) fn lanes(width: Width, shuffled: &[u8]) -> Lanes<'_> {
    let (mut lanes, mut rest) = (Lanes::default(), shuffled);
    for (lane, len) in lanes.iter_mut().zip(lane_lens(width, shuffled.len())) {
        (*lane, rest) = rest.split_at(len);
    }
    lanes
}

/// The lengths of the lanes of a block of `len` bytes.
pub(crate) fn lane_lens(width: Width, len: usize) -> impl Iterator<Item = usize> {
    let (count, items) = (width.bytes(), len / width.bytes());
    (1..=count).map(move |lane| if lane < count { items } else { len - (count - 1) * items })
}

fn apart<const W: usize>(from: &[u8], to: &mut [u8]) {
    let (from, to) = same_length(from, to);
    #[cfg(target_arch = "x86_64")]
    let done = x86::shuffle::<W>(from, to);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    portable::shuffle::<W>(from, to, done);
}

fn together<const W: usize>(from: &Lanes<'_>, to: &mut [u8]) {
    debug_assert_eq!(from.iter().map(|lane| lane.len()).sum::<usize>(), to.len());
    #[cfg(target_arch = "x86_64")]
    let done = x86::unshuffle::<W>(from, to);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    portable::unshuffle::<W>(from, to, done);
}

fn same_length<'a>(from: &'a [u8], to: &'a mut [u8]) -> (&'a [u8], &'a mut [u8]) {
    debug_assert_eq!(from.len(), to.len());
    let len = from.len().min(to.len());
    (&from[..len], &mut to[..len])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;

    /// What the module's documentation says, byte by byte.
    fn defined(width: usize, from: &[u8]) -> Vec<u8> {
        let items = from.len() / width;
        let mut to = from.to_vec();
        for item in 0..items {
            for byte in 0..width {
                to[byte * items + item] = from[item * width + byte];
            }
        }
        to
    }

    #[test]
    fn only_the_five_widths_exist() {
        for width in Width::ALL {
            assert_eq!(Width::new(width.bytes()).unwrap(), width);
            assert_eq!(Width::from_power(width.power()), Some(width));
        }
        for bytes in [0, 3, 5, 7, 9, 32, usize::MAX] {
            Width::new(bytes).unwrap_err();
        }
        assert_eq!(Width::from_power(5), None);
    }

    #[test]
    fn every_length_around_the_vectors_is_shuffled_as_defined() {
        let bytes: Vec<u8> = (0..2100_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for width in Width::ALL {
            for len in (0..200).chain(500..600).chain(1000..1060).chain(2040..2100) {
                let from = &bytes[..len];
                let mut to = vec![0; len];
                shuffle(width, from, &mut to);
                assert_eq!(to, defined(width.bytes(), from), "{width:?}, {len} bytes");
                let mut back = vec![0; len];
                unshuffle(width, &lanes(width, &to), &mut back);
                assert_eq!(back, from, "{width:?}, {len} bytes");
            }
        }
    }

    fn all_ways<const W: usize>(from: &[u8]) -> std::result::Result<(), TestCaseError> {
        let expected = defined(W, from);
        let width = Width::new(W).unwrap();
        let mut ways = vec![vec![0; from.len()]];
        portable::shuffle::<W>(from, &mut ways[0], 0);
        #[cfg(target_arch = "x86_64")]
        for way in x86::ways::<W>() {
            let mut to = vec![0; from.len()];
            let done = (way.shuffle)(from, &mut to);
            portable::shuffle::<W>(from, &mut to, done);
            ways.push(to);
            let mut back = vec![0; from.len()];
            let done = (way.unshuffle)(&lanes(width, &expected), &mut back);
            portable::unshuffle::<W>(&lanes(width, &expected), &mut back, done);
            prop_assert_eq!(&back[..], from);
        }
        for way in ways {
            prop_assert_eq!(&way, &expected);
            let mut back = vec![0; from.len()];
            portable::unshuffle::<W>(&lanes(width, &way), &mut back, 0);
            prop_assert_eq!(&back[..], from);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn every_set_of_instructions_gives_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            all_ways::<2>(&bytes)?;
            all_ways::<4>(&bytes)?;
            all_ways::<8>(&bytes)?;
            all_ways::<16>(&bytes)?;
        }
    }
}
