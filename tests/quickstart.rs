//! The example `quickstart`, from end to end.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::process::Command;

use tempfile::TempDir;

mod built;

#[test]
fn it_runs_and_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let program = built::example("quickstart", &["--features", "disk,compress"]);
    let output = Command::new(program).env("TMPDIR", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.starts_with("4000 values\n"), "{said}");
    let in_ram: u64 =
        said.lines().nth(1).and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap();
    assert!((1..=64).contains(&in_ram), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}
