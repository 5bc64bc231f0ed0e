//! Everything that the table's lock guards, and the steps taken under it.
//!
//! Here the rules of `slot.rs` meet the bookkeeping that follows from them: counts, the order of eviction,
//! waiters, copies left on slow memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use super::copies::Copies;
use super::flight::{Landing, Signal};
use super::slot::{Flight, Settled, Slot, SlowCopy};
use crate::table::{Standing, Table};
use crate::{Key, MutableMapping, SpilledSize, Value};

#[derive(Debug)]
pub(super) struct State<K, V> {
    pub(super) table: Table<K, Slot<V>>,
    /// Keys present, fast and slow (R8).
    pub(super) len: usize,
    pub(super) fast_count: usize,
    pub(super) fast_bytes: u64,
    /// Weight of the values whose spill is under way; they count as fast until it ends.
    pub(super) writing_bytes: u64,
    pub(super) target: u64,
    pub(super) offset: u64,
    pub(super) counts: Counts,
    pub(super) closed: bool,
    /// Writer threads that run.
    pub(super) writers: usize,
    pub(super) stopping: bool,
    signals: HashMap<u32, Arc<Signal<V>>>,
    /// Slots in flight that have a value, for an evicter that finds nothing else to wait for; and those whose
    /// slow copy is being written or removed.
    flying: BTreeSet<u32>,
    /// Idle slots whose slow copy is Stale: its removal failed and is tried again.
    stale: BTreeSet<u32>,
    stale_retry: Duration,
    copies: Copies,
    /// Walks under way, and the keys whose slow copy was replaced by a fast value meanwhile.
    walks: usize,
    journal: Vec<K>,
}

/// Plain counts, touched under the lock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) evictions: u64,
    pub(super) evicted_bytes: u64,
    pub(super) clean_evictions: u64,
    pub(super) promotions: u64,
    pub(super) cancelled: u64,
    pub(super) failures: u64,
}

/// How often the removal of Stale copies is tried again after it failed.
const STALE_RETRY: Duration = Duration::from_millis(500);

/// A spill that failed: what the key's deferral follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpillFailed {
    pub(super) full: bool,
    pub(super) at: Duration,
}

/// What ending a flight leaves to its owner, to be done without the lock.
#[must_use]
pub(super) struct Ended<K, V> {
    /// The flight went on as Removing: remove the slow copy and call [`State::removed`].
    pub(super) remove: bool,
    /// To be dropped.
    pub(super) _garbage: (Option<V>, Option<K>),
}

impl<K: Key, V: Value> State<K, V> {
    pub(super) fn new(target: u64, offset: u64, len: usize) -> Self {
        State {
            table: Table::new(),
            len,
            fast_count: 0,
            fast_bytes: 0,
            writing_bytes: 0,
            target,
            offset,
            counts: Counts::default(),
            closed: false,
            writers: 0,
            stopping: false,
            signals: HashMap::new(),
            flying: BTreeSet::new(),
            stale: BTreeSet::new(),
            stale_retry: Duration::ZERO,
            copies: Copies::default(),
            walks: 0,
            journal: Vec::new(),
        }
    }

    pub(super) fn slot(&mut self, i: u32) -> &mut Slot<V> {
        &mut self.table[i].item
    }

    /// Whether fast memory holds more than `target`, by weight (PARITY Z02: strictly more).
    pub(super) fn above(&self, target: u64) -> bool {
        self.load() > target
    }

    /// The weight of fast memory, with the offset.
    pub(super) fn load(&self) -> u64 {
        self.fast_bytes.saturating_add(self.offset)
    }

    /// A slot for a key that has none; `slow` says whether slow memory has the key, which then is present.
    pub(super) fn open(&mut self, key: K, copy: SlowCopy) -> u32 {
        if self.walks > 0 && copy != SlowCopy::Absent {
            self.journal.push(key.clone());
        }
        self.table.insert(key, Slot::new(copy))
    }

    /// Begins a flight; the slot stands nowhere until it ends.
    pub(super) fn begin(&mut self, i: u32, flight: Flight) {
        self.slot(i).begin(flight);
        self.take_off(i);
    }

    /// The bookkeeping of a flight that begins.
    pub(super) fn take_off(&mut self, i: u32) {
        self.table.withdraw(i);
        if self.slot(i).value.is_some() || self.slot(i).changes_copy() {
            self.flying.insert(i);
        }
        if !self.stale.is_empty() {
            self.stale.remove(&i);
        }
    }

