//! Everything that the table's lock guards, and what every step under it is made of.
//!
//! Here the rules of `slot.rs` meet the bookkeeping that follows from them: counts, the order of eviction,
//! waiters. `moves.rs` has the steps of values between memories, `sums.rs` what is held where.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::copies::Copies;
use super::flight::{Landing, Signal};
use super::flying::Flying;
use super::hot::{Heated, Hot};
use super::memories::Below;
use super::moves::{Course, Ended, Next, Spill};
use super::pending::Pending;
use super::rotation::Rotation;
use super::slot::{CopyState, Flight, Memory, Settled, Slot};
use crate::table::{SharedStamps, Standing, Table};
use crate::{Key, MutableMapping, Value};

#[derive(Debug)]
pub(super) struct State<K, V> {
    pub(super) table: Table<K, Slot<V>>,
    /// Keys present, fast and slow (R8).
    pub(super) len: usize,
    pub(super) fast_count: usize,
    pub(super) fast_bytes: u64,
    /// Weight of the values that are in the slots. Without `Stored` it is that of fast memory.
    pub(super) ram_bytes: u64,
    /// Weight of the values whose spill is under way; they count as fast until it ends.
    pub(super) writing_bytes: u64,
    pub(super) target: u64,
    pub(super) offset: u64,
    pub(super) counts: Counts,
    /// How many slots were freed.
    pub(super) departures: u64,
    pub(super) closed: bool,
    /// Writer threads that run.
    pub(super) writers: usize,
    pub(super) stopping: bool,
    /// What the writers are to bring to fast memory.
    pub(super) wanted: VecDeque<Vec<K>>,
    signals: HashMap<u32, Arc<Signal<V>>>,
    /// Slots whose values are hit without this state.
    pub(super) heated: Heated<K, V>,
    /// Slots in flight that are in fast memory, for an evicter that finds nothing else to wait for; and those
    /// of which a copy is being written or removed.
    pub(super) flying: Flying,
    /// Idle slots with something left to do that failed.
    pub(super) pending: Pending,
    /// Values passed by because somebody outside holds them.
    pub(super) held: Rotation,
    pub(super) slow_copies: Copies,
    pub(super) fast_copies: Copies,
    /// Walks under way, and the keys whose slow copy was replaced by a fast value meanwhile.
    pub(super) walks: usize,
    pub(super) journal: Vec<K>,
}

/// Where the value of a key is, and its slot.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spot {
    /// In the slot.
    Here(u32),
    /// In a copy, or with the owner of a flight, who is to be waited for.
    Flying(u32),
    /// In a copy that can be read.
    Idle(u32),
    /// Nowhere.
    Absent,
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

impl<K: Key, V: Value> State<K, V> {
    pub(super) fn new(target: u64, offset: u64, len: usize) -> Self {
        let stamps = SharedStamps::default();
        State {
            table: Table::new(stamps.clone()),
            len,
            fast_count: 0,
            fast_bytes: 0,
            ram_bytes: 0,
            writing_bytes: 0,
            target,
            offset,
            counts: Counts::default(),
            departures: 0,
            closed: false,
            writers: 0,
            stopping: false,
            wanted: VecDeque::new(),
            signals: HashMap::new(),
            heated: Heated::new(Hot::new(stamps)),
            flying: Flying::default(),
            pending: Pending::default(),
            held: Rotation::default(),
            slow_copies: Copies::default(),
            fast_copies: Copies::default(),
            walks: 0,
            journal: Vec::new(),
        }
    }

    /// Refuses from now on. Says whether it did not before.
    pub(super) fn close(&mut self) -> bool {
        self.cool_all();
        self.table.close();
        !std::mem::replace(&mut self.closed, true)
    }

    pub(super) fn slot(&mut self, i: u32) -> &mut Slot<V> {
        &mut self.table[i]
    }

    /// Changes the slot `i`, which is not hot any more, and keeps the sums of fast memory.
    pub(super) fn change<R>(&mut self, i: u32, change: impl FnOnce(&mut Slot<V>) -> R) -> R {
        if self.heated.has(i) {
            self.cool(i);
        }
        let slot = &mut self.table[i];
        let before = Held::by(slot);
        let result = change(slot);
        let after = Held::by(slot);
        self.fast_count = self.fast_count - before.count + after.count;
        self.fast_bytes = self.fast_bytes - before.bytes + after.bytes;
        self.ram_bytes = self.ram_bytes - before.ram + after.ram;
        result
    }

