//! Where settings come from, read in the order in which they win.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use spill_core::{Error, Result};

use super::node::{self, Leaf};
use super::{Origin, Raw, keys};
use crate::MEMORY_LIMIT_VARIABLE;
use crate::settings::{LOCAL_DIRECTORY_VARIABLE, NAME_VARIABLE, NTHREADS_VARIABLE};

/// Our variables that have no `__`, and the keys that they set.
const SHORT: [(&str, &str); 4] = [
    (MEMORY_LIMIT_VARIABLE, keys::LIMIT),
    (NTHREADS_VARIABLE, keys::NTHREADS),
    (NAME_VARIABLE, keys::NAME),
    (LOCAL_DIRECTORY_VARIABLE, keys::DIRECTORIES),
];

/// Where settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Where `etc/dask` and `etc/overspill` lie.
    root: Option<PathBuf>,
    /// Where `.config/dask` and `.config/overspill` lie.
    home: Option<PathBuf>,
    defaults: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    flags: Vec<(String, String)>,
}

/// One family of settings: Dask's or ours.
struct Family {
    folder: &'static str,
    /// The table in files that holds the settings.
    table: &'static str,
    prefix: &'static str,
    lenient: bool,
}

const DASK: Family = Family { folder: "dask", table: "distributed", prefix: "DASK_", lenient: true };
const OWN: Family = Family { folder: "overspill", table: "overspill", prefix: "OVERSPILL_", lenient: false };

impl Sources {
    /// The files and the environment of this process.
    #[must_use]
    pub fn of_this_process() -> Self {
        Sources {
            root: Some(PathBuf::from("/")),
            home: env::home_dir(),
            // What is not text sets none of our keys.
            environment: env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
            defaults: Vec::new(),
            flags: Vec::new(),
        }
    }

    /// Nothing but what is added.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The folder in which `.config` is looked for.
    #[must_use]
    pub fn home(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// Sets an environment variable, over one of the same name.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What a key (without a root) is where nobody sets it, in place of the usual default.
    #[must_use]
    pub fn default_value(mut self, key: &str, value: &str) -> Self {
        self.defaults.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets a key (without a root, such as `worker.memory.target`), as the command line does.
    #[must_use]
    pub fn flag(mut self, key: &str, value: &str) -> Self {
        self.flags.push((key.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn read(&self) -> Result<BTreeMap<String, Raw>> {
        let mut settings = BTreeMap::new();
        for (key, value) in &self.defaults {
            put_text(&format!("{}.{key}", OWN.table), value, &Origin::Default, &OWN, &mut settings)?;
        }
        for family in [DASK, OWN] {
            for path in self.files(&family)? {
                read_file(&path, &family, &mut settings)?;
            }
            for (name, value) in &self.environment {
                let short = SHORT.iter().find(|(variable, _)| variable == name).map(|(_, key)| *key);
                let Some(rest) = name.strip_prefix(family.prefix) else { continue };
                let origin = Origin::Environment(name.clone());
                if let Some(key) = short {
                    let raw = Raw { value: Leaf::Text(value.clone()), origin, lenient: false };
                    settings.insert(key.to_owned(), raw);
                } else if family.lenient || rest.contains("__") {
                    let path = rest.to_lowercase().replace("__", ".");
                    let path = if family.lenient { path } else { format!("{}.{path}", family.table) };
                    put_text(&path, value, &origin, &family, &mut settings)?;
                }
            }
        }
        for (key, value) in &self.flags {
            let path = format!("{}.{key}", OWN.table);
            put_text(&path, value, &Origin::Flag, &OWN, &mut settings)?;
        }
        Ok(settings)
    }

    /// The files of a family, in the order in which they are read.
    fn files(&self, family: &Family) -> Result<Vec<PathBuf>> {
        let variable = |name: String| {
            self.environment.iter().find(|(known, _)| *known == name).map(|(_, value)| PathBuf::from(value))
        };
        let system = variable(format!("{}ROOT_CONFIG", family.prefix))
            .or_else(|| self.root.as_ref().map(|root| root.join("etc").join(family.folder)));
        let home = self.home.as_ref().map(|home| home.join(".config").join(family.folder));
        let given = variable(format!("{}CONFIG", family.prefix));
        let mut files = Vec::new();
        for place in [system, home, given].into_iter().flatten() {
            if place.is_dir() {
                let entries = fs::read_dir(&place).map_err(|error| Error::io("list", &place, error))?;
                let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
                let is_settings = |path: &PathBuf| {
                    path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml" || ext == "json")
                };
                found.retain(is_settings);
                found.sort();
                files.extend(found);
            } else if place.is_file() {
                files.push(place);
            }
        }
        Ok(files)
    }
}

fn read_file(path: &Path, family: &Family, settings: &mut BTreeMap<String, Raw>) -> Result<()> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        // As Dask does: a file of somebody else's is not for us.
        Err(error) if family.lenient && error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(Error::io("read", path, error)),
    };
    let document = node::parse(&text)
        .map_err(|(line, problem)| Error::config(format!("{}:{line}", path.display()), problem, "YAML"))?;
    let mut result = Ok(());
    node::walk(&document, &mut Vec::new(), &mut |keys, leaf, line| {
        let origin = Origin::File { path: path.to_owned(), line };
        if result.is_ok() {
            result = put(keys, leaf, &origin, family, settings);
        }
    });
    result
}

/// A value that stands in a variable or a flag is read as YAML; what is none is text.
fn put_text(
    path: &str,
    text: &str,
    origin: &Origin,
    family: &Family,
    settings: &mut BTreeMap<String, Raw>,
) -> Result<()> {
    let mut keys: Vec<String> = path.split('.').map(str::to_owned).collect();
    let Ok(value) = node::parse(text) else {
        return put(&keys, &Leaf::Text(text.to_owned()), origin, family, settings);
    };
    let mut result = Ok(());
    node::walk(&value, &mut keys, &mut |keys, leaf, _| {
        if result.is_ok() {
            result = put(keys, leaf, origin, family, settings);
        }
    });
    result
}

fn put(
    path: &[String],
    leaf: &Leaf,
    origin: &Origin,
    family: &Family,
    settings: &mut BTreeMap<String, Raw>,
) -> Result<()> {
    let own_table = path.first().is_some_and(|first| first == family.table);
    let rest = if own_table { path.get(1..).unwrap_or_default() } else { path };
    let key = keys::canonical(rest);
    let known = keys::is_known(&key);
    // Dask keeps one key of ours outside of its table; its files hold much that is not ours.
    let taken = known && (own_table || (family.lenient && key == keys::DIRECTORIES));
    if taken {
        let raw = Raw { value: leaf.clone(), origin: origin.clone(), lenient: family.lenient };
        settings.insert(key, raw);
    } else if !(family.lenient || path.len() <= 1 && *leaf == Leaf::Null) {
        let expected = match keys::nearest(&key) {
            Some(near) if own_table => format!("a key that is known; did you mean {near:?}?"),
            _ => format!("a key that is known, below {:?}", family.table),
        };
        return Err(Error::config(format!("{origin}: {}", path.join(".")), leaf, expected));
    }
    Ok(())
}
