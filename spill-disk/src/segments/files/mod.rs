//! The segment files: which one is written to, which wait to be used again, and how much they take.
//!
//! Ranges of the open files are handed out under a lock and written without one, so that writers go in
//! parallel; files are made without it too. A file whose segment was dropped is kept, as long as there are few of
//! them, and overwritten by a later segment: that is faster than writing a fresh one. It is overwritten only once no
//! reader holds it.
//!
//! Records are kept apart by how long they have lived ([`Level`]), since what has lived long will live on: where
//! they were mixed, the old ones would have to be moved again and again out of segments whose young ones died.

mod making;
mod reserve;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use spill_core::{Error, Result};

use self::making::{Maker, Makers};
use crate::failure::caught;
use crate::segments::cache::PageCache;
use crate::segments::file::{Level, Reservation, SegmentFile};
use crate::segments::volumes::Volumes;

/// Files kept for another use.
const MOST_IDLE: usize = 2;

/// The setting of the quota, as messages name it.
pub(in crate::segments) const QUOTA: &str = "quota_bytes";

/// Room for a segment is set aside once a device has less than so many segments free.
const SCARCE: u64 = 16;

/// All files of one store.
pub(in crate::segments) struct Files {
    volumes: Volumes,
    segment_bytes: u64,
    /// The most bytes that the files may take.
    quota: u64,
    inner: Mutex<Inner>,
    makers: Makers,
    physical: AtomicU64,
    /// Of these, bytes of files that are done with and could not be removed.
    stuck: AtomicU64,
    /// The workspaces are gone, and all files with them.
    removed: AtomicBool,
    cached: PageCache,
    /// A segment was begun since room was last set aside, or looked for.
    begun: AtomicBool,
}

#[derive(Default)]
struct Inner {
    /// The segment that is being filled, for each level.
    open: [Option<Open>; Level::COUNT],
    idle: Vec<Arc<SegmentFile>>,
    /// Files that were used again and are longer than their segments.
    loose: Vec<(Arc<SegmentFile>, u64)>,
    /// Files that are done with and could not be removed. That is tried again.
    stuck: Vec<Arc<SegmentFile>>,
    /// Room on the device that is set aside for compaction.
    reserve: Option<Arc<SegmentFile>>,
    /// It is being set aside.
    sets_aside: bool,
    /// What is moved goes to the room set aside.
    uses_reserve: bool,
    /// The number of the next segment.
    next: u32,
    closed: bool,
}

struct Open {
    file: Arc<SegmentFile>,
    tail: u64,
}

impl Files {
    pub(in crate::segments) fn new(
        volumes: Volumes,
        segment_bytes: u64,
        quota: u64,
        cached: PageCache,
    ) -> Self {
        Files {
            volumes,
            segment_bytes,
            quota,
            inner: Mutex::default(),
            makers: Makers::default(),
            physical: AtomicU64::new(0),
            stuck: AtomicU64::new(0),
            removed: AtomicBool::new(false),
            cached,
            begun: AtomicBool::new(false),
        }
    }

    /// Bytes that the files take, dead records and idle files included.
    pub(in crate::segments) fn physical(&self) -> u64 {
        // Whoever retires a file while the store is closed books it after that.
        if self.removed.load(Relaxed) { 0 } else { self.physical.load(Relaxed) }
    }

    /// The same without files that are done with and could not be removed: no compaction brings those back.
    pub(in crate::segments) fn movable(&self) -> u64 {
        self.physical().saturating_sub(self.stuck.load(Relaxed))
    }

    /// The longest record that the quota ever has room for, in bytes.
    pub(in crate::segments) fn longest(&self) -> u64 {
        self.quota.saturating_sub(self.segment_bytes)
    }

    /// The most bytes that files may take while records are moved.
    pub(in crate::segments) fn quota(&self) -> u64 {
        self.quota
    }

    /// No range of this segment is handed out again.
    pub(in crate::segments) fn seal(&self, segment: u32) {
        let mut inner = self.inner.lock();
        for level in 0..Level::COUNT {
            if inner.open[level].as_ref().is_some_and(|open| open.file.segment == segment) {
                let sealed = inner.open[level].take();
                inner.loosen(sealed);
            }
        }
    }

