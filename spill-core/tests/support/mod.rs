//! What the tests of `Buffer` share: values that say what they weigh, storage that reports sizes, and waiting
//! for other threads without sleeping.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

pub(crate) mod log;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spill_core::conformance::{Faulty, Operation};
use spill_core::{
    Buffer, BufferBuilder, Clock, Error, ErrorKind, Key, ManualClock, MappingExt, MutableMapping, Result,
    SpilledSize, SystemClock, Usage, Value,
};

/// A value that weighs what it says, and knows which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Val {
    pub(crate) id: u64,
    pub(crate) weight: u64,
}

pub(crate) fn val(id: u64, weight: u64) -> Val {
    Val { id, weight }
}

/// Storage in RAM that reports sizes as a disk does, and has a limit.
#[derive(Debug)]
pub(crate) struct Store {
    pairs: Mutex<BTreeMap<u64, Val>>,
    /// The most that the values may weigh.
    limit: AtomicU64,
    /// Whether a record takes what its value weighs.
    even: bool,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    pub(crate) fn new() -> Self {
        Store { pairs: Mutex::default(), limit: AtomicU64::new(u64::MAX), even: false }
    }

    /// One whose records take what their values weigh.
    pub(crate) fn even() -> Self {
        Store { even: true, ..Self::new() }
    }

    fn size(&self, value: Val) -> SpilledSize {
        if self.even { even_record(value) } else { record(value) }
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes, SeqCst);
    }

    /// The value held for `key`, seen by nobody.
    pub(crate) fn held(&self, key: u64) -> Option<Val> {
        locked(&self.pairs).get(&key).copied()
    }
}

/// The two sizes of a stored value; they differ, so that a test sees which one it got.
pub(crate) fn record(value: Val) -> SpilledSize {
    SpilledSize { memory: value.weight, disk: value.weight / 2 + 16 }
}

pub(crate) fn even_record(value: Val) -> SpilledSize {
    SpilledSize { memory: value.weight, disk: value.weight }
}

/// The sizes of several stored values.
pub(crate) fn records(values: impl IntoIterator<Item = Val>) -> SpilledSize {
    values.into_iter().map(record).fold(SpilledSize::default(), |a, b| a + b)
}

impl MutableMapping<u64, Val> for Store {
    fn get(&self, key: &u64) -> Result<Option<Val>> {
        Ok(self.held(*key))
    }
    fn insert(&self, key: u64, value: Val) -> Result<()> {
        let mut pairs = locked(&self.pairs);
        let old = pairs.get(&key).map_or(0, |old| old.weight);
        let used = pairs.values().map(|value| value.weight).sum::<u64>();
        let limit = self.limit.load(SeqCst);
        if used - old + value.weight > limit {
            return Err(ErrorKind::Full { path: None, used, limit, free: None, setting: "limit" }.into());
        }
        pairs.insert(key, value);
        Ok(())
    }
    fn remove(&self, key: &u64) -> Result<bool> {
        Ok(locked(&self.pairs).remove(key).is_some())
    }
    fn take(&self, key: &u64) -> Result<Option<Val>> {
        Ok(locked(&self.pairs).remove(key))
    }
    fn contains_key(&self, key: &u64) -> bool {
        locked(&self.pairs).contains_key(key)
    }
    fn len(&self) -> usize {
        locked(&self.pairs).len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        let keys: Vec<u64> = locked(&self.pairs).keys().copied().collect();
        keys.iter().for_each(f);
    }
    fn usage(&self) -> Usage {
        let pairs = locked(&self.pairs);
        let spilled =
            pairs.values().map(|value| self.size(*value)).fold(SpilledSize::default(), |a, b| a + b);
        Usage { count: pairs.len(), spilled, ..Usage::default() }
    }
    fn stored_size(&self, key: &u64) -> Option<SpilledSize> {
        self.held(*key).map(|value| self.size(value))
    }
}

pub(crate) type Slow = Faulty<u64, Val, Store>;
pub(crate) type Buf = Buffer<u64, Val, Slow>;

pub(crate) fn slow() -> Slow {
    Faulty::new(Store::new())
}

/// Storage whose records take what their values weigh.
pub(crate) fn even() -> Slow {
    Faulty::new(Store::even())
}

/// Settings for values that weigh what they say.
pub(crate) fn builder(target: u64) -> BufferBuilder<u64, Val> {
    BufferBuilder::weighed_by(|_: &u64, value: &Val| value.weight).target(target)
}

/// A buffer without threads over storage that can be made to fail.
pub(crate) fn buffer(target: u64) -> Buf {
    over(builder(target))
}

pub(crate) fn over(builder: BufferBuilder<u64, Val>) -> Buf {
    builder.over(slow()).unwrap()
}

/// The longest that a key waits to be tried again.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A buffer whose time stands still, with keys `1..=keys` of 10 bytes each in fast memory.
pub(crate) fn filled(target: u64, keys: u64) -> (Buf, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let buffer = over(builder(target).clock(clock.clone()));
    for key in 1..=keys {
        buffer.insert_without_evicting(key, val(key, 10)).unwrap();
    }
    (buffer, clock)
}

/// Calls of storage that give a value.
pub(crate) fn reads(slow: &Slow) -> u64 {
    [Operation::Get, Operation::Peek, Operation::Take].into_iter().map(|op| slow.calls(op)).sum()
}

pub(crate) fn writes(slow: &Slow) -> u64 {
    slow.calls(Operation::Insert)
}

/// All keys, in ascending order.
pub(crate) fn sorted_keys<K: Key + Ord, V: Value>(mapping: &dyn MutableMapping<K, V>) -> Vec<K> {
    let mut keys = mapping.keys();
    keys.sort_unstable();
    keys
}

/// An error of an observer or a loader.
pub(crate) fn refusal() -> Error {
    ErrorKind::Backend {
        name: "refusal",
        location: "a test".to_owned(),
        status: "no".to_owned(),
        transient: false,
    }
    .into()
}

pub(crate) fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Backend { name: "refusal", .. })
}

pub(crate) fn is_io(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io { .. })
}

pub(crate) fn is_panicked(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Panicked { .. })
}

pub(crate) fn is_closed(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Closed { .. })
}

/// A lock that a failed assertion of another thread does not spoil.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives way to other threads until `holds`; fails when it never does.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let (clock, patience) = (SystemClock::new(), Duration::from_secs(60));
    while !holds() {
        assert!(clock.now() < patience, "never came true: {what}");
        std::thread::yield_now();
    }
}

/// Keeps the panics that tests inject out of the output. Their messages begin with "injected".
pub(crate) fn quiet_injected_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let injected = info.payload_as_str().is_some_and(|message| message.starts_with("injected"));
            if !injected {
                usual(info);
            }
        }));
    });
}

/// How many times a long run repeats what an ordinary one does once.
pub(crate) fn long_run(times: u64) -> u64 {
    if std::env::var_os("OVERSPILL_TEST_LONG").is_some() { times } else { 1 }
}
