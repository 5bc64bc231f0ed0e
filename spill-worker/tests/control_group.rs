//! A process in a real control group. Needs the right to make one: root, and a writable memory controller.
#![cfg(target_os = "linux")]
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use spill_worker::{MemoryLimit, SystemMemory};

const LIMIT: u64 = 512 << 20;

/// Set in the process that this test starts inside the group.
const CHILD: &str = "OVERSPILL_TEST_CHILD";

/// Two control groups, one in the other; removed when dropped.
struct Groups {
    outer: PathBuf,
    inner: PathBuf,
}

impl Groups {
    /// Makes them where the memory controller is; the limit is the outer one's.
    fn make() -> Self {
        let hierarchies = [
            ("/sys/fs/cgroup/memory", "cgroup.procs", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "cgroup.controllers", "memory.max"),
        ];
        let mut refused = Vec::new();
        for (root, sign, limit) in hierarchies {
            let root = Path::new(root);
            if !root.join(sign).exists() {
                refused.push(format!("{}: not a control group", root.display()));
                continue;
            }
            let outer = root.join(format!("overspill-test-{}", std::process::id()));
            let inner = outer.join("inner");
            let groups = Groups { outer, inner };
            let made = fs::create_dir_all(&groups.inner)
                .and_then(|()| fs::write(groups.outer.join(limit), LIMIT.to_string()));
            match made {
                Ok(()) => return groups,
                Err(error) => refused.push(format!("{}: {error}", root.display())),
            }
        }
        panic!("this test needs a memory control group, and none can be made here: {refused:?}");
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // What was not made cannot be removed, and nothing can be done about a group that stays.
        let _ = fs::remove_dir(&self.inner);
        let _ = fs::remove_dir(&self.outer);
    }
}

/// S02, W03: inside a control group with less memory than the machine, `auto` is a share of the group's, also
/// when the limit is that of a group above.
#[test]
fn auto_in_a_real_control_group_is_a_share_of_its_limit() {
    if std::env::var_os(CHILD).is_some() {
        let system = SystemMemory::read().unwrap();
        let auto = |own| MemoryLimit::parse("auto", &system, own, 4).unwrap().bytes().unwrap();
        println!("\nauto {} {} {} by {}", auto(1), auto(2), auto(4), system.said_by().display());
        return;
    }
    let outside = SystemMemory::read().unwrap();
    assert!(outside.bytes() > LIMIT, "the machine must have more memory than the group");
    let groups = Groups::make();
    let output = Command::new("/bin/sh")
        .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
        .arg(groups.inner.join("cgroup.procs"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "auto_in_a_real_control_group_is_a_share_of_its_limit", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.lines().find_map(|line| line.strip_prefix("auto "));
    let (limit, half, quarter) = (LIMIT, LIMIT / 2, LIMIT / 4);
    let expected = format!("{quarter} {half} {limit} by {}/", groups.outer.display());
    assert!(
        found.is_some_and(|found| found.starts_with(&expected)),
        "expected {expected}, found {found:?}; {}",
        String::from_utf8_lossy(&output.stderr),
    );
}
