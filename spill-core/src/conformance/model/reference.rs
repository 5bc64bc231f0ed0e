//! A plain map beside the mapping.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::Op;
use crate::conformance::Samples;
use crate::{Key, MutableMapping, Result, Value};

/// An answer that the model does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch(String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

/// A plain map beside the mapping: makes a call on the mapping and compares the answer.
///
/// A call that fails with an error must have changed nothing, now or later. With
/// [`indeterminate`](Reference::indeterminate), a failed write may have been applied: the next answer about
/// its key tells, and is binding from then on. `clear` that fails may have removed any key.
pub struct Reference<'a, K, V> {
    samples: &'a dyn Samples<K, V>,
    numbers: HashMap<K, u64>,
    /// What each key may hold: one possibility, or several after a failed write. A key that was never
    /// written is not listed.
    may_hold: BTreeMap<u64, Vec<Option<u64>>>,
    indeterminate: bool,
    steps: usize,
    errors: usize,
}

const ABSENT: &[Option<u64>] = &[None];

impl<'a, K: Key, V: Value> Reference<'a, K, V> {
    /// An empty map.
    #[must_use]
    pub fn new(samples: &'a dyn Samples<K, V>) -> Self {
        Reference {
            samples,
            numbers: HashMap::new(),
            may_hold: BTreeMap::new(),
            indeterminate: false,
            steps: 0,
            errors: 0,
        }
    }

    /// Allows that a failed write was applied, as storage behind a network cannot rule out.
    #[must_use]
    pub fn indeterminate(mut self) -> Self {
        self.indeterminate = true;
        self
    }

    /// How many calls of the mapping failed. A test that injects faults asks, so as not to pass by missing.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// Makes one call on `mapping` and compares its answer.
    ///
    /// # Errors
    /// When the answer is not among those that the model allows.
    pub fn step(&mut self, op: &Op, mapping: &dyn MutableMapping<K, V>) -> Result<(), Mismatch> {
        self.steps += 1;
        self.answer(op, mapping).map_err(|what| Mismatch(format!("call {}, {op:?}: {what}", self.steps)))
    }

    /// Compares everything that `mapping` holds, reading by `peek`. Every read must succeed, so heal first
    /// what was made to fail.
    ///
    /// # Errors
    /// When something is lost, stale, damaged or left over.
    pub fn agrees(&mut self, mapping: &dyn MutableMapping<K, V>) -> Result<(), Mismatch> {
        let at_last = |what| Mismatch(format!("after {} calls: {what}", self.steps));
        let keys: Vec<u64> = self.may_hold.keys().copied().collect();
        let mut held = Vec::new();
        for key in keys {
            let value = match mapping.peek(&self.samples.key(key)) {
                Ok(value) => self.number(value).map_err(at_last)?,
                Err(error) => return Err(at_last(format!("peek at key {key} failed: {error}"))),
            };
            held.push((key, value));
        }
        for (key, value) in held {
            self.saw(key, value).map_err(|what| Mismatch(format!("after {} calls: {what}", self.steps)))?;
        }
        self.step(&Op::Keys, mapping)?;
        self.step(&Op::Len, mapping)
    }

    fn answer(&mut self, op: &Op, mapping: &dyn MutableMapping<K, V>) -> Result<(), String> {
        match op {
            Op::Get(key) => {
                let result = mapping.get(&self.key(*key));
                self.read(*key, result)
            }
            Op::Peek(key) => {
                let result = mapping.peek(&self.key(*key));
                self.read(*key, result)
            }
            Op::Insert(key, value) => {
                let result = mapping.insert(self.key(*key), self.samples.value(*value));
                self.inserted(*key, *value, result);
                Ok(())
            }
            Op::Remove(key) => {
                let result = mapping.remove(&self.key(*key));
                self.removed(*key, result)
            }
            Op::Take(key) => {
                let result = mapping.take(&self.key(*key));
                if result.is_err() {
                    self.failed(*key, None);
                    return Ok(());
                }
                self.read(*key, result)?;
                self.set(*key, None);
                Ok(())
            }
            Op::ContainsKey(key) => {
                let present = mapping.contains_key(&self.key(*key));
                self.presence(*key, present)
            }
            Op::Len => {
                let sure = self.count(|held| held.iter().all(Option::is_some));
                let most = self.count(|held| held.iter().any(Option::is_some));
                let (len, count) = (mapping.len(), mapping.usage().count);
                if (sure..=most).contains(&len) && len == count {
                    Ok(())
                } else {
                    Err(format!("len {len}, count {count}, expected {sure} to {most}"))
                }
            }
            Op::Keys => self.walk(mapping),
            Op::GetMany(keys) => {
                let results = mapping.get_many(&self.keys(keys));
                one_each(keys.len(), results.len())?;
                keys.iter().zip(results).try_for_each(|(key, result)| self.read(*key, result))
            }
            Op::InsertMany(pairs) => {
                let batch =
                    pairs.iter().map(|(key, value)| (self.key(*key), self.samples.value(*value))).collect();
                let results = mapping.insert_many(batch);
                one_each(pairs.len(), results.len())?;
                for ((key, value), result) in pairs.iter().zip(results) {
                    self.inserted(*key, *value, result);
                }
                Ok(())
            }
            Op::RemoveMany(keys) => {
                let results = mapping.remove_many(&self.keys(keys));
                one_each(keys.len(), results.len())?;
                keys.iter().zip(results).try_for_each(|(key, result)| self.removed(*key, result))
            }
            Op::Clear => {
                match mapping.clear() {
                    Ok(()) => self.may_hold.clear(),
                    Err(_) => {
                        self.errors += 1;
                        for held in self.may_hold.values_mut().filter(|held| !held.contains(&None)) {
                            held.push(None);
                        }
                    }
                }
                Ok(())
            }
            Op::Flush => {
                self.errors += usize::from(mapping.flush().is_err());
                Ok(())
            }
        }
    }

