//! Postings on their way into the index.

use hashbrown::HashTable;

use crate::bucket;
use crate::part::Posting;
use crate::words::LONGEST_WORD;

/// How much a batch holds. Its memory is taken once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchSize {
    pub(crate) postings: usize,
    /// Distinct words.
    pub(crate) words: usize,
    /// Bytes of the distinct words together.
    pub(crate) text: usize,
}

impl BatchSize {
    /// A batch of at most `bytes` bytes, in proportions that suit source code.
    pub(crate) fn within(bytes: u64) -> Self {
        let postings = bytes as usize / 28;
        BatchSize { postings, words: postings / 4, text: postings * 4 }
    }

    /// Bytes of RAM that one batch takes.
    pub(crate) fn bytes(self) -> u64 {
        // A hash table's buckets are a power of two, at most 7/8 full, of a u32 and a control byte each.
        let buckets = (self.words * 8 / 7).next_power_of_two();
        let bytes = self.postings * size_of::<Linked>()
            + self.words * (size_of::<Word>() + size_of::<u32>())
            + buckets * (size_of::<u32>() + 1)
            + self.text;
        bytes as u64
    }
}

/// Postings in the order in which they were read, with the words they belong to.
///
/// The postings of one word are linked backwards through one array, so that adding one allocates nothing.
#[derive(Debug)]
pub(crate) struct Batch {
    size: BatchSize,
    /// Positions in `words`, by hash.
    table: HashTable<u32>,
    words: Vec<Word>,
    text: String,
    postings: Vec<Linked>,
    /// The postings of the word that has most.
    most: u32,
    /// Positions in `words`, by bucket and then by word.
    order: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Linked {
    posting: Posting,
    before: u32,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    start: u32,
    length: u16,
    bucket: u16,
    last: u32,
    count: u32,
}

/// No posting.
const NONE: u32 = u32::MAX;

impl Word {
    fn text<'a>(&self, text: &'a str) -> &'a str {
        &text[self.start as usize..][..usize::from(self.length)]
    }
}

impl Batch {
    pub(crate) fn new(size: BatchSize) -> Self {
        Batch {
            size,
            table: HashTable::with_capacity(size.words),
            words: Vec::with_capacity(size.words),
            text: String::with_capacity(size.text),
            postings: Vec::with_capacity(size.postings),
            most: 0,
            order: Vec::with_capacity(size.words),
        }
    }

    /// Whether the next posting might not fit, or should not.
    ///
    /// A word that fills a batch (a table of numbers is mostly zeros) would make one part as large as that.
    /// Where all other parts are small, what they leave free is in small pieces, of no use to a large one, so
    /// a batch ends early for it.
    pub(crate) fn is_full(&self) -> bool {
        // Lower-casing makes some letters longer, from two bytes to three.
        self.postings.len() == self.size.postings
            || self.words.len() == self.size.words
            || self.text.len() + LONGEST_WORD * 3 / 2 > self.size.text
            || self.most as usize >= self.size.postings / 8
    }

    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.words.clear();
        self.text.clear();
        self.postings.clear();
        self.most = 0;
    }

    /// Adds a posting that comes after all that were added before. The batch must not be full.
    pub(crate) fn push(&mut self, word: &str, posting: Posting) {
        let Batch { table, words, text, postings, most, .. } = self;
        let hash = bucket::hash(word);
        let found = table.find(hash, |&at| words[at as usize].text(text) == word);
        let at = found.copied().unwrap_or_else(|| {
            let (at, start) = (words.len() as u32, text.len() as u32);
            text.push_str(word);
            let bucket = bucket::of_hash(hash);
            words.push(Word { start, length: word.len() as u16, bucket, last: NONE, count: 0 });
            table.insert_unique(hash, at, |&at| bucket::hash(words[at as usize].text(text)));
            at
        });
        let word = &mut words[at as usize];
        let before = std::mem::replace(&mut word.last, postings.len() as u32);
        word.count += 1;
        *most = word.count.max(*most);
        postings.push(Linked { posting, before });
    }

    /// The words of each bucket that has any, in order.
    pub(crate) fn buckets(&mut self) -> impl Iterator<Item = BucketWords<'_>> {
        self.order.clear();
        self.order.extend(0..self.words.len() as u32);
        let (words, text) = (&self.words, &self.text);
        self.order.sort_unstable_by(|&a, &b| {
            let (a, b) = (&words[a as usize], &words[b as usize]);
            a.bucket.cmp(&b.bucket).then_with(|| a.text(text).cmp(b.text(text)))
        });
        let batch = &*self;
        let bucket_of = |at: u32| batch.words[at as usize].bucket;
        let runs = batch.order.chunk_by(move |&a, &b| bucket_of(a) == bucket_of(b));
        runs.map(move |words| BucketWords { bucket: bucket_of(words[0]), words, batch })
    }
}

