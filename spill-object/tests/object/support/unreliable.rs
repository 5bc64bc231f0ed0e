//! An object store in memory whose requests fail at will: before they are applied, after, or never answered.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use spill_object::object_store::memory::InMemory;
use spill_object::object_store::multipart::{MultipartStore, PartId};
use spill_object::object_store::path::Path;
use spill_object::object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartId, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// The requests, as they are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    Put,
    Get,
    Head,
    Delete,
    List,
    Create,
    Part,
    Complete,
    Abort,
}

/// How a request goes wrong. Whether it was done and what is said of it are two things.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Strike {
    /// It is not done, and fails.
    Before(fn() -> Error),
    /// It is done, and fails.
    After(fn() -> Error),
    /// It is not done, and never answered.
    Hang,
    /// It is done, and never answered.
    HangAfter,
    /// A body ends before this many bytes of it.
    Truncate(usize),
    /// A body never goes on after this many bytes of it.
    Stall(usize),
    /// A body has its first byte changed.
    Damage,
    /// The object seems to have another ETag, and another content.
    Replace,
}

/// An error as S3's client gives it for this answer.
pub(crate) fn answer(status: &str, code: &str) -> Error {
    let text = format!(
        "Error performing PUT http://host/bucket in 1ms - Server returned non-2xx status code: {status}: \
         <Error><Code>{code}</Code><Message>words</Message></Error>"
    );
    Error::Generic { store: "S3", source: text.into() }
}

type Plan = Box<dyn FnMut(Op, &Path) -> Option<Strike> + Send>;

/// A store in memory with a plan of what goes wrong.
#[derive(Default)]
pub(crate) struct Unreliable {
    pub(crate) inner: InMemory,
    plan: Mutex<Option<Plan>>,
    counts: Mutex<HashMap<Op, u64>>,
    struck: Mutex<u64>,
    /// Folders whose objects seem older than they are.
    aged: Mutex<Vec<(String, Duration)>>,
    /// Uploads in parts that were begun, and neither ended nor aborted.
    open: Mutex<Vec<MultipartId>>,
}

impl Unreliable {
    /// From now on requests go wrong as `plan` says.
    pub(crate) fn plan(&self, plan: impl FnMut(Op, &Path) -> Option<Strike> + Send + 'static) {
        *self.plan.lock().unwrap() = Some(Box::new(plan));
    }

    /// All requests of this kind go wrong.
    pub(crate) fn always(&self, on: Op, strike: Strike) {
        self.plan(move |op, _| (op == on).then_some(strike));
    }

    /// The next requests of this kind go wrong.
    pub(crate) fn next(&self, on: Op, times: u64, strike: Strike) {
        let mut left = times;
        self.plan(move |op, path| {
            let strikes = op == on && left > 0 && !path.as_ref().ends_with("lease");
            left -= u64::from(strikes);
            strikes.then_some(strike)
        });
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn heal(&self) {
        *self.plan.lock().unwrap() = None;
    }

    /// How many requests of this kind there were.
    pub(crate) fn count(&self, op: Op) -> u64 {
        self.counts.lock().unwrap().get(&op).copied().unwrap_or(0)
    }

    /// How many requests there were.
    pub(crate) fn total(&self) -> u64 {
        self.counts.lock().unwrap().values().sum()
    }

    /// How many went wrong. A test that plans for it asks, so as not to pass by missing.
    pub(crate) fn struck(&self) -> u64 {
        *self.struck.lock().unwrap()
    }

    /// Makes all in this folder seem older.
    pub(crate) fn age(&self, folder: &str, by: Duration) {
        self.aged.lock().unwrap().push((folder.to_owned(), by));
    }

    /// All is as old as it is again.
    pub(crate) fn forget_ages(&self) {
        self.aged.lock().unwrap().clear();
    }

    /// Uploads in parts that nobody ended.
    pub(crate) fn open_uploads(&self) -> usize {
        self.open.lock().unwrap().len()
    }

    /// The objects there are, and their sizes.
    pub(crate) async fn contents(&self) -> Vec<(String, u64)> {
        let listed =
            self.inner.list(None).map(|meta| meta.map(|meta| (meta.location.to_string(), meta.size)));
        listed.collect::<Vec<_>>().await.into_iter().collect::<Result<_>>().unwrap()
    }

    fn strike(&self, op: Op, path: &Path) -> Option<Strike> {
        *self.counts.lock().unwrap().entry(op).or_default() += 1;
        let strike = self.plan.lock().unwrap().as_mut().and_then(|plan| plan(op, path));
        *self.struck.lock().unwrap() += u64::from(strike.is_some());
        strike
    }

    async fn request<T>(&self, op: Op, path: &Path, done: impl Future<Output = Result<T>>) -> Result<T> {
        match self.strike(op, path) {
            None | Some(Strike::Truncate(_) | Strike::Stall(_) | Strike::Damage | Strike::Replace) => {
                done.await
            }
            Some(Strike::Before(error)) => Err(error()),
            Some(Strike::After(error)) => {
                done.await?;
                Err(error())
            }
            Some(Strike::Hang) => std::future::pending().await,
            Some(Strike::HangAfter) => {
                done.await?;
                std::future::pending().await
            }
        }
    }

    fn seen(&self, mut meta: ObjectMeta) -> ObjectMeta {
        for (folder, by) in &*self.aged.lock().unwrap() {
            if meta.location.as_ref().starts_with(folder.as_str()) {
                meta.last_modified -= *by;
            }
        }
        meta
    }
}

impl fmt::Display for Unreliable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unreliable")
    }
}

