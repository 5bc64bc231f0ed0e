//! What threads did on one key, and whether some order explains it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// An operation; each writes a value that tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Get,
    Peek,
    Contains,
    Insert(u64),
    Remove,
    Take,
    Update(u64),
    Upsert(u64),
    GetOr(u64),
}

/// What an operation answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Value(Option<u64>),
    Bool(bool),
    Done,
    /// A typed error: the operation had no effect.
    Error,
}

/// What an update makes of a value: updates do not commute, and show what they saw.
pub(super) fn updated(value: u64, tag: u64) -> u64 {
    value * 10 + tag
}

#[derive(Clone, Copy, Debug)]
struct Call {
    op: Op,
    answer: Answer,
    begun: u64,
    ended: u64,
}

/// Calls with the moments of their beginning and end.
#[derive(Debug, Default)]
pub(super) struct History {
    calls: Mutex<Vec<Call>>,
    now: AtomicU64,
}

impl History {
    pub(super) fn record(&self, op: Op, call: impl FnOnce() -> Answer) {
        let begun = self.now.fetch_add(1, SeqCst);
        let answer = call();
        let ended = self.now.fetch_add(1, SeqCst);
        self.calls.lock().unwrap().push(Call { op, answer, begun, ended });
    }

    /// Panics unless some order of the calls explains the answers and ends with `last`.
    pub(super) fn check(&self, first: Option<u64>, last: Option<u64>) {
        let calls = self.calls.lock().unwrap();
        let mut open: Vec<usize> = (0..calls.len()).collect();
        assert!(
            explains(&calls, &mut open, first, last),
            "no order explains {first:?} -> {last:?}: {calls:#?}"
        );
    }
}

fn explains(calls: &[Call], open: &mut Vec<usize>, value: Option<u64>, last: Option<u64>) -> bool {
    if open.is_empty() {
        return value == last;
    }
    for at in 0..open.len() {
        let call = calls[open[at]];
        // it cannot come before one that had ended when it began
        if open.iter().any(|&other| calls[other].ended < call.begun) {
            continue;
        }
        if let Some(next) = apply(call, value) {
            let taken = open.swap_remove(at);
            let found = explains(calls, open, next, last);
            open.push(taken);
            let end = open.len() - 1;
            open.swap(at, end);
            if found {
                return true;
            }
        }
    }
    false
}

/// The value after `call`, if its answer is the right one for `value`.
fn apply(call: Call, value: Option<u64>) -> Option<Option<u64>> {
    if call.answer == Answer::Error {
        let reads = !matches!(call.op, Op::Insert(_) | Op::Remove | Op::Contains);
        return (reads && value.is_some()).then_some(value);
    }
    let (answer, next) = match call.op {
        Op::Get | Op::Peek => (Answer::Value(value), value),
        Op::Contains => (Answer::Bool(value.is_some()), value),
        Op::Insert(tag) => (Answer::Done, Some(tag)),
        Op::Remove => (Answer::Bool(value.is_some()), None),
        Op::Take => (Answer::Value(value), None),
        Op::Update(tag) => {
            let next = value.map(|v| updated(v, tag));
            (Answer::Value(next), next)
        }
        Op::Upsert(tag) => (Answer::Done, Some(value.map_or(tag, |v| updated(v, tag)))),
        Op::GetOr(tag) => (Answer::Value(Some(value.unwrap_or(tag))), Some(value.unwrap_or(tag))),
    };
    (answer == call.answer).then_some(next)
}
