//! Compound operations on one key: a closure changes the value, or a loader makes it (R3 to R5, R7).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::core::Core;
use super::flight::Landing;
use super::memories::Below;
use super::moves::Course;
use super::read::{Read, Reading};
use super::slot::{CopyState, Flight};
use crate::guard::panicked;
use crate::{Key, MutableMapping, Result, Value};

/// What a compound operation found, and now owns a flight for.
enum Found<V> {
    /// The value was taken out: an Updating flight of this slot.
    Value(u32, V, u64),
    /// The key is absent: a Loading flight of this slot.
    Absent(u32),
}

impl<K: Key, V: Value, B: Below<K, V>> Core<K, V, B> {
    pub(super) fn update<R>(&self, key: &K, change: impl FnOnce(&mut V) -> R) -> Result<Option<R>> {
        self.wait_for_room()?;
        match self.find_to_update(key, false)? {
            None | Some(Found::Absent(_)) => Ok(None),
            Some(Found::Value(i, value, weight)) => self.run_update(i, key, value, weight, change).map(Some),
        }
    }

    pub(super) fn upsert(&self, key: K, make: impl FnOnce() -> V, change: impl FnOnce(&mut V)) -> Result<()> {
        self.wait_for_room()?;
        match self.find_to_update(&key, true)? {
            None => Ok(()),
            Some(Found::Value(i, value, weight)) => self.run_update(i, &key, value, weight, change),
            Some(Found::Absent(i)) => self.run_load(i, &key, || Ok(make())).map(drop),
        }
    }

    pub(super) fn get_or_try_insert_with(&self, key: K, load: impl FnOnce() -> Result<V>) -> Result<V> {
        loop {
            if let Some(value) = self.get(&key)? {
                return Ok(value);
            }
            self.wait_for_room()?;
            let mut state = self.open()?;
            let i = match state.table.find(&key) {
                Some(i) if state.slot(i).present() => continue,
                Some(i) if state.slot(i).flight.is_some() => {
                    let signal = state.signal(i);
                    drop(state);
                    match signal.wait() {
                        Landing::LoadFailed(error) => return Err(error),
                        _ => continue,
                    }
                }
                Some(i) => i,
                None if self.below.slow().contains_key(&key) => continue,
                None => state.open(key.clone(), CopyState::Absent),
            };
            state.begin(i, Flight::Loading);
            drop(state);
            return self.run_load(i, &key, load);
        }
    }

    /// Takes the value of `key` out, reading it first where it is not here; or, with `load`, begins to load it
    /// where it is absent. `None`: absent.
    fn find_to_update(&self, key: &K, load: bool) -> Result<Option<Found<V>>> {
        loop {
            let mut state = self.open()?;
            let found = state.table.find(key);
            let (i, present) = match found {
                Some(i) => {
                    let slot = state.slot(i);
                    let (present, flies, weight) = (slot.present(), slot.flight.is_some(), slot.weight);
                    if slot.value.is_some() && !flies {
                        let value = state.begin_update(i);
                        drop(state);
                        return Ok(value.map(|value| Found::Value(i, value, weight)));
                    }
                    if !present && !load {
                        return Ok(None);
                    }
                    if flies {
                        if slot.value.is_some() && !B::STORED {
                            slot.supersede(); // so that the value stays for us; a stage is stored, and read again
                        }
                        let signal = state.signal(i);
                        drop(state);
                        match signal.wait() {
                            Landing::Failed(error) => return Err(error),
                            _ => continue,
                        }
                    }
                    (i, present)
                }
                None if self.below.slow().contains_key(key) => {
                    (state.open(key.clone(), CopyState::Clean), true)
                }
                None if !load => return Ok(None),
                None => (state.open(key.clone(), CopyState::Absent), false),
            };
            if !present {
                state.begin(i, Flight::Loading);
                return Ok(Some(Found::Absent(i)));
            }
            let source = state.begin_read(i);
            drop(state);
            let read = self.read_from(i, source, |source| self.fetch_weighed(source, key, Reading::Use))?;
            let Some(Read { mut state, result: (value, weight) }) = read else { continue };
            // the read goes on as Updating; its waiters look again and wait for that
            _ = state.begin_update(i);
            state.wake(i, Landing::StartOver);
            return Ok(Some(Found::Value(i, value, weight)));
        }
    }

    /// Does and ends an Updating flight. The closure runs once, and what it made is the answer even when a
    /// write superseded it meanwhile: the update came just before that write (R4).
    fn run_update<R>(
        &self,
        i: u32,
        key: &K,
        mut value: V,
        old_weight: u64,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<R> {
        let outcome = catch_unwind(AssertUnwindSafe(|| change(&mut value)));
        let weighed = self.weigh(key, &value);
        let mut state = self.state.lock();
        let left = state.put_back(i, value, *weighed.as_ref().unwrap_or(&old_weight));
        let target = state.target;
        let shrink = state.above(target);
        // a panic passes on at once; what is left to do is tried again later (R7)
        let course = if outcome.is_ok() { Course::default() } else { Course::over() };
        let ended = state.end(&self.below, i, course, Landing::StartOver);
        drop(state);
        drop(left);
        self.finish(ended);
        if shrink {
            self.shrink(target);
        }
        match outcome {
            Ok(answer) => weighed.map(|_| answer),
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Does and ends a Loading flight. An error or a panic of the loader puts nothing; loaders that waited
    /// are given it.
    fn run_load(&self, i: u32, key: &K, load: impl FnOnce() -> Result<V>) -> Result<V> {
        let outcome = catch_unwind(AssertUnwindSafe(load));
        let (loaded, payload) = match outcome {
            Ok(loaded) => (loaded, None),
            Err(payload) => (Err(panicked("loading a value", &*payload)), Some(payload)),
        };
        let loaded = loaded.and_then(|value| Ok((self.weigh(key, &value)?, value)));
        let mut state = self.state.lock();
        let (landing, course, left) = match &loaded {
            Ok((weight, value)) => {
                let superseded = state.slot(i).superseded;
                let left = state.put_back(i, value.clone(), *weight);
                state.len += usize::from(!superseded);
                (Landing::StartOver, Course::default(), left)
            }
            Err(error) => {
                let course = if payload.is_none() { Course::default() } else { Course::over() };
                (Landing::LoadFailed(error.clone()), course, None)
            }
        };
        let target = state.target;
        let shrink = loaded.is_ok() && state.above(target);
        let ended = state.end(&self.below, i, course, landing);
        drop(state);
        drop(left);
        self.finish(ended);
        if shrink {
            self.shrink(target);
        }
        match payload {
            Some(payload) => resume_unwind(payload),
            None => loaded.map(|(_, value)| value),
        }
    }
}
