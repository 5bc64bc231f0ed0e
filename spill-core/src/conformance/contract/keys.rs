//! What the calls about many keys do: walks, batches, clearing, and the figures.

use std::sync::mpsc;
use std::thread;

use super::Trial;
use crate::conformance::model;
use crate::{Clock, Key, SpilledSize, SystemClock, Value};

/// `for_each_key` gives each key present when it was called, once, whatever `f` inserts and removes.
pub fn for_each_key_is_a_snapshot<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("for_each_key_is_a_snapshot");
    t.equal(&t.keys(), &vec![], "keys of an empty mapping");
    t.fill(50);
    t.remove(7);
    t.insert(8, 100);
    let present: Vec<u64> = (0..50).filter(|n| *n != 7).collect();
    t.equal(&t.keys(), &present, "keys");
    let seen = t.keys_while(&mut |key| {
        t.insert(key, key + 1);
        // A walk that goes on to what is inserted must end nevertheless.
        if key < 50 {
            t.insert(key + 100, key);
        }
    });
    t.equal(&seen, &present, "keys of a walk whose closure inserts and overwrites");

    let mut present: Vec<u64> = present.iter().flat_map(|key| [*key, *key + 100]).collect();
    present.sort_unstable();
    t.holds(&present, "after a walk that inserted");
    let seen = t.keys_while(&mut |key| {
        t.check(t.remove(key), format_args!("key {key} of the snapshot was not there"));
    });
    t.equal(&seen, &present, "keys of a walk whose closure removes");
    t.holds(&[], "after a walk that removed every key");
}

/// `for_each_key` holds no lock while it calls `f`: both another thread and `f` itself may use the mapping
/// in any way, a second walk included.
pub fn for_each_key_runs_unlocked<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("for_each_key_runs_unlocked");
    t.fill(4);
    let everything = || {
        t.insert(4, 4);
        t.gives(4, 4, "during a walk");
        t.gives(0, 0, "during a walk");
        t.insert(4, 5);
        t.equal(&t.take(4), &Some(5), "take during a walk");
        t.insert(4, 4);
        t.check(t.remove(4), "remove during a walk says that the key was not there");
        t.holds(&[0, 1, 2, 3], "during a walk");
    };

    // From another thread first: if a lock is held it waits, and this thread lives to tell.
    let (send, receive) = mpsc::channel();
    let mut send = Some(send);
    let mut stuck = false;
    thread::scope(|scope| {
        let mut other = None;
        t.mapping().for_each_key(&mut |_| {
            if let Some(send) = send.take() {
                other = Some(scope.spawn(move || {
                    everything();
                    // Nobody listens any more once the patience has run out.
                    let _ = send.send(());
                }));
                stuck = receive.recv_timeout(t.time_limit()).is_err();
            }
        });
        if let Some(Err(panic)) = other.map(thread::ScopedJoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    });
    t.check(!stuck, "another thread's calls wait until for_each_key has ended");

    let seen = t.keys_while(&mut |_| everything());
    t.equal(&seen, &vec![0, 1, 2, 3], "keys of a walk whose closure uses the mapping");
}

/// The batch calls give one result for each key, in the order of the keys, and do what they say.
pub fn batch_results_in_order<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("batch_results_in_order");
    t.check(t.mapping().get_many(&[]).is_empty(), "get_many of no keys gives results");
    t.check(t.mapping().insert_many(Vec::new()).is_empty(), "insert_many of no pairs gives results");
    t.check(t.mapping().remove_many(&[]).is_empty(), "remove_many of no keys gives results");

    // More than any writer takes at once, and in no order.
    let order: Vec<u64> = (0..200).map(|n| n * 77 % 200).collect();
    let pairs = order.iter().map(|n| (t.key(*n), t.samples().value(*n))).collect();
    let results = t.mapping().insert_many(pairs);
    t.equal(&results.len(), &200, "results of insert_many for 200 pairs");
    for (key, result) in order.iter().zip(results) {
        t.ok(result, format_args!("insert_many for key {key}"));
    }
    t.holds(&(0..200).collect::<Vec<_>>(), "after insert_many");

    let asked: Vec<u64> = (0..250).rev().map(|n| n * 7 % 250).collect();
    let keys: Vec<K> = asked.iter().map(|n| t.key(*n)).collect();
    let results = t.mapping().get_many(&keys);
    t.equal(&results.len(), &250, "results of get_many for 250 keys");
    for (key, result) in asked.iter().zip(results) {
        let what = format!("get_many for key {key}");
        let value = t.ok(result, &what);
        let expected = (*key < 200).then_some(*key);
        t.equal(&t.number(value, &what), &expected, what);
    }

    let results = t.mapping().remove_many(&keys[..100]);
    t.equal(&results.len(), &100, "results of remove_many for 100 keys");
    for (key, result) in asked.iter().zip(results) {
        let present = t.ok(result, format_args!("remove_many for key {key}"));
        t.equal(&present, &(*key < 200), format_args!("remove_many for key {key}"));
    }
    let mut left: Vec<u64> = asked[100..].iter().copied().filter(|n| *n < 200).collect();
    left.sort_unstable();
    t.holds(&left, "after remove_many");
}

