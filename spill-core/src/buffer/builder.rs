//! How a buffer is set up.

use std::sync::Arc;

use super::core::Core;
use super::memories::{FastMemory, Memories, Ram, Stored};
use super::observe::Observers;
use super::shared::Shared;
use super::state::State;
use super::turns::Turns;
use super::writers::Writers;
use super::{Buffer, Lru, Nothing};
use crate::guard::LogLimit;
use crate::sync::{Condvar, Mutex};
use crate::{Clock, HeapSize, HeapWeigher, Key, MutableMapping, Result, SystemClock, Value, Weigh};

/// What a buffer does with a value for which it can make no room.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Accepts it and stays above its target until storage works again, as Dask does.
    #[default]
    Retain,
    /// Refuses it: `insert` fails with [`Full`](crate::ErrorKind::Full) and nothing is changed. A value
    /// heavier than the whole target is [`TooLarge`](crate::ErrorKind::TooLarge).
    Reject,
}

/// How many values an eviction tries unless told otherwise.
const CANDIDATES: usize = 8;

/// What stages that nobody takes may weigh unless told otherwise.
const STAGE_BYTES: u64 = 16 << 20;

/// Settings of a [`Buffer`] or an [`Lru`].
///
/// ```
/// use spill_core::{BufferBuilder, Lru, MutableMapping};
///
/// let lru: Lru<u32, String> = BufferBuilder::new().target(1 << 20).alone()?;
/// lru.insert(1, "one".to_owned())?;
/// # Ok::<_, spill_core::Error>(())
/// ```
pub struct BufferBuilder<K, V> {
    target: u64,
    offset: u64,
    weigher: Arc<dyn Weigh<K, V>>,
    writers: usize,
    ceiling: Option<u64>,
    overflow: Overflow,
    shared: Shared,
    candidates: usize,
    stage_bytes: u64,
    observers: Observers<K, V>,
    clock: Option<Arc<dyn Clock>>,
}

impl<K: Key, V: Value + HeapSize> BufferBuilder<K, V> {
    /// No target, no writers, values weighed by [`HeapWeigher`].
    #[must_use]
    pub fn new() -> Self {
        Self::weighed_by(HeapWeigher)
    }
}

impl<K: Key, V: Value + HeapSize> Default for BufferBuilder<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key, V: Value> BufferBuilder<K, V> {
    /// No target, no writers, values weighed by `weigher`.
    #[must_use]
    pub fn weighed_by(weigher: impl Weigh<K, V>) -> Self {
        BufferBuilder {
            target: u64::MAX,
            offset: 0,
            weigher: Arc::new(weigher),
            writers: 0,
            ceiling: None,
            overflow: Overflow::default(),
            shared: Shared::default(),
            candidates: CANDIDATES,
            stage_bytes: STAGE_BYTES,
            observers: Observers::default(),
            clock: None,
        }
    }

    /// The bytes that fast memory may weigh before values are spilled. Unless set, nothing is spilled but
    /// by hand. The page's `target` threshold is this, as a fraction of the memory limit.
    #[must_use]
    pub fn target(mut self, bytes: u64) -> Self {
        self.target = bytes;
        self
    }

    /// Bytes counted on top of the weight, for memory that is held elsewhere on this buffer's account
    /// (PARITY Z02).
    #[must_use]
    pub fn offset(mut self, bytes: u64) -> Self {
        self.offset = bytes;
        self
    }

    /// Threads that spill behind the caller, in batches. With 0, the default, the caller spills itself, one
    /// value at a time, and placement is exact after each call. A device that answers fast is kept busy by
    /// one thread.
    #[must_use]
    pub fn writers(mut self, threads: usize) -> Self {
        self.writers = threads;
        self
    }

    /// The weight in bytes above which inserts wait while a write is under way; an eighth above the target
    /// unless set. Only with [`writers`](Self::writers).
    #[must_use]
    pub fn ceiling(mut self, bytes: u64) -> Self {
        self.ceiling = Some(bytes);
        self
    }

    /// What to do with a value for which no room can be made.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// What eviction does with values that somebody outside still holds.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use spill_core::{BufferBuilder, Lru, ManualEvict, MutableMapping, Shared};
    ///
    /// let storage: Lru<u32, Arc<String>> = BufferBuilder::new().alone()?;
    /// let map = BufferBuilder::new().shared(Shared::Defer).over(storage)?;
    /// let mine = Arc::new("mine".to_owned());
    /// map.insert(1, Arc::clone(&mine))?;
    /// assert_eq!(map.evict(), -1); // it would free nothing
    /// assert_eq!(map.usage().held, map.usage().fast);
    /// drop(mine);
    /// assert_eq!(map.usage().held, 0);
    /// assert!(map.evict() > 0);
    /// # Ok::<_, spill_core::Error>(())
    /// ```
    #[must_use]
    pub fn shared(mut self, shared: Shared) -> Self {
        self.shared = shared;
        self
    }

    /// How many values one [`evict`](crate::ManualEvict::evict) tries to spill before it gives up with -1, at least
    /// one; 8 unless set. As many failures in a row end an eviction down to the target.
    #[must_use]
    pub fn candidates(mut self, count: usize) -> Self {
        self.candidates = count;
        self
    }

    /// The bytes of values that a buffer with [`stored`](Self::stored) fast memory keeps in RAM while neither memory
    /// takes them; 16 MiB unless set. A value that would exceed it is refused with the error of fast memory, and
    /// nothing is changed; one value is always kept. It is no bound on what is being written at the moment.
    #[must_use]
    pub fn stage_bytes(mut self, bytes: u64) -> Self {
        self.stage_bytes = bytes;
        self
    }

