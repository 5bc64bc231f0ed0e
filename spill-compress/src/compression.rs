//! `Compression`: which compressor a layer takes for which frame.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use spill_core::{Clock, Error, Pool, Result};

use crate::adaptive::{Adaptive, Arm, Model};
use crate::blocks::Took;
use crate::compressor::{Compressor, NONE, NoCompression};
use crate::shuffle::Width;
use crate::tally::{Counter, Tally};

/// How a layer compresses: by one setting for all, or by [`Adaptive`], which chooses for each frame and is the
/// default.
///
/// Any [`Compressor`] is one, and so is a name: `adaptive`, `none`, `lz4`, `lz4:ACCELERATION`, `zstd:LEVEL`; all but
/// the first two also with the width of items to shuffle by, as in `lz4+shuffle8`.
///
/// ```
/// use spill_compress::{Compression, Lz4, Width};
///
/// let numbers = Compression::from(Lz4).shuffled(Width::Eight);
/// assert_eq!(numbers.to_string(), "lz4+shuffle8");
/// let same: Compression = "lz4+shuffle8".parse()?;
/// assert_eq!(same.to_string(), numbers.to_string());
/// assert_eq!(Compression::default().to_string(), "adaptive");
/// # Ok::<_, spill_core::Error>(())
/// ```
pub struct Compression {
    /// What there is to choose from, from light to heavy.
    ladder: Vec<Arc<dyn Compressor>>,
    choice: Choice,
    plain: Counter,
    /// For each compressor of the ladder, one for each width.
    counters: Vec<[Counter; Width::ALL.len()]>,
}

enum Choice {
    Fixed(Width),
    Adaptive(Box<Model>),
}

/// What was chosen for one frame.
pub(crate) struct Pick {
    rung: usize,
    pub(crate) width: Width,
    arm: Option<Arm>,
}

impl Compression {
    fn new(ladder: Vec<Arc<dyn Compressor>>, choice: Choice) -> Self {
        let counters = ladder.iter().map(|_| Default::default()).collect();
        Compression { ladder, choice, plain: Counter::default(), counters }
    }

    /// Sorts the bytes of items of this width before they are compressed: for numbers. Without effect on
    /// [`Adaptive`], which finds the width of each frame by itself.
    #[must_use]
    pub fn shuffled(mut self, width: Width) -> Self {
        if let Choice::Fixed(fixed) = &mut self.choice {
            *fixed = width;
        }
        self
    }

    /// What each setting did so far: those that were chosen, lightest first, and "none" before them.
    #[must_use]
    pub fn tallies(&self) -> Vec<Tally> {
        let plain = self.plain.read("none".to_owned(), Width::One);
        let packed = self.ladder.iter().zip(&self.counters).flat_map(|(compressor, counters)| {
            let by_width = Width::ALL.into_iter().zip(counters);
            by_width.map(|(width, counter)| counter.read(compressor.setting(), width))
        });
        std::iter::once(plain).chain(packed).filter(|tally| tally.frames > 0).collect()
    }

    /// What to do with `frame`; `None` to store it as it is.
    pub(crate) fn pick(&self, frame: &[u8], pool: &Pool, clock: &dyn Clock) -> Option<Pick> {
        match &self.choice {
            Choice::Fixed(width) => {
                let compressor = self.ladder.first().filter(|compressor| compressor.id() != NONE)?;
                let tried = compressor.scratch_len(frame.len().min(compressor.block_len())) > 0;
                tried.then_some(Pick { rung: 0, width: *width, arm: None })
            }
            Choice::Adaptive(model) => {
                let arm = model.pick(frame, &self.ladder, pool, clock)?;
                Some(Pick { rung: arm.rung(), width: arm.width(), arm: Some(arm) })
            }
        }
    }

    /// The compressor that `pick` chose.
    pub(crate) fn picked(&self, pick: &Pick) -> &dyn Compressor {
        self.ladder.get(pick.rung).map_or(&NoCompression, |compressor| &**compressor)
    }

    /// Learns what came of `pick`: `bytes` became `stored`. Work is counted; the choice goes by what the caller waits for.
    pub(crate) fn packed(&self, pick: &Pick, bytes: usize, stored: usize, took: Took) {
        if let Some(counters) = self.counters.get(pick.rung) {
            counters[usize::from(pick.width.power())].add(bytes, stored, took.work);
        }
        if let (Choice::Adaptive(model), Some(arm)) = (&self.choice, &pick.arm) {
            model.learn(arm, bytes, stored, took.wait);
        }
    }

