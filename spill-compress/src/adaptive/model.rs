//! What is known of each class of frames and of storage, and the choice that follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use spill_core::{Clock, Pool};

use super::experience::{Case, Experience, Step, Trial};
use super::known::Figures;
use super::storage::Storage;
use crate::blocks::Desk;
use crate::compressor::Compressor;
use crate::sample::{self, Sample};
use crate::shuffle::Width;

/// Frames shorter than this, in bytes, are stored as they are: what they could save is less than a record's
/// own header.
const SHORTEST: usize = 128;

/// Frames up to this length, in bytes, are so cheap to store that looking at each would show.
const SMALL: usize = 128 << 10;

/// After so many small frames in a row that were best stored as they are, only one in [`LOOK_AT`] is looked at.
const QUIET_AFTER: u32 = 16;
const LOOK_AT: u32 = 8;

/// The piece of a frame that a setting is tried on, in bytes, and the part of it that goes before, so that contexts
/// are made and memory is faulted in.
const PIECE: usize = 64 << 10;
const WARM_UP: usize = PIECE / 4;

/// A piece that took so many nanoseconds is not compressed once more.
const SLOW: f64 = 300e3;

/// Frames that look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Class {
    width: Width,
    bits: u8,
    length: u8,
}

impl Class {
    fn of(sample: Sample, len: usize) -> Self {
        // Fixed costs of a call matter less the longer the frame is: about four to a step.
        let length = (len.ilog2() / 2).min(9) as u8;
        Class { width: sample.width, bits: sample.bits.round() as u8, length }
    }

    /// Whether what is known of `other` will probably hold here too.
    fn is_like(&self, other: &Class) -> bool {
        let is_near = |a: u8, b: u8| a.abs_diff(b) <= 1;
        self.width == other.width && is_near(self.bits, other.bits) && is_near(self.length, other.length)
    }
}

/// One way to compress one class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arm {
    class: Class,
    /// Twice the place in the ladder, and one more where it is shuffled.
    index: usize,
    trial: Option<Trial>,
    /// What it made of a piece of the same frame.
    piece: Option<Figures>,
}

impl Arm {
    /// Its place in the ladder.
    pub(crate) fn rung(&self) -> usize {
        self.index / 2
    }

    /// What frames are shuffled by.
    pub(crate) fn width(&self) -> Width {
        if self.index % 2 == 1 { self.class.width } else { Width::One }
    }
}

#[derive(Debug, Default)]
struct Learned {
    storage: Storage,
    classes: BTreeMap<Class, Experience>,
}

/// The state of an adaptive choice. Its lock is held for a few comparisons.
#[derive(Debug, Default)]
pub(crate) struct Model {
    learned: Mutex<Learned>,
    /// Small frames in a row that were stored as they are.
    plain_run: AtomicU32,
    /// Small frames to be stored as they are without a look.
    unseen: AtomicU32,
}

impl Model {
    /// How to compress `frame`; `None` to store it as it is.
    pub(crate) fn pick(
        &self,
        frame: &[u8],
        ladder: &[Arc<dyn Compressor>],
        pool: &Pool,
        clock: &dyn Clock,
    ) -> Option<Arm> {
        if frame.len() < SHORTEST || self.passes_by(frame.len()) {
            return None;
        }
        let sample = sample::look(frame);
        let class = Class::of(sample, frame.len());
        let step = self.choose(frame, class, ladder, pool, clock);
        self.saw(frame.len(), step.is_none());
        step.map(|(index, trial, piece)| Arm { class, index, trial, piece })
    }

