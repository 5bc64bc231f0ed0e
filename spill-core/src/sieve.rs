//! `Sieve`: several mappings as one, with a function that says what belongs where (PARITY Z22).

use std::collections::HashSet;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use crate::guard::{LogLimit, guarded, guarded_many};
use crate::held::{HeldKeys, Hold, Note};
use crate::sync::Mutex;
use crate::{
    Clock, Error, ErrorKind, Key, MutableMapping, Result, SpilledSize, Stats, SystemClock, Usage, Value,
};

/// One mapping made of several: a *selector* looks at key and value and says by its index which mapping a pair
/// belongs to. Large values here and small ones there, some on a fast disk and others in an object store.
///
/// `M` is the type of the mappings; with the default, an `Arc<dyn MutableMapping>`, they may differ.
///
/// A pair whose value now belongs elsewhere moves: the new value is written first, and only then is the old
/// one removed. When that write fails, or the selector names no mapping or panics, the call fails and the old
/// value stays where it was. When only the removal fails, the call is well; what is left over counts nowhere,
/// is never served, and is removed by the key's next write or by [`flush`](MutableMapping::flush).
///
/// What the mappings hold already is there from the start. No key is kept twice in RAM: where a key lies is
/// asked of the mappings, from the first to the last, which they answer from RAM. A mapping must not be changed
/// behind the sieve's back, nor lose pairs by itself (an [`Lru`](crate::Lru) with a target does).
///
/// # Threads: what is locked, what is not, who wins
///
/// No lock is held while a mapping stores, reads or removes. Writes of one key go one after the other, so the
/// key lies in one mapping afterwards: that of the last of them. Reads ask the mapping where the key is at the
/// moment, and while it moves get the old value or the new one; one that finds nothing there, because the key
/// has just moved on, waits for the move and asks again. A walk over the keys gives each once, wherever it
/// moves meanwhile.
///
/// ```
/// use std::sync::Arc;
/// use spill_core::{BufferBuilder, Lru, MutableMapping, Sieve};
///
/// let small: Arc<Lru<u32, String>> = Arc::new(BufferBuilder::new().alone()?);
/// let large: Arc<Lru<u32, String>> = Arc::new(BufferBuilder::new().alone()?);
/// let sieve = Sieve::new(vec![small.clone(), large.clone()], |_: &u32, text: &String| {
///     usize::from(text.len() > 100)
/// });
/// sieve.insert(1, "short".to_owned())?;
/// assert!(small.contains_key(&1));
/// sieve.insert(1, "long ".repeat(100))?;
/// assert!(large.contains_key(&1) && !small.contains_key(&1));
/// assert_eq!(sieve.len(), 1);
/// # Ok::<_, spill_core::Error>(())
/// ```
pub struct Sieve<K, V, S, M = Arc<dyn MutableMapping<K, V>>> {
    mappings: Vec<M>,
    selector: S,
    keys: HeldKeys<K, Place>,
    /// Keys present.
    len: AtomicUsize,
    walks: Mutex<Walks<K>>,
    closed: AtomicBool,
    failures: AtomicU64,
    log: LogLimit,
    clock: Arc<dyn Clock>,
    values: PhantomData<fn() -> V>,
}

/// What is noted of a key that is held, or that lies in a mapping where it does not belong. Of a key without
/// a note: it is in at most one mapping.
struct Place {
    /// The mapping whose value counts.
    at: Option<usize>,
    /// Other mappings have an old value.
    leftover: bool,
}

impl Note for Place {
    fn is_needless(&self) -> bool {
        !self.leftover
    }
}

/// Keys that moved while somebody walks, since a walk may miss them: they left a mapping that it had yet to
/// come to, for one that it had been at.
struct Walks<K> {
    under_way: usize,
    moved: Vec<K>,
}

type Held<'a, K> = Hold<'a, K, Place>;

/// Part of a batch: keys that are held, each with its value and the mapping it belongs to.
type Run<'a, K, V> = Vec<(Held<'a, K>, (V, Result<usize>))>;

