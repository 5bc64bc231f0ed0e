//! `Cache`: a write-through cache over a slower mapping (PARITY Z18).

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crate::guard::{LogLimit, guarded, guarded_many};
use crate::held::{HeldKeys, Hold, Note};
use crate::{
    Clock, Error, ErrorKind, Key, MutableMapping, Result, SpilledSize, Stats, SystemClock, Usage, Value,
};

/// A mapping `D` that is slow to read, and a cache `C` that answers in its place where it can.
///
/// Every pair is in the data; the cache holds copies of some, and may lose them whenever it likes (an
/// [`Lru`](crate::Lru) with a target does). What is present, how much there is and what it takes are answered
/// by the data alone, so a cache can be put over data that holds something already; what the cache itself
/// holds is told by [`cache`](Self::cache)`().usage()`. The cache should be empty to begin with.
///
/// A read that the cache could not answer puts the value into it; [`peek`](MutableMapping::peek) does not. A
/// write goes to the data, and then to the cache too, or with [`update_on_set`](Self::update_on_set)`(false)`
/// only to the data.
///
/// # When the cache fails
///
/// An error or a panic of the cache never fails a call that the data can serve. It is counted in
/// [`stats`](MutableMapping::stats) and logged at most once in 10 s for one cause. A key whose old value could
/// not be removed from the cache is remembered, at the cost of an entry in RAM, and read from the data alone
/// until the cache let go of the old value: so an old value is never served. A panic of the data is an error
/// ([`Panicked`](ErrorKind::Panicked)).
///
/// # Threads: what is locked, what is not, who wins
///
/// No lock is held while the data or the cache is called. Writes of one key go one after the other, each from
/// before its old value leaves the cache until the new one is in it; one that the data keeps waiting keeps the
/// next one of that key waiting. Reads wait for nobody: while a key is being written they ask the data, and
/// get the old value or the new one. A read puts its value into the cache only if no write of the key began
/// since before it asked the data, and a write that comes meanwhile waits until it is in. The value leaves the
/// cache before the data is written, so a write that fails leaves the data's old value to be read.
///
/// ```
/// use spill_core::{BufferBuilder, Cache, Lru, MutableMapping};
///
/// let slow: Lru<u32, String> = BufferBuilder::new().alone()?; // stands for something on a network
/// slow.insert(1, "one".to_owned())?;
/// let recent: Lru<u32, String> = BufferBuilder::new().target(1 << 20).alone()?;
///
/// let cached = Cache::new(slow, recent);
/// assert_eq!(cached.get(&1)?.as_deref(), Some("one"));
/// assert_eq!(cached.get(&1)?.as_deref(), Some("one"));
/// assert_eq!((cached.stats().misses, cached.stats().hits), (1, 1));
/// # Ok::<_, spill_core::Error>(())
/// ```
pub struct Cache<K, V, D, C> {
    data: D,
    cache: C,
    update_on_set: bool,
    keys: HeldKeys<K, Trust>,
    closed: AtomicBool,
    hits: AtomicU64,
    misses: AtomicU64,
    failures: AtomicU64,
    log: LogLimit,
    clock: Arc<dyn Clock>,
    values: PhantomData<fn() -> V>,
}

/// What is noted of a key.
#[derive(Default)]
struct Trust {
    /// Writes that began since the note was made.
    writes: u64,
    /// Reads that may put what they get into the cache.
    reads: u32,
    /// The cache may hold an old value.
    stale: bool,
}

impl Note for Trust {
    fn is_needless(&self) -> bool {
        self.reads == 0 && !self.stale
    }
}

type Held<'a, K> = Hold<'a, K, Trust>;

impl<K: Key, V: Value, D: MutableMapping<K, V>, C: MutableMapping<K, V>> Cache<K, V, D, C> {
    /// `data` behind `cache`, which should be empty.
    pub fn new(data: D, cache: C) -> Self {
        Cache {
            data,
            cache,
            update_on_set: true,
            keys: HeldKeys::new(),
            closed: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            log: LogLimit::default(),
            clock: Arc::new(SystemClock::new()),
            values: PhantomData,
        }
    }

    /// Whether a written value is put into the cache (true unless said otherwise) or only drops what the cache
    /// had, for values that are seldom read soon after they were written.
    #[must_use]
    pub fn update_on_set(mut self, update: bool) -> Self {
        self.update_on_set = update;
        self
    }

    /// Takes the time between two log messages from `clock` instead of the operating system.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The mapping that holds every pair.
    pub fn data(&self) -> &D {
        &self.data
    }

