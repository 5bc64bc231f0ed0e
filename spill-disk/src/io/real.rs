//! The operating system's own files.

#[cfg(target_os = "linux")]
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

#[cfg(target_os = "linux")]
use super::page_cache;
use super::{Entry, File, Io, Lock, Space};

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealIo;

struct RealFile(fs::File);

struct RealLock {
    /// Closing the file ends its lock.
    _file: fs::File,
}
impl Lock for RealLock {}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed());
    options
}

impl Io for RealIo {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).recursive(true).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let file = options().create_new(true).mode(0o600).open(path)?;
        // That reading it does not note the time is some percent of a small read. Only its owner may ask for it, which
        // we are not where a file system gives new files to somebody else.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fcntl_setfl(&file, OFlags::NOATIME);
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        Ok(Box::new(RealFile(options().open(path)?)))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>> {
        fs::read_dir(directory)?
            .map(|entry| {
                let entry = entry?;
                Ok(Entry { name: entry.file_name(), is_dir: entry.file_type()?.is_dir() })
            })
            .collect()
    }

    fn len_of(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::symlink_metadata(path)?.len())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    #[cfg(target_os = "linux")]
    fn clear(&self, directory: &Path, but: &OsStr) -> io::Result<()> {
        super::clear::clear(directory, but)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let file = options().open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Between opening and locking, the one who held the lock may have removed the file.
        let ours = file.metadata()?;
        let same = match fs::symlink_metadata(path) {
            Ok(named) => named.ino() == ours.ino() && named.dev() == ours.dev(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        Ok(same.then(|| Box::new(RealLock { _file: file }) as Box<dyn Lock>))
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        let room = rustix::fs::statvfs(directory)?;
        Ok(Space { free: room.f_bavail.saturating_mul(room.f_frsize), in_memory: in_memory(directory)? })
    }

    fn user(&self) -> u32 {
        rustix::process::getuid().as_raw()
    }
}

/// Whether the directory is on a file system that lives in main memory.
#[cfg(target_os = "linux")]
fn in_memory(directory: &Path) -> io::Result<bool> {
    /// As `statfs` names the types of file systems.
    const TMPFS: u32 = 0x0102_1994;
    const RAMFS: u32 = 0x8584_58f6;
    // The type's width and sign differ between processors; the numbers are 32 bits.
    let kind = rustix::fs::statfs(directory)?.f_type as u32;
    Ok(kind == TMPFS || kind == RAMFS)
}

#[cfg(not(target_os = "linux"))]
fn in_memory(_directory: &Path) -> io::Result<bool> {
    Ok(false)
}

impl File for RealFile {
    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        match buffers {
            [one] => self.0.write_at(one, offset),
            many => Ok(rustix::io::pwritev(&self.0, many, offset)?),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    #[cfg(target_os = "linux")]
    fn is_cached(&self, offset: u64) -> bool {
        let mut byte = [0];
        let buffers = &mut [IoSliceMut::new(&mut byte)];
        rustix::io::preadv2(&self.0, buffers, offset, rustix::io::ReadWriteFlags::NOWAIT) == Ok(1)
    }

    fn read_vectored_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::preadv(&self.0, buffers, offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    #[cfg(target_os = "linux")]
    fn allocate(&self, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), 0, len)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(target_os = "linux")]
    fn begin_write_back(&self, offset: u64, len: u64) -> io::Result<()> {
        page_cache::begin_write_back(&self.0, offset, len)
    }

    #[cfg(not(target_os = "linux"))]
    fn begin_write_back(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn uncache(&self, offset: u64, len: u64) -> io::Result<()> {
        page_cache::uncache(&self.0, offset, len)
    }

    #[cfg(not(target_os = "linux"))]
    fn uncache(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn map(&self, len: u64) -> io::Result<Box<dyn super::Mapping>> {
        Ok(Box::new(super::mapping::FileMapping::new(&self.0, len)?))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Nobody else can read what was spilled, and no link planted in the way is followed.
    #[test]
    fn files_are_private_and_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let ours = directory.path().join("ours");
        RealIo.create_dir(&ours).unwrap();
        assert_eq!(fs::metadata(&ours).unwrap().permissions().mode() & 0o777, 0o700);

        let target = directory.path().join("target");
        fs::write(&target, b"precious").unwrap();
        let link = ours.join("link");
        symlink(&target, &link).unwrap();
        assert!(RealIo.create(&link).is_err());
        assert!(RealIo.open(&link).is_err());
        assert!(RealIo.try_lock(&link).is_err());

        let file = ours.join("file");
        RealIo.create(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(RealIo.create(&file).err().map(|error| error.kind()), Some(io::ErrorKind::AlreadyExists));

        symlink(directory.path(), ours.join("tree")).unwrap();
        RealIo.remove_dir_all(&ours).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn one_lock_at_a_time_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert_eq!(RealIo.try_lock(&path).err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
        RealIo.create(&path).unwrap();
        let held = RealIo.try_lock(&path).unwrap();
        assert!(held.is_some());
        assert!(RealIo.try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(RealIo.try_lock(&path).unwrap().is_some());
    }

    #[test]
    fn the_table_of_mounts_and_statfs_agree_on_what_is_memory() {
        let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounts: Vec<_> = table.lines().map(|line| line.split(' ').skip(1).collect::<Vec<_>>()).collect();
        for mount in &mounts {
            let (place, kind) = (mount[0], mount[1]);
            // Where one file system is mounted over another, the lower one cannot be asked.
            let alone = mounts.iter().filter(|other| other[0] == place).count() == 1;
            if let (true, "tmpfs" | "ramfs" | "ext4" | "xfs" | "btrfs") = (alone, kind)
                && let Ok(space) = RealIo.space(Path::new(place))
            {
                assert_eq!(space.in_memory, matches!(kind, "tmpfs" | "ramfs"), "{place}");
            }
        }
    }
}
