//! The segment files: which one is written to, which wait to be used again, and how much they take.
//!
//! Ranges of the active file are handed out under a lock and written without one, so that writers go in
//! parallel. A file whose segment was dropped is kept, as long as there are few of them, and overwritten by a
//! later segment: that is faster than writing a fresh one. It is overwritten only once no reader holds it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use spill_core::{Error, ErrorKind, Result};

use super::index::STAGED;
use super::writer::Owner;
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
    pub(super) generation: u32,
    /// Bytes from the start that were ever handed out to a writer: what the file takes.
    extent: AtomicU64,
}

impl SegmentFile {
    /// Whose its records are.
    pub(super) fn owner(&self) -> Owner {
        Owner { segment: self.segment, generation: self.generation }
    }
}

/// A range of a file that belongs to one writer until it has said how writing it went.
pub(super) struct Reservation {
    pub(super) file: Arc<SegmentFile>,
    /// Where the range begins, in bytes.
    pub(super) offset: u64,
    /// How many of the records asked for fit, at least one.
    pub(super) records: usize,
    /// A segment that this range begins; sealed already if nothing else may follow in it.
    pub(super) begins: Option<Begins>,
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
    active: Option<Active>,
    idle: Vec<Arc<SegmentFile>>,
    next: u32,
    closed: bool,
}

struct Active {
    file: Arc<SegmentFile>,
    tail: u64,
}

impl Files {
    pub(super) fn new(workspace: Workspace, segment_bytes: u64) -> Self {
        let inner = Inner { active: None, idle: Vec::new(), next: 0, closed: false };
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
        lengths: impl Iterator<Item = u64> + Clone,
        begin: impl FnOnce(&Reservation),
    ) -> Result<Reservation> {
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(super::closed());
        }
        let first = lengths.clone().next().unwrap_or(0);
        let fits = |active: &Active| active.tail + first <= self.segment_bytes;
        let mut begins = None;
        if first > self.segment_bytes {
            // Alone in its segment, and the active one goes on.
            let file = self.next_file(&mut inner)?;
            self.extend(&file, first);
            let begins = Some(Begins { sealed: true, seals: None });
            let reservation = Reservation { file, offset: 0, records: 1, begins };
            begin(&reservation);
            return Ok(reservation);
        }
        if !inner.active.as_ref().is_some_and(fits) {
            let file = self.next_file(&mut inner)?;
            let full = inner.active.replace(Active { file, tail: 0 });
            begins = Some(Begins { sealed: false, seals: full.map(|full| full.file.segment) });
        }
        let Some(active) = &mut inner.active else { return Err(super::closed()) };
        let offset = active.tail;
        let mut records = 0;
        for length in lengths {
            if active.tail + length > self.segment_bytes {
                break;
            }
            active.tail += length;
            records += 1;
        }
        let file = Arc::clone(&active.file);
        self.extend(&file, active.tail);
        let reservation = Reservation { file, offset, records, begins };
        begin(&reservation);
        Ok(reservation)
    }

    /// No range of this segment is handed out again.
    pub(super) fn seal(&self, segment: u32) {
        let mut inner = self.inner.lock();
        if inner.active.as_ref().is_some_and(|active| active.file.segment == segment) {
            inner.active = None;
        }
    }

    /// Takes back the file of a dropped segment, to be used again or removed.
    pub(super) fn retire(&self, file: Arc<SegmentFile>) {
        // One longer than a segment would hold more room than its next user needs.
        if file.extent.load(Relaxed) <= self.segment_bytes {
            let mut inner = self.inner.lock();
            if inner.idle.len() < MOST_IDLE && !inner.closed {
                inner.idle.push(file);
                return;
            }
        }
        match self.workspace.io().remove_file(&file.path) {
            Ok(()) => {
                self.physical.fetch_sub(file.extent.load(Relaxed), Relaxed);
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
            inner.active = None;
            inner.idle.clear();
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

    /// An idle file that nobody reads, or else a new one.
    fn next_file(&self, inner: &mut Inner) -> Result<Arc<SegmentFile>> {
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
        for at in 0..inner.idle.len() {
            // Only the index gives files away, and it let go of this one; so without a reader now, without
            // one for good.
            if let Some(file) = inner.idle.get_mut(at).and_then(Arc::get_mut) {
                file.segment = segment;
                file.generation = file.generation.wrapping_add(1);
                inner.next += 1;
                return Ok(inner.idle.swap_remove(at));
            }
        }
        let path = self.workspace.path().join(format!("segment-{segment}.spill"));
        let file =
            self.workspace.io().create(&path).map_err(|source| self.failure("create", &path, source))?;
        inner.next += 1;
        Ok(Arc::new(SegmentFile { file, path, segment, generation: 0, extent: AtomicU64::new(0) }))
    }

    /// Books that the file now reaches to `end`.
    fn extend(&self, file: &SegmentFile, end: u64) {
        let before = file.extent.fetch_max(end, Relaxed);
        self.physical.fetch_add(end.saturating_sub(before), Relaxed);
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").field("workspace", &self.workspace).finish_non_exhaustive()
    }
}
