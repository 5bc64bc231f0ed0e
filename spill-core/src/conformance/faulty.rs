//! A mapping that fails, panics, hangs or lies at chosen calls.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::Gate;
use crate::sync::Mutex;
use crate::{Error, ErrorKind, Key, MutableMapping, Result, SpilledSize, Stats, Usage, Value};

/// The calls of a mapping that [`Faulty`] counts and spoils.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`MutableMapping::get`], and each key of `get_many`.
    Get,
    /// [`MutableMapping::peek`].
    Peek,
    /// [`MutableMapping::insert`], and each pair of `insert_many`.
    Insert,
    /// [`MutableMapping::remove`], and each key of `remove_many` and `clear`.
    Remove,
    /// [`MutableMapping::take`].
    Take,
    /// [`MutableMapping::contains_key`]. It cannot fail: no error strikes it.
    ContainsKey,
    /// [`MutableMapping::len`]. It cannot fail: no error strikes it.
    Len,
    /// [`MutableMapping::for_each_key`]. It cannot fail: no error strikes it.
    ForEachKey,
    /// [`MutableMapping::flush`].
    Flush,
    /// [`MutableMapping::close`].
    Close,
}

impl Operation {
    /// The calls that give a value and change nothing.
    pub const READS: [Operation; 2] = [Operation::Get, Operation::Peek];
    /// The calls that change what is held.
    pub const WRITES: [Operation; 3] = [Operation::Insert, Operation::Remove, Operation::Take];
}

/// Which calls a fault strikes. Calls are counted from one, from when the plan was given to
/// [`Faulty::inject`], and only those that the plan's operations and key admit and the fault can strike.
#[derive(Clone, Debug)]
pub struct Plan<K> {
    calls: Calls,
    operations: Option<Vec<Operation>>,
    key: Option<K>,
}

#[derive(Clone, Copy, Debug)]
enum Calls {
    Nth(u64),
    From(u64),
    Every(u64),
}

impl<K: Key> Plan<K> {
    fn of(calls: Calls) -> Self {
        Plan { calls, operations: None, key: None }
    }

    /// The `n`-th call alone.
    #[must_use]
    pub fn nth(n: u64) -> Self {
        Self::of(Calls::Nth(n))
    }

    /// The `n`-th call and all that follow.
    #[must_use]
    pub fn from(n: u64) -> Self {
        Self::of(Calls::From(n))
    }

    /// Every `n`-th call. Zero strikes none.
    #[must_use]
    pub fn every(n: u64) -> Self {
        Self::of(Calls::Every(n))
    }

    /// All calls.
    #[must_use]
    pub fn always() -> Self {
        Self::from(1)
    }

    /// Only calls of these operations.
    #[must_use]
    pub fn on(mut self, operations: impl IntoIterator<Item = Operation>) -> Self {
        self.operations = Some(operations.into_iter().collect());
        self
    }

    /// Only calls that name this key.
    #[must_use]
    pub fn key(mut self, key: K) -> Self {
        self.key = Some(key);
        self
    }

    fn admits(&self, operation: Operation, key: Option<&K>) -> bool {
        self.operations.as_ref().is_none_or(|operations| operations.contains(&operation))
            && self.key.as_ref().is_none_or(|only| key == Some(only))
    }
}

impl Calls {
    fn strikes(self, call: u64) -> bool {
        match self {
            Calls::Nth(n) => call == n,
            Calls::From(n) => call >= n,
            Calls::Every(n) => n != 0 && call.is_multiple_of(n),
        }
    }
}

/// What goes wrong in a call: before anything was done, or after the mapping below did it
/// ([`after`](Fault::after)).
#[derive(Clone)]
pub struct Fault<V> {
    kind: Kind<V>,
    after: bool,
}

