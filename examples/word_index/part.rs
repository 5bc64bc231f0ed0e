//! What the buffer holds: some postings of the words of one bucket.

use std::cmp::Ordering;
use std::sync::Arc;

/// Where a word stands in the tree. Ordered as a reader meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Posting {
    /// The file's number in the list of files.
    pub(crate) file: u32,
    /// From 1.
    pub(crate) line: u32,
    /// In bytes, from 1.
    pub(crate) column: u32,
}

/// The key of a part: its bucket, and its place in the bucket's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PartKey {
    pub(crate) bucket: u16,
    pub(crate) number: u32,
}

/// Words in order, each with its postings in order. A word may have more of them in the parts before and
/// after.
///
/// A part never changes; [`merged`](Self::merged) makes a new one. Three arrays of exactly their length, and
/// not a map of lists, since a program that keeps to a limit must know what its values take, and because
/// millions of small allocations that come and go would leave more gaps than the limit has room for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// All words, back to back.
    text: Box<str>,
    words: Box<[WordEnd]>,
    /// The postings of all words, back to back.
    postings: Box<[Posting]>,
}

/// Where a word ends in the text, and where its postings end; both begin where those of the word before end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WordEnd {
    text: u32,
    postings: u32,
}

const START: WordEnd = WordEnd { text: 0, postings: 0 };

impl Part {
    /// The words with their postings.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[Posting])> {
        (0..self.words.len()).map(|at| self.entry(at))
    }

    fn entry(&self, at: usize) -> (&str, &[Posting]) {
        let start = at.checked_sub(1).map_or(START, |before| self.words[before]);
        let end = self.words[at];
        (
            &self.text[start.text as usize..end.text as usize],
            &self.postings[start.postings as usize..end.postings as usize],
        )
    }

    /// The postings of a word; none when it is not here.
    pub(crate) fn postings_of(&self, word: &str) -> &[Posting] {
        let (mut low, mut high) = (0, self.words.len());
        while low < high {
            let middle = low.midpoint(high);
            let (found, postings) = self.entry(middle);
            match found.cmp(word) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return postings,
                Ordering::Greater => high = middle,
            }
        }
        &[]
    }

    /// How many words it has.
    pub(crate) fn words(&self) -> usize {
        self.words.len()
    }

    /// How many postings all its words have.
    pub(crate) fn postings(&self) -> usize {
        self.postings.len()
    }

    /// This part with more postings, that come after those it has. The words of `more` are in order, and
    /// each comes with the number of its postings and these from the last to the first.
    pub(crate) fn merged<'a, R>(&self, more: impl Iterator<Item = (&'a str, usize, R)> + Clone) -> Part
    where
        R: Iterator<Item = Posting>,
    {
        let (mut text, mut words, mut postings) = (self.text.len(), self.words.len(), self.postings.len());
        for (word, count, _) in more.clone() {
            (text, words, postings) = (text + word.len(), words + 1, postings + count);
        }
        let mut builder = PartBuilder::with_capacity(text, words, postings);
        let mut old = self.iter().peekable();
        for (word, _, reversed) in more {
            while let Some((before, postings)) = old.next_if(|(old, _)| *old < word) {
                builder.postings.extend_from_slice(postings);
                builder.end_word(before);
            }
            if let Some((_, postings)) = old.next_if(|(old, _)| *old == word) {
                builder.postings.extend_from_slice(postings);
            }
            let added = builder.postings.len();
            builder.postings.extend(reversed);
            builder.postings[added..].reverse();
            builder.end_word(word);
        }
        for (word, postings) in old {
            builder.postings.extend_from_slice(postings);
            builder.end_word(word);
        }
        builder.finish()
    }

    /// Bytes of RAM that the part takes, those on account of its key in the buffer included.
    pub(crate) fn weight(&self) -> u64 {
        FIXED
            + allocated(self.text.len())
            + allocated(size_of_val(&*self.words))
            + allocated(size_of_val(&*self.postings))
    }
}

/// The weigher of the buffer.
pub(crate) fn weigh(_key: &PartKey, part: &Arc<Part>) -> u64 {
    part.weight()
}

/// The part in its `Arc`, and a slot in the buffer's table with its share of the hash index.
const FIXED: u64 = (16 + 16 + size_of::<Part>() + 96) as u64;

/// What malloc takes for `bytes`: glibc adds 8 and rounds up to 16, 32 at least.
fn allocated(bytes: usize) -> u64 {
    match bytes {
        0 => 0,
        bytes => (bytes as u64 + 8).next_multiple_of(16).max(32),
    }
}

/// A part that is being put together.
pub(crate) struct PartBuilder {
    text: String,
    words: Vec<WordEnd>,
    /// To be added to before their word ends.
    pub(crate) postings: Vec<Posting>,
}

impl PartBuilder {
    /// Takes memory for so many bytes of text, words and postings.
    pub(crate) fn with_capacity(text: usize, words: usize, postings: usize) -> Self {
        PartBuilder {
            text: String::with_capacity(text),
            words: Vec::with_capacity(words),
            postings: Vec::with_capacity(postings),
        }
    }

    /// Adds the next word in order; the postings that were added since the last one are its own.
    pub(crate) fn end_word(&mut self, word: &str) {
        self.text.push_str(word);
        // A part is some 32 KiB and at most one batch more, far from 2^32.
        self.words.push(WordEnd { text: self.text.len() as u32, postings: self.postings.len() as u32 });
    }

    pub(crate) fn finish(self) -> Part {
        Part { text: self.text.into(), words: self.words.into(), postings: self.postings.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn posting(line: u32) -> Posting {
        Posting { file: 0, line, column: 1 }
    }

    /// Merges words with their lines in ascending order.
    fn merged(part: &Part, more: &BTreeMap<&str, Vec<u32>>) -> Part {
        let reversed = |lines: &Vec<u32>| lines.clone().into_iter().rev().map(posting);
        part.merged(more.iter().map(|(word, lines)| (*word, lines.len(), reversed(lines))))
    }

    #[test]
    fn merging_keeps_words_and_postings_in_order() {
        let first = BTreeMap::from([("b", vec![1, 2]), ("d", vec![3]), ("é", vec![4])]);
        let second = BTreeMap::from([("a", vec![5]), ("b", vec![6, 7]), ("c", vec![8]), ("è", vec![9, 10])]);
        let part = merged(&merged(&Part::default(), &first), &second);
        let found: Vec<_> =
            part.iter().map(|(word, list)| (word, list.iter().map(|p| p.line).collect::<Vec<_>>())).collect();
        let expected = [
            ("a", vec![5]),
            ("b", vec![1, 2, 6, 7]),
            ("c", vec![8]),
            ("d", vec![3]),
            ("è", vec![9, 10]),
            ("é", vec![4]),
        ];
        assert_eq!(found, expected);
        for (word, lines) in expected {
            assert_eq!(part.postings_of(word), lines.into_iter().map(posting).collect::<Vec<_>>());
        }
        for absent in ["", "aa", "e", "ê", "zz"] {
            assert_eq!(part.postings_of(absent), []);
        }
        assert_eq!((part.words(), part.postings()), (6, 10));
    }

    #[test]
    fn the_weight_is_what_the_arrays_take() {
        let part = merged(&Part::default(), &BTreeMap::from([("word", (0..100).collect())]));
        // 4 bytes of text, one word of 8, 100 postings of 12, each with what malloc adds
        assert_eq!(part.weight(), FIXED + 32 + 32 + 1216);
        assert_eq!(Part::default().weight(), FIXED);
    }
}
