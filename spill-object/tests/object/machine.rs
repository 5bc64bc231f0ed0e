//! Any sequence of calls over a store that fails at random, held against a map.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use spill_core::{AsyncMutableMapping, Error};
use spill_object::{Objects, object_store};
use tokio::runtime::{Builder, Runtime};

use crate::support::{Op, Strike, Unreliable, answer, config, objects, value};

#[derive(Clone, Debug)]
enum Call {
    Insert(u64, usize),
    InsertMany(Vec<(u64, usize)>),
    Get(u64),
    GetMany(Vec<u64>),
    Remove(u64),
    Take(u64),
    Flush,
    /// Time passes: packs get old, leases are renewed, failed uploads are tried again.
    Wait(u64),
    /// From now on this many of a hundred requests fail, drawn from this seed.
    Fail(u64, u64),
    Heal,
}

/// What is in it is known by the implementation's answers, so the reference only makes calls.
#[derive(Clone, Debug)]
struct Calls;

impl ReferenceStateMachine for Calls {
    type State = ();
    type Transition = Call;

    fn init_state() -> BoxedStrategy<()> {
        Just(()).boxed()
    }

    fn transitions((): &()) -> BoxedStrategy<Call> {
        let key = 0..30_u64;
        let len = prop_oneof![4 => 0..900_usize, 1 => 2000..4000_usize];
        prop_oneof![
            12 => (key.clone(), len.clone()).prop_map(|(key, len)| Call::Insert(key, len)),
            2 => prop::collection::vec((key.clone(), len), 0..12).prop_map(Call::InsertMany),
            6 => key.clone().prop_map(Call::Get),
            2 => prop::collection::vec(key.clone(), 0..20).prop_map(Call::GetMany),
            4 => key.clone().prop_map(Call::Remove),
            3 => key.prop_map(Call::Take),
            2 => Just(Call::Flush),
            1 => prop_oneof![1..20_u64, Just(400)].prop_map(Call::Wait),
            2 => (1..80_u64, any::<u64>()).prop_map(|(share, seed)| Call::Fail(share, seed)),
            1 => Just(Call::Heal),
        ]
        .boxed()
    }

    fn apply((): (), _call: &Call) {}
}

struct Machine {
    runtime: Runtime,
    store: Arc<Unreliable>,
    objects: Option<Objects<u64>>,
    /// For each key the number and length of its value.
    model: HashMap<u64, (u64, usize)>,
    next: u64,
}

