//! The door to the store: every request is bounded, counted and tried again from here.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::future::{Either, select};
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{GetOptions, MultipartId, ObjectMeta, PutPayload, PutResult};
use parking_lot::Mutex;
use spill_core::Result;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::failure::Failure;
use crate::retry::{Retry, Tries};
use crate::{ObjectsConfig, Store};

/// How many requests were made, tries that failed included. What they cost is the store's price for each kind; on
/// S3 puts and lists cost the same, gets and heads less, and deletes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Objects put, and for uploads in parts each beginning, part and end.
    pub puts: u64,
    /// Ranges read.
    pub gets: u64,
    /// Objects asked for without their content.
    pub heads: u64,
    /// Deletions, each of up to a thousand objects where the store takes so many at once.
    pub deletes: u64,
    /// Listings, each counted once however many pages it has.
    pub lists: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) puts: AtomicU64,
    pub(crate) gets: AtomicU64,
    heads: AtomicU64,
    pub(crate) deletes: AtomicU64,
    lists: AtomicU64,
}

/// A store, with what every request to it needs.
pub(crate) struct Client {
    pub(crate) store: Store,
    pub(crate) retry: Retry,
    /// One for each request that may be in flight.
    permits: Semaphore,
    pub(crate) counts: Counts,
    pub(crate) part_bytes: u64,
    /// Parts of one upload, or ranges of one read, asked for at once.
    pub(crate) width: usize,
    /// Uploads in parts that were given up and could not be aborted yet.
    pub(crate) orphans: Mutex<VecDeque<(Path, MultipartId)>>,
    stopped: watch::Sender<bool>,
}

impl Client {
    pub(crate) fn new(config: &ObjectsConfig, seed: u64) -> Self {
        Client {
            store: config.store.clone(),
            retry: Retry::new(config.deadline, config.try_timeout, config.clock.clone(), seed),
            permits: Semaphore::new(config.requests),
            counts: Counts::default(),
            part_bytes: config.part_bytes,
            width: config.requests,
            orphans: Mutex::default(),
            stopped: watch::Sender::new(false),
        }
    }

    pub(crate) fn requests(&self) -> Requests {
        let Counts { puts, gets, heads, deletes, lists } = &self.counts;
        Requests {
            puts: puts.load(Relaxed),
            gets: gets.load(Relaxed),
            heads: heads.load(Relaxed),
            deletes: deletes.load(Relaxed),
            lists: lists.load(Relaxed),
        }
    }

    /// Ends what waits: requests to put and read from now on fail. Deletions go on.
    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Returns once [`stop`](Self::stop) was called.
    pub(crate) async fn when_stopped(&self) {
        // the sender lives as long as this does
        _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// What `work` returns, unless [`stop`](Self::stop) comes first: then it is dropped.
    pub(crate) async fn until_stopped<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match select(pin!(self.when_stopped()), pin!(work)).await {
            Either::Left(_) => Err(Failure::permanent("closed")),
            Either::Right((answer, _)) => answer,
        }
    }

    /// Tries a request as [`Retry::run`] does, until it is stopped.
    pub(crate) async fn run<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        tries: Tries,
        request: impl FnMut(u32) -> F,
    ) -> Result<T, Failure> {
        self.until_stopped(self.retry.run(tries, request)).await
    }

    /// Runs one try: counted, with others in flight only as many as may be.
    pub(crate) async fn one_try<T>(
        &self,
        count: &AtomicU64,
        request: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, Failure> {
        let _permit = self.permit().await?;
        count.fetch_add(1, Relaxed);
        self.retry.bounded(request).await
    }

    pub(crate) async fn permit(&self) -> Result<SemaphorePermit<'_>, Failure> {
        self.permits.acquire().await.map_err(|_| Failure::permanent("the client is closed"))
    }

    /// Puts an object. Putting the same bytes twice is putting them once, so a try that may have been applied is
    /// simply tried again.
    pub(crate) async fn put(
        &self,
        path: &Path,
        payload: &PutPayload,
        tries: Tries,
    ) -> Result<PutResult, Failure> {
        let put = || self.store.objects.put_opts(path, payload.clone(), Default::default());
        self.run(tries, |_| self.one_try(&self.counts.puts, put())).await
    }

    /// What is known of an object without its content; `None` where there is none.
    pub(crate) async fn head(&self, path: &Path, tries: Tries) -> Result<Option<ObjectMeta>, Failure> {
        let options = || GetOptions { head: true, ..GetOptions::default() };
        let head = || self.store.objects.get_opts(path, options());
        match self.run(tries, |_| self.one_try(&self.counts.heads, head())).await {
            Ok(found) => Ok(Some(found.meta)),
            Err(failure) if failure.absent => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Deletes objects. One that is not there is deleted, so that a try that was applied may be repeated.
    pub(crate) async fn delete(&self, paths: &[Path], tries: Tries) -> Result<(), Failure> {
        let delete = || async {
            let paths = stream::iter(paths.to_vec()).map(Ok).boxed();
            let mut answers = self.store.objects.delete_stream(paths);
            let mut failed = None;
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => failed = Some(error),
                }
            }
            failed.map_or(Ok(()), Err)
        };
        self.retry.run(tries, |_| self.one_try(&self.counts.deletes, delete())).await
    }

    /// All objects below `folder`.
    pub(crate) async fn list(&self, folder: &Path) -> Result<Vec<ObjectMeta>, Failure> {
        let list = || self.store.objects.list(Some(folder)).try_collect();
        self.retry.run(Tries::Many, |_| self.one_try(&self.counts.lists, list())).await
    }

    /// The names of the folders directly below `folder`.
    pub(crate) async fn folders(&self, folder: &Path) -> Result<Vec<String>, Failure> {
        let list = || self.store.objects.list_with_delimiter(Some(folder));
        let listed = self.retry.run(Tries::Many, |_| self.one_try(&self.counts.lists, list())).await?;
        Ok(listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect())
    }
}

/// What S3 deletes with one request.
pub(crate) const DELETED_AT_ONCE: usize = 1000;
