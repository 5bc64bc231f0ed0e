//! What `overspill nanny` promises.

use std::fs;
use std::path::Path;

use spill_disk::io::{Io, RealIo};

use crate::support::{
    MIB, OVERSPILL, Running, World, in_order, lives, number, only, resident, speaker, until,
};

fn shell(world: &World, nanny: &[&str], script: &str) -> Running {
    let mut command = world.nanny(nanny);
    command.args(["--", "/bin/sh", "-c", script]);
    Running::start(command)
}

fn hungry(world: &World, nanny: &[&str], script: &[&str]) -> Running {
    let mut command = world.nanny(nanny);
    command.arg("--").arg(crate::support::hungry()).args(script);
    Running::start(command)
}

#[test]
fn once_ends_with_the_exit_code_of_the_worker() {
    let world = World::new();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -s KILL $$", 137), ("kill -s TERM $$", 143)] {
        let (status, story) = shell(&world, &["--once"], script).end();
        assert_eq!(status.code(), Some(code), "{script}: {story}");
        assert!(!story.contains("restarting"), "{story}");
    }
    assert!(world.left().is_empty());
}

/// What cannot be logged is lost, and nothing else: the worker runs to its end, and so does the nanny.
#[test]
fn a_log_that_cannot_be_written_ends_nobody() {
    let world = World::new();
    let mut command = world.command("/bin/sh");
    command.args(["-c", "exec \"$@\" 2>/dev/full", "sh", OVERSPILL, "nanny", "--local-directory"]);
    command.arg(world.spill()).args(["--once", "--", "/bin/sh", "-c", "sleep 0.3; echo done; exit 7"]);
    let (status, story) = Running::start(command).end();
    assert_eq!((status.code(), &*story), (Some(7), "done"));
    assert!(world.left().is_empty());
}

#[test]
fn a_program_that_cannot_be_started_is_told() {
    let world = World::new();
    let mut command = world.nanny(&["--once", "--", "/no/such/program"]);
    command.env("NO_COLOR", "1");
    let (status, story) = Running::start(command).end();
    assert_eq!(status.code(), Some(1), "{story}");
    assert!(story.contains("could not be started") && story.contains("/no/such/program"), "{story}");
}

/// S29: the worker's own environment has the trim threshold before it starts, from `nanny.environ` or `--env` if
/// one of those sets it, its share of the limit, and what `--env` adds.
#[test]
fn the_environment_of_the_worker_is_read_back() {
    let world = World::new();
    let print = "tr '\\0' '\\n' < /proc/$$/environ";
    let (_, plain) = shell(&world, &["--once", "--memory-limit", "77MiB"], print).end();
    for line in ["MALLOC_TRIM_THRESHOLD_=65536", "OVERSPILL_MEMORY_LIMIT=80740352"] {
        assert!(plain.lines().any(|found| found == line), "{line}: {plain}");
    }
    let own = plain.lines().find_map(|line| line.strip_prefix("OVERSPILL_LOCAL_DIRECTORY=")).unwrap();
    assert!(own.starts_with(world.spill().to_str().unwrap()), "{own}");

    let settings = world.path(".config/overspill/overspill.yaml");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    let text = "overspill:\n  nanny:\n    environ:\n      MALLOC_TRIM_THRESHOLD_: 131072\n";
    fs::write(settings, text).unwrap();
    let (_, by_file) = shell(&world, &["--once"], print).end();
    assert!(by_file.lines().any(|line| line == "MALLOC_TRIM_THRESHOLD_=131072"), "{by_file}");
    let flags = ["--once", "--env", "MALLOC_TRIM_THRESHOLD_=0", "--env", "WHO=me and you=us"];
    let (_, by_flag) = shell(&world, &flags, print).end();
    for line in ["MALLOC_TRIM_THRESHOLD_=0", "WHO=me and you=us"] {
        assert!(by_flag.lines().any(|found| found == line), "{line}: {by_flag}");
    }
}

/// S06: a temporary directory in main memory gives way to one on a disk, for a worker of a nanny too.
#[test]
fn a_worker_spills_to_a_disk_where_the_temporary_directory_lives_in_memory() {
    let in_memory = |place: &str| RealIo.space(Path::new(place)).is_ok_and(|space| space.in_memory);
    // On a machine without either there is nothing to give way.
    let gives_way = in_memory("/dev/shm") && !in_memory("/var/tmp");
    let world = World::new();
    let mut command = world.command(OVERSPILL);
    command.env("TMPDIR", if gives_way { "/dev/shm" } else { "/var/tmp" });
    command.args(["nanny", "--once", "--", "/bin/sh", "-c"]);
    command.arg("echo \"at $OVERSPILL_LOCAL_DIRECTORY\"");
    let (status, story) = Running::start(command).end();
    assert!(status.success(), "{story}");
    let own = story.lines().find_map(|line| line.strip_prefix("at ")).unwrap();
    assert!(own.starts_with("/var/tmp/overspill-"), "{own}");
    assert!(!Path::new(own).exists(), "gone with the worker");
}

