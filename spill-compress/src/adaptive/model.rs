//! What is known of each class of frames and of storage, and the choice that follows from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use spill_core::{Clock, Pool};

use super::sample::{self, Sample};
use crate::blocks::Desk;
use crate::compressor::Compressor;
use crate::shuffle::Width;

/// Frames shorter than this, in bytes, are stored as they are: what they could save is less than a record's
/// own header.
const SHORTEST: usize = 128;

/// Frames up to this length, in bytes, are so cheap to store that looking at each would show.
const SMALL: usize = 32 << 10;

/// After so many small frames in a row that were best stored as they are, only one in [`LOOK_AT`] is looked at.
const QUIET_AFTER: u32 = 16;
const LOOK_AT: u32 = 8;

/// The piece of a frame that an unknown class is tried with, in bytes.
const PIECE: usize = 64 << 10;

/// The settings that an unknown class is tried with: the first of the ladder.
const TRIED_AT_FIRST: usize = 2;

/// The share of the time that goes to trying other settings than the best.
const BUDGET: f64 = 1.0 / 64.0;

/// A trial takes at least this share of what the frame costs out of the budget, also one that promises to pay.
const LEAST_FEE: f64 = 1.0 / 8.0;

/// Settings known to cost more than this many times the best, in time or in room, are not tried again, until storage changes or
/// that knowledge is old: each frame fades it by this factor, since the processor may be less busy by now.
const HOPELESS: f64 = 3.0;
const FADING: f64 = 0.998;

/// A frame is compressed when that is expected to take less than this share of the time to store it as it is:
/// what is nearly even is better left alone, since reading it back costs time as well.
const WORTH_IT: f64 = 0.9;

/// What the next setting of a ladder is guessed to be before it was tried: so many times slower, and with this
/// share of the result.
const NEXT_SLOWER: f64 = 2.0;
const NEXT_SMALLER: f64 = 0.9;

/// The weight of a new figure in a mean of them; more for a time that is shorter, since whatever disturbs a
/// measurement makes it longer.
const NEWS: f64 = 0.25;
const GOOD_NEWS: f64 = 0.5;

/// A figure beyond so many times the mean is cut to it: a thread that had to wait for a core says nothing of
/// the compressor.
const OUTLIER: f64 = 2.0;

/// Storage is remembered over about this many stored bytes.
const MEMORY: f64 = (16 << 20) as f64;

/// What storage is taken to cost before it was used: a nanosecond a byte is 1 GB/s.
const FIRST_GUESS: f64 = 1.0;

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
}

/// One way to compress one class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arm {
    class: Class,
    /// Twice the place in the ladder, and one more where it is shuffled.
    index: usize,
    trial: Option<Trial>,
}

/// What it means for the budget that an arm is not the best.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// Nanoseconds that the best would have cost.
    best: f64,
    /// Nanoseconds taken out of the budget for this.
    fee: f64,
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

/// What one setting does with the frames of a class.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Nanoseconds for a byte.
    nanos: f64,
    /// Stored bytes for a byte.
    share: f64,
    /// Whether whole frames said so, and not only a piece of one.
    whole: bool,
    /// How much of it is still believed when trials are chosen: 1 when it was just seen.
    faith: f64,
}

#[derive(Debug)]
struct Experience {
    arms: Vec<Option<Known>>,
    /// Nanoseconds that may be lost on trials; below zero after one that lost more than was expected.
    credit: f64,
    /// The arm that is next to be considered for a trial.
    turn: usize,
}

/// Nanoseconds for a byte, over the last bytes.
#[derive(Debug, Default)]
struct Rate {
    bytes: f64,
    nanos: f64,
}

impl Rate {
    fn add(&mut self, bytes: u64, time: Duration) {
        self.bytes += bytes as f64;
        self.nanos += time.as_nanos() as f64;
        while self.bytes > MEMORY {
            self.bytes /= 2.0;
            self.nanos /= 2.0;
        }
    }

    fn per_byte(&self) -> f64 {
        if self.bytes > 0.0 { self.nanos / self.bytes } else { FIRST_GUESS }
    }
}

