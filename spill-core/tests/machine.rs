//! A buffer that spills in the caller, held against a plain map and an exact order of eviction, under random
//! calls and random failures of its storage.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use spill_core::conformance::model::ModelLru;
use spill_core::conformance::{Fault, Operation, Plan};
use spill_core::{
    Buffer, FastMemory, ManualClock, ManualEvict, MutableMapping, Ram, Result, SpilledSize, Stored,
};
use support::{
    Slow, Val, builder, even, even_record, is_refusal, long_run, quiet_injected_panics, records, refusal,
    slow, sorted_keys, val,
};

const KEYS: u64 = 6;

/// Weights below every target but zero, and one above every target but none.
const HEAVY: u64 = 40;
const TARGETS: [u64; 4] = [6, 10, 16, 25];

/// Longer than any key or old copy waits to be tried again.
const A_WHILE: Duration = Duration::from_secs(11);

type Storage = Arc<dyn MutableMapping<u64, Val>>;

#[derive(Clone, Debug)]
struct Setup {
    target: u64,
    /// Whether the buffer stands over another one, instead of over storage itself.
    chain: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Get(u64),
    Peek(u64),
    GetAll(u64, u64),
    Insert(u64, u64),
    InsertQuietly(u64, u64),
    Remove(u64),
    Take(u64),
    Update(u64, u64),
    Upsert(u64, u64),
    /// The loader of a key that is absent gives a value of this weight, or fails.
    Load(u64, Option<u64>),
    Evict,
    EvictKey(u64),
    EvictUntilBelow(u64),
    SetTarget(u64),
    Flush,
    Clear,
    Advance(u64),
    /// From now on, every n-th of these calls of storage goes wrong.
    Fail(Wrong, Vec<Operation>, u64),
    Heal,
}

#[derive(Clone, Copy, Debug)]
enum Wrong {
    Io,
    Full,
    Panic,
    /// The same, after the call took effect.
    IoAfter,
    FullAfter,
    PanicAfter,
}

impl Wrong {
    fn fault(self) -> Fault<Val> {
        match self {
            Wrong::Io => Fault::io(),
            Wrong::Full => Fault::full(),
            Wrong::Panic => Fault::panic("injected"),
            Wrong::IoAfter => Fault::io().after(),
            Wrong::FullAfter => Fault::full().after(),
            Wrong::PanicAfter => Fault::panic("injected").after(),
        }
    }
}

fn weight() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0..=5u64, 1 => Just(HEAVY)]
}

fn failure() -> impl Strategy<Value = Step> {
    let wrong = prop_oneof![
        Just(Wrong::Io),
        Just(Wrong::Full),
        Just(Wrong::Panic),
        Just(Wrong::IoAfter),
        Just(Wrong::FullAfter),
        Just(Wrong::PanicAfter),
    ];
    let fallible = vec![Operation::Get, Operation::Insert, Operation::Remove, Operation::Flush];
    let operations = prop::sample::subsequence(fallible, 1..=4);
    (wrong, operations, 1..=3u64).prop_map(|(wrong, operations, every)| Step::Fail(wrong, operations, every))
}

/// Random calls. What they must answer is known only when they were made, since storage may fail: the model
/// lives beside the buffer, in [`Machine`].
struct Calls;

impl ReferenceStateMachine for Calls {
    type State = Setup;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Setup> {
        let target = prop_oneof![1 => Just(0), 6 => prop::sample::select(&TARGETS[..]), 1 => Just(u64::MAX)];
        target.prop_map(|target| Setup { target, chain: false }).boxed()
    }