    /// Counts a frame that was stored as it is.
    pub(crate) fn plain(&self, bytes: usize) {
        self.plain.add(bytes, bytes, Duration::ZERO);
    }

    /// Learns that storage took `stored` bytes in `waited`.
    pub(crate) fn written(&self, stored: u64, waited: Duration) {
        if let Choice::Adaptive(model) = &self.choice {
            model.written(stored, waited);
        }
    }

    /// Whether it wants to be told how long storage takes.
    pub(crate) fn follows_storage(&self) -> bool {
        matches!(self.choice, Choice::Adaptive(_))
    }

    /// The compressor of its own with this number.
    pub(crate) fn by_id(&self, id: u8) -> Option<&dyn Compressor> {
        self.ladder.iter().find(|compressor| compressor.id() == id).map(|compressor| &**compressor)
    }
}

impl Default for Compression {
    fn default() -> Self {
        Adaptive::default().into()
    }
}

impl From<Adaptive> for Compression {
    fn from(adaptive: Adaptive) -> Self {
        let ladder = adaptive.into_ladder();
        Compression::new(ladder, Choice::Adaptive(Box::default()))
    }
}

impl<C: Compressor> From<C> for Compression {
    fn from(compressor: C) -> Self {
        Compression::new(vec![Arc::new(compressor)], Choice::Fixed(Width::One))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.choice, self.ladder.first()) {
            (Choice::Adaptive(_), _) => f.write_str("adaptive"),
            (Choice::Fixed(Width::One), Some(compressor)) => f.write_str(&compressor.setting()),
            (Choice::Fixed(width), Some(compressor)) => {
                write!(f, "{}+shuffle{}", compressor.setting(), width.bytes())
            }
            (Choice::Fixed(_), None) => f.write_str("none"),
        }
    }
}

impl fmt::Debug for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compression({self})")
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, width) = match text.split_once('+') {
            None => (text, Width::One),
            Some((name, filter)) => (name, parse_width(filter).ok_or_else(|| unknown(text))?),
        };
        let compression = match name.split_once(':').unwrap_or((name, "")) {
            ("adaptive", "") if width == Width::One => Compression::default(),
            ("none", "") if width == Width::One => NoCompression.into(),
            #[cfg(feature = "lz4")]
            ("lz4", "") => crate::Lz4.into(),
            #[cfg(feature = "lz4")]
            ("lz4", acceleration) => {
                crate::Lz4Fast::new(acceleration.parse().map_err(|_| unknown(text))?)?.into()
            }
            #[cfg(feature = "zstd")]
            ("zstd", "") => crate::Zstd::default().into(),
            #[cfg(feature = "zstd")]
            ("zstd", level) => crate::Zstd::new(level.parse().map_err(|_| unknown(text))?)?.into(),
            _ => return Err(unknown(text)),
        };
        Ok(compression.shuffled(width))
    }
}

fn parse_width(filter: &str) -> Option<Width> {
    Width::new(filter.strip_prefix("shuffle")?.parse().ok()?).ok()
}

fn unknown(text: &str) -> Error {
    let known = "adaptive, none, lz4, lz4:ACCELERATION, zstd or zstd:LEVEL (as far as compiled in); all but the \
                 first two also followed by +shuffleN with N of 1, 2, 4, 8 or 16";
    Error::config("compression", text, known)
}

#[cfg(all(test, feature = "lz4", feature = "zstd"))]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in
            ["adaptive", "none", "lz4", "lz4:9", "zstd:3", "zstd:-5", "lz4+shuffle8", "zstd:22+shuffle2"]
        {
            assert_eq!(name.parse::<Compression>().unwrap().to_string(), name);
        }
        assert_eq!("zstd".parse::<Compression>().unwrap().to_string(), "zstd:3");
    }

    #[test]
    fn other_names_are_refused_with_those_that_exist() {
        for name in [
            "",
            "gzip",
            "lz4:0",
            "lz4:x",
            "zstd:x",
            "zstd:23",
            "lz4+shuffle3",
            "lz4+bitshuffle",
            "none+shuffle8",
            "adaptive+shuffle8",
            "lz4+shuffle8+shuffle8",
        ] {
            name.parse::<Compression>().unwrap_err();
        }
    }
}
