//! Workers in a real control group. Needs the right to make one: root, and a writable memory controller.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{MIB, Running, World, hungry, in_order, number, polite};

const LIMIT: u64 = 400 * MIB;

/// A control group that may use 400 MiB. Removed when dropped.
struct Group {
    directory: PathBuf,
    /// The file that counts kills.
    kills: &'static str,
}

impl Group {
    fn make(name: &str) -> Self {
        let hierarchies = [
            ("/sys/fs/cgroup/memory", "cgroup.procs", "memory.limit_in_bytes", "memory.oom_control"),
            ("/sys/fs/cgroup", "cgroup.controllers", "memory.max", "memory.events"),
        ];
        let mut refused = Vec::new();
        for (root, sign, limit, kills) in hierarchies {
            let root = Path::new(root);
            if !root.join(sign).exists() {
                refused.push(format!("{}: not a control group", root.display()));
                continue;
            }
            let group =
                Group { directory: root.join(format!("overspill-{name}-{}", std::process::id())), kills };
            let made = fs::create_dir(&group.directory)
                .and_then(|()| fs::write(group.directory.join(limit), LIMIT.to_string()));
            match made {
                Ok(()) => return group,
                Err(error) => refused.push(format!("{}: {error}", root.display())),
            }
        }
        panic!("this test needs a memory control group, and none can be made here: {refused:?}");
    }

    /// The command, run within the group.
    fn within(&self, command: Command) -> Command {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.directory.join("cgroup.procs"));
        shell.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        shell.stdin(Stdio::null());
        shell
    }

    fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.directory.join(self.kills)).unwrap();
        let line = text.lines().find(|line| line.starts_with("oom_kill ")).unwrap();
        number(line, "oom_kill")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was not made cannot be removed, and nothing can be done about a group that stays.
        let _ = fs::remove_dir(&self.directory);
    }
}

/// S16, S02: in a control group whose limit is the worker's (`auto`), a worker that leaks beside a mapping that
/// spills is ended by its nanny, over and over, and the group counts no kill. It would: without `terminate` it does.
#[test]
fn exclusive_a_leak_in_a_control_group_at_its_limit_meets_the_nanny_first() {
    let world = World::new();
    {
        let group = Group::make("nanny");
        let mut nanny = world.nanny(&["--memory-limit", "auto", "--"]);
        // In the end so slowly that there is a second from `terminate` to the group's limit.
        nanny.arg(hungry()).args(["insert=300MiB", "allocate=320MiB@100MiB", "allocate=2GiB@20MiB"]);
        let mut running = Running::start(group.within(nanny));
        assert_eq!(number(&running.hear(", 0 values"), "limit"), LIMIT);
        running.hear("restarting: for the 2. time");
        running.signal("TERM");
        let (_, story) = running.end();
        let story = polite(&story);
        in_order(&story, &["spilled", "paused", "terminating", "restarting", "terminating", "restarting"]);
        assert_eq!(group.kills(), 0, "{story}");
    }
    let group = Group::make("watchdog");
    let mut nanny =
        world.nanny(&["--memory-limit", "auto", "--once", "--set", "worker.memory.terminate=false"]);
    nanny.arg("--").arg(hungry()).args(["insert=300MiB", "allocate=2GiB@100MiB"]);
    let (status, story) = Running::start(group.within(nanny)).end();
    assert_eq!(status.code(), Some(128 + 9), "{story}");
    assert!(group.kills() > 0, "{story}");
    in_order(&story, &["ended by signal 9: the system killed it, being out of memory"]);
}