    fn transitions(_: &Setup) -> BoxedStrategy<Step> {
        let key = || 0..KEYS;
        prop_oneof![
            12 => key().prop_map(Step::Get),
            3 => key().prop_map(Step::Peek),
            2 => (key(), key()).prop_map(|(a, b)| Step::GetAll(a, b)),
            16 => (key(), weight()).prop_map(|(key, weight)| Step::Insert(key, weight)),
            3 => (key(), weight()).prop_map(|(key, weight)| Step::InsertQuietly(key, weight)),
            5 => key().prop_map(Step::Remove),
            5 => key().prop_map(Step::Take),
            6 => (key(), weight()).prop_map(|(key, weight)| Step::Update(key, weight)),
            4 => (key(), weight()).prop_map(|(key, weight)| Step::Upsert(key, weight)),
            5 => (key(), prop::option::weighted(0.8, weight())).prop_map(|(key, load)| Step::Load(key, load)),
            8 => Just(Step::Evict),
            4 => key().prop_map(Step::EvictKey),
            2 => (0..20u64).prop_map(Step::EvictUntilBelow),
            2 => prop::sample::select(&TARGETS[..]).prop_map(Step::SetTarget),
            3 => Just(Step::Flush),
            1 => Just(Step::Clear),
            3 => (0..3000u64).prop_map(Step::Advance),
            6 => failure(),
            5 => Just(Step::Heal),
        ]
        .boxed()
    }

    fn apply(state: Setup, _: &Step) -> Setup {
        state
    }

    /// A value keeps being heavy or not: whether one that is already there is judged by the new target is
    /// nobody's promise.
    fn preconditions(state: &Setup, step: &Step) -> bool {
        TARGETS.contains(&state.target) || !matches!(step, Step::SetTarget(_))
    }
}

/// The same calls on a buffer over a buffer.
struct CallsOfAChain;

impl ReferenceStateMachine for CallsOfAChain {
    type State = Setup;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Setup> {
        Calls::init_state().prop_map(|setup| Setup { chain: true, ..setup }).boxed()
    }
    fn transitions(state: &Setup) -> BoxedStrategy<Step> {
        Calls::transitions(state)
    }
    fn apply(state: Setup, step: &Step) -> Setup {
        Calls::apply(state, step)
    }
    fn preconditions(state: &Setup, step: &Step) -> bool {
        Calls::preconditions(state, step)
    }
}

/// The buffer, its storage, and what they must hold.
struct Machine<F: FastMemory<u64, Val>> {
    buffer: Buffer<u64, Val, Storage, F>,
    lower: Option<Arc<Buffer<u64, Val, Arc<Slow>>>>,
    /// The mapping that is fast memory.
    stored: Option<Arc<Slow>>,
    storage: Arc<Slow>,
    clock: Arc<ManualClock>,
    values: BTreeMap<u64, Val>,
    /// Where each key is and in what order; `None` since storage first failed, until all has been written.
    order: Option<ModelLru>,
    target: u64,
    failing: bool,
    next_id: u64,
}

impl Machine<Ram> {
    fn new(setup: &Setup) -> Self {
        let clock = Arc::new(ManualClock::new());
        let storage = Arc::new(slow());
        let lower = setup.chain.then(|| {
            let lower = builder(12).clock(clock.clone()).over(Arc::clone(&storage));
            Arc::new(lower.unwrap())
        });
        let below: Storage = match &lower {
            Some(lower) => lower.clone(),
            None => storage.clone(),
        };
        let buffer = builder(setup.target).clock(clock.clone()).over(below).unwrap();
        Machine { lower, ..Machine::with(buffer, None, storage, clock, setup.target) }
    }
}

impl Machine<Stored<Arc<Slow>>> {
    fn stored(setup: &Setup) -> Self {
        let clock = Arc::new(ManualClock::new());
        let (fast, storage) = (Arc::new(even()), Arc::new(slow()));
        let below: Storage = storage.clone();
        let buffer = builder(setup.target).clock(clock.clone()).stored(Arc::clone(&fast), below).unwrap();
        Machine::with(buffer, Some(fast), storage, clock, setup.target)
    }
}

impl<F: FastMemory<u64, Val>> Machine<F> {
    fn with(
        buffer: Buffer<u64, Val, Storage, F>,
        stored: Option<Arc<Slow>>,
        storage: Arc<Slow>,
        clock: Arc<ManualClock>,
        target: u64,
    ) -> Self {
        quiet_injected_panics();
        Machine {
            buffer,
            lower: None,
            stored,
            storage,
            clock,
            values: BTreeMap::new(),
            order: Some(ModelLru::new(target)),
            target,
            failing: false,
            next_id: 0,
        }
    }

    fn fresh(&mut self, weight: u64) -> Val {
        self.next_id += 1;
        val(self.next_id, weight)
    }

    /// Does the same to the order, where it is known.
    fn order(&mut self, change: impl FnOnce(&mut ModelLru)) {
        self.order.as_mut().map(change);
    }