impl<K: Key, V: Value, S, M> Sieve<K, V, S, M>
where
    S: Fn(&K, &V) -> usize + Send + Sync + 'static,
    M: MutableMapping<K, V>,
{
    /// `mappings` as one, each pair in the one whose index `selector` gives. Costs a copy of the keys of all
    /// mappings but the first: a key that several of them hold counts once, the value of the first one is its
    /// value, and the others are left over from an interrupted move.
    pub fn new(mappings: Vec<M>, selector: S) -> Self {
        let sieve = Sieve {
            mappings,
            selector,
            keys: HeldKeys::new(),
            len: AtomicUsize::new(0),
            walks: Mutex::new(Walks { under_way: 0, moved: Vec::new() }),
            closed: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            log: LogLimit::default(),
            clock: Arc::new(SystemClock::new()),
            values: PhantomData,
        };
        let mut len = 0;
        for (index, mapping) in sieve.mappings.iter().enumerate() {
            if index == 0 {
                len += mapping.len();
                continue;
            }
            mapping.for_each_key(&mut |key| {
                let first = sieve.locate(key);
                if first == Some(index) {
                    len += 1;
                } else {
                    sieve.keys.hold_if(key, || Place { at: first, leftover: true }, |_, _| false);
                }
            });
        }
        sieve.len.store(len, Relaxed);
        sieve
    }

    /// Takes the time between two log messages from `clock` instead of the operating system.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The mappings, in the order of their indices.
    pub fn mappings(&self) -> &[M] {
        &self.mappings
    }

    /// The first mapping that has `key`. Believed only under the lock of a key without a note.
    fn locate(&self, key: &K) -> Option<usize> {
        self.mappings.iter().position(|mapping| mapping.contains_key(key))
    }

    /// What a key that nobody holds or has noted is noted with.
    fn first_note(&self, key: &K) -> Place {
        Place { at: self.locate(key), leftover: false }
    }

    /// Where the value of `key` is.
    fn find(&self, key: &K) -> Option<usize> {
        self.keys.look(key, |note, _| note.map_or_else(|| self.locate(key), |note| note.at))
    }

    fn hold(&self, key: &K) -> Held<'_, K> {
        self.keys.hold(key, || self.first_note(key))
    }

    fn route(&self, key: &K, value: &V) -> Result<usize> {
        let index = guarded("selecting a mapping", || Ok((self.selector)(key, value)))?;
        if index < self.mappings.len() {
            return Ok(index);
        }
        let expected = format!("an index below {}, the number of mappings", self.mappings.len());
        Err(Error::config("selector", index, expected))
    }

    fn read(&self, key: &K, read: impl Fn(&M) -> Result<Option<V>>) -> Result<Option<V>> {
        let read = |at: usize| guarded("reading a value", || read(&self.mappings[at]));
        let Some(at) = self.find(key) else { return self.absent() };
        // A value read where the key no longer lies may be one that is only on its way there: whoever gave it
        // now could give the older one, from where the key lies still, next time.
        if let Some(value) = read(at)?
            && self.find(key) == Some(at)
        {
            return Ok(Some(value));
        }
        // It moved or went meanwhile. While it is held it does neither.
        let hold = self.hold(key);
        match hold.note(|place| place.at).flatten() {
            Some(at) => read(at),
            None => self.absent(),
        }
    }

    /// The answer for a key that no mapping has. A mapping that was closed may have forgotten it.
    fn absent(&self) -> Result<Option<V>> {
        self.open().map(|()| None)
    }

    fn open(&self) -> Result<()> {
        if self.closed.load(SeqCst) { Err(ErrorKind::Closed { what: "the sieve" }.into()) } else { Ok(()) }
    }

    /// Ends the write of a held key to the mapping `to`.
    fn written(&self, hold: Held<'_, K>, to: usize, outcome: Result<()>) -> Result<()> {
        if outcome.is_ok() {
            let from = hold.note(|place| place.at.replace(to)).flatten();
            match from {
                None => {
                    self.len.fetch_add(1, SeqCst);
                }
                Some(from) if from != to => self.moved(hold.key()),
                Some(_) => {}
            }
        }
        self.settle(hold);
        outcome
    }

    /// Ends the removal of a held key, of which a mapping says whether it was there.
    fn removed<T>(&self, hold: Held<'_, K>, outcome: Result<T>) -> Result<T> {
        if outcome.is_ok() && hold.note(|place| place.at.take()).flatten().is_some() {
            self.len.fetch_sub(1, SeqCst);
        }
        self.settle(hold);
        outcome
    }

    /// Removes old values from where the key does not belong, each once, and gives the key up. A failed write
    /// may have been applied, and a failed removal too: so the mappings are asked.
    fn settle(&self, hold: Held<'_, K>) {
        let at = hold.note(|place| place.at).flatten();
        let mut leftover = false;
        for (index, mapping) in self.mappings.iter().enumerate() {
            let has = || mapping.contains_key(hold.key());
            if Some(index) == at || !has() {
                continue;
            }
            if let Err(error) = guarded("removing a left value", || mapping.remove(hold.key())) {
                self.failed("removing a value that moved elsewhere", &error);
            }
            leftover |= has();
        }
        let lost = at.is_some_and(|at| !self.mappings[at].contains_key(hold.key()));
        hold.note(|place| {
            place.leftover = leftover;
            if lost {
                place.at = None;
            }
        });
        self.len.fetch_sub(usize::from(lost), SeqCst);
    }

    fn write_run(&self, run: Run<'_, K, V>) -> Vec<Result<()>> {
        let mut results: Vec<Result<()>> = Vec::with_capacity(run.len());
        let mut routed: Vec<Vec<(usize, Held<'_, K>)>> = self.mappings.iter().map(|_| Vec::new()).collect();
        let mut batches: Vec<Vec<(K, V)>> = self.mappings.iter().map(|_| Vec::new()).collect();
        for (at, (hold, (value, to))) in run.into_iter().enumerate() {
            results.push(to.map(|to| {
                batches[to].push((hold.key().clone(), value));
                routed[to].push((at, hold));
            }));
        }
        for (to, (batch, holds)) in batches.into_iter().zip(routed).enumerate() {
            if batch.is_empty() {
                continue;
            }
            let outcomes =
                guarded_many("storing values", batch.len(), || self.mappings[to].insert_many(batch));
            for ((at, hold), outcome) in holds.into_iter().zip(outcomes) {
                results[at] = self.written(hold, to, outcome);
            }
        }
        results
    }

    /// Tells those who walk that a key moved.
    fn moved(&self, key: &K) {
        let mut walks = self.walks.lock();
        if walks.under_way > 0 {
            walks.moved.push(key.clone());
        }
    }

    fn failed(&self, activity: &'static str, error: &Error) {
        self.failures.fetch_add(1, Relaxed);
        if self.log.allows(activity, error, self.clock.now()) {
            tracing::warn!(%error, "{activity} failed; it is not served, and removed later");
        }
    }
}

