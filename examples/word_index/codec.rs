//! The stored form of a part: words that leave out what they share with the word before, and differences of
//! positions, all numbers in as few bytes as they need.
//!
//! ```text
//! part    = count of words, count of postings, word*
//! word    = bytes shared with the word before, count of other bytes, those bytes, count of postings, posting*
//! posting = file - file before, line - line before (from 0 in another file),
//!           column - column before (from 0 on another line)
//! ```

use std::sync::Arc;

use bytes::Bytes;
use overspill::{Codec, Error, Frames, Result};

use crate::part::{Part, PartBuilder, Posting};

/// Stores a part as one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartCodec;

const START: Posting = Posting { file: 0, line: 0, column: 0 };

impl Codec<Arc<Part>> for PartCodec {
    fn encode(&self, part: &Arc<Part>) -> Result<Frames> {
        let mut out = Vec::with_capacity(part.words() * 12 + part.postings() * 4);
        put(&mut out, part.words() as u64);
        put(&mut out, part.postings() as u64);
        let mut before: &[u8] = &[];
        for (word, postings) in part.iter() {
            let word = word.as_bytes();
            let shared = word.iter().zip(before).take_while(|(a, b)| a == b).count();
            put(&mut out, shared as u64);
            put(&mut out, (word.len() - shared) as u64);
            out.extend_from_slice(&word[shared..]);
            before = word;

            put(&mut out, postings.len() as u64);
            let mut last = START;
            for posting in postings {
                let file = step(last.file, posting.file)?;
                if file > 0 {
                    (last.line, last.column) = (0, 0);
                }
                let line = step(last.line, posting.line)?;
                if line > 0 {
                    last.column = 0;
                }
                let column = step(last.column, posting.column)?;
                [file, line, column].into_iter().for_each(|number| put(&mut out, number));
                last = *posting;
            }
        }
        Ok(Frames::from(Bytes::from(out)))
    }

    fn decode(&self, stored: Frames) -> Result<Arc<Part>> {
        let frame = stored.into_single().ok_or_else(|| damaged("one frame is expected"))?;
        let mut rest = &frame[..];
        let (words, postings) = (take(&mut rest)? as usize, take(&mut rest)? as usize);
        // Checked before memory is taken: a posting has three bytes at least, and a word as many.
        if words.saturating_add(postings) > rest.len() / 3 {
            return Err(damaged("there are fewer words and postings than it says"));
        }
        let mut part = PartBuilder::with_capacity(rest.len() / 2, words, postings);
        let mut word = Vec::new();
        for _ in 0..words {
            let (shared, length) = (take(&mut rest)? as usize, take(&mut rest)? as usize);
            let text;
            (text, rest) = rest.split_at_checked(length).ok_or_else(|| damaged("a word is cut off"))?;
            if shared > word.len() {
                return Err(damaged("a word shares more than the one before has"));
            }
            word.truncate(shared);
            word.extend_from_slice(text);

            let count = take(&mut rest)? as usize;
            if count > postings - part.postings.len() {
                return Err(damaged("there are more postings than it says"));
            }
            let mut last = START;
            for _ in 0..count {
                let (file, line, column) = (take(&mut rest)?, take(&mut rest)?, take(&mut rest)?);
                if file > 0 {
                    (last.line, last.column) = (0, 0);
                }
                if line > 0 {
                    last.column = 0;
                }
                last = Posting {
                    file: plus(last.file, file)?,
                    line: plus(last.line, line)?,
                    column: plus(last.column, column)?,
                };
                part.postings.push(last);
            }
            part.end_word(str::from_utf8(&word).map_err(|_| damaged("a word is no text"))?);
        }
        if part.postings.len() < postings || !rest.is_empty() {
            return Err(damaged("its length is not what it says"));
        }
        Ok(Arc::new(part.finish()))
    }
}

fn damaged(reason: &str) -> Error {
    Error::codec("part", reason)
}

/// The difference of two numbers in ascending order.
fn step(from: u32, to: u32) -> Result<u64> {
    to.checked_sub(from).map(u64::from).ok_or_else(|| damaged("its postings are not in order"))
}

/// Undoes [`step`].
fn plus(from: u32, step: u64) -> Result<u32> {
    u32::try_from(u64::from(from) + step).map_err(|_| damaged("a number is too large"))
}

/// Appends a number, 7 bits a byte, the lowest first.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes off a number below 2^32.
fn take(rest: &mut &[u8]) -> Result<u64> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let byte;
        (byte, *rest) = rest.split_first().ok_or_else(|| damaged("it is cut off"))?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(damaged("a number is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posting(file: u32, line: u32, column: u32) -> Posting {
        Posting { file, line, column }
    }

    fn part(words: &[(&str, &[Posting])]) -> Arc<Part> {
        let mut part = PartBuilder::with_capacity(0, 0, 0);
        for (word, postings) in words {
            part.postings.extend_from_slice(postings);
            part.end_word(word);
        }
        Arc::new(part.finish())
    }

    fn sample() -> Arc<Part> {
        let near = [posting(0, 1, 1), posting(0, 1, 130), posting(0, 2, 7), posting(300, 1, 1)];
        let far = [posting(0, u32::MAX, 0), posting(u32::MAX, u32::MAX, u32::MAX)];
        let words = ["index", "indexed", "indices", "zebra", "zúrich", "zürich", "年"];
        let mut words: Vec<(&str, &[Posting])> = words.into_iter().map(|word| (word, &near[..])).collect();
        words.insert(0, ("far", &far));
        part(&words)
    }

    fn decode(bytes: &[u8]) -> Result<Arc<Part>> {
        PartCodec.decode(Frames::from(Bytes::copy_from_slice(bytes)))
    }

    fn encoded(part: &Arc<Part>) -> Vec<u8> {
        PartCodec.encode(part).unwrap().into_single().unwrap().to_vec()
    }

    #[test]
    fn parts_come_back_equal() {
        for part in [Arc::default(), sample()] {
            assert_eq!(decode(&encoded(&part)).unwrap(), part);
        }
    }

    #[test]
    fn damaged_bytes_are_an_error_or_another_part_and_never_a_panic() {
        let good = encoded(&sample());
        for end in 0..good.len() {
            assert!(decode(&good[..end]).is_err(), "cut at {end}");
        }
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bad = good.clone();
                bad[at] = value;
                if let Ok(part) = decode(&bad) {
                    assert!(part.postings() <= bad.len() / 3 && part.iter().count() == part.words());
                }
            }
        }
        assert!(decode(&[0xff; 16]).is_err());
        assert!(
            decode(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 1, 1, 1]).is_err(),
            "too many words for its length"
        );
    }

    #[test]
    fn postings_out_of_order_are_refused() {
        let unordered = part(&[("word", &[posting(0, 2, 1), posting(0, 1, 1)])]);
        assert!(PartCodec.encode(&unordered).is_err());
    }
}
