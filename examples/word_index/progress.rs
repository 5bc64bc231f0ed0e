//! A progress bar on standard error, for people: where that is no terminal, nothing is drawn. It has no
//! colours, so there are none to switch off.

use indicatif::{ProgressBar, ProgressStyle};

/// One bar, which is gone when it is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar for `total` bytes.
    pub(crate) fn of_bytes(what: &'static str, total: u64) -> Self {
        Self::new(what, total, "{msg:>10} [{bar:40}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
    }

    /// A bar for `total` things.
    pub(crate) fn of_things(what: &'static str, total: u64) -> Self {
        Self::new(what, total, "{msg:>10} [{bar:40}] {pos} of {len}, {eta} left")
    }

    fn new(what: &'static str, total: u64, template: &str) -> Self {
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Progress(ProgressBar::new(total).with_style(style).with_message(what))
    }

    pub(crate) fn advance(&self, by: u64) {
        self.0.inc(by);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
