//! Waiting for a flight that somebody else owns.

use crate::Error;
use crate::sync::{Condvar, Mutex};

/// What a flight's end says to those who waited for it (R4).
#[derive(Clone, Debug)]
pub(crate) enum Landing<V> {
    /// Look at the key again.
    StartOver,
    /// A read ended and its value was not promoted: take it from here.
    Served(V),
    /// A read failed.
    Failed(Error),
    /// A loader failed.
    LoadFailed(Error),
}

/// Made when the first waiter comes; most flights have none.
#[derive(Debug)]
pub(crate) struct Signal<V> {
    landing: Mutex<Option<Landing<V>>>,
    landed: Condvar,
}

impl<V: Clone> Signal<V> {
    pub(crate) fn new() -> Self {
        Signal { landing: Mutex::new(None), landed: Condvar::default() }
    }

    pub(crate) fn land(&self, landing: Landing<V>) {
        *self.landing.lock() = Some(landing);
        self.landed.notify_all();
    }

    pub(crate) fn wait(&self) -> Landing<V> {
        let mut landing = self.landing.lock();
        loop {
            if let Some(landing) = &*landing {
                return landing.clone();
            }
            landing = self.landed.wait(landing);
        }
    }
}
