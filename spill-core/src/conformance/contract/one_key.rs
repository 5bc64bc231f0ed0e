//! What each call does to its key.

use super::Trial;
use crate::{Key, Value};

/// What is absent is answered with `None` or `false` by every call, in an empty mapping and beside other
/// keys, and asking does not make it present.
pub fn get_of_absent_is_none<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("get_of_absent_is_none");
    let absent = |key: u64, when: &str| {
        t.equal(&t.get(key), &None, format_args!("get of absent key {key} {when}"));
        t.equal(&t.peek(key), &None, format_args!("peek at absent key {key} {when}"));
        t.equal(&t.take(key), &None, format_args!("take of absent key {key} {when}"));
        t.check(!t.remove(key), format_args!("remove of absent key {key} {when} says it was there"));
        t.check(!t.contains(key), format_args!("contains_key says that absent key {key} is there {when}"));
        let stored = t.mapping().stored_size(&t.key(key));
        t.equal(&stored, &None, format_args!("stored_size of absent key {key} {when}"));
    };
    absent(0, "in an empty mapping");
    t.holds(&[], "of an empty mapping");
    t.insert(1, 1);
    absent(0, "beside another key");
    absent(2, "beside another key");
    t.holds(&[1], "after asking for absent keys");
    t.gives(1, 1, "after asking for absent keys");
}

/// After `insert` returned, `get` gives that value, and the next `insert` of the key replaces it, as often
/// as it is done.
pub fn insert_replaces<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("insert_replaces");
    for value in [5, 6, 6, 7, 5] {
        t.insert(1, value);
        t.gives(1, value, "after its insert");
        t.gives(1, value, "read a second time");
        t.holds(&[1], "after an insert of the same key");
    }
    t.insert(2, 8);
    t.gives(1, 5, "after an insert of another key");
    t.gives(2, 8, "after its insert");
    // Replaced without having been read in between.
    t.insert(2, 9);
    t.insert(2, 10);
    t.gives(2, 10, "after two inserts in a row");
}

/// `peek` gives what `get` gives, and leaves it there.
pub fn peek_returns_the_value<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("peek_returns_the_value");
    t.fill(20);
    t.insert(3, 100);
    for key in 0..20 {
        let expected = if key == 3 { 100 } else { key };
        for when in ["at first", "a second time"] {
            t.equal(&t.peek(key), &Some(expected), format_args!("peek at key {key} {when}"));
        }
        t.gives(key, expected, "after a peek");
    }
    t.remove(3);
    t.equal(&t.peek(3), &None, "peek at a removed key");
}

/// `remove` says whether the key was present, and it is absent afterwards. Other keys stay.
pub fn remove_says_whether_present<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("remove_says_whether_present");
    t.check(!t.remove(0), "remove in an empty mapping says that the key was there");
    t.fill(3);
    t.check(t.remove(1), "remove of a present key says that it was not there");
    t.check(!t.remove(1), "a second remove says that the key was there");
    t.equal(&t.get(1), &None, "get of a removed key");
    t.check(!t.contains(1), "contains_key says that a removed key is there");
    t.holds(&[0, 2], "after a remove");
    t.gives(0, 0, "after a neighbour's remove");
    t.gives(2, 2, "after a neighbour's remove");
    t.get(2);
    t.check(t.remove(2), "remove of a key that was read says that it was not there");
    t.holds(&[0], "after two removes");
}

/// `take` removes the key and gives the value it had.
pub fn take_removes_and_returns<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("take_removes_and_returns");
    t.fill(3);
    t.insert(1, 50);
    t.equal(&t.take(1), &Some(50), "take of a present key");
    t.equal(&t.take(1), &None, "a second take of the same key");
    t.equal(&t.get(1), &None, "get of a key that was taken");
    t.check(!t.remove(1), "remove of a key that was taken says that it was there");
    t.holds(&[0, 2], "after a take");
    t.gives(0, 0, "after a neighbour's take");
    t.gives(2, 2, "after a neighbour's take");
}

/// `contains_key`, `len` and `for_each_key` agree with one another after every kind of write.
pub fn contains_and_len_agree<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("contains_and_len_agree");
    t.holds(&[], "of an empty mapping");
    let mut present = Vec::new();
    for key in 0..40 {
        t.insert(key, key);
        present.push(key);
        t.holds(&present, "after an insert");
        if key % 3 == 0 {
            t.insert(key, key + 1);
            t.holds(&present, "after an overwrite");
        }
        if key % 4 == 1 {
            t.get(key / 2);
            t.holds(&present, "after a read");
        }
        if key % 5 == 4 {
            t.remove(key - 2);
            present.retain(|n| *n != key - 2);
            t.holds(&present, "after a remove");
            t.check(!t.contains(key - 2), "contains_key says that a removed key is there");
        }
        if key % 7 == 6 {
            t.take(key);
            present.retain(|n| *n != key);
            t.holds(&present, "after a take");
            t.check(!t.contains(key), "contains_key says that a key that was taken is there");
        }
    }
}

/// A key that was removed or taken can be inserted again, with the new value and nothing of the old one.
pub fn keys_come_back_after_removal<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("keys_come_back_after_removal");
    for round in 0..5 {
        t.insert(1, 10 * round);
        t.remove(1);
        t.insert(1, 10 * round + 1);
        t.gives(1, 10 * round + 1, "inserted after a remove");
        t.equal(&t.take(1), &Some(10 * round + 1), "take of a key inserted after a remove");
        t.insert(1, 10 * round + 2);
        t.gives(1, 10 * round + 2, "inserted after a take");
        t.holds(&[1], "after it came back");
        t.check(t.remove(1), "remove of a key inserted after a take says that it was not there");
        t.holds(&[], "after it was removed again");
    }
}
