//! The thread that writes batches behind those who fill them.
//!
//! A half of the stage that is full is handed over, and the other half fills meanwhile. What the thread could not write
//! stays staged, and whoever needs room next tries again and is told why it failed.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use spill_core::Key;

use super::state::State;
use super::store::Store;
use crate::failure::caught;

/// How long a store that is closed waits for a batch that is being written: then the device hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// At most one thread.
#[derive(Default)]
pub(super) struct Behind {
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: Arc<Ended>,
}

/// Whether the thread has ended.
#[derive(Default)]
struct Ended {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl Behind {
    /// Starts the thread. Where the system gives none, callers write.
    #[expect(clippy::disallowed_methods, reason = "the thread is joined by `join`")]
    pub(super) fn start<K: Key>(store: &Arc<Store<K>>) -> Self {
        let ended = Arc::<Ended>::default();
        let (this, end) = (Arc::clone(store), Arc::clone(&ended));
        let named = std::thread::Builder::new().name("overspill-write".to_owned());
        let started = named.spawn(move || {
            this.write_until_closed();
            drop(this);
            *end.flag.lock() = true;
            end.changed.notify_all();
        });
        match started {
            Ok(thread) => {
                store.state.lock().writes_behind = true;
                Behind { thread: Mutex::new(Some(thread)), ended }
            }
            Err(error) => {
                tracing::warn!(%error, "no thread to write with: calls that fill the stage will do it");
                Behind::default()
            }
        }
    }

    /// Waits for the thread of a store that was closed. One that hangs in the device is left behind, and ends when the
    /// device answers.
    pub(super) fn join(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        let mut ended = self.ended.flag.lock();
        while !*ended {
            if self.ended.changed.wait_for(&mut ended, PATIENCE).timed_out() && !*ended {
                tracing::warn!("a batch was not written within {PATIENCE:?}: the device does not answer");
                return;
            }
        }
        drop(ended);
        // It catches its panics.
        let _ = thread.join();
    }
}

impl<K: Key> Store<K> {
    /// Hands the half that is full to the thread. Says whether there is one, and that half was not tried before.
    pub(super) fn hand_over(&self, state: &mut State<K>) -> bool {
        if !state.writes_behind {
            return false;
        }
        let Some(batch) = state.stage.begin_first() else { return false };
        state.handed = Some(batch);
        self.batch_due.notify_one();
        true
    }

    fn write_until_closed(&self) {
        while let Err(panicked) = caught("writing a batch", || self.write_handed()) {
            tracing::warn!(%panicked, "the thread that writes batches goes on");
            let mut state = self.state.lock();
            let handed = state.handed.take();
            state.stage.failed(handed.map(|batch| batch.packed).unwrap_or_default());
            drop(state);
            self.batch_ended.notify_all();
        }
    }

    /// Writes what is handed over, until the store is closed.
    fn write_handed(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            if state.handed.is_none() {
                self.batch_due.wait(&mut state);
                continue;
            }
            // Who needs the room next is told.
            let _ = self.write_batch(&mut state);
            self.keep_bound(&mut state);
            // What this left to compact may be all for a while.
            self.unlock(state);
            state = self.state.lock();
        }
        self.unlock(state);
    }
}
