//! The only door to the operating system's files.
//!
//! Everything above speaks to [`Io`] and [`File`], so that a test can put memory, faults or a simulation in
//! the place of a disk. What a system call leaves open (short writes, interruption, the limit on the number of
//! buffers) is handled once, in [`write_all_vectored_at`] and [`read_exact_at`], above the trait.

#[cfg(target_os = "linux")]
mod clear;
mod faulty;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod mapping;
mod memory;
#[cfg(target_os = "linux")]
mod page_cache;
mod real;

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut};
use std::path::Path;

pub use faulty::{Call, Fault, FaultyIo, Operation, Rule};
pub use memory::MemoryIo;
pub use real::RealIo;

/// The most buffers that one system call takes (`IOV_MAX` on Linux).
pub(crate) const MOST_BUFFERS: usize = 1024;

/// The file operations that storage on a local disk needs. Implementors make one call of the system for each
/// method and neither retry nor loop; callers use the helpers of this module where a call may do part of the
/// work.
pub trait Io: Send + Sync + 'static {
    /// Creates a directory that nobody else may enter (0700).
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, by a link too; what the system says.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and its parents where they are missing, each as [`create_dir`](Self::create_dir).
    /// A directory that exists is well.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Creates a file that nobody else may read (0600) and opens it for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken, by a link too; what the system says.
    fn create(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// Opens an existing file for reading and writing, following no link in its last component.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn File>>;

    /// What lies in a directory, in no particular order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, directory: &Path) -> io::Result<Vec<Entry>>;

    /// The length of a file in bytes; of a link, not of what it leads to.
    ///
    /// # Errors
    /// What the system says.
    fn len_of(&self, path: &Path) -> io::Result<u64>;

    /// Gives a file another name in one step: whoever looks finds it under one of the two. A file that had the
    /// new name is gone, but its open handles stay usable.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Handles that are open stay usable.
    ///
    /// # Errors
    /// What the system says.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `DirectoryNotEmpty` when something is in it; what the system says.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory with all it holds, following no link.
    ///
    /// # Errors
    /// What the system says; part of it may be gone.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Removes all that a directory holds but the file of this name. What is gone already is well. Provided as a list and a
    /// removal of each entry by its path; [`RealIo`] on Linux does it by handles, whatever becomes of the path meanwhile.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory; what the system says. Part of it may be gone.
    fn clear(&self, directory: &Path, but: &OsStr) -> io::Result<()> {
        for entry in self.list(directory)? {
            let path = directory.join(&entry.name);
            gone(match entry.is_dir {
                true => self.remove_dir_all(&path),
                false if entry.name == but => Ok(()),
                false => self.remove_file(&path),
            })?;
        }
        Ok(())
    }

    /// Takes the lock of an existing file without waiting. `None` when somebody else holds it, or when `path`
    /// no longer names the file that was locked: then its holder has just removed it.
    ///
    /// The lock ends when it is dropped or its process dies, however it dies.
    ///
    /// # Errors
    /// `NotFound` when there is no such file; what the system says.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>>;

    /// The room on the device of an existing directory.
    ///
    /// # Errors
    /// What the system says.
    fn space(&self, directory: &Path) -> io::Result<Space>;

    /// The number of the user whose files these are.
    fn user(&self) -> u32;
}

/// An open file. Reads and writes name their offset, so one handle serves all threads.
pub trait File: Send + Sync {
    /// Writes the buffers one after another from `offset` on, past the end of the file too. Returns how many
    /// bytes were written, which may be fewer than were given.
    ///
    /// # Errors
    /// What the system says.
    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Reads from `offset` on into the buffer. Returns how many bytes were read: 0 at the end of the file,
    /// and maybe fewer than were asked for.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Whether the byte at `offset` can be read without waiting for the device, as far as is known.
    fn is_cached(&self, offset: u64) -> bool {
        _ = offset;
        false
    }

