//! Slow memory whose every call is a point where shuttle may switch, and that fails on request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::Mutex;

use crate::{Error, ErrorKind, ManualClock, MutableMapping, Result, SpilledSize, Usage};

/// How calls of storage go wrong; one in four does while faults are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Faults {
    Never,
    Errors,
    Panics,
}

pub(super) struct Store {
    map: Mutex<HashMap<u8, u64>>,
    faults: Faults,
    /// How many faults may still happen.
    pub(super) left: AtomicUsize,
    pub(super) reads: AtomicUsize,
    pub(super) writes: AtomicUsize,
    refuses_removal: AtomicBool,
    refuses_writes: AtomicBool,
    /// The buffer's clock.
    pub(super) clock: Arc<ManualClock>,
}

impl Store {
    pub(super) fn new(faults: Faults) -> Self {
        Store {
            map: Mutex::default(),
            faults,
            left: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
            refuses_removal: AtomicBool::new(false),
            refuses_writes: AtomicBool::new(false),
            clock: Arc::default(),
        }
    }

    pub(super) fn refuse_removal(&self, refuse: bool) {
        self.refuses_removal.store(refuse, SeqCst);
    }

    pub(super) fn refuse_writes(&self, refuse: bool) {
        self.refuses_writes.store(refuse, SeqCst);
    }

    fn fault() -> Error {
        Error::from(ErrorKind::Backend {
            name: "store",
            location: "a schedule".to_owned(),
            status: "a planned fault".to_owned(),
            transient: true,
        })
    }

    pub(super) fn holds(&self, key: u8) -> Option<u64> {
        self.map.lock().unwrap().get(&key).copied()
    }

    /// Does `effect` as one step, or fails before or after it.
    fn call<T>(&self, effect: impl FnOnce(&mut HashMap<u8, u64>) -> T) -> Result<T> {
        shuttle::thread::yield_now();
        let strikes =
            self.faults != Faults::Never && self.left.load(SeqCst) > 0 && thread_rng().gen_bool(0.25);
        let applies = !strikes || thread_rng().gen_bool(0.5);
        let done = applies.then(|| effect(&mut self.map.lock().unwrap()));
        shuttle::thread::yield_now();
        match done {
            Some(done) if !strikes => Ok(done),
            _ => {
                self.left.fetch_sub(1, SeqCst);
                assert!(self.faults != Faults::Panics, "storage panics as planned");
                Err(Self::fault())
            }
        }
    }
}

impl MutableMapping<u8, u64> for Store {
    fn get(&self, key: &u8) -> Result<Option<u64>> {
        self.reads.fetch_add(1, SeqCst);
        self.call(|map| map.get(key).copied())
    }
    fn insert(&self, key: u8, value: u64) -> Result<()> {
        self.writes.fetch_add(1, SeqCst);
        if self.refuses_writes.load(SeqCst) {
            return Err(Self::fault());
        }
        self.call(|map| _ = map.insert(key, value))
    }
    fn remove(&self, key: &u8) -> Result<bool> {
        if self.refuses_removal.load(SeqCst) {
            return Err(Self::fault());
        }
        self.call(|map| map.remove(key).is_some())
    }
    fn take(&self, key: &u8) -> Result<Option<u64>> {
        self.call(|map| map.remove(key))
    }
    fn contains_key(&self, key: &u8) -> bool {
        self.map.lock().unwrap().contains_key(key)
    }
    fn len(&self) -> usize {
        self.map.lock().unwrap().len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&u8)) {
        let keys: Vec<u8> = self.map.lock().unwrap().keys().copied().collect();
        keys.iter().for_each(f);
    }
    fn usage(&self) -> Usage {
        let count = self.len();
        let bytes = 8 * count as u64;
        Usage { count, spilled: SpilledSize { memory: bytes, disk: bytes }, ..Usage::default() }
    }
    fn stored_size(&self, key: &u8) -> Option<SpilledSize> {
        self.contains_key(key).then_some(SpilledSize { memory: 8, disk: 8 })
    }
}