    /// The bookkeeping of a flight that ended.
    fn land(&mut self, i: u32) {
        if !self.flying.is_empty() {
            self.flying.remove(&i);
        }
        if !self.stale.is_empty() {
            self.stale.remove(&i);
        }
    }

    /// What to wait on until the flight of `i` ends.
    pub(super) fn signal(&mut self, i: u32) -> Arc<Signal<V>> {
        Arc::clone(self.signals.entry(i).or_insert_with(|| Arc::new(Signal::new())))
    }

    /// The signal of some flight that has a value in fast memory.
    pub(super) fn signal_of_any_value(&mut self) -> Option<Arc<Signal<V>>> {
        let i = self.flying.iter().copied().find(|&i| self.table[i].item.value.is_some())?;
        Some(self.signal(i))
    }

    /// R2. Sets the value of `i`, or takes it; `was_present` tells whether the key was there before.
    pub(super) fn write<S: MutableMapping<K, V>>(
        &mut self,
        slow: &S,
        i: u32,
        value: Option<(V, u64)>,
        was_present: bool,
    ) -> (Option<V>, Ended<K, V>) {
        let present = value.is_some();
        let (value, weight) = value.unzip();
        let slot = &mut self.table[i].item;
        let old_weight = slot.weight;
        let old = slot.write(value, weight.unwrap_or(0));
        self.recount(old.is_some().then_some(old_weight), weight);
        self.len = self.len + usize::from(present) - usize::from(was_present);
        self.table.forget_failures(i);
        self.table.withdraw(i);
        self.table.touch(i);
        let ended = if self.slot(i).flight.is_some() {
            if present {
                self.flying.insert(i);
            }
            self.track_copy(slow, i);
            Ended { remove: false, _garbage: (None, None) }
        } else {
            self.end(slow, i, true, Landing::StartOver, None)
        };
        (old, ended)
    }

    /// Keeps the sums of fast memory when a value of one weight leaves and one of another comes.
    fn recount(&mut self, leaves: Option<u64>, comes: Option<u64>) {
        self.fast_bytes = self.fast_bytes - leaves.unwrap_or(0) + comes.unwrap_or(0);
        self.fast_count = self.fast_count + usize::from(comes.is_some()) - usize::from(leaves.is_some());
    }

    /// Tells those who wait for the flight of `i` how it ended.
    pub(super) fn wake(&mut self, i: u32, landing: Landing<V>) {
        if !self.signals.is_empty()
            && let Some(signal) = self.signals.remove(&i)
        {
            signal.land(landing);
        }
    }

    /// R4. Ends the flight of `i` after its outcome (R5) was applied: wakes the waiters and settles (R6).
    pub(super) fn end<S: MutableMapping<K, V>>(
        &mut self,
        slow: &S,
        i: u32,
        may_go_on: bool,
        landing: Landing<V>,
        failed: Option<SpillFailed>,
    ) -> Ended<K, V> {
        let superseded = self.slot(i).superseded;
        self.wake(i, if superseded { Landing::StartOver } else { landing });
        let settled = self.slot(i).settle(may_go_on);
        let mut ended = Ended { remove: false, _garbage: (None, None) };
        match settled {
            Settled::Remove => {
                self.take_off(i);
                ended.remove = true;
                self.track_copy(slow, i);
            }
            Settled::Free => {
                self.land(i);
                self.copies.forget(i);
                ended._garbage =
                    self.table.remove(i).map_or((None, None), |(key, slot)| (slot.value, Some(key)));
            }
            Settled::Keep => {
                self.land(i);
                self.track_copy(slow, i);
                let slot = &self.table[i].item;
                if slot.copy == SlowCopy::Stale {
                    self.stale.insert(i);
                }
                if slot.value.is_some() && self.table.standing(i) == Standing::Nowhere {
                    let heavy = self.table[i].item.weight > self.target;
                    match failed {
                        Some(failed) if !superseded => self.table.defer(i, failed.full, failed.at),
                        _ => self.table.place(i, heavy),
                    }
                }
            }
        }
        ended
    }