    /// The same of a slot that stands nowhere from now on: withdrawn first, since a late use would be given its place in the
    /// order for nothing.
    fn change_aside<R>(&mut self, i: u32, change: impl FnOnce(&mut Slot<V>) -> R) -> R {
        self.table.withdraw(i);
        self.change(i, change)
    }

    /// Whether fast memory holds more than `target`, by weight (PARITY Z02: strictly more).
    pub(super) fn above(&self, target: u64) -> bool {
        self.load() > target
    }

    /// The weight of fast memory, with the offset.
    pub(super) fn load(&self) -> u64 {
        self.fast_bytes.saturating_add(self.offset)
    }

    /// A slot for a key that has none; `slow` is what slow memory has of it.
    pub(super) fn open(&mut self, key: K, slow: CopyState) -> u32 {
        if self.walks > 0 && slow != CopyState::Absent {
            self.journal.push(key.clone());
        }
        self.table.insert(key, Slot::new(slow))
    }

    /// R2. Sets the value of a key that is nowhere, with fast memory in RAM: all that [`write`](Self::write) comes to
    /// then.
    pub(super) fn add(&mut self, key: K, value: V, weight: u64) {
        let mut slot = Slot::new(CopyState::Absent);
        slot.put_in(value, weight);
        let i = self.table.insert(key, slot);
        self.table.place(i, weight > self.target);
        self.len += 1;
        self.fast_count += 1;
        self.fast_bytes += weight;
        self.ram_bytes += weight;
    }

    /// The value of `key` if it is in its slot, as a use.
    #[inline]
    pub(super) fn hit(&mut self, key: &K) -> Option<V> {
        self.hit_recent(key).or_else(|| self.hit_beside(key))
    }

    /// The same of what stands by recency only: so little that it is part of the caller.
    #[inline(always)]
    pub(super) fn hit_recent(&mut self, key: &K) -> Option<V> {
        let value = self.table.hit(key, |slot| slot.value.as_ref())?;
        self.counts.hits += 1;
        Some(value.clone())
    }

    #[cold]
    fn hit_beside(&mut self, key: &K) -> Option<V> {
        let i = self.table.find(key)?;
        let value = self.table[i].value.clone()?;
        self.table.touch(i);
        self.counts.hits += 1;
        Some(value)
    }

    /// Where the value of `key` is. Of one that is [`Spot::Idle`] a flight must begin: it may have got its slot only
    /// here.
    pub(super) fn look<B: Below<K, V>>(&mut self, below: &B, key: &K) -> Spot {
        let Some(i) = self.table.find(key) else {
            let slow = below.slow().contains_key(key);
            return if slow { Spot::Idle(self.open(key.clone(), CopyState::Clean)) } else { Spot::Absent };
        };
        let slot = &self.table[i];
        match slot.flight {
            _ if slot.value.is_some() => Spot::Here(i),
            _ if !slot.present() => Spot::Absent,
            Some(_) => Spot::Flying(i),
            None => Spot::Idle(i),
        }
    }

    /// A slot for a key that the mapping of fast memory held before the buffer was (PARITY Z04). Where slow memory
    /// has it too, the fast one wins.
    pub(super) fn adopt<B: Below<K, V>>(&mut self, below: &B, key: K, weight: u64) {
        let in_slow = below.slow().contains_key(&key);
        let i = self.open(key, if in_slow { CopyState::Stale } else { CopyState::Absent });
        self.change(i, |slot| (slot.fast, slot.weight) = (CopyState::Clean, weight));
        self.len += usize::from(!in_slow);
        _ = self.end(below, i, Course::over(), Landing::StartOver);
    }

    /// Begins a flight; the slot stands nowhere until it ends.
    pub(super) fn begin(&mut self, i: u32, flight: Flight) {
        self.change_aside(i, |slot| slot.begin(flight));
        self.take_off(i);
    }

    /// The bookkeeping of a flight that begins, whose slot was withdrawn.
    fn take_off(&mut self, i: u32) {
        self.held.forget(i);
        self.note_flying(i);
        self.pending.forget(i);
    }

