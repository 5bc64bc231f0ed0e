//! The worker: asks the gate, takes a task, runs it, writes its effect.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use overspill::worker::config::{Config, Sources};
use overspill::worker::{SystemMemory, Worker};

use crate::Result;
use crate::table::{Table, Task};

/// Numbers in the range of one task.
const RANGE: u32 = 20_000;

/// How long to wait where no task is ready.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// After so many looks in vain a worker takes what it lost itself: no other worker is there to do it. One that is
/// being started again would have come by then.
const LOOKS: u32 = 600;

/// Runs tasks until all are done, or until asked to end; the task that runs then is finished first.
pub(crate) fn run(file: &Path) -> Result<()> {
    let settings = Config::load(&Sources::of_this_process(), &SystemMemory::read()?)?.into_settings();
    let worker = Worker::builder(settings).retire_on_signals().start()?;
    let name = worker.settings().name.clone();
    let mut table = Table::open(file)?;
    let (_never, silence) = channel::<()>();
    let mut looks = 0;
    while !worker.is_retiring() && table.is_open()? {
        // Closed between the two lines: it is asked to end.
        let Ok(Some(permit)) = worker.gate().enter_within(LOOK_EVERY) else { continue };
        match table.take(&name, looks > LOOKS)? {
            Some(task) => {
                looks = 0;
                let primes = count_primes(&task);
                if !table.finish(&task, &name, primes)? {
                    eprintln!("{name}: task {} was given to another worker", task.id);
                }
            }
            None => {
                drop(permit);
                looks += 1;
                let _ = silence.recv_timeout(LOOK_EVERY);
            }
        }
    }
    worker.retire();
    worker.wait(|| Ok(()))?; // nothing to hand over: what is done is in the table
    Ok(())
}

/// The work of a task. A greedy one has a fault that shows at its first attempt only.
fn count_primes(task: &Task) -> u32 {
    if task.greedy && task.attempt == 1 {
        take_all_memory();
    }
    let numbers = task.id * RANGE..(task.id + 1) * RANGE;
    let is_prime = |n: &u32| *n > 1 && (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    numbers.filter(is_prime).count() as u32
}

/// Some 200 MiB a second until somebody ends the process.
fn take_all_memory() -> ! {
    let (_never, silence) = channel::<()>();
    let mut taken = Vec::new();
    loop {
        taken.push(vec![1_u8; 1 << 20]);
        let _ = silence.recv_timeout(Duration::from_millis(5));
    }
}