/// The words of one bucket in a batch.
pub(crate) struct BucketWords<'a> {
    pub(crate) bucket: u16,
    words: &'a [u32],
    batch: &'a Batch,
}

impl BucketWords<'_> {
    /// The words in order, each with the number of its postings, and these from the last to the first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, usize, impl Iterator<Item = Posting>)> + Clone {
        let Batch { words, text, postings, .. } = self.batch;
        self.words.iter().map(move |&at| {
            let word = words[at as usize];
            let get = |at: u32| postings.get(at as usize); // `NONE` is beyond the end
            let chain = std::iter::successors(get(word.last), move |linked| get(linked.before));
            (word.text(text), word.count as usize, chain.map(|linked| linked.posting))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SIZE: BatchSize = BatchSize { postings: 2000, words: 100, text: 4096 };

    fn words_of(batch: &mut Batch) -> BTreeMap<String, Vec<u32>> {
        let mut all = BTreeMap::new();
        let mut last = None;
        for words in batch.buckets() {
            assert!(last < Some(words.bucket), "each bucket comes once, in order");
            last = Some(words.bucket);
            for (word, count, reversed) in words.iter() {
                assert_eq!(bucket::of(word), words.bucket);
                let mut lines: Vec<_> = reversed.map(|posting| posting.line).collect();
                lines.reverse();
                assert_eq!(lines.len(), count);
                assert_eq!(all.insert(word.to_owned(), lines), None, "each word comes once");
            }
        }
        all
    }

    #[test]
    fn postings_come_out_by_bucket_and_word_and_in_order() {
        let mut batch = Batch::new(SIZE);
        for round in 0..2 {
            let mut model: BTreeMap<String, Vec<u32>> = BTreeMap::new();
            for line in 0..1000 {
                let word = format!("w{}", line * (line + round) % 71);
                batch.push(&word, Posting { file: 0, line, column: 1 });
                model.entry(word).or_default().push(line);
            }
            assert_eq!(words_of(&mut batch), model);
            batch.clear();
            assert!(batch.buckets().next().is_none());
        }
    }

    #[test]
    fn a_size_is_within_its_bytes_and_near_them() {
        for bytes in (1 << 20..16 << 20).step_by(99_999) {
            let size = BatchSize::within(bytes).bytes();
            assert!(size <= bytes && size >= bytes - bytes / 8, "{size} of {bytes}");
        }
    }

    #[test]
    fn one_word_fills_a_batch_early() {
        let mut batch = Batch::new(SIZE);
        let lines = (0..).take_while(|&line| {
            let room = !batch.is_full();
            if room {
                batch.push("0", Posting { file: 0, line, column: 1 });
            }
            room
        });
        assert_eq!(lines.count(), SIZE.postings / 8);
        batch.clear();
        assert!(!batch.is_full());
    }

    #[test]
    fn a_batch_that_fills_up_takes_no_memory_beyond_its_size() {
        let mut batch = Batch::new(SIZE);
        for line in 0.. {
            if batch.is_full() {
                break;
            }
            batch.push(&format!("word number {}", line * line), Posting { file: 0, line, column: 1 });
        }
        assert!(batch.words.capacity() == SIZE.words && batch.postings.capacity() == SIZE.postings);
        assert!(batch.text.capacity() == SIZE.text && batch.table.capacity() >= SIZE.words);
        assert!(batch.table.allocation_size() as u64 <= SIZE.bytes());
    }
}
