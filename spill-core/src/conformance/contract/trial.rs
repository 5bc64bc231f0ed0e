//! One mapping under trial: calls that must succeed, and what to say when a promise is broken.

use std::any::Any;
use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::conformance::Samples;
use crate::{Key, MutableMapping, Result, Value};

/// A mapping to be checked, with the samples to check it with. Every promise takes one; keys and values are
/// spoken of by their numbers.
pub struct Trial<'a, K, V> {
    mapping: &'a dyn MutableMapping<K, V>,
    samples: &'a dyn Samples<K, V>,
    backend: &'static str,
    promise: &'static str,
    patience: Duration,
}

impl<K, V> Clone for Trial<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for Trial<'_, K, V> {}

impl<'a, K: Key, V: Value> Trial<'a, K, V> {
    /// A trial of `mapping`, which must be empty.
    pub fn new<M: MutableMapping<K, V>>(mapping: &'a M, samples: &'a impl Samples<K, V>) -> Self {
        Trial {
            mapping,
            samples,
            backend: std::any::type_name::<M>(),
            promise: "",
            patience: Duration::from_secs(60),
        }
    }

    /// How long a call may take before it counts as a deadlock, in the one promise that provokes one, and how long what
    /// threads of the mapping have under way may take; 60 seconds unless said otherwise. A mapping that keeps its promises
    /// never waits for it.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The same trial, speaking of this promise.
    pub(super) fn of(&self, promise: &'static str) -> Self {
        Trial { promise, ..*self }
    }

    pub(super) fn mapping(&self) -> &'a dyn MutableMapping<K, V> {
        self.mapping
    }

    pub(super) fn samples(&self) -> &'a dyn Samples<K, V> {
        self.samples
    }

    pub(super) fn time_limit(&self) -> Duration {
        self.patience
    }

    /// Fails the test.
    #[track_caller]
    pub(super) fn broken(&self, what: impl Display) -> ! {
        panic!("{} breaks {}: {what}", self.backend, self.promise)
    }

    #[track_caller]
    pub(super) fn check(&self, kept: bool, what: impl Display) {
        if !kept {
            self.broken(what);
        }
    }

    #[track_caller]
    pub(super) fn equal<T: PartialEq + Debug>(&self, found: &T, expected: &T, what: impl Display) {
        if found != expected {
            self.broken(format_args!("{what}: expected {expected:?}, found {found:?}"));
        }
    }

    /// What a call that has no reason to fail returned.
    #[track_caller]
    pub(super) fn ok<T>(&self, result: Result<T>, what: impl Display) -> T {
        result.unwrap_or_else(|error| self.broken(format_args!("{what} failed: {error}")))
    }

    pub(super) fn key(&self, n: u64) -> K {
        self.samples.key(n)
    }

    /// The number of a value that came back, which must be whole.
    #[track_caller]
    pub(super) fn number(&self, value: Option<V>, what: impl Display) -> Option<u64> {
        value.map(|value| {
            self.samples
                .number(&value)
                .unwrap_or_else(|| self.broken(format_args!("{what} gave a damaged value")))
        })
    }

    #[track_caller]
    pub(super) fn insert(&self, key: u64, value: u64) {
        let result = self.mapping.insert(self.key(key), self.samples.value(value));
        self.ok(result, format_args!("insert of value {value} for key {key}"));
    }

    /// Gives the keys `0..count` values of the same numbers.
    #[track_caller]
    pub(super) fn fill(&self, count: u64) {
        for n in 0..count {
            self.insert(n, n);
        }
    }

    #[track_caller]
    pub(super) fn get(&self, key: u64) -> Option<u64> {
        let what = format!("get of key {key}");
        let value = self.ok(self.mapping.get(&self.key(key)), &what);
        self.number(value, what)
    }

    #[track_caller]
    pub(super) fn peek(&self, key: u64) -> Option<u64> {
        let what = format!("peek at key {key}");
        let value = self.ok(self.mapping.peek(&self.key(key)), &what);
        self.number(value, what)
    }

    #[track_caller]
    pub(super) fn take(&self, key: u64) -> Option<u64> {
        let what = format!("take of key {key}");
        let value = self.ok(self.mapping.take(&self.key(key)), &what);
        self.number(value, what)
    }

    #[track_caller]
    pub(super) fn remove(&self, key: u64) -> bool {
        self.ok(self.mapping.remove(&self.key(key)), format_args!("remove of key {key}"))
    }

    pub(super) fn contains(&self, key: u64) -> bool {
        self.mapping.contains_key(&self.key(key))
    }

    #[track_caller]
    pub(super) fn gives(&self, key: u64, value: u64, when: &str) {
        self.equal(&self.get(key), &Some(value), format_args!("get of key {key} {when}"));
    }

    /// Holds every reading of presence against `present`, the only keys there may be.
    #[track_caller]
    pub(super) fn holds(&self, present: &[u64], when: &str) {
        self.equal(&self.mapping.len(), &present.len(), format_args!("len {when}"));
        self.equal(&self.keys(), &present.to_vec(), format_args!("keys {when}"));
        for key in present {
            self.check(self.contains(*key), format_args!("contains_key denies key {key} {when}"));
        }
    }

    /// The numbers of the keys that `for_each_key` gives, in ascending order, as often as it gives them.
    #[track_caller]
    pub(super) fn keys(&self) -> Vec<u64> {
        self.keys_while(&mut |_| ())
    }

    /// As [`keys`](Self::keys), with `f` called in the midst of the walk with each key's number.
    #[track_caller]
    pub(super) fn keys_while(&self, f: &mut dyn FnMut(u64)) -> Vec<u64> {
        let numbers: HashMap<K, u64> = (0..KEYS).map(|n| (self.key(n), n)).collect();
        let mut seen = Vec::new();
        self.mapping.for_each_key(&mut |key| {
            // A key that nobody inserted shows as a number that no promise uses.
            let n = numbers.get(key).copied().unwrap_or(u64::MAX);
            seen.push(n);
            f(n);
        });
        seen.sort_unstable();
        seen
    }

    /// Runs `jobs` at once, each on a thread of its own, and passes on the first panic. They start together.
    pub(super) fn together(&self, jobs: &[&(dyn Fn() + Sync)]) {
        let start = Barrier::new(jobs.len());
        let panic = thread::scope(|scope| {
            let threads: Vec<_> = jobs
                .iter()
                .map(|job| {
                    scope.spawn(|| {
                        start.wait();
                        job();
                    })
                })
                .collect();
            // All are joined: a panic that nobody asks for would hide the first one's message.
            let panics: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().err()).collect();
            panics.into_iter().next()
        });
        if let Some(panic) = panic {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Every promise keeps its keys' numbers below this one.
pub(super) const KEYS: u64 = 1000;

/// The message of a caught panic.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
