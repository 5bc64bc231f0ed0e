//! A thread of a store, which is waited for when the store is closed, but not for ever: a device may hang.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long a store that is closed waits for each of its threads, and for the files that others make.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// At most one thread.
#[derive(Default)]
pub(super) struct StoreThread {
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: Arc<Ended>,
}

/// Whether the thread has ended.
#[derive(Default)]
struct Ended {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl StoreThread {
    /// Starts it. `work` catches its panics.
    ///
    /// # Errors
    /// What the system says when it gives no thread.
    #[expect(clippy::disallowed_methods, reason = "the thread is joined by `join`")]
    pub(super) fn start(&self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let end = Arc::clone(&self.ended);
        // held until the thread is there to be joined: who closes the store meanwhile must not pass it by
        let mut thread = self.thread.lock();
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            work();
            *end.flag.lock() = true;
            end.changed.notify_all();
        })?;
        *thread = Some(started);
        Ok(())
    }

    /// Waits for its end, if it was started. One that hangs in the device is left behind, and ends when the device answers.
    pub(super) fn join(&self) {
        self.join_within(PATIENCE);
    }

    fn join_within(&self, patience: Duration) {
        let Some(thread) = self.thread.lock().take() else { return };
        let mut ended = self.ended.flag.lock();
        self.ended.changed.wait_while_for(&mut ended, |ended| !*ended, patience);
        if !*ended {
            let name = thread.thread().name().unwrap_or_default();
            tracing::warn!(name, "the thread did not end within {patience:?}: the device does not answer");
            return;
        }
        drop(ended);
        // It catches its panics.
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_hangs_is_left_behind() {
        let (answer, device) = mpsc::channel::<()>();
        let (ends, ended) = mpsc::channel();
        let thread = StoreThread::default();
        thread
            .start("hangs", move || {
                assert!(device.recv().is_err());
                ends.send(()).unwrap();
            })
            .unwrap();
        thread.join_within(Duration::from_millis(1));
        assert!(ended.try_recv().is_err(), "it was not waited for");
        drop(answer);
        ended.recv().unwrap();
        thread.join();
    }

    #[test]
    fn a_thread_that_ends_is_waited_for() {
        let (ends, ended) = mpsc::channel();
        let thread = StoreThread::default();
        thread.start("ends", move || ends.send(()).unwrap()).unwrap();
        thread.join_within(6 * PATIENCE); // however busy the machine is
        ended.try_recv().unwrap();
    }
}
