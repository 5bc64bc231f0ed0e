//! Processes of a run: this program again, with words that say what it is to do.

use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};

use crate::{fresh, overshoot};

/// The first argument of this program when it is one of the processes of a run.
pub const PROCESS: &str = "process";

/// Runs what this process was started for, if it was started by a run.
pub fn run() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != PROCESS {
        return None;
    }
    let kind = args.next()?;
    let rest: Vec<OsString> = args.collect();
    match kind.to_str()? {
        "touch" => touch(number(&rest[0])),
        "fresh" => fresh::read(&rest),
        other => overshoot::run_process(other, &rest),
    }
    Some(ExitCode::SUCCESS)
}

/// This program as a process of this kind.
pub fn this(kind: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([PROCESS, kind]).stdin(Stdio::null());
    command
}

pub fn number(arg: &OsString) -> u64 {
    arg.to_str().unwrap().parse().unwrap()
}

fn touch(bytes: u64) {
    drop(std::hint::black_box(vec![1_u8; bytes as usize]));
}

/// Touches as much memory as a process will, so that it does not pay for memory that went back to the host.
pub fn warm_up(bytes: u64) {
    assert!(this("touch").arg(bytes.to_string()).status().unwrap().success());
}
