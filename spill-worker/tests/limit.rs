//! The limits that the system sets, from recorded trees of `/proc` and `/sys`; the one of the environment.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;

use spill_core::ErrorKind;
use spill_worker::{MEMORY_LIMIT_VARIABLE, MemoryLimit, Pressure, SystemMemory};
use tempfile::TempDir;

const GIB: u64 = 1 << 30;

/// `/proc/meminfo` of a machine with 16 GiB.
const MEMINFO: (&str, &str) = (
    "proc/meminfo",
    "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n",
);

const NO_LIMITS: (&str, &str) = (
    "proc/self/limits",
    "Limit                     Soft Limit           Hard Limit           Units     \n\
     Max data size             unlimited            unlimited            bytes     \n\
     Max resident set          unlimited            unlimited            bytes     \n",
);

/// Both kinds of hierarchies, as systemd mounts them side by side.
const MOUNTS: (&str, &str) = (
    "proc/self/mountinfo",
    "24 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n\
     31 24 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755\n\
     32 31 0:29 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n\
     33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:11 - cgroup cgroup rw,cpu,cpuacct\n\
     35 31 0:32 / /sys/fs/cgroup/memory rw,nosuid shared:12 - cgroup cgroup rw,memory\n",
);

const GROUPS: (&str, &str) =
    ("proc/self/cgroup", "5:memory:/job/task\n4:cpu,cpuacct:/elsewhere\n1:name=systemd:/x\n0::/slice/unit\n");

const V1: &str = "sys/fs/cgroup/memory";
const V2: &str = "sys/fs/cgroup/unified";

/// What a version 1 group reads where it is not limited.
const UNLIMITED: &str = "9223372036854771712\n";