    /// The mapping that holds copies.
    pub fn cache(&self) -> &C {
        &self.cache
    }

    /// The cache's value of `key`, where it has one that can be believed.
    fn cached(&self, key: &K, read: impl FnOnce(&C) -> Result<Option<V>>) -> Option<V> {
        let believed = self.keys.look(key, |note, held| !held && !note.is_some_and(|note| note.stale));
        if !believed || self.closed.load(SeqCst) {
            return None;
        }
        let value = guarded("reading a cache", || read(&self.cache)).unwrap_or_else(|error| {
            self.failed("reading a cache", &error);
            None
        });
        self.hits.fetch_add(u64::from(value.is_some()), Relaxed);
        value
    }

    /// Announces that the data will be asked for `key`. `None` while the key is written: then what the data
    /// says must not be kept.
    fn begin_read(&self, key: &K) -> Option<u64> {
        self.misses.fetch_add(1, Relaxed);
        let mut writes = None;
        self.keys.hold_if(key, Trust::default, |note, held| {
            if !held {
                note.reads += 1;
                writes = Some(note.writes);
            }
            false
        });
        writes
    }

    /// Puts what the data said into the cache, unless the key was written since [`begin_read`](Self::begin_read).
    fn end_read(&self, key: &K, begun: Option<u64>, value: Option<&V>) {
        let Some(writes) = begun else { return };
        let hold = self.keys.hold_if(key, Trust::default, |note, held| {
            note.reads -= 1;
            !held && note.writes == writes && value.is_some()
        });
        if let (Some(hold), Some(value)) = (hold, value) {
            self.fill(&hold, value.clone());
        }
    }

    /// Holds `key` for a write: from now on the cache is not believed, and no read that is under way fills it.
    fn begin_write(&self, key: &K) -> Held<'_, K> {
        let hold = self.keys.hold(key, Trust::default);
        self.written(&hold);
        hold
    }

    /// Counts a write and takes the old value out of the cache.
    fn written(&self, hold: &Held<'_, K>) {
        hold.note(|note| note.writes += 1);
        self.invalidate(hold);
    }

    fn invalidate(&self, hold: &Held<'_, K>) {
        let stale = match guarded("removing from a cache", || self.cache.remove(hold.key())) {
            Ok(_) => false,
            Err(error) => {
                self.failed("removing from a cache", &error);
                // Only what is there can be old; so a cache that refuses everything costs no entry a key.
                guarded("asking a cache", || Ok(self.cache.contains_key(hold.key()))).unwrap_or(true)
            }
        };
        hold.note(|note| note.stale = stale);
    }

    /// Puts the data's present value into the cache.
    fn fill(&self, hold: &Held<'_, K>, value: V) {
        if self.closed.load(SeqCst) {
            return;
        }
        match guarded("filling a cache", || self.cache.insert(hold.key().clone(), value)) {
            Ok(()) => {
                hold.note(|note| note.stale = false);
            }
            // Whatever became of it: an old value that was there before is still not believed.
            Err(error) => self.failed("filling a cache", &error),
        }
    }

    /// Writes to the data, in runs of keys that are all held.
    fn write_run(&self, run: Vec<(Held<'_, K>, V)>) -> Vec<Result<()>> {
        let mut pairs = Vec::with_capacity(run.len());
        for (hold, value) in &run {
            self.written(hold);
            pairs.push((hold.key().clone(), value.clone()));
        }
        let results = guarded_many("writing values", run.len(), || self.data.insert_many(pairs));
        for ((hold, value), result) in run.into_iter().zip(&results) {
            if self.update_on_set && result.is_ok() {
                self.fill(&hold, value);
            }
        }
        results
    }

    fn open(&self) -> Result<()> {
        if self.closed.load(SeqCst) { Err(ErrorKind::Closed { what: "the cache" }.into()) } else { Ok(()) }
    }

    fn failed(&self, activity: &'static str, error: &Error) {
        self.failures.fetch_add(1, Relaxed);
        if self.log.allows(activity, error, self.clock.now()) {
            tracing::warn!(%error, "{activity} failed; the data itself is not touched by it");
        }
    }
}