    /// The best setting for `frame` or one that is to be tried on it, after settings were tried on a piece of it; and what it
    /// made of that piece.
    fn choose(
        &self,
        frame: &[u8],
        class: Class,
        ladder: &[Arc<dyn Compressor>],
        pool: &Pool,
        clock: &dyn Clock,
    ) -> Option<(usize, Option<Trial>, Option<Figures>)> {
        let (piece, mut desk) = (piece_of(frame), None);
        // What settings made of the piece.
        let mut seen: Vec<(usize, Figures)> = Vec::new();
        let mut learned = self.learned.lock();
        let storage = learned.storage.per_byte();
        let count = if self.is_quiet(frame.len()) { LOOK_AT } else { 1 };
        let case = Case { len: frame.len() as f64, piece: piece.len() as f64, storage, count };
        let is_shuffled = class.width != Width::One;
        if !learned.classes.contains_key(&class) {
            let new = Experience::new(ladder.len(), is_shuffled, class.bits, case);
            let alike = learned.classes.iter().find(|(other, _)| class.is_like(other));
            let new = match alike {
                Some((_, other)) => new.like(other),
                None => new,
            };
            learned.classes.insert(class, new);
        }
        learned.classes.get_mut(&class)?.meet(case);
        loop {
            let (index, beside) = match learned.classes.get_mut(&class)?.next(case) {
                Step::Plain => return None,
                Step::Take(index, trial) => return Some((index, trial, of(&seen, index))),
                Step::Try(index, beside) => (index, beside),
            };
            drop(learned);
            let desk = desk.get_or_insert_with(|| Desk::new(pool));
            let mut spent = 0.0;
            for index in beside.into_iter().chain([index]) {
                let arm = Arm { class, index, trial: None, piece: None };
                if of(&seen, index).is_none()
                    && let Some((made, time)) = try_out(piece, &*ladder[arm.rung()], arm.width(), desk, clock)
                {
                    seen.push((index, made));
                    spent += time;
                }
            }
            learned = self.learned.lock();
            let beside = beside.and_then(|beside| Some((beside, of(&seen, beside)?)));
            learned.classes.get_mut(&class)?.tried(index, of(&seen, index), beside, spent, storage);
        }
    }

    /// Learns that `arm` made `stored` of `bytes` in `time`.
    pub(crate) fn learn(&self, arm: &Arm, bytes: usize, stored: usize, time: Duration) {
        let len = bytes.max(1) as f64;
        let seen = Figures { nanos: nanos(time) / len, share: stored as f64 / len };
        let mut learned = self.learned.lock();
        let storage = learned.storage.per_byte();
        if let Some(experience) = learned.classes.get_mut(&arm.class) {
            experience.learn(arm.index, arm.trial, arm.piece, seen, len, storage);
        }
    }

    /// Learns that storage took `stored` bytes in `waited`.
    pub(crate) fn written(&self, stored: u64, waited: Duration) {
        self.learned.lock().storage.add(stored, waited);
    }

    /// Whether a frame of this length is stored as it is without a look.
    fn passes_by(&self, len: usize) -> bool {
        self.is_quiet(len) && self.unseen.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }

    /// Whether small frames were best stored as they are lately, so that few like this one are looked at.
    fn is_quiet(&self, len: usize) -> bool {
        len <= SMALL && self.plain_run.load(Relaxed) >= QUIET_AFTER
    }

    fn saw(&self, len: usize, plain: bool) {
        if len > SMALL {
            return;
        }
        if !plain {
            self.plain_run.store(0, Relaxed);
        } else if self.plain_run.load(Relaxed) < QUIET_AFTER {
            self.plain_run.fetch_add(1, Relaxed);
        } else {
            self.unseen.store(LOOK_AT - 1, Relaxed);
        }
    }
}

/// What `index` made of the piece, if it was tried on it.
fn of(seen: &[(usize, Figures)], index: usize) -> Option<Figures> {
    seen.iter().find(|(n, _)| *n == index).map(|(_, figures)| *figures)
}

/// The middle of `frame`.
fn piece_of(frame: &[u8]) -> &[u8] {
    let start = frame.len().saturating_sub(PIECE) / 2 / 16 * 16;
    &frame[start..frame.len().min(start + PIECE)]
}

/// What compressing `piece` gives, and the nanoseconds that it took; nothing when it fails.
///
/// What goes before, so that contexts are made and memory is touched, is not counted: the first frame that is
/// compressed so would have to do the same.
fn try_out(
    piece: &[u8],
    compressor: &dyn Compressor,
    width: Width,
    desk: &mut Desk<'_>,
    clock: &dyn Clock,
) -> Option<(Figures, f64)> {
    let mut compress = |part: &[u8]| {
        let begun = clock.now();
        let stored = desk.compress(compressor, width, part).ok()?.map_or(part.len(), |made| made.len());
        Some((nanos(clock.now().saturating_sub(begun)), stored))
    };
    let warm_up = &piece[..piece.len().min(WARM_UP)];
    let warmed = compress(warm_up)?.0 * piece.len() as f64 / warm_up.len() as f64;
    let (first, stored) = compress(piece)?;
    // Of two times the shorter: in the other, the thread may have waited for a core or for memory. What is slow anyway
    // is worth no second run; what waited was not slow before.
    let (mut best, mut spent) = (first, first);
    if first.min(warmed) < SLOW {
        let (second, _) = compress(piece)?;
        best = first.min(second);
        spent += second;
    }
    let len = piece.len() as f64;
    Some((Figures { nanos: best / len, share: stored as f64 / len }, spent))
}

fn nanos(time: Duration) -> f64 {
    time.as_nanos() as f64
}
