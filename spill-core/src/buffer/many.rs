//! Many keys in one call: one lock and one call of each memory for all, with the outcome of single calls in order.
//!
//! Every flight that a batch began is ended before it waits for anybody or tells an observer, so that two batches
//! never wait for each other.

use std::iter::Peekable;

use super::core::Core;
use super::flight::Landing;
use super::memories::Below;
use super::moves::{Course, Ended, Next};
use super::settle::STORING;
use super::slot::{CopyState, Memory};
use super::spans;
use super::state::{Spot, State};
use crate::guard::guarded_many;
use crate::{Error, Key, MutableMapping, Overflow, Result, Value};

/// Keys taken in at a time, which bounds how long the lock is held.
const AT_A_TIME: usize = 1024;

/// Keys that a prefetch reads at a time.
const PREFETCHED: usize = 64;

/// What is known of one key of a batch.
enum Part<V> {
    /// Answered.
    Known(Result<Option<V>>),
    /// In fast memory, with its value.
    Hit(V),
    /// Being read by us: slot and source.
    Ours(u32, Memory),
    /// Somebody else has it in flight, or it is given twice: to be asked when our own flights are over.
    Later,
}

/// A value that a batch brought to fast memory.
struct Promoted<V> {
    at: usize,
    value: V,
    weight: u64,
}

