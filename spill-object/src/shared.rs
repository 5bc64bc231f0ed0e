//! What the mapping shares with its tasks: uploads, timers, deletions and compaction.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use spill_core::{Clock, Error, ErrorKind, Frames, Key, Meter, Pool, Result};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OnceCell};
use tokio::task::JoinSet;

use crate::ObjectsConfig;
use crate::client::{Client, DELETED_AT_ONCE};
use crate::ending::{Ending, Flag};
use crate::failure::Failure;
use crate::lease::Owner;
use crate::pack::{self, Shape};
use crate::read::Reading;
use crate::retry::Tries;
use crate::stage::{Job, Limits, Room};
use crate::state::{State, Stored};

pub(crate) struct Shared<K: Key> {
    pub(crate) state: Mutex<State<K>>,
    /// An upload, a deletion or a step of compaction ended, or the mapping was closed.
    changed: Notify,
    pub(crate) client: Client,
    pub(crate) limits: Limits,
    pub(crate) gap_bytes: u64,
    owner: Owner,
    /// Written before the first object is.
    lease: OnceCell<()>,
    /// How often that failed, and how at last.
    unleased: Mutex<(u64, Option<Failure>)>,
    /// Whether anything may have been put.
    touched: AtomicBool,
    tasks: Mutex<Tasks>,
    pack_age: Duration,
    lease_interval: Duration,
    pub(crate) pool: Pool,
    clock: Arc<dyn Clock>,
    pub(crate) write: Meter,
    pub(crate) read: Meter,
    pub(crate) failures: AtomicU64,
}

/// What runs in the background; no more begins once it is over.
#[derive(Default)]
pub(crate) struct Tasks {
    /// Uploads, deletions, compaction: they end by themselves.
    work: JoinSet<()>,
    /// What waits for a time, and is cut off.
    timers: JoinSet<()>,
    over: bool,
}

pub(crate) fn closed() -> Error {
    ErrorKind::Closed { what: "the mapping over an object store" }.into()
}

impl<K: Key> Shared<K> {
    pub(crate) fn new(config: ObjectsConfig) -> Result<Self> {
        config.check()?;
        let (owner, seed) = Owner::draw()?;
        let limits = config.limits();
        Ok(Shared {
            state: Mutex::new(State::new(limits)),
            changed: Notify::new(),
            client: Client::new(&config, seed),
            limits,
            gap_bytes: config.gap_bytes,
            owner,
            lease: OnceCell::new(),
            unleased: Mutex::default(),
            touched: AtomicBool::new(false),
            tasks: Mutex::default(),
            pack_age: config.pack_age,
            lease_interval: config.lease_interval,
            pool: config.pool,
            clock: config.clock,
            write: Meter::default(),
            read: Meter::default(),
            failures: AtomicU64::new(0),
        })
    }

