//! The example `hungry`: what a worker does about its memory, on a real process.

use crate::support::{MIB, Running, World, in_order, lives, number, only, polite, resident, speaker, until};

/// S01: flag, environment and the nanny's share give the same limit, and each worker of a nanny has its own.
#[test]
fn flag_environment_and_nanny_give_the_same_limit() {
    let world = World::new();
    let limit = |running: Running| number(&running.end().1, "limit");
    let mut by_variable = world.hungry(&[]);
    by_variable.env("OVERSPILL_MEMORY_LIMIT", "150MiB");
    for command in [world.hungry(&["--memory-limit", "150MiB"]), by_variable] {
        assert_eq!(limit(Running::start(command)), 150 * MIB);
    }
    let hungry = crate::support::hungry().to_str().unwrap();
    let nanny = world.nanny(&["--workers", "2", "--memory-limit", "150MiB", "--once", "--", hungry]);
    let (status, story) = Running::start(nanny).end();
    assert!(status.success(), "{story}");
    for name in ["worker-0", "worker-1"] {
        let line = story.lines().find(|line| line.contains("limit") && line.ends_with(name)).unwrap();
        assert_eq!(number(line, "limit"), 150 * MIB, "{story}");
    }
}

/// S05, S07: values of three times the limit are held by spilling alone, and all of them come back.
#[test]
fn spilling_alone_holds_the_limit() {
    let world = World::new();
    let script = ["--memory-limit", "200MiB", "insert=600MiB", "verify", "report"];
    let (status, story) = Running::start(world.hungry(&script)).end();
    assert!(status.success() && story.contains("verified 600 values"), "{story}");
    assert!(number(&story, "peak") < 200 * MIB, "{story}");
    assert!(!story.contains("paused"), "{story}");
    assert_eq!(world.left(), <[std::path::PathBuf; 0]>::default());
}

/// What memory beside the mapping leads to, at a limit of 500 MiB: 60% are 300, 70% are 350, 80% are 400 and 95% are
/// 475. With some 12 MiB for the program itself, be it none or twice that, each step ends above the threshold that it
/// is about and below the next, however fast or slow evictions are.
const UNMANAGED: [&str; 13] = [
    "insert=75MiB",
    "allocate=275MiB", // to 362: above spill, which brings it down to target
    "await=spilled",
    "allocate=75MiB", // to 387 at most, and still above spill with nothing left to evict
    "await=unmanaged",
    "allocate=75MiB", // to 437: above pause
    "await=paused",
    "task",
    "hold=0.3",
    "free",
    "await=task",
    "verify",
    "report",
];

/// What the worker says of it, in this order.
const STORY: [&str; 8] = [
    "spilling at",
    "spilled at",
    "unmanaged memory is high at",
    "paused at",
    "lets go",
    "task started",
    "verified 75 values",
    "done",
];

/// And this, whether before or after the task has started, which waits only for the gate.
const RESUMED: [&str; 2] = ["lets go", "resumed at"];

/// What its nanny logs of it, in this order.
const LOG: [&str; 6] = [
    "worker: started: process",
    "worker: spilling: values go to disk",
    "worker: unmanaged memory is high",
    "worker: paused: no task starts",
    "worker: resumed: tasks start again",
    "worker: ended: process",
];

/// S10, S12: memory beside the mapping makes it spill, then pause; freed, tasks start again.
#[test]
fn unmanaged_memory_spills_then_pauses_then_resumes_once_freed() {
    let world = World::new();
    let mut command = world.hungry(&["--memory-limit", "500MiB"]);
    command.args(UNMANAGED);
    let (status, story) = Running::start(command).end();
    assert!(status.success(), "{story}");
    in_order(&story, &STORY);
    in_order(&story, &RESUMED);
    assert!(number(&only(&story, "peak"), "peak") < 500 * MIB, "{story}");
}

/// S30: a worker runs under Debian's jemalloc, which is recognised; the readings stay right, and unused memory is
/// handed back by jemalloc's own call.
#[test]
fn a_worker_under_a_preloaded_jemalloc_does_the_same() {
    let jemalloc = std::env::var("OVERSPILL_TEST_JEMALLOC")
        .unwrap_or_else(|_| format!("/usr/lib/{}-linux-gnu/libjemalloc.so.2", std::env::consts::ARCH));
    assert!(
        std::path::Path::new(&jemalloc).exists(),
        "{jemalloc} is missing; apt-get install libjemalloc2, or set OVERSPILL_TEST_JEMALLOC to where it lies"
    );
    let world = World::new();
    let preload = format!("LD_PRELOAD={jemalloc}");
    let hungry = crate::support::hungry().to_str().unwrap();
    let mut command = world.nanny(&["--once", "--memory-limit", "500MiB", "--env", &preload, "--", hungry]);
    command.args(UNMANAGED).arg("--stay");
    let mut running = Running::start(command);
    let pid = speaker(&running.hear("allocator jemalloc"));
    let report = running.hear("peak");
    let parts = ["managed", "unmanaged", "recent"].map(|part| number(&report, &format!(" {part} ")));
    assert_eq!(parts.iter().sum::<u64>(), number(&report, "process"), "{report}");
    let mut client = overspill::worker::control::Client::connect(pid).unwrap();
    until("the last sample is what the system says", || {
        client.state().unwrap().readings.process.abs_diff(resident(pid)) < 8 * MIB
    });

    let mut trim = world.command(crate::support::OVERSPILL);
    let trimmed = trim.args(["trim", &pid.to_string()]).output().unwrap();
    let said = String::from_utf8_lossy(&trimmed.stdout).into_owned();
    assert!(
        said.contains(&format!("{pid}: jemalloc: ")),
        "{said}{}",
        String::from_utf8_lossy(&trimmed.stderr)
    );
    running.hear("worker: trimmed: as asked"); // the nanny knows all that was said so far
    running.signal("TERM");
    let (status, story) = running.end();
    assert!(status.success(), "{story}");
    in_order(&only(&story, "hungry "), &STORY);
    in_order(&only(&story, "hungry "), &RESUMED);
    in_order(&only(&story, "worker: "), &LOG);
}