impl<K: Key, V: Value, B: Below<K, V>> Core<K, V, B> {
    pub(super) fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
        let mut results = Vec::with_capacity(keys.len());
        for keys in keys.chunks(AT_A_TIME) {
            let (parts, _) = self.read_many(keys);
            for (key, part) in keys.iter().zip(parts) {
                results.push(match part {
                    Part::Known(result) => result,
                    Part::Hit(value) => Ok(Some(value)),
                    Part::Ours(..) | Part::Later => self.get(key),
                });
            }
        }
        results
    }

    /// Brings slow values to fast memory, in the order of `keys`, as long as they all fit in. Bytes brought.
    pub(super) fn prefetch(&self, keys: &[K]) -> u64 {
        let mut brought = 0;
        for keys in keys.chunks(PREFETCHED) {
            let Ok(state) = self.open() else { break };
            let target = state.target.saturating_sub(state.offset);
            drop(state);
            let mut room = target.saturating_sub(brought);
            let fits = keys.iter().position(|key| {
                let weight = self.below.slow().stored_size(key).map_or(0, |size| size.memory);
                let fits = weight <= room;
                room = room.saturating_sub(weight);
                !fits
            });
            brought += self.read_many(&keys[..fits.unwrap_or(keys.len())]).1;
            if fits.is_some() || brought >= target {
                break;
            }
        }
        brought
    }

    /// Reads what is slow and idle in one call of each memory, and promotes it. Whoever else is on the way is not
    /// waited for. The bytes promoted.
    fn read_many(&self, keys: &[K]) -> (Vec<Part<V>>, u64) {
        let mut parts = match self.begin_many(keys) {
            Ok(parts) => parts,
            Err(error) => return (keys.iter().map(|_| Part::Known(Err(error.clone()))).collect(), 0),
        };
        if !parts.iter().any(|part| matches!(part, Part::Ours(..))) {
            return (parts, 0);
        }
        let mut outcomes: Vec<Option<Result<(V, u64)>>> = keys.iter().map(|_| None).collect();
        for memory in [Memory::Fast, Memory::Slow] {
            self.fetch_many(memory, keys, &parts, &mut outcomes);
        }
        let promoted = self.end_many(keys, &mut parts, outcomes);
        let mut weight = 0;
        for Promoted { at, value, weight: one } in promoted {
            weight += one;
            if let Err(error) = self.observers.promoted(&keys[at], &value) {
                parts[at] = Part::Known(Err(error));
            }
        }
        (parts, weight)
    }

    /// Answers what can be answered at once, and begins to read what is slow and idle.
    fn begin_many(&self, keys: &[K]) -> Result<Vec<Part<V>>> {
        let mut state = self.open()?;
        Ok(keys.iter().map(|key| self.begin_one(&mut state, key)).collect())
    }

    fn begin_one(&self, state: &mut State<K, V>, key: &K) -> Part<V> {
        if let Some(value) = state.hit(key) {
            return Part::Hit(value);
        }
        match state.look(&self.below, key) {
            Spot::Idle(i) => Part::Ours(i, state.begin_read(i)),
            Spot::Absent => Part::Known(Ok(None)),
            Spot::Flying(_) | Spot::Here(_) => Part::Later,
        }
    }

    /// Reads from `memory` what is to be read there.
    fn fetch_many(
        &self,
        memory: Memory,
        keys: &[K],
        parts: &[Part<V>],
        outcomes: &mut [Option<Result<(V, u64)>>],
    ) {
        let ours = |at: &usize| matches!(parts[*at], Part::Ours(_, source) if source == memory);
        let places: Vec<usize> = (0..keys.len()).filter(ours).collect();
        if places.is_empty() {
            return;
        }
        let wanted: Vec<K> = places.iter().map(|&at| keys[at].clone()).collect();
        let span = spans::read_back(wanted.len());
        let read = guarded_many("reading values back", wanted.len(), || match memory {
            Memory::Fast => self.below.fast().get_many(&wanted),
            Memory::Slow => self.below.slow().get_many(&wanted),
        });
        let mut bytes = 0;
        for (at, outcome) in places.into_iter().zip(read) {
            let outcome = outcome.and_then(|value| value.ok_or_else(|| Self::missing(memory)));
            outcomes[at] = Some(outcome.and_then(|value| {
                let weight = self.weigh(&keys[at], &value)?;
                bytes += weight;
                Ok((value, weight))
            }));
        }
        spans::read(&span, bytes);
    }

    /// Ends the reads of a batch, in order; then does what they left to do, and makes room.
    fn end_many(
        &self,
        keys: &[K],
        parts: &mut [Part<V>],
        outcomes: Vec<Option<Result<(V, u64)>>>,
    ) -> Vec<Promoted<V>> {
        let (mut promoted, mut left, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        let mut state = self.state.lock();
        let target = state.target;
        for (at, outcome) in outcomes.into_iter().enumerate() {
            let (&Part::Ours(i, source), Some(outcome)) = (&parts[at], outcome) else {
                // used in its turn, so that the order of uses is that of the keys
                match parts[at] {
                    Part::Hit(_) => {
                        let found = state.table.find(&keys[at]);
                        if let Some(i) = found.filter(|&i| state.table[i].value.is_some()) {
                            state.table.touch(i);
                        }
                    }
                    Part::Later => {
                        if let Some(value) = state.hit(&keys[at]) {
                            parts[at] = Part::Hit(value);
                        }
                    }
                    Part::Known(_) | Part::Ours(..) => {}
                }
                continue;
            };
            let slot = state.slot(i);
            let (superseded, fast, slow) = (slot.superseded, slot.fast, slot.slow);
            let (part, landing) = match outcome {
                _ if superseded => (Part::Later, Landing::StartOver),
                Err(error) if source == Memory::Fast && slow == CopyState::Clean => {
                    errors.push(error);
                    (Part::Later, Landing::StartOver) // a single read tries slow memory too
                }
                Err(error) => {
                    errors.push(error.clone());
                    (Part::Known(Err(error.clone())), Landing::Failed(error))
                }
                Ok((value, weight)) if fast == CopyState::Clean || weight > target => {
                    if fast == CopyState::Clean {
                        state.table.touch(i);
                    }
                    (Part::Hit(value.clone()), Landing::Served(value))
                }
                Ok((value, weight)) => {
                    parts[at] = Part::Hit(value.clone());
                    left.push(state.promote(&self.below, i, value.clone(), weight));
                    promoted.push(Promoted { at, value, weight });
                    continue;
                }
            };
            parts[at] = part;
            left.push(state.end(&self.below, i, Course::default(), landing));
        }
        // As after a single read: what stayed slow pushes nothing out.
        let shrink = !promoted.is_empty() && self.is_full(&state);
        drop(state);
        self.finish_many(left);
        errors.iter().for_each(|error| self.failed("reading a value back", error));
        if shrink {
            self.shrink(target);
        }
        promoted
    }

    /// Sets many values. Where each may be refused, or has its own place in an exact order, one after the other.
    pub(super) fn insert_many(&self, pairs: Vec<(K, V)>) -> Vec<Result<()>> {
        if self.overflow == Overflow::Reject || (!B::STORED && self.ceiling.is_none()) {
            return pairs.into_iter().map(|(key, value)| self.insert(key, value, false)).collect();
        }
        let mut results = Vec::with_capacity(pairs.len());
        let weighed = pairs.into_iter().map(|(key, value)| {
            let weight = self.weigh(&key, &value);
            (key, value, weight)
        });
        let mut weighed = weighed.peekable();
        while weighed.peek().is_some() {
            self.insert_some(&mut weighed, &mut results);
        }
        results
    }

    /// Sets the next values: as many as a batch should have, and as there is room for below the ceiling.
    fn insert_some(
        &self,
        pairs: &mut Peekable<impl Iterator<Item = (K, V, Result<u64>)>>,
        results: &mut Vec<Result<()>>,
    ) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let room = self.ceiling.map(|ceiling| ceiling.saturating_sub(self.state.lock().load()));
        while batch.len() < AT_A_TIME
            && let Some((_, _, weight)) = pairs.peek()
        {
            bytes += weight.as_ref().map_or(0, |weight| *weight);
            if !batch.is_empty() && room.is_some_and(|room| bytes > room) {
                break;
            }
            batch.extend(pairs.next());
        }
        let first = batch.first().and_then(|(_, _, weight)| weight.as_ref().ok().copied()).unwrap_or(0);
        let mut state = match self.open().and_then(|state| self.wait_for_room(state, first)) {
            Ok(state) => state,
            Err(error) => return results.extend(batch.iter().map(|_| Err(error.clone()))),
        };
        let (mut left, mut replaced) = (Vec::new(), Vec::new());
        for (key, value, weight) in batch {
            results.push(weight.map(|weight| {
                let (old, ended) = self.write_in(&mut state, key, value, weight, None);
                replaced.push(old); // to be dropped without the lock
                left.push(ended);
            }));
        }
        let target = state.target;
        let shrink = self.is_full(&state) || B::STORED;
        drop(state);
        drop(replaced);
        self.finish_many(left);
        if shrink {
            self.shrink(target);
        }
    }

    pub(super) fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        let mut results = Vec::with_capacity(keys.len());
        for keys in keys.chunks(AT_A_TIME) {
            let mut state = match self.open() {
                Ok(state) => state,
                Err(error) => {
                    results.extend(keys.iter().map(|_| Err(error.clone())));
                    continue;
                }
            };
            let removed: Vec<_> = keys.iter().map(|key| self.remove_in(&mut state, key)).collect();
            drop(state);
            results.extend(removed.iter().map(|removed| Ok(removed.is_some())));
            let ended = removed.into_iter().flatten().map(|(_old, ended)| ended);
            self.finish_many(ended.collect());
        }
        results
    }

    /// Does what the ends of many flights left to do: what is of one kind in one call.
    fn finish_many(&self, mut ended: Vec<Ended<K, V>>) {
        while !ended.is_empty() {
            let (mut stores, mut removals, mut spills) = (Vec::new(), [Vec::new(), Vec::new()], Vec::new());
            for next in ended.iter_mut().filter_map(|ended| ended.next.take()) {
                match next {
                    Next::Store { slot, key, value, course } => stores.push((slot, key, value, course)),
                    Next::Remove { slot, key, memory, course } => {
                        removals[usize::from(memory == Memory::Slow)].push((slot, key, course));
                    }
                    Next::Spill(spill) => spills.push(spill),
                }
            }
            ended = self.store_many(stores);
            let [fast, slow] = removals;
            ended.extend(self.remove_copies(Memory::Fast, fast));
            ended.extend(self.remove_copies(Memory::Slow, slow));
            for spill in spills {
                self.finish(Ended { next: Some(Next::Spill(spill)), ..Ended::default() });
            }
        }
    }

    fn store_many(&self, stores: Vec<(u32, K, V, Course)>) -> Vec<Ended<K, V>> {
        if stores.is_empty() {
            return Vec::new();
        }
        let (mut pairs, mut flights) = (Vec::new(), Vec::new());
        for (slot, key, value, course) in stores {
            pairs.push((key, value));
            flights.push((slot, course));
        }
        let stored = guarded_many("storing values in fast memory", pairs.len(), || {
            self.below.fast().insert_many(pairs)
        });
        self.end_each(flights, stored, STORING, |state, (i, course), stored| {
            self.end_store(state, i, course, stored)
        })
    }

    fn remove_copies(&self, memory: Memory, copies: Vec<(u32, K, Course)>) -> Vec<Ended<K, V>> {
        if copies.is_empty() {
            return Vec::new();
        }
        let (mut keys, mut flights) = (Vec::new(), Vec::new());
        for (slot, key, course) in copies {
            keys.push(key);
            flights.push((slot, course));
        }
        let gone = guarded_many("removing old copies", keys.len(), || match memory {
            Memory::Fast => self.below.fast().remove_many(&keys),
            Memory::Slow => self.below.slow().remove_many(&keys),
        });
        self.end_each(flights, gone, "removing an old copy", |state, (i, course), gone| {
            let freed = gone.as_ref().ok().copied();
            state.removed(&self.below, i, memory, freed, course, || self.clock.now())
        })
    }

    /// Ends flights with their results, under one lock.
    fn end_each<T>(
        &self,
        flights: Vec<(u32, Course)>,
        results: Vec<Result<T>>,
        activity: &'static str,
        end: impl Fn(&mut State<K, V>, (u32, Course), &Result<T>) -> Ended<K, V>,
    ) -> Vec<Ended<K, V>> {
        let mut state = self.state.lock();
        let ended = flights
            .into_iter()
            .zip(&results)
            .map(|(flight, result)| end(&mut state, flight, result))
            .collect();
        drop(state);
        let errors = results.iter().filter_map(|result| result.as_ref().err());
        errors.for_each(|error: &Error| self.failed(activity, error));
        ended
    }
}
