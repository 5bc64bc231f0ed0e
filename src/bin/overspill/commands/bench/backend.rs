//! The storage that this build has.

use std::fmt;
use std::path::{Path, PathBuf};

use overspill::{Files, FilesConfig, Frames, MutableMapping, Pool, Segments, SegmentsConfig, Workspace};

use crate::failure::Failure;

/// One kind of storage.
pub(super) enum Backend {
    Segments(Option<PathBuf>),
    Files(Option<PathBuf>),
    #[cfg(feature = "object")]
    Objects(overspill::object::Store),
}

impl Backend {
    /// Those that can be had with these arguments.
    pub(super) fn all(directory: Option<&Path>, store: Option<&str>) -> Result<Vec<Self>, Failure> {
        let directory = directory.map(Path::to_owned);
        let mut all = vec![Backend::Segments(directory.clone()), Backend::Files(directory)];
        if let Some(url) = store {
            all.push(objects(url)?);
        }
        Ok(all)
    }

    /// How tables call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Backend::Segments(_) => "segments",
            Backend::Files(_) => "files",
            #[cfg(feature = "object")]
            Backend::Objects(_) => "objects",
        }
    }

    /// A new, empty one.
    pub(super) fn open(&self, pool: &Pool) -> Result<Box<dyn MutableMapping<u64, Frames>>, Failure> {
        let pool = pool.clone();
        Ok(match self {
            Backend::Segments(directory) => {
                let workspace = Workspace::open(directory.as_deref())?;
                Box::new(Segments::open(SegmentsConfig::new(workspace).pool(pool))?)
            }
            Backend::Files(directory) => {
                let workspace = Workspace::open(directory.as_deref())?;
                Box::new(Files::open(FilesConfig::new(workspace).pool(pool))?)
            }
            #[cfg(feature = "object")]
            Backend::Objects(store) => {
                let config = overspill::object::ObjectsConfig::new(store.clone()).pool(pool);
                Box::new(overspill::object::Objects::blocking(config)?)
            }
        })
    }
}

#[cfg(feature = "object")]
fn objects(url: &str) -> Result<Backend, Failure> {
    Ok(Backend::Objects(overspill::object::Store::open(url)?))
}

#[cfg(not(feature = "object"))]
fn objects(url: &str) -> Result<Backend, Failure> {
    Err(Failure::Usage(format!(
        "--store {url}: this program was built without object stores; build it with --features cli,aws (or gcp, \
         azure, object)"
    )))
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