#[derive(Clone)]
enum Kind<V> {
    Error(Error),
    Panic(&'static str),
    Block(Gate),
    Delay(Arc<dyn Fn() + Send + Sync>),
    Alter(Arc<dyn Fn(V) -> V + Send + Sync>),
}

impl<V> Kind<V> {
    /// Whether it can go wrong that way in a call of `operation`.
    fn fits(&self, operation: Operation) -> bool {
        use Operation::{ContainsKey, ForEachKey, Get, Len, Peek, Take};
        match self {
            Kind::Error(_) => !matches!(operation, ContainsKey | Len | ForEachKey),
            Kind::Alter(_) => matches!(operation, Get | Peek | Take),
            Kind::Panic(_) | Kind::Block(_) | Kind::Delay(_) => true,
        }
    }
}

impl<V: Value> Fault<V> {
    fn of(kind: Kind<V>) -> Self {
        Fault { kind, after: false }
    }

    /// The call returns this error.
    #[must_use]
    pub fn error(error: Error) -> Self {
        Self::of(Kind::Error(error))
    }

    /// The call returns an [`Io`](ErrorKind::Io) error, as a failing disk gives.
    #[must_use]
    pub fn io() -> Self {
        Self::error(Error::io("access", "faulty", io::Error::other("injected fault")))
    }

    /// The call returns [`Full`](ErrorKind::Full).
    #[must_use]
    pub fn full() -> Self {
        Self::error(
            ErrorKind::Full { path: None, used: 1, limit: 1, free: None, setting: "an injected fault" }
                .into(),
        )
    }

    /// The call panics with this message.
    #[must_use]
    pub fn panic(message: &'static str) -> Self {
        Self::of(Kind::Panic(message))
    }

    /// The call waits at the gate.
    #[must_use]
    pub fn block(gate: &Gate) -> Self {
        Self::of(Kind::Block(gate.clone()))
    }

    /// The call runs `during`, which stands for the time it takes. No lock of the faulty mapping is held.
    #[must_use]
    pub fn delay(during: impl Fn() + Send + Sync + 'static) -> Self {
        Self::of(Kind::Delay(Arc::new(during)))
    }

    /// The call gives another value than the one held. It strikes calls that give values.
    #[must_use]
    pub fn alter(change: impl Fn(V) -> V + Send + Sync + 'static) -> Self {
        Self::of(Kind::Alter(Arc::new(change)))
    }

    /// The fault strikes after the mapping below did what was asked and before the caller hears of it: the
    /// failed call was applied. A failure of the mapping below itself is given as it is.
    #[must_use]
    pub fn after(mut self) -> Self {
        self.after = true;
        self
    }

    fn strike(&self) -> Result<()> {
        match &self.kind {
            Kind::Error(error) => Err(error.clone()),
            Kind::Panic(message) => panic!("{message}"),
            Kind::Block(gate) => {
                gate.pass();
                Ok(())
            }
            Kind::Delay(during) => {
                during();
                Ok(())
            }
            Kind::Alter(_) => Ok(()),
        }
    }

    fn around<T>(&self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.after {
            let answer = call()?;
            self.strike()?;
            Ok(answer)
        } else {
            self.strike()?;
            call()
        }
    }
}

/// A mapping over any mapping, whose calls go wrong as planned.
///
/// Plans can be added while calls are under way and are forgotten by [`heal`](Faulty::heal). Where several
/// plans name one call, the first given strikes; each counts its calls on its own. A batch is spoilt call by
/// call: it reaches the mapping below as single calls, in order.
pub struct Faulty<K, V, M> {
    inner: M,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    rules: Vec<Rule<K, V>>,
    calls: HashMap<Operation, u64>,
    struck: u64,
}

struct Rule<K, V> {
    plan: Plan<K>,
    fault: Fault<V>,
    calls: u64,
}

impl<K: Key, V: Value, M: MutableMapping<K, V>> Faulty<K, V, M> {
    /// `inner`, with nothing wrong yet.
    pub fn new(inner: M) -> Self {
        let state = State { rules: Vec::new(), calls: HashMap::new(), struck: 0 };
        Faulty { inner, state: Mutex::new(state) }
    }

    /// The mapping below, which always works.
    pub fn inner(&self) -> &M {
        &self.inner
    }

    /// From now on, `fault` strikes the calls of `plan`.
    pub fn inject(&self, plan: Plan<K>, fault: Fault<V>) {
        self.state.lock().rules.push(Rule { plan, fault, calls: 0 });
    }

