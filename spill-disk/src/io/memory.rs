//! Files in main memory, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice, IoSliceMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock};

use super::{Entry, File, Io, Lock, Space};

/// A file system in main memory, for tests of this crate and of those above. Clones share it.
///
/// It keeps what the real one promises: a file that was removed stays usable through its handles, a gap
/// reads as zeros, a lock belongs to a file and not to its name. The root directory exists from the start.
#[derive(Clone)]
pub struct MemoryIo {
    tree: Arc<Mutex<Tree>>,
    device: Arc<Device>,
}

/// What all files together take, and may take, in bytes.
struct Device {
    used: AtomicU64,
    size: AtomicU64,
}

impl Device {
    /// Takes up to so many bytes, and returns how many there were.
    fn take(&self, wanted: u64) -> u64 {
        let size = self.size.load(Ordering::Relaxed);
        let mut taken = 0;
        let grow = |used: u64| {
            taken = wanted.min(size.saturating_sub(used));
            Some(used + taken)
        };
        // Never refuses, so there is nothing to tell.
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow);
        taken
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
    in_memory: BTreeSet<PathBuf>,
}

enum Node {
    Directory,
    File(Arc<Content>),
}

struct Content {
    bytes: RwLock<Vec<u8>>,
    locked: AtomicBool,
    device: Arc<Device>,
}

impl Content {
    fn new(device: &Arc<Device>) -> Arc<Self> {
        Arc::new(Content {
            bytes: RwLock::default(),
            locked: AtomicBool::new(false),
            device: Arc::clone(device),
        })
    }

    /// Makes it `len` bytes long, or as long as there is room for.
    fn resize(&self, bytes: &mut Vec<u8>, len: usize) {
        let before = bytes.len();
        let len = if len > before {
            before + self.device.take((len - before) as u64) as usize
        } else {
            self.device.give_back((before - len) as u64);
            len
        };
        bytes.resize(len, 0);
    }
}

impl Drop for Content {
    /// When it has neither a name nor an open handle.
    fn drop(&mut self) {
        self.device.give_back(self.bytes.get_mut().len() as u64);
    }
}

struct Handle(Arc<Content>);

struct HeldLock(Arc<Content>);
impl Lock for HeldLock {}

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.0.locked.store(false, Ordering::Release);
    }
}

impl MemoryIo {
    /// An empty file system without bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::limited(u64::MAX)
    }

    /// An empty file system whose files have room for so many bytes in all; their names take none. A write that
    /// finds room for a part of it is short, one that finds none fails with `StorageFull`.
    #[must_use]
    pub fn limited(bytes: u64) -> Self {
        let device = Device { used: AtomicU64::new(0), size: AtomicU64::new(bytes) };
        MemoryIo { tree: Arc::default(), device: Arc::new(device) }
    }

    /// Changes the room there is. What is stored already stays.
    pub fn set_limit(&self, bytes: u64) {
        self.device.size.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that all files take, those too that have no name any more and are still open.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.device.used.load(Ordering::Relaxed)
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock()
    }

    /// From now on [`space`](Io::space) says of this directory that it lives in main memory, as it would of
    /// a tmpfs.
    pub fn pretend_tmpfs(&self, directory: &Path) {
        self.tree().in_memory.insert(directory.to_owned());
    }
}

impl Default for MemoryIo {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    fn is_directory(&self, path: &Path) -> bool {
        path.parent().is_none() || matches!(self.nodes.get(path), Some(Node::Directory))
    }

