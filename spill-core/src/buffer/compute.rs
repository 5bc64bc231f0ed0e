//! Compound operations on one key: a closure changes the value, or a loader makes it (R3 to R5, R7).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::core::Core;
use super::flight::Landing;
use super::memories::Below;
use super::moves::Course;
use super::read::{Read, Reading};
use super::slot::{CopyState, Flight};
use super::state::{Spot, State};
use super::turns::Turn;
use crate::guard::panicked;
use crate::{Key, Result, Value};

/// What an update found.
enum Found<V, A> {
    /// The value was taken out: an Updating flight of this slot, with the value and what it weighed.
    Value(u32, V, u64),
    /// The key is absent.
    Absent(A),
}

impl<K: Key, V: Value, B: Below<K, V>> Core<K, V, B> {
    pub(super) fn update<R>(&self, key: &K, change: impl FnOnce(&mut V) -> R) -> Result<Option<R>> {
        drop(self.wait_for_room(self.open()?, 0)?);
        match self.find_to_update(key, |_| Some(()))? {
            Found::Absent(()) => Ok(None),
            Found::Value(i, value, weight) => self.run_update(i, key, value, weight, change).map(Some),
        }
    }

    pub(super) fn upsert(&self, key: K, make: impl FnOnce() -> V, change: impl FnOnce(&mut V)) -> Result<()> {
        drop(self.wait_for_room(self.open()?, 0)?);
        match self.find_to_update(&key, |state| state.begin_load(&key))? {
            Found::Value(i, value, weight) => self.run_update(i, &key, value, weight, change),
            Found::Absent(i) => self.run_load(i, &key, || Ok(make())).map(drop),
        }
    }

    pub(super) fn get_or_try_insert_with(&self, key: K, load: impl FnOnce() -> Result<V>) -> Result<V> {
        loop {
            if let Some(value) = self.get(&key)? {
                return Ok(value);
            }
            let mut state = self.wait_for_room(self.open()?, 0)?;
            if self.present_in(&state, &key) {
                continue;
            }
            if let Some(i) = state.begin_load(&key) {
                drop(state);
                return self.run_load(i, &key, load);
            }
            if let Some(Landing::LoadFailed(error)) = wait_in(state, &key) {
                return Err(error);
            }
        }
    }

    /// Takes the value of `key` out, reading it first where it is not here. Where it is absent, `absent` says what
    /// comes of it, or that the flight is to be waited for.
    fn find_to_update<A>(
        &self,
        key: &K,
        absent: impl Fn(&mut State<K, V>) -> Option<A>,
    ) -> Result<Found<V, A>> {
        loop {
            let mut state = self.open()?;
            let i = match state.look(&self.below, key) {
                Spot::Idle(i) => i,
                Spot::Here(i) if state.flies(i).is_none() => {
                    let weight = state.slot(i).weight;
                    match state.begin_update(i) {
                        Some(value) => return Ok(Found::Value(i, value, weight)),
                        None => continue,
                    }
                }
                spot => {
                    match spot {
                        // so that the value stays for us; a stage is stored, and read again
                        Spot::Here(i) if !B::STORED => state.slot(i).supersede(),
                        Spot::Absent => {
                            if let Some(found) = absent(&mut state) {
                                return Ok(Found::Absent(found));
                            }
                        }
                        _ => {}
                    }
                    match wait_in(state, key) {
                        Some(Landing::Failed(error)) => return Err(error),
                        _ => continue,
                    }
                }
            };
            let source = state.begin_read(i);
            drop(state);
            let read = self.read_from(i, source, |source| self.fetch_weighed(source, key, Reading::Use))?;
            let Some(Read { mut state, result: (value, weight) }) = read else { continue };
            // the read goes on as Updating; its waiters look again and wait for that
            _ = state.begin_update(i);
            state.wake(i, Landing::StartOver);
            return Ok(Found::Value(i, value, weight));
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
        let shrink = self.is_full(&state);
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
        let shrink = loaded.is_ok() && self.is_full(&state);
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

impl<K: Key, V: Value> State<K, V> {
    /// Begins to load `key`, which is absent; `None` while something else of it flies.
    fn begin_load(&mut self, key: &K) -> Option<u32> {
        let i = self.table.find(key).unwrap_or_else(|| self.open(key.clone(), CopyState::Absent));
        if self.flies(i).is_some() {
            return None;
        }
        self.begin(i, Flight::Loading);
        Some(i)
    }
}

/// Waits for what flies of `key`, if anything does.
fn wait_in<K: Key, V: Value>(mut state: Turn<'_, State<K, V>>, key: &K) -> Option<Landing<V>> {
    let i = state.table.find(key).filter(|&i| state.flies(i).is_some())?;
    let signal = state.signal(i);
    drop(state);
    Some(signal.wait())
}
