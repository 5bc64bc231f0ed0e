//! What a mapping that can fail owes after it failed.

use super::Trial;
use crate::conformance::model::{self, Reference};
use crate::{Key, Value};

/// A call that returned an error changed nothing, and nothing of it happens later: two thousand calls of every
/// kind, with failures switched on and off between them, answer as a plain map that failed calls do not touch.
/// At last, with failures off, everything accepted is there.
///
/// `set_failing` makes the mapping's storage fail, or heals it: a [`Faulty`](crate::conformance::Faulty) below
/// the mapping, a full quota. At least one call must fail for it.
pub fn failed_calls_change_nothing<K: Key, V: Value>(trial: &Trial<'_, K, V>, set_failing: &dyn Fn(bool)) {
    let t = trial.of("failed_calls_change_nothing");
    let mut reference = Reference::new(t.samples());
    for (n, op) in model::ops(0xFA11, 2000, 24).iter().enumerate() {
        if n % 5 == 0 {
            set_failing(n % 10 == 5);
        }
        if let Err(mismatch) = reference.step(op, t.mapping()) {
            t.broken(mismatch);
        }
    }
    set_failing(false);
    if let Err(mismatch) = reference.agrees(t.mapping()) {
        t.broken(mismatch);
    }
    t.check(reference.errors() > 0, "no call failed, so that nothing was shown: failures were never on");
}