    /// Begins to spill `i`: what to write, or `None` where nothing has to be (`clean_is_free`: the slow copy
    /// is good and nobody wants to be told).
    pub(super) fn begin_spill<S: MutableMapping<K, V>>(
        &mut self,
        slow: &S,
        i: u32,
        clean_is_free: bool,
    ) -> Result<Spill<K, V>, (u64, Ended<K, V>)> {
        self.table.withdraw(i);
        let slot = &mut self.table[i].item;
        let (weight, clean) = (slot.weight, slot.copy == SlowCopy::Clean);
        if clean && clean_is_free {
            let value = slot.value.take();
            self.count_eviction(weight, true);
            let mut ended = self.end(slow, i, true, Landing::StartOver, None);
            ended._garbage.0 = value;
            return Err((weight, ended));
        }
        let Some(value) = slot.value.clone() else {
            unreachable!("only values stand in the order of eviction")
        };
        self.begin(i, Flight::Writing);
        self.writing_bytes += weight;
        Ok(Spill { slot: i, key: self.table.key(i).clone(), value, weight, clean })
    }

    /// Makes room without writing: one value whose slow copy is good leaves, if it is the next to go.
    pub(super) fn evict_clean<S: MutableMapping<K, V>>(
        &mut self,
        slow: &S,
        now: impl FnOnce() -> Duration,
    ) -> Option<Ended<K, V>> {
        let i = self.table.oldest(now).filter(|&i| self.table[i].item.copy == SlowCopy::Clean)?;
        self.begin_spill(slow, i, true).err().map(|(_, ended)| ended)
    }

    /// R5. Writing ended. Says whether the pair left, and whether it was superseded.
    pub(super) fn wrote<S: MutableMapping<K, V>>(
        &mut self,
        slow: &S,
        spill: &Spill<K, V>,
        failed: Option<SpillFailed>,
        ends: SpillEnds,
    ) -> (Wrote, Ended<K, V>) {
        let i = spill.slot;
        self.writing_bytes -= spill.weight;
        let superseded = self.slot(i).superseded;
        let value = self.slot(i).wrote(failed.is_none(), ends != SpillEnds::Stays);
        if !spill.clean {
            self.copies.forget(i); // it is another one now, or may be
        }
        let wrote = match (superseded, failed) {
            (true, _) => Wrote::Superseded,
            (false, Some(_)) => Wrote::Failed,
            (false, None) => Wrote::Well,
        };
        match wrote {
            Wrote::Superseded => self.counts.cancelled += 1,
            Wrote::Failed => {}
            Wrote::Well => self.table.forget_failures(i),
        }
        if value.is_some() {
            self.count_eviction(spill.weight, spill.clean);
            if ends == SpillEnds::Vanishes {
                self.len -= 1;
            }
        }
        let mut ended = self.end(slow, i, true, Landing::StartOver, failed);
        ended._garbage.0 = value;
        (wrote, ended)
    }

    fn count_eviction(&mut self, weight: u64, clean: bool) {
        self.recount(Some(weight), None);
        self.counts.evictions += 1;
        self.counts.evicted_bytes += weight;
        self.counts.clean_evictions += u64::from(clean);
    }

    /// R5. A value read back is put in.
    pub(super) fn promote(&mut self, i: u32, value: V, weight: u64) {
        self.slot(i).promote(value, weight);
        self.recount(None, Some(weight));
        self.counts.promotions += 1;
        self.table.touch(i);
    }

    /// R3. An update takes the value out of `i`, if it is here.
    pub(super) fn begin_update(&mut self, i: u32) -> Option<V> {
        let weight = self.table[i].item.weight;
        let value = self.slot(i).begin_update();
        self.take_off(i);
        if value.is_some() {
            self.recount(Some(weight), None);
        }
        value
    }

    /// R5. An update or a load ended with `value`.
    pub(super) fn put_back(&mut self, i: u32, value: V, weight: u64) -> Option<V> {
        if let Err(value) = self.slot(i).put_back(value, weight) {
            return Some(value);
        }
        self.recount(None, Some(weight));
        self.table.forget_failures(i);
        self.table.touch(i);
        None
    }

