//! Files that fail when they are told to, for tests.

use std::io::{self, IoSlice, IoSliceMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::{Entry, File, Io, Lock, Mapping, Space};

/// Any [`Io`] with faults put in its way, for tests of this crate and of those above. Clones share the
/// faults and the counts, so a test keeps one and gives the other away.
///
/// ```
/// use std::{path::Path, sync::Arc};
/// use spill_disk::io::{Fault, FaultyIo, Io, MemoryIo, Operation, Rule};
///
/// let io = FaultyIo::new(Arc::new(MemoryIo::new()));
/// io.inject(Rule::nth(2, Fault::Errno(28)).on(Operation::Create));
/// assert!(io.create(Path::new("/one")).is_ok());
/// assert_eq!(io.create(Path::new("/two")).err().and_then(|error| error.raw_os_error()), Some(28));
/// assert!(io.create(Path::new("/two")).is_ok());
/// ```
#[derive(Clone)]
pub struct FaultyIo {
    inner: Arc<dyn Io>,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    rules: Mutex<Vec<Rule>>,
    calls: [AtomicU64; Operation::ALL.len()],
}

/// What was asked of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each is the method of its name; `Cache` is the two that concern the page cache"
)]
pub enum Operation {
    CreateDir,
    Create,
    Open,
    List,
    Len,
    Rename,
    RemoveFile,
    RemoveDir,
    Lock,
    Space,
    Write,
    Read,
    Sync,
    SetLen,
    Allocate,
    Cache,
    Map,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Operation; 17] = [
        Operation::CreateDir,
        Operation::Create,
        Operation::Open,
        Operation::List,
        Operation::Len,
        Operation::Rename,
        Operation::RemoveFile,
        Operation::RemoveDir,
        Operation::Lock,
        Operation::Space,
        Operation::Write,
        Operation::Read,
        Operation::Sync,
        Operation::SetLen,
        Operation::Allocate,
        Operation::Cache,
        Operation::Map,
    ];
}

/// One call, as a rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What was asked.
    pub operation: Operation,
    /// Of which file or directory; in a rename, its old name.
    pub path: &'a Path,
}

