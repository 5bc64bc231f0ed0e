//! Winning space back: what lives in objects that are mostly dead is staged again, and they are deleted.

use std::sync::Arc;

use spill_core::{Frames, Key};
use tokio::runtime::Handle;

use crate::ending::Flag;
use crate::failure::Failure;
use crate::pack::Shape;
use crate::read::merged;
use crate::retry::Tries;
use crate::shared::Shared;
use crate::stage::Room;
use crate::state::{Move, State, Stored};

impl<K: Key> Shared<K> {
    /// Empties objects, those with the least alive first, until compaction is not due any more.
    pub(crate) async fn compact(self: Arc<Self>, runtime: Handle) {
        let _flag = Flag { shared: &self, lower: |state| state.compacting = false };
        loop {
            let victim = {
                let mut state = self.state.lock();
                let due = !state.closed && state.wants_compaction();
                let victim = due.then(|| state.emptiest()).flatten();
                state.compacting = victim.is_some();
                victim
            };
            let Some((object, moves)) = victim else { return };
            if let Err(failure) = self.empty(&moves, &runtime).await {
                if failure.absent {
                    self.state.lock().stick(object);
                    continue;
                }
                tracing::warn!(
                    store = %self.client.store, status = failure.status,
                    "an object could not be compacted; it is tried again later"
                );
                return;
            }
            let mut state = self.state.lock();
            // what is still in it could not be read
            state.stick(object);
            self.tidy(&mut state, &runtime);
            drop(state);
            self.notify();
        }
    }

    /// Moves these records to the stage.
    async fn empty(self: &Arc<Self>, moves: &[Move], runtime: &Handle) -> Result<(), Failure> {
        let stored: Vec<Stored> = moves.iter().map(|moved| moved.stored.clone()).collect();
        let records: Vec<_> =
            stored.iter().map(|record| (record.object, u64::from(record.offset), record.length)).collect();
        for reading in merged(&records, self.gap_bytes) {
            let values = self.read(&reading, &stored).await?;
            for (&n, value) in reading.records.iter().zip(values) {
                match value {
                    Ok(frames) => self.move_one(&moves[n], frames, runtime).await?,
                    Err(fault) => {
                        let error = self.fault_error(fault, &stored[n]);
                        tracing::warn!(%error, "a damaged value is left where it is");
                    }
                }
            }
        }
        Ok(())
    }

    /// Stages one value once there is room.
    async fn move_one(
        self: &Arc<Self>,
        moved: &Move,
        frames: Frames,
        runtime: &Handle,
    ) -> Result<(), Failure> {
        let shape = Shape::of(&frames).map_err(|error| Failure::permanent(error.to_string()))?;
        let attempt = |state: &mut State<K>| {
            if state.closed {
                return Some(Err(Failure::permanent("closed")));
            }
            let room = state.stage.room(shape);
            match room {
                Room::Retry => return Some(Err(Failure::transient("uploads fail"))),
                Room::Wait => return None,
                Room::Free | Room::Close => self.make_room(state, room, runtime),
            }
            let mut accepted = state.restage(moved, frames.clone(), shape);
            if let Some(accepted) = &mut accepted {
                if let Some(job) = accepted.job.take() {
                    self.launch(runtime, job, Tries::Many);
                }
                if let Some(pack) = accepted.opened {
                    self.watch_age(runtime, pack);
                }
            }
            Some(Ok(accepted))
        };
        self.when(attempt).await.map(drop)
    }
}
