//! The thread that compacts beside the traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use spill_core::Key;

use super::store::Store;

/// At most one thread, started when there is first something to compact, and joined when the store is closed.
pub(super) struct Compactor {
    /// No thread runs, and one may.
    missing: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Compactor {
    /// When it is not enabled, the calls that need room compact.
    pub(super) fn new(enabled: bool) -> Self {
        Compactor { missing: AtomicBool::new(enabled), thread: Mutex::new(None) }
    }

    /// Costs a load when there is nothing to compact.
    #[expect(clippy::disallowed_methods, reason = "the thread is joined by `join`")]
    pub(super) fn start_if_wanted<K: Key>(&self, store: &Arc<Store<K>>) {
        if !self.missing.load(Relaxed) || !store.is_to_be_compacted() {
            return;
        }
        let mut thread = self.thread.lock();
        if !self.missing.swap(false, Relaxed) {
            return;
        }
        let store = Arc::clone(store);
        let named = std::thread::Builder::new().name("overspill-compact".to_owned());
        match named.spawn(move || store.compact_until_closed()) {
            Ok(started) => *thread = Some(started),
            Err(error) => {
                tracing::warn!(%error, "no thread to compact with: calls that need room will do it")
            }
        }
    }

    /// Waits for the end of the thread of a store that was closed.
    pub(super) fn join(&self) {
        let thread = self.thread.lock().take();
        // Its panics are caught where they happen.
        let _ = thread.map(JoinHandle::join);
    }
}