    /// Writing a range failed: its segment takes no more, and what may have been written of the range is cut off,
    /// unless another range follows it. Says whether none does.
    pub(in crate::segments) fn abandon(&self, run: &Reservation) -> bool {
        {
            let mut inner = self.inner.lock();
            let open = &mut inner.open[run.level as usize];
            let is_last =
                |open: &Open| Arc::ptr_eq(&open.file, &run.file) && open.tail == run.offset + run.bytes;
            if !open.as_ref().is_some_and(is_last) {
                drop(inner);
                self.seal(run.file.segment);
                return false;
            }
            *open = None;
        }
        if !self.cut(&run.file, run.offset) {
            self.inner.lock().loose.push((Arc::clone(&run.file), run.offset));
        }
        true
    }

    /// Cuts a file to `len` bytes. Says whether that worked.
    fn cut(&self, file: &SegmentFile, len: u64) -> bool {
        match file.file.set_len(len) {
            Ok(()) => {
                // It may have been removed meanwhile.
                let before = file.extent.fetch_min(len, Relaxed);
                self.physical.fetch_sub(before.saturating_sub(len), Relaxed);
                true
            }
            Err(error) => {
                tracing::debug!(file = %file.path.display(), %error, "a file could not be cut");
                false
            }
        }
    }

    /// Takes back the file of a dropped segment, to be used again or removed.
    pub(in crate::segments) fn retire(&self, file: Arc<SegmentFile>) {
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
        self.remove(file);
    }

    /// Gives room back that holds nothing: removes what could not be removed before, or an idle file, or cuts one that is
    /// longer than its segment, or gives up what was set aside for compaction when there is nothing else and `all` is asked
    /// for. Says whether there was any.
    pub(in crate::segments) fn give_back(&self, all: bool) -> bool {
        if self.remove_stuck(|_| true) {
            return true;
        }
        let mut inner = self.inner.lock();
        // One that holds nothing can stay: making files costs more than keeping them.
        if let Some(at) = inner.idle.iter().rposition(|file| file.extent.load(Relaxed) > 0) {
            let file = inner.idle.swap_remove(at);
            drop(inner);
            self.remove(file);
            return true;
        }
        if let Some((file, tail)) = inner.loose.pop() {
            drop(inner);
            self.cut(&file, tail);
            return true;
        }
        let reserve = if all && !inner.uses_reserve { inner.reserve.take() } else { None };
        drop(inner);
        reserve.map(|file| self.remove(file)).is_some()
    }

    /// Whether a segment was begun since this was asked last.
    pub(in crate::segments) fn has_begun_another(&self) -> bool {
        self.begun.load(Relaxed) && self.begun.swap(false, Relaxed)
    }

    /// Sets room for a segment aside where a device is about to fill up and the files may take `most` bytes, so
    /// that compaction works when it is full. Where the file system cannot promise room, none is.
    pub(in crate::segments) fn set_aside(&self, most: u64) {
        let fits = || {
            let is_within = |bytes: u64, most: u64| bytes.saturating_add(self.segment_bytes) <= most;
            is_within(self.movable(), most) && is_within(self.physical(), self.quota)
        };
        let is_scarce = || self.volumes.least_free() < SCARCE.saturating_mul(self.segment_bytes);
        if !fits() || self.inner.lock().has_set_aside() || !is_scarce() {
            return;
        }
        let maker = {
            let mut inner = self.inner.lock();
            if inner.closed || inner.has_set_aside() || !fits() {
                return;
            }
            // booked where ranges are: else others could have all the room before the file is made
            self.physical.fetch_add(self.segment_bytes, Relaxed);
            inner.sets_aside = true;
            self.makers.join()
        };
        let file = caught("setting room aside", || self.allocated(&maker)).ok().flatten();
        let mut inner = self.inner.lock();
        inner.sets_aside = false;
        let Some(file) = file else {
            self.physical.fetch_sub(self.segment_bytes, Relaxed);
            return;
        };
        file.extent.store(self.segment_bytes, Relaxed);
        if inner.closed {
            drop(inner);
            self.remove(file);
        } else {
            inner.reserve = Some(file);
        }
    }

    /// A file that holds the room of a segment, if that can be had.
    fn allocated(&self, maker: &Maker<'_>) -> Option<Arc<SegmentFile>> {
        let file = maker.create(&self.volumes, self.physical()).ok()?;
        match file.file.allocate(self.segment_bytes) {
            Ok(()) => Some(file),
            Err(error) => {
                tracing::debug!(file = %file.path.display(), %error, "no room is set aside for compaction");
                self.remove(file);
                None
            }
        }
    }

    /// From now on what is moved goes to the room set aside. Says whether there is any.
    pub(in crate::segments) fn use_reserve(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.uses_reserve = inner.reserve.is_some();
        inner.uses_reserve
    }