#[derive(Debug, Default)]
struct Learned {
    storage: Rate,
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
        let mut learned = self.learned.lock();
        if !learned.classes.contains_key(&class) {
            drop(learned);
            let tried = try_out(frame, class.width, ladder, pool, clock);
            learned = self.learned.lock();
            let experience = || Experience { arms: tried, credit: 0.0, turn: 0 };
            learned.classes.entry(class).or_insert_with(experience);
        }
        let storage = learned.storage.per_byte();
        let chosen = learned.classes.get_mut(&class)?.choose(frame.len(), storage);
        drop(learned);
        self.saw(frame.len(), chosen.is_none());
        chosen.map(|(index, trial)| Arm { class, index, trial })
    }

    /// Learns that `arm` made `stored` of `bytes` in `time`.
    pub(crate) fn learn(&self, arm: &Arm, bytes: usize, stored: usize, time: Duration) {
        let seen = Known {
            nanos: time.as_nanos() as f64 / bytes.max(1) as f64,
            share: stored as f64 / bytes.max(1) as f64,
            whole: true,
            faith: 1.0,
        };
        let mut learned = self.learned.lock();
        let storage = learned.storage.per_byte();
        let Some(experience) = learned.classes.get_mut(&arm.class) else { return };
        if let Some(trial) = arm.trial {
            experience.credit += trial.fee - fee(seen.cost(bytes as f64, storage), trial.best);
        }
        if let Some(known) = experience.arms.get_mut(arm.index) {
            *known = Some(known.filter(|known| known.whole).map_or(seen, |known| known.and(seen)));
        }
    }

    /// Learns that storage took `stored` bytes in `waited`.
    pub(crate) fn written(&self, stored: u64, waited: Duration) {
        self.learned.lock().storage.add(stored, waited);
    }

    /// Whether a frame of this length is stored as it is without a look.
    fn passes_by(&self, len: usize) -> bool {
        len <= SMALL
            && self.plain_run.load(Relaxed) >= QUIET_AFTER
            && self.unseen.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
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

impl Known {
    fn and(self, seen: Known) -> Known {
        let nanos = seen.nanos.min(self.nanos * OUTLIER);
        let weight = if nanos < self.nanos { GOOD_NEWS } else { NEWS };
        Known {
            nanos: self.nanos + weight * (nanos - self.nanos),
            share: self.share + NEWS * (seen.share - self.share),
            whole: true,
            faith: 1.0,
        }
    }

    /// Nanoseconds to compress and write `len` bytes.
    fn cost(&self, len: f64, storage: f64) -> f64 {
        len * (self.nanos + self.share * storage)
    }
}

impl Experience {
    /// The arm for a frame of `len` bytes where storage takes `storage` nanoseconds for a byte; `None` to store
    /// it as it is.
    fn choose(&mut self, len: usize, storage: f64) -> Option<(usize, Option<Trial>)> {
        let len = len as f64;
        let plain = len * storage;
        let mut best = (None, WORTH_IT * plain);
        for (index, known) in self.arms.iter().enumerate() {
            let cost = known.map_or(f64::INFINITY, |known| known.cost(len, storage));
            if cost < best.1 {
                best = (Some(index), cost);
            }
        }
        if best.0.is_none() {
            best.1 = plain;
        }
        self.credit = (self.credit + BUDGET * best.1).min(HOPELESS * best.1);
        let trial = self.trial(best, len, storage);
        trial.map(|(index, trial)| (index, Some(trial))).or(best.0.map(|index| (index, None)))
    }

    /// The arm to try instead of the best, when one is due that the credit allows.
    fn trial(&mut self, best: (Option<usize>, f64), len: f64, storage: f64) -> Option<(usize, Trial)> {
        let count = self.arms.len();
        let best_known = best.0.and_then(|index| self.arms[index]);
        let best_room = best_known.map_or(1.0, |known| known.share);
        for step in 0..count {
            let index = (self.turn + step) % count;
            if best.0 == Some(index) {
                continue;
            }
            let guess = self.arms[index].or_else(|| self.guess(index));
            let Some(cost) = guess.map(|guess| guess.cost(len, storage)) else { continue };
            // What was never tried must promise to pay; what was, not to be far off.
            let tried = &mut self.arms[index];
            let limit = if tried.is_some() { HOPELESS } else { 1.0 };
            let faith = tried.map_or(1.0, |known| known.faith);
            let room = tried.map_or(0.0, |known| known.share);
            if cost * faith > limit * best.1 || room * faith > HOPELESS * best_room {
                if let Some(known) = tried {
                    known.faith *= FADING;
                }
                continue;
            }
            let fee = fee(cost, best.1);
            // For what is only tried because the knowledge of it is old, a debt may be made.
            if fee.min(HOPELESS * best.1) > self.credit {
                return None;
            }
            self.credit -= fee;
            self.turn = (index + 1) % count;
            return Some((index, Trial { best: best.1, fee }));
        }
        None
    }

    /// What an untried arm would do, told from the one before it on the ladder.
    fn guess(&self, index: usize) -> Option<Known> {
        let before = (*self.arms.get(index.checked_sub(2)?)?)?;
        Some(Known {
            nanos: before.nanos * NEXT_SLOWER,
            share: before.share * NEXT_SMALLER,
            whole: false,
            faith: 1.0,
        })
    }
}

/// What a trial that costs so much takes out of the budget, where the best costs `best`.
fn fee(cost: f64, best: f64) -> f64 {
    (cost - best).max(LEAST_FEE * best)
}

/// Compresses a piece of `frame` by the first settings, shuffled and not. A setting that fails stays unknown.
fn try_out(
    frame: &[u8],
    width: Width,
    ladder: &[Arc<dyn Compressor>],
    pool: &Pool,
    clock: &dyn Clock,
) -> Vec<Option<Known>> {
    let start = frame.len().saturating_sub(PIECE) / 2 / 16 * 16;
    let piece = &frame[start..frame.len().min(start + PIECE)];
    let mut arms = vec![None; 2 * ladder.len()];
    let mut desk = Desk::new(pool);
    for (index, arm) in arms.iter_mut().enumerate().take(2 * TRIED_AT_FIRST) {
        let shuffled = index % 2 == 1;
        if shuffled && width == Width::One {
            continue;
        }
        let width = if shuffled { width } else { Width::One };
        let compressor = &*ladder[index / 2];
        // The first call makes contexts and faults memory in.
        if desk.compress(compressor, width, &piece[..piece.len() / 8]).is_err() {
            continue;
        }
        let begun = clock.now();
        if let Ok(made) = desk.compress(compressor, width, piece) {
            let stored = made.map_or(piece.len(), <[u8]>::len);
            let time = clock.now().saturating_sub(begun);
            *arm = Some(Known {
                nanos: time.as_nanos() as f64 / piece.len() as f64,
                share: stored as f64 / piece.len() as f64,
                whole: false,
                faith: 1.0,
            });
        }
    }
    arms
}
