//! Real file systems that are too small, mounted by the test where nobody else sees them.
//!
//! Each test runs itself again in a mount namespace of its own (`unshare --mount`), mounts there, and the mount goes
//! with the process. That needs the right to mount (root, or a container that has it): without it these tests fail and
//! say so, since nothing else shows what a real device does when it is full.

use std::path::{Path, PathBuf};
use std::process::Command;

use spill_core::{ErrorKind, MutableMapping};
use spill_disk::io::{Io, RealIo};
use spill_disk::{Segments, SegmentsConfig, Workspace, WorkspaceConfig};

use crate::common::{assert_same, value};
use crate::full::{evict_over_a_full_device, fill};

/// Set in the child: the kind of file system.
const KIND: &str = "SPILL_DISK_TEST_SMALL_DEVICE";

const LEN: usize = 4000;
const SEGMENT: u64 = 1 << 20;

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    assert!(output.is_ok(), "{program} could not be run: {output:?}");
    let output = output.unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Mounts a file system of about 24 MiB.
fn mounted(kind: &str, home: &Path) -> PathBuf {
    let (image, point) = (home.join("image"), home.join("mounted"));
    std::fs::create_dir(&point).unwrap();
    let at = point.to_str().unwrap();
    if kind == "ext4" {
        std::fs::File::create(&image).unwrap().set_len(24 << 20).unwrap();
        let image = image.to_str().unwrap();
        run("mkfs.ext4", &["-q", "-m", "0", image]);
        run("mount", &["-o", "loop", image, at]);
    } else if kind == "ramfs" {
        run("mount", &["-t", "ramfs", "none", at]);
    } else {
        run("mount", &["-t", "tmpfs", "-o", "size=24m", "none", at]);
    }
    point
}

/// Runs `test` of this file again, as a child that may mount.
fn in_a_namespace_of_its_own(kind: &str, test: &str) {
    let exe = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(exe)
        .args(["--exact", &format!("small_device::{test}"), "--nocapture"])
        .env(KIND, kind)
        .output();
    assert!(output.is_ok(), "`unshare` of util-linux is needed: {output:?}");
    let output = output.unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && said.contains("1 passed"),
        "a full {kind} could not be tried. If mounting is not allowed here, run the tests where it is: as root, in a \
         container with CAP_SYS_ADMIN.\n{said}"
    );
}

fn with_each_kind(test: &str, in_memory: &[&str], child: impl FnOnce(&Path)) {
    if let Ok(kind) = std::env::var(KIND) {
        let home = tempfile::tempdir().unwrap();
        let point = mounted(&kind, home.path());
        child(&point);
        run("umount", &[point.to_str().unwrap()]);
        return;
    }
    for kind in in_memory {
        in_a_namespace_of_its_own(kind, test);
    }
    if Path::new("/dev/loop-control").exists() {
        in_a_namespace_of_its_own("ext4", test);
    } else {
        eprintln!("there are no loop devices here: {test} was not tried on ext4");
    }
}

fn store(point: &Path) -> Segments<u64> {
    let workspace = Workspace::open(Some(point)).unwrap();
    Segments::open(SegmentsConfig::new(workspace).segment_bytes(SEGMENT).stage_bytes(64 << 10)).unwrap()
}

fn on_the_device(point: &Path) -> u64 {
    let directory = std::fs::read_dir(point).unwrap().map(|entry| entry.unwrap().path());
    let ours = directory.filter(|path| path.is_dir() && !path.ends_with("lost+found"));
    let files = ours.flat_map(|path| std::fs::read_dir(path).unwrap()).map(|entry| entry.unwrap());
    files.map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn a_full_device_is_typed_loses_nothing_and_is_compacted() {
    with_each_kind("a_full_device_is_typed_loses_nothing_and_is_compacted", &["tmpfs"], |point| {
        let segments = store(point);
        let (accepted, error) = fill(&segments, 0);
        let ErrorKind::Full { path, used, limit, free, setting } = error.kind() else { panic!("{error}") };
        assert!(path.as_ref().is_some_and(|path| path.starts_with(point)), "{error}");
        assert_eq!(*limit, used + free.unwrap());
        assert!(*used > 20 << 20 && *setting == "the device's size or quota", "{error}");
        assert!(free.unwrap() < 256 << 10, "{error}");
        assert_eq!(on_the_device(point), segments.usage().physical, "partial bytes are freed");
        let fits = |key: &u64| assert_same(&segments.get(key).unwrap().unwrap(), &value(*key, LEN));
        (0..accepted).for_each(|key| fits(&key));
        // Somebody else takes what is left.
        let mut len = 1 << 20;
        let other = point.join("other");
        while len >= 1 {
            let all = std::fs::read(&other).map_or(0, |bytes| bytes.len());
            if std::fs::write(&other, vec![1; all + len]).is_err() {
                std::fs::write(&other, vec![1; all]).unwrap();
                len /= 2;
            }
        }
        let failures = segments.stats().failures;
        (0..accepted).filter(|key| key % 3 > 0).for_each(|key| assert!(segments.remove(&key).unwrap()));
        segments.settle().unwrap();
        let usage = segments.usage();
        assert!(usage.physical <= usage.spilled.disk * 3 / 2 + 2 * SEGMENT, "{usage:?} {failures}");
        (0..accepted).step_by(3).for_each(|key| fits(&key));
        // It goes on by itself.
        let (more, _) = fill(&segments, 100_000);
        assert!(more > accepted / 3, "{more} of {accepted}");
        (0..accepted).step_by(3).chain(100_000..100_000 + more).for_each(|key| fits(&key));
        segments.close().unwrap();
        assert_eq!(on_the_device(point), 0, "nothing is left");
    });
}

#[test]
fn eviction_over_a_device_that_is_full_keeps_the_pair_and_resumes() {
    with_each_kind("eviction_over_a_device_that_is_full_keeps_the_pair_and_resumes", &["tmpfs"], |point| {
        let other = point.join("other");
        std::fs::write(&other, vec![1; 12 << 20]).unwrap();
        evict_over_a_full_device(store(point), || std::fs::remove_file(&other).unwrap());
    });
}

#[test]
fn main_memory_is_recognised_by_what_is_mounted() {
    with_each_kind("main_memory_is_recognised_by_what_is_mounted", &["tmpfs", "ramfs"], |point| {
        let in_memory = std::env::var(KIND).unwrap() != "ext4";
        assert_eq!(RealIo.space(point).unwrap().in_memory, in_memory);
        let strict = WorkspaceConfig::new(Some(point)).on_disk_only(true).open();
        let refused = strict.err().map(|error| match error.kind() {
            ErrorKind::Config { key, expected, .. } => (key.to_string(), expected.contains("tmpfs or ramfs")),
            _ => panic!("{error}"),
        });
        assert_eq!(refused, in_memory.then(|| ("directory".to_owned(), true)));
        assert!(Workspace::open(Some(point)).is_ok(), "with a warning");
    });
}
