//! Reading files as text, a chunk at a time.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek};
use std::path::Path;

use crate::failure::Failure;
use crate::stop::Stop;

/// Bytes read at a time. Most files of source code fit into one chunk.
const CHUNK: usize = 256 << 10;

/// The longest file, since lines and columns are kept as `u32`.
const LONGEST_FILE: u64 = u32::MAX as u64;

/// What a file turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Text of this many bytes, all of which was given.
    Text(u64),
    /// Not valid UTF-8, or of 4 GiB and more; nothing was given.
    NotText,
    /// It cannot be read, or changed while it was.
    Unreadable,
}

/// Reads files through one buffer, whatever their length.
pub(crate) struct TextReader {
    buffer: Box<[u8]>,
}

impl TextReader {
    pub(crate) fn new() -> Self {
        TextReader { buffer: vec![0; CHUNK].into() }
    }

    /// Gives the file's text to `take`, in order, in pieces that end anywhere between two characters. A file
    /// that is no text as a whole gives nothing: one longer than the buffer is looked through before. Ends
    /// early only when `take` fails or a signal came.
    pub(crate) fn read(
        &mut self,
        path: &Path,
        stop: &Stop,
        mut take: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<Verdict, Failure> {
        stop.check()?;
        let Ok(mut file) = File::open(path) else { return Ok(Verdict::Unreadable) };
        let Ok(len) = fill(&mut file, &mut self.buffer) else { return Ok(Verdict::Unreadable) };
        if len < self.buffer.len() {
            let Ok(text) = str::from_utf8(&self.buffer[..len]) else { return Ok(Verdict::NotText) };
            take(text)?;
            return Ok(Verdict::Text(len as u64));
        }
        match self.pass(&mut file, stop, |_| Ok(()))? {
            Verdict::Text(_) => match self.pass(&mut file, stop, take)? {
                Verdict::NotText => Ok(Verdict::Unreadable),
                verdict => Ok(verdict),
            },
            verdict => Ok(verdict),
        }
    }

    /// Reads the whole file once.
    fn pass(
        &mut self,
        file: &mut File,
        stop: &Stop,
        mut take: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<Verdict, Failure> {
        if file.rewind().is_err() {
            return Ok(Verdict::Unreadable);
        }
        let (mut total, mut carried) = (0, 0);
        loop {
            stop.check()?;
            let Ok(read) = fill(file, &mut self.buffer[carried..]) else { return Ok(Verdict::Unreadable) };
            let len = carried + read;
            total += read as u64;
            if total > LONGEST_FILE {
                return Ok(Verdict::NotText);
            }
            let at_end = len < self.buffer.len();
            let valid = match str::from_utf8(&self.buffer[..len]) {
                Ok(text) => {
                    take(text)?;
                    len
                }
                // the buffer ends inside a character, which goes to the next round
                Err(error) if error.error_len().is_none() && !at_end => {
                    let valid = error.valid_up_to();
                    take(str::from_utf8(&self.buffer[..valid]).unwrap_or_default())?;
                    valid
                }
                Err(_) => return Ok(Verdict::NotText),
            };
            if at_end {
                return Ok(Verdict::Text(total));
            }
            self.buffer.copy_within(valid..len, 0);
            carried = len - valid;
        }
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while let Some(rest) = buffer.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], chunk: usize) -> (Verdict, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, bytes).unwrap();
        let mut text = String::new();
        let mut reader = TextReader { buffer: vec![0; chunk].into() };
        let add = |piece: &str| {
            text.push_str(piece);
            Ok(())
        };
        let verdict = reader.read(file.path(), &Stop::default(), add).unwrap();
        (verdict, text)
    }

    #[test]
    fn text_comes_whole_whatever_the_chunk() {
        let text = "añb→c😀".repeat(20);
        for chunk in 4..=text.len() + 1 {
            assert_eq!(read(text.as_bytes(), chunk), (Verdict::Text(text.len() as u64), text.clone()));
        }
    }

    #[test]
    fn what_is_no_text_gives_nothing() {
        let mut bytes = "word ".repeat(20).into_bytes();
        bytes.push(0xff);
        let cut = "a→".as_bytes();
        for chunk in [4, 64, 101, 102] {
            assert_eq!(read(&bytes, chunk), (Verdict::NotText, String::new()), "chunk {chunk}");
            assert_eq!(read(&cut[..cut.len() - 1], chunk).0, Verdict::NotText, "the last character is cut");
        }
    }
}
