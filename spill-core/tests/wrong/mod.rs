//! A mapping that is wrong in one way.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use spill_core::conformance::{Gate, Memory, SampleValue};
use spill_core::{Error, ErrorKind, Frames, MappingExt, MutableMapping, Result, SpilledSize, Usage};

/// What a mapping does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    AbsentIsDefault,
    ForgetsOverwrite,
    SecondReadIsEmpty,
    PeekTakes,
    RemoveAlwaysTrue,
    RemoveAlwaysFalse,
    TakeLeaves,
    TakeGivesOlder,
    LenCountsOverwrites,
    ContainsEverything,
    ContainsNothing,
    RemovedForGood,
    WalkGivesTwice,
    WalkSkips,
    WalkIsLive,
    WalkHoldsLock,
    BatchReversed,
    BatchOneShort,
    BatchKeepsFirst,
    ClearLeavesOne,
    ClearFails,
    CountIsOneMore,
    WeightNeverFalls,
    SpilledBeyondStored,
    StoredAfterRemoval,
    LosesThirtyThirdInsert,
    KeysAreShort,
    EmptyFramesDropped,
    FramesMerged,
    WeightLost,
    PagesCutShort,
    OldTailKept,
    FlushDropsOne,
    FlushBringsBack,
    ClosedIsAbsent,
    ClosedPanics,
    ClosedIsIo,
    CloseTwiceFails,
    InsertsAfterCloseAreLost,
    FailedInsertApplied,
    FailedInsertRemovesOld,
    FailedRemoveApplied,
    TakeRaces,
    RemoveRaces,
    LenRaces,
    LateInsert,
    PromotesOverInsert,
    PromotesOverRemove,
    GivesNeighbour,
}

/// A mapping in RAM with one [`Mistake`].
pub(crate) struct Wrong {
    mistake: Mistake,
    inner: Memory<u64, Frames>,
    older: Memory<u64, Frames>,
    inserts: AtomicU64,
    removes: AtomicU64,
    extra_len: AtomicUsize,
    weight: AtomicU64,
    closed: AtomicU64,
    failing: AtomicU64,
    late: Mutex<Option<(u64, Frames)>>,
    /// Held by walks, where that is the mistake.
    lock: RwLock<()>,
    pair: Pair,
    promotion: Promotion,
}

/// Lets the first call wait for another one of the same key. Nobody else waits here.
struct Pair {
    /// The first call's key, and how many calls of that key came.
    arrived: Mutex<Option<(u64, u32)>>,
    gate: Gate,
}

impl Pair {
    fn meet(&self, key: u64) {
        let mut arrived = locked(&self.arrived);
        let (first, count) = arrived.get_or_insert((key, 0));
        if *first != key {
            return;
        }
        *count += 1;
        if *count > 1 {
            self.gate.open();
        }
        drop(arrived);
        self.gate.pass();
    }
}

/// A read of one key is held until a write of it was applied, and then puts the old value back: the order of
/// events that a careless cache meets once in a while happens here every time.
struct Promotion {
    key: Mutex<Option<u64>>,
    read: Gate,
    written: Gate,
    put_back: Gate,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wrong {
    pub(crate) fn new(mistake: Mistake) -> Self {
        Wrong {
            mistake,
            inner: Memory::new(),
            older: Memory::new(),
            inserts: AtomicU64::new(0),
            removes: AtomicU64::new(0),
            extra_len: AtomicUsize::new(0),
            weight: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            failing: AtomicU64::new(0),
            late: Mutex::new(None),
            lock: RwLock::new(()),
            pair: Pair { arrived: Mutex::new(None), gate: Gate::closed() },
            promotion: Promotion {
                key: Mutex::new(None),
                read: Gate::closed(),
                written: Gate::closed(),
                put_back: Gate::closed(),
            },
        }
    }

    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == mistake
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(SeqCst) == 0 {
            return Ok(());
        }
        match self.mistake {
            Mistake::ClosedPanics => panic!("the file was closed"),
            Mistake::ClosedIsIo => Err(Error::io("read", "closed", std::io::Error::other("bad descriptor"))),
            Mistake::InsertsAfterCloseAreLost | Mistake::ClosedIsAbsent => Ok(()),
            _ => Err(ErrorKind::Closed { what: "a wrong mapping" }.into()),
        }
    }