    fn note_flying(&mut self, i: u32) {
        let slot = &self.table[i];
        if slot.in_fast() || slot.changes(Memory::Slow) || slot.changes(Memory::Fast) {
            self.flying.insert(i);
        }
    }

    /// The bookkeeping of a flight that ended.
    fn land(&mut self, i: u32) {
        self.flying.remove(i);
        self.pending.forget(i);
    }

    /// Begins to read `i`; says from where. What fast memory has keeps its place in the order of eviction, where an
    /// evicter that meets it takes it out.
    pub(super) fn begin_read(&mut self, i: u32) -> Memory {
        let source = self.table[i].source();
        self.slot(i).begin(Flight::Reading);
        match source {
            Memory::Fast => {
                self.counts.hits += 1;
                self.note_flying(i);
                self.pending.forget(i);
            }
            Memory::Slow => {
                self.counts.misses += 1;
                self.table.withdraw(i);
                self.take_off(i);
            }
        }
        source
    }

    /// What to wait on until the flight of `i` ends.
    pub(super) fn signal(&mut self, i: u32) -> Arc<Signal<V>> {
        Arc::clone(self.signals.entry(i).or_insert_with(|| Arc::new(Signal::new())))
    }

    /// The signal of some flight of a value in fast memory.
    pub(super) fn signal_of_any_value(&mut self) -> Option<Arc<Signal<V>>> {
        let i = self.flying.iter().find(|&i| self.table[i].in_fast())?;
        Some(self.signal(i))
    }

    /// What flies of `i`.
    pub(super) fn flies(&self, i: u32) -> Option<Flight> {
        self.table[i].flight
    }

    /// R2. Sets the value of `i`, or takes it; `was_present` tells whether the key was there before.
    pub(super) fn write<B: Below<K, V>>(
        &mut self,
        below: &B,
        i: u32,
        value: Option<(V, u64)>,
        was_present: bool,
    ) -> (Option<V>, Ended<K, V>) {
        let value = match value {
            Some((value, weight)) if !B::STORED && self.is_plain(i) && weight <= self.target => {
                return (self.exchange(i, value, weight), Ended::default());
            }
            value => value,
        };
        let present = value.is_some();
        let (value, weight) = value.unzip();
        let old = self.change_aside(i, |slot| slot.write(value, weight.unwrap_or(0)));
        self.len = self.len + usize::from(present) - usize::from(was_present);
        self.table.forget_failures(i);
        self.held.forget(i);
        self.table.touch(i);
        let ended = if self.slot(i).flight.is_some() {
            if present {
                self.flying.insert(i);
            }
            self.track_copies(below, i);
            Ended::default()
        } else {
            self.end(below, i, Course::default(), Landing::StartOver)
        };
        (old, ended)
    }

    /// Whether `i` has a value and nothing else: no flight and no copy; and stands by recency.
    fn is_plain(&self, i: u32) -> bool {
        let slot = &self.table[i];
        let alone = slot.fast == CopyState::Absent && slot.slow == CopyState::Absent;
        slot.value.is_some() && slot.flight.is_none() && alone && self.table.standing(i) == Standing::Recent
    }

    /// R2. Sets the value of a slot that is plain: all that [`write`](Self::write) comes to then.
    fn exchange(&mut self, i: u32, value: V, weight: u64) -> Option<V> {
        self.table.forget_failures(i);
        self.table.touch(i);
        self.change(i, |slot| slot.write(Some(value), weight))
    }

    /// Tells those who wait for the flight of `i` how it ended.
    pub(super) fn wake(&mut self, i: u32, landing: Landing<V>) {
        if !self.signals.is_empty()
            && let Some(signal) = self.signals.remove(&i)
        {
            signal.land(landing);
        }
    }

