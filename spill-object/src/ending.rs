//! What is put right when a task ends, however it ends: well, by a panic, or cut off.

use std::sync::Arc;

use spill_core::{ErrorKind, Key, Result};
use tokio::runtime::Handle;

use crate::failure::Failure;
use crate::shared::Shared;
use crate::state::{Made, State};

/// Ends an upload however it ends: one that was cut off or that panicked has failed.
pub(crate) struct Ending<'a, K: Key> {
    pub(crate) shared: &'a Arc<Shared<K>>,
    pub(crate) number: u64,
    pub(crate) outcome: Option<Result<Made>>,
}

impl<K: Key> Drop for Ending<'_, K> {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            let during = "uploading values";
            Err(if std::thread::panicking() {
                ErrorKind::Panicked { during, message: "the object store's client".to_owned() }.into()
            } else {
                let failure = Failure::transient("the upload was cut off");
                failure.into_error(self.shared.client.store.to_string())
            })
        });
        let mut state = self.shared.state.lock();
        let leftover = match outcome {
            Ok(made) => {
                let leftover = state.uploaded(self.number, made);
                if let Ok(runtime) = Handle::try_current() {
                    self.shared.tidy(&mut state, &runtime);
                }
                leftover
            }
            Err(error) => {
                if !state.closed {
                    tracing::warn!(%error, "values could not be uploaded; they stay in memory");
                }
                state.stage.failed(self.number);
                state.failures += 1;
                state.refuses = true;
                state.last_error = Some(error);
                None
            }
        };
        drop(state);
        drop(leftover);
        self.shared.notify();
    }
}

/// Lowers a flag of the state when its task ends, however that is.
pub(crate) struct Flag<'a, K: Key> {
    pub(crate) shared: &'a Shared<K>,
    pub(crate) lower: fn(&mut State<K>),
}

impl<K: Key> Drop for Flag<'_, K> {
    fn drop(&mut self) {
        (self.lower)(&mut self.shared.state.lock());
        self.shared.notify();
    }
}
