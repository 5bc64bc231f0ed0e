//! The user's own data, as values.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use overspill::{Frames, Pool};
use walkdir::WalkDir;

use crate::failure::Failure;

/// Values in memory, cut out of files.
pub(super) struct Sample {
    /// Files that exist in what was named, empty ones not counted.
    pub(super) files: u64,
    /// Their bytes.
    pub(super) found: u64,
    pub(super) values: Vec<Frames>,
    /// Bytes of all values.
    pub(super) bytes: u64,
}

/// A part of a file.
struct Piece<'a> {
    path: &'a Path,
    start: u64,
    len: u64,
}

impl Sample {
    /// Reads files, and those below folders, as values of up to `value_size` bytes: about `limit` of them, evenly
    /// spread.
    pub(super) fn read(paths: &[PathBuf], value_size: u64, limit: u64) -> Result<Self, Failure> {
        if value_size == 0 || limit == 0 {
            return Err(Failure::Usage("--value-size and --limit must be above 0".to_owned()));
        }
        let mut files = Vec::new();
        for path in paths {
            list(path, &mut files)?;
        }
        let found: u64 = files.iter().map(|(_, len)| len).sum();
        if found == 0 {
            let given: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            let given = given.join(", ");
            return Err(Failure::Usage(format!(
                "there is nothing to measure in {given}; name files with content, or folders with such files"
            )));
        }
        let pieces = files.iter().flat_map(|(path, len)| {
            let starts = (0..*len).step_by(usize::try_from(value_size).unwrap_or(usize::MAX));
            starts.map(move |start| Piece { path, start, len: value_size.min(len - start) })
        });
        let (mut values, mut bytes, mut passed) = (Vec::new(), 0, 0);
        for piece in pieces {
            passed += piece.len;
            // As much of the limit as of the data that was passed by now.
            let due = u128::from(passed) * u128::from(limit.min(found)) / u128::from(found);
            if u128::from(bytes) + u128::from(piece.len) <= due || (values.is_empty() && passed == found) {
                bytes += piece.len;
                values.push(load(&piece)?);
            }
        }
        Ok(Sample { files: files.len() as u64, found, values, bytes })
    }
}

/// Adds the files at or below `path` to `files`, with their lengths. What cannot be read below a folder is
/// left out and said; what was named must be there.
fn list(path: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<(), Failure> {
    std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    for entry in WalkDir::new(path).sort_by_file_name() {
        let (entry, kind) = match entry.and_then(|entry| entry.metadata().map(|kind| (entry, kind))) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!("left out: {error}");
                continue;
            }
        };
        // What was named may be a link; links below a folder could lead anywhere.
        let len = if entry.depth() == 0 { std::fs::metadata(path)?.len() } else { kind.len() };
        let is_file = kind.is_file() || (entry.depth() == 0 && path.is_file());
        if !is_file || len == 0 {
            continue;
        }
        match File::open(entry.path()) {
            Ok(_) => files.push((entry.into_path(), len)),
            Err(error) if entry.depth() == 0 => return Err(unreadable(path, &error)),
            Err(error) => tracing::warn!("left out: {}: {error}", entry.path().display()),
        }
    }
    Ok(())
}

/// A piece in memory on the frames' alignment, as a program's arrays are.
fn load(piece: &Piece<'_>) -> Result<Frames, Failure> {
    let read = || {
        let mut file = File::open(piece.path)?;
        file.seek(SeekFrom::Start(piece.start))?;
        let mut memory = Pool::new(0).take(usize::try_from(piece.len).unwrap_or(usize::MAX), 0);
        file.read_exact(&mut memory)?;
        io::Result::Ok(memory.freeze())
    };
    Ok(read().map_err(|error| unreadable(piece.path, &error))?.into())
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Usage(format!(
        "cannot read {}: {error}; name files and folders that can be read",
        path.display()
    ))
}