/// A walk under way, ended when dropped.
struct Walk<'a, K> {
    walks: &'a Mutex<Walks<K>>,
    from: usize,
}

impl<'a, K: Key> Walk<'a, K> {
    fn begin(walks: &'a Mutex<Walks<K>>) -> Self {
        let mut state = walks.lock();
        state.under_way += 1;
        Walk { walks, from: state.moved.len() }
    }

    /// The keys that moved since it began.
    fn moved(&self) -> Vec<K> {
        self.walks.lock().moved.get(self.from..).unwrap_or_default().to_vec()
    }
}

impl<K> Drop for Walk<'_, K> {
    fn drop(&mut self) {
        let mut state = self.walks.lock();
        state.under_way -= 1;
        let moved = if state.under_way == 0 { std::mem::take(&mut state.moved) } else { Vec::new() };
        drop(state);
        drop(moved);
    }
}

impl<K: Key, V: Value, S, M> MutableMapping<K, V> for Sieve<K, V, S, M>
where
    S: Fn(&K, &V) -> usize + Send + Sync + 'static,
    M: MutableMapping<K, V>,
{
    fn get(&self, key: &K) -> Result<Option<V>> {
        self.read(key, |mapping| mapping.get(key))
    }
    fn insert(&self, key: K, value: V) -> Result<()> {
        self.open()?;
        let to = self.route(&key, &value)?;
        let hold = self.hold(&key);
        let outcome = guarded("storing a value", || self.mappings[to].insert(key, value));
        self.written(hold, to, outcome)
    }
    fn remove(&self, key: &K) -> Result<bool> {
        self.open()?;
        let hold = self.hold(key);
        let outcome = match hold.note(|place| place.at).flatten() {
            Some(at) => guarded("removing a value", || self.mappings[at].remove(key)),
            None => self.open().map(|()| false),
        };
        self.removed(hold, outcome)
    }
    fn take(&self, key: &K) -> Result<Option<V>> {
        self.open()?;
        let hold = self.hold(key);
        let outcome = match hold.note(|place| place.at).flatten() {
            Some(at) => guarded("taking a value", || self.mappings[at].take(key)),
            None => self.absent(),
        };
        self.removed(hold, outcome)
    }
    fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_some()
    }
    fn len(&self) -> usize {
        self.len.load(SeqCst)
    }
    /// Costs a hash set of the keys.
    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        let walk = Walk::begin(&self.walks);
        let mut keys =
            HashSet::with_capacity_and_hasher(self.len(), hashbrown::DefaultHashBuilder::default());
        let mut give = |key: &K| {
            if !keys.contains(key) {
                keys.insert(key.clone());
            }
        };
        self.mappings.iter().for_each(|mapping| mapping.for_each_key(&mut give));
        walk.moved().iter().for_each(give);
        drop(walk);
        // What was left over by a move that was cut short is no key.
        keys.retain(|key| self.contains_key(key));
        keys.iter().for_each(f);
    }
    fn peek(&self, key: &K) -> Result<Option<V>> {
        self.read(key, |mapping| mapping.peek(key))
    }
    /// One batch for each mapping.
    fn get_many(&self, keys: &[K]) -> Vec<Result<Option<V>>> {
        let mut asked: Vec<Vec<usize>> = self.mappings.iter().map(|_| Vec::new()).collect();
        for (index, key) in keys.iter().enumerate() {
            if let Some(at) = self.find(key) {
                asked[at].push(index);
            }
        }
        let mut results: Vec<Result<Option<V>>> = keys.iter().map(|_| self.absent()).collect();
        for (at, (mapping, asked)) in self.mappings.iter().zip(asked).enumerate() {
            let batch: Vec<K> = asked.iter().map(|index| keys[*index].clone()).collect();
            let found = guarded_many("reading values", batch.len(), || mapping.get_many(&batch));
            for (index, found) in asked.into_iter().zip(found) {
                // What moved or went meanwhile is asked for by itself, as in `read`.
                let stays = || self.find(&keys[index]) == Some(at);
                let stands = found.is_err() || (matches!(found, Ok(Some(_))) && stays());
                results[index] = if stands { found } else { self.get(&keys[index]) };
            }
        }
        results
    }
    /// One batch for each mapping.
    fn insert_many(&self, pairs: Vec<(K, V)>) -> Vec<Result<()>> {
        if let Err(error) = self.open() {
            return pairs.iter().map(|_| Err(error.clone())).collect();
        }
        // The selector is somebody's code: it runs before the keys are held.
        let routed = pairs.into_iter().map(|(key, value)| {
            let to = self.route(&key, &value);
            (key, (value, to))
        });
        self.keys.in_runs(routed.collect(), |key| self.first_note(key), |run| self.write_run(run))
    }
    /// The sum over the mappings, without what moves left over.
    fn usage(&self) -> Usage {
        let mut sum = Usage::default();
        for usage in self.mappings.iter().map(MutableMapping::usage) {
            sum.fast += usage.fast;
            sum.held += usage.held;
            sum.spilled += usage.spilled;
            sum.staged += usage.staged;
            sum.physical += usage.physical;
        }
        self.keys.for_each(|key, place| {
            for (index, mapping) in self.mappings.iter().enumerate() {
                if Some(index) != place.at {
                    sum.spilled -= mapping.stored_size(key).unwrap_or_default();
                }
            }
        });
        Usage { count: self.len(), ..sum }
    }
    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        let at = self.find(key)?;
        self.mappings[at].stored_size(key)
    }
    /// The sums over the mappings; failures of removing what moved are among `failures`.
    fn stats(&self) -> Stats {
        let sum = self.mappings.iter().map(MutableMapping::stats).fold(Stats::default(), |a, b| a + b);
        Stats { failures: sum.failures + self.failures.load(Relaxed), ..sum }
    }
    /// Flushes all mappings, and tries again to remove what moves left over.
    fn flush(&self) -> Result<()> {
        self.open()?;
        for key in self.keys.noted() {
            if let Some(hold) = self.keys.try_hold(&key, || self.first_note(&key)) {
                self.settle(hold);
            }
        }
        self.all(|mapping| guarded("flushing a mapping", || mapping.flush()))
    }
    fn close(&self) -> Result<()> {
        self.closed.store(true, SeqCst);
        self.all(|mapping| guarded("closing a mapping", || mapping.close()))
    }
}

impl<K, V, S, M> Sieve<K, V, S, M> {
    /// Runs `f` for every mapping; the first error, if any.
    fn all(&self, f: impl Fn(&M) -> Result<()>) -> Result<()> {
        self.mappings.iter().map(f).fold(Ok(()), Result::and)
    }
}
