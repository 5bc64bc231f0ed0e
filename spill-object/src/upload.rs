//! Putting a pack: in one request, or in parts.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, PutPayload};

use crate::client::Client;
use crate::failure::Failure;
use crate::pack;
use crate::retry::Tries;
use crate::stage::Staged;
use crate::state::Made;

/// S3 takes no more parts for one object.
const MOST_PARTS: u64 = 10_000;

impl Client {
    /// Puts the values of a pack as one object. The bytes are the same with every try.
    pub(crate) async fn upload(
        &self,
        path: &Path,
        number: u64,
        values: &[Option<Staged>],
        tries: Tries,
    ) -> Result<Made, Failure> {
        let mut pieces = Vec::with_capacity(2 * values.len());
        let mut records = Vec::with_capacity(values.len());
        let mut bytes = 0;
        for value in values {
            records.push(value.as_ref().map(|staged| {
                // what is packed is shorter than a pack, whose length fits; a large value is alone, at 0
                let offset = bytes as u32;
                let checksum = pack::encode(&staged.frames, staged.shape, number, &mut pieces);
                bytes += staged.shape.length();
                (offset, checksum)
            }));
        }
        let e_tag = match &self.store.parts {
            Some(parts) if bytes > self.part_bytes => {
                self.put_in_parts(&**parts, path, pieces, bytes, tries).await?
            }
            _ => self.put(path, &pieces.into_iter().collect(), tries).await?.e_tag,
        };
        Ok(Made { bytes, e_tag, records })
    }

    /// Puts an object in parts, and aborts the upload when one of them fails for good.
    async fn put_in_parts(
        &self,
        store: &dyn MultipartStore,
        path: &Path,
        pieces: Vec<Bytes>,
        bytes: u64,
        tries: Tries,
    ) -> Result<Option<String>, Failure> {
        let counts = &self.counts.puts;
        let create = |_| self.one_try(counts, store.create_multipart(path));
        let id = self.run(tries, create).await?;
        let upload = Parts { client: self, store, path, id: &id };
        let mut unended = Unended { client: self, upload: Some((path, &id)) };
        let part_bytes = self.part_bytes.max(bytes.div_ceil(MOST_PARTS));
        let done = self.until_stopped(upload.put_and_complete(split(pieces, part_bytes), bytes, tries)).await;
        if done.is_ok() || self.abort(store, path, &id, tries).await {
            unended.upload = None;
        }
        done
    }

    /// Whether an upload in parts is there no more.
    async fn abort(&self, store: &dyn MultipartStore, path: &Path, id: &MultipartId, tries: Tries) -> bool {
        let abort = |_| self.one_try(&self.counts.deletes, store.abort_multipart(path, id));
        match self.retry.run(tries, abort).await {
            Ok(()) => true,
            Err(failure) if failure.absent => true,
            Err(failure) => {
                tracing::warn!(
                    location = self.store.location(path),
                    status = failure.status,
                    "an upload in parts could not be aborted; it is tried again later"
                );
                false
            }
        }
    }

    /// Aborts the uploads that could not be aborted before.
    pub(crate) async fn abort_orphans(&self, tries: Tries) {
        let Some(store) = &self.store.parts else { return };
        let count = self.orphans.lock().len();
        for _ in 0..count {
            // taken one by one: this may be cut off
            let Some((path, id)) = self.orphans.lock().pop_front() else { return };
            let mut unended = Unended { client: self, upload: Some((&path, &id)) };
            if self.abort(&**store, &path, &id, tries).await {
                unended.upload = None;
            }
        }
    }
}

/// Keeps an upload in mind that ends neither well nor by an abort, however that comes about.
struct Unended<'a> {
    client: &'a Client,
    upload: Option<(&'a Path, &'a MultipartId)>,
}

impl Drop for Unended<'_> {
    fn drop(&mut self) {
        if let Some((path, id)) = self.upload {
            self.client.orphans.lock().push_back((path.clone(), id.clone()));
        }
    }
}

/// An upload in parts that was begun.
struct Parts<'a> {
    client: &'a Client,
    store: &'a dyn MultipartStore,
    path: &'a Path,
    id: &'a MultipartId,
}

impl Parts<'_> {
    async fn put_and_complete(
        &self,
        parts: Vec<PutPayload>,
        bytes: u64,
        tries: Tries,
    ) -> Result<Option<String>, Failure> {
        let client = self.client;
        let failed = AtomicBool::new(false);
        let failed = &failed;
        let puts = parts.into_iter().enumerate().map(|(n, payload)| async move {
            // those in flight run to their end, so that the abort leaves none behind
            if failed.load(Relaxed) {
                return Err(Failure::transient("another part failed"));
            }
            let put = |_| {
                let part = self.store.put_part(self.path, self.id, n, payload.clone());
                client.one_try(&client.counts.puts, part)
            };
            let part = client.retry.run(tries, put).await;
            failed.fetch_or(part.is_err(), Relaxed);
            part
        });
        let answers: Vec<_> = stream::iter(puts).buffered(client.width).collect().await;
        let mut parts = Vec::with_capacity(answers.len());
        let mut failure: Option<Failure> = None;
        for answer in answers {
            match answer {
                Ok(part) => parts.push(part),
                Err(later) if failure.is_none() || !later.status.starts_with("another part") => {
                    failure = Some(later);
                }
                Err(_) => {}
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None => self.complete(parts, bytes, tries).await,
        }
    }

    /// Ends the upload. A try that timed out may have been applied: then the next is refused, since there is no such
    /// upload any more, and the object itself tells.
    async fn complete(
        &self,
        parts: Vec<PartId>,
        bytes: u64,
        tries: Tries,
    ) -> Result<Option<String>, Failure> {
        let client = self.client;
        let parts = &parts;
        let complete = |_| async move {
            let complete = self.store.complete_multipart(self.path, self.id, parts.clone());
            match client.one_try(&client.counts.puts, complete).await {
                Ok(put) => Ok(put.e_tag),
                Err(failure) => match client.head(self.path, Tries::One).await {
                    Ok(Some(meta)) if meta.size == bytes => Ok(meta.e_tag),
                    _ => Err(failure),
                },
            }
        };
        client.retry.run(tries, complete).await
    }
}

/// The pieces, cut and gathered into parts of this many bytes, without copying.
fn split(pieces: Vec<Bytes>, part_bytes: u64) -> Vec<PutPayload> {
    let (mut parts, mut part, mut room) = (Vec::new(), Vec::new(), part_bytes);
    for mut piece in pieces {
        while piece.len() as u64 >= room {
            part.push(piece.split_to(room as usize));
            parts.push(std::mem::take(&mut part).into_iter().collect());
            room = part_bytes;
        }
        if !piece.is_empty() {
            room -= piece.len() as u64;
            part.push(piece);
        }
    }
    if !part.is_empty() {
        parts.push(part.into_iter().collect());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_one_length_but_the_last() {
        let pieces =
            |lengths: &[usize]| lengths.iter().map(|len| Bytes::from(vec![1; *len])).collect::<Vec<_>>();
        let lengths =
            |parts: Vec<PutPayload>| parts.iter().map(PutPayload::content_length).collect::<Vec<_>>();
        assert_eq!(lengths(split(pieces(&[32, 100]), 50)), [50, 50, 32]);
        assert_eq!(lengths(split(pieces(&[10, 40, 1, 0, 49]), 50)), [50, 50]);
        assert_eq!(lengths(split(pieces(&[5]), 50)), [5]);
    }
}
