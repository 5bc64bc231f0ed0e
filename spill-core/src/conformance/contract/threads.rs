//! What holds between threads.
//!
//! Writers never wait for readers, so that each of these ends whatever the mapping does; a broken mapping is
//! found out by what a thread sees, not by how long it takes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

use super::Trial;
use crate::{Key, Value};

const THREADS: usize = 4;
const ROUNDS: u64 = 100;

/// Of many threads that take one key at once, exactly one gets the value.
pub fn take_is_atomic<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("take_is_atomic");
    for round in 0..ROUNDS {
        t.insert(1, round);
        let taken = Mutex::new(Vec::new());
        let take = || {
            if let Some(value) = t.take(1) {
                push(&taken, value);
            }
        };
        t.together(&[&take as &(dyn Fn() + Sync); THREADS]);
        t.equal(&sorted(taken), &vec![round], "values that simultaneous takes of one key got");
        t.holds(&[], "after it was taken");
    }
}

/// Of many threads that remove one key at once, exactly one is told that it was present.
pub fn remove_is_atomic<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("remove_is_atomic");
    for round in 0..ROUNDS {
        t.insert(1, round);
        let removed = AtomicUsize::new(0);
        let remove = || {
            removed.fetch_add(usize::from(t.remove(1)), SeqCst);
        };
        t.together(&[&remove as &(dyn Fn() + Sync); THREADS]);
        t.equal(&removed.into_inner(), &1, "simultaneous removes of one key that found it");
        t.holds(&[], "after it was removed");
    }
}

/// While two threads insert and two take, every value is given to exactly one taker, whole.
pub fn every_value_is_taken_once<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    const VALUES: u64 = 300;
    let t = trial.of("every_value_is_taken_once");
    let inserting = AtomicUsize::new(2);
    let taken = Mutex::new(Vec::new());
    let insert = |keys: std::ops::Range<u64>| {
        let _ends = Ends(&inserting);
        keys.for_each(|key| t.insert(key, key));
    };
    let take = || {
        loop {
            // Asked first: when the last pass began, everything was there.
            let last = inserting.load(SeqCst) == 0;
            for key in 0..VALUES {
                if let Some(value) = t.take(key) {
                    t.equal(&value, &key, format_args!("value taken for key {key}"));
                    push(&taken, value);
                }
            }
            if last {
                break;
            }
        }
    };
    t.together(&[&|| insert(0..VALUES / 2), &|| insert(VALUES / 2..VALUES), &take, &take]);
    t.equal(&sorted(taken), &(0..VALUES).collect(), "values taken");
    t.holds(&[], "after every value was taken");
}

/// Simultaneous inserts of one key leave one of their values, whole, and one key.
pub fn simultaneous_inserts_leave_one_of_them<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("simultaneous_inserts_leave_one_of_them");
    for round in 0..ROUNDS {
        let insert = |value: u64| move || t.insert(1, 4 * round + value);
        t.together(&[&insert(0), &insert(1), &insert(2), &insert(3)]);
        let value = t.get(1);
        t.check(
            value.is_some_and(|value| value / 4 == round),
            format_args!("round {round} of four inserts left {value:?}"),
        );
        t.holds(&[1], "after simultaneous inserts of one key");
        if round % 2 == 1 {
            t.check(t.remove(1), "remove after simultaneous inserts does not find the key");
            t.holds(&[], "after the one key was removed");
        }
    }
}

/// The keys of the next two promises. There are fewer than threads, so that they meet.
const FEW: u64 = 2;
/// Numbers of one key's versions; the key's number is above them.
const VERSIONS: u64 = 1000;

