//! The worker, and how each step is done.

use std::io::Write;
use std::ops::ControlFlow;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use bytes::Bytes;
use overspill::presets::{self, Preset};
use overspill::worker::{Allocator, Data, DataContext, Gate, Retired, Settings, Worker};
use overspill::{Error, ErrorKind, MutableMapping, Raw, Result};

use crate::memory::{CHUNK, Pace, peak};
use crate::script::Step;
use crate::this_program;

/// How often a wait looks whether the worker was asked to end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Small enough to come from the heap, and not from the system one by one.
const BLOCK: u64 = 32 << 10;

type Values = Arc<presets::Disk<u64, Bytes>>;

/// A worker that follows a script.
pub(crate) struct Program {
    worker: Worker,
    values: Values,
    inserted: u64,
    unmanaged: Vec<Vec<u8>>,
    children: Vec<Child>,
    events: Receiver<&'static str>,
    /// Tasks tell that they have started.
    tell: Sender<&'static str>,
    stubborn: bool,
}

/// Prints a line in one piece, since several processes may write to one place.
pub(crate) fn say(text: &str) {
    let line = format!("hungry {}: {text}\n", std::process::id());
    // Who does not listen any more misses nothing.
    let _ = std::io::stdout().write_all(line.as_bytes());
}

impl Program {
    pub(crate) fn start(settings: Settings, stubborn: bool) -> Result<Self> {
        let (tell, events) = channel();
        let told = tell.clone();
        let mut values: Option<Values> = None;
        let worker = Worker::builder(settings)
            .data(|context: &DataContext| {
                // Without a target nothing moves to disk but what the monitor evicts.
                let target = context.target.unwrap_or(u64::MAX);
                let directory = context.local_directories.first().map(|path| path.as_path());
                let made = Arc::new(Preset::new(target).directory(directory).disk(Raw)?);
                let data = Data::evictable(&made);
                values = Some(made);
                Ok(data)
            })?
            .on_event(move |kind, readings| {
                say(&format!("{} at {} bytes", kind.name(), readings.process));
                let _ = told.send(kind.name());
            })
            .retire_on_signals()
            .start()?;
        let values = values.ok_or(ErrorKind::Closed { what: "the mapping" })?;
        say(&format!(
            "limit {}, {} values, allocator {}, {}",
            worker.settings().memory_limit.bytes().map_or("none".to_owned(), |bytes| bytes.to_string()),
            values.len(),
            Allocator::in_use().map_or("unknown".to_owned(), |allocator| allocator.to_string()),
            worker.settings().name,
        ));
        let (unmanaged, children) = (Vec::new(), Vec::new());
        Ok(Program { worker, values, inserted: 0, unmanaged, children, events, tell, stubborn })
    }