    /// Fails every other call while failures are on.
    fn check_failing(&self) -> Result<()> {
        let calls = self.failing.load(SeqCst);
        if calls == 0 {
            return Ok(());
        }
        self.failing.store(calls + 1, SeqCst);
        if calls % 2 == 1 {
            return Err(Error::io("write", "failing", std::io::Error::other("failure")));
        }
        Ok(())
    }

    pub(crate) fn set_failing(&self, failing: bool) {
        self.failing.store(u64::from(failing), SeqCst);
    }

    /// The write of `key` that a read overtakes: waits until a reader has the old value, writes, and lets
    /// the reader put the old value back.
    fn overtaken<T>(&self, key: u64, write: impl FnOnce() -> T) -> T {
        *locked(&self.promotion.key) = Some(key);
        self.promotion.read.wait_for(1);
        let result = write();
        self.promotion.written.open();
        self.promotion.put_back.pass();
        result
    }

    fn read(&self, key: u64) -> Result<Option<Frames>> {
        let value = self.inner.get(&key)?;
        let chosen = {
            let mut awaited = locked(&self.promotion.key);
            let chosen = *awaited == Some(key) && value.is_some();
            if chosen {
                *awaited = None;
            }
            chosen
        };
        if chosen {
            self.promotion.read.open();
            self.promotion.read.pass();
            self.promotion.written.pass();
            if let Some(value) = &value {
                self.inner.insert(key, value.clone())?;
            }
            self.promotion.put_back.open();
        }
        Ok(value)
    }

    fn spoilt(&self, value: Frames) -> Frames {
        match self.mistake {
            Mistake::EmptyFramesDropped => {
                let frames = value.iter().filter(|frame| !frame.is_empty()).cloned();
                Frames::from_iter(frames).with_weight(value.weight())
            }
            Mistake::FramesMerged => {
                let bytes: Vec<u8> = value.iter().flatten().copied().collect();
                Frames::from(Bytes::from(bytes)).with_weight(value.weight())
            }
            Mistake::WeightLost => {
                let length = value.byte_len();
                value.with_weight(length)
            }
            Mistake::PagesCutShort if value.byte_len() > 0 && value.byte_len().is_multiple_of(4096) => {
                let weight = value.weight();
                let mut frames = value.as_slice().to_vec();
                if let Some(last) = frames.last_mut() {
                    *last = last.slice(..last.len().saturating_sub(1));
                }
                Frames::from(frames).with_weight(weight)
            }
            _ => value,
        }
    }
}

impl MutableMapping<u64, Frames> for Wrong {
    fn get(&self, key: &u64) -> Result<Option<Frames>> {
        self.check_open()?;
        self.check_failing()?;
        match self.mistake {
            Mistake::AbsentIsDefault => Ok(Some(self.inner.get(key)?.unwrap_or_else(|| Frames::sample(0)))),
            Mistake::SecondReadIsEmpty => {
                let read_before = self.older.contains_key(key);
                let value = self.inner.get(key)?;
                if let Some(value) = &value {
                    self.older.insert(*key, value.clone())?;
                }
                Ok(value.filter(|_| !read_before))
            }
            Mistake::PromotesOverInsert | Mistake::PromotesOverRemove => self.read(*key),
            Mistake::GivesNeighbour if self.inserts.load(SeqCst) > 30 => self.inner.get(&(key ^ 1)),
            Mistake::KeysAreShort => self.inner.get(&(key & u64::from(u32::MAX))),
            Mistake::ClosedIsAbsent if self.closed.load(SeqCst) > 0 => Ok(None),
            _ => self.inner.get(key),
        }
    }

