//! What is known of one class of frames, and the choice that follows from it.

use super::known::{Figures, Known, NEWS, OUTLIER, PIECE, off};

/// What is nearly as fast and smaller is better: each halving of the room is worth so much of the time (as an
/// exponent of the share), up to this much in all.
const ROOM: f64 = 0.1;
const NEARLY: f64 = 1.1;

/// What is compressed must take less time than storing it as it is by this share of that, and by no more than so many
/// nanoseconds a byte: how long storage takes for a byte is known less well, since few bytes tell it once they are
/// compressed, and what it takes for a value is held to be of its bytes.
const SURELY: f64 = 0.05;
const SURELY_NANOS: f64 = 0.025;

/// The share of the time that goes to trying other settings than the best, and the share of the first frame's time
/// that may go to it at once.
const BUDGET: f64 = 1.0 / 64.0;
const AT_FIRST: f64 = 1.0 / 4.0;

/// As [`BUDGET`], where frames are best stored as they are.
const BUDGET_OF_PLAIN: f64 = 1.0 / 128.0;

/// A trial on a whole frame takes at least this share of what the frame costs out of the budget, also one that promises
/// to pay.
const LEAST_FEE: f64 = 1.0 / 8.0;

/// Each frame fades what is known of a setting by this factor, since the processor may be less busy by now. It is tried
/// again when the faded figure is below the best's and it has faded so far at least. What a piece told fades sooner: it
/// was of one frame.
const FADING: f64 = 0.998;
const FADING_PIECE: f64 = 0.93;
const FADED: f64 = 0.97;

/// How far off frames are held to be at first, as a natural logarithm of shares.
const SPREAD: f64 = 0.2;

/// A piece is compressed so often when a setting is tried on it.
const PIECE_RUNS: f64 = 2.0;

/// What an untried setting may do at best beside the one before it on the ladder, in time and in room, and what it will
/// probably take; and the same beside the same setting with or without shuffle.
const HOPED_TIME: f64 = 0.9;
const HOPED_ROOM: f64 = 0.5;
const PROBABLE_TIME: f64 = 2.0;
const HOPED_OF_SHUFFLE: f64 = 0.4;
const PROBABLE_OF_SHUFFLE: f64 = 4.0;

/// What to do next with a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// Store it as it is.
    Plain,
    /// Compress it so.
    Take(usize, Option<Trial>),
    /// Compress a piece of it so, and by the second setting too, which tells how hard the piece is; tell
    /// [`Experience::tried`], and ask again.
    Try(usize, Option<usize>),
}

/// What it means for the budget that a whole frame is compressed by another setting than the best.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trial {
    /// Nanoseconds that the best would have cost.
    best: f64,
    /// Nanoseconds taken out of the budget for this.
    fee: f64,
}

/// The frame to choose for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// Bytes of it, and of the piece that settings are tried on.
    pub(super) len: f64,
    pub(super) piece: f64,
    /// Nanoseconds that storage takes for a byte.
    pub(super) storage: f64,
    /// How many frames it stands for: all but one of them were not looked at.
    pub(super) count: u32,
}

/// Each setting of the ladder has two places here: as it is, and shuffled.
#[derive(Debug)]
pub(super) struct Experience {
    arms: Vec<Option<Known>>,
    is_shuffled: bool,
    /// The least share that may be hoped for where nothing repeats.
    entropy: f64,
    /// What a whole frame took lately for each byte that its piece took.
    beside_piece: f64,
    /// How far from what was expected frames are, as a natural logarithm of shares.
    spread: f64,
    /// What was granted for trials because of the time that storing a frame takes.
    granted: f64,
    /// Nanoseconds that may be lost on trials; below zero after one that lost more than was expected.
    credit: f64,
}

impl Experience {
    /// Of a class of which nothing is known but how many `bits` a byte of it holds, and whether it `is_shuffled`; `case` is
    /// its first frame.
    pub(super) fn new(rungs: usize, is_shuffled: bool, bits: u8, case: Case) -> Self {
        let credit = AT_FIRST * case.len * case.storage;
        let entropy = f64::from(bits) / 8.0;
        Experience {
            arms: vec![None; 2 * rungs],
            is_shuffled,
            entropy,
            beside_piece: 1.0,
            spread: SPREAD,
            granted: credit,
            credit,
        }
    }

    /// Of a class whose frames look nearly like those of `other`: what shrank there is held to do the same here, until
    /// whole frames say more.
    pub(super) fn like(mut self, other: &Experience) -> Self {
        let shrank = |known: &Known| known.figures.share < 1.0 && known.figures.nanos.is_finite();
        self.arms = other.arms.iter().map(|known| known.filter(shrank).map(Known::held)).collect();
        (self.beside_piece, self.spread) = (other.beside_piece, other.spread);
        self.credit = 0.0;
        self
    }

