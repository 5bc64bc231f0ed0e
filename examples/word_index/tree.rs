//! The files to read.

use std::path::PathBuf;

use walkdir::WalkDir;

use crate::failure::Failure;
use crate::stop::Stop;

/// The files under the given paths, in a fixed order. A file's number is its place in the list.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<TreeFile>,
    /// Their length in all, as the directories say.
    pub(crate) bytes: u64,
    /// Directories and files inside the tree that could not be looked at.
    pub(crate) unreadable: u64,
}

#[derive(Debug)]
pub(crate) struct TreeFile {
    pub(crate) path: PathBuf,
    /// In bytes, as its directory says.
    pub(crate) length: u64,
}

impl Tree {
    /// Lists the regular files under `paths`. A path that cannot be read is an error; what cannot be read
    /// further down is counted.
    pub(crate) fn list(paths: &[PathBuf], stop: &Stop) -> Result<Self, Failure> {
        let mut tree = Tree::default();
        for path in paths {
            let unusable =
                |reason: String| Failure::Usage(format!("cannot read {}: {reason}", path.display()));
            let kind = path.metadata().map_err(|error| unusable(error.to_string()))?;
            if kind.is_dir() {
                path.read_dir().map_err(|error| unusable(error.to_string()))?;
            } else if kind.is_file() {
                std::fs::File::open(path).map_err(|error| unusable(error.to_string()))?;
            } else {
                return Err(unusable("neither a file nor a directory".to_owned()));
            }
            for entry in WalkDir::new(path).sort_by_file_name() {
                stop.check()?;
                match entry.and_then(|entry| Ok((entry.metadata()?, entry))) {
                    // a path that is itself a link to a file was named, so it is followed
                    Ok((metadata, entry)) if metadata.is_file() || (entry.depth() == 0 && kind.is_file()) => {
                        tree.bytes += metadata.len();
                        tree.files.push(TreeFile { path: entry.into_path(), length: metadata.len() });
                    }
                    Ok(_) => {}
                    Err(_) => tree.unreadable += 1,
                }
            }
        }
        Ok(tree)
    }
}
