//! The thread that writes batches behind those who fill them.
//!
//! A half of the stage that is full is handed over, and the other half fills meanwhile. What the thread could not write
//! stays staged, and whoever needs room next tries again and is told why it failed.

use std::sync::Arc;

use spill_core::Key;

use super::state::State;
use super::store::Store;
use super::thread::StoreThread;
use crate::failure::caught;

/// Starts the thread. Where the system gives none, callers write.
pub(super) fn start<K: Key>(store: &Arc<Store<K>>) -> StoreThread {
    let thread = StoreThread::default();
    let this = Arc::clone(store);
    match thread.start("overspill-write", move || this.write_until_closed()) {
        Ok(()) => store.state.lock().writes_behind = true,
        Err(error) => {
            tracing::warn!(%error, "no thread to write with: calls that fill the stage will do it");
        }
    }
    thread
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