    /// As [`read_at`](Self::read_at), into the buffers one after another.
    ///
    /// # Errors
    /// What the system says.
    fn read_vectored_at(&self, buffers: &mut [IoSliceMut<'_>], offset: u64) -> io::Result<usize>;

    /// Waits until what was written is on the device.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file to `len` bytes, or extends it with zeros.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Takes room on the device for the first `len` bytes, so that writing them cannot run out of it. The file is
    /// at least that long then; what it holds stays.
    ///
    /// # Errors
    /// What the system says; `Unsupported` where the file system cannot.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Begins to bring a range to the device that may still be only in main memory, and does not wait.
    ///
    /// # Errors
    /// What the system says.
    fn begin_write_back(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Brings a range to the device and lets the system forget its copy in main memory (the page cache). It is no
    /// promise of durability: what the device itself holds back need not be written.
    ///
    /// # Errors
    /// What the system says.
    fn uncache(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Maps the first `len` bytes into memory, more than the file has yet if need be.
    ///
    /// # Errors
    /// `Unsupported` where this cannot be done; what the system says.
    fn map(&self, len: u64) -> io::Result<Box<dyn Mapping>> {
        _ = len;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The beginning of a file in memory, until it is dropped.
pub trait Mapping: Send + Sync {
    /// Copies a range from `offset` on into the buffer. Gives the CRC-32 (zlib's) of what is behind the first `unsummed` bytes,
    /// or `None` where not all of the range could be had: it is not mapped, the file ends before, or the device fails. Then
    /// some of the buffer may have been written, and [`File::read_at`] says why. What is behind the end of the file but in
    /// its last page reads as zeros.
    fn read(&self, buffer: &mut [u8], offset: u64, unsummed: usize) -> Option<u32>;

    /// Lets the process give up the pages of a range, so that the system can forget them. They come back when they are
    /// read.
    fn release(&self, offset: u64, len: u64);
}

/// A lock that is held until it is dropped.
pub trait Lock: Send + Sync {}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, without the directory's.
    pub name: OsString,
    /// Whether it is a directory itself; a link to one is not.
    pub is_dir: bool,
}

/// The room on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that this user may still write.
    pub free: u64,
    /// Whether the "device" is main memory (tmpfs, ramfs), so that writing to it frees nothing.
    pub in_memory: bool,
}

/// Writes all of the buffers from `offset` on: goes on after a short write, repeats an interrupted one, and
/// splits what is more than one call takes. The buffers are left advanced past what was written.
///
/// # Errors
/// What the system says, and `WriteZero` when it takes nothing. How much was written is then unknown.
pub fn write_all_vectored_at(
    file: &dyn File,
    mut buffers: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut buffers, 0);
    while !buffers.is_empty() {
        let most = buffers.len().min(MOST_BUFFERS);
        match file.write_vectored_at(&buffers[..most], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut buffers, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// How a removal went, where what was gone already is well.
pub(crate) fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// As [`Io::try_lock`], of a file that is made where it is missing.
pub(crate) fn try_lock_made(io: &dyn Io, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
    match io.try_lock(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match io.create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => io.try_lock(path),
        },
        found => found,
    }
}

/// Fills the buffer from `offset` on: goes on after a short read and repeats an interrupted one.
///
/// # Errors
/// What the system says, and `UnexpectedEof`, naming the bytes found, when the file ends before.
pub fn read_exact_at(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    read_in_pieces(file, buffer, offset, usize::MAX, |_| {})
}

/// Bytes of a long record, about, that are read before they are summed. Half as much, or twice, is as good.
pub(crate) const PIECE: usize = 128 << 10;

/// The same, with calls for at most `most` bytes. Shows what each brought to `seen`, in order.
///
/// # Errors
/// As [`read_exact_at`].
pub(crate) fn read_in_pieces(
    file: &dyn File,
    buffer: &mut [u8],
    offset: u64,
    most: usize,
    seen: impl FnMut(&[u8]),
) -> io::Result<()> {
    let done = fill_in_pieces(file, buffer, offset, most, seen)?;
    if done == buffer.len() {
        return Ok(());
    }
    let found = format!("the file ends after {done} of {} bytes", buffer.len());
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, found))
}

/// Fills the buffer as far as the file goes. Returns the bytes read.
///
/// # Errors
/// What the system says.
pub(crate) fn fill_at(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    fill_in_pieces(file, buffer, offset, usize::MAX, |_| {})
}

fn fill_in_pieces(
    file: &dyn File,
    buffer: &mut [u8],
    offset: u64,
    most: usize,
    mut seen: impl FnMut(&[u8]),
) -> io::Result<usize> {
    let len = buffer.len();
    let mut done = 0;
    while done < len {
        let piece = &mut buffer[done..len.min(done.saturating_add(most))];
        match file.read_at(piece, offset + done as u64) {
            Ok(0) => break,
            Ok(read) => {
                seen(&piece[..read]);
                done += read;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn file() -> (FaultyIo, Box<dyn File>) {
        let io = FaultyIo::new(Arc::new(MemoryIo::new()));
        let file = io.create(Path::new("/file")).unwrap();
        (io, file)
    }

    fn content(file: &dyn File, len: usize) -> Vec<u8> {
        let mut found = vec![0; len];
        read_exact_at(file, &mut found, 0).unwrap();
        found
    }

    #[test]
    fn short_and_interrupted_writes_and_reads_are_finished() {
        let (io, file) = file();
        io.inject(Rule::from(1, Fault::Short(3)));
        io.inject(Rule::nth(2, Fault::Fail(io::ErrorKind::Interrupted)));
        let (a, b) = (b"hello".as_slice(), b"world!".as_slice());
        write_all_vectored_at(&*file, &mut [IoSlice::new(a), IoSlice::new(b""), IoSlice::new(b)], 0).unwrap();
        assert!(io.calls_of(Operation::Write) >= 5);
        assert_eq!(content(&*file, 11), b"helloworld!");
    }

    #[test]
    fn more_buffers_than_one_call_takes_are_split() {
        let (io, file) = file();
        let bytes: Vec<u8> = (0..3000_u32).map(|n| n as u8).collect();
        let mut buffers: Vec<_> = bytes.chunks(1).map(IoSlice::new).collect();
        write_all_vectored_at(&*file, &mut buffers, 0).unwrap();
        assert_eq!(io.calls_of(Operation::Write), 3);
        assert_eq!(content(&*file, 3000), bytes);
    }

    #[test]
    fn a_file_that_ends_too_early_is_an_error() {
        let (_, file) = file();
        file.set_len(5).unwrap();
        let error = read_exact_at(&*file, &mut [0; 9], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains("5 of 9"), "{error}");
    }

    #[test]
    fn a_device_that_takes_nothing_is_an_error() {
        let (io, file) = file();
        io.inject(Rule::from(1, Fault::Short(0)));
        let error = write_all_vectored_at(&*file, &mut [IoSlice::new(b"x")], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