/// S02: whoever sets no limit gets `auto`, each worker its share by threads; a file or variable wins over that.
#[test]
fn without_a_limit_each_worker_has_its_share_of_the_memory() {
    let world = World::new();
    let total = overspill::worker::SystemMemory::read().unwrap().bytes();
    let threads = std::thread::available_parallelism().unwrap().get() as u64;
    let print = "echo limit $OVERSPILL_MEMORY_LIMIT";
    let (_, story) = shell(&world, &["--once", "--workers", "2", "--nthreads", "1"], print).end();
    let share = format!("limit {}", total / threads);
    assert_eq!(story.lines().filter(|line| **line == share).count(), 2, "{share}: {story}");

    let mut command = world.nanny(&["--once", "--", "/bin/sh", "-c", print]);
    command.env("OVERSPILL_MEMORY_LIMIT", "none");
    let (_, story) = Running::start(command).end();
    assert!(story.lines().any(|line| line == "limit none"), "{story}");
}

#[test]
fn signals_are_forwarded_and_the_one_that_ends_is_the_last() {
    let world = World::new();
    let script = "trap 'echo got USR1' USR1; trap 'echo got HUP' HUP; trap 'echo got TERM; exit 5' TERM; \
                  echo ready; while :; do sleep 0.05; done";
    let mut running = shell(&world, &[], script);
    running.hear("ready");
    for name in ["USR1", "HUP", "TERM"] {
        running.signal(name);
        running.hear(&format!("got {name}"));
    }
    let (status, story) = running.end();
    assert_eq!(status.code(), Some(5), "{story}");
    assert!(!story.contains("restarting"), "it was asked to end: {story}");
}

#[test]
fn deaths_are_told_to_the_hook_and_answered_after_longer_and_longer_waits() {
    let world = World::new();
    let file = world.path("deaths");
    let hook = format!(
        "echo \"$OVERSPILL_WORKER_NAME $OVERSPILL_DEATH_CAUSE code $OVERSPILL_DEATH_CODE signal \
         $OVERSPILL_DEATH_SIGNAL restarts $OVERSPILL_DEATH_RESTARTS\" >> {}",
        file.display()
    );
    let mut running = shell(&world, &["--hook", &hook], "exit 3");
    for wait in ["100ms", "200ms", "400ms"] {
        running.hear(&format!("after {wait}"));
    }
    running.signal("TERM");
    let (status, story) = running.end();
    assert!(status.code().is_some_and(|code| code != 0), "{story}");
    let deaths = fs::read_to_string(&file).unwrap();
    assert!(deaths.lines().count() >= 3, "{deaths}");
    assert_eq!(deaths.lines().next(), Some("worker ended code 3 signal  restarts true"));

    fs::remove_file(&file).unwrap();
    shell(&world, &["--once", "--hook", &hook], "kill -s KILL $$").end();
    assert_eq!(fs::read_to_string(&file).unwrap(), "worker ended code  signal 9 restarts false\n");
}

/// W09: memory is that of the whole tree: neither of two processes is above the limit by itself. Both end.
#[test]
fn the_whole_tree_counts_and_ends() {
    let world = World::new();
    // Both together are above `terminate` seconds before one has all it wants.
    let script = ["fork=150MiB@10MiB", "fork=150MiB@10MiB", "hold=100"];
    let mut running = hungry(&world, &["--once", "--memory-limit", "200MiB"], &script);
    let children = [(); 2].map(|()| number(&running.hear("started child"), "child") as u32);
    let (_, story) = running.end();
    assert!(["terminating: process", "killed: process"].iter().any(|how| story.contains(how)), "{story}");
    assert!(!story.contains("allocated"), "neither child got all it wanted: {story}");
    for child in children {
        until("a child ends", || !lives(child));
    }
    assert!(world.left().is_empty());
}

/// S17: the nanny itself may be killed: no process, directory or shared memory stays.
#[test]
fn killing_the_nanny_leaves_nothing_behind() {
    let world = World::new();
    let script = ["fork=10MiB", "insert=50MiB", "--stay"];
    let mut running = hungry(&world, &["--memory-limit", "60MiB"], &script);
    let worker = speaker(&running.hear(", 0 values"));
    let child = number(&running.hear("started child"), "child") as u32;
    running.hear("inserted");
    assert_eq!(world.left().len(), 1, "values are on disk");
    let shared = || shared_memory_of(&[worker, child]);
    running.signal("KILL");
    for pid in [worker, child] {
        until("all processes end", || !lives(pid));
    }
    until("the directory goes", || world.left().is_empty());
    assert_eq!(shared(), Vec::<String>::new());
    running.end();
}

/// The names in `/dev/shm` that are ours or carry one of these numbers, not as a part of another.
fn shared_memory_of(pids: &[u32]) -> Vec<String> {
    let names = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let is_theirs = |number: &str| number.parse::<u32>().is_ok_and(|number| pids.contains(&number));
    let of_them = |name: &String| {
        name.contains("overspill") || name.split(|c: char| !c.is_ascii_digit()).any(is_theirs)
    };
    names.filter(of_them).collect()
}

