//! `Data`: the mapping that a worker looks after, whatever its keys and values are.

use std::path::PathBuf;
use std::sync::Arc;

use spill_core::{Error, Key, ManualEvict, MutableMapping, Result, Stats, Usage, Value};

use crate::{BackendState, StorageStats};

/// What a mapping shows of itself, without its types.
trait Shows: Send + Sync {
    fn len(&self) -> usize;
    fn usage(&self) -> Usage;
    fn stats(&self) -> Stats;
}

struct Typed<K, V, M>(Arc<M>, std::marker::PhantomData<fn() -> (K, V)>);

impl<K: Key, V: Value, M: MutableMapping<K, V>> Shows for Typed<K, V, M> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn usage(&self) -> Usage {
        self.0.usage()
    }
    fn stats(&self) -> Stats {
        self.0.stats()
    }
}

/// The mapping that a worker looks after: the page's `data=`.
///
/// ```
/// use std::sync::Arc;
///
/// use bytes::Bytes;
/// use spill_core::{BufferBuilder, Lru};
/// use spill_worker::Data;
///
/// let lru: Lru<u32, Bytes> = BufferBuilder::new().alone()?;
/// assert!(!Data::plain(&Arc::new(lru)).is_evictable());
/// # Ok::<_, spill_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Data {
    shows: Arc<dyn Shows>,
    evict: Option<Arc<dyn ManualEvict>>,
    backends: Vec<(String, Arc<dyn Shows>)>,
}

impl Data {
    /// A mapping that is only looked at: nothing is ever evicted from it, whatever the process uses.
    #[must_use]
    pub fn plain<K: Key, V: Value, M: MutableMapping<K, V> + 'static>(mapping: &Arc<M>) -> Self {
        let shows = Arc::new(Typed(Arc::clone(mapping), std::marker::PhantomData));
        Data { shows, evict: None, backends: Vec::new() }
    }

    /// A mapping that can evict: above the `spill` threshold values move out of it. Its own target is its own
    /// affair.
    #[must_use]
    pub fn evictable<K: Key, V: Value, M: MutableMapping<K, V> + ManualEvict + 'static>(
        mapping: &Arc<M>,
    ) -> Self {
        Data { evict: Some(Arc::clone(mapping) as Arc<dyn ManualEvict>), ..Self::plain(mapping) }
    }

    /// Shows a storage below the mapping by itself, under this name: a disk, a bucket. Without any, the mapping is
    /// shown as a whole.
    #[must_use]
    pub fn backend<K: Key, V: Value, M: MutableMapping<K, V> + 'static>(
        mut self,
        name: impl Into<String>,
        storage: &Arc<M>,
    ) -> Self {
        let shows = Arc::new(Typed(Arc::clone(storage), std::marker::PhantomData));
        self.backends.push((name.into(), shows));
        self
    }

    pub(crate) fn backends(&self) -> Vec<BackendState> {
        let show = |(name, shows): &(String, Arc<dyn Shows>)| BackendState {
            name: name.clone(),
            storage: StorageStats::new(shows.stats(), shows.usage()),
        };
        self.backends.iter().map(show).collect()
    }

    /// Whether values can be evicted.
    #[must_use]
    pub fn is_evictable(&self) -> bool {
        self.evict.is_some()
    }

    /// What the mapping holds. Answers from RAM.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.shows.usage()
    }

    /// What the mapping did.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shows.stats()
    }

    pub(crate) fn evict(&self) -> Option<Arc<dyn ManualEvict>> {
        self.evict.clone()
    }

    /// A worker starts with nothing.
    pub(crate) fn checked(self) -> Result<Self> {
        match self.shows.len() {
            0 => Ok(self),
            n => Err(Error::config("data", format!("a mapping with {n} keys"), "an empty mapping")),
        }
    }
}

/// What a function that makes a worker's [`Data`] may want to know.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct DataContext {
    /// The worker's memory limit in bytes, or none.
    pub limit: Option<u64>,
    /// The `target` threshold in bytes: what values in RAM should weigh at most. `None` when it is off.
    pub target: Option<u64>,
    /// Directories of the worker's own, where values go that do not stay in RAM; empty: the system's temporary
    /// directory.
    pub local_directories: Vec<PathBuf>,
}

/// What can be a worker's `data`: a [`Data`]; a function that makes one; or a pair of such a function, which takes
/// arguments, and the arguments.
pub trait IntoData {
    /// Makes it.
    ///
    /// # Errors
    /// Whatever the function fails with.
    fn into_data(self, context: &DataContext) -> Result<Data>;
}

impl IntoData for Data {
    fn into_data(self, _: &DataContext) -> Result<Data> {
        Ok(self)
    }
}

impl<F: FnOnce(&DataContext) -> Result<Data>> IntoData for F {
    fn into_data(self, context: &DataContext) -> Result<Data> {
        self(context)
    }
}

impl<A, F: FnOnce(&DataContext, A) -> Result<Data>> IntoData for (F, A) {
    fn into_data(self, context: &DataContext) -> Result<Data> {
        self.0(context, self.1)
    }
}