    fn insert(&self, key: u64, value: Frames) -> Result<()> {
        self.check_open()?;
        let value = self.spoilt(value);
        let count = self.inserts.fetch_add(1, SeqCst) + 1;
        self.weight.fetch_add(value.weight(), SeqCst);
        if let Some(old) = self.inner.get(&key)? {
            self.older.insert(key, old)?;
        } else if self.is(Mistake::StoredAfterRemoval) {
            self.older.insert(key, value.clone())?;
        }
        let _lock = self.is(Mistake::WalkHoldsLock).then(|| self.lock.write());
        match self.mistake {
            Mistake::ForgetsOverwrite if self.inner.contains_key(&key) => Ok(()),
            Mistake::LosesThirtyThirdInsert if count.is_multiple_of(33) => Ok(()),
            Mistake::InsertsAfterCloseAreLost if self.closed.load(SeqCst) > 0 => Ok(()),
            Mistake::RemovedForGood if self.removes.load(SeqCst) > 0 && !self.inner.contains_key(&key) => {
                Ok(())
            }
            Mistake::LenCountsOverwrites => {
                self.extra_len.fetch_add(usize::from(self.inner.contains_key(&key)), SeqCst);
                self.inner.insert(key, value)
            }
            Mistake::LenRaces => {
                if !self.inner.contains_key(&key) {
                    self.pair.meet(key);
                    self.extra_len.fetch_add(1, SeqCst);
                }
                self.inner.insert(key, value)
            }
            Mistake::OldTailKept => {
                let old: Vec<u8> =
                    self.inner.get(&key)?.iter().flat_map(Frames::iter).flatten().copied().collect();
                let tail = usize::try_from(value.byte_len()).ok().and_then(|length| old.get(length..));
                let mut frames = value.as_slice().to_vec();
                if let (Some(last), Some(tail)) = (frames.last_mut(), tail) {
                    *last = [&**last, tail].concat().into();
                }
                self.inner.insert(key, frames.into())
            }
            Mistake::FailedInsertApplied => {
                self.inner.insert(key, value)?;
                self.check_failing()
            }
            Mistake::FailedInsertRemovesOld => self.check_failing().map_or_else(
                |error| {
                    self.inner.remove(&key)?;
                    Err(error)
                },
                |()| self.inner.insert(key, value),
            ),
            Mistake::LateInsert => {
                let waiting = locked(&self.late).replace((key, value.clone()));
                if let Some((key, value)) = waiting {
                    self.inner.insert(key, value)?;
                }
                if self.inner.contains_key(&key) { Ok(()) } else { self.inner.insert(key, value) }
            }
            Mistake::PromotesOverInsert if count == 20 => {
                self.overtaken(key, || self.inner.insert(key, value))
            }
            Mistake::KeysAreShort => self.inner.insert(key & u64::from(u32::MAX), value),
            _ => {
                self.check_failing()?;
                self.inner.insert(key, value)
            }
        }
    }

    fn remove(&self, key: &u64) -> Result<bool> {
        self.check_open()?;
        let count = self.removes.fetch_add(1, SeqCst) + 1;
        match self.mistake {
            Mistake::RemoveAlwaysTrue => self.inner.remove(key).map(|_| true),
            Mistake::RemoveAlwaysFalse => self.inner.remove(key).map(|_| false),
            Mistake::RemoveRaces => {
                let present = self.inner.contains_key(key);
                if present {
                    self.pair.meet(*key);
                }
                self.inner.remove(key)?;
                Ok(present)
            }
            Mistake::FailedRemoveApplied => {
                let present = self.inner.remove(key)?;
                self.check_failing()?;
                Ok(present)
            }
            Mistake::PromotesOverRemove if count == 20 && self.inner.contains_key(key) => {
                self.overtaken(*key, || self.inner.remove(key))
            }
            Mistake::KeysAreShort => self.inner.remove(&(key & u64::from(u32::MAX))),
            _ => {
                self.check_failing()?;
                self.inner.remove(key)
            }
        }
    }

    fn take(&self, key: &u64) -> Result<Option<Frames>> {
        self.check_open()?;
        self.check_failing()?;
        match self.mistake {
            Mistake::TakeLeaves => self.inner.get(key),
            Mistake::TakeGivesOlder => {
                let newest = self.inner.take(key)?;
                Ok(self.older.take(key)?.filter(|_| newest.is_some()).or(newest))
            }
            Mistake::TakeRaces => {
                let value = self.inner.get(key)?;
                if value.is_some() {
                    self.pair.meet(*key);
                }
                self.inner.remove(key)?;
                Ok(value)
            }
            Mistake::AbsentIsDefault => Ok(Some(self.inner.take(key)?.unwrap_or_else(|| Frames::sample(0)))),
            _ => self.inner.take(key),
        }
    }