    /// Does one step; breaks off when the worker was asked to end.
    pub(crate) fn step<'s>(&mut self, scope: &'s Scope<'s, '_>, step: &Step) -> Result<ControlFlow<()>> {
        match step {
            Step::Insert(bytes, rate) => {
                let mut pace = Pace::new(*rate);
                for _ in 0..bytes.div_ceil(CHUNK) {
                    self.values.insert(self.inserted, value(self.inserted))?;
                    self.inserted += 1;
                    if self.wait(pace.after(CHUNK)).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                say(&format!("inserted {bytes} bytes"));
            }
            Step::Verify => {
                for key in 0..self.inserted {
                    if self.values.get(&key)? != Some(value(key)) {
                        return Err(Error::config("value", key, "what was inserted"));
                    }
                }
                say(&format!("verified {} values", self.inserted));
            }
            Step::Allocate(bytes, rate) => {
                let mut pace = Pace::new(*rate);
                for _ in 0..bytes.div_ceil(CHUNK) {
                    self.unmanaged.push(vec![1; CHUNK as usize]);
                    if self.wait(pace.after(CHUNK)).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                say(&format!("allocated {bytes} bytes"));
            }
            Step::Fork(amount) => {
                let mut command = Command::new(this_program()?);
                command.args(["--stay", &format!("allocate={amount}")]).stdin(Stdio::null());
                // The child is no worker of the nanny's.
                command.env("OVERSPILL_MEMORY_LIMIT", "none").env("OVERSPILL_WORKER_NAME", "child");
                let child = command.spawn().map_err(|error| Error::io("start", "a child", error))?;
                say(&format!("started child {}", child.id()));
                self.children.push(child);
            }
            Step::Fragment(bytes) => {
                let blocks = (0..bytes / BLOCK).map(|n| vec![n as u8; BLOCK as usize]);
                let all: Vec<_> = blocks.collect();
                self.unmanaged.extend(all.into_iter().step_by(8));
                say(&format!("fragmented {bytes} bytes"));
            }
            Step::Free => {
                say("lets go");
                self.unmanaged.clear();
            }
            Step::Task => {
                let (gate, tell) = (self.worker.gate().clone(), self.tell.clone());
                scope.spawn(move || task(&gate, &tell));
            }
            Step::Await(name) => return Ok(self.wait_for(name)),
            Step::Hold(time) => return Ok(self.wait(*time)),
            Step::Report => self.report(),
        }
        Ok(self.asked())
    }

    fn asked(&self) -> ControlFlow<()> {
        match self.worker.is_retiring() && !self.stubborn {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn wait(&self, mut time: Duration) -> ControlFlow<()> {
        let (_never, silence) = channel::<()>();
        while !time.is_zero() && self.asked().is_continue() {
            let step = time.min(LOOK_EVERY);
            let _ = silence.recv_timeout(step);
            time -= step;
        }
        self.asked()
    }

    fn wait_for(&self, name: &str) -> ControlFlow<()> {
        loop {
            match self.events.recv_timeout(LOOK_EVERY) {
                Ok(event) if event.starts_with(name) => return self.asked(),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
            }
            self.asked()?;
        }
    }

    fn report(&self) {
        // The last reading may be older than what was done since, and so may one that is under way.
        let monitor = self.worker.monitor();
        let fresh = monitor.status().samples + 2;
        while monitor.status().samples < fresh {
            monitor.sample_now();
            if self.wait(LOOK_EVERY).is_break() {
                break;
            }
        }
        let readings = self.worker.state().readings;
        let spilled = self.values.usage().spilled;
        say(&format!(
            "process {}, peak {}, managed {}, unmanaged {}, recent {}, spilled {}",
            readings.process,
            peak(),
            readings.managed,
            readings.unmanaged,
            readings.unmanaged_recent,
            spilled.disk,
        ));
    }

    /// Retires: the gate closes, tasks end, and the values are handed over, which here means counted.
    pub(crate) fn end(mut self, stay: bool) -> Result<ExitCode> {
        if !stay && !self.worker.is_retiring() {
            self.worker.retire();
        }
        let values = Arc::clone(&self.values);
        let retired = self.worker.wait(|| {
            say(&format!("handed over {} values", values.len()));
            values.clear()
        })?;
        for child in &mut self.children {
            let killed = child.kill().and_then(|()| child.wait());
            killed.map_err(|error| Error::io("end", "a child", error))?;
        }
        say(match retired {
            Retired::Gracefully => "done",
            Retired::AtOnce => "done at once",
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// A task needs a permit to start, and keeps it while it runs.
fn task(gate: &Gate, tell: &Sender<&'static str>) {
    match gate.enter() {
        Ok(_permit) => {
            say("task started");
            // Once the program ends nobody waits for it.
            let _ = tell.send("task");
        }
        Err(error) => say(&format!("no task: {error}")),
    }
}

/// The value of a key: 1 MiB that no other key has.
fn value(key: u64) -> Bytes {
    let mut bytes = vec![key as u8; CHUNK as usize];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    Bytes::from(bytes)
}