    /// Calls `observer` after a value was written to slow memory and before it leaves fast memory, without a
    /// lock; the value can be read meanwhile. Its error keeps the pair in fast memory and takes the slow
    /// copy back (PARITY Z08, Z10). May be given several times; they run in order.
    #[must_use]
    pub fn on_evict(mut self, observer: impl Fn(&K, &V) -> Result<()> + Send + Sync + 'static) -> Self {
        self.observers.evict.push(Box::new(observer));
        self
    }

    /// Calls `observer` when an eviction was cancelled, since its key was written or removed meanwhile. An
    /// error is counted and logged.
    #[must_use]
    pub fn on_cancel_evict(
        mut self,
        observer: impl Fn(&K, &V) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.observers.cancel_evict.push(Box::new(observer));
        self
    }

    /// Calls `observer` after a value came back to fast memory and others made room for it. Its error is
    /// given to the reader whose call it was; the value stays in fast memory all the same (PARITY Z11).
    #[must_use]
    pub fn on_promote(mut self, observer: impl Fn(&K, &V) -> Result<()> + Send + Sync + 'static) -> Self {
        self.observers.promote.push(Box::new(observer));
        self
    }

    /// Takes the time from `clock` instead of the operating system.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The weigher, for a codec layer that labels its frames.
    #[must_use]
    pub fn weigher(&self) -> Arc<dyn Weigh<K, V>> {
        Arc::clone(&self.weigher)
    }

    /// A buffer whose slow memory is `slow`. What `slow` holds already is present.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) when a writer thread cannot be started,
    /// [`Config`](crate::ErrorKind::Config) when the ceiling is below the target.
    pub fn over<S: MutableMapping<K, V> + 'static>(self, slow: S) -> Result<Buffer<K, V, S>> {
        self.build(Ram, slow, false)
    }

    /// A buffer whose fast memory is a mapping too, say segment files above an object store: a level of a chain
    /// `Buffer(Ram, Buffer(Stored(fast), slow))`. What both hold already is present, and of a key that both have the
    /// value of `fast` counts; nothing is evicted until the next insert (PARITY Z04).
    ///
    /// The target is in bytes of what `fast` stores: the record of a value, where `fast` knows it
    /// ([`stored_size`](MutableMapping::stored_size)), else its weight.
    ///
    /// ```
    /// use spill_core::{Buffer, BufferBuilder, Compose, Lru, ManualEvict, MutableMapping};
    ///
    /// let level = || BufferBuilder::<u32, u64>::new();
    /// // these stand for segment files and an object store
    /// let (disk, objects) = (level().alone()?, level().alone()?);
    /// let map = objects.behind(disk, level().target(800))?.buffered(level().target(80))?;
    /// for n in 0..1000 {
    ///     map.insert(n, u64::from(n))?;
    /// }
    /// assert_eq!(map.stats().fast_count, 10); // in RAM,
    /// assert_eq!(map.slow().stats().fast_count, 100); // on disk,
    /// assert_eq!(map.slow().slow().len(), 890); // in the object store
    /// assert_eq!(map.get(&0)?, Some(0));
    /// assert_eq!(map.slow().evict(), 8); // each level evicts by hand
    /// # Ok::<_, spill_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`over`](Self::over). When a value that `fast` holds already cannot be read to be weighed.
    pub fn stored<F, S>(self, fast: F, slow: S) -> Result<Buffer<K, V, S, Stored<F>>>
    where
        F: MutableMapping<K, V> + 'static,
        S: MutableMapping<K, V> + 'static,
    {
        let mut held = Vec::with_capacity(fast.len());
        fast.for_each_key(&mut |key| held.push(key.clone()));
        let buffer = self.build(Stored(fast), slow, false)?;
        for key in held {
            buffer.core.adopt(key)?;
        }
        Ok(buffer)
    }

    /// Fast memory alone: what is evicted is dropped, after the observers were told.
    ///
    /// # Errors
    /// As [`over`](Self::over).
    pub fn alone(self) -> Result<Lru<K, V>> {
        Ok(Lru(self.build(Ram, Nothing, true)?))
    }

    fn build<F, S>(self, fast: F, slow: S, discards: bool) -> Result<Buffer<K, V, S, F>>
    where
        F: FastMemory<K, V>,
        S: MutableMapping<K, V> + 'static,
    {
        if let Some(ceiling) = self.ceiling
            && ceiling < self.target
        {
            let expected = format!("at least the target, {} bytes", self.target);
            return Err(crate::Error::config("ceiling", ceiling, expected));
        }
        let ceiling = self.ceiling.unwrap_or_else(|| self.target.saturating_add(self.target / 8));
        let state = State::new(self.target, self.offset, slow.len());
        let core = Arc::new(Core {
            hot: Arc::clone(state.heated.hot()),
            state: Turns::new(state),
            below: Memories { fast, slow },
            weigher: self.weigher,
            observers: self.observers,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock::new())),
            overflow: self.overflow,
            shared: self.shared,
            candidates: self.candidates.max(1),
            stage_bytes: self.stage_bytes,
            ceiling: (self.writers > 0).then_some(ceiling),
            discards,
            log: LogLimit::default(),
            work: Condvar::default(),
            progress: Condvar::default(),
        });
        let writers = Writers::start(&core, self.writers)?;
        Ok(Buffer { core, writers: Mutex::new(writers) })
    }
}
