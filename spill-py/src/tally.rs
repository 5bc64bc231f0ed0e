//! What a call did with storage, so that it can be booked to whoever made the call.

use std::cell::RefCell;
use std::time::Duration;

/// The steps that take time, by the names that Dask has for them.
pub(crate) const LABELS: [&str; 6] =
    ["serialize", "compress", "disk-write", "disk-read", "decompress", "deserialize"];

/// One of [`LABELS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Serialize,
    Compress,
    DiskWrite,
    DiskRead,
    Decompress,
    Deserialize,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// By step.
    pub(crate) time: [Duration; 6],
    /// Values and bytes written.
    pub(crate) written: (u64, u64),
    /// Values and bytes read.
    pub(crate) read: (u64, u64),
    /// When the first of it began and the last of it ended, by the clock of the buffer.
    pub(crate) span: Option<(Duration, Duration)>,
}

impl Tally {
    /// Adds one step that began and ended at these times.
    pub(crate) fn add(&mut self, step: Step, began: Duration, ended: Duration) {
        self.time[step as usize] += ended.saturating_sub(began);
        let (first, last) = self.span.get_or_insert((began, ended));
        *first = (*first).min(began);
        *last = (*last).max(ended);
    }

    /// Whether nothing was done.
    pub(crate) fn is_empty(&self) -> bool {
        self.span.is_none()
    }
}

thread_local! {
    /// What the call under way on this thread did. Threads of the buffer make no calls.
    static CURRENT: RefCell<Option<Tally>> = const { RefCell::new(None) };
}

/// Runs a call, and gives what it did with storage.
pub(crate) fn counted<R>(call: impl FnOnce() -> R) -> (R, Tally) {
    let outer = CURRENT.replace(Some(Tally::default()));
    let result = call();
    let tally = CURRENT.replace(outer).unwrap_or_default();
    (result, tally)
}

/// Lets `add` write to the tally of the call on this thread. `false`: there is none.
pub(crate) fn note(add: impl FnOnce(&mut Tally)) -> bool {
    CURRENT.with_borrow_mut(|current| current.as_mut().map(add)).is_some()
}
