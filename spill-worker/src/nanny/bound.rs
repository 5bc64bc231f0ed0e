//! A process that ends with its parent.
#![expect(unsafe_code, reason = "code between fork and exec can only be given by an unsafe call")]

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};

/// Makes the kernel kill the process that `command` starts when the thread that starts it ends.
pub(super) fn bind_to_parent(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call, and neither allocates nor locks.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_bound_process_ends_with_the_thread_that_started_it() {
        let start = || {
            let mut command = Command::new("sleep");
            bind_to_parent(command.arg("1000"));
            command.spawn().unwrap()
        };
        let mut child = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
