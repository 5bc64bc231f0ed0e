//! Emptying a directory that somebody else may be renaming.
//!
//! Everything is done by handles of directories, opened without following a link. Were each entry removed by its path, one
//! who may write beside the directory could put a link in its place meanwhile, and have us remove what that leads to.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// See [`Io::clear`](super::Io::clear).
pub(super) fn clear(directory: &Path, but: &OsStr) -> io::Result<()> {
    let handle = rustix::fs::open(directory, FLAGS, Mode::empty())?;
    Ok(clear_in(handle.as_fd(), but.as_bytes())?)
}

fn clear_in(directory: BorrowedFd<'_>, but: &[u8]) -> rustix::io::Result<()> {
    for name in names(directory)? {
        if name.to_bytes() == but {
            continue;
        }
        let removed = match unlinkat(directory, &name, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_dir(directory, &name),
            outcome => outcome,
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn remove_dir(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    let handle = openat(parent, name, FLAGS, Mode::empty())?;
    clear_in(handle.as_fd(), b"")?;
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// All at once, since a list that shrinks while it is read may leave some out.
fn names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn all_goes_but_the_one_and_what_links_lead_to() {
        let parent = tempfile::tempdir().unwrap();
        let (ours, theirs) = (parent.path().join("ours"), parent.path().join("theirs"));
        fs::create_dir_all(ours.join("deep/deeper")).unwrap();
        fs::create_dir(&theirs).unwrap();
        for file in ["ours/kept", "ours/one", "ours/deep/kept", "ours/deep/deeper/one", "theirs/precious"] {
            fs::write(parent.path().join(file), file).unwrap();
        }
        symlink(&theirs, ours.join("link")).unwrap();
        symlink(&theirs, ours.join("deep/link")).unwrap();
        clear(&ours, OsStr::new("kept")).unwrap();
        let left: Vec<_> = fs::read_dir(&ours).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
        assert!(theirs.join("precious").exists());
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let (theirs, link) = (parent.path().join("theirs"), parent.path().join("link"));
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("precious"), "").unwrap();
        symlink(&theirs, &link).unwrap();
        clear(&link, OsStr::new("kept")).unwrap_err();
        assert!(theirs.join("precious").exists());
        let missing = clear(&parent.path().join("missing"), OsStr::new("kept")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
