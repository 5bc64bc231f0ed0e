//! The example `queue`: tasks that were cancelled by a kill run again elsewhere.

use rusqlite::Connection;

use crate::support::{Running, World, queue};
use table::Table;

#[expect(dead_code, reason = "the example uses more of it")]
#[path = "../../examples/queue/table.rs"]
mod table;

const TASKS: u32 = 60;

/// The prime numbers below `n`, found by other means than the example's.
fn primes_below(n: u32) -> i64 {
    let mut prime = vec![true; n as usize];
    for step in (2..).take_while(|step| step * step < n) {
        (step * step..n).step_by(step as usize).for_each(|n| prime[n as usize] = false);
    }
    prime.iter().skip(2).filter(|is| **is).count() as i64
}

fn count(table: &Connection, query: &str) -> i64 {
    table.query_row(query, (), |row| row.get(0)).unwrap()
}

/// S15: tasks whose worker was killed for its memory run again on another worker, and each takes effect once.
#[test]
fn tasks_of_a_killed_worker_run_elsewhere_each_exactly_once_in_effect() {
    let world = World::new();
    let file = world.path("tasks.db");
    let (file, program) = (file.to_str().unwrap(), queue().to_str().unwrap());
    let mut fill = world.command(program);
    let filled = fill.args(["fill", file, "--tasks", &TASKS.to_string(), "--greedy", "30"]).status().unwrap();
    assert!(filled.success());

    let hook = format!("{program} lost {file}");
    let limits = ["--workers", "2", "--memory-limit", "200MiB", "--hook", &hook];
    let mut nanny = world.nanny(&limits);
    nanny.args(["--", program, "work", file]);
    let (status, story) = Running::start(nanny).end();
    assert!(status.success(), "{story}");
    assert_eq!(story.matches("was lost; another worker takes it").count(), 2, "{story}");

    let table = Connection::open(file).unwrap();
    let tasks = i64::from(TASKS);
    assert_eq!(count(&table, "SELECT count(*) FROM tasks WHERE state = 'done'"), tasks, "{story}");
    assert_eq!(count(&table, "SELECT count(*) FROM effects"), tasks, "none took effect twice");
    assert_eq!(count(&table, "SELECT count(DISTINCT task) FROM effects"), tasks);
    assert_eq!(count(&table, "SELECT sum(primes) FROM effects"), primes_below(TASKS * 20_000));
    let elsewhere = "SELECT count(*) FROM tasks JOIN effects ON task = id
                     WHERE greedy AND losses = 1 AND effects.attempt = 2 AND lost_by != effects.worker";
    assert_eq!(count(&table, elsewhere), 2, "both greedy tasks ran again on the other worker");
    assert_eq!(count(&table, "SELECT count(*) FROM tasks WHERE attempt > 1 AND NOT greedy"), 0);

    let shown = world.command(program).args(["show", file]).output().unwrap();
    assert!(String::from_utf8_lossy(&shown.stdout).starts_with("60 done, 0 to do, 0 given up; "));
}

/// S15: a worker that was given up for dead, and is not, changes nothing: its task is another's.
#[test]
fn a_worker_that_was_given_up_changes_nothing() {
    let world = World::new();
    let file = world.path("tasks.db");
    let mut queue = Table::open(&file).unwrap();
    queue.fill(1, 0).unwrap();
    let slow = queue.take("slow", false).unwrap().unwrap();
    assert_eq!(queue.lost(std::process::id()).unwrap(), [slow.id]);
    assert!(queue.take("slow", false).unwrap().is_none(), "it is for another worker");
    let again = queue.take("other", false).unwrap().unwrap();
    assert!(!queue.finish(&slow, "slow", 1).unwrap());
    assert!(queue.finish(&again, "other", 2).unwrap());
    assert!(!queue.finish(&again, "other", 3).unwrap(), "nor does it count twice");
    assert_eq!(queue.lost(std::process::id()).unwrap(), <[u32; 0]>::default(), "what is done is not lost");
    let table = Connection::open(&file).unwrap();
    assert_eq!(count(&table, "SELECT sum(primes) FROM effects"), 2);
}

/// A task that kills every worker is given up, and the others are done.
#[test]
fn a_task_that_is_lost_too_often_is_given_up() {
    let world = World::new();
    let mut queue = Table::open(&world.path("tasks.db")).unwrap();
    queue.fill(1, 0).unwrap();
    for worker in ["a", "b", "a"] {
        assert!(queue.is_open().unwrap());
        queue.take(worker, false).unwrap().unwrap();
        queue.lost(std::process::id()).unwrap();
    }
    assert!(!queue.is_open().unwrap());
    assert_eq!(queue.show().unwrap().failed, 1);
}
