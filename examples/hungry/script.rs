//! The steps of a script.

use std::time::Duration;

use bytesize::ByteSize;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Values of so many bytes, so many bytes a second.
    Insert(u64, Option<u64>),
    /// Reads all values back.
    Verify,
    /// Memory beside the mapping.
    Allocate(u64, Option<u64>),
    /// The same in a process of its own, which does nothing else and stays.
    Fork(String),
    /// Takes small blocks of so many bytes and lets go of seven in eight, which leaves the heap full of holes.
    Fragment(u64),
    /// Lets go of all memory beside the mapping.
    Free,
    /// A task that waits for the gate.
    Task,
    /// Waits for an event of this name.
    Await(String),
    /// Does nothing.
    Hold(Duration),
    /// Prints what is used.
    Report,
}

impl Step {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (word, argument) = match text.split_once('=') {
            Some((word, argument)) => (word, Some(argument)),
            None => (text, None),
        };
        match (word, argument) {
            ("insert", Some(amount)) => rated(amount).map(|(bytes, rate)| Step::Insert(bytes, rate)),
            ("verify", None) => Ok(Step::Verify),
            ("allocate", Some(amount)) => rated(amount).map(|(bytes, rate)| Step::Allocate(bytes, rate)),
            ("fork", Some(amount)) => rated(amount).map(|_| Step::Fork(amount.to_owned())),
            ("fragment", Some(amount)) => size(amount).map(Step::Fragment),
            ("free", None) => Ok(Step::Free),
            ("task", None) => Ok(Step::Task),
            ("await", Some(event)) => Ok(Step::Await(event.to_owned())),
            ("hold", Some(seconds)) => match seconds.parse().map(Duration::try_from_secs_f64) {
                Ok(Ok(time)) => Ok(Step::Hold(time)),
                _ => Err(format!("{seconds:?} is no number of seconds")),
            },
            ("report", None) => Ok(Step::Report),
            _ => Err(
                "expected one of insert=SIZE[@RATE], verify, allocate=SIZE[@RATE], fork=SIZE[@RATE], fragment=SIZE, \
                      free, task, await=EVENT, hold=SECONDS, report"
                    .to_owned(),
            ),
        }
    }
}

/// `SIZE` or `SIZE@RATE`.
fn rated(text: &str) -> Result<(u64, Option<u64>), String> {
    match text.split_once('@') {
        Some((amount, rate)) => match size(rate)? {
            0 => Err("a rate of 0 never ends".to_owned()),
            rate => Ok((size(amount)?, Some(rate))),
        },
        None => Ok((size(text)?, None)),
    }
}

fn size(text: &str) -> Result<u64, String> {
    let size: ByteSize = text.parse().map_err(|_| format!("{text:?} is no size such as 100MiB"))?;
    Ok(size.as_u64())
}