    /// More frames came.
    pub(super) fn meet(&mut self, case: Case) {
        let (index, figures) = self.best(case.storage);
        let best = case.len * figures.cost(case.storage);
        let budget = if index.is_some() { BUDGET } else { BUDGET_OF_PLAIN };
        self.credit += budget * best * f64::from(case.count);
        // That storage is slow is found out later than at the first frame.
        let grant = AT_FIRST * best;
        self.credit += (grant - self.granted).max(0.0);
        self.granted = self.granted.max(grant);
        for known in self.arms.iter_mut().flatten() {
            let resists = known.figures.share >= 1.0;
            let fading = if known.is_whole() || resists { FADING } else { FADING_PIECE };
            known.faith *= fading.powi(case.count.cast_signed());
        }
    }

    pub(super) fn next(&mut self, case: Case) -> Step {
        let (best, figures) = self.best(case.storage);
        self.credit = self.credit.min(case.len * figures.cost(case.storage));
        let trial = self.trial(best, figures, case);
        trial.unwrap_or_else(|| best.map_or(Step::Plain, |index| Step::Take(index, None)))
    }

    /// A piece was compressed by `index`, which took `spent` nanoseconds in all; without figures when that failed. `beside`
    /// is a setting that was tried on the same piece, and what it made of it.
    pub(super) fn tried(
        &mut self,
        index: usize,
        seen: Option<Figures>,
        beside: Option<(usize, Figures)>,
        spent: f64,
        storage: f64,
    ) {
        self.credit -= spent;
        // Where frames are compressed, they tell more than a piece how hard they are and how busy the processor is.
        if let Some((other, at_other)) = beside
            && self.best(storage).0.is_none()
        {
            self.saw_piece(other, at_other);
        }
        let Some(seen) = seen else {
            return self.know(index, Known::of_piece(Figures { nanos: f64::INFINITY, share: 1.0 }));
        };
        let known = |(other, at_other): (usize, Figures)| Some((self.arms[other]?.figures, at_other));
        let Some((other, at_other)) = beside.and_then(known).filter(|(_, at_other)| at_other.tell()) else {
            return self.saw_piece(index, seen);
        };
        let share = if seen.share < 1.0 { other.share * seen.share / at_other.share } else { 1.0 };
        let seen = Figures { nanos: other.nanos * seen.nanos / at_other.nanos, share: share.min(1.0) };
        self.arms[index] = Some(match self.arms[index] {
            Some(known) => known.and_beside(seen),
            None => Known::of_piece_beside(seen),
        });
    }

    /// A piece of which nothing else is known became this by `index`.
    fn saw_piece(&mut self, index: usize, seen: Figures) {
        let share = if seen.share < 1.0 { seen.share * self.beside_piece } else { 1.0 };
        let seen = Figures { share, ..seen };
        let now = match self.arms[index] {
            Some(known) => known.and_piece(seen),
            None => Known::of_piece(seen),
        };
        self.know(index, now);
    }

    /// The setting beside which another is best tried: the best one, or where that is none, the best that is known and shrinks.
    fn reference(&self, index: usize, storage: f64) -> Option<usize> {
        let best = self.best(storage).0.filter(|best| *best != index);
        best.or_else(|| {
            let arms = self.arms.iter().enumerate().filter(|(n, _)| *n != index);
            let known = arms.filter_map(|(n, known)| Some((n, (*known)?.figures)));
            let known = known.filter(|(_, figures)| figures.tell());
            known.min_by(|(_, a), (_, b)| a.cost(storage).total_cmp(&b.cost(storage))).map(|(n, _)| n)
        })
    }

    /// A whole frame of `len` bytes was compressed by `index`, which made so much of a `piece` of it, if it was tried there.
    pub(super) fn learn(
        &mut self,
        index: usize,
        trial: Option<Trial>,
        piece: Option<Figures>,
        seen: Figures,
        len: f64,
        storage: f64,
    ) {
        let old = self.arms[index];
        let now = old.map_or(Known::of_frame(seen), |known| known.and(seen, self.spread));
        if let Some(old) = old.filter(|old| old.is_whole() && old.figures.share < 1.0 && seen.share > 0.0) {
            self.spread += NEWS * (off(seen.share, old.figures.share) - self.spread);
        }
        if let Some(trial) = trial {
            self.credit += trial.fee - fee(len * now.figures.cost(storage), trial.best);
        }
        if let Some(old) = old.filter(|old| old.figures.share < 1.0) {
            self.compare(index, old, now, seen.share);
        }
        if let Some(piece) = piece.filter(|piece| piece.share < 1.0) {
            self.beside_piece = (seen.share / piece.share).min(1.0);
        }
        self.know(index, now);
    }

