//! What is known of each segment: how much of it lives, who writes in it, and which one to compact next.

use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap};

use super::file::{Level, Reservation, SegmentFile};
use super::format::UNIT;

/// What is known of a segment. All sizes are bytes.
struct Segment {
    file: Arc<SegmentFile>,
    level: Level,
    /// Where the next range would begin.
    tail: u64,
    /// Of records that some key points to.
    live: u64,
    /// Ranges reserved whose writers have not come back.
    pending: u32,
    /// Nothing more will be reserved in it.
    sealed: bool,
    /// When it was sealed, by [`SegmentTable::clock`].
    sealed_at: u64,
    /// When it may be compacted again after that failed, by the same clock.
    rests_until: u64,
    /// Dead bytes that cannot be had back while it rests, and are left out of the sums.
    excused: u64,
}

/// The segments of a store, and sums over them.
pub(super) struct SegmentTable {
    segments: HashMap<u32, Segment, DefaultHashBuilder>,
    /// Sum of the tails, less what is excused.
    used: u64,
    /// Sum of the excused bytes.
    excused: u64,
    /// Bytes of ranges whose writers have not come back.
    in_flight: u64,
    /// Bytes reserved for new records so far: age is told in bytes, since what is idle does not get older.
    clock: u64,
    /// Files of dead segments, to be dealt with once the lock is gone.
    pub(super) retired: Vec<Arc<SegmentFile>>,
}

/// A segment whose live records are to be moved elsewhere.
pub(super) struct Victim {
    pub(super) file: Arc<SegmentFile>,
    /// Bytes of it that were ever reserved.
    pub(super) tail: u64,
    /// Bytes of its records that live.
    pub(super) live: u64,
    /// Where its records go.
    pub(super) level: Level,
}

/// For how long a segment that could not be read is not asked again: until so many bytes were written.
const REST: u64 = 64 << 20;

impl SegmentTable {
    pub(super) fn new(hasher: DefaultHashBuilder) -> Self {
        SegmentTable {
            segments: HashMap::with_hasher(hasher),
            used: 0,
            excused: 0,
            in_flight: 0,
            clock: 0,
            retired: Vec::new(),
        }
    }

    /// Bytes that segments hold, live or dead, without the ranges that are being written.
    pub(super) fn used(&self) -> u64 {
        self.used.saturating_sub(self.in_flight)
    }

    /// Bytes of files that no compaction can give back now: ranges being written, and dead ones in segments that
    /// cannot be read.
    pub(super) fn out_of_reach(&self) -> u64 {
        self.in_flight + self.excused
    }

    pub(super) fn file(&self, id: u32) -> Option<&Arc<SegmentFile>> {
        self.segments.get(&id).map(|segment| &segment.file)
    }

    pub(super) fn level(&self, id: u32) -> Level {
        self.segments.get(&id).map_or(Level::Fresh, |segment| segment.level)
    }

    /// Bytes of records in it that some key points to.
    pub(super) fn live(&self, id: u32) -> u64 {
        self.segments.get(&id).map_or(0, |segment| segment.live)
    }

