//! Workspaces of living and dead processes.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use spill_core::{Clock, MutableMapping, SystemClock};
use spill_disk::io::{Fault, FaultyIo, Io, MemoryIo, Operation, RealIo, Rule};
use spill_disk::{Segments, SegmentsConfig, Workspace, WorkspaceConfig, purge};

use crate::common::value;

/// Set in a child: the directory in which it holds a workspace until it is killed.
const CHILD: &str = "SPILL_DISK_TEST_CHILD";

/// Runs only as the child of the next test.
#[test]
fn child_that_holds_a_workspace() {
    let Some(parent) = std::env::var_os(CHILD) else { return };
    let workspace = Workspace::open(Some(Path::new(&parent))).unwrap();
    println!("\nworkspace {}", workspace.path().display());
    let segments: Segments<u64> = Segments::open(SegmentsConfig::new(workspace)).unwrap();
    segments.insert(1, value(1, 300_000)).unwrap();
    println!("\nready");
    // Until the parent kills this process, or dies and so closes the pipe.
    let _ = std::io::stdin().read(&mut [0]);
}

fn child(parent: &Path) -> (Child, PathBuf) {
    started(Command::new(std::env::current_exe().unwrap()), parent)
}

fn started(mut command: Command, parent: &Path) -> (Child, PathBuf) {
    let mut child = command
        .args(["--exact", "workspace::child_that_holds_a_workspace", "--nocapture"])
        .env(CHILD, parent)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(child.stdout.as_mut().unwrap())
        .lines()
        .map(|line| line.unwrap())
        .take_while(|line| line != "ready")
        .collect();
    let path = lines.iter().find_map(|line| line.strip_prefix("workspace ")).unwrap();
    (child, path.into())
}

/// What a killed process left is removed, what a living one uses stays.
#[test]
fn the_workspace_of_a_killed_process_is_purged_and_a_living_one_stays() {
    let parent = tempfile::tempdir().unwrap();
    let (mut dead, left) = child(parent.path());
    let (mut alive, used) = child(parent.path());
    let ours = Workspace::open(Some(parent.path())).unwrap();
    dead.kill().unwrap();
    dead.wait().unwrap();
    assert!(left.join("segment-0.spill").exists());

    let purged = purge(&RealIo, parent.path()).unwrap();
    assert_eq!((purged.removed, purged.kept, purged.busy), (vec![left.clone()], 2, false));
    assert!(!left.exists() && used.join("segment-0.spill").exists() && ours.path().exists());

    // The next workspace does the same by itself.
    alive.kill().unwrap();
    alive.wait().unwrap();
    let _next = Workspace::open(Some(parent.path())).unwrap();
    assert!(!used.exists() && ours.path().exists());
}

/// W12: a workspace is locked for its lifetime, purging is done by one at a time, and who finds the purge lock
/// held goes on without purging.
#[test]
fn a_held_purge_lock_means_that_somebody_else_purges() {
    let parent = tempfile::tempdir().unwrap();
    let dead = Workspace::open(Some(parent.path())).unwrap().path().to_owned();
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("overspill.lock"), "").unwrap();
    let lock = parent.path().join(format!(".overspill-purge-{}", RealIo.user()));
    fs::write(&lock, "").unwrap();
    let purging = RealIo.try_lock(&lock).unwrap();
    assert!(purging.is_some());
    assert!(purge(&RealIo, parent.path()).unwrap().busy);
    let ours = Workspace::open(Some(parent.path())).unwrap();
    assert!(dead.exists());
    drop(purging);
    let other = Workspace::open(Some(parent.path())).unwrap();
    assert!(!dead.exists() && ours.path().exists());
    assert_ne!(ours.path(), other.path());
    assert!(!lock.exists(), "whoever purged takes its lock along");
}

/// Its maker died before the lock file was there.
#[test]
fn an_empty_directory_of_a_workspace_is_purged() {
    let parent = tempfile::tempdir().unwrap();
    for name in ["overspill-12-0", "overspill-results", "overspill-12-", "overspill-a-1", "overspill-1-2-3"] {
        fs::create_dir(parent.path().join(name)).unwrap();
    }
    let purged = purge(&RealIo, parent.path()).unwrap();
    assert_eq!(purged.removed, [parent.path().join("overspill-12-0")]);
    assert_eq!(purged.kept, 4);
}