    /// A whole frame became `share` of itself, where `old` was known of its setting before, and `now` is. What is known of
    /// others is held to change as much, but for what whole frames said of them as long as this one is not settled. They
    /// are tried sooner where frames begin to shrink much more.
    fn compare(&mut self, index: usize, old: Known, now: Known, share: f64) {
        let change = now.figures.share / old.figures.share;
        let doubt = (share * OUTLIER / old.figures.share).min(1.0);
        for (n, known) in self.arms.iter_mut().enumerate() {
            let Some(known) = known else { continue };
            if n == index || n % 2 != index % 2 || known.figures.share >= 1.0 {
                continue;
            }
            if !known.is_whole() || old.is_settled() {
                known.figures.share = (known.figures.share * change).min(1.0);
            }
            if known.is_whole() && old.is_whole() {
                known.faith *= doubt;
            }
        }
    }

    /// Knows this of `index` from now on. All settings share the processor: those that were seen before this one are held
    /// to have changed as much, and one that was tried after long speaks for them, so that each need not be. One that is
    /// not settled speaks for itself alone.
    fn know(&mut self, index: usize, now: Known) {
        // Not that of a failure, and not none at all.
        let took_time = |known: &Known| known.figures.nanos.is_normal();
        let settled = |old: &Known| !old.is_whole() || old.is_settled();
        if let Some(old) = self.arms[index].filter(|old| took_time(old) && took_time(&now) && settled(old)) {
            let change = now.figures.nanos / old.figures.nanos;
            let held = change.clamp(1.0 / OUTLIER, OUTLIER);
            // What may be faster still is not chosen for that, only tried sooner.
            let doubt = (change / held).min(1.0);
            for known in self.arms.iter_mut().flatten().filter(|known| known.faith <= old.faith) {
                known.figures.nanos *= held;
                known.faith = doubt * if old.faith < FADED { old.faith } else { known.faith };
            }
        }
        self.arms[index] = Some(now);
    }

    /// The best setting, `None` for storing as it is.
    fn best(&self, storage: f64) -> (Option<usize>, Figures) {
        let plain = Figures { nanos: 0.0, share: 1.0 };
        let known = || {
            let arms = self.arms.iter().enumerate();
            let arms = arms.filter_map(|(index, known)| Some((Some(index), (*known)?.figures)));
            arms.filter(|(_, figures)| figures.share < 1.0)
        };
        let least = known().map(|(_, figures)| figures.cost(storage)).fold(f64::INFINITY, f64::min);
        let most = (least * NEARLY).min(storage - (storage * SURELY).min(SURELY_NANOS));
        let nearly = known().filter(|(_, figures)| figures.cost(storage) <= most);
        let weighed = |figures: Figures| figures.cost(storage) * figures.share.powf(ROOM);
        nearly.min_by(|a, b| weighed(a.1).total_cmp(&weighed(b.1))).unwrap_or((None, plain))
    }

    /// What to try instead of the best: the cheapest trial of what may be better, when it is not too dear for the credit.
    fn trial(&mut self, best: Option<usize>, figures: Figures, case: Case) -> Option<Step> {
        let cost = figures.cost(case.storage);
        let others = (0..self.arms.len()).filter(|index| best != Some(*index));
        let hopeful =
            others.filter(|index| self.hope(*index, figures, case.storage).is_some_and(|hope| hope < cost));
        let with_fees = hopeful.map(|index| {
            let close = self.arms[index].filter(|known| known.is_close(figures, case.storage));
            let fee = match close {
                Some(known) => fee(case.len * known.figures.cost(case.storage), case.len * cost),
                None => {
                    let beside = self.reference(index, case.storage).map_or(0.0, |n| self.probable_nanos(n));
                    PIECE_RUNS * case.piece * (self.probable_nanos(index) + beside)
                }
            };
            (index, close.is_some(), fee)
        });
        let (index, is_close, fee) = with_fees.min_by(|a, b| a.2.total_cmp(&b.2))?;
        // For what costs more than a frame, a debt may be made.
        if fee.min(case.len * cost) > self.credit {
            return None;
        }
        if !is_close {
            return Some(Step::Try(index, self.reference(index, case.storage)));
        }
        self.credit -= fee;
        Some(Step::Take(index, Some(Trial { best: case.len * cost, fee })))
    }