    /// What a call returned: an error only where storage fails, and then nothing changed.
    #[track_caller]
    fn ok<T>(&self, result: Result<T>) -> Option<T> {
        match result {
            Ok(answer) => Some(answer),
            Err(error) => {
                assert!(self.failing, "no reason to fail: {error}");
                None
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Get(key) => {
                if let Some(value) = self.ok(self.buffer.get(&key)) {
                    assert_eq!(value, self.values.get(&key).copied());
                    self.order(|order| order.get(key));
                }
            }
            Step::Peek(key) => {
                if let Some(value) = self.ok(self.buffer.peek(&key)) {
                    assert_eq!(value, self.values.get(&key).copied());
                }
            }
            Step::GetAll(a, b) => {
                if let Some(values) = self.ok(self.buffer.get_all_or_nothing(&[a, b])) {
                    let expected = self.values.get(&a).zip(self.values.get(&b));
                    assert_eq!(values, expected.map(|(a, b)| vec![*a, *b]));
                    if values.is_some() {
                        self.order(|order| {
                            order.get(a);
                            order.get(b);
                        });
                    }
                }
            }
            Step::Insert(key, weight) => {
                let value = self.fresh(weight);
                self.buffer.insert(key, value).unwrap();
                self.values.insert(key, value);
                self.order(|order| order.insert(key, weight));
            }
            Step::InsertQuietly(key, weight) => {
                let value = self.fresh(weight);
                self.buffer.insert_without_evicting(key, value).unwrap();
                self.values.insert(key, value);
                self.order(|order| order.insert_without_evicting(key, weight));
            }
            Step::Remove(key) => {
                assert_eq!(self.buffer.remove(&key).unwrap(), self.values.remove(&key).is_some());
                self.order(|order| order.remove(key));
            }
            Step::Take(key) => {
                if let Some(value) = self.ok(self.buffer.take(&key)) {
                    assert_eq!(value, self.values.remove(&key));
                    self.order(|order| order.remove(key));
                }
            }
            Step::Update(key, weight) => self.update(key, weight),
            Step::Upsert(key, weight) => self.upsert(key, weight),
            Step::Load(key, weight) => self.load(key, weight),
            Step::Evict => self.evict(),
            Step::EvictKey(key) => self.evict_key(key),
            Step::EvictUntilBelow(target) => {
                self.buffer.evict_until_below(target);
                self.order(|order| order.evict_until_below(target));
            }
            Step::SetTarget(target) => {
                self.buffer.set_target(target);
                self.target = target;
                self.order(|order| order.set_target(target));
            }
            Step::Flush => _ = self.ok(self.buffer.flush()),
            Step::Clear => {
                self.buffer.clear().unwrap();
                self.values.clear();
                self.order = self.order.is_some().then(|| ModelLru::new(self.target));
            }
            Step::Advance(millis) => self.clock.advance(Duration::from_millis(millis)),
            Step::Fail(wrong, operations, every) => {
                // with fast memory in a mapping either fails, or both
                let (fast, slow) = [(true, true), (true, false), (false, true)][operations.len() % 3];
                let plan = Plan::every(every).on(operations);
                if slow || self.stored.is_none() {
                    self.storage.inject(plan.clone(), wrong.fault());
                }
                if let Some(stored) = self.stored.as_ref().filter(|_| fast) {
                    stored.inject(plan, wrong.fault());
                }
                self.failing = true;
                self.order = None;
            }
            Step::Heal => self.heal(),
        }
        self.check();
    }

    fn update(&mut self, key: u64, weight: u64) {
        let (new, runs) = (self.fresh(weight), Cell::new(0));
        let updated = self.buffer.update(&key, |value| {
            runs.set(runs.get() + 1);
            std::mem::replace(value, new)
        });
        let updated = self.ok(updated);
        assert_eq!(runs.get(), u32::from(updated.flatten().is_some()));
        if let Some(old) = updated {
            assert_eq!(old, self.values.get(&key).copied());
            if old.is_some() {
                self.values.insert(key, new);
                self.order(|order| order.insert(key, weight));
            }
        }
    }

    fn upsert(&mut self, key: u64, weight: u64) {
        let new = self.fresh(weight);
        let (old, makes) = (Cell::new(None), Cell::new(0));
        let make = || {
            makes.set(makes.get() + 1);
            new
        };
        let done = self.buffer.upsert(key, make, |value| old.set(Some(std::mem::replace(value, new))));
        if self.ok(done).is_some() {
            assert_eq!(old.get(), self.values.get(&key).copied());
            assert_eq!(makes.get(), u32::from(old.get().is_none()));
            self.values.insert(key, new);
            self.order(|order| order.insert(key, weight));
        } else {
            assert_eq!((old.get(), makes.get()), (None, 0));
        }
    }

    fn load(&mut self, key: u64, weight: Option<u64>) {
        let new = weight.map(|weight| self.fresh(weight));
        let loads = Cell::new(0);
        let load = || {
            loads.set(loads.get() + 1);
            new.ok_or_else(refusal)
        };
        let result = self.buffer.get_or_try_insert_with(key, load);
        let present = self.values.get(&key).copied();
        if present.is_none() {
            assert_eq!(loads.get(), 1);
            match (result, new) {
                (Ok(value), Some(new)) => {
                    assert_eq!(value, new);
                    self.values.insert(key, new);
                    self.order(|order| order.insert(key, new.weight));
                }
                (Err(error), None) => assert!(is_refusal(&error)),
                other => panic!("{other:?}"),
            }
        } else {
            assert_eq!(loads.get(), 0);
            if let Some(value) = self.ok(result) {
                assert_eq!(Some(value), present);
                self.order(|order| order.get(key));
            }
        }
    }

    fn evict(&mut self) {
        let fast = self.buffer.fast_keys();
        assert_eq!(self.buffer.fast(), !fast.is_empty());
        let moved = u64::try_from(self.buffer.evict()).ok();
        if let Some(order) = &mut self.order {
            assert_eq!(moved, order.evict().map(|(_, weight)| weight));
        }
        let left: Vec<u64> = fast.into_iter().filter(|key| !self.buffer.fast_keys().contains(key)).collect();
        if self.stored.is_some() && self.order.is_none() {
            return; // a stage that failed before may have gone to slow memory as well
        }
        match moved {
            Some(weight) => {
                assert_eq!(left.len(), 1, "one pair moved");
                assert_eq!(self.values[&left[0]].weight, weight);
            }
            None => {
                assert_eq!(left, [0; 0], "nothing moved");
                assert!(self.failing || !self.buffer.fast());
            }
        }
    }

    fn evict_key(&mut self, key: u64) {
        let was_fast = self.buffer.fast_keys().contains(&key);
        if let Some(moved) = self.ok(self.buffer.evict_key(&key)) {
            assert_eq!(moved, was_fast.then(|| self.values[&key].weight));
            if let Some(order) = self.order.take() {
                let fast = order.fast_keys().into_iter().filter(|fast| *fast != key);
                let slow = order.slow_keys().into_iter().chain(was_fast.then_some(key));
                self.order = Some(self.rebuilt(fast, slow));
            }
        }
    }

    /// The order with these keys in fast memory, least recently used first, and those in slow memory.
    fn rebuilt(&self, fast: impl Iterator<Item = u64>, slow: impl Iterator<Item = u64>) -> ModelLru {
        let mut order = ModelLru::new(self.target);
        for key in slow {
            order.insert_without_evicting(key, self.values[&key].weight);
            order.evict();
        }
        for key in fast {
            order.insert_without_evicting(key, self.values[&key].weight);
        }
        order
    }

    /// Storage works again: everything that was accepted is there, and all of it can be spilled.
    fn heal(&mut self) {
        self.storage.heal();
        self.stored.iter().for_each(|stored| stored.heal());
        self.failing = false;
        self.clock.advance(A_WHILE);
        for (key, value) in &self.values {
            assert_eq!(self.buffer.peek(key).unwrap(), Some(*value));
        }
        self.buffer.evict_until_below(0);
        assert!(!self.buffer.fast(), "all can be spilled");
        for (key, value) in &self.values {
            assert_eq!(self.buffer.peek(key).unwrap(), Some(*value));
        }
        self.order = Some(self.rebuilt([].into_iter(), self.values.keys().copied()));
    }

    /// What must hold after every call, whatever failed.
    fn check(&self) {
        let buffer = &self.buffer;
        assert_eq!(buffer.len(), self.values.len());
        assert_eq!(sorted_keys(buffer), self.values.keys().copied().collect::<Vec<_>>());
        for key in 0..KEYS {
            assert_eq!(buffer.contains_key(&key), self.values.contains_key(&key), "key {key}");
        }
        let fast = buffer.fast_keys();
        if let Some(order) = &self.order {
            let mut oldest_first = fast.clone();
            oldest_first.reverse();
            assert_eq!(oldest_first, order.fast_keys());
        }
        let fast_weight: u64 = fast.iter().map(|key| self.values[key].weight).sum();
        let (usage, stats) = (buffer.usage(), buffer.stats());
        assert_eq!((stats.fast_count, stats.fast_bytes), (fast.len() as u64, fast_weight));
        assert_eq!(stats.slow_count, (self.values.len() - fast.len()) as u64);
        assert_eq!(usage.count, self.values.len());
        let slow = self.values.iter().filter(|(key, _)| !fast.contains(key));
        let spilled = records(slow.map(|(_, value)| *value));
        match (&self.lower, &self.stored) {
            (Some(lower), _) => assert_eq!(usage.fast, fast_weight + lower.usage().fast),
            (None, None) => {
                assert_eq!((usage.fast, usage.spilled), (fast_weight, spilled));
                assert_eq!(stats.slow_bytes, spilled.memory);
            }
            (None, Some(_)) => {
                let stored = fast.iter().map(|key| even_record(self.values[key]));
                let stored = stored.fold(SpilledSize::default(), |a, b| a + b);
                let staged = SpilledSize { memory: usage.fast, disk: usage.fast };
                assert_eq!(usage.spilled + staged, spilled + stored);
                assert_eq!(stats.slow_bytes, spilled.memory);
                assert!(usage.fast == 0 || self.order.is_none(), "a stage stayed though nothing failed");
            }
        }
    }

    /// At last: nothing lost, and once all is removed nothing left over in storage.
    fn end(&mut self) {
        self.heal();
        self.buffer.clear().unwrap();
        self.values.clear();
        self.order = None;
        self.check();
        for _ in 0..2 * KEYS {
            self.clock.advance(A_WHILE);
            assert_eq!(self.buffer.evict(), -1, "there is nothing, but old copies are removed");
            self.lower.iter().for_each(|lower| assert!(lower.evict() <= 0));
        }
        assert_eq!(sorted_keys(&*self.storage), [0; 0]);
        self.stored.iter().for_each(|stored| assert_eq!(sorted_keys(&**stored), [0; 0]));
        assert_eq!(self.buffer.usage(), Default::default());
        assert_eq!(self.buffer.stats().deferred, 0);
    }
}

macro_rules! machine {
    ($test:ident, $calls:ident, $machine:ty, $make:expr) => {
        struct $test;

        impl StateMachineTest for $test {
            type SystemUnderTest = $machine;
            type Reference = $calls;

            fn init_test(setup: &Setup) -> $machine {
                $make(setup)
            }
            fn apply(mut machine: $machine, _: &Setup, step: Step) -> $machine {
                machine.step(step);
                machine
            }
            fn teardown(mut machine: $machine, _: Setup) {
                machine.end();
            }
        }
    };
}
machine!(OverStorage, Calls, Machine<Ram>, Machine::new);
machine!(OverABuffer, CallsOfAChain, Machine<Ram>, Machine::new);
machine!(StoredOverStorage, Calls, Machine<Stored<Arc<Slow>>>, Machine::stored);

fn config() -> Config {
    let times = long_run(20);
    Config {
        cases: 256 * u32::try_from(times).unwrap(),
        // An ordinary run is the same each time; a long one explores.
        rng_seed: if times == 1 { RngSeed::Fixed(0x0EE5) } else { RngSeed::Random },
        failure_persistence: None,
        ..Config::default()
    }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn a_buffer_agrees_with_its_model(sequential 1..80 => OverStorage);

    #[test]
    fn a_buffer_over_a_buffer_agrees_with_its_model(sequential 1..80 => OverABuffer);

    #[test]
    fn a_buffer_with_stored_fast_memory_agrees_with_its_model(sequential 1..80 => StoredOverStorage);
}