/// Process numbers are used again, and two containers that share a volume have the same ones: a lock is no number.
#[test]
fn a_workspace_of_another_with_our_process_number_stays_or_goes_by_its_lock() {
    let parent = tempfile::tempdir().unwrap();
    let ours = Workspace::open(Some(parent.path())).unwrap();
    let name = ours.path().file_name().unwrap().to_str().unwrap();
    let count: u64 = name.rsplit_once('-').unwrap().1.parse().unwrap();
    // The next names that this process will try: one of the living, one of the dead.
    let make = |count: u64| {
        let path = parent.path().join(format!("overspill-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("overspill.lock"), "").unwrap();
        fs::write(path.join("segment-0.spill"), "data").unwrap();
        path
    };
    let mut living = Vec::new();
    let mut dead = Vec::new();
    for n in count + 1..count + 40 {
        if n % 2 == 0 { living.push(make(n)) } else { dead.push(make(n)) }
    }
    let locks: Vec<_> =
        living.iter().map(|path| RealIo.try_lock(&path.join("overspill.lock")).unwrap().unwrap()).collect();
    let next = Workspace::open(Some(parent.path())).unwrap();
    assert!(next.path().exists() && !living.contains(&next.path().to_owned()));
    assert!(living.iter().all(|path| path.join("segment-0.spill").exists()));
    assert!(dead.iter().all(|path| !path.exists() || path == next.path()));
    drop(locks);
}

/// Two containers with process numbers of their own and one volume: each child is process 1 of its namespace.
#[test]
fn containers_that_share_a_volume_leave_each_other_alone() {
    let parent = tempfile::tempdir().unwrap();
    let contained = || {
        let exe = std::env::current_exe().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--"]).arg(exe);
        started(command, parent.path())
    };
    let ((mut one, used), (mut other, left)) = (contained(), contained());
    assert_ne!(used, left);
    let numbered = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with("overspill-1-");
    assert!(numbered(&used) && numbered(&left), "{used:?} {left:?}: both are process 1");
    // The kernel kills what is in the namespace a moment after who made it, and closes its files then.
    let end = |container: &mut Child| {
        container.kill().unwrap();
        container.wait().unwrap();
        container.stdout.as_mut().unwrap().read_to_end(&mut Vec::new()).unwrap();
    };
    end(&mut other);
    let (clock, patience) = (SystemClock::new(), Duration::from_secs(60));
    // The pipe may be closed before the lock is.
    while left.exists() {
        assert!(clock.now() < patience, "{left:?} is not purged");
        purge(&RealIo, parent.path()).unwrap();
        std::thread::yield_now();
    }
    assert!(used.join("segment-0.spill").exists());
    end(&mut one);
}

/// W12: a base directory that cannot be written gives way to one of another name, then to the temporary directory.
#[test]
fn a_directory_that_cannot_be_written_falls_back() {
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("scratch");
    fs::write(&base, "no directory").unwrap();
    assert!(WorkspaceConfig::new(Some(&base)).open().is_err());
    let beside = home.path().join(format!("scratch-{}", RealIo.user()));
    let workspace = WorkspaceConfig::new(Some(&base)).fall_back(true).open().unwrap();
    assert_eq!(workspace.path().parent(), Some(&*beside));
    drop(workspace);
    fs::remove_dir(&beside).unwrap();
    fs::write(&beside, "no directory either").unwrap();
    let workspace = WorkspaceConfig::new(Some(&base)).fall_back(true).open().unwrap();
    assert!(!workspace.path().starts_with(home.path()) && workspace.path().exists());
}

/// W12: with locking off nothing is purged, and nobody purges what has no lock.
#[test]
fn without_locking_nobody_purges() {
    let parent = tempfile::tempdir().unwrap();
    let dead = Workspace::open(Some(parent.path())).unwrap().path().to_owned();
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("overspill.lock"), "").unwrap();
    let ours = WorkspaceConfig::new(Some(parent.path())).locked(false).open().unwrap();
    assert!(dead.exists(), "it purges nobody");
    assert!(!ours.path().join("overspill.lock").exists());
    assert_eq!(purge(&RealIo, parent.path()).unwrap().removed, [dead]);
    assert!(ours.path().exists(), "and is purged by nobody");
    let path = ours.path().to_owned();
    drop(ours);
    assert!(!path.exists());
}

/// A parent that is gone is an error, and no name to pass by; and what is made again is made as it was.
#[test]
fn without_locking_a_directory_that_is_gone_is_an_error_and_one_that_is_made_again_has_no_lock() {
    let memory = Arc::new(MemoryIo::new());
    let io = Arc::new(FaultyIo::new(memory.clone()));
    let open = || WorkspaceConfig::new(Some(Path::new("/work"))).io(io.clone()).locked(false).open();
    io.inject(Rule::from(2, Fault::Fail(std::io::ErrorKind::NotFound)).on(Operation::CreateDir));
    assert!(open().err().unwrap().to_string().contains("/work/overspill-"));
    io.heal();

    let workspace = open().unwrap();
    let path = workspace.path().to_owned();
    let segments: Segments<u64> = Segments::open(SegmentsConfig::new(workspace).stage_bytes(0)).unwrap();
    memory.remove_dir_all(&path).unwrap();
    // where locks cannot be had
    io.inject(Rule::from(1, Fault::Errno(95)).on(Operation::Lock));
    segments.insert(1, value(1, 1000)).unwrap();
    assert!(memory.open(&path.join("overspill.lock")).is_err());
    segments.close().unwrap();
    assert!(memory.list(Path::new("/work")).unwrap().is_empty());
}

/// On a file system without locks nothing is purged, and nothing is left behind by trying.
#[test]
fn a_purge_without_locks_leaves_no_file() {
    let memory = Arc::new(MemoryIo::new());
    memory.create_dir(Path::new("/work")).unwrap();
    let io = FaultyIo::new(memory.clone());
    // it is looked for before it is made
    io.inject(Rule::from(2, Fault::Errno(95)).on(Operation::Lock));
    assert!(purge(&io, Path::new("/work")).unwrap().busy);
    assert!(memory.list(Path::new("/work")).unwrap().is_empty());
}

#[test]
fn only_what_is_surely_a_workspace_is_purged() {
    let parent = tempfile::tempdir().unwrap();
    let make = |name: &str, lock: bool| {
        let path = parent.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("data"), "precious").unwrap();
        if lock {
            fs::write(path.join("overspill.lock"), "").unwrap();
        }
        path
    };
    let other_name = make("results", true);
    let no_lock_file = make("overspill-results", false);
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("overspill.lock"), "").unwrap();
    let link = parent.path().join("overspill-link");
    symlink(target.path(), &link).unwrap();
    let file = parent.path().join("overspill-file");
    fs::write(&file, "precious").unwrap();
    let dead = make("overspill-1-1", true);
    symlink(target.path(), dead.join("link")).unwrap();
    fs::create_dir(dead.join("inside")).unwrap();

    assert_eq!(purge(&RealIo, parent.path()).unwrap().removed, std::slice::from_ref(&dead));
    assert!(!dead.exists());
    for kept in [other_name, no_lock_file, link, file, target.path().join("overspill.lock")] {
        assert!(kept.exists(), "{}", kept.display());
    }
}

#[test]
fn a_workspace_is_private_and_its_parent_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let parent = directory.path().join("not/yet/there");
    let workspace = Workspace::open(Some(&parent)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(workspace.path()), 0o700);
    assert_eq!(mode(&workspace.path().join("overspill.lock")), 0o600);
    let name = workspace.path().file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with("overspill-"), "{name}");
    workspace.remove().unwrap();
    workspace.remove().unwrap();
    assert!(!workspace.path().exists() && parent.exists());
}

#[test]
fn a_parent_that_is_a_file_is_a_typed_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for parent in [file.clone(), file.join("below")] {
        let error = Workspace::open(Some(&parent)).err().unwrap();
        assert!(error.to_string().contains(&*file.to_string_lossy()), "{error}");
    }
}