    fn add(&mut self, path: &Path, node: Node) -> io::Result<()> {
        if !path.parent().is_some_and(|parent| self.is_directory(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.nodes.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.nodes.insert(path.to_owned(), node);
        Ok(())
    }

    fn file(&self, path: &Path) -> io::Result<Arc<Content>> {
        match self.nodes.get(path) {
            Some(Node::File(content)) => Ok(Arc::clone(content)),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Io for MemoryIo {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.tree().add(path, Node::Directory)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let mut ancestors: Vec<_> = path.ancestors().collect();
        ancestors.reverse();
        for ancestor in ancestors {
            if !tree.is_directory(ancestor) {
                tree.add(ancestor, Node::Directory)?;
            }
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let content = Content::new(&self.device);
        self.tree().add(path, Node::File(Arc::clone(&content)))?;
        Ok(Box::new(Handle(content)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(Handle(self.tree().file(path)?)))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let tree = self.tree();
        if !tree.is_directory(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = tree.nodes.iter().filter(|(path, _)| path.parent() == Some(directory));
        Ok(inside
            .filter_map(|(path, node)| {
                Some(Entry { name: path.file_name()?.to_owned(), is_dir: matches!(node, Node::Directory) })
            })
            .collect())
    }

    fn len_of(&self, path: &Path) -> io::Result<u64> {
        Ok(self.tree().file(path)?.bytes.read().len() as u64)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        let content = tree.file(from)?;
        if tree.is_directory(to) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !to.parent().is_some_and(|parent| tree.is_directory(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        tree.nodes.remove(from);
        tree.nodes.insert(to.to_owned(), Node::File(content));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        tree.file(path)?;
        tree.nodes.remove(path);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        if !tree.is_directory(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if tree.nodes.keys().any(|inside| inside.parent() == Some(path)) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        tree.nodes.remove(path);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.tree();
        if !tree.is_directory(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        tree.nodes.retain(|inside, _| !inside.starts_with(path));
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        // Under the tree's lock, so that the path names the file while its lock is taken.
        let tree = self.tree();
        let content = tree.file(path)?;
        let taken = content.locked.swap(true, Ordering::Acquire);
        Ok((!taken).then(|| Box::new(HeldLock(content)) as Box<dyn Lock>))
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        let tree = self.tree();
        if !tree.is_directory(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let free = self.device.size.load(Ordering::Relaxed).saturating_sub(self.used());
        Ok(Space { free, in_memory: tree.in_memory.contains(directory) })
    }

    fn user(&self) -> u32 {
        0
    }
}

impl File for Handle {
    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let total: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let end = offset.checked_add(total).ok_or(io::ErrorKind::FileTooLarge)?;
        let mut bytes = self.0.bytes.write();
        if bytes.len() < end {
            self.0.resize(&mut bytes, end);
        }
        let room = bytes.len().saturating_sub(offset).min(total);
        if room == 0 && total > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut at = offset;
        for buffer in buffers {
            let taken = buffer.len().min(offset + room - at);
            bytes[at..at + taken].copy_from_slice(&buffer[..taken]);
            at += taken;
        }
        Ok(room)
    }

    fn is_cached(&self, _: u64) -> bool {
        true
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.bytes.read();
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn read_vectored_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        for buffer in buffers {
            let read = self.read_at(buffer, offset + done as u64)?;
            done += read;
            if read < buffer.len() {
                break;
            }
        }
        Ok(done)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // There are no holes here: zeros take room too.
        let mut bytes = self.0.bytes.write();
        self.0.resize(&mut bytes, len);
        if bytes.len() < len { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let long = self.0.bytes.read().len() as u64 >= len;
        if long { Ok(()) } else { self.set_len(len) }
    }

    fn begin_write_back(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn uncache(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{RealIo, read_exact_at};

    /// One script, the same answers from memory and from the real thing.
    fn script(io: &dyn Io, root: &Path) -> Vec<String> {
        let mut said = Vec::new();
        let mut note = |what: io::Result<String>| {
            said.push(what.unwrap_or_else(|error| format!("{:?}", error.kind())));
        };
        let (dir, path) = (root.join("a/b"), root.join("a/b/file"));
        note(io.create_dir(&dir).map(|()| String::new()));
        note(io.create_dir_all(&dir).map(|()| String::new()));
        note(io.create_dir_all(&dir).map(|()| String::new()));
        note(io.create_dir(&dir).map(|()| String::new()));
        note(io.open(&path).map(|_| String::new()));
        note(io.create(&path).map(|_| String::new()));
        note(io.create(&path).map(|_| String::new()));
        let file = io.open(&path).unwrap();
        note(file.write_vectored_at(&[IoSlice::new(b"xy"), IoSlice::new(b"z")], 5).map(|n| n.to_string()));
        note(file.write_vectored_at(&[IoSlice::new(b"Y")], 6).map(|n| n.to_string()));
        let mut found = [9; 8];
        note(read_exact_at(&*file, &mut found, 0).map(|()| format!("{found:?}")));
        note(file.read_at(&mut found, 100).map(|n| n.to_string()));
        let (mut one, mut other) = ([7; 6], [7; 9]);
        let mut both = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut []), IoSliceMut::new(&mut other)];
        note(file.read_vectored_at(&mut both, 1).map(|n| n.to_string()));
        note(Ok(format!("{one:?} {other:?}")));
        note(file.set_len(2).map(|()| String::new()));
        note(io.len_of(&path).map(|len| len.to_string()));
        note(io.len_of(&root.join("none")).map(|len| len.to_string()));
        note(file.read_at(&mut found, 0).map(|n| n.to_string()));
        note(io.list(&dir).map(|entries| format!("{entries:?}")));
        note(io.list(&root.join("a")).map(|entries| format!("{entries:?}")));
        note(io.list(&root.join("none")).map(|entries| format!("{entries:?}")));
        let held = io.try_lock(&path).unwrap();
        note(io.try_lock(&path).map(|lock| lock.is_some().to_string()));
        drop(held);
        note(io.try_lock(&path).map(|lock| lock.is_some().to_string()));
        let (second, third) = (root.join("a/b/second"), root.join("a/b/third"));
        io.create(&second).unwrap();
        note(io.rename(&path, &third).map(|()| String::new()));
        note(io.rename(&path, &third).map(|()| String::new()));
        note(io.rename(&third, &root.join("none/third")).map(|()| String::new()));
        let empty = root.join("a/empty");
        io.create_dir(&empty).unwrap();
        note(io.rename(&third, &empty).map(|()| String::new()));
        note(io.rename(&third, &second).map(|()| String::new()));
        note(io.rename(&second, &second).map(|()| String::new()));
        note(io.list(&dir).map(|entries| format!("{entries:?}")));
        note(io.open(&second).and_then(|file| file.read_at(&mut found, 0)).map(|n| n.to_string()));
        note(io.rename(&second, &path).map(|()| String::new()));
        note(io.remove_file(&path).map(|()| String::new()));
        note(io.remove_file(&path).map(|()| String::new()));
        note(file.read_at(&mut found, 0).map(|n| n.to_string()));
        note(io.remove_dir(&root.join("a")).map(|()| String::new()));
        note(io.remove_dir(&empty).map(|()| String::new()));
        note(io.remove_dir(&empty).map(|()| String::new()));
        note(io.remove_dir_all(&root.join("a")).map(|()| String::new()));
        note(io.remove_dir_all(&root.join("a")).map(|()| String::new()));
        said
    }

    #[test]
    fn a_device_of_a_size_takes_so_many_bytes_and_has_them_back() {
        let io = MemoryIo::limited(10);
        let (one, two) = (Path::new("/one"), Path::new("/two"));
        let (a, b) = (io.create(one).unwrap(), io.create(two).unwrap());
        let write = |file: &dyn File, offset| file.write_vectored_at(&[IoSlice::new(b"sixsix")], offset);
        assert_eq!(write(&*a, 0).unwrap(), 6);
        assert_eq!(write(&*b, 0).unwrap(), 4, "a short write");
        assert_eq!(write(&*b, 4).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(b.allocate(7).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(io.space(Path::new("/")).unwrap().free, 0);
        assert_eq!(write(&*a, 0).unwrap(), 6, "what it has can be overwritten");
        io.remove_file(one).unwrap();
        assert_eq!(io.used(), 10, "it is still open");
        drop(a);
        b.set_len(1).unwrap();
        assert_eq!((io.used(), io.space(Path::new("/")).unwrap().free), (1, 9));
        b.allocate(5).unwrap();
        assert_eq!(io.used(), 5);
    }

    #[test]
    fn memory_answers_as_the_operating_system_does() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(script(&MemoryIo::new(), Path::new("/")), script(&RealIo, directory.path()));
    }
}