    /// The least that a setting may cost for a byte, beside what the best does; `None` when it need not be considered.
    fn hope(&self, index: usize, best: Figures, storage: f64) -> Option<f64> {
        if index % 2 == 1 && !self.is_shuffled {
            return None;
        }
        if let Some(known) = self.arms[index] {
            let only_a_piece = !known.is_whole() && known.is_close(best, storage);
            let hope = known.figures.cost(storage) * known.faith * if only_a_piece { PIECE } else { 1.0 };
            return (only_a_piece || known.faith < FADED).then_some(hope);
        }
        if let Some(below) = index.checked_sub(2) {
            let Figures { nanos, share } = self.arms[below]?.figures;
            let share = if share < 1.0 { share * HOPED_ROOM } else { self.entropy.max(HOPED_ROOM) };
            return Some(Figures { nanos: nanos * HOPED_TIME, share }.cost(storage));
        }
        // Shuffled goes first.
        match self.arms[index ^ 1] {
            Some(Known { figures: Figures { nanos, share }, .. }) => {
                Some(Figures { nanos, share: share * HOPED_OF_SHUFFLE }.cost(storage))
            }
            None => (self.is_shuffled == (index == 1)).then_some(0.0),
        }
    }

    fn probable_nanos(&self, index: usize) -> f64 {
        let of = |index: usize| Some((*self.arms.get(index)?)?.figures.nanos);
        let below = || Some(of(index.checked_sub(2)?)? * PROBABLE_TIME);
        let sibling = || Some(of(index ^ 1)? * PROBABLE_OF_SHUFFLE);
        of(index).or_else(below).or_else(sibling).unwrap_or(0.0)
    }
}

/// What a trial that costs so much takes out of the budget, where the best costs `best`.
fn fee(cost: f64, best: f64) -> f64 {
    (cost - best).max(LEAST_FEE * best)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries settings on pieces, each of which takes so many nanoseconds for a byte; without end when it fails.
    fn after(trials: &[(usize, f64)]) -> Experience {
        let case = Case { len: 1e6, piece: 6e4, storage: 1.0, count: 1 };
        let mut experience = Experience::new(2, false, 8, case);
        for &(index, nanos) in trials {
            let seen = nanos.is_finite().then_some(Figures { nanos, share: 0.5 });
            experience.tried(index, seen, None, 0.0, 1.0);
        }
        experience
    }

    fn nanos(experience: &Experience, index: usize) -> f64 {
        experience.arms[index].unwrap().figures.nanos
    }

    #[test]
    fn settings_get_slower_and_faster_together_at_most_by_as_much_as_an_outlier() {
        for (now, other) in [(12.0, 60.0), (6.0, 30.0), (100.0, 80.0), (0.5, 20.0)] {
            let experience = after(&[(0, 8.0), (2, 40.0), (0, now)]);
            assert_eq!(nanos(&experience, 2), other, "when 8 ns became {now}");
        }
    }

    #[test]
    fn what_may_be_faster_than_it_is_held_to_be_is_tried() {
        let case = Case { len: 1e6, piece: 6e4, storage: 100.0, count: 1 };
        let next = |now: f64| {
            let mut experience = after(&[(0, 8.0), (2, 400.0)]);
            let mut see =
                |index, nanos| experience.learn(index, None, None, Figures { nanos, share: 0.5 }, 1e6, 100.0);
            (0..4).for_each(|_| see(0, 8.0));
            see(2, 400.0);
            experience.tried(0, Some(Figures { nanos: now, share: 0.5 }), None, 0.0, 1.0);
            // As many frames as pay for it.
            (0..32).for_each(|_| experience.meet(case));
            experience.next(case)
        };
        assert_eq!(next(4.0), Step::Take(0, None));
        assert_eq!(next(0.5), Step::Try(2, Some(0)));
    }

    #[test]
    fn a_time_of_nothing_is_not_believed_for_ever() {
        assert_eq!(nanos(&after(&[(0, 0.0), (0, 5.0)]), 0), 5.0);
        let mut experience = after(&[(0, 0.0)]);
        for _ in 0..30 {
            experience.learn(0, None, None, Figures { nanos: 5.0, share: 0.5 }, 1e6, 1.0);
        }
        assert!((4.9..=5.0).contains(&nanos(&experience, 0)));
    }

    #[test]
    fn what_took_no_time_or_failed_changes_no_other_setting() {
        for (before, now) in [(0.0, 0.0), (0.0, 5.0), (5.0, 0.0), (f64::INFINITY, 5.0), (5.0, f64::INFINITY)]
        {
            let experience = after(&[(2, 40.0), (0, before), (0, now)]);
            assert_eq!(nanos(&experience, 2), 40.0, "when {before} ns became {now}");
        }
    }
}
