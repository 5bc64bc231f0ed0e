//! Building the index: one thread reads, the other keeps.

use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::batch::{Batch, BatchSize};
use crate::failure::Failure;
use crate::index::Index;
use crate::part::Posting;
use crate::plan::BATCHES;
use crate::progress::Progress;
use crate::stop::Stop;
use crate::text::{TextReader, Verdict};
use crate::tree::Tree;
use crate::words::{Place, Words};

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Built {
    /// Files of text, and their bytes.
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Files that are no text.
    pub(crate) not_text: u64,
    /// Files and directories that could not be read.
    pub(crate) unreadable: u64,
    /// Words, every one counted as often as it stands there.
    pub(crate) tokens: u64,
}

/// Reads the whole tree into the index.
///
/// Full batches go from the reader to this thread and empty ones back, so there are never more than
/// [`BATCHES`], and the faster side waits for the other.
pub(crate) fn build(tree: &Tree, index: &mut Index, size: BatchSize, stop: &Stop) -> Result<Built, Failure> {
    let (full, incoming) = sync_channel(BATCHES);
    let (returned, empty) = sync_channel(BATCHES);
    for _ in 1..BATCHES {
        returned.send(Batch::new(size)).map_err(|_| hung_up())?;
    }
    let progress = Progress::of_bytes("indexing", tree.bytes);
    thread::scope(|scope| {
        let reader = Reader { batch: Batch::new(size), full, empty, built: Built::default(), stop };
        let reading = thread::Builder::new()
            .name("word_index-read".to_owned())
            .spawn_scoped(scope, || reader.read_all(tree, &progress))?;
        let merged = merge_all(index, incoming, &returned, stop);
        drop(returned); // a reader that still waits for a batch learns that there is none to come
        let read = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        merged.and(read)
    })
}

/// Takes batches until there are no more. Returning early hangs up on the reader, which ends it.
fn merge_all(
    index: &mut Index,
    incoming: Receiver<Batch>,
    returned: &SyncSender<Batch>,
    stop: &Stop,
) -> Result<(), Failure> {
    for mut batch in incoming {
        index.merge(&mut batch, stop)?;
        _ = returned.send(batch); // fails only when the reader is done and needs none
    }
    Ok(())
}

/// The reading thread.
struct Reader<'a> {
    /// The batch that is being filled.
    batch: Batch,
    full: SyncSender<Batch>,
    empty: Receiver<Batch>,
    built: Built,
    stop: &'a Stop,
}

impl Reader<'_> {
    fn read_all(mut self, tree: &Tree, progress: &Progress) -> Result<Built, Failure> {
        self.built.unreadable = tree.unreadable;
        let mut text = TextReader::new();
        for (number, file) in (0..).zip(&tree.files) {
            match self.read(&mut text, number, &file.path)? {
                Verdict::Text(bytes) => {
                    self.built.files += 1;
                    self.built.bytes += bytes;
                }
                Verdict::NotText => self.built.not_text += 1,
                Verdict::Unreadable => self.built.unreadable += 1,
            }
            progress.advance(file.length);
        }
        self.full.send(self.batch).map_err(|_| hung_up())?;
        Ok(self.built)
    }

    fn read(&mut self, text: &mut TextReader, file: u32, path: &Path) -> Result<Verdict, Failure> {
        let stop = self.stop;
        let mut words =
            Words::new(|word, Place { line, column }| self.add(word, Posting { file, line, column }));
        let verdict = text.read(path, stop, |piece| words.feed(piece))?;
        words.finish()?;
        Ok(verdict)
    }

    fn add(&mut self, word: &str, posting: Posting) -> Result<(), Failure> {
        if self.batch.is_full() {
            let next = self.empty.recv().map_err(|_| hung_up())?;
            let full = std::mem::replace(&mut self.batch, next);
            self.full.send(full).map_err(|_| hung_up())?;
        }
        self.batch.push(word, posting);
        self.built.tokens += 1;
        Ok(())
    }
}

/// What ends the reader when the other side has failed; that one's error is the one to report.
fn hung_up() -> Failure {
    Failure::System(io::ErrorKind::BrokenPipe.into())
}