impl fmt::Debug for Unreliable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unreliable")
    }
}

/// A body in pieces of a few bytes.
fn body(bytes: Bytes, then: Option<Strike>) -> BoxStream<'static, Result<Bytes>> {
    let pieces = |bytes: Bytes| {
        let cuts: Vec<_> = (0..bytes.len()).step_by(700).map(|at| at..bytes.len().min(at + 700)).collect();
        stream::iter(cuts).map(move |cut| Ok(bytes.slice(cut)))
    };
    match then {
        Some(Strike::Truncate(len)) => pieces(bytes.slice(..len.min(bytes.len() - 1))).boxed(),
        Some(Strike::Stall(len)) => {
            pieces(bytes.slice(..len.min(bytes.len() - 1))).chain(stream::pending()).boxed()
        }
        Some(Strike::Damage | Strike::Replace) => {
            let mut damaged = bytes.to_vec();
            damaged[0] ^= 1;
            pieces(damaged.into()).boxed()
        }
        _ => pieces(bytes).boxed(),
    }
}

#[async_trait]
impl ObjectStore for Unreliable {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.request(Op::Put, path, self.inner.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            let mut found = self.request(Op::Head, path, self.inner.get_opts(path, options)).await?;
            found.meta = self.seen(found.meta);
            return Ok(found);
        }
        let strike = self.strike(Op::Get, path);
        match strike {
            Some(Strike::Before(error) | Strike::After(error)) => return Err(error()),
            Some(Strike::Hang | Strike::HangAfter) => std::future::pending::<()>().await,
            _ => {}
        }
        let mut found = self.inner.get_opts(path, options).await?;
        let (mut meta, range) = (found.meta.clone(), found.range.clone());
        let attributes = std::mem::take(&mut found.attributes);
        let bytes = found.bytes().await?;
        if matches!(strike, Some(Strike::Replace)) {
            meta.e_tag = Some("another".to_owned());
        }
        let payload = GetResultPayload::Stream(body(bytes, strike));
        Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let strike = self.strike(Op::Delete, &Path::default());
        let done = self.inner.delete_stream(paths);
        let failed = |error: fn() -> Error| stream::once(async move { Err(error()) });
        match strike {
            Some(Strike::Before(error)) => failed(error).boxed(),
            Some(Strike::After(error)) => done.chain(failed(error)).boxed(),
            Some(Strike::Hang) => stream::pending().boxed(),
            Some(Strike::HangAfter) => done.chain(stream::pending()).boxed(),
            _ => done,
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.strike(Op::List, &Path::default()) {
            Some(Strike::Before(error) | Strike::After(error)) => {
                stream::once(async move { Err(error()) }).boxed()
            }
            Some(Strike::Hang | Strike::HangAfter) => stream::pending().boxed(),
            _ => {
                let listed = self.inner.list(prefix).collect::<Vec<_>>().now_or_never().unwrap();
                let seen: Vec<_> = listed.into_iter().map(|meta| meta.map(|meta| self.seen(meta))).collect();
                stream::iter(seen).boxed()
            }
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.request(Op::List, &Path::default(), self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Unreliable {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        let create = async {
            let id = self.inner.create_multipart(path).await?;
            self.open.lock().unwrap().push(id.clone());
            Ok(id)
        };
        self.request(Op::Create, path, create).await
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, n: usize, data: PutPayload) -> Result<PartId> {
        self.request(Op::Part, path, self.inner.put_part(path, id, n, data)).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        let complete = async {
            let put = self.inner.complete_multipart(path, id, parts).await?;
            self.open.lock().unwrap().retain(|open| open != id);
            Ok(put)
        };
        self.request(Op::Complete, path, complete).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let abort = async {
            self.inner.abort_multipart(path, id).await?;
            self.open.lock().unwrap().retain(|open| open != id);
            Ok(())
        };
        self.request(Op::Abort, path, abort).await
    }
}
