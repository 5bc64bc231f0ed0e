//! The thread that writes batches behind those who fill them.
//!
//! A half of the stage that is full is handed over, and the other half fills meanwhile. Only a first try is made
//! here: what failed stays staged, and whoever needs room next tries again and is told why it failed.

use std::sync::Arc;
use std::thread::JoinHandle;

use spill_core::Key;

use super::state::State;
use super::store::Store;

/// At most one thread, joined when the store is closed.
#[derive(Default)]
pub(super) struct Behind(Option<JoinHandle<()>>);

impl Behind {
    /// Starts the thread. Where the system gives none, callers write.
    #[expect(clippy::disallowed_methods, reason = "the thread is joined by `join`")]
    pub(super) fn start<K: Key>(store: &Arc<Store<K>>) -> Self {
        let this = Arc::clone(store);
        let named = std::thread::Builder::new().name("overspill-write".to_owned());
        match named.spawn(move || this.write_until_closed()) {
            Ok(thread) => {
                store.state.lock().writes_behind = true;
                Behind(Some(thread))
            }
            Err(error) => {
                tracing::warn!(%error, "no thread to write with: calls that fill the stage will do it");
                Behind(None)
            }
        }
    }

    /// Waits for the end of the thread of a store that was closed.
    pub(super) fn join(&mut self) {
        // Its panics are caught where they happen.
        let _ = self.0.take().map(JoinHandle::join);
    }
}

impl<K: Key> Store<K> {
    /// Hands the half that is full to the thread. Says whether there is one, and that half was not tried before.
    pub(super) fn hand_over(&self, state: &mut State<K>) -> bool {
        if state.writes_behind && state.handed.is_none() {
            state.handed = state.stage.begin_first();
        } else {
            return false;
        }
        let is_handed = state.handed.is_some();
        if is_handed {
            self.batch_due.notify_one();
        }
        is_handed
    }

    fn write_until_closed(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            if state.handed.is_some() {
                let _ = self.write_batch(&mut state);
                self.keep_bound(&mut state);
            } else {
                self.batch_due.wait(&mut state);
            }
        }
        self.unlock(state);
    }
}
