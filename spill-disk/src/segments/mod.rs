//! `Segments`: a mapping of keys to frames over append-only files.

mod accept;
mod behind;
mod bound;
mod cache;
mod compact;
mod compactor;
mod config;
mod file;
mod files;
pub(crate) mod format;
mod index;
mod mapped;
mod packed;
mod reader;
mod slab;
mod stage;
mod state;
mod store;
pub(crate) mod sum;
mod table;
mod thread;
mod volumes;
pub(crate) mod writer;

use std::sync::Arc;

use spill_core::{Error, ErrorKind, Frames, Key, MutableMapping, Result, SpilledSize, Stats, Usage};

use compactor::Compactor;
pub use config::SegmentsConfig;
use store::Store;
use thread::StoreThread;

/// A mapping of keys to [`Frames`] over append-only segment files in a [`Workspace`](crate::Workspace).
///
/// A small value is *staged*: `insert` keeps a reference to it in a bounded stage, which serves it until a
/// batch of its kind is written with one system call or a few. A large value is written by the caller. Either
/// way a value that `insert` accepted is served from then on. When the write that would make room in the
/// stage fails, the insert that needed it fails; what was staged stays, is served, and is tried again by the
/// next insert. With [`write_behind`](SegmentsConfig::write_behind) a thread writes the batches, and it is the
/// insert after a failure that tries again, and fails.
///
/// Each read checks the record's checksum against the one kept in RAM. A record that differs is
/// [`Corrupt`](ErrorKind::Corrupt): never a wrong value. The key stays until it is removed or replaced.
///
/// Space comes back by whole segments: once nothing in a full one lives, its file is used again or removed. Where
/// much in full ones is dead, what lives is moved together, by a thread beside the traffic. The files never take
/// more than one and a half times the live records and two segments, after any insert and after
/// [`settle`](Self::settle): an insert that would leave them above that waits for compaction, or does it. (Where
/// the device fails compaction, or what lives in a segment is damaged, they may stay above it; and by a batch until a
/// thread that writes behind has seen to it.)
///
/// # Costs
///
/// Beyond its key a value costs 30 to 41 bytes of RAM, and a record of its bytes, a header of 32 and padding
/// to 8 on disk. [`usage`](MutableMapping::usage) and [`stats`](MutableMapping::stats) are sums that are kept,
/// and cost nothing. `for_each_key` copies the keys.
///
/// # Between threads
///
/// One lock guards the index and the stage; no file is touched while it is held. Reads, batches and large
/// values of several threads go in parallel; one batch is written at a time, while the other half of the stage
/// fills. A thread that finds neither half with room waits until the batch is written. Removing a key
/// while it is read is safe, and so is moving its record: the reader holds the file, and a file that is held is
/// not used again.
pub struct Segments<K: Key> {
    store: Arc<Store<K>>,
    compactor: Compactor,
    behind: StoreThread,
}

impl<K: Key> Segments<K> {
    /// An empty store. No file is made before the first batch is written, and no thread to compact before there is
    /// something to compact.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) when a setting is out of its range.
    pub fn open(config: SegmentsConfig) -> Result<Self> {
        config.check()?;
        let compactor = Compactor::new(config.compactor);
        let write_behind = config.write_behind && config.stage_bytes > 0;
        let store = Arc::new(Store::new(config));
        let behind = if write_behind { behind::start(&store) } else { StoreThread::default() };
        Ok(Segments { store, compactor, behind })
    }

    /// Writes what was staged, tries again what could not be compacted, and returns once the files are within
    /// their bound.
    ///
    /// # Errors
    /// The first error of writing or compacting; what could not be written stays staged.
    pub fn settle(&self) -> Result<()> {
        self.store.flush()?;
        self.store.settle()
    }

    /// Forgets all values, and waits for the threads.
    fn end(&self) {
        self.store.forget();
        self.compactor.join();
        self.behind.join();
    }

    /// Sees to it that somebody compacts, if that is wanted.
    fn attended<T>(&self, outcome: T) -> T {
        self.compactor.start_if_wanted(&self.store);
        outcome
    }
}

fn closed() -> Error {
    ErrorKind::Closed { what: "the store of segments" }.into()
}

impl<K: Key> MutableMapping<K, Frames> for Segments<K> {
    /// One read of the file, or none while the value is staged. Its memory comes from the pool.
    fn get(&self, key: &K) -> Result<Option<Frames>> {
        self.store.get(key)
    }

    fn insert(&self, key: K, value: Frames) -> Result<()> {
        self.attended(self.store.insert(key, value))
    }

    fn remove(&self, key: &K) -> Result<bool> {
        self.attended(self.store.remove(key))
    }

    fn take(&self, key: &K) -> Result<Option<Frames>> {
        self.attended(self.store.take(key))
    }

    fn contains_key(&self, key: &K) -> bool {
        self.store.contains_key(key)
    }

    fn len(&self) -> usize {
        self.store.len()
    }

    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        self.store.for_each_key(f);
    }

    /// Reads in the order in which the records lie in the files; records of up to a MiB in all that lie within 4 KiB
    /// of each other are read with one call.
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Frames>>> {
        self.store.get_many(keys)
    }

    /// Takes the lock once for as many values as the stage has room for. Once storage has failed, the rest of
    /// the call is refused with the same error: a device that hangs is not asked again for each value.
    fn insert_many(&self, pairs: Vec<(K, Frames)>) -> Vec<Result<()>> {
        self.attended(self.store.insert_many(pairs))
    }

    fn usage(&self) -> Usage {
        self.store.usage()
    }

    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        self.store.stored_size(key)
    }

    /// `write`, `read` and `moved` count records and their bytes, headers included; `failures` counts writes,
    /// reads and compactions that failed, damaged records among them.
    fn stats(&self) -> Stats {
        self.store.stats()
    }

    /// Writes what was staged when it was called.
    fn flush(&self) -> Result<()> {
        self.attended(self.store.flush())
    }

    /// Forgets all values and removes the files and the workspace. Waits for the threads, as dropping does, and for files
    /// that other callers are making, ten seconds at most.
    fn close(&self) -> Result<()> {
        // The threads end before the workspace goes: they may be removing a file of it.
        self.end();
        self.store.files.close()
    }
}

impl<K: Key> Drop for Segments<K> {
    /// Waits for the compacting thread, which looks up between two windows of a quarter MiB, and for the end of a
    /// batch that is being written behind, for each ten seconds at most.
    fn drop(&mut self) {
        self.end();
    }
}

impl<K: Key> std::fmt::Debug for Segments<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segments")
            .field("files", &self.store.files)
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
