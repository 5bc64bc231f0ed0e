//! Cutting text into words.

use crate::failure::Failure;

/// Longer runs, in bytes as written, are no words: keys, digests and other data.
pub(crate) const LONGEST_WORD: usize = 255;

/// Where a word begins: line and column from 1, columns in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// Cuts the text of one file, given in pieces, into words: runs of alphanumeric characters and underscores,
/// lower-cased. `found` is given each word as it ends, and can end it all.
#[derive(Debug)]
pub(crate) struct Words<F> {
    found: F,
    /// The word that is being read, in lower case.
    word: String,
    /// Bytes of it so far, as written.
    length: usize,
    place: Place,
    line: u32,
    column: u32,
}

/// What an ASCII byte is: itself in lower case, or one of the following, which no word has.
const SEPARATOR: u8 = 0;
const NEWLINE: u8 = b'\n';
const WIDE: u8 = 0xff;

const CLASSES: [u8; 256] = {
    let mut classes = [SEPARATOR; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        classes[byte] = match b {
            b'a'..=b'z' | b'0'..=b'9' | b'_' => b,
            b'A'..=b'Z' => b.to_ascii_lowercase(),
            b'\n' => NEWLINE,
            0x80.. => WIDE,
            _ => SEPARATOR,
        };
        byte += 1;
    }
    classes
};

fn class(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

impl<F: FnMut(&str, Place) -> Result<(), Failure>> Words<F> {
    pub(crate) fn new(found: F) -> Self {
        let start = Place { line: 1, column: 1 };
        Words { found, word: String::new(), length: 0, place: start, line: 1, column: 1 }
    }

    /// Cuts the next piece.
    pub(crate) fn feed(&mut self, text: &str) -> Result<(), Failure> {
        let bytes = text.as_bytes();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match class(byte) {
                SEPARATOR => {
                    self.end_word()?;
                    self.column = self.column.saturating_add(1);
                    at += 1;
                }
                NEWLINE => {
                    self.end_word()?;
                    (self.line, self.column) = (self.line.saturating_add(1), 1);
                    at += 1;
                }
                WIDE => {
                    let Some(character) = text[at..].chars().next() else { break };
                    let width = character.len_utf8();
                    if character.is_alphanumeric() {
                        self.extend(width, |word| word.extend(character.to_lowercase()));
                    } else {
                        self.end_word()?;
                        self.column = self.column.saturating_add(width as u32);
                    }
                    at += width;
                }
                _ => {
                    let rest = &bytes[at..];
                    let run = rest.iter().position(|&b| matches!(class(b), SEPARATOR | NEWLINE | WIDE));
                    let end = at + run.unwrap_or(rest.len());
                    self.extend(end - at, |word| {
                        let old = word.len();
                        word.push_str(&text[at..end]);
                        word[old..].make_ascii_lowercase();
                    });
                    at = end;
                }
            }
        }
        Ok(())
    }

    /// Gives the word that the end of the file cut off.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.end_word()
    }

    fn extend(&mut self, width: usize, add: impl FnOnce(&mut String)) {
        if self.length == 0 {
            self.place = Place { line: self.line, column: self.column };
        }
        self.length += width;
        self.column = self.column.saturating_add(width as u32);
        if self.length <= LONGEST_WORD {
            add(&mut self.word);
        }
    }

    fn end_word(&mut self) -> Result<(), Failure> {
        let length = std::mem::take(&mut self.length);
        if (1..=LONGEST_WORD).contains(&length) {
            (self.found)(&self.word, self.place)?;
        }
        self.word.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Vec<(String, u32, u32)>;

    fn cut<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Found {
        let mut found = Vec::new();
        let mut words = Words::new(|word: &str, place: Place| {
            found.push((word.to_owned(), place.line, place.column));
            Ok(())
        });
        pieces.into_iter().for_each(|piece| words.feed(piece).unwrap());
        words.finish().unwrap();
        found
    }

    /// The same rule, put plainly.
    fn plainly(text: &str) -> Found {
        let mut found = Vec::new();
        for (line, text) in (1..).zip(text.split('\n')) {
            let mut rest = text;
            while let Some(start) = rest.find(|c: char| c.is_alphanumeric() || c == '_') {
                let column = text.len() - rest.len() + start + 1;
                let run = &rest[start..];
                let end = run.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(run.len());
                if end <= LONGEST_WORD {
                    let word = run[..end].chars().flat_map(char::to_lowercase).collect();
                    found.push((word, line, column as u32));
                }
                rest = &run[end..];
            }
        }
        found
    }

    #[test]
    fn words_are_cut_as_the_help_says_however_the_text_is_split() {
        let long = "x".repeat(LONGEST_WORD);
        let texts = [
            "",
            "one",
            "fn Main() { let snake_case = 0xFF; }\n\n\tlast line",
            "Straße ÄÖÜ→naïve, été\r\nΣίσυφος 第1章 ٣٤\n",
            &format!("{long} {long}y {long}é kept\nnext"),
        ];
        for text in texts {
            assert_eq!(cut([text]), plainly(text));
            let characters: Vec<_> = text.split_inclusive(|_: char| true).collect();
            assert_eq!(cut(characters), plainly(text), "given a character at a time");
        }
        assert_eq!(cut(["A_1 b\nÉ"]), [("a_1".into(), 1, 1), ("b".into(), 1, 5), ("é".into(), 2, 1)]);
    }
}
