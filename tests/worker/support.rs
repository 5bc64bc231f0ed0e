//! Starts programs, reads what they say, and looks at what they leave.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::built;

/// What a test waits for at most before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(100);

pub(crate) const MIB: u64 = 1 << 20;

/// The command `overspill`.
pub(crate) const OVERSPILL: &str = env!("CARGO_BIN_EXE_overspill");

/// Builds an example, unless that is done, and says where it is. One who has built them already can say in which
/// folder, by `OVERSPILL_TEST_EXAMPLES`.
fn build(example: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("OVERSPILL_TEST_EXAMPLES") {
        return PathBuf::from(folder).join(example);
    }
    built::example(example, &["--features", "cli"])
}

/// The example `hungry`, built once for all calls.
pub(crate) fn hungry() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build("hungry"))
}

/// The example `queue`.
pub(crate) fn queue() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build("queue"))
}

/// A folder of a test's own: settings come from nowhere else, and spilled values go there.
pub(crate) struct World {
    folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("spill")).unwrap();
        World { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where values are spilled.
    pub(crate) fn spill(&self) -> PathBuf {
        self.path("spill")
    }

    /// A command whose settings are the defaults.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let ours = |name: &str| name.starts_with("OVERSPILL_") || name.starts_with("DASK_");
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(ours) {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.folder.path()).stdin(Stdio::null());
        command
    }

    /// `overspill nanny` with these arguments, which spills below this folder.
    pub(crate) fn nanny(&self, args: &[&str]) -> Command {
        let mut command = self.command(OVERSPILL);
        command.arg("nanny").arg("--local-directory").arg(self.spill()).args(args);
        command
    }

    /// `hungry` with these arguments, which spills below this folder.
    pub(crate) fn hungry(&self, args: &[&str]) -> Command {
        let mut command = self.command(hungry());
        command.arg("--local-directory").arg(self.spill()).args(args);
        command
    }

    /// What lies where values are spilled.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        self.spill().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

/// A program that runs, and what it has said so far on both of its outputs. Dropped, it is ended.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        read_out(out, sender.clone());
        read_err(err, sender);
        Running { child, lines, said: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that holds `text`, and returns it. Lines before it count as heard.
    #[track_caller]
    pub(crate) fn hear(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("{text:?} was not said in time:\n{}", self.story()),
                Err(RecvTimeoutError::Disconnected) => panic!("{text:?} was never said:\n{}", self.story()),
            }
        }
    }

    /// Everything heard.
    pub(crate) fn story(&self) -> String {
        self.said.join("\n")
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits until it has ended and all who could write to its outputs have: how it ended, and what it said.
    #[track_caller]
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.said.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end:\n{}", self.story()),
            }
        }
        (self.child.wait().unwrap(), self.story())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Of one that has ended nothing is left to be ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_out(out: ChildStdout, to: Sender<String>) {
    thread::Builder::new().spawn(move || forward(BufReader::new(out), &to)).unwrap();
}

fn read_err(err: ChildStderr, to: Sender<String>) {
    thread::Builder::new().spawn(move || forward(BufReader::new(err), &to)).unwrap();
}

fn forward(lines: impl BufRead, to: &Sender<String>) {
    for line in lines.lines().map_while(Result::ok) {
        if to.send(line).is_err() {
            return;
        }
    }
}

/// Sends a signal by its name.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {name} {pid}: {status}");
}

/// Whether a process is there and no zombie.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// What a process has in memory, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let (_never, silence) = channel::<()>();
    for _ in 0..PATIENCE.as_millis() / 10 {
        if so() {
            return;
        }
        let _ = silence.recv_timeout(Duration::from_millis(10));
    }
    panic!("it is never so: {what}");
}

/// The number that stands behind `word` in a text.
#[track_caller]
pub(crate) fn number(text: &str, word: &str) -> u64 {
    let rest = text.split_once(word).unwrap_or_else(|| panic!("no {word:?} in {text:?}")).1.trim_start();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number behind {word:?} in {text:?}"))
}

/// The process number in a line of `hungry`.
#[track_caller]
pub(crate) fn speaker(line: &str) -> u32 {
    number(line, "hungry ") as u32
}

/// What one kind of speaker said: the lines that hold `text`.
pub(crate) fn only(story: &str, text: &str) -> String {
    story.lines().filter(|line| line.contains(text)).collect::<Vec<_>>().join("\n")
}

/// A story in which every worker that was ended for its memory was asked first. On a busy machine a leak may seem
/// to rise too fast for that.
pub(crate) fn polite(story: &str) -> String {
    story.replace("killed: process", "terminating: process")
}

/// Fails unless the texts stand in `story` in this order.
#[track_caller]
pub(crate) fn in_order(story: &str, texts: &[&str]) {
    let mut rest = story;
    for text in texts {
        let Some((_, after)) = rest.split_once(text) else {
            panic!("{text:?} is missing, or out of its place among {texts:?}:\n{story}")
        };
        rest = after;
    }
}