/// A batch does what its single calls do one after the other: of two values for one key the later one stays,
/// of two removals of one key the first one finds it, and a key asked for twice is given twice.
pub fn batches_are_calls_in_order<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("batches_are_calls_in_order");
    t.insert(1, 9);
    let pairs = [(1, 10), (2, 20), (1, 11), (2, 21), (1, 12)];
    let pairs = pairs.map(|(key, value)| (t.key(key), t.samples().value(value))).into();
    for result in t.mapping().insert_many(pairs) {
        t.ok(result, "insert_many with repeated keys");
    }
    t.gives(1, 12, "after insert_many gave it three values");
    t.gives(2, 21, "after insert_many gave it two values");
    t.holds(&[1, 2], "after insert_many with repeated keys");

    let keys = [t.key(2), t.key(1), t.key(2)];
    let results = t.mapping().get_many(&keys);
    let values: Vec<_> = results
        .into_iter()
        .map(|result| t.number(t.ok(result, "get_many with a repeated key"), "get_many with a repeated key"))
        .collect();
    t.equal(&values, &vec![Some(21), Some(12), Some(21)], "get_many with a repeated key");

    let results = t.mapping().remove_many(&keys);
    let present: Vec<_> =
        results.into_iter().map(|result| t.ok(result, "remove_many with a repeated key")).collect();
    t.equal(&present, &vec![true, true, false], "remove_many with a repeated key");
    t.holds(&[], "after remove_many with a repeated key");
}

/// `clear` removes every key, and the mapping works on as a new one.
pub fn clear_empties<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("clear_empties");
    t.ok(t.mapping().clear(), "clear of an empty mapping");
    for round in 0..3 {
        t.fill(60);
        t.get(30);
        t.ok(t.mapping().clear(), "clear");
        t.holds(&[], "after clear");
        for key in 0..60 {
            t.equal(&t.get(key), &None, format_args!("get of key {key} after clear"));
            t.check(!t.contains(key), format_args!("contains_key says that key {key} is there after clear"));
        }
        t.insert(5, round);
        t.gives(5, round, "inserted after clear");
        t.holds(&[5], "after clear and an insert");
    }
}

/// `usage` counts the keys, and no weight or record is left in it soon after none is present. Where stored records
/// are reported by key, those that `usage` counts as spilled are among them.
pub fn usage_counts<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("usage_counts");
    let counts = |when: &str| {
        t.equal(&t.mapping().usage().count, &t.mapping().len(), format_args!("usage's count {when}"));
    };
    let nothing = |when: &str| {
        counts(when);
        // what threads of the mapping had on their way when it was removed may be in RAM for a moment more
        let clock = SystemClock::new();
        let mut usage = t.mapping().usage();
        while (usage.fast, usage.spilled) != (0, SpilledSize::default()) && clock.now() < t.time_limit() {
            std::thread::yield_now();
            usage = t.mapping().usage();
        }
        t.equal(&usage.count, &0, format_args!("usage's count {when}"));
        t.equal(&usage.fast, &0, format_args!("usage's weight in fast memory {when}"));
        t.equal(&usage.spilled, &SpilledSize::default(), format_args!("usage's spilled sizes {when}"));
    };
    nothing("of an empty mapping");
    t.fill(60);
    counts("after inserts");
    for key in 0..60 {
        t.insert(key, key + 61);
        counts("after an overwrite");
    }
    t.ok(t.mapping().flush(), "flush");
    let spilled = t.mapping().usage().spilled;
    let stored = (0..60).filter_map(|key| t.mapping().stored_size(&t.key(key))).reduce(|a, b| a + b);
    if let Some(stored) = stored {
        t.check(
            spilled.memory <= stored.memory && spilled.disk <= stored.disk,
            format_args!("usage counts {spilled:?} as spilled, stored_size gives {stored:?} in all"),
        );
    }
    for key in 0..30 {
        t.get(key);
        t.remove(key);
        counts("after a remove");
    }
    for key in 30..60 {
        t.take(key);
        counts("after a take");
    }
    nothing("after every key was removed or taken");
    t.fill(60);
    t.ok(t.mapping().clear(), "clear");
    nothing("after clear");
}

/// `stored_size` gives nothing for a key that is not present any more.
pub fn stored_size_only_of_present<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("stored_size_only_of_present");
    let absent = |key: u64, when: &str| {
        let stored = t.mapping().stored_size(&t.key(key));
        t.equal(&stored, &None, format_args!("stored_size of key {key} {when}"));
    };
    absent(0, "in an empty mapping");
    t.fill(30);
    t.ok(t.mapping().flush(), "flush");
    absent(30, "that was never inserted");
    t.remove(1);
    absent(1, "after its remove");
    t.take(2);
    absent(2, "after its take");
    t.insert(1, 1);
    t.ok(t.mapping().flush(), "flush");
    t.gives(1, 1, "after it came back and a flush");
    t.remove(1);
    absent(1, "after its second remove");
    t.ok(t.mapping().clear(), "clear");
    (0..30).for_each(|key| absent(key, "after clear"));
}

/// Two thousand calls of every kind answer as a plain map would.
pub fn agrees_with_a_map<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("agrees_with_a_map");
    let ops = model::ops(0x5EED, 2000, 24);
    if let Err(mismatch) = model::run(&ops, t.mapping(), t.samples()) {
        t.broken(mismatch);
    }
}
