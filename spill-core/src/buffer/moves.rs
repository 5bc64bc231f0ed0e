//! The steps, under the lock, of values between fast and slow memory, and what the end of one leaves to do.

use std::time::Duration;

use super::flight::Landing;
use super::memories::Below;
use super::shared::{Asks, Candidate};
use super::slot::{CopyState, Flight, Memory, Tried};
use super::state::State;
use crate::{Error, Key, Value};

/// A write of a value that failed: what the key's deferral follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub(super) full: bool,
    pub(super) at: Duration,
}

impl Failed {
    pub(super) fn by(error: &Error, at: Duration) -> Self {
        Failed { full: error.is_full(), at }
    }
}

/// What the owner of a flight remembers while it goes on from one to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Course {
    pub(super) tried: Tried,
    /// The value could not be written, and is deferred if it stays.
    pub(super) failed: Option<Failed>,
}

impl Course {
    /// Nothing is to be tried any more.
    pub(super) fn over() -> Self {
        Course { tried: Tried::ALL, failed: None }
    }

    pub(super) fn failed(failed: Option<Failed>) -> Self {
        Course { failed, ..Course::default() }
    }
}

/// What ending a flight leaves to its owner, to be done without the lock.
#[must_use]
pub(super) struct Ended<K, V> {
    /// The flight went on.
    pub(super) next: Option<Next<K, V>>,
    /// To be dropped.
    pub(super) garbage: (Option<V>, Option<K>),
}

impl<K, V> Default for Ended<K, V> {
    fn default() -> Self {
        Ended { next: None, garbage: (None, None) }
    }
}

/// What the owner of a flight does next.
pub(super) enum Next<K, V> {
    /// Writes the stage to fast memory and calls [`State::stored`].
    Store { slot: u32, key: K, value: V, course: Course },
    /// Writes it to slow memory, since fast memory did not take it, and calls [`State::wrote`].
    Spill(Spill<K, V>),
    /// Removes a copy and calls [`State::removed`].
    Remove { slot: u32, key: K, memory: Memory, course: Course },
}

/// A spill under way.
pub(super) struct Spill<K, V> {
    pub(super) slot: u32,
    pub(super) key: K,
    pub(super) value: V,
    /// What it weighed in fast memory.
    pub(super) weight: u64,
    /// What it adds to `writing_bytes`.
    pub(super) writing: u64,
    /// The slow copy is good, so that nothing is written.
    pub(super) clean: bool,
    pub(super) course: Course,
}

/// A spill whose value is in the mapping of fast memory, and has to be read first (R9).
pub(super) struct Fetch<K> {
    pub(super) slot: u32,
    pub(super) key: K,
    pub(super) weight: u64,
    /// Slow memory has the value too.
    pub(super) clean: bool,
}

/// How a spill begins.
pub(super) enum Begun<K, V> {
    /// It is over: a value of this weight left, whose slow copy is good.
    Left { weight: u64, ended: Ended<K, V> },
    /// The value is to be written.
    Write(Spill<K, V>),
    /// It is to be read from fast memory, and then written.
    Fetch(Fetch<K>),
}

/// What becomes of a value that was written to slow memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpillEnds {
    /// It leaves fast memory for slow memory.
    Moves,
    /// It stays in fast memory, with a Clean copy.
    Stays,
    /// It leaves, and there is no slow memory: the key is gone.
    Vanishes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    Well,
    Failed,
    Superseded,
}

impl Wrote {
    fn of(superseded: bool, failed: bool) -> Self {
        match (superseded, failed) {
            (true, _) => Wrote::Superseded,
            (false, true) => Wrote::Failed,
            (false, false) => Wrote::Well,
        }
    }
}

impl<K: Key, V: Value> State<K, V> {
    /// Begins to spill the idle slot `i`, which fast memory has. With `clean_is_free` nobody wants to be told of a
    /// value that leaves without being written.
    pub(super) fn begin_spill<B: Below<K, V>>(
        &mut self,
        below: &B,
        i: u32,
        clean_is_free: bool,
    ) -> Begun<K, V> {
        let slot = &self.table[i];
        let (weight, clean) = (slot.weight, slot.slow == CopyState::Clean);
        if clean && clean_is_free {
            self.table.withdraw(i);
            self.held.forget(i);
            let value = self.change(i, |slot| slot.leave());
            self.count_eviction(weight, true);
            let mut ended = self.end(below, i, Course::default(), Landing::StartOver);
            ended.garbage.0 = value;
            return Begun::Left { weight, ended };
        }
        let value = slot.value.clone();
        let key = self.table.key(i).clone();
        self.writing_bytes += weight;
        match value {
            Some(value) => {
                self.begin(i, Flight::Writing(Memory::Slow));
                let course = Course::default();
                Begun::Write(Spill { slot: i, key, value, weight, writing: weight, clean, course })
            }
            None => {
                self.begin(i, Flight::Fetching);
                Begun::Fetch(Fetch { slot: i, key, weight, clean })
            }
        }
    }

    /// R9. Fetching ended. With a value and its weight the flight goes on as a spill.
    pub(super) fn fetched<B: Below<K, V>>(
        &mut self,
        below: &B,
        fetch: Fetch<K>,
        fetched: Result<(V, u64), Failed>,
    ) -> Result<Spill<K, V>, (Wrote, Ended<K, V>)> {
        let Fetch { slot: i, key, weight, .. } = fetch;
        self.writing_bytes -= weight;
        let superseded = self.slot(i).superseded;
        match fetched {
            Ok((value, writing)) if !superseded => {
                self.change(i, |slot| slot.put_in(value.clone(), writing));
                self.wake(i, Landing::StartOver); // the value is here to be read
                self.begin(i, Flight::Writing(Memory::Slow));
                self.writing_bytes += writing;
                let clean = self.slot(i).slow == CopyState::Clean;
                Ok(Spill { slot: i, key, value, weight, writing, clean, course: Course::default() })
            }
            fetched => {
                let wrote = Wrote::of(superseded, fetched.is_err());
                self.counts.cancelled += u64::from(superseded);
                Err((wrote, self.end(below, i, Course::failed(fetched.err()), Landing::StartOver)))
            }
        }
    }

