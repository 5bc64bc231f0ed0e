//! What a look at some bytes of a frame tells: how wide its items are, and how much the bytes repeat.

use crate::shuffle::Width;

/// Bytes of a row: the widest item, so that each column of the rows is one byte of the items, for all widths.
const ROW: usize = 16;

/// Rows next to each other that are looked at: a line of the processor's cache, which costs as much as a byte of it.
const LINE: usize = 4;

/// Lines looked at, at least (in a frame that has them) and at most. More sharpen the estimate and cost time
/// that incompressible frames do not give back.
const FEWEST: usize = 4;
const MOST: usize = 16;

/// One line is looked at in so many bytes.
const SPACING: usize = 2 << 10;

/// How much more often bytes must meet their like within columns than overall, for items of that width to be
/// believed.
const CLEARLY: f64 = 1.25;

/// A narrower width is as good when it reaches this share of what the best one does.
const NEARLY: f64 = 0.9;

/// Spreads the lines looked at without a period.
const SCATTER: usize = 0x9E37_79B1;

/// What a frame looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    /// The length of its items, as far as it shows.
    pub(crate) width: Width,
    /// How little its bytes repeat, column by column of that width: from 0 bits, where all are the same, to 8,
    /// where they look random. (Rényi's entropy of order 2, which needs only counts of equal pairs.)
    pub(crate) bits: f64,
}

/// Looks at lines spread over `frame`.
pub(crate) fn look(frame: &[u8]) -> Sample {
    let lines = frame.as_chunks::<ROW>().0.as_chunks::<LINE>().0;
    let count = (frame.len() / SPACING).clamp(FEWEST, MOST).min(lines.len());
    if count == 0 {
        return Sample { width: Width::One, bits: 0.0 };
    }
    // All are fetched before any is counted: no cache holds them, and waiting for one after the other would take several
    // times as long.
    let mut seen = [[[0; ROW]; LINE]; MOST];
    for (n, seen) in seen[..count].iter_mut().enumerate() {
        // One line of each part. Always the same one would meet numbers that grow evenly at steps of a power of
        // two, where their low bytes do not change at all.
        let (start, end) = (n * lines.len() / count, (n + 1) * lines.len() / count);
        *seen = lines[start + (n.wrapping_mul(SCATTER) >> 16) % (end - start)];
    }
    let rows = seen[..count].as_flattened();
    let mut columns = [[0_i16; 256]; ROW];
    for row in rows {
        for (column, byte) in columns.iter_mut().zip(row) {
            column[usize::from(*byte)] += 1;
        }
    }
    // How often two bytes of a column are equal, for each width: wide to narrow, folding the columns.
    let mut equal = [0.0; Width::ALL.len()];
    for width in Width::ALL.into_iter().rev() {
        let lanes = width.bytes();
        let (first, second) = columns.split_at_mut(lanes);
        for (to, from) in first.iter_mut().zip(second.iter()).take(if lanes < ROW { lanes } else { 0 }) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
        let bytes = rows.len() * ROW / lanes;
        let squares: i32 = first.as_flattened().iter().map(|n| i32::from(*n) * i32::from(*n)).sum();
        equal[usize::from(width.power())] =
            (f64::from(squares) - (bytes * lanes) as f64) / (lanes * bytes * (bytes - 1)) as f64;
    }
    let best = equal.iter().copied().fold(0.0, f64::max);
    let width = if best > equal[0] * CLEARLY + 2.0 / 256.0 {
        Width::ALL.into_iter().find(|width| equal[usize::from(width.power())] >= best * NEARLY)
    } else {
        None
    };
    let width = width.unwrap_or_default();
    let bits = -equal[usize::from(width.power())].max(1.0 / 256.0).log2();
    Sample { width, bits: bits.clamp(0.0, 8.0) }
}

/// Numbers that do not repeat, the same in every run.
#[cfg(test)]
fn noise(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    })
}

/// Bytes that do not repeat.
#[cfg(all(test, any(feature = "lz4", feature = "zstd")))]
pub(crate) fn noise_bytes() -> impl Iterator<Item = u8> {
    noise(1).map(|n| (n >> 56) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_of_numbers_is_found() {
        let ramp: Vec<u8> = (0..20_000).flat_map(|n| (f64::from(n) * 0.1).to_le_bytes()).collect();
        assert_eq!(look(&ramp).width, Width::Eight, "{:?}", look(&ramp));
        let whole: Vec<u8> = (0..20_000).flat_map(|n| f64::from(n).to_le_bytes()).collect();
        assert_eq!(look(&whole).width, Width::Eight, "{:?}", look(&whole));
        let counters: Vec<u8> = (0..40_000_i32).flat_map(|n| (n * 3).to_le_bytes()).collect();
        assert_eq!(look(&counters).width, Width::Four, "{:?}", look(&counters));
        let floats: Vec<u8> = noise(1)
            .take(40_000)
            .flat_map(|n| (20.0 + (n >> 40) as f32 / (1 << 24) as f32).to_le_bytes())
            .collect();
        assert_eq!(look(&floats).width, Width::Four, "{:?}", look(&floats));
        let shorts: Vec<u8> = noise(2).take(40_000).flat_map(|n| ((n >> 55) as u16).to_le_bytes()).collect();
        assert_eq!(look(&shorts).width, Width::Two, "{:?}", look(&shorts));
        let mut id = 1_000_000;
        let ids: Vec<u8> = noise(3)
            .take(20_000)
            .flat_map(|n| {
                id += n >> 58;
                id.to_le_bytes()
            })
            .collect();
        assert_eq!(look(&ids).width, Width::Eight, "{:?}", look(&ids));
    }

    #[test]
    fn bytes_without_width_have_none() {
        let random: Vec<u8> = noise(4).take(20_000).flat_map(u64::to_le_bytes).collect();
        assert_eq!(look(&random).width, Width::One);
        assert!(look(&random).bits > 7.0, "{:?}", look(&random));
        let words = ["a ", "look ", "at ", "some ", "words ", "of ", "no ", "particular ", "order, ", "the "];
        let text: String = noise(6).take(6000).map(|n| words[(n >> 40) as usize % words.len()]).collect();
        assert_eq!(look(text.as_bytes()).width, Width::One, "{:?}", look(text.as_bytes()));
        assert_eq!(look(&[7; 10_000]), Sample { width: Width::One, bits: 0.0 });
    }

    #[test]
    fn frames_of_any_length_can_be_looked_at() {
        let random: Vec<u8> = noise(5).take(200).flat_map(u64::to_le_bytes).collect();
        for len in 0..random.len() {
            assert!((0.0..=8.0).contains(&look(&random[..len]).bits));
        }
    }
}
