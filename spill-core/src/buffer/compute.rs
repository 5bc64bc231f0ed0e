//! Compound operations on one key: a closure changes the value, or a loader makes it (R3 to R5, R7).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::core::Core;
use super::flight::Landing;
use super::slot::{Flight, SlowCopy};
use crate::guard::panicked;
use crate::{Key, MutableMapping, Result, Value};

/// What a compound operation found, and now owns a flight for.
enum Found<V> {
    /// The value was taken out: an Updating flight of this slot.
    Value(u32, V, u64),
    /// The key is absent: a Loading flight of this slot.
    Absent(u32),
}

impl<K: Key, V: Value, S: MutableMapping<K, V>> Core<K, V, S> {
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
                None if self.slow.contains_key(&key) => continue,
                None => state.open(key.clone(), SlowCopy::Absent),
            };
            state.begin(i, Flight::Loading);
            drop(state);
            return self.run_load(i, &key, load);
        }
    }

    /// Takes the value of `key` out, reading it first where it is slow; or, with `load`, begins to load it
    /// where it is absent. `None`: absent.
    fn find_to_update(&self, key: &K, load: bool) -> Result<Option<Found<V>>> {
        loop {
            let mut state = self.open()?;
            let found = state.table.find(key);
            let i = match found {
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
                        if slot.value.is_some() {
                            slot.supersede(); // so that the value stays for us
                        }
                        let signal = state.signal(i);
                        drop(state);
                        match signal.wait() {
                            Landing::Failed(error) => return Err(error),
                            _ => continue,
                        }
                    }
                    state.begin(i, Flight::Loading);
                    return Ok(Some(Found::Absent(i)));
                }
                None if self.slow.contains_key(key) => state.open(key.clone(), SlowCopy::Clean),
                None if !load => return Ok(None),
                None => {
                    let i = state.open(key.clone(), SlowCopy::Absent);
                    state.begin(i, Flight::Loading);
                    return Ok(Some(Found::Absent(i)));
                }
            };
            state.begin(i, Flight::Reading);
            state.counts.misses += 1;
            drop(state);
            let outcome = self.read_slow(key);
            let mut state = self.state.lock();
            if state.slot(i).superseded {
                self.end_in(state, i, key, Landing::StartOver);
                continue;
            }
            match outcome {
                Err(error) => {
                    self.end_in(state, i, key, Landing::Failed(error.clone()));
                    self.failed("reading a value back", &error);
                    return Err(error);
                }
                Ok((value, weight)) => {
                    // the read goes on as Updating; its waiters look again and wait for that
                    _ = state.begin_update(i);
                    state.wake(i, Landing::StartOver);
                    return Ok(Some(Found::Value(i, value, weight)));
                }
            }
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
        let ended = state.end(&self.slow, i, outcome.is_ok(), Landing::StartOver, None);
        drop(state);
        drop(left);
        self.finish(i, key, ended, None);
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
            Err(payload) => {
                let message = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
                let message = message.or_else(|| payload.downcast_ref::<String>().cloned());
                (Err(panicked("loading a value", Box::new(message.unwrap_or_default()))), Some(payload))
            }
        };
        let loaded = loaded.and_then(|value| Ok((self.weigh(key, &value)?, value)));
        let mut state = self.state.lock();
        let (landing, may_go_on, left) = match &loaded {
            Ok((weight, value)) => {
                let superseded = state.slot(i).superseded;
                let left = state.put_back(i, value.clone(), *weight);
                state.len += usize::from(!superseded);
                (Landing::StartOver, true, left)
            }
            Err(error) => (Landing::LoadFailed(error.clone()), payload.is_none(), None),
        };
        let target = state.target;
        let shrink = loaded.is_ok() && state.above(target);
        let ended = state.end(&self.slow, i, may_go_on, landing, None);
        drop(state);
        drop(left);
        self.finish(i, key, ended, None);
        if shrink {
            self.shrink(target);
        }
        match payload {
            Some(payload) => resume_unwind(payload),
            None => loaded.map(|(_, value)| value),
        }
    }
}