    /// Makes room without writing: one value whose slow copy is good leaves, if it is the next to go. Only for
    /// fast memory in RAM, where that leaves nothing to do.
    pub(super) fn evict_clean<B: Below<K, V>>(
        &mut self,
        below: &B,
        asks: Asks<'_, K, V>,
        now: impl Fn() -> Duration,
    ) -> Option<Ended<K, V>> {
        let Candidate::Slot(i) = self.candidate(asks, None, now) else { return None };
        if self.table[i].slow != CopyState::Clean {
            return None;
        }
        match self.begin_spill(below, i, true) {
            Begun::Left { ended, .. } => Some(ended),
            Begun::Write(_) | Begun::Fetch(_) => unreachable!("its slow copy is Clean"),
        }
    }

    /// R5. Writing to slow memory ended. Says whether the pair left, and whether it was superseded.
    pub(super) fn wrote<B: Below<K, V>>(
        &mut self,
        below: &B,
        spill: &Spill<K, V>,
        failed: Option<Failed>,
        ends: SpillEnds,
    ) -> (Wrote, Ended<K, V>) {
        let i = spill.slot;
        self.writing_bytes -= spill.writing;
        let wrote = Wrote::of(self.slot(i).superseded, failed.is_some());
        let leaves = ends != SpillEnds::Stays;
        let value = self.change(i, |slot| slot.wrote(failed.is_none(), leaves));
        if !spill.clean {
            self.slow_copies.forget(i); // it is another one now, or may be
        }
        let mut course = Course { failed, ..spill.course };
        match wrote {
            Wrote::Superseded => {
                self.counts.cancelled += 1;
                course.tried.start_over();
            }
            Wrote::Failed => {}
            Wrote::Well => self.table.forget_failures(i),
        }
        if value.is_some() {
            self.count_eviction(spill.weight, spill.clean);
            if ends == SpillEnds::Vanishes {
                self.len -= 1;
            }
        }
        let mut ended = self.end(below, i, course, Landing::StartOver);
        if value.is_some() {
            ended.garbage.0 = value;
        }
        (wrote, ended)
    }

    fn count_eviction(&mut self, weight: u64, clean: bool) {
        self.counts.evictions += 1;
        self.counts.evicted_bytes += weight;
        self.counts.clean_evictions += u64::from(clean);
    }

    /// R9. A value that was promoted goes on to the mapping of fast memory.
    pub(super) fn store_promoted(&mut self, i: u32, value: V) -> Ended<K, V> {
        let flight = Flight::Writing(Memory::Fast);
        let mut course = Course::default();
        course.tried.note(flight);
        self.wake(i, Landing::StartOver);
        self.begin(i, flight);
        let key = self.table.key(i).clone();
        Ended { next: Some(Next::Store { slot: i, key, value, course }), ..Ended::default() }
    }

    /// R9. Writing to fast memory ended.
    pub(super) fn stored<B: Below<K, V>>(
        &mut self,
        below: &B,
        i: u32,
        mut course: Course,
        failed: Option<Failed>,
    ) -> Ended<K, V> {
        let superseded = self.slot(i).superseded;
        self.change(i, |slot| slot.stored(failed.is_none()));
        self.fast_copies.forget(i);
        course.failed = failed;
        match failed {
            _ if superseded => course.tried.start_over(),
            Some(failed) => self.pending.failed(failed.at),
            None => self.table.forget_failures(i),
        }
        self.end(below, i, course, Landing::StartOver)
    }

    /// R5. Removing ended. `gone` says whether there was anything, and is `None` where that failed.
    pub(super) fn removed<B: Below<K, V>>(
        &mut self,
        below: &B,
        i: u32,
        memory: Memory,
        gone: Option<bool>,
        course: Course,
        now: impl FnOnce() -> Duration,
    ) -> Ended<K, V> {
        self.slot(i).removed(memory, gone.is_some());
        // a failed removal may have been applied: `end` asks what is there
        match memory {
            Memory::Fast => self.fast_copies.forget(i),
            Memory::Slow => self.slow_copies.forget(i),
        }
        match gone {
            None => self.pending.failed(now()),
            // what a failed spill left behind was no room before it
            Some(true) if course.failed.is_none() => match memory {
                Memory::Fast => self.pending.room_returned(),
                Memory::Slow => self.table.room_returned(),
            },
            Some(_) => {}
        }
        self.end(below, i, course, Landing::StartOver)
    }

    /// Tries again what is pending of one slot, if one is due, each in its turn.
    pub(super) fn retry_pending<B: Below<K, V>>(
        &mut self,
        below: &B,
        now: impl FnOnce() -> Duration,
    ) -> Option<Ended<K, V>> {
        let i = self.pending.next(now)?;
        Some(self.end(below, i, Course::default(), Landing::StartOver))
    }

    /// Begins to remove the slow copies of up to `most` idle Clean values.
    pub(super) fn begin_clean(&mut self, most: usize) -> Vec<u32> {
        let clean: Vec<u32> = self
            .slow_copies
            .slots()
            .filter(|&i| {
                let slot = &self.table[i];
                slot.slow == CopyState::Clean && slot.flight.is_none()
            })
            .take(most)
            .collect();
        clean.iter().for_each(|&i| self.begin(i, Flight::Removing(Memory::Slow)));
        clean
    }
}