fn drawn(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn fail(store: &Unreliable, share: u64, seed: u64) {
    let slow_down: fn() -> object_store::Error = || answer("503 Service Unavailable", "SlowDown");
    let forbidden: fn() -> object_store::Error = || answer("403 Forbidden", "AccessDenied");
    let strikes = [
        Strike::Before(slow_down),
        Strike::After(slow_down),
        Strike::Hang,
        Strike::HangAfter,
        Strike::Before(forbidden),
        Strike::After(forbidden),
        Strike::Truncate(100),
        Strike::Stall(100),
    ];
    let mut state = seed;
    store.plan(move |op, _| {
        let strike = strikes[(drawn(&mut state) % strikes.len() as u64) as usize];
        let fits = op == Op::Get || !matches!(strike, Strike::Truncate(_) | Strike::Stall(_));
        (fits && drawn(&mut state) % 100 < share).then_some(strike)
    });
}

impl Machine {
    fn expected(&self, key: u64) -> Option<spill_core::Frames> {
        self.model.get(&key).map(|(number, len)| value(*number, *len))
    }

    /// What a read answered: the right value, or an error that says what failed.
    fn check(&self, key: u64, found: Result<Option<spill_core::Frames>, Error>) -> bool {
        match found {
            Ok(found) => {
                assert_eq!(found, self.expected(key), "key {key}");
                true
            }
            Err(error) => {
                assert!(self.model.contains_key(&key), "an absent key needs no storage: {error}");
                false
            }
        }
    }

    fn call(&mut self, call: Call) {
        let objects = self.objects.take().unwrap();
        match call {
            Call::Insert(key, len) => {
                self.next += 1;
                if self.runtime.block_on(objects.insert(key, value(self.next, len))).is_ok() {
                    self.model.insert(key, (self.next, len));
                }
            }
            Call::InsertMany(pairs) => {
                let first = self.next + 1;
                self.next += pairs.len() as u64;
                let numbered: Vec<_> = (first..).zip(&pairs).map(|(n, (key, len))| (*key, n, *len)).collect();
                let batch = numbered.iter().map(|(key, n, len)| (*key, value(*n, *len))).collect();
                let results = self.runtime.block_on(objects.insert_many(batch));
                assert_eq!(results.len(), numbered.len());
                for ((key, n, len), result) in numbered.into_iter().zip(results) {
                    if result.is_ok() {
                        self.model.insert(key, (n, len));
                    }
                }
            }
            Call::Get(key) => {
                let found = self.runtime.block_on(objects.get(&key));
                self.check(key, found);
            }
            Call::GetMany(keys) => {
                let found = self.runtime.block_on(objects.get_many(&keys));
                assert_eq!(found.len(), keys.len());
                keys.into_iter().zip(found).for_each(|(key, found)| _ = self.check(key, found));
            }
            Call::Remove(key) => {
                let removed = self.runtime.block_on(objects.remove(&key)).unwrap();
                assert_eq!(removed, self.model.remove(&key).is_some());
            }
            Call::Take(key) => {
                let taken = self.runtime.block_on(objects.take(&key));
                if self.check(key, taken) {
                    self.model.remove(&key);
                }
            }
            Call::Flush => _ = self.runtime.block_on(objects.flush()),
            Call::Wait(seconds) => {
                let wait = async { tokio::time::sleep(Duration::from_secs(seconds)).await };
                self.runtime.block_on(wait);
            }
            Call::Fail(share, seed) => fail(&self.store, share, seed),
            Call::Heal => self.store.heal(),
        }
        self.objects = Some(objects);
    }
}

impl StateMachineTest for Machine {
    type SystemUnderTest = Machine;
    type Reference = Calls;

    fn init_test((): &()) -> Machine {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let store = Arc::new(Unreliable::default());
        let objects = runtime.block_on(async {
            objects(config(&store).pack_bytes(3000).large_bytes(1500).stage_bytes(6000).requests(3))
        });
        Machine { runtime, store, objects: Some(objects), model: HashMap::new(), next: 0 }
    }

    fn apply(mut machine: Machine, (): &(), call: Call) -> Machine {
        machine.call(call);
        machine
    }

    fn check_invariants(machine: &Machine, (): &()) {
        let objects = machine.objects.as_ref().unwrap();
        let usage = objects.usage();
        assert_eq!(usage.count, machine.model.len());
        let weight: usize = machine.model.values().map(|(_, len)| len).sum();
        assert_eq!(usage.spilled.memory, weight as u64);
        assert!(machine.model.keys().all(|key| objects.contains_key(key)));
        assert!(usage.staged <= 6000 + 3000 + 2 * 4200, "{usage:?}");
    }

    fn teardown(mut machine: Machine, (): ()) {
        machine.store.heal();
        let objects = machine.objects.take().unwrap();
        let mut keys: Vec<u64> = Vec::new();
        objects.for_each_key(&mut |key| keys.push(*key));
        keys.sort_unstable();
        let mut known: Vec<u64> = machine.model.keys().copied().collect();
        known.sort_unstable();
        assert_eq!(keys, known);
        for key in keys {
            let found = machine.runtime.block_on(objects.get(&key));
            assert!(machine.check(key, found), "all is there once the store works");
        }
        machine.runtime.block_on(async {
            // tries that hung before may still be on their way to failing
            while objects.flush().await.is_err() {}
            tokio::time::sleep(Duration::from_secs(400)).await;
            objects.settle().await;
            let stored: u64 = machine
                .store
                .contents()
                .await
                .iter()
                .map(|(path, size)| if path.ends_with("lease") { 0 } else { *size })
                .sum();
            assert_eq!(stored, objects.usage().physical, "neither lost nor doubled");
            objects.close().await.unwrap();
            assert_eq!(machine.store.contents().await, []);
        });
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::with_cases(
        if std::env::var_os("OVERSPILL_TEST_LONG").is_some() { 20_000 } else { 400 }
    ) })]

    #[test]
    fn no_value_is_lost_or_doubled_over_a_store_that_fails_at_random(sequential 1..80 => Machine);
}
