//! `Objects`: a mapping of keys to frames over an object store.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use parking_lot::MutexGuard;
use spill_core::{
    AsyncMutableMapping, Blocking, Error, ErrorKind, Frames, Key, Result, SpilledSize, Stats, Usage,
};
use tokio::runtime::Handle;

use crate::read::{Reading, merged};
use crate::shared::{Shared, closed};
use crate::state::{Found, State, Stored};
use crate::{ObjectsConfig, Requests, Store};

/// A mapping of keys to [`Frames`] over an object store.
///
/// # What costs a request
///
/// `insert` keeps a reference to the value in RAM and returns. Small values are gathered into a *pack* of some MiB,
/// which is put as one object once it is full or old; a large value is an object of its own, put at once, in parts
/// where it is longer than one. Values are served from RAM until their upload is done. What is staged that way is
/// bounded ([`pack_bytes`](ObjectsConfig::pack_bytes) and [`stage_bytes`](ObjectsConfig::stage_bytes)): an
/// `insert` beyond it waits for an upload to end.
///
/// `get` of an uploaded value is one ranged read, and `get_many` merges those that lie near one another.
/// `remove` makes none: objects in which nothing lives are deleted behind the caller, up to a thousand with one
/// request. Nothing else makes requests but the lease that is written before the first object and renewed every few
/// minutes, and compaction.
///
/// # Failures
///
/// Requests that fail in a way that may pass (no connection, no answer, a body that ends early, 5xx, 429) are tried
/// again, after longer and longer waits, until [`deadline`](ObjectsConfig::deadline); others fail at once. The error
/// is [`Backend`](spill_core::ErrorKind::Backend) with the object and what the store said.
///
/// No request is trusted to have failed: writes can be repeated, since an object's bytes never change and its
/// number is never used again, so one that timed out and was applied does no harm.
///
/// An upload that fails takes no value with it: its values stay in RAM and are served. From then on each `insert`
/// first tries that upload again, once, and fails with its error while that fails; so a store that cannot be
/// written refuses values and does not gather them.
///
/// Every read is checked against a checksum kept in RAM. A record that differs is
/// [`Corrupt`](spill_core::ErrorKind::Corrupt), or `Backend` where the whole object was replaced (its ETag is another):
/// never a wrong value.
///
/// # Space
///
/// When dead bytes are more than half the live ones and one pack, the emptiest objects are compacted: what lives in
/// them is read and staged again. Inserts wait while that goes on and the objects take more than twice the live
/// bytes and two packs.
///
/// # Life
///
/// Objects lie in a folder that no other process or mapping uses, which [`close`](AsyncMutableMapping::close)
/// deletes. One that is dropped without it, or whose process dies, leaves them to [`purge`](crate::purge). Uploads in
/// parts that fail are aborted, and where that fails too it is tried again with each lease and by `close`. One that
/// a dying process began, or whose beginning was never answered, is not even listed: give the bucket a rule that
/// removes incomplete uploads.
///
/// # Tasks and threads
///
/// It must be called inside a tokio runtime with timers, where uploads go on in tasks of their own: dropping the
/// future of an `insert` takes nothing back. From plain threads use [`blocking`](Self::blocking). One lock guards the
/// index; no request is made while it is held.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use bytes::Bytes;
/// use spill_core::{AsyncMutableMapping, Frames};
/// use spill_object::{Objects, ObjectsConfig, Store};
///
/// let objects = Objects::new(ObjectsConfig::new(Store::open("memory:///")?))?;
/// for n in 0..1000_u32 {
///     objects.insert(n, Bytes::from(n.to_string()).into()).await?;
/// }
/// objects.flush().await?;
/// assert_eq!(objects.get(&7).await?, Some(Frames::from(Bytes::from_static(b"7"))));
/// assert_eq!(objects.requests().puts, 2); // one object, and the lease
/// objects.close().await
/// # }).unwrap();
/// ```
pub struct Objects<K: Key> {
    shared: Arc<Shared<K>>,
}

impl<K: Key> Objects<K> {
    /// An empty mapping. No request is made before the first values are uploaded.
    ///
    /// # Errors
    /// [`Config`](spill_core::ErrorKind::Config) when a setting is out of its range.
    pub fn new(config: ObjectsConfig) -> Result<Self> {
        Ok(Objects { shared: Arc::new(Shared::new(config)?) })
    }

