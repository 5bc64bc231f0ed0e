//! `flush` and `close`.

use super::Trial;
use crate::{ErrorKind, Key, Result, Value};

/// `flush` changes nothing that can be seen: values stay readable, and can be replaced and removed.
pub fn flush_keeps_everything<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("flush_keeps_everything");
    t.ok(t.mapping().flush(), "flush of an empty mapping");
    t.fill(40);
    let all: Vec<u64> = (0..40).collect();
    for when in ["after flush", "after a second flush"] {
        t.ok(t.mapping().flush(), "flush");
        t.holds(&all, when);
        all.iter().for_each(|key| t.gives(*key, *key, when));
    }
    t.insert(3, 100);
    t.remove(4);
    t.gives(3, 100, "replaced after flush");
    t.equal(&t.get(4), &None, "get of a key removed after flush");
    t.ok(t.mapping().flush(), "flush");
    t.gives(3, 100, "replaced between flushes");
    t.equal(&t.get(4), &None, "get of a key removed between flushes");
}

/// After `close`, a call either fails with [`Closed`](ErrorKind::Closed) or is answered truly from RAM. It
/// never panics, and never says that a value is absent which was not removed. Closing twice does nothing.
pub fn close_then_closed<K: Key, V: Value>(trial: &Trial<'_, K, V>) {
    let t = trial.of("close_then_closed");
    t.fill(20);
    t.get(3);
    t.ok(t.mapping().close(), "close");
    t.ok(t.mapping().close(), "a second close");
    let mapping = t.mapping();
    for key in 0..10 {
        let value = read(&t, key, "get", mapping.get(&t.key(key)));
        t.check(value.is_none_or(|value| value == Some(key)), format_args!("get of key {key} is untrue"));
        let value = read(&t, key, "peek", mapping.peek(&t.key(key)));
        t.check(value.is_none_or(|value| value == Some(key)), format_args!("peek at key {key} is untrue"));
    }
    for (key, result) in (0..).zip(mapping.get_many(&[t.key(0), t.key(1)])) {
        let value = read(&t, key, "get_many", result);
        t.check(
            value.is_none_or(|value| value == Some(key)),
            format_args!("get_many of key {key} is untrue"),
        );
    }
    if closed(&t, "insert", mapping.insert(t.key(20), t.samples().value(20))).is_some() {
        let value = read(&t, 20, "get", mapping.get(&t.key(20)));
        t.check(value.is_none_or(|value| value == Some(20)), "a value accepted after close is lost");
    }
    for result in mapping.insert_many(vec![(t.key(21), t.samples().value(21))]) {
        closed(&t, "insert_many", result);
    }
    if let Some(present) = closed(&t, "remove", mapping.remove(&t.key(10))) {
        t.check(present, "remove says that a key was not there");
        let value = read(&t, 10, "get", mapping.get(&t.key(10)));
        t.check(value.is_none_or(|value| value.is_none()), "a key removed after close is still there");
    }
    for result in mapping.remove_many(&[t.key(11)]) {
        closed(&t, "remove_many", result);
    }
    let value = read(&t, 12, "take", mapping.take(&t.key(12)));
    t.check(value.is_none_or(|value| value == Some(12)), "take is untrue");
    closed(&t, "flush", mapping.flush());
    closed(&t, "clear", mapping.clear());
    // What they say depends on whether closing gave the values up; that they answer does not.
    mapping.contains_key(&t.key(0));
    mapping.stored_size(&t.key(0));
    mapping.for_each_key(&mut |_| ());
    mapping.len();
    mapping.usage();
    mapping.stats();
    t.ok(mapping.close(), "a third close");
}

/// What a call after `close` returned, or `None` where it was refused as closed.
#[track_caller]
fn closed<K: Key, V: Value, T>(t: &Trial<'_, K, V>, call: &str, result: Result<T>) -> Option<T> {
    match result {
        Ok(answer) => Some(answer),
        Err(error) if matches!(error.kind(), ErrorKind::Closed { .. }) => None,
        Err(error) => t.broken(format_args!("{call} after close failed with another error: {error}")),
    }
}

#[track_caller]
fn read<K: Key, V: Value>(
    t: &Trial<'_, K, V>,
    key: u64,
    call: &str,
    result: Result<Option<V>>,
) -> Option<Option<u64>> {
    let what = format!("{call} of key {key} after close");
    closed(t, call, result).map(|value| t.number(value, what))
}