    /// The state, while the mapping is open.
    pub(crate) fn open_state(&self) -> Result<MutexGuard<'_, State<K>>> {
        let state = self.state.lock();
        if state.closed { Err(closed()) } else { Ok(state) }
    }

    /// Calls `attempt` with the state until it gives something, after each change of what it may wait for.
    pub(crate) async fn when<T>(&self, mut attempt: impl FnMut(&mut State<K>) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(done) = attempt(&mut self.state.lock()) {
                return done;
            }
            changed.await;
        }
    }

    pub(crate) fn notify(&self) {
        self.changed.notify_waiters();
    }

    /// The runtime that the background runs on: the one that first calls.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) outside of any.
    pub(crate) fn runtime() -> Result<Handle> {
        Handle::try_current().map_err(|_| {
            Error::config("runtime", "none", "a call from inside a tokio runtime, or `Blocking`")
        })
    }

    fn spawn(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        if !tasks.over {
            while tasks.work.try_join_next().is_some() {}
            tasks.work.spawn_on(task, runtime);
        }
    }

    fn spawn_timer(&self, runtime: &Handle, timer: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        if !tasks.over {
            while tasks.timers.try_join_next().is_some() {}
            tasks.timers.spawn_on(timer, runtime);
        }
    }

    /// Begins an upload.
    pub(crate) fn launch(self: &Arc<Self>, runtime: &Handle, job: Job, tries: Tries) {
        let shared = Arc::clone(self);
        self.spawn(runtime, async move { shared.upload(job, tries).await });
    }

    /// Begins to count the age of a pack.
    pub(crate) fn watch_age(self: &Arc<Self>, runtime: &Handle, pack: u64) {
        let (shared, handle) = (Arc::clone(self), runtime.clone());
        self.spawn_timer(runtime, async move {
            tokio::time::sleep(shared.pack_age).await;
            let close = |state: &mut State<K>| {
                let (done, job) = state.stage.close_aged(pack);
                (done || state.closed).then_some(job)
            };
            if let Some(job) = shared.when(close).await {
                shared.launch(&handle, job, Tries::Many);
            }
        });
    }

    async fn upload(self: Arc<Self>, job: Job, tries: Tries) {
        let mut ending = Ending { shared: &self, number: job.number, outcome: None };
        let start = self.clock.now();
        let path = self.owner.object(&self.client.store, job.number);
        let outcome = async {
            self.hold_lease(tries).await?;
            self.client.upload(&path, job.number, &job.values, tries).await
        };
        let outcome = outcome.await.map_err(|failure| self.error(failure, &path));
        if let Ok(made) = &outcome {
            let count = made.records.iter().flatten().count() as u64;
            self.write.add(count, made.bytes, self.clock.now().saturating_sub(start));
        }
        ending.outcome = Some(outcome);
        // the values of the pack may be its last handles
        drop(ending);
        drop(job);
    }

    /// What a caller is told: the failure, or that the mapping was closed meanwhile.
    pub(crate) fn error(&self, failure: Failure, path: &object_store::path::Path) -> Error {
        self.failures.fetch_add(1, Relaxed);
        if self.state.lock().closed { closed() } else { failure.into_error(self.client.store.location(path)) }
    }

    /// Writes the lease, once, and has it renewed from then on. Of several uploads one tries, for a deadline; where that
    /// fails it failed for those that waited too, which would come up to as many deadlines late otherwise.
    async fn hold_lease(self: &Arc<Self>, tries: Tries) -> Result<(), Failure> {
        let known = self.unleased.lock().0;
        let write = || async {
            {
                let unleased = self.unleased.lock();
                if let (count, Some(failure)) = &*unleased
                    && *count > known
                {
                    return Err(failure.clone());
                }
            }
            self.touched.store(true, Relaxed);
            if let Err(failure) = self.client.write_lease(&self.owner, tries).await {
                let mut unleased = self.unleased.lock();
                *unleased = (unleased.0 + 1, Some(failure.clone()));
                return Err(failure);
            }
            let (shared, runtime) = (Arc::clone(self), Handle::current());
            self.spawn_timer(&runtime.clone(), async move { shared.renew(runtime).await });
            Ok(())
        };
        self.lease.get_or_try_init(write).await.map(drop)
    }

    /// Renews the lease for ever. What failed before is tried again on the occasion.
    async fn renew(self: Arc<Self>, runtime: Handle) {
        loop {
            tokio::time::sleep(self.lease_interval).await;
            if let Err(failure) = self.client.write_lease(&self.owner, Tries::Many).await {
                tracing::warn!(
                    store = %self.client.store, status = failure.status,
                    "the lease could not be renewed; after a long time others may take its objects for leftovers"
                );
            }
            self.client.abort_orphans(Tries::One).await;
            let job = {
                let mut state = self.state.lock();
                self.tidy(&mut state, &runtime);
                state.stage.retry()
            };
            if let Some(job) = job {
                self.launch(&runtime, job, Tries::One);
            }
        }
    }

    /// Begins what has become due: deleting dead objects, and compaction.
    pub(crate) fn tidy(self: &Arc<Self>, state: &mut State<K>, runtime: &Handle) {
        if state.closed {
            return;
        }
        if !state.trash.is_empty() && !state.sweeping {
            state.sweeping = true;
            let shared = Arc::clone(self);
            self.spawn(runtime, async move { shared.sweep().await });
        }
        if !state.compacting && state.wants_compaction() {
            state.compacting = true;
            let (shared, handle) = (Arc::clone(self), runtime.clone());
            self.spawn(runtime, async move { shared.compact(handle).await });
        }
    }

    /// Deletes dead objects until there are none.
    async fn sweep(self: Arc<Self>) {
        let _flag = Flag { shared: &self, lower: |state| state.sweeping = false };
        loop {
            let batch = {
                let mut state = self.state.lock();
                let keep = state.trash.len().saturating_sub(DELETED_AT_ONCE);
                let batch = state.trash.split_off(keep);
                if batch.is_empty() || state.closed {
                    state.sweeping = false;
                    return;
                }
                batch
            };
            let store = &self.client.store;
            let paths: Vec<_> = batch.iter().map(|(number, _)| self.owner.object(store, *number)).collect();
            let outcome = self.client.delete(&paths, Tries::Many).await;
            let mut state = self.state.lock();
            if state.closed {
                return;
            }
            match outcome {
                Ok(()) => state.deleted(&batch),
                Err(failure) => {
                    state.trash.extend(batch);
                    state.sweeping = false;
                    drop(state);
                    self.failures.fetch_add(1, Relaxed);
                    tracing::warn!(
                        %store, status = failure.status,
                        "dead objects could not be deleted; it is tried again later"
                    );
                    return;
                }
            }
            drop(state);
            self.notify();
        }
    }

    /// Waits until nothing is being deleted or compacted.
    pub(crate) async fn settled(&self) {
        self.when(|state| (state.closed || !(state.sweeping || state.compacting)).then_some(())).await;
    }

    /// Reads the records of one reading, each by itself right or wrong.
    pub(crate) async fn read(
        &self,
        reading: &Reading,
        stored: &[Stored],
    ) -> Result<Vec<Result<Frames, Fault>>, Failure> {
        let start = self.clock.now();
        let path = self.owner.object(&self.client.store, reading.object);
        let records = || reading.records.iter().map(|&n| &stored[n]);
        let wants: Vec<_> = records().map(|record| (u64::from(record.offset), record.length)).collect();
        let fetched = self.client.fetch(&path, &reading.range, &wants, &self.pool).await?;
        let bytes = wants.iter().map(|(_, length)| length).sum();
        self.read.add(wants.len() as u64, bytes, self.clock.now().saturating_sub(start));
        let decode = |(buffer, record): (_, &Stored)| {
            pack::decode(buffer, &self.pool, record.object, record.checksum).map_err(|damage| Fault {
                damage,
                // a write that was repeated may have given the object another one
                replaced: record.e_tag.as_deref() != fetched.e_tag.as_deref(),
            })
        };
        Ok(fetched.buffers.into_iter().zip(records()).map(decode).collect())
    }

    /// The error of a failed request for this value's object.
    pub(crate) fn read_error(&self, failure: Failure, stored: &Stored) -> Error {
        self.error(failure, &self.owner.object(&self.client.store, stored.object))
    }

    /// The error of a record that is not what was written.
    pub(crate) fn fault_error(&self, fault: Fault, stored: &Stored) -> Error {
        let path = self.owner.object(&self.client.store, stored.object);
        if fault.replaced {
            let status = format!("the object has another ETag and another content: {}", fault.damage.found);
            return self.error(Failure::permanent(status), &path);
        }
        self.failures.fetch_add(1, Relaxed);
        let (from, to) = (u64::from(stored.offset), u64::from(stored.offset) + stored.length);
        ErrorKind::Corrupt {
            location: format!("{} bytes {from} to {to}", self.client.store.location(&path)),
            expected: fault.damage.expected,
            found: fault.damage.found,
        }
        .into()
    }

    /// Takes up what [`Room::Retry`] or [`Room::Close`] ask for.
    pub(crate) fn make_room(self: &Arc<Self>, state: &mut State<K>, room: Room, runtime: &Handle) {
        match room {
            Room::Retry => {
                if let Some(job) = state.stage.retry() {
                    self.launch(runtime, job, Tries::One);
                }
            }
            Room::Close => {
                if let Some(job) = state.stage.close() {
                    self.launch(runtime, job, Tries::Many);
                }
            }
            Room::Free | Room::Wait => {}
        }
    }

    /// Stages a value once there is room.
    pub(crate) async fn accept(self: &Arc<Self>, key: K, frames: Frames) -> Result<()> {
        let runtime = Self::runtime()?;
        let shape = Shape::of(&frames)?;
        let mut pair = Some((key, frames));
        let mut known = None;
        let outcome = self
            .when(|state| {
                if state.closed {
                    return Some(Err(closed()));
                }
                if state.is_overfull() {
                    return None;
                }
                let room = state.stage.room(shape);
                if room == Room::Retry {
                    if *known.get_or_insert(state.failures) < state.failures {
                        return state.last_error.clone().map(Err);
                    }
                    self.make_room(state, room, &runtime);
                    return None;
                }
                self.make_room(state, room, &runtime);
                if room == Room::Wait {
                    return None;
                }
                let (key, frames) = pair.take()?;
                Some(state.stage(key, frames, shape).map(|mut accepted| {
                    if let Some(job) = accepted.job.take() {
                        self.launch(&runtime, job, Tries::Many);
                    }
                    if let Some(pack) = accepted.opened {
                        self.watch_age(&runtime, pack);
                    }
                    self.tidy(state, &runtime);
                    accepted
                }))
            })
            .await;
        outcome.map(drop)
    }

    /// Uploads what was staged before, and waits for it.
    pub(crate) async fn flush(self: &Arc<Self>) -> Result<()> {
        let runtime = Self::runtime()?;
        let last = self.open_state()?.stage.last();
        let mut known = None;
        self.when(|state| {
            if state.closed {
                return Some(Err(closed()));
            }
            let known = *known.get_or_insert(state.failures);
            match state.stage.drain(last) {
                Room::Free => Some(Ok(())),
                Room::Retry if known < state.failures => state.last_error.clone().map(Err),
                room => {
                    self.make_room(state, room, &runtime);
                    None
                }
            }
        })
        .await
    }

    /// Stops everything and deletes all objects.
    pub(crate) async fn close(&self) -> Result<()> {
        let contents = {
            let mut state = self.state.lock();
            if state.closed {
                return Ok(());
            }
            state.close(self.limits)
        };
        drop(contents);
        let Tasks { mut work, mut timers, .. } = self.stop();
        timers.shutdown().await;
        while work.join_next().await.is_some() {}
        if !self.touched.load(Relaxed) {
            return Ok(());
        }
        self.client.abort_orphans(Tries::Many).await;
        let folder = self.owner.folder(&self.client.store);
        let deleted = self.client.delete_owner(&self.owner).await;
        deleted.map_err(|failure| failure.into_error(self.client.store.location(&folder)))
    }

    /// Ends what waits and cuts the timers off. What has not ended yet is given back, to be dropped without a lock.
    pub(crate) fn stop(&self) -> Tasks {
        self.client.stop();
        self.notify();
        let mut tasks = std::mem::replace(&mut *self.tasks.lock(), Tasks { over: true, ..Tasks::default() });
        tasks.timers.abort_all();
        tasks
    }

    /// Whether anything was put that nobody has deleted.
    pub(crate) fn leaves_objects(&self) -> bool {
        self.touched.load(Relaxed) && !self.state.lock().closed
    }
}

/// A record that is not what was written.
pub(crate) struct Fault {
    pub(crate) damage: pack::Damage,
    /// Whether the object is another one than was put.
    replaced: bool,
}