    /// Books a reservation, and the segment that it begins.
    pub(super) fn reserved(&mut self, reservation: &Reservation) {
        let id = reservation.file.segment;
        if let Some(begins) = &reservation.begins {
            if let Some(full) = begins.seals {
                self.seal(full);
            }
            let segment = Segment {
                file: Arc::clone(&reservation.file),
                level: reservation.level,
                tail: 0,
                live: 0,
                pending: 0,
                sealed: begins.sealed,
                sealed_at: self.clock,
                rests_until: 0,
                excused: 0,
            };
            self.segments.insert(id, segment);
        }
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.pending += 1;
            segment.tail += reservation.bytes;
            self.used += reservation.bytes;
            self.in_flight += reservation.bytes;
            self.clock += reservation.bytes;
        }
    }

    /// The writer of a reservation is done and has stored what lives in it.
    pub(super) fn finished(&mut self, run: Run) {
        if let Some(segment) = self.segments.get_mut(&run.segment) {
            segment.pending -= 1;
            self.in_flight -= run.bytes;
        }
        self.drop_if_dead(run.segment);
    }

    /// Nothing of a range was written, and nothing follows it: the segment ends before it.
    pub(super) fn ends_before(&mut self, run: Run) {
        if let Some(segment) = self.segments.get_mut(&run.segment) {
            segment.tail -= run.bytes;
            segment.pending -= 1;
            self.used -= run.bytes;
            self.in_flight -= run.bytes;
        }
        self.drop_if_dead(run.segment);
    }

    pub(super) fn seal(&mut self, id: u32) {
        if let Some(segment) = self.segments.get_mut(&id)
            && !segment.sealed
        {
            segment.sealed = true;
            segment.sealed_at = self.clock;
        }
        self.drop_if_dead(id);
    }

    /// A key points to a record of so many bytes in it.
    pub(super) fn lives(&mut self, id: u32, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.live += bytes;
        }
    }

    /// A key that pointed to a record of so many bytes in it does no more.
    pub(super) fn dies(&mut self, id: u32, bytes: u64) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.live -= bytes;
        }
        self.drop_if_dead(id);
    }

    /// The segment to compact next.
    ///
    /// The score weighs what is won against what must be moved, squared, times the age: what was written long
    /// ago and still lives will live on, so its dead bytes will not become more by waiting. In a simulation of
    /// skewed overwrites this moved a fifth less than the classic (1 - u) * age / (1 + u), and as little as the
    /// emptiest first where all keys are alike.
    pub(super) fn choose(&self) -> Option<Victim> {
        let mut best: Option<(f64, &Segment)> = None;
        for segment in self.segments.values() {
            let dead = segment.tail - segment.live;
            if !segment.sealed || segment.pending > 0 || dead == 0 || segment.rests_until > self.clock {
                continue;
            }
            let won = dead as f64 / segment.live.max(UNIT) as f64;
            let score = won * won * (self.clock - segment.sealed_at + 1) as f64;
            if best.is_none_or(|(most, _)| score > most) {
                best = Some((score, segment));
            }
        }
        best.map(|(_, segment)| Victim {
            file: Arc::clone(&segment.file),
            tail: segment.tail,
            live: segment.live,
            level: segment.level.older(),
        })
    }

    /// The open segment with the most dead bytes, if any has some. Sealed, it can be compacted.
    pub(super) fn open_with_most_dead(&self) -> Option<u32> {
        let open = self.segments.iter().filter(|(_, segment)| !segment.sealed && segment.pending == 0);
        let (id, segment) = open.max_by_key(|(_, segment)| segment.tail - segment.live)?;
        (segment.tail > segment.live).then_some(*id)
    }

    /// Whether compaction would win much beside what it moves: an eighth of some segment.
    pub(super) fn is_worth_compacting(&self) -> bool {
        self.segments.values().any(|segment| {
            let dead = segment.tail - segment.live;
            segment.pending == 0 && segment.rests_until <= self.clock && dead * 8 >= segment.tail.max(1)
        })
    }

    /// Compacting this segment failed: it is left alone for a while, or for good when what is left of it is
    /// damaged.
    pub(super) fn rest(&mut self, id: u32, for_good: bool) {
        let Some(segment) = self.segments.get_mut(&id) else { return };
        segment.rests_until = if for_good { u64::MAX } else { self.clock + REST };
        let dead = segment.tail - segment.live - segment.excused;
        segment.excused += dead;
        self.used -= dead;
        self.excused += dead;
    }

    /// Segments that could not be read are tried again, but for damaged ones.
    pub(super) fn wake(&mut self) {
        for segment in self.segments.values_mut() {
            if segment.rests_until < u64::MAX {
                segment.rests_until = 0;
                self.used += segment.excused;
                self.excused -= std::mem::take(&mut segment.excused);
            }
        }
    }

    fn drop_if_dead(&mut self, id: u32) {
        let dead = |segment: &Segment| segment.sealed && segment.live == 0 && segment.pending == 0;
        if self.segments.get(&id).is_some_and(dead)
            && let Some(segment) = self.segments.remove(&id)
        {
            self.used -= segment.tail - segment.excused;
            self.excused -= segment.excused;
            self.retired.push(segment.file);
        }
    }
}

/// A range that was reserved, as its writer gives it back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) segment: u32,
    pub(super) bytes: u64,
}
