//! Holding the index against the files.

use std::collections::BinaryHeap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::bucket::BUCKETS;
use crate::failure::Failure;
use crate::index::Index;
use crate::part::Posting;
use crate::progress::Progress;
use crate::stop::Stop;
use crate::text::TextReader;
use crate::tree::Tree;
use crate::words::{Place, Words};

/// How many words are recounted.
const SAMPLE: usize = 200;

/// What reading the whole index back showed.
#[derive(Debug)]
pub(crate) struct Survey {
    /// Distinct words.
    pub(crate) words: u64,
    pub(crate) postings: u64,
    /// Words drawn at random, every word being as likely as another.
    pub(crate) sample: Vec<Box<str>>,
}

/// Reads every part back: counts words and postings, and draws the words to recount.
pub(crate) fn survey(index: &Index, seed: u64, stop: &Stop) -> Result<Survey, Failure> {
    let progress = Progress::of_things("reading back", u64::from(BUCKETS));
    let mut survey = Survey { words: 0, postings: 0, sample: Vec::new() };
    let mut draw = Draw { hasher: FixedState::with_seed(seed), lowest: BinaryHeap::new() };
    for bucket in 0..BUCKETS {
        // A word lies in one bucket, but in any number of its parts.
        let mut words: Vec<Box<str>> = Vec::new();
        for part in index.parts(bucket) {
            stop.check()?;
            let part = part?;
            survey.postings += part.postings() as u64;
            words.extend(part.iter().map(|(word, _)| Box::from(word)));
        }
        words.sort_unstable();
        words.dedup();
        survey.words += words.len() as u64;
        words.into_iter().for_each(|word| draw.offer(word));
        progress.advance(1);
    }
    survey.sample = draw.lowest.into_iter().map(|(_, word)| word).collect();
    Ok(survey)
}

/// Draws words one by one from a stream of unknown length: those whose hashes, by a hash function that the
/// seed chooses, are the lowest.
struct Draw {
    hasher: FixedState,
    lowest: BinaryHeap<(u64, Box<str>)>,
}

impl Draw {
    fn offer(&mut self, word: Box<str>) {
        let hash = self.hasher.hash_one(&word);
        if self.lowest.len() < SAMPLE {
            self.lowest.push((hash, word));
        } else if let Some(mut highest) = self.lowest.peek_mut()
            && hash < highest.0
        {
            *highest = (hash, word);
        }
    }
}

/// Reads the files again and compares each occurrence of a word of the sample with the index, in order.
/// Returns how many words were all equal.
pub(crate) fn recount(tree: &Tree, index: &Index, sample: &[Box<str>], stop: &Stop) -> Result<u64, Failure> {
    let progress = Progress::of_bytes("recounting", tree.bytes);
    let mut expected = HashMap::with_hasher(FixedState::with_seed(0));
    expected.extend(sample.iter().map(|word| (&**word, index.postings(word))));
    let mut text = TextReader::new();
    for (number, file) in (0..).zip(&tree.files) {
        let mut words = Words::new(|word, Place { line, column }| {
            let Some(postings) = expected.get_mut(word) else { return Ok(()) };
            compare(word, Some(Posting { file: number, line, column }), postings.next())
        });
        text.read(&file.path, stop, |piece| words.feed(piece))?;
        words.finish()?;
        progress.advance(file.length);
    }
    for (word, mut postings) in expected {
        compare(word, None, postings.next())?;
    }
    Ok(sample.len() as u64)
}

fn compare(
    word: &str,
    in_file: Option<Posting>,
    in_index: Option<overspill::Result<Posting>>,
) -> Result<(), Failure> {
    let in_index = in_index.transpose()?;
    if in_index == in_file {
        return Ok(());
    }
    let place = |posting: Option<Posting>| match posting {
        Some(Posting { file, line, column }) => format!("file {file}, line {line}, column {column}"),
        None => "nowhere else".to_owned(),
    };
    Err(Failure::Mismatch(format!(
        "{word:?} is at {} and the index has it at {}",
        place(in_file),
        place(in_index)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32) -> Option<Posting> {
        Some(Posting { file: 3, line, column: 7 })
    }

    #[test]
    fn what_differs_is_a_mismatch_that_names_both_places() {
        assert!(compare("word", at(1), at(1).map(Ok)).is_ok());
        assert!(compare("word", None, None).is_ok());
        for (in_file, in_index, told) in [
            (
                at(1),
                at(2),
                "\"word\" is at file 3, line 1, column 7 and the index has it at file 3, line 2, column 7",
            ),
            (at(1), None, "\"word\" is at file 3, line 1, column 7 and the index has it at nowhere else"),
            (None, at(2), "\"word\" is at nowhere else and the index has it at file 3, line 2, column 7"),
        ] {
            match compare("word", in_file, in_index.map(Ok)) {
                Err(Failure::Mismatch(text)) => assert_eq!(text, told),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn words_are_drawn_once_each_and_by_the_seed() {
        let drawn = |seed| {
            let mut draw = Draw { hasher: FixedState::with_seed(seed), lowest: BinaryHeap::new() };
            (0..1000).for_each(|n| draw.offer(n.to_string().into()));
            let mut words: Vec<_> = draw.lowest.into_iter().map(|(_, word)| word).collect();
            words.sort_unstable();
            words
        };
        assert_eq!(drawn(1).len(), SAMPLE);
        assert!(drawn(1).windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