/// What happens to a call that a [`Rule`] picks.
#[derive(Clone)]
pub enum Fault {
    /// It fails with an error of this kind and does nothing.
    Fail(io::ErrorKind),
    /// It fails with this number of the operating system (5 is `EIO`, 28 `ENOSPC`) and does nothing.
    Errno(i32),
    /// It reads or writes at most this many bytes. Other operations are left alone.
    Short(usize),
    /// The function runs first, in the calling thread: it may wait for another thread, or change the files.
    Delay(Arc<dyn Fn(&Call<'_>) + Send + Sync>),
}

/// Which calls a [`Fault`] befalls. Rules are asked in the order they were injected; the first error wins.
pub struct Rule {
    fault: Fault,
    first: u64,
    last: u64,
    seen: u64,
    only: Box<dyn Fn(&Call<'_>) -> bool + Send + Sync>,
}

impl Rule {
    /// The `n`-th call from now on, counted from 1.
    #[must_use]
    pub fn nth(n: u64, fault: Fault) -> Self {
        Rule { fault, first: n, last: n, seen: 0, only: Box::new(|_| true) }
    }

    /// The `n`-th call from now on and all that follow.
    #[must_use]
    pub fn from(n: u64, fault: Fault) -> Self {
        Rule { last: u64::MAX, ..Rule::nth(n, fault) }
    }

    /// Only calls of this operation are counted and meant.
    #[must_use]
    pub fn on(self, operation: Operation) -> Self {
        self.only(move |call| call.operation == operation)
    }

    /// Only calls for which `predicate` holds are counted and meant.
    #[must_use]
    pub fn only(mut self, predicate: impl Fn(&Call<'_>) -> bool + Send + Sync + 'static) -> Self {
        self.only = Box::new(predicate);
        self
    }

    fn picks(&mut self, call: &Call<'_>) -> bool {
        if !(self.only)(call) {
            return false;
        }
        self.seen += 1;
        (self.first..=self.last).contains(&self.seen)
    }
}

impl FaultyIo {
    /// `inner`, without faults so far.
    #[must_use]
    pub fn new(inner: Arc<dyn Io>) -> Self {
        FaultyIo { inner, faults: Arc::default() }
    }

    /// Puts one more fault in the way.
    pub fn inject(&self, rule: Rule) {
        self.faults.rules.lock().push(rule);
    }

    /// Takes all faults away. Counts go on.
    pub fn heal(&self) {
        self.faults.rules.lock().clear();
    }

    /// How many calls were made so far, failed ones included.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.faults.calls.iter().map(|count| count.load(Relaxed)).sum()
    }

    /// How many of them were this operation.
    #[must_use]
    pub fn calls_of(&self, operation: Operation) -> u64 {
        self.faults.calls[operation as usize].load(Relaxed)
    }
}

impl Faults {
    /// What becomes of a call: an error, or the most bytes it may move.
    fn meet(&self, operation: Operation, path: &Path) -> io::Result<usize> {
        self.calls[operation as usize].fetch_add(1, Relaxed);
        let call = Call { operation, path };
        // Delays run unlocked, since they may wait for a thread that calls too.
        let picked: Vec<Fault> = {
            let mut rules = self.rules.lock();
            rules.iter_mut().filter_map(|rule| rule.picks(&call).then(|| rule.fault.clone())).collect()
        };
        let mut most = usize::MAX;
        for fault in picked {
            match fault {
                Fault::Fail(kind) => return Err(kind.into()),
                Fault::Errno(number) => return Err(io::Error::from_raw_os_error(number)),
                Fault::Short(bytes) => most = most.min(bytes),
                Fault::Delay(run) => run(&call),
            }
        }
        Ok(most)
    }
}

impl FaultyIo {
    fn file(&self, path: &Path, inner: Box<dyn File>) -> Box<dyn File> {
        Box::new(FaultyFile { inner, path: path.to_owned(), faults: Arc::clone(&self.faults) })
    }
}

impl Io for FaultyIo {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.meet(Operation::CreateDir, path)?;
        self.inner.create_dir(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.faults.meet(Operation::CreateDir, path)?;
        self.inner.create_dir_all(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.faults.meet(Operation::Create, path)?;
        Ok(self.file(path, self.inner.create(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        self.faults.meet(Operation::Open, path)?;
        Ok(self.file(path, self.inner.open(path)?))
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        self.faults.meet(Operation::List, directory)?;
        self.inner.list(directory)
    }
    fn len_of(&self, path: &Path) -> io::Result<u64> {
        self.faults.meet(Operation::Len, path)?;
        self.inner.len_of(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.faults.meet(Operation::Rename, from)?;
        self.inner.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.faults.meet(Operation::RemoveFile, path)?;
        self.inner.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.faults.meet(Operation::RemoveDir, path)?;
        self.inner.remove_dir(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.faults.meet(Operation::RemoveDir, path)?;
        self.inner.remove_dir_all(path)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        self.faults.meet(Operation::Lock, path)?;
        self.inner.try_lock(path)
    }
    fn space(&self, directory: &Path) -> io::Result<Space> {
        self.faults.meet(Operation::Space, directory)?;
        self.inner.space(directory)
    }
    fn user(&self) -> u32 {
        self.inner.user()
    }
}

struct FaultyFile {
    inner: Box<dyn File>,
    path: PathBuf,
    faults: Arc<Faults>,
}

impl File for FaultyFile {
    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut room = self.faults.meet(Operation::Write, &self.path)?;
        let mut shortened = Vec::with_capacity(buffers.len());
        for buffer in buffers {
            let taken = buffer.len().min(room);
            shortened.push(IoSlice::new(&buffer[..taken]));
            room -= taken;
        }
        self.inner.write_vectored_at(&shortened, offset)
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let room = self.faults.meet(Operation::Read, &self.path)?.min(buffer.len());
        self.inner.read_at(&mut buffer[..room], offset)
    }
    fn is_cached(&self, offset: u64) -> bool {
        self.inner.is_cached(offset)
    }
    fn read_vectored_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        let mut room = self.faults.meet(Operation::Read, &self.path)?;
        let mut shortened = Vec::with_capacity(buffers.len());
        for buffer in buffers {
            let taken = buffer.len().min(room);
            room -= taken;
            shortened.push(IoSliceMut::new(&mut buffer[..taken]));
        }
        self.inner.read_vectored_at(&mut shortened, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.faults.meet(Operation::Sync, &self.path)?;
        self.inner.sync()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.meet(Operation::SetLen, &self.path)?;
        self.inner.set_len(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.faults.meet(Operation::Allocate, &self.path)?;
        self.inner.allocate(len)
    }
    fn begin_write_back(&self, offset: u64, len: u64) -> io::Result<()> {
        self.faults.meet(Operation::Cache, &self.path)?;
        self.inner.begin_write_back(offset, len)
    }
    fn uncache(&self, offset: u64, len: u64) -> io::Result<()> {
        self.faults.meet(Operation::Cache, &self.path)?;
        self.inner.uncache(offset, len)
    }
    fn map(&self, len: u64) -> io::Result<Box<dyn Mapping>> {
        self.faults.meet(Operation::Map, &self.path)?;
        self.inner.map(len)
    }
}