    /// Ends what [`use_reserve`](Self::use_reserve) began. Returns the segments that were moved there and take no
    /// more, since what they do not fill is given back.
    pub(in crate::segments) fn spare_reserve(&self) -> Vec<u32> {
        let mut inner = self.inner.lock();
        inner.uses_reserve = false;
        let mut sealed = Vec::new();
        for level in [Level::Survived, Level::Old] {
            let open = inner.open[level as usize].take_if(|open| open.file.extent.load(Relaxed) > open.tail);
            sealed.extend(open.as_ref().map(|open| open.file.segment));
            inner.loosen(open);
        }
        sealed
    }

    /// Removes a file that is done with. Where that fails it is kept, to be tried again.
    fn remove(&self, file: Arc<SegmentFile>) {
        self.cached.gone(&file);
        let (path, volume) = (&file.path, file.volume);
        match self.volumes.remove_file(volume, path) {
            Ok(()) => {
                self.physical.fetch_sub(file.extent.swap(0, Relaxed), Relaxed);
                self.remove_stuck(|other| other.volume == volume);
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a file that is done with could not be removed");
                self.stuck.fetch_add(file.extent.load(Relaxed), Relaxed);
                self.keep_stuck([file]);
            }
        }
    }

    /// Tries to remove those files again which could not be removed. Says whether that worked with one.
    fn remove_stuck(&self, is_tried: impl Fn(&SegmentFile) -> bool) -> bool {
        let tried: Vec<_> = self.inner.lock().stuck.extract_if(.., |file| is_tried(file)).collect();
        let is_removed = |file: &Arc<SegmentFile>| self.volumes.remove_file(file.volume, &file.path).is_ok();
        let (gone, rest): (Vec<_>, Vec<_>) = tried.into_iter().partition(is_removed);
        for file in &gone {
            let bytes = file.extent.swap(0, Relaxed);
            self.stuck.fetch_sub(bytes, Relaxed);
            self.physical.fetch_sub(bytes, Relaxed);
        }
        self.keep_stuck(rest);
        !gone.is_empty()
    }

    /// Once the store is closed its directories are removed with all they hold.
    fn keep_stuck(&self, files: impl IntoIterator<Item = Arc<SegmentFile>>) {
        let mut inner = self.inner.lock();
        if !inner.closed {
            inner.stuck.extend(files);
        }
    }

    /// Hands nothing out from now on, and removes the workspaces.
    ///
    /// # Errors
    /// When something in a workspace could not be removed.
    pub(in crate::segments) fn close(&self) -> Result<()> {
        let let_go = {
            let mut inner = self.inner.lock();
            let closed = Inner { closed: true, ..Inner::default() };
            std::mem::replace(&mut *inner, closed)
        };
        drop(let_go);
        self.makers.wait();
        self.cached.clear();
        self.volumes.remove()?;
        self.removed.store(true, Relaxed);
        Ok(())
    }

    /// What a failed operation on a file is to the caller: no room, or what the system said. Its directory is out
    /// of use for a while.
    pub(in crate::segments) fn failure(
        &self,
        operation: &'static str,
        file: &SegmentFile,
        source: std::io::Error,
    ) -> Error {
        self.volumes.failed(file.volume, self.physical(), operation, &file.path, source)
    }

    /// A range of the file was written.
    pub(in crate::segments) fn was_written(&self, file: &Arc<SegmentFile>, offset: u64, bytes: u64) {
        self.volumes.works(file.volume);
        self.cached.written(file, offset, bytes);
    }

    /// A range of the file was read. Where the page cache had been made to forget it, it is again.
    pub(in crate::segments) fn was_read(&self, file: &SegmentFile, offset: u64, bytes: u64) {
        if offset < file.forgotten.load(Relaxed) {
            self.cached.forget_read(file, offset, bytes);
        }
    }

    /// Whether what failed in one directory can go to another, after so many tries.
    pub(in crate::segments) fn has_another_volume(&self, tries: usize) -> bool {
        tries < self.volumes.count() && self.volumes.has_another()
    }

    /// The directory that messages name.
    pub(in crate::segments) fn path(&self) -> &Path {
        self.volumes.path()
    }

    /// Books that the file now reaches to `end`.
    fn extend(&self, file: &SegmentFile, end: u64) {
        let before = file.extent.fetch_max(end, Relaxed);
        self.physical.fetch_add(end.saturating_sub(before), Relaxed);
    }
}

impl Inner {
    /// Whether room is set aside, or will be: its bytes are booked.
    fn has_set_aside(&self) -> bool {
        self.reserve.is_some() || self.sets_aside
    }

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
        f.debug_struct("Files").field("workspaces", &self.volumes).finish_non_exhaustive()
    }
}