    /// R4. Ends the flight of `i` after its outcome (R5) was applied: wakes the waiters and settles (R6, R9).
    pub(super) fn end<B: Below<K, V>>(
        &mut self,
        below: &B,
        i: u32,
        mut course: Course,
        landing: Landing<V>,
    ) -> Ended<K, V> {
        if self.slot(i).superseded {
            self.wake(i, Landing::StartOver);
            course.failed = None;
        } else {
            self.wake(i, landing);
        }
        let mut ended = Ended::default();
        if B::STORED {
            ended.garbage.0 = self.drop_stage(below, i);
        }
        match self.slot(i).settle(B::STORED, &mut course.tried) {
            Settled::GoOn(flight) => {
                self.table.withdraw(i);
                self.take_off(i);
                self.track_copies(below, i);
                ended.next = Some(self.next(i, flight, course));
            }
            Settled::Free => {
                self.land(i);
                self.slow_copies.forget(i);
                self.fast_copies.forget(i);
                self.departures += 1;
                if let Some((key, slot)) = self.table.remove(i) {
                    ended.garbage = (ended.garbage.0.or(slot.value), Some(key));
                }
            }
            Settled::Keep => {
                self.land(i);
                self.track_copies(below, i);
                let slot = &self.table[i];
                if slot.is_pending(B::STORED) {
                    let staged = if B::STORED && slot.value.is_some() { slot.weight } else { 0 };
                    self.pending.note(i, staged);
                }
                if slot.in_fast() && self.table.standing(i) == Standing::Nowhere {
                    let heavy = slot.weight > self.target;
                    match course.failed {
                        Some(failed) => self.table.defer(i, failed.full, failed.at),
                        None => self.table.place(i, heavy),
                    }
                }
            }
        }
        ended
    }

    /// R9. A stage is only for what neither memory has.
    fn drop_stage<B: Below<K, V>>(&mut self, below: &B, i: u32) -> Option<V> {
        let slot = &self.table[i];
        if slot.value.is_none() || (slot.fast != CopyState::Clean && slot.slow != CopyState::Clean) {
            return None;
        }
        let record = if slot.fast == CopyState::Clean { below.record(self.table.key(i)) } else { None };
        self.change(i, |slot| {
            slot.weight = record.unwrap_or(slot.weight);
            slot.value.take()
        })
    }

    /// What the owner of a flight that went on has to do.
    fn next(&mut self, slot: u32, flight: Flight, course: Course) -> Next<K, V> {
        let key = self.table.key(slot).clone();
        match (flight, self.table[slot].value.clone()) {
            (Flight::Writing(Memory::Fast), Some(value)) => Next::Store { slot, key, value, course },
            (Flight::Writing(_), Some(value)) => {
                let weight = self.table[slot].weight;
                self.writing_bytes += weight;
                Next::Spill(Spill { slot, key, value, weight, writing: weight, clean: false, course })
            }
            (Flight::Removing(memory), _) => Next::Remove { slot, key, memory, course },
            _ => unreachable!("a slot settles by writing its value or by removing a copy"),
        }
    }

    /// R5, R9. Ends a Reading flight whose value is put in; with `Stored` it goes on to the mapping of fast memory.
    pub(super) fn promote<B: Below<K, V>>(
        &mut self,
        below: &B,
        i: u32,
        value: V,
        weight: u64,
    ) -> Ended<K, V> {
        let stage = B::STORED.then(|| value.clone());
        self.change(i, |slot| slot.put_in(value, weight));
        self.counts.promotions += 1;
        self.table.touch(i);
        match stage {
            Some(value) => self.store_promoted(i, value),
            None => self.end(below, i, Course::default(), Landing::StartOver),
        }
    }

    /// R3. An update takes the value out of `i`, if it is here.
    pub(super) fn begin_update(&mut self, i: u32) -> Option<V> {
        let value = self.change_aside(i, Slot::begin_update);
        self.take_off(i);
        value
    }

    /// R5. An update or a load ended with `value`.
    pub(super) fn put_back(&mut self, i: u32, value: V, weight: u64) -> Option<V> {
        if let Err(value) = self.change(i, |slot| slot.put_back(value, weight)) {
            return Some(value);
        }
        self.table.forget_failures(i);
        self.table.touch(i);
        None
    }
}

/// What a slot adds to the sums of fast memory.
struct Held {
    count: usize,
    bytes: u64,
    ram: u64,
}

impl Held {
    #[inline]
    fn by<V>(slot: &Slot<V>) -> Held {
        Held {
            count: usize::from(slot.in_fast()),
            bytes: if slot.in_fast() { slot.weight } else { 0 },
            ram: if slot.value.is_some() { slot.weight } else { 0 },
        }
    }
}