    /// As [`new`](Self::new), to be called from any thread, and to stand below a [`Buffer`](spill_core::Buffer). It
    /// has one thread of its own for the requests.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`Io`](spill_core::ErrorKind::Io) when the system gives no thread.
    pub fn blocking(config: ObjectsConfig) -> Result<Blocking<Self>> {
        Blocking::new(Self::new(config)?, 1)
    }

    /// Where the objects are.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.client.store
    }

    /// How many requests were made so far.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.shared.client.requests()
    }

    /// Why the store takes no values: the error of the last upload, unless one has succeeded since. Makes no request.
    #[must_use]
    pub fn upload_error(&self) -> Option<Error> {
        let state = self.shared.state.lock();
        state.last_error.clone().filter(|_| state.refuses)
    }

    /// Waits until compaction and the deletion of dead objects that are under way have ended.
    pub async fn settle(&self) {
        self.shared.settled().await;
    }

    /// Reads one value. `None` when its key was written meanwhile, so that it is to be looked up again.
    async fn read(&self, key: &K, stored: &Stored) -> Result<Option<Frames>> {
        let range = u64::from(stored.offset)..u64::from(stored.offset) + stored.length;
        let reading = Reading { object: stored.object, range, records: vec![0] };
        let error = match self.shared.read(&reading, std::slice::from_ref(stored)).await {
            Ok(mut values) => match values.pop() {
                Some(Ok(frames)) => return Ok(Some(frames)),
                Some(Err(fault)) => self.shared.fault_error(fault, stored),
                None => return Ok(None),
            },
            Err(failure) => self.shared.read_error(failure, stored),
        };
        if self.shared.open_state()?.is_at(key, stored) { Err(error) } else { Ok(None) }
    }

    /// Reads these values together and puts each in its place. Gives back the places of keys that were written
    /// meanwhile.
    async fn read_together(
        &self,
        keys: &[K],
        found: Vec<(usize, Stored)>,
        results: &mut [Result<Option<Frames>>],
    ) -> Vec<usize> {
        let (places, stored): (Vec<usize>, Vec<Stored>) = found.into_iter().unzip();
        let records: Vec<_> =
            stored.iter().map(|record| (record.object, u64::from(record.offset), record.length)).collect();
        let (shared, stored) = (&self.shared, &stored);
        let read = |reading: Reading| async move {
            let values = shared.read(&reading, stored).await;
            (reading.records, values)
        };
        let readings = stream::iter(merged(&records, shared.gap_bytes)).map(read);
        let mut answers = readings.buffer_unordered(shared.client.width);
        let mut again = Vec::new();
        while let Some((records, values)) = answers.next().await {
            let values = match values {
                Ok(values) => {
                    let checked = values.into_iter().zip(&records);
                    checked
                        .map(|(value, &n)| value.map_err(|fault| shared.fault_error(fault, &stored[n])))
                        .collect()
                }
                Err(failure) => {
                    let error = records.first().map(|&n| shared.read_error(failure, &stored[n]));
                    error.map_or_else(Vec::new, |error| vec![Err(error); records.len()])
                }
            };
            for (n, value) in records.into_iter().zip(values) {
                let place = places[n];
                match value {
                    Err(_) if !shared.state.lock().is_at(&keys[place], &stored[n]) => again.push(place),
                    value => results[place] = value.map(Some),
                }
            }
        }
        again
    }

    /// Begins what a removal made due.
    fn removed(&self, mut state: MutexGuard<'_, State<K>>) {
        if let Ok(runtime) = Handle::try_current() {
            self.shared.tidy(&mut state, &runtime);
        }
    }
}

#[async_trait]
impl<K: Key> AsyncMutableMapping<K, Frames> for Objects<K> {
    async fn get(&self, key: &K) -> Result<Option<Frames>> {
        loop {
            let found = self.shared.open_state()?.find(key);
            let stored = match found {
                None => return Ok(None),
                Some(Found::Staged(frames)) => return Ok(Some(frames)),
                Some(Found::Stored(stored)) => stored,
            };
            if let Some(frames) = self.read(key, &stored).await? {
                return Ok(Some(frames));
            }
        }
    }

    async fn insert(&self, key: K, value: Frames) -> Result<()> {
        self.shared.accept(key, value).await
    }

