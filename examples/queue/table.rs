//! The queue: a table of tasks, and one of their effects, in a file of SQLite that several processes share.
//!
//! A task is `ready`, `taken` by a process, `done`, or `failed` after it was lost too often. Its effect is written
//! in the transaction that makes it `done`, which succeeds only for the process that still has it: a worker that
//! was given up for dead, and is not, changes nothing.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::Result;

/// A task that killed so many workers is given up, as Dask's `allowed-failures` does.
const MOST_LOSSES: u32 = 3;

/// How long one process waits for another's transaction.
const PATIENCE: Duration = Duration::from_secs(60);

/// The queue.
pub(crate) struct Table(Connection);

/// A task that this process has taken.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) id: u32,
    /// Counts the times that it was taken, from 1.
    pub(crate) attempt: u32,
    /// Whether its first attempt takes memory without end.
    pub(crate) greedy: bool,
}

/// How far the queue is.
pub(crate) struct Shown {
    pub(crate) done: u32,
    pub(crate) open: u32,
    pub(crate) failed: u32,
    /// The sum of the results.
    pub(crate) sum: u64,
}

impl Table {
    pub(crate) fn open(file: &Path) -> Result<Self> {
        let connection = Connection::open(file)?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS tasks (id INTEGER PRIMARY KEY, greedy INTEGER NOT NULL,
                 state TEXT NOT NULL DEFAULT 'ready', pid INTEGER, worker TEXT, attempt INTEGER NOT NULL DEFAULT 0,
                 lost_by TEXT, losses INTEGER NOT NULL DEFAULT 0);
             CREATE TABLE IF NOT EXISTS effects (task INTEGER NOT NULL, attempt INTEGER NOT NULL,
                 worker TEXT NOT NULL, primes INTEGER NOT NULL)",
        )?;
        Ok(Table(connection))
    }

    pub(crate) fn fill(&mut self, tasks: u32, greedy: u32) -> Result<()> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for id in 0..tasks {
            let is_greedy = greedy > 0 && id % greedy == greedy - 1;
            transaction.execute("INSERT INTO tasks (id, greedy) VALUES (?, ?)", params![id, is_greedy])?;
        }
        Ok(transaction.commit()?)
    }

    /// Takes a task that is ready. What this worker lost itself is for others, unless `own` says that none is.
    pub(crate) fn take(&mut self, worker: &str, own: bool) -> Result<Option<Task>> {
        let pid = std::process::id();
        let taken = self.0.query_row(
            "UPDATE tasks SET state = 'taken', pid = ?1, worker = ?2, attempt = attempt + 1
             WHERE id = (SELECT id FROM tasks WHERE state = 'ready' AND (?3 OR lost_by IS NOT ?2)
                         ORDER BY losses, id LIMIT 1)
             RETURNING id, attempt, greedy",
            params![pid, worker, own],
            |row| Ok(Task { id: row.get(0)?, attempt: row.get(1)?, greedy: row.get(2)? }),
        );
        Ok(taken.optional()?)
    }

    /// Writes the effect of a task. `false`, and nothing is written, when it is not this process's any more.
    pub(crate) fn finish(&mut self, task: &Task, worker: &str, primes: u32) -> Result<bool> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = transaction.execute(
            "UPDATE tasks SET state = 'done' WHERE id = ? AND state = 'taken' AND pid = ? AND attempt = ?",
            params![task.id, std::process::id(), task.attempt],
        )?;
        if done == 1 {
            transaction.execute(
                "INSERT INTO effects (task, attempt, worker, primes) VALUES (?, ?, ?, ?)",
                params![task.id, task.attempt, worker, primes],
            )?;
        }
        transaction.commit()?;
        Ok(done == 1)
    }

    /// Whether any task may still have to be run.
    pub(crate) fn is_open(&self) -> Result<bool> {
        let open = "SELECT EXISTS (SELECT 1 FROM tasks WHERE state IN ('ready', 'taken'))";
        Ok(self.0.query_row(open, (), |row| row.get(0))?)
    }

    /// Gives back the tasks of a process that died; which they were.
    pub(crate) fn lost(&mut self, pid: u32) -> Result<Vec<u32>> {
        let mut statement = self.0.prepare(
            "UPDATE tasks SET state = iif(losses + 1 < ?2, 'ready', 'failed'), losses = losses + 1,
                 lost_by = worker, pid = NULL
             WHERE state = 'taken' AND pid = ?1 RETURNING id",
        )?;
        let tasks = statement.query_map(params![pid, MOST_LOSSES], |row| row.get(0))?;
        Ok(tasks.collect::<std::result::Result<_, _>>()?)
    }

    pub(crate) fn show(&self) -> Result<Shown> {
        let count = |states: &str| {
            self.0.query_row(&format!("SELECT count(*) FROM tasks WHERE state IN ({states})"), (), |row| {
                row.get(0)
            })
        };
        let sum: i64 =
            self.0.query_row("SELECT coalesce(sum(primes), 0) FROM effects", (), |row| row.get(0))?;
        Ok(Shown {
            done: count("'done'")?,
            open: count("'ready', 'taken'")?,
            failed: count("'failed'")?,
            sum: sum.unsigned_abs(),
        })
    }
}