    fn contains_key(&self, key: &u64) -> bool {
        match self.mistake {
            Mistake::ContainsEverything => true,
            Mistake::ContainsNothing => false,
            Mistake::KeysAreShort => self.inner.contains_key(&(key & u64::from(u32::MAX))),
            _ => self.inner.contains_key(key),
        }
    }

    fn len(&self) -> usize {
        let counted = self.extra_len.load(SeqCst);
        if self.is(Mistake::LenRaces) { counted } else { self.inner.len() + counted }
    }

    fn for_each_key(&self, f: &mut dyn FnMut(&u64)) {
        match self.mistake {
            Mistake::WalkGivesTwice => {
                self.inner.for_each_key(f);
                if let Some(key) = self.inner.keys().first() {
                    f(key);
                }
            }
            Mistake::WalkSkips => {
                self.inner.keys().iter().skip(1).for_each(f);
            }
            Mistake::WalkIsLive => {
                let mut seen = HashSet::new();
                while let Some(key) = self.inner.keys().into_iter().find(|key| !seen.contains(key)) {
                    seen.insert(key);
                    f(&key);
                }
            }
            Mistake::WalkHoldsLock => {
                let _lock = self.lock.read();
                self.inner.for_each_key(f);
            }
            _ => self.inner.for_each_key(f),
        }
    }

    fn peek(&self, key: &u64) -> Result<Option<Frames>> {
        if self.is(Mistake::PeekTakes) { self.inner.take(key) } else { self.get(key) }
    }

    fn get_many(&self, keys: &[u64]) -> Vec<Result<Option<Frames>>> {
        let mut results: Vec<_> = keys.iter().map(|key| self.get(key)).collect();
        if self.is(Mistake::BatchReversed) {
            results.reverse();
        }
        if self.is(Mistake::BatchOneShort) {
            results.pop();
        }
        results
    }

    fn insert_many(&self, mut pairs: Vec<(u64, Frames)>) -> Vec<Result<()>> {
        if self.is(Mistake::BatchKeepsFirst) {
            pairs.reverse();
        }
        pairs.into_iter().map(|(key, value)| self.insert(key, value)).collect()
    }

    fn clear(&self) -> Result<()> {
        let keys = self.inner.keys();
        let spared = usize::from(self.is(Mistake::ClearLeavesOne));
        keys.iter().skip(spared).try_for_each(|key| self.inner.remove(key).map(drop))?;
        if self.is(Mistake::ClearFails) {
            return Err(Error::io("remove", "directory", std::io::Error::other("not empty")));
        }
        self.check_open()
    }

    fn usage(&self) -> Usage {
        let mut usage = Usage { count: self.len(), ..Usage::default() };
        match self.mistake {
            Mistake::CountIsOneMore => usage.count += 1,
            Mistake::WeightNeverFalls => usage.fast = self.weight.load(SeqCst),
            Mistake::SpilledBeyondStored => {
                usage.spilled.disk = u64::try_from(self.inner.len()).unwrap_or(u64::MAX) * 100;
            }
            _ => {}
        }
        usage
    }

    fn stored_size(&self, key: &u64) -> Option<SpilledSize> {
        match self.mistake {
            Mistake::StoredAfterRemoval => {
                (self.inner.contains_key(key) || self.older.contains_key(key)).then(SpilledSize::default)
            }
            Mistake::SpilledBeyondStored => {
                self.inner.contains_key(key).then_some(SpilledSize { memory: 99, disk: 99 })
            }
            _ => None,
        }
    }

    fn flush(&self) -> Result<()> {
        self.check_open()?;
        match self.mistake {
            Mistake::FlushDropsOne => {
                self.inner.keys().first().map_or(Ok(()), |key| self.inner.remove(key).map(drop))
            }
            Mistake::FlushBringsBack => {
                for key in self.older.keys() {
                    if let Some(value) = self.older.take(&key)? {
                        self.inner.insert(key, value)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn close(&self) -> Result<()> {
        let before = self.closed.fetch_add(1, SeqCst);
        if self.is(Mistake::CloseTwiceFails) && before > 0 {
            return Err(ErrorKind::Closed { what: "a wrong mapping" }.into());
        }
        Ok(())
    }
}