fn tree(files: &[(&str, &str)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// The limit of a machine with 16 GiB and both hierarchies, and these files.
fn limited_by(files: &[(&str, &str)]) -> u64 {
    let root = tree(&[&[MEMINFO, NO_LIMITS, MOUNTS, GROUPS], files].concat());
    let system = SystemMemory::read_under(root.path()).unwrap();
    if let [(path, _)] = files
        && system.bytes() != 16 * GIB
    {
        assert_eq!(system.said_by(), root.path().join(path));
    }
    system.bytes()
}

/// W03: physical memory counts where nothing else limits.
#[test]
fn physical_memory_is_the_limit_of_a_machine_without_control_groups() {
    let root = tree(&[MEMINFO]);
    let system = SystemMemory::read_under(root.path()).unwrap();
    assert_eq!(system.bytes(), 16 * GIB);
    assert_eq!(system.said_by(), root.path().join("proc/meminfo"));
}

/// W03: hard and soft limits of a version 1 group, its own and of every group above it.
#[test]
fn limits_of_version_1_groups_count_up_to_the_root() {
    let file = |path: &str| format!("{V1}/{path}");
    for group in ["job/task/", "job/", ""] {
        for name in ["memory.limit_in_bytes", "memory.soft_limit_in_bytes"] {
            assert_eq!(
                limited_by(&[(&file(&format!("{group}{name}")), "4294967296\n")]),
                4 * GIB,
                "{group}{name}"
            );
        }
    }
    let not_ours = [file("other/memory.limit_in_bytes"), file("job/task/sub/memory.limit_in_bytes")];
    for path in &not_ours {
        assert_eq!(limited_by(&[(path, "4294967296\n")]), 16 * GIB, "{path}");
    }
    assert_eq!(limited_by(&[(&file("job/task/memory.limit_in_bytes"), UNLIMITED)]), 16 * GIB);
}

/// W03: `max`, `high` and `low` of a version 2 group, its own and of every group above it.
#[test]
fn limits_of_version_2_groups_count_up_to_the_root() {
    for group in ["slice/unit/", "slice/", ""] {
        for name in ["memory.max", "memory.high", "memory.low"] {
            let path = format!("{V2}/{group}{name}");
            assert_eq!(limited_by(&[(&path, "2147483648\n")]), 2 * GIB, "{path}");
        }
    }
    let path = format!("{V2}/slice/unit/memory.max");
    assert_eq!(limited_by(&[(&path, "max\n")]), 16 * GIB);
    let path = format!("{V2}/slice/unit/memory.low");
    assert_eq!(limited_by(&[(&path, "0\n")]), 16 * GIB, "an unset memory.low reads 0");
}

/// W03: the least of all limits counts.
#[test]
fn the_least_of_all_limits_counts() {
    let (outer, own, v2) = (
        format!("{V1}/job/memory.limit_in_bytes"),
        format!("{V1}/job/task/memory.limit_in_bytes"),
        format!("{V2}/slice/memory.high"),
    );
    assert_eq!(
        limited_by(&[(&outer, "3221225472\n"), (&own, "8589934592\n"), (&v2, "4294967296\n")]),
        3 * GIB
    );
}

/// W03: `RLIMIT_RSS` counts.
#[test]
fn a_limit_on_resident_memory_counts() {
    let limits = "Limit   Soft Limit   Hard Limit   Units\nMax resident set  1073741824  2147483648  bytes\n";
    let root = tree(&[MEMINFO, ("proc/self/limits", limits)]);
    assert_eq!(SystemMemory::read_under(root.path()).unwrap().bytes(), GIB);
}

/// W03: a container sees the outer path of its group, and its own group as the root of the mount.
#[test]
fn a_container_that_sees_the_outer_path_of_its_group_is_limited() {
    let mounts = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n";
    for group in ["5:memory:/docker/abc\n", "5:memory:/docker/abc/gone\n", "5:memory:/../../elsewhere\n"] {
        let root = tree(&[
            MEMINFO,
            ("proc/self/mountinfo", mounts),
            ("proc/self/cgroup", group),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n"),
        ]);
        assert_eq!(SystemMemory::read_under(root.path()).unwrap().bytes(), GIB, "{group}");
    }
}

#[test]
fn damaged_files_of_limits_are_passed_over_and_a_damaged_meminfo_is_an_error() {
    let path = format!("{V1}/job/task/memory.limit_in_bytes");
    assert_eq!(limited_by(&[(&path, "many\n")]), 16 * GIB);
    for meminfo in ["", "MemTotal: 12 MB\n", "MemTotal: x kB\n", "MemTotal: 18446744073709551615 kB\n"] {
        let root = tree(&[("proc/meminfo", meminfo)]);
        let error = SystemMemory::read_under(root.path()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
    }
    let error = SystemMemory::read_under(Path::new("/nowhere")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/proc/meminfo"), "{error}");
}

/// S02: `auto` inside a control group with less memory than the machine is a share of the group's.
#[test]
fn auto_is_a_share_of_what_the_control_group_leaves() {
    let path = format!("{V1}/job/memory.limit_in_bytes");
    let root = tree(&[MEMINFO, NO_LIMITS, MOUNTS, GROUPS, (&path, "8589934592\n")]);
    let system = SystemMemory::read_under(root.path()).unwrap();
    let auto = |own, total| MemoryLimit::parse("auto", &system, own, total).unwrap().bytes();
    assert_eq!([auto(1, 4), auto(2, 4), auto(4, 4)], [Some(2 * GIB), Some(4 * GIB), Some(8 * GIB)]);
}

/// Set in a process that this test starts to look at its own environment.
const CHILD: &str = "OVERSPILL_TEST_CHILD";

/// S01: the text of a flag, the environment and a number given in code make the same limit.
#[test]
fn text_environment_and_number_give_the_same_limit() {
    let system = SystemMemory::from_bytes(16 * GIB);
    if std::env::var_os(CHILD).is_some() {
        match MemoryLimit::from_env(&system, 1, 1) {
            Ok(limit) => println!("\nlimit {limit:?}"),
            Err(error) => println!("\nerror {error}"),
        }
        return;
    }
    let child = |value: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "text_environment_and_number_give_the_same_limit", "--nocapture"]);
        command.env(CHILD, "1").env_remove(MEMORY_LIMIT_VARIABLE);
        if let Some(value) = value {
            command.env(MEMORY_LIMIT_VARIABLE, value);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with("limit ") || line.starts_with("error "));
        line.unwrap().to_owned()
    };
    for (text, bytes) in [("4 GiB", 4 * GIB), ("0.5", 8 * GIB), ("auto", 16 * GIB), ("none", 0)] {
        let number = MemoryLimit::from_bytes(bytes, &system).unwrap();
        assert_eq!(MemoryLimit::parse(text, &system, 1, 1).unwrap(), number);
        assert_eq!(child(Some(text)), format!("limit {:?}", Some(number)));
    }
    assert_eq!(child(None), "limit None");
    let refused = child(Some("-4 GiB"));
    assert!(
        refused.starts_with("error OVERSPILL_MEMORY_LIMIT = \"-4 GiB\"") && refused.contains("did you mean")
    );
}

/// What a group of version 2 and one of version 1 count, and how long was waited for memory.
#[test]
fn kills_and_stalls_are_those_of_the_own_group() {
    let events = "low 0\nhigh 3\nmax 12\noom 2\noom_kill 2\noom_group_kill 0\n";
    let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n";
    let psi = "some avg10=12.50 avg60=1.00 avg300=0.10 total=4159517\nfull avg10=2.00 avg60=0.10 avg300=0.00 total=1\n";
    let (v2, v1) = (format!("{V2}/slice/unit/memory.events"), format!("{V1}/job/task/memory.oom_control"));
    let group = format!("{V2}/slice/unit/memory.pressure");
    let found = |files: &[(&str, &str)]| {
        let root = tree(&[&[MOUNTS, GROUPS], files].concat());
        let pressure = Pressure::find_under(root.path());
        (pressure.kills(), pressure.stalled())
    };
    assert_eq!(found(&[]), (None, None), "an old kernel tells nothing");
    assert_eq!(found(&[(&v2, events)]), (Some(2), None));
    assert_eq!(found(&[(&v1, control)]), (Some(5), None));
    assert_eq!(found(&[(&group, psi)]), (None, Some(0.125)));
    let machine = ("proc/pressure/memory", "some avg10=50.00 avg60=0.00 avg300=0.00 total=0\n");
    assert_eq!(found(&[machine]), (None, Some(0.5)), "the machine's where the group has none");
    assert_eq!(found(&[machine, (&group, psi)]), (None, Some(0.125)));
    for bad in ["", "some", "some avg10=x", "some avg10=-1.00", "full avg10=1.00"] {
        assert_eq!(found(&[("proc/pressure/memory", bad)]), (None, None), "{bad:?}");
    }
}