/// S14, S17, W09: a leak is ended at 95% of the limit and the worker started again: a new process that holds
/// nothing, while nothing is left of the old one. The nanny's log tells it in order.
#[test]
fn a_leak_dies_at_terminate_and_comes_back_fresh() {
    let world = World::new();
    let hungry = crate::support::hungry().to_str().unwrap();
    let hook = format!(
        "echo \"$OVERSPILL_WORKER_NAME $OVERSPILL_DEATH_PID $OVERSPILL_DEATH_CAUSE $OVERSPILL_DEATH_RESTARTS\" \
         >> {}",
        world.path("deaths").display()
    );
    let leak = ["--memory-limit", "300MiB", "--hook", &hook, "--", hungry];
    let mut command = world.nanny(&leak);
    // Seconds from one threshold to the next, and many from one death to the next.
    command.args(["insert=60MiB", "allocate=130MiB", "allocate=3GiB@10MiB"]);
    let mut running = Running::start(command);
    let first = speaker(&running.hear(", 0 values"));
    running.hear("inserted");
    assert_eq!(world.left().len(), 1, "the directory of the first process");
    let second = speaker(&running.hear(", 0 values"));
    assert_ne!(first, second);
    assert!(!lives(first));
    assert_eq!(world.left().len(), 1, "and that of the second, which took its place");
    let deaths = std::fs::read_to_string(world.path("deaths")).unwrap();
    assert_eq!(deaths, format!("worker {first} memory true\n"));
    running.signal("TERM");
    let (_, story) = running.end();
    until("the second process ends", || !lives(second));
    in_order(
        &polite(&only(&story, "worker: ")),
        &[
            "worker: started: process",
            "worker: spilling:",
            "worker: paused:",
            "worker: terminating: process",
            "worker: ended: process",
            "worker: restarting: for the 1. time, after 100ms",
            "worker: started: process",
        ],
    );
    assert_eq!(world.left(), <[std::path::PathBuf; 0]>::default(), "{story}");
}

/// W09: one that takes more memory although it was asked to end is ended by force.
#[test]
fn a_leak_that_does_not_listen_is_ended_by_force() {
    let world = World::new();
    let hungry = crate::support::hungry().to_str().unwrap();
    let limits = ["--memory-limit", "400MiB", "--set", "worker.memory.terminate=0.85"];
    let mut command = world.nanny(&limits);
    // It takes seconds from `terminate` to the limit, so there is time to ask first.
    command.args(["--once", "--", hungry, "--stubborn", "allocate=300MiB", "allocate=3GiB@10MiB"]);
    let (status, story) = Running::start(command).end();
    assert_eq!(status.code(), Some(128 + 9), "{story}");
    in_order(&story, &["terminating: process", "killed: process", "by signal 9"]);
}

/// S18, W08: with all thresholds off nothing acts, neither the worker nor its nanny.
#[test]
fn with_all_thresholds_off_nothing_acts() {
    let world = World::new();
    let hungry = crate::support::hungry().to_str().unwrap();
    let mut command = world.nanny(&["--once", "--memory-limit", "200MiB"]);
    for threshold in ["target", "spill", "pause", "terminate"] {
        command.arg("--set").arg(format!("worker.memory.{threshold}=false"));
    }
    command.args(["--", hungry, "insert=120MiB", "allocate=120MiB", "task", "await=task", "hold=1"]);
    command.args(["report", "verify"]);
    let (status, story) = Running::start(command).end();
    assert!(status.success(), "{story}");
    in_order(&story, &["allocated", "task started", "verified 120 values", "handed over 120 values"]);
    let report = story.lines().find(|line| line.contains("peak")).unwrap();
    assert_eq!(number(report, "spilled"), 0, "{story}");
    assert!(number(report, "process") > 240 * MIB, "{story}");
    for acted in ["spilling", "paused", "trimmed", "terminating", "killed"] {
        assert!(!story.contains(acted), "{acted} in\n{story}");
    }
}