    /// Forgets all plans. Calls held at a [`Gate`] stay there until it is opened.
    pub fn heal(&self) {
        // Closures are foreign code: dropped after the lock is released.
        let rules = std::mem::take(&mut self.state.lock().rules);
        drop(rules);
    }

    /// How many calls of this operation there were, those that failed included.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.state.lock().calls.get(&operation).copied().unwrap_or(0)
    }

    /// How many calls a fault struck. A test that injects faults asks, so as not to pass by missing.
    pub fn struck(&self) -> u64 {
        self.state.lock().struck
    }

    fn fault(&self, operation: Operation, key: Option<&K>) -> Option<Fault<V>> {
        let mut state = self.state.lock();
        *state.calls.entry(operation).or_default() += 1;
        let mut fault = None;
        for rule in &mut state.rules {
            if rule.plan.admits(operation, key) && rule.fault.kind.fits(operation) {
                rule.calls += 1;
                if fault.is_none() && rule.plan.calls.strikes(rule.calls) {
                    fault = Some(rule.fault.clone());
                }
            }
        }
        state.struck += u64::from(fault.is_some());
        fault
    }

    fn call<T>(&self, operation: Operation, key: Option<&K>, call: impl FnOnce() -> Result<T>) -> Result<T> {
        match self.fault(operation, key) {
            Some(fault) => fault.around(call),
            None => call(),
        }
    }

    fn read(
        &self,
        operation: Operation,
        key: &K,
        call: impl FnOnce() -> Result<Option<V>>,
    ) -> Result<Option<V>> {
        match self.fault(operation, Some(key)) {
            Some(Fault { kind: Kind::Alter(change), .. }) => Ok(call()?.map(&*change)),
            Some(fault) => fault.around(call),
            None => call(),
        }
    }

    /// A call that cannot fail, and that no fault makes fail.
    fn answer<T>(&self, operation: Operation, key: Option<&K>, call: impl Fn() -> T) -> T {
        match self.fault(operation, key) {
            Some(fault) => fault.around(|| Ok(call())).unwrap_or_else(|_| call()),
            None => call(),
        }
    }
}

impl<K: Key, V: Value, M: MutableMapping<K, V>> MutableMapping<K, V> for Faulty<K, V, M> {
    fn get(&self, key: &K) -> Result<Option<V>> {
        self.read(Operation::Get, key, || self.inner.get(key))
    }
    fn insert(&self, key: K, value: V) -> Result<()> {
        match self.fault(Operation::Insert, Some(&key)) {
            Some(fault) => fault.around(|| self.inner.insert(key, value)),
            None => self.inner.insert(key, value),
        }
    }
    fn remove(&self, key: &K) -> Result<bool> {
        self.call(Operation::Remove, Some(key), || self.inner.remove(key))
    }
    fn take(&self, key: &K) -> Result<Option<V>> {
        self.read(Operation::Take, key, || self.inner.take(key))
    }
    fn contains_key(&self, key: &K) -> bool {
        self.answer(Operation::ContainsKey, Some(key), || self.inner.contains_key(key))
    }
    fn len(&self) -> usize {
        self.answer(Operation::Len, None, || self.inner.len())
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&K)) {
        let mut walk = || {
            self.inner.for_each_key(f);
            Ok(())
        };
        // Whatever strikes here ends well: no error fits a call that cannot fail.
        let _ = match self.fault(Operation::ForEachKey, None) {
            Some(fault) => fault.around(walk),
            None => walk(),
        };
    }
    fn peek(&self, key: &K) -> Result<Option<V>> {
        self.read(Operation::Peek, key, || self.inner.peek(key))
    }
    fn usage(&self) -> Usage {
        self.inner.usage()
    }
    fn stored_size(&self, key: &K) -> Option<SpilledSize> {
        self.inner.stored_size(key)
    }
    fn stats(&self) -> Stats {
        self.inner.stats()
    }
    fn flush(&self) -> Result<()> {
        self.call(Operation::Flush, None, || self.inner.flush())
    }
    fn close(&self) -> Result<()> {
        self.call(Operation::Close, None, || self.inner.close())
    }
}
