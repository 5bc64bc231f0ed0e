//! The index: chains of parts in a buffer.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;

use overspill::presets::{CompressedDisk, Preset};
use overspill::{Compression, ManualEvict, MutableMapping, Result, Stats, Usage};

use crate::batch::{Batch, BucketWords};
use crate::bucket::{self, BUCKETS};
use crate::codec::PartCodec;
use crate::failure::Failure;
use crate::part::{self, Part, PartKey, Posting};
use crate::plan::Plan;
use crate::stop::Stop;

/// The weight in bytes at which a part is full and the next one begins.
pub(crate) const PART_BYTES: u64 = 32 << 10;

type Store = CompressedDisk<PartKey, Arc<Part>, PartCodec>;

/// The parts of all buckets. Those of one are numbered from 0; the last is the one that grows.
pub(crate) struct Index {
    store: Arc<Store>,
    /// How many parts of each bucket are full.
    full: Vec<u32>,
}

impl Index {
    /// An empty index. A directory that cannot be written is the user's mistake.
    pub(crate) fn open(
        plan: &Plan,
        directory: Option<&Path>,
        compression: Compression,
    ) -> Result<Self, Failure> {
        let store = Preset::weighed_by(plan.buffer, part::weigh)
            .directory(directory)
            .compressed_disk(PartCodec, compression)
            .map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(Index { store: Arc::new(store), full: vec![0; usize::from(BUCKETS)] })
    }

    /// The buffer, for a monitor.
    pub(crate) fn evictable(&self) -> Arc<dyn ManualEvict> {
        Arc::<Store>::clone(&self.store)
    }

    /// Adds all of `batch`, and leaves it empty.
    pub(crate) fn merge(&mut self, batch: &mut Batch, stop: &Stop) -> Result<(), Failure> {
        for words in batch.buckets() {
            stop.check()?;
            self.append(&words)?;
        }
        batch.clear();
        // A spill that fails keeps its value in RAM. This program would rather end than outgrow its limit,
        // and writing what is there brings the reason to light.
        if self.store.usage().fast > self.store.target() {
            self.store.flush()?;
        }
        Ok(())
    }

    fn append(&mut self, words: &BucketWords<'_>) -> Result<()> {
        let full = &mut self.full[usize::from(words.bucket)];
        let key = PartKey { bucket: words.bucket, number: *full };
        let weight = Cell::new(0);
        let with_words = |part: &Part| {
            let part = part.merged(words.iter());
            weight.set(part.weight());
            Arc::new(part)
        };
        // The closure is alone with the value and holds no lock; a value that is on disk is read back first.
        self.store.upsert(key, || with_words(&Part::default()), |part| *part = with_words(part))?;
        if weight.get() >= PART_BYTES {
            *full += 1;
        }
        Ok(())
    }

    /// The parts of a bucket, one at a time. Nothing is moved to RAM for it.
    pub(crate) fn parts(&self, bucket: u16) -> impl Iterator<Item = Result<Arc<Part>>> {
        self.keys(bucket).filter_map(|key| self.store.peek(&key).transpose())
    }

    /// The postings of a word, in order, of which one part's are in RAM at a time. Counts as a use of the
    /// parts, so those that several words ask for come back to RAM.
    pub(crate) fn postings(&self, word: &str) -> impl Iterator<Item = Result<Posting>> {
        let parts = self.keys(bucket::of(word)).filter_map(|key| self.store.get(&key).transpose());
        parts.flat_map(move |part| {
            let (postings, error) = match part {
                Ok(part) => (part.postings_of(word).to_vec(), None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            postings.into_iter().map(Ok).chain(error)
        })
    }

    /// The keys of a bucket's parts. The last one need not exist: the part before it may have become full
    /// with the last posting.
    fn keys(&self, bucket: u16) -> impl Iterator<Item = PartKey> {
        (0..=self.full[usize::from(bucket)]).map(move |number| PartKey { bucket, number })
    }

    pub(crate) fn usage(&self) -> Usage {
        self.store.usage()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.store.stats()
    }

    /// The bytes that values in RAM may weigh.
    pub(crate) fn target(&self) -> u64 {
        self.store.target()
    }

    /// Removes all that is on disk.
    pub(crate) fn close(&self) -> Result<()> {
        self.store.close()
    }
}
