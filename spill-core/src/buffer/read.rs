//! Reading what is not in the buffer's own slots.

use super::core::{Core, closed};
use super::flight::Landing;
use super::memories::Below;
use super::slot::{CopyState, Memory};
use super::spans;
use super::state::{Spot, State};
use super::turns::Turn;
use crate::guard::guarded;
use crate::{Error, ErrorKind, Key, MutableMapping, Result, Value};

/// How a value is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// It counts as a use, and is promoted.
    Use,
    /// It leaves no trace.
    Peek,
}

/// A Reading flight that went well and is not ended yet.
pub(super) struct Read<'a, K, V, T> {
    pub(super) state: Turn<'a, State<K, V>>,
    pub(super) result: T,
}

impl<K: Key, V: Value, B: Below<K, V>> Core<K, V, B> {
    /// The value of `key`, wherever it is.
    #[inline(never)]
    pub(super) fn read<'a>(
        &'a self,
        mut state: Turn<'a, State<K, V>>,
        key: &K,
        reading: Reading,
    ) -> Result<Option<V>> {
        if reading == Reading::Use {
            state.table.fetch_oldest(); // most often it is evicted to make room
        }
        loop {
            if state.closed {
                return Err(closed());
            }
            let i = match state.look(&self.below, key) {
                Spot::Here(i) => {
                    if reading == Reading::Use {
                        state.table.touch(i);
                        state.counts.hits += 1;
                    }
                    return Ok(state.slot(i).value.clone());
                }
                Spot::Absent => return Ok(None),
                Spot::Flying(i) => {
                    let signal = state.signal(i);
                    drop(state);
                    match signal.wait() {
                        Landing::Served(value) => return Ok(Some(value)),
                        Landing::Failed(error) => return Err(error),
                        Landing::StartOver | Landing::LoadFailed(_) => {
                            state = self.state.lock();
                            continue;
                        }
                    }
                }
                Spot::Idle(i) => i,
            };
            if reading == Reading::Use {
                state.table.fetch_behind_oldest(); // before the flight: a key's `Hash` may panic
            }
            let source = state.begin_read(i);
            drop(state);
            if let Some(value) = self.read_back(i, key, source, reading)? {
                return Ok(Some(value));
            }
            state = self.state.lock();
        }
    }

    /// Reads the copy of `key` in `memory`, which says that it has one.
    fn fetch(&self, memory: Memory, key: &K, reading: Reading) -> Result<V> {
        let read = || match (memory, reading) {
            (Memory::Fast, Reading::Use) => self.below.fast().get(key),
            (Memory::Fast, Reading::Peek) => self.below.fast().peek(key),
            (Memory::Slow, Reading::Use) => self.below.slow().get(key),
            (Memory::Slow, Reading::Peek) => self.below.slow().peek(key),
        };
        guarded("reading a value back", read)?.ok_or_else(|| Self::missing(memory))
    }

    pub(super) fn missing(memory: Memory) -> Error {
        Error::from(ErrorKind::Backend {
            name: if memory == Memory::Fast { "fast memory" } else { "slow memory" },
            location: "the key being read".to_owned(),
            status: "it said that it has the key, and gave no value".to_owned(),
            transient: false,
        })
    }

    /// Reads the copy of `key` in `memory`, and weighs it.
    pub(super) fn fetch_weighed(&self, memory: Memory, key: &K, reading: Reading) -> Result<(V, u64)> {
        let span = spans::read_back(1);
        let value = self.fetch(memory, key, reading)?;
        let weight = self.weigh(key, &value)?;
        spans::read(&span, weight);
        Ok((value, weight))
    }

    /// Takes note of a key that the mapping of fast memory held before this buffer was.
    pub(super) fn adopt(&self, key: K) -> Result<()> {
        let weight = match self.below.record(&key) {
            Some(weight) => weight,
            None => self.fetch_weighed(Memory::Fast, &key, Reading::Peek)?.1,
        };
        self.state.lock().adopt(&self.below, key, weight);
        Ok(())
    }

    /// Reads slot `i` by `fetch`, first from `source`; where fast memory fails, from a Clean slow copy (R9). A flight
    /// that failed or was superseded (`None`: start over) is ended here, any other by the caller.
    pub(super) fn read_from<T>(
        &self,
        i: u32,
        mut source: Memory,
        fetch: impl Fn(Memory) -> Result<T>,
    ) -> Result<Option<Read<'_, K, V, T>>> {
        loop {
            let outcome = fetch(source);
            let mut state = self.state.lock();
            let slot = state.slot(i);
            let (superseded, slow) = (slot.superseded, slot.slow);
            match outcome {
                _ if superseded => {
                    self.end_in(state, i, Landing::StartOver);
                    return Ok(None);
                }
                Ok(result) => return Ok(Some(Read { state, result })),
                Err(error) if source == Memory::Fast && slow == CopyState::Clean => {
                    drop(state);
                    self.failed("reading a value from fast memory", &error);
                    source = Memory::Slow;
                }
                Err(error) => {
                    self.end_in(state, i, Landing::Failed(error.clone()));
                    self.failed("reading a value back", &error);
                    return Err(error);
                }
            }
        }
    }

    /// Does and ends a Reading flight. `None`: it was superseded, start over.
    fn read_back(&self, i: u32, key: &K, source: Memory, reading: Reading) -> Result<Option<V>> {
        let read = self.read_from(i, source, |source| self.fetch_weighed(source, key, reading))?;
        let Some(Read { mut state, result: (value, weight) }) = read else { return Ok(None) };
        let stored = state.slot(i).fast == CopyState::Clean;
        if stored && reading == Reading::Use {
            state.table.touch(i);
        }
        if stored || reading == Reading::Peek || weight > state.target {
            self.end_in(state, i, Landing::Served(value.clone()));
            return Ok(Some(value));
        }
        let ended = state.promote(&self.below, i, value.clone(), weight);
        let target = state.target;
        // the usual way of a read back: an unchanged value makes room for it, in the same critical section
        let inline = !B::STORED && self.ceiling.is_none() && self.observers.evict.is_empty();
        let evicted = if self.is_full(&state) && inline {
            state.evict_clean(&self.below, self.asks(), || self.clock.now())
        } else {
            None
        };
        let shrink = state.above(target);
        drop(state);
        drop(evicted);
        self.finish(ended);
        if shrink {
            self.shrink(target);
        }
        self.observers.promoted(key, &value)?;
        Ok(Some(value))
    }

    pub(super) fn take(&self, key: &K) -> Result<Option<V>> {
        loop {
            let mut state = self.open()?;
            let i = match state.look(&self.below, key) {
                Spot::Here(i) => {
                    let (old, ended) = state.write(&self.below, i, None, true);
                    drop(state);
                    self.finish(ended);
                    return Ok(old);
                }
                Spot::Absent => return Ok(None),
                Spot::Flying(i) => {
                    let signal = state.signal(i);
                    drop(state);
                    match signal.wait() {
                        Landing::Failed(error) => return Err(error),
                        _ => continue,
                    }
                }
                Spot::Idle(i) => i,
            };
            let source = state.begin_read(i);
            drop(state);
            let read = self.read_from(i, source, |source| self.fetch(source, key, Reading::Use))?;
            let Some(Read { mut state, result: value }) = read else { continue };
            // the read goes on as a write: the value is gone from the mapping in this moment (R5)
            _ = state.change(i, |slot| slot.write(None, 0));
            state.len -= 1;
            self.end_in(state, i, Landing::StartOver);
            return Ok(Some(value));
        }
    }
}
