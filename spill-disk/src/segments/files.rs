//! The segment files: which one is written to, which wait to be used again, and how much they take.
//!
//! Ranges of the open files are handed out under a lock and written without one, so that writers go in
//! parallel. A file whose segment was dropped is kept, as long as there are few of them, and overwritten by a
//! later segment: that is faster than writing a fresh one. It is overwritten only once no reader holds it.
//!
//! Records are kept apart by how long they have lived ([`Level`]), since what has lived long will live on: where
//! they were mixed, the old ones would have to be moved again and again out of segments whose young ones died.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use spill_core::{Error, ErrorKind, Result};

use super::index::STAGED;
use super::table::Run;
use crate::Workspace;
use crate::failure;
use crate::io::File;

/// Files kept for another use.
const MOST_IDLE: usize = 2;

/// A segment's file. Readers hold it while they read.
pub(super) struct SegmentFile {
    pub(super) file: Box<dyn File>,
    pub(super) path: PathBuf,
    pub(super) segment: u32,
    /// Bytes from the start that were ever handed out to a writer: what the file takes.
    extent: AtomicU64,
}

/// How long the records of a segment have lived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Just written.
    Fresh,
    /// Moved once, or written over a record that was old.
    Survived,
    /// Moved again.
    Old,
}

impl Level {
    const COUNT: usize = 3;

    /// Where the records go that are moved out of a segment of this level.
    pub(super) fn older(self) -> Level {
        match self {
            Level::Fresh => Level::Survived,
            Level::Survived | Level::Old => Level::Old,
        }
    }
}

/// A range of a file that belongs to one writer until it has said how writing it went.
pub(super) struct Reservation {
    pub(super) file: Arc<SegmentFile>,
    /// Where the range begins, in bytes.
    pub(super) offset: u64,
    /// How many of the records asked for fit, at least one.
    pub(super) records: usize,
    /// Bytes of those that fit.
    pub(super) bytes: u64,
    pub(super) level: Level,
    /// A segment that this range begins; sealed already if nothing else may follow in it.
    pub(super) begins: Option<Begins>,
}

impl Reservation {
    pub(super) fn run(&self) -> Run {
        Run { segment: self.file.segment, bytes: self.bytes }
    }
}

/// What a new segment means for the others.
pub(super) struct Begins {
    pub(super) sealed: bool,
    /// The segment that was full.
    pub(super) seals: Option<u32>,
}

/// All files of one store.
pub(super) struct Files {
    workspace: Workspace,
    segment_bytes: u64,
    inner: Mutex<Inner>,
    physical: AtomicU64,
}

struct Inner {
    /// The segment that is being filled, for each level.
    open: [Option<Open>; Level::COUNT],
    idle: Vec<Arc<SegmentFile>>,
    /// Files that were used again and are longer than their segments.
    loose: Vec<(Arc<SegmentFile>, u64)>,
    next: u32,
    closed: bool,
}

struct Open {
    file: Arc<SegmentFile>,
    tail: u64,
}

impl Files {
    pub(super) fn new(workspace: Workspace, segment_bytes: u64) -> Self {
        let inner =
            Inner { open: [None, None, None], idle: Vec::new(), loose: Vec::new(), next: 0, closed: false };
        Files { workspace, segment_bytes, inner: Mutex::new(inner), physical: AtomicU64::new(0) }
    }

    /// Bytes that the files take, dead records and idle files included.
    pub(super) fn physical(&self) -> u64 {
        self.physical.load(Relaxed)
    }

