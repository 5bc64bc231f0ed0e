//! What is known of one setting.

/// What is not further off than this, in time and in room, is tried on whole frames, which are stored. A piece tells less, and
/// takes longer for its length: what only that told of needs be no closer than the second, in time alone, and what a whole
/// frame costs may be less by the third factor.
const CLOSE: f64 = 1.25;
const CLOSE_BY_PIECE: f64 = 1.5;
pub(super) const PIECE: f64 = 0.87;

/// The weight of a new figure in a mean of them; more for a time that is shorter, since whatever disturbs a
/// measurement makes it longer.
pub(super) const NEWS: f64 = 0.25;
const GOOD_NEWS: f64 = 0.5;

/// After so many whole frames, what a setting takes and gives is held to tell of the processor and of the frames, and no
/// longer of itself.
const SETTLED: u8 = 4;

/// A share that is as far off as frames are on average weighs one part against so many in a mean.
const DOUBT: f64 = 3.0;

/// A figure beyond so many times the mean is cut to it: a thread that had to wait for a core says nothing of
/// the compressor. No figure changes others by more, in either direction.
pub(super) const OUTLIER: f64 = 2.0;

/// What one setting does with the frames of a class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    /// Nanoseconds for a byte.
    pub(super) nanos: f64,
    /// Stored bytes for a byte.
    pub(super) share: f64,
}

impl Figures {
    /// Nanoseconds to compress and write a byte.
    pub(super) fn cost(self, storage: f64) -> f64 {
        self.nanos + self.share * storage
    }

    /// Whether they tell of other settings too: not those of a failure, of frames that resist, or of no time at all.
    pub(super) fn tell(self) -> bool {
        self.share < 1.0 && self.nanos.is_normal()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) figures: Figures,
    /// How many whole frames said so, up to [`SETTLED`]; none where only a piece did, or frames of another class.
    frames: u8,
    /// Whether it was compared with another setting on one piece, or in another class.
    pub(super) beside: bool,
    /// How much of it is still believed when trials are chosen: 1 when it was just seen.
    pub(super) faith: f64,
}

impl Known {
    /// After a piece.
    pub(super) fn of_piece(figures: Figures) -> Self {
        Known { figures, frames: 0, beside: false, faith: 1.0 }
    }

    /// After a piece that another setting was tried on.
    pub(super) fn of_piece_beside(figures: Figures) -> Self {
        Known { beside: true, ..Known::of_piece(figures) }
    }

    /// After a whole frame.
    pub(super) fn of_frame(figures: Figures) -> Self {
        Known { frames: 1, ..Known::of_piece(figures) }
    }

    /// In another class, whose frames look nearly alike.
    pub(super) fn held(self) -> Self {
        Known { frames: 0, beside: true, ..self }
    }

    /// Whether whole frames told.
    pub(super) fn is_whole(self) -> bool {
        self.frames > 0
    }

    pub(super) fn is_settled(self) -> bool {
        self.frames == SETTLED
    }

    /// After one more whole frame, where frames are off by `spread` on average. The first one may have made contexts and
    /// touched fresh memory: that it took longer than was expected says nothing, and it is tried once more soon.
    pub(super) fn and(self, seen: Figures, spread: f64) -> Self {
        let old = self.figures;
        let nanos = if self.is_whole() { cut(seen.nanos, old.nanos) } else { seen.nanos.min(old.nanos) };
        let least = if nanos < old.nanos { GOOD_NEWS } else { NEWS };
        let weight = least.max(1.0 / f64::from(self.frames + 1 + u8::from(self.beside)));
        let news = if self.is_settled() {
            NEWS
        } else if self.is_whole() || self.beside {
            believed(off(seen.share, old.share), spread)
        } else {
            1.0
        };
        Known {
            figures: Figures {
                nanos: old.nanos + weight * (nanos - old.nanos),
                share: old.share + news * (seen.share - old.share),
            },
            frames: (self.frames + 1).min(SETTLED),
            beside: self.beside,
            faith: if self.is_whole() { 1.0 } else { PIECE },
        }
    }

    /// After one more piece, which is measured with more care and shrinks less.
    pub(super) fn and_piece(self, seen: Figures) -> Self {
        let old = self.figures;
        let share = if self.is_whole() { old.share.min(seen.share) } else { seen.share };
        Known { figures: Figures { nanos: cut(seen.nanos, old.nanos), share }, faith: 1.0, ..self }
    }

    /// After one more piece, of which another setting told how hard it is.
    pub(super) fn and_beside(self, seen: Figures) -> Self {
        let old = self.figures;
        let nanos = if old.nanos.is_normal() { cut(seen.nanos, old.nanos) } else { seen.nanos };
        let share = if self.is_whole() { old.share.min(seen.share) } else { seen.share };
        let share = f64::midpoint(old.share, share);
        Known { figures: Figures { nanos, share }, beside: true, faith: 1.0, ..self }
    }

    /// Whether a whole frame may be stored so, to try it, where `best` is what is stored else.
    pub(super) fn is_close(self, best: Figures, storage: f64) -> bool {
        let Figures { nanos: _, share } = self.figures;
        let cost = self.figures.cost(storage) / best.cost(storage);
        if self.is_whole() {
            share < 1.0 && share < CLOSE * best.share && cost < CLOSE
        } else {
            share < 1.0 && cost < CLOSE_BY_PIECE
        }
    }
}

/// How far a share is from another, as a natural logarithm.
pub(super) fn off(seen: f64, expected: f64) -> f64 {
    (seen / expected).ln().abs()
}

/// A time that was `seen`, as far as it is believed beside the `old` one.
fn cut(seen: f64, old: f64) -> f64 {
    if old > 0.0 { seen.min(old * OUTLIER) } else { seen }
}

/// The weight of a share that is so far `off` in the mean of them, where frames are off by `spread` anyway.
fn believed(off: f64, spread: f64) -> f64 {
    let (off, spread) = (off * off, DOUBT * spread * spread);
    if off.is_finite() && off > 0.0 { (off / (off + spread)).max(NEWS) } else { NEWS }
}