    /// Touches nothing but RAM.
    async fn remove(&self, key: &K) -> Result<bool> {
        let mut state = self.shared.open_state()?;
        let leftover = state.remove(key);
        self.removed(state);
        Ok(leftover.is_some())
    }

    async fn take(&self, key: &K) -> Result<Option<Frames>> {
        loop {
            let stored = {
                let mut state = self.shared.open_state()?;
                match state.find(key) {
                    None => return Ok(None),
                    Some(Found::Staged(frames)) => {
                        let leftover = state.remove(key);
                        self.removed(state);
                        drop(leftover);
                        return Ok(Some(frames));
                    }
                    Some(Found::Stored(stored)) => stored,
                }
            };
            let Some(frames) = self.read(key, &stored).await? else { continue };
            let mut state = self.shared.open_state()?;
            if state.is_at(key, &stored) {
                let leftover = state.remove(key);
                self.removed(state);
                drop(leftover);
                return Ok(Some(frames));
            }
        }
    }

    fn contains_key(&self, key: &K) -> bool {
        self.shared.state.lock().locator(key).is_some()
    }

    fn len(&self) -> usize {
        self.shared.state.lock().len()
    }

    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        let keys = self.shared.state.lock().keys();
        keys.iter().for_each(f);
    }

    /// Merges reads of values that lie near one another, and has as many in flight as it may.
    async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Frames>>> {
        let mut found = Vec::new();
        let mut results: Vec<_> = {
            let state = self.shared.state.lock();
            let look = |(place, key): (usize, &K)| match state.find(key) {
                _ if state.closed => Err(closed()),
                None => Ok(None),
                Some(Found::Staged(frames)) => Ok(Some(frames)),
                Some(Found::Stored(stored)) => {
                    found.push((place, stored));
                    Ok(None)
                }
            };
            keys.iter().enumerate().map(look).collect()
        };
        for place in self.read_together(keys, found, &mut results).await {
            results[place] = self.get(&keys[place]).await;
        }
        results
    }

    /// Once storage has failed, the rest of the call is refused with the same error: a store that does not answer is
    /// not asked again for each value.
    async fn insert_many(&self, pairs: Vec<(K, Frames)>) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(pairs.len());
        let mut failed: Option<Error> = None;
        for (key, value) in pairs {
            if let Some(error) = &failed {
                results.push(Err(error.clone()));
                continue;
            }
            let result = self.shared.accept(key, value).await;
            failed = result.as_ref().err().filter(|error| !is_of_the_value(error)).cloned();
            results.push(result);
        }
        results
    }

    /// Touches nothing but RAM.
    async fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        let mut state = self.shared.state.lock();
        if state.closed {
            return keys.iter().map(|_| Err(closed())).collect();
        }
        let leftovers: Vec<_> = keys.iter().map(|key| state.remove(key)).collect();
        self.removed(state);
        leftovers.into_iter().map(|leftover| Ok(leftover.is_some())).collect()
    }

    fn usage(&self) -> Usage {
        let state = self.shared.state.lock();
        Usage {
            count: state.len(),
            spilled: state.spilled(),
            staged: state.stage.bytes(),
            physical: state.physical(),
            ..Usage::default()
        }
    }

    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        let locator = self.shared.state.lock().locator(key)?;
        Some(SpilledSize { memory: locator.weight, disk: locator.length })
    }

    /// `write` and `read` count values and the bytes of their records, with the time their requests took; `failures`
    /// counts requests that failed for good, and damaged records.
    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.write = self.shared.write.read();
        stats.read = self.shared.read.read();
        stats.failures = self.shared.failures.load(Relaxed);
        stats
    }

    /// Uploads what was staged when it was called.
    async fn flush(&self) -> Result<()> {
        self.shared.flush().await
    }

    /// Forgets all values and deletes all objects.
    async fn close(&self) -> Result<()> {
        self.shared.close().await
    }
}

/// Whether an insert failed for its value's own sake, so that the next may succeed.
fn is_of_the_value(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::TooLarge { .. })
}

impl<K: Key> Drop for Objects<K> {
    fn drop(&mut self) {
        if self.shared.leaves_objects() {
            let store = self.store();
            tracing::warn!(%store, "dropped without being closed: its objects stay until they are purged");
        }
        drop(self.shared.stop());
    }
}

impl<K: Key> std::fmt::Debug for Objects<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Objects")
            .field("store", self.store())
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}