/// After an `insert` returned, no thread sees an older value: each key has one writer, who inserts versions
/// in order and reads its own writes, and many readers, who never see a version older than one that was
/// published before they asked or that they have seen already.
pub fn readers_see_no_older_version<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("readers_see_no_older_version");
    let published = [AtomicU64::new(0), AtomicU64::new(0)];
    for key in 0..FEW {
        t.insert(key, key * VERSIONS);
    }
    let writing = AtomicUsize::new(published.len());
    let write = |key: u64, published: &AtomicU64| {
        let _ends = Ends(&writing);
        for version in 1..2 * ROUNDS {
            t.insert(key, key * VERSIONS + version);
            published.store(version, SeqCst);
            t.gives(key, key * VERSIONS + version, "read by its only writer");
            if version % 16 == 0 {
                t.ok(t.mapping().flush(), "flush");
            }
        }
    };
    let read = |ask: &dyn Fn(u64) -> Option<u64>| {
        let mut seen = [0, 0];
        while writing.load(SeqCst) > 0 {
            for (key, (seen, published)) in (0..).zip(seen.iter_mut().zip(&published)) {
                let floor = published.load(SeqCst).max(*seen);
                match ask(key) {
                    None => t.broken(format_args!("key {key} is absent, though it was never removed")),
                    Some(value) => {
                        t.equal(&(value / VERSIONS), &key, format_args!("key whose value key {key} gave"));
                        let version = value % VERSIONS;
                        t.check(
                            version >= floor,
                            format_args!("key {key} gave version {version} after version {floor}"),
                        );
                        *seen = version;
                    }
                }
            }
        }
    };
    let [first, second] = &published;
    t.together(&[&|| write(0, first), &|| write(1, second), &|| read(&|key| t.get(key)), &|| {
        read(&|key| t.peek(key))
    }]);
    for key in 0..FEW {
        t.gives(key, key * VERSIONS + 2 * ROUNDS - 1, "after its writer ended");
    }
    t.holds(&[0, 1], "after the writers ended");
}

/// What is removed stays removed, though others read it at that moment: each key has one writer, who inserts,
/// removes and takes, and after each finds what it did; readers see nothing that was removed before they
/// asked.
pub fn removed_stays_removed<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("removed_stays_removed");
    let gone = [AtomicU64::new(0), AtomicU64::new(0)];
    let writing = AtomicUsize::new(gone.len());
    let write = |key: u64, gone: &AtomicU64| {
        let _ends = Ends(&writing);
        for version in 1..2 * ROUNDS {
            let value = key * VERSIONS + version;
            t.insert(key, value);
            if version % 3 == 0 {
                t.equal(&t.take(key), &Some(value), format_args!("take of key {key} by its only writer"));
            } else {
                t.check(t.remove(key), format_args!("the only writer's remove does not find key {key}"));
            }
            gone.store(version, SeqCst);
            t.equal(&t.get(key), &None, format_args!("get of removed key {key} by its only writer"));
            t.check(!t.contains(key), format_args!("contains_key says that removed key {key} is there"));
        }
    };
    let read = || {
        while writing.load(SeqCst) > 0 {
            for (key, gone) in (0..).zip(&gone) {
                let floor = gone.load(SeqCst);
                if let Some(value) = t.get(key) {
                    t.equal(&(value / VERSIONS), &key, format_args!("key whose value key {key} gave"));
                    let version = value % VERSIONS;
                    t.check(
                        version > floor,
                        format_args!("key {key} gave version {version}, which was removed before"),
                    );
                }
            }
        }
    };
    let [first, second] = &gone;
    t.together(&[&|| write(0, first), &|| write(1, second), &read, &read]);
    t.holds(&[], "after the writers removed every key");
}

/// A walk gives the keys that stay, each once, while other keys come and go and values are read and replaced.
pub fn for_each_key_among_writers<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    const STAY: u64 = 40;
    let t = trial.of("for_each_key_among_writers");
    t.fill(STAY);
    let ended = AtomicBool::new(false);
    let churn = || {
        let mut n = 0;
        while !ended.load(SeqCst) {
            let (coming, staying) = (STAY + n % 40, n % STAY);
            t.insert(coming, coming);
            t.insert(staying, staying + 1);
            t.remove(coming);
            n += 1;
        }
    };
    let read = || {
        while !ended.load(SeqCst) {
            for key in 0..STAY {
                t.check(t.get(key).is_some(), format_args!("key {key} is absent, though it stays"));
            }
        }
    };
    let walk = || {
        let _ends = Sets(&ended);
        for _ in 0..ROUNDS {
            let seen = t.keys();
            let staying: Vec<u64> = seen.iter().copied().filter(|key| *key < STAY).collect();
            t.equal(&staying, &(0..STAY).collect(), "keys that stay, in a walk among writers");
            let twice = seen.windows(2).any(|pair| pair[0] == pair[1]);
            t.check(!twice, format_args!("a walk gave a key twice: {seen:?}"));
        }
    };
    t.together(&[&churn, &read, &walk]);
    t.holds(&(0..STAY).collect::<Vec<_>>(), "after the writers ended");
}

/// Counts one thread less when dropped, so that others end when it panics.
struct Ends<'a>(&'a AtomicUsize);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Says that the end has come when dropped.
struct Sets<'a>(&'a AtomicBool);

impl Drop for Sets<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

fn push(values: &Mutex<Vec<u64>>, value: u64) {
    values.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(value);
}

fn sorted(values: Mutex<Vec<u64>>) -> Vec<u64> {
    let mut values = values.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    values.sort_unstable();
    values
}
