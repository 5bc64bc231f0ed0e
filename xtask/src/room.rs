//! Whether the disk has room for what the steps build and write: a build that runs out of it says so late, and in many
//! voices.

use std::path::{Path, PathBuf};

use crate::shell::{Failure, Line, Result, root};

const GIB: u64 = 1 << 30;

/// What a first build of everything takes (14 GiB were seen, with the long tests), and what a later one adds, in bytes.
const FIRST_BUILD: u64 = 16 * GIB;
const LATER_BUILD: u64 = 4 * GIB;

/// What tests write to the temporary directory at a time, in bytes.
const TESTS: u64 = 2 * GIB;

/// Fails where the folder that is built in, or that for temporary files, has too little room.
pub(crate) fn run() -> Result {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let is_first = !target.join("debug/deps").exists();
    let build = if is_first { FIRST_BUILD } else { LATER_BUILD };
    let folder = target.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    enough(folder, build, "free some, or name a folder elsewhere in CARGO_TARGET_DIR")?;
    enough(&std::env::temp_dir(), TESTS, "free some, or name a folder elsewhere in TMPDIR")
}

fn enough(folder: &Path, need: u64, advice: &str) -> Result {
    let shown = folder.display();
    let text = Line::new("df", "-P -B1").args([shown.to_string()]).text()?;
    match free(&text) {
        Some(free) if free < need => {
            let (free, need) = (free as f64 / GIB as f64, need / GIB);
            Err(Failure::Person(format!(
                "{shown} has {free:.1} GiB free, and {need} GiB are needed: {advice}"
            )))
        }
        Some(_) => Ok(()),
        None => Err(Failure::Failed(format!("df says of {shown} what was not understood: {text}"))),
    }
}

/// The bytes that `df -P -B1` calls available, in the second line's fourth column.
fn free(text: &str) -> Option<u64> {
    text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fourth_column_is_what_is_free() {
        let text = "Filesystem     1-blocks        Used  Available Capacity Mounted on\n\
                    /dev/vda   270000000000 60000000000 7000000000      90% /\n";
        assert_eq!(free(text), Some(7_000_000_000));
        assert_eq!(free("df: no such file"), None);
    }

    #[test]
    fn too_little_room_is_told_with_what_there_is_and_what_to_do() {
        let error = enough(Path::new("/"), u64::MAX, "free some").unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, Failure::Person(_)) && text.contains("GiB free") && text.contains("free some"),
            "{text}"
        );
        enough(Path::new("/"), 0, "").unwrap();
    }
}