    fn walk(&mut self, mapping: &dyn MutableMapping<K, V>) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let mut wrong = None;
        mapping.for_each_key(&mut |key| match self.numbers.get(key) {
            None => wrong = Some("a walk gave a key that was never named".to_owned()),
            Some(number) => {
                if !seen.insert(*number) {
                    wrong = Some(format!("a walk gave key {number} twice"));
                }
            }
        });
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        let known: BTreeSet<u64> = self.may_hold.keys().copied().chain(seen.iter().copied()).collect();
        known.iter().try_for_each(|key| self.presence(*key, seen.contains(key)))
    }

    fn key(&mut self, number: u64) -> K {
        let key = self.samples.key(number);
        self.numbers.insert(key.clone(), number);
        key
    }

    fn keys(&mut self, numbers: &[u64]) -> Vec<K> {
        numbers.iter().map(|number| self.key(*number)).collect()
    }

    fn number(&self, value: Option<V>) -> Result<Option<u64>, String> {
        value.map(|value| self.samples.number(&value).ok_or_else(|| "a damaged value".to_owned())).transpose()
    }

    fn held(&self, key: u64) -> &[Option<u64>] {
        self.may_hold.get(&key).map_or(ABSENT, Vec::as_slice)
    }

    fn count(&self, mut test: impl FnMut(&[Option<u64>]) -> bool) -> usize {
        self.may_hold.values().filter(|held| test(held)).count()
    }

    fn set(&mut self, key: u64, value: Option<u64>) {
        self.may_hold.insert(key, vec![value]);
    }

    /// The key was seen to hold this.
    fn saw(&mut self, key: u64, value: Option<u64>) -> Result<(), String> {
        let held = self.held(key);
        if !held.contains(&value) {
            return Err(format!("key {key} holds {value:?}, expected one of {held:?}"));
        }
        self.set(key, value);
        Ok(())
    }

    /// The key was seen to be there, or not.
    fn presence(&mut self, key: u64, present: bool) -> Result<(), String> {
        let held = self.held(key);
        let fits: Vec<_> = held.iter().copied().filter(|value| value.is_some() == present).collect();
        if fits.is_empty() {
            let present = if present { "present" } else { "absent" };
            return Err(format!("key {key} is {present}, expected one of {held:?}"));
        }
        self.may_hold.insert(key, fits);
        Ok(())
    }

    fn read(&mut self, key: u64, result: Result<Option<V>>) -> Result<(), String> {
        match result {
            Ok(value) => {
                let value = self.number(value)?;
                self.saw(key, value)
            }
            Err(_) => {
                self.errors += 1;
                Ok(())
            }
        }
    }

    fn inserted(&mut self, key: u64, value: u64, result: Result<()>) {
        match result {
            Ok(()) => self.set(key, Some(value)),
            Err(_) => self.failed(key, Some(value)),
        }
    }

    fn removed(&mut self, key: u64, result: Result<bool>) -> Result<(), String> {
        match result {
            Ok(present) => {
                self.presence(key, present)?;
                self.set(key, None);
            }
            Err(_) => self.failed(key, None),
        }
        Ok(())
    }

    /// A write failed that would have left this.
    fn failed(&mut self, key: u64, would_hold: Option<u64>) {
        self.errors += 1;
        if self.indeterminate && !self.held(key).contains(&would_hold) {
            let mut held = self.held(key).to_vec();
            held.push(would_hold);
            self.may_hold.insert(key, held);
        }
    }
}

fn one_each(asked: usize, answered: usize) -> Result<(), String> {
    if asked == answered { Ok(()) } else { Err(format!("{answered} results for {asked} keys")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::conformance::model::{ops, run};
    use crate::conformance::{Fault, Faulty, Memory, Operation, Plan, Ready};

    #[test]
    fn a_failed_write_that_was_applied_is_a_mismatch_unless_indeterminate() {
        let ops = ops(7, 400, 8);
        let faulty = || {
            let faulty = Faulty::new(Memory::<u64, u64>::new());
            faulty.inject(Plan::every(7).on(Operation::WRITES), Fault::<u64>::io().after());
            faulty
        };
        assert!(run(&ops, &faulty(), &Ready).is_err());

        let (faulty, mut reference) = (faulty(), Reference::new(&Ready).indeterminate());
        for op in &ops {
            reference.step(op, &faulty).unwrap();
        }
        faulty.heal();
        reference.agrees(&faulty).unwrap();
        assert!(reference.errors() > 10);
    }

    #[test]
    fn a_failed_write_that_was_not_applied_agrees() {
        let faulty = Faulty::new(Memory::<u64, u64>::new());
        let mut reference = Reference::new(&Ready);
        faulty.inject(Plan::every(3), Fault::error(Error::codec("test", "injected")));
        for op in ops(8, 400, 8) {
            reference.step(&op, &faulty).unwrap();
        }
        faulty.heal();
        reference.agrees(&faulty).unwrap();
        // A `clear` fails once, however many of its removals did.
        assert!((100..=faulty.struck()).contains(&(reference.errors() as u64)));
    }
}
