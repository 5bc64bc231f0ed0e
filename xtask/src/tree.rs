//! What lies in the working tree: nothing that a test generated, and no file that grew too long.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::shell::{self, Failure, Line, Result, failed};
use crate::steps::Context;

/// Lines after which a file probably holds more than one idea.
const LONG: usize = 500;

/// What `git status` lists, or `None` where git knows no working tree here.
#[derive(Debug, Default)]
pub(crate) struct Status(Option<BTreeSet<String>>);

impl Status {
    /// What it lists now.
    pub(crate) fn now() -> Self {
        let listed = Line::new("git", "status --porcelain").text().ok();
        Status(listed.map(|text| text.lines().map(str::to_owned).collect()))
    }

    /// What is listed here and was not `before`.
    fn since(&self, before: &Status) -> Option<Vec<&str>> {
        let now = self.0.as_ref()?;
        let before = before.0.as_ref()?;
        Some(now.iter().filter(|line| !before.contains(*line)).map(String::as_str).collect())
    }
}

/// Nothing changed in the working tree while the tests ran. An error in continuous integration, where nobody
/// edits meanwhile; else a note.
pub(crate) fn clean(context: &Context) -> Result {
    let now = Status::now();
    match now.since(&context.before) {
        None => {
            context.notice("git knows no working tree here, so nothing says whether the tests left files")
        }
        Some(new) if new.is_empty() => {}
        Some(new) if context.ci => return failed(format!("the tests left in the tree:\n{}", new.join("\n"))),
        Some(new) => {
            context
                .notice(format!("in the tree since the tests began (yours or theirs): {}", new.join(", ")));
        }
    }
    Ok(())
}

/// Names the files that are longer than [`LONG`] lines.
pub(crate) fn sizes(context: &Context) -> Result {
    for path in files(&context.root, &["rs", "py"])? {
        let lines = shell::read(&path)?.lines().count();
        if lines > LONG {
            let path = path.strip_prefix(&context.root).unwrap_or(&path);
            context.notice(format!(
                "{} has {lines} lines; beyond {LONG} look for a second idea",
                path.display()
            ));
        }
    }
    Ok(())
}

/// The files below `folder` with one of these extensions, sorted; not those of build and hidden folders.
pub(crate) fn files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable =
            |error| Failure::Failed(format!("cannot list the folder {}: {error}", folder.display()));
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if entry.file_type().map_err(unreadable)?.is_dir() {
                if !name.starts_with('.')
                    && !["target", "artifacts", "node_modules", "__pycache__"].contains(&&*name)
                {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|e| extensions.iter().any(|known| e == *known)) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_since_the_start_counts() {
        let listed = |lines: &[&str]| Status(Some(lines.iter().map(|line| (*line).to_owned()).collect()));
        let now = listed(&[" M edited.rs", "?? left.bin"]);
        assert_eq!(now.since(&listed(&[" M edited.rs"])), Some(vec!["?? left.bin"]));
        assert_eq!(now.since(&Status::default()), None);
    }

    #[test]
    fn build_and_hidden_folders_are_passed_by() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["b.rs", "a/c.py", "a/d.txt", "target/e.rs", ".hidden/f.rs"] {
            shell::write(&folder.path().join(path), "").unwrap();
        }
        let found = files(folder.path(), &["rs", "py"]).unwrap();
        assert_eq!(found, [folder.path().join("a/c.py"), folder.path().join("b.rs")]);
    }
}
