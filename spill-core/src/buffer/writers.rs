//! Threads that spill behind the caller (promise 8). This module owns them: it starts, stops and joins them.

use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::memories::Below;
use super::moves::Begun;
use super::shared::Candidate;
use super::state::State;
use super::turns::Turn;
use crate::sync::{JoinHandle, spawn};
use crate::{Error, Key, Result, Value};

/// Most values in one batch, and the weight at which a batch is full.
const BATCH_VALUES: usize = 64;
const BATCH_BYTES: u64 = 1 << 20;

/// How long a buffer that is closed or dropped waits for a writer that is in storage.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Writers(Vec<JoinHandle<()>>);

impl Writers {
    pub(super) fn start<K, V, B>(core: &Arc<Core<K, V, B>>, count: usize) -> Result<Writers>
    where
        K: Key,
        V: Value,
        B: Below<K, V> + 'static,
    {
        let mut writers = Writers::default();
        for n in 0..count {
            core.state.lock().writers += 1;
            let own = Arc::clone(core);
            match spawn(format!("overspill-write-{n}"), move || run(&own)) {
                Ok(handle) => writers.0.push(handle),
                Err(source) => {
                    core.state.lock().writers -= 1;
                    writers.stop(core);
                    return Err(Error::io("start a writer thread for", "the buffer", source));
                }
            }
        }
        Ok(writers)
    }

    /// Ends the threads. One that hangs in storage is left behind after a while, and ends when storage
    /// answers.
    pub(super) fn stop<K: Key, V: Value, B: Below<K, V>>(&mut self, core: &Core<K, V, B>) {
        if self.0.is_empty() {
            return;
        }
        let mut state = core.state.lock();
        state.stopping = true;
        core.work.notify_all();
        let begun = core.clock.now();
        while state.writers > 0 {
            let waited = core.clock.now().saturating_sub(begun);
            if waited >= PATIENCE {
                tracing::warn!("a writer thread did not end within {PATIENCE:?}: storage does not answer");
                self.0.clear();
                return;
            }
            state = state.wait_for(&core.progress, PATIENCE - waited);
        }
        drop(state);
        for handle in self.0.drain(..) {
            // a writer catches panics of storage, so it has none of its own to report
            _ = handle.join();
        }
    }
}

fn run<K: Key, V: Value, B: Below<K, V>>(core: &Core<K, V, B>) {
    let mut state = core.state.lock();
    while !state.stopping {
        let batch = gather(core, &mut state);
        if !batch.is_empty() {
            drop(state);
            core.spill_batch(batch);
            state = core.state.lock();
        } else if let Some(keys) = state.wanted.pop_front() {
            drop(state);
            core.prefetch(&keys);
            state = core.state.lock();
        } else if state.pending.due().is_some_and(|due| due <= core.clock.now()) {
            state = core.retry_pending(state);
        } else {
            state = wait(core, state);
        }
    }
    state.writers -= 1;
    drop(state);
    core.progress.notify_all();
}

/// Waits for work, at most until the next retry is due.
fn wait<'a, K: Key, V: Value, B: Below<K, V>>(
    core: &'a Core<K, V, B>,
    state: Turn<'a, State<K, V>>,
) -> Turn<'a, State<K, V>> {
    let retry = state.table.next_retry().filter(|_| state.above(state.target));
    match retry.into_iter().chain(state.pending.due()).min() {
        None => state.wait(&core.work),
        // one that is due and was not taken waits for what other writers have in flight
        Some(due) => {
            let rest = due.saturating_sub(core.clock.now()).max(Duration::from_millis(10));
            state.wait_for(&core.work, rest)
        }
    }
}

/// Begins to spill the next values in order, as many as one call of storage should take.
fn gather<K: Key, V: Value, B: Below<K, V>>(
    core: &Core<K, V, B>,
    state: &mut State<K, V>,
) -> Vec<Begun<K, V>> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < BATCH_VALUES
        && bytes < BATCH_BYTES
        && state.above(state.target.saturating_add(state.writing_bytes))
        && let Candidate::Slot(i) = state.candidate(core.asks(), None, || core.clock.now())
    {
        let weight = state.slot(i).weight;
        let begun = state.begin_spill(&core.below, i, core.observers.evict.is_empty());
        if !matches!(begun, Begun::Left { .. }) {
            bytes += weight;
        }
        batch.push(begun);
    }
    batch
}