    /// A range for the first of the records of these lengths in bytes and for as many of the others as fit
    /// behind it. `begin` runs under the lock with what was reserved, so that no other reservation of the
    /// same segment is seen before a new segment is.
    ///
    /// # Errors
    /// What creating a file failed with; `Closed`.
    pub(super) fn reserve(
        &self,
        level: Level,
        lengths: impl Iterator<Item = u64> + Clone,
        begin: impl FnOnce(&Reservation),
    ) -> Result<Reservation> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(super::closed());
        }
        let first = lengths.clone().next().unwrap_or(0);
        let mut begins = None;
        if first > self.segment_bytes {
            // Alone in its segment, and the open one goes on.
            let file = self.new_file(&mut inner)?;
            self.extend(&file, first);
            let begins = Some(Begins { sealed: true, seals: None });
            let reservation = Reservation { file, offset: 0, records: 1, bytes: first, level, begins };
            begin(&reservation);
            return Ok(reservation);
        }
        let fits = |open: &Open| open.tail + first <= self.segment_bytes;
        if !inner.open[level as usize].as_ref().is_some_and(fits) {
            let file = self.next_file(&mut inner, level)?;
            let full = inner.open[level as usize].replace(Open { file, tail: 0 });
            begins = Some(Begins { sealed: false, seals: full.as_ref().map(|full| full.file.segment) });
            inner.loosen(full);
        }
        let Some(open) = &mut inner.open[level as usize] else { return Err(super::closed()) };
        let offset = open.tail;
        let mut records = 0;
        for length in lengths {
            if open.tail + length > self.segment_bytes {
                break;
            }
            open.tail += length;
            records += 1;
        }
        let (file, bytes) = (Arc::clone(&open.file), open.tail - offset);
        self.extend(&file, open.tail);
        let reservation = Reservation { file, offset, records, bytes, level, begins };
        begin(&reservation);
        Ok(reservation)
    }

    /// No range of this segment is handed out again.
    pub(super) fn seal(&self, segment: u32) {
        let mut inner = self.inner.lock();
        for level in 0..Level::COUNT {
            if inner.open[level].as_ref().is_some_and(|open| open.file.segment == segment) {
                let sealed = inner.open[level].take();
                inner.loosen(sealed);
            }
        }
    }

    /// Takes back the file of a dropped segment, to be used again or removed.
    pub(super) fn retire(&self, file: Arc<SegmentFile>) {
        // One longer than a segment would hold more room than its next user needs.
        if file.extent.load(Relaxed) <= self.segment_bytes {
            let mut inner = self.inner.lock();
            // Also if it waits to be cut: an idle file is used again as it is.
            inner.loose.retain(|(other, _)| !Arc::ptr_eq(other, &file));
            if inner.idle.len() < MOST_IDLE && !inner.closed {
                inner.idle.push(file);
                return;
            }
        }
        self.remove(&file);
    }

    /// Gives room back that holds nothing: removes an idle file, or cuts one that is longer than its segment.
    /// Says whether there was any.
    pub(super) fn give_back(&self) -> bool {
        let mut inner = self.inner.lock();
        if let Some(file) = inner.idle.pop() {
            drop(inner);
            self.remove(&file);
            return true;
        }
        let Some((file, tail)) = inner.loose.pop() else { return false };
        drop(inner);
        match file.file.set_len(tail) {
            Ok(()) => {
                // It may have been removed meanwhile.
                let before = file.extent.fetch_min(tail, Relaxed);
                self.physical.fetch_sub(before.saturating_sub(tail), Relaxed);
            }
            Err(error) => tracing::debug!(file = %file.path.display(), %error, "a file could not be cut"),
        }
        true
    }

    fn remove(&self, file: &SegmentFile) {
        match self.workspace.io().remove_file(&file.path) {
            Ok(()) => {
                self.physical.fetch_sub(file.extent.swap(0, Relaxed), Relaxed);
            }
            Err(error) => {
                tracing::warn!(file = %file.path.display(), %error, "a file that is done with could not be removed");
            }
        }
    }

    /// Hands nothing out from now on, and removes the workspace.
    ///
    /// # Errors
    /// When something in the workspace could not be removed.
    pub(super) fn close(&self) -> Result<()> {
        {
            let mut inner = self.inner.lock();
            inner.closed = true;
            inner.open = [None, None, None];
            inner.idle.clear();
            inner.loose.clear();
        }
        self.workspace.remove()?;
        self.physical.store(0, Relaxed);
        Ok(())
    }

    /// What a failed operation on a file is to the caller: no room, or what the system said.
    pub(super) fn failure(
        &self,
        operation: &'static str,
        path: &std::path::Path,
        source: std::io::Error,
    ) -> Error {
        failure::failed(
            &**self.workspace.io(),
            self.workspace.path(),
            self.physical(),
            operation,
            path,
            source,
        )
    }

    /// An idle file that nobody reads, or else a new one. Only fresh records get idle files: they are what a
    /// caller waits for, and a used one that is slowly filled holds room that nothing needs.
    fn next_file(&self, inner: &mut Inner, level: Level) -> Result<Arc<SegmentFile>> {
        if level == Level::Fresh && inner.next != STAGED {
            for at in 0..inner.idle.len() {
                // Only the index gives files away, and it let go of this one; so without a reader now, without
                // one for good.
                if let Some(file) = inner.idle.get_mut(at).and_then(Arc::get_mut) {
                    file.segment = inner.next;
                    inner.next += 1;
                    return Ok(inner.idle.swap_remove(at));
                }
            }
        }
        self.new_file(inner)
    }

    fn new_file(&self, inner: &mut Inner) -> Result<Arc<SegmentFile>> {
        let segment = inner.next;
        if segment == STAGED {
            let limit = u64::from(STAGED);
            let what = "the number of segments".to_owned();
            return Err(ErrorKind::TooLarge {
                what,
                size: limit + 1,
                limit,
                setting: "their 32-bit numbers",
            }
            .into());
        }
        let path = self.workspace.path().join(format!("segment-{segment}.spill"));
        let file =
            self.workspace.io().create(&path).map_err(|source| self.failure("create", &path, source))?;
        inner.next += 1;
        Ok(Arc::new(SegmentFile { file, path, segment, extent: AtomicU64::new(0) }))
    }

    /// Books that the file now reaches to `end`.
    fn extend(&self, file: &SegmentFile, end: u64) {
        let before = file.extent.fetch_max(end, Relaxed);
        self.physical.fetch_add(end.saturating_sub(before), Relaxed);
    }
}

impl Inner {
    /// Notes a sealed segment whose file is longer than it.
    fn loosen(&mut self, sealed: Option<Open>) {
        if let Some(open) = sealed
            && open.file.extent.load(Relaxed) > open.tail
        {
            self.loose.push((open.file, open.tail));
        }
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("workspace", &self.workspace).finish_non_exhaustive()
    }
}