impl<K: Key, V: Value, D: MutableMapping<K, V>, C: MutableMapping<K, V>> MutableMapping<K, V>
    for Cache<K, V, D, C>
{
    fn get(&self, key: &K) -> Result<Option<V>> {
        if let Some(value) = self.cached(key, |cache| cache.get(key)) {
            return Ok(Some(value));
        }
        let begun = self.begin_read(key);
        let outcome = guarded("reading a value", || self.data.get(key));
        self.end_read(key, begun, outcome.as_ref().ok().and_then(Option::as_ref));
        outcome
    }
    fn insert(&self, key: K, value: V) -> Result<()> {
        self.open()?;
        let hold = self.begin_write(&key);
        if !self.update_on_set {
            return guarded("writing a value", || self.data.insert(key, value));
        }
        guarded("writing a value", || self.data.insert(key, value.clone()))?;
        self.fill(&hold, value);
        Ok(())
    }
    fn remove(&self, key: &K) -> Result<bool> {
        self.open()?;
        let _hold = self.begin_write(key);
        guarded("removing a value", || self.data.remove(key))
    }
    fn take(&self, key: &K) -> Result<Option<V>> {
        self.open()?;
        let _hold = self.begin_write(key);
        guarded("taking a value", || self.data.take(key))
    }
    fn contains_key(&self, key: &K) -> bool {
        self.data.contains_key(key)
    }
    fn len(&self) -> usize {
        self.data.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        self.data.for_each_key(f);
    }
    fn peek(&self, key: &K) -> Result<Option<V>> {
        if let Some(value) = self.cached(key, |cache| cache.peek(key)) {
            return Ok(Some(value));
        }
        self.misses.fetch_add(1, Relaxed);
        guarded("reading a value", || self.data.peek(key))
    }
    /// Asks the data once for all that the cache does not have.
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
        let mut results: Vec<Result<Option<V>>> =
            keys.iter().map(|key| Ok(self.cached(key, |cache| cache.get(key)))).collect();
        let missing: Vec<usize> = results
            .iter()
            .enumerate()
            .filter(|(_, found)| matches!(found, Ok(None)))
            .map(|(at, _)| at)
            .collect();
        let asked: Vec<K> = missing.iter().map(|at| keys[*at].clone()).collect();
        let begun: Vec<Option<u64>> = asked.iter().map(|key| self.begin_read(key)).collect();
        let found = guarded_many("reading values", asked.len(), || self.data.get_many(&asked));
        for (((at, key), begun), found) in missing.into_iter().zip(&asked).zip(begun).zip(found) {
            self.end_read(key, begun, found.as_ref().ok().and_then(Option::as_ref));
            results[at] = found;
        }
        results
    }
    fn insert_many(&self, pairs: Vec<(K, V)>) -> Vec<Result<()>> {
        if let Err(error) = self.open() {
            return pairs.iter().map(|_| Err(error.clone())).collect();
        }
        self.keys.in_runs(pairs, |_| Trust::default(), |run| self.write_run(run))
    }
    fn remove_many(&self, keys: &[K]) -> Vec<Result<bool>> {
        if let Err(error) = self.open() {
            return keys.iter().map(|_| Err(error.clone())).collect();
        }
        let keys = keys.iter().map(|key| (key.clone(), ())).collect();
        self.keys.in_runs(
            keys,
            |_| Trust::default(),
            |run| {
                let keys: Vec<K> = run.iter().map(|(hold, ())| hold.key().clone()).collect();
                run.iter().for_each(|(hold, ())| self.written(hold));
                guarded_many("removing values", keys.len(), || self.data.remove_many(&keys))
            },
        )
    }
    /// That of the data: what the cache holds are copies.
    fn usage(&self) -> Usage {
        self.data.usage()
    }
    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        self.data.stored_size(key)
    }
    /// Hits and misses are the cache's; failures are the data's and the cache's; the rest is the data's.
    fn stats(&self) -> Stats {
        let below = self.data.stats();
        Stats {
            hits: self.hits.load(Relaxed),
            misses: self.misses.load(Relaxed),
            failures: below.failures + self.failures.load(Relaxed),
            ..below
        }
    }
    /// Flushes both, and tries again to remove old values that the cache did not let go of.
    fn flush(&self) -> Result<()> {
        self.open()?;
        for key in self.keys.noted() {
            let hold = self.keys.hold_if(&key, Trust::default, |note, held| !held && note.stale);
            if let Some(hold) = hold {
                self.invalidate(&hold);
            }
        }
        if let Err(error) = guarded("flushing a cache", || self.cache.flush()) {
            self.failed("flushing a cache", &error);
        }
        self.data.flush()
    }
    fn close(&self) -> Result<()> {
        self.closed.store(true, SeqCst);
        let data = guarded("closing a mapping", || self.data.close());
        data.and(guarded("closing a cache", || self.cache.close()))
    }
}
