//! What overwriting costs beyond the bytes that were handed over: records moved by compaction, at the bound on
//! space.

use bytes::Bytes;
use overspill::{Frames, MutableMapping};

use crate::chain::segments;
use crate::harness::{Better, Row};

const KEYS: u64 = 1_000_000;
const OVERWRITES: u64 = 20_000_000;
const LEN: usize = 4096;

pub fn run(_rounds: usize) -> Vec<Row> {
    let zipf = Zipf::new(KEYS, 0.99);
    vec![
        measure("write amplification, Zipf 0.99 overwrites of 4 KiB", 1.2, |random| zipf.draw(random)),
        measure("write amplification, uniform overwrites of 4 KiB", 1.75, |random| random.u64(..KEYS)),
    ]
}

/// Bytes written to files for each byte of records handed over, in the second half of the overwrites.
fn measure(what: &str, goal: f64, mut next: impl FnMut(&mut fastrand::Rng) -> u64) -> Row {
    let mut random = fastrand::Rng::with_seed(5);
    let home = tempfile::tempdir().unwrap();
    let segments = segments(home.path());
    let value = Frames::from(Bytes::from(vec![7; LEN]));
    // Neighbours in rank are not neighbours on disk.
    let scattered = |key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for key in 0..KEYS {
        segments.insert(scattered(key), value.clone()).unwrap();
    }
    let record = segments.stored_size(&0).unwrap().disk;
    let mut from = segments.stats();
    let start = std::time::Instant::now();
    let mut most = 0.0f64;
    for n in 0..OVERWRITES {
        if n == OVERWRITES / 2 {
            from = segments.stats();
        }
        segments.insert(scattered(next(&mut random)), value.clone()).unwrap();
        if n % 1000 == 0 {
            let usage = segments.usage();
            let bound = usage.spilled.disk + usage.spilled.disk / 2 + (128 << 20);
            most = most.max(usage.physical as f64 / bound as f64);
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    assert!(most <= 1.0, "the files took {most:.3} of their bound");
    let to = segments.stats();
    let (written, moved) = (to.write.bytes - from.write.bytes, to.moved.bytes - from.moved.bytes);
    let handed_over = OVERWRITES / 2 * record;
    let figure = (written + moved) as f64 / handed_over as f64;
    Row {
        what: what.to_owned(),
        ours: format!("{figure:.3}"),
        peer: "-".to_owned(),
        ratio: figure,
        spread: (figure, figure),
        goal: Some((Better::LessTime, goal)),
        note: format!(
            "of bytes written {:.3}; at most {most:.3} of the bound; {:.0} k inserts/s",
            (written + moved) as f64 / written as f64,
            OVERWRITES as f64 / seconds / 1e3
        ),
    }
}

/// Ranks by Zipf's law, by the method of Gray and others, "Quickly generating billion-record synthetic databases".
struct Zipf {
    count: f64,
    theta: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    fn new(count: u64, theta: f64) -> Self {
        let zeta: f64 = (1..=count).map(|rank| (rank as f64).powf(-theta)).sum();
        let of_two = 1.0 + 0.5f64.powf(theta);
        let count = count as f64;
        let eta = (1.0 - (2.0 / count).powf(1.0 - theta)) / (1.0 - of_two / zeta);
        Zipf { count, theta, zeta, eta }
    }

    fn draw(&self, random: &mut fastrand::Rng) -> u64 {
        let uniform = random.f64();
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(self.theta) {
            return 1;
        }
        let rank = self.count * (self.eta * uniform - self.eta + 1.0).powf(1.0 / (1.0 - self.theta));
        (rank as u64).min(self.count as u64 - 1)
    }
}
