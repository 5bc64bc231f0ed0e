//! What comes back is what went in: odd keys, odd values, values of every size.

use super::Trial;
use crate::{Key, Value};

/// Keys that differ are different keys, however alike they look to a file system or an integer type.
pub fn odd_keys_stay_apart<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("odd_keys_stay_apart");
    let keys = t.samples().odd_keys();
    for (n, key) in (0..).zip(&keys) {
        t.check(!t.mapping().contains_key(key), format_args!("odd key {n} is there before its insert"));
        t.ok(t.mapping().insert(key.clone(), t.samples().value(n)), format_args!("insert for odd key {n}"));
    }
    t.equal(&t.mapping().len(), &keys.len(), "len with odd keys");
    t.ok(t.mapping().flush(), "flush");
    let mut seen = Vec::new();
    t.mapping().for_each_key(&mut |key| seen.push(key.clone()));
    t.equal(&seen.len(), &keys.len(), "number of odd keys in a walk");
    for (n, key) in (0..).zip(&keys) {
        t.check(seen.contains(key), format_args!("a walk does not give odd key {n}"));
        let value = t.ok(t.mapping().get(key), format_args!("get of odd key {n}"));
        let value = t.number(value, format_args!("get of odd key {n}"));
        t.equal(&value, &Some(n), format_args!("get of odd key {n}"));
    }
    for (n, key) in (0..).zip(&keys) {
        t.check(
            t.ok(t.mapping().remove(key), format_args!("remove of odd key {n}")),
            format_args!("odd key {n} went with another one"),
        );
    }
}

/// Values come back to the last bit: [`Frames`](crate::Frames) with their boundaries, their empty frames, no
/// frame at all, and the weight they were given.
pub fn odd_values_survive<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("odd_values_survive");
    let values = t.samples().odd_values();
    for (n, value) in (0..).zip(&values) {
        t.ok(t.mapping().insert(t.key(n), value.clone()), format_args!("insert of odd value {n}"));
        unchanged(&t, n, value, "just inserted");
    }
    t.ok(t.mapping().flush(), "flush");
    for (n, value) in (0..).zip(&values) {
        unchanged(&t, n, value, "after flush");
        let taken = t.ok(t.mapping().take(&t.key(n)), format_args!("take of odd value {n}"));
        same(&t, taken, value, format_args!("take of odd value {n}"));
    }
    t.holds(&[], "after every odd value was taken");
}

#[track_caller]
fn unchanged<K: Key, V: Value>(t: &Trial<'_, K, V>, n: u64, value: &V, when: &str) {
    let key = t.key(n);
    for (call, result) in [("get", t.mapping().get(&key)), ("peek", t.mapping().peek(&key))] {
        let what = format!("{call} of value {n} {when}");
        let found = t.ok(result, &what);
        same(t, found, value, what);
    }
    let what = format!("get_many of value {n} {when}");
    for result in t.mapping().get_many(&[key]) {
        let found = t.ok(result, &what);
        same(t, found, value, &what);
    }
}

#[track_caller]
fn same<K: Key, V: Value>(t: &Trial<'_, K, V>, found: Option<V>, value: &V, what: impl std::fmt::Display) {
    match found {
        None => t.broken(format_args!("{what} gives nothing")),
        Some(found) => {
            t.check(t.samples().same(&found, value), format_args!("{what} gives another value"));
        }
    }
}

/// Sizes around the steps where stores change their ways: nothing, cache lines, pages, the largest packed
/// record, a MiB.
const SIZES: [usize; 22] = [
    0,
    1,
    7,
    8,
    9,
    63,
    64,
    65,
    511,
    512,
    4095,
    4096,
    4097,
    65_535,
    65_536,
    65_537,
    255 << 10,
    (256 << 10) - 1,
    (256 << 10) + 1,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
];

/// Values of nothing up to a MiB come back whole, compressible or not, before and after a flush.
pub fn values_of_many_sizes<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("values_of_many_sizes");
    let values = || {
        let sizes = SIZES.iter().flat_map(|size| [*size, *size]);
        (0..).zip(sizes).map(|(n, size)| (n, size, t.samples().value_of_len(n, size)))
    };
    for (n, size, value) in values() {
        let inserted = t.mapping().insert(t.key(n), value.clone());
        t.ok(inserted, format_args!("insert of {size} bytes"));
        unchanged(&t, n, &value, &format!("of {size} bytes, just inserted"));
    }
    t.ok(t.mapping().flush(), "flush");
    for (n, size, value) in values() {
        unchanged(&t, n, &value, &format!("of {size} bytes, after flush"));
    }
    for (n, size, value) in values() {
        let taken = t.ok(t.mapping().take(&t.key(n)), format_args!("take of {size} bytes"));
        same(&t, taken, &value, format_args!("take of {size} bytes"));
    }
}

/// A value may be replaced by a longer or a shorter one; nothing of the old one is left, and neighbours are
/// not touched.
pub fn overwrite_with_other_sizes<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("overwrite_with_other_sizes");
    t.insert(0, 100);
    t.insert(2, 102);
    for (n, size) in (0..).zip([100, 5000, 10, 0, 200_000, 4096, 4096, 1, 70_000, 0, 64]) {
        let value = t.samples().value_of_len(n, size);
        let inserted = t.mapping().insert(t.key(1), value.clone());
        t.ok(inserted, format_args!("overwrite with {size} bytes"));
        if n % 3 == 0 {
            t.ok(t.mapping().flush(), "flush");
        }
        let found =
            t.ok(t.mapping().get(&t.key(1)), format_args!("get after an overwrite with {size} bytes"));
        same(&t, found, &value, format_args!("get after an overwrite with {size} bytes"));
        t.gives(0, 100, "beside a key that is overwritten");
        t.gives(2, 102, "beside a key that is overwritten");
    }
    t.holds(&[0, 1, 2], "after overwrites");
}
