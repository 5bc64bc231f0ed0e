//! Signals that ask a worker to end.
#![expect(clippy::disallowed_methods, reason = "the listening thread is joined when this is dropped")]

use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Arriving};
use signal_hook::low_level::emulate_default_handler;
use spill_core::{Error, Result};

use super::{Core, Retirement};

/// Listens until it is dropped.
pub(super) struct Signals {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    pub(super) fn listen(core: &Arc<Core>) -> Result<Self> {
        let failed = |error| Error::io("listen to", "signals", error);
        let arriving = Arriving::new([SIGTERM, SIGINT]).map_err(failed)?;
        let handle = arriving.handle();
        let core = Arc::downgrade(core);
        let thread = thread::Builder::new()
            .name("overspill-signals".to_owned())
            .spawn(move || follow(arriving, &core))
            .map_err(failed)?;
        Ok(Signals { handle, thread: Some(thread) })
    }
}

/// The first signal asks the worker to retire; the next does what it does where nobody listens.
fn follow(mut arriving: Arriving, core: &Weak<Core>) {
    for signal in arriving.forever() {
        match core.upgrade() {
            Some(core) if *core.retirement.lock() == Retirement::No => core.retire(),
            _ => {
                if let Err(error) = emulate_default_handler(signal) {
                    tracing::error!("signal {signal} cannot end the process: {error}");
                }
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that listens to signals panicked");
        }
    }
}
