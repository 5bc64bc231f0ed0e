//! Files in main memory, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use super::{Entry, File, Io, Lock, Space};

/// A file system in main memory, for tests of this crate and of those above. Clones share it.
///
/// It keeps what the real one promises: a file that was removed stays usable through its handles, a gap
/// reads as zeros, a lock belongs to a file and not to its name. The root directory exists from the start.
#[derive(Clone, Default)]
pub struct MemoryIo(Arc<Mutex<Tree>>);

#[derive(Default)]
struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
    in_memory: BTreeSet<PathBuf>,
}

enum Node {
    Directory,
    File(Arc<Content>),
}

#[derive(Default)]
struct Content {
    bytes: RwLock<Vec<u8>>,
    locked: AtomicBool,
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
    /// An empty file system.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on [`space`](Io::space) says of this directory that it lives in main memory, as it would of
    /// a tmpfs.
    pub fn pretend_tmpfs(&self, directory: &Path) {
        self.0.lock().in_memory.insert(directory.to_owned());
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
        self.0.lock().add(path, Node::Directory)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.0.lock();
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
        let content = Arc::<Content>::default();
        self.0.lock().add(path, Node::File(Arc::clone(&content)))?;
        Ok(Box::new(Handle(content)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(Handle(self.0.lock().file(path)?)))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        let tree = self.0.lock();
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

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut tree = self.0.lock();
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
        let mut tree = self.0.lock();
        tree.file(path)?;
        tree.nodes.remove(path);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut tree = self.0.lock();
        if !tree.is_directory(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        tree.nodes.retain(|inside, _| !inside.starts_with(path));
        Ok(())
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        // Under the tree's lock, so that the path names the file while its lock is taken.
        let tree = self.0.lock();
        let content = tree.file(path)?;
        let taken = content.locked.swap(true, Ordering::Acquire);
        Ok((!taken).then(|| Box::new(HeldLock(content)) as Box<dyn Lock>))
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        let tree = self.0.lock();
        if !tree.is_directory(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Space { free: u64::MAX, in_memory: tree.in_memory.contains(directory) })
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
            bytes.resize(end, 0);
        }
        let mut at = offset;
        for buffer in buffers {
            bytes[at..at + buffer.len()].copy_from_slice(buffer);
            at += buffer.len();
        }
        Ok(total)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.bytes.read();
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.0.bytes.write().resize(len, 0);
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
        note(file.set_len(2).map(|()| String::new()));
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
        note(io.remove_dir_all(&root.join("a")).map(|()| String::new()));
        note(io.remove_dir_all(&root.join("a")).map(|()| String::new()));
        said
    }

    #[test]
    fn memory_answers_as_the_operating_system_does() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(script(&MemoryIo::new(), Path::new("/")), script(&RealIo, directory.path()));
    }
}