    /// R5. Removing ended. `gone` says whether there was anything, and is `None` where that failed.
    pub(super) fn removed<S: MutableMapping<K, V>>(
        &mut self,
        slow: &S,
        i: u32,
        gone: Option<bool>,
        failed: Option<SpillFailed>,
        now: impl FnOnce() -> Duration,
    ) -> Ended<K, V> {
        self.slot(i).removed(gone.is_some());
        self.copies.forget(i); // a failed removal may have been applied: `end` asks what is there
        match gone {
            None => self.stale_retry = now() + STALE_RETRY,
            // what a failed spill left behind was no room before it
            Some(freed) if freed && failed.is_none() => self.table.room_returned(),
            Some(_) => {}
        }
        self.end(slow, i, false, Landing::StartOver, failed)
    }

    /// Begins to remove one Stale copy that is due, if there is one.
    pub(super) fn begin_stale(&mut self, now: impl FnOnce() -> Duration) -> Option<u32> {
        let i = *self.stale.first()?;
        if now() < self.stale_retry {
            return None;
        }
        self.begin(i, Flight::Removing);
        Some(i)
    }

    pub(super) fn next_stale(&self) -> Option<Duration> {
        (!self.stale.is_empty()).then_some(self.stale_retry)
    }

    /// Begins to remove the slow copies of up to `most` idle Clean values.
    pub(super) fn begin_clean(&mut self, most: usize) -> Vec<u32> {
        let clean: Vec<u32> = self
            .copies
            .slots()
            .filter(|&i| {
                let slot = &self.table[i].item;
                slot.copy == SlowCopy::Clean && slot.flight.is_none()
            })
            .take(most)
            .collect();
        clean.iter().for_each(|&i| self.begin(i, Flight::Removing));
        clean
    }

    /// Keeps `copies` true after the slot's copy or value changed.
    fn track_copy<S: MutableMapping<K, V>>(&mut self, slow: &S, i: u32) {
        let (key, slot) = (self.table.key(i), &self.table[i].item);
        let beside = match slot.copy {
            SlowCopy::Absent => false,
            SlowCopy::Clean => slot.value.is_some(),
            SlowCopy::Stale => true,
        };
        if !beside {
            self.copies.forget(i);
        } else if !self.copies.has(i) {
            self.copies.note(i, slow.stored_size(key));
        }
    }

    /// What slow memory has as the only copy of a value.
    pub(super) fn spilled<S: MutableMapping<K, V>>(&self, slow: &S) -> SpilledSize {
        let mut below = slow.usage().spilled;
        // what storage does in this moment must be seen in both or in neither
        for _ in 0..8 {
            let copies = if below == SpilledSize::default() { below } else { self.copies(slow) };
            let again = slow.usage().spilled;
            if again == below {
                return below - copies;
            }
            below = again;
        }
        below - self.copies(slow)
    }

    /// What slow memory has for keys whose value is in fast memory, or that are gone.
    fn copies<S: MutableMapping<K, V>>(&self, slow: &S) -> SpilledSize {
        let changing: Vec<u32> =
            self.flying.iter().copied().filter(|&i| self.table[i].item.changes_copy()).collect();
        self.copies.total(&changing, |i| slow.stored_size(self.table.key(i)))
    }

    /// Keys with a value in fast memory, the most recently used first.
    pub(super) fn fast_keys(&self) -> Vec<K> {
        let mut keys: Vec<_> = self
            .table
            .iter()
            .filter(|(_, _, slot)| slot.value.is_some())
            .map(|(i, key, _)| (self.table.stamp(i), key.clone()))
            .collect();
        keys.sort_unstable_by_key(|&(stamp, _)| std::cmp::Reverse(stamp));
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// A walk over the keys begins: those present in the table.
    pub(super) fn begin_walk(&mut self) -> Vec<K> {
        self.walks += 1;
        self.table.iter().filter(|(.., slot)| slot.present()).map(|(_, key, _)| key.clone()).collect()
    }

    /// The walk has read slow memory's keys: those that moved to fast memory meanwhile.
    pub(super) fn end_walk(&mut self) -> Vec<K> {
        let journal = self.journal.clone();
        self.walks -= 1;
        if self.walks == 0 {
            self.journal = Vec::new();
        }
        journal
    }
}

/// A spill under way.
pub(super) struct Spill<K, V> {
    pub(super) slot: u32,
    pub(super) key: K,
    pub(super) value: V,
    pub(super) weight: u64,
    /// The slow copy is good, so that nothing is written.
    pub(super) clean: bool,
}

/// What becomes of a value that was written.
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