/// The process between nanny and worker may be killed: the worker ends with it, and another takes its place.
#[test]
fn killing_the_guard_ends_the_worker_which_is_started_again() {
    let world = World::new();
    let mut running = hungry(&world, &[], &["--stay"]);
    let first = speaker(&running.hear(", 0 values"));
    let stat = fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
    let guard = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    crate::support::signal(guard, "KILL");
    let second = speaker(&running.hear(", 0 values"));
    assert_ne!(first, second);
    until("the first ends", || !lives(first));
    running.signal("TERM");
    let (status, story) = running.end();
    assert!(status.success(), "{story}");
    let unseen = format!("worker: ended: process {first} ended unseen: its guard ended");
    in_order(&story, &["worker: started", &unseen, "worker: restarting", "worker: started"]);
}

/// Asked to end, a worker hands over its values, ends well, and is not started again.
#[test]
fn a_worker_that_retires_hands_over_its_values_and_is_not_started_again() {
    let world = World::new();
    let mut running = hungry(&world, &["--memory-limit", "60MiB"], &["insert=50MiB", "--stay"]);
    let pid = speaker(&running.hear("inserted"));
    let trimmed = world.command(OVERSPILL).args(["trim", &pid.to_string()]).output().unwrap();
    assert!(trimmed.status.success(), "{trimmed:?}");
    running.hear("worker: trimmed: as asked"); // the nanny listens to it
    running.signal("TERM");
    let (status, story) = running.end();
    assert!(status.success() && !story.contains("restarting"), "{story}");
    in_order(&only(&story, "hungry "), &["handed over 50 values", "done"]);
    in_order(
        &only(&story, "worker: "),
        &["worker: retiring: no task starts", "worker: ended: no task runs", "ended with exit code 0"],
    );
    assert!(world.left().is_empty());
}

/// A nanny that was stopped for so long that its worker cut it off connects again, and logs each event once.
#[test]
fn a_nanny_that_was_cut_off_hears_its_worker_again() {
    const TRIMMED: &str = "worker: trimmed: as asked";
    let world = World::new();
    let mut running = hungry(&world, &[], &["--stay"]);
    let pid = speaker(&running.hear(", 0 values"));
    let trim = || {
        overspill::worker::control::Client::connect(pid).and_then(|mut worker| worker.trim()).unwrap();
    };
    trim();
    running.hear(TRIMMED); // the nanny listens to it
    running.signal("STOP");
    // Fewer than are kept. What the nanny does not read fills up its connection.
    (0..60).for_each(|_| trim());
    until("the nanny is cut off", || control_threads(pid) == 1);
    running.signal("CONT");
    (0..60).for_each(|_| _ = running.hear(TRIMMED));
    trim();
    running.hear(TRIMMED);
    running.signal("TERM");
    let (status, story) = running.end();
    assert!(status.success(), "{story}");
    assert_eq!(only(&story, TRIMMED).lines().count(), 62, "{story}");
}

/// Threads of a worker's control socket: one that listens, and one for each connection.
fn control_threads(pid: u32) -> usize {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let names = threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.trim() == "overspill-contr").count() // the kernel keeps fifteen letters
}

/// A second signal does not wait for tasks or values.
#[test]
fn a_second_signal_ends_at_once() {
    let world = World::new();
    let mut running = hungry(&world, &[], &["--stubborn", "insert=1MiB", "hold=1000"]);
    let pid = speaker(&running.hear("inserted"));
    running.signal("TERM");
    running.hear("retiring");
    assert!(lives(pid), "it holds on");
    running.signal("TERM");
    let (status, story) = running.end();
    assert_eq!(status.code(), Some(128 + 9), "{story}");

    let mut alone = Running::start(world.hungry(&["--stubborn", "insert=1MiB", "hold=1000"]));
    alone.hear("inserted");
    alone.signal("TERM");
    until("it retires", || {
        let shown =
            overspill::worker::control::Client::connect(alone.pid()).and_then(|mut worker| worker.state());
        shown.is_ok_and(|state| state.status == overspill::worker::Status::Retiring)
    });
    alone.signal("TERM");
    let (status, story) = alone.end();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15), "{story}");
    assert!(!story.contains("handed over"), "{story}");
}

/// S28: the command hands at least 80% of the free memory in a fragmented heap back, and says so.
#[test]
fn a_command_trims_a_running_worker() {
    let world = World::new();
    let mut worker = Running::start(world.hungry(&["fragment=128MiB", "--stay"]));
    worker.hear("fragmented");
    let before = resident(worker.pid());
    assert!(before > 128 * MIB, "plain freeing kept it: {before}");
    let output = world.command(OVERSPILL).args(["trim", &worker.pid().to_string()]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("glibc: ") && said.contains("memory was handed back"), "{said}");
    let handed_back = before - resident(worker.pid());
    assert!(handed_back > 112 * MIB / 100 * 80, "{handed_back}");
    worker.signal("TERM");
    assert!(worker.end().0.success());

    let gone = world.command(OVERSPILL).args(["trim", "1"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("connect to"), "{gone:?}");
}
