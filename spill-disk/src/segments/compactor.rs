//! The thread that compacts beside the traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use spill_core::Key;

use super::store::Store;
use super::thread::StoreThread;
use crate::failure;

/// At most one thread, started when there is first something to compact, and waited for when the store is closed.
pub(super) struct Compactor {
    /// No thread runs, and one may.
    missing: AtomicBool,
    thread: StoreThread,
}

impl Compactor {
    /// When it is not enabled, the calls that need room compact.
    pub(super) fn new(enabled: bool) -> Self {
        Compactor { missing: AtomicBool::new(enabled), thread: StoreThread::default() }
    }

    /// Costs a load when there is nothing to compact.
    pub(super) fn start_if_wanted<K: Key>(&self, store: &Arc<Store<K>>) {
        if !self.missing.load(Relaxed) || !store.is_to_be_compacted() {
            return;
        }
        if !self.missing.swap(false, Relaxed) {
            return;
        }
        let store = Arc::clone(store);
        let compact = move || {
            // what a compaction itself meets is caught there; this is what is around it
            if let Err(error) = failure::caught("compacting", || store.compact_until_closed()) {
                tracing::error!(%error, "the thread that compacts has ended: calls that need room will do it");
            }
        };
        if let Err(error) = self.thread.start("overspill-compact", compact) {
            tracing::warn!(%error, "no thread to compact with: calls that need room will do it");
        }
    }

    /// Waits for the end of the thread of a store that was closed, as [`StoreThread::join`].
    pub(super) fn join(&self) {
        self.thread.join();
    }
}
