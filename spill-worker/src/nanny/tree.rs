//! A tree of processes, as `/proc` shows it: who is in it, and how much memory it uses.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How often the tree is looked at anew; in between only known processes are read.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often the memory that several processes share is found out, which takes milliseconds.
const SHARE_EVERY: Duration = Duration::from_secs(1);

/// The processes below a root, without it.
pub(super) struct Tree {
    root: u32,
    members: Vec<Member>,
    looked: Option<Duration>,
    /// Bytes that are counted more than once, and when that was found out.
    shared: Option<(Duration, u64)>,
}

struct Member {
    pid: u32,
    /// Kept open: it stays this process's file, and fails once it has gone.
    statm: File,
    /// Resident bytes at the last reading.
    resident: u64,
}

impl Tree {
    pub(super) fn below(root: u32) -> Self {
        Tree { root, members: Vec::new(), looked: None, shared: None }
    }

    /// Resident bytes of all processes. What several of them share counts once as soon as that decides on being
    /// above `level`.
    pub(super) fn memory(&mut self, now: Duration, level: Option<u64>) -> u64 {
        if self.looked.is_none_or(|then| now.saturating_sub(then) >= LOOK_EVERY) {
            self.look();
            self.looked = Some(now);
        }
        let page = rustix::param::page_size() as u64;
        let mut sum = 0_u64;
        self.members.retain_mut(|member| match resident_pages(&member.statm) {
            Some(pages) => {
                member.resident = pages.saturating_mul(page);
                sum = sum.saturating_add(member.resident);
                true
            }
            None => false,
        });
        if self.members.len() < 2 || level.is_none_or(|level| sum <= level) {
            return sum;
        }
        let shared = match self.shared {
            Some((then, shared)) if now.saturating_sub(then) < SHARE_EVERY => shared,
            _ => {
                let members = self.members.iter().map(|member| (member.resident, proportional(member.pid)));
                let shared = sum.saturating_sub(counted_once(members));
                self.shared = Some((now, shared));
                shared
            }
        };
        sum.saturating_sub(shared)
    }

    /// The processes seen last.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.pid).collect()
    }

    /// Signals every process of the tree.
    pub(super) fn signal(&mut self, signal: Signal) {
        self.look();
        for member in &self.members {
            send(member.pid, signal);
        }
    }

    fn look(&mut self) {
        let pids = descendants(self.root);
        self.members.retain(|member| pids.contains(&member.pid));
        for pid in pids {
            if !self.members.iter().any(|member| member.pid == pid)
                && let Ok(statm) = File::open(format!("/proc/{pid}/statm"))
            {
                self.members.push(Member { pid, statm, resident: 0 });
            }
        }
    }
}

/// Sends a signal; a process that has gone needs none.
pub(super) fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// All processes below `root`, parents before children.
pub(super) fn descendants(root: u32) -> Vec<u32> {
    let mut all = children(root);
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        for child in children(pid) {
            if !all.contains(&child) {
                all.push(child);
            }
        }
    }
    all
}

/// The children of a process: each of its threads has a list. Kernels without those lists are asked for all
/// processes.
fn children(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return children };
    let mut listed = false;
    for thread in threads.flatten() {
        if let Ok(text) = fs::read_to_string(thread.path().join("children")) {
            listed = true;
            children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    if !listed && let Ok(processes) = fs::read_dir("/proc") {
        let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        children.extend(pids.filter(|child| parent(*child) == Some(pid)));
    }
    children
}

/// The fourth field of `/proc/PID/stat`, counted behind the name, which may hold anything.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn resident_pages(statm: &File) -> Option<u64> {
    let mut text = [0; 160];
    let len = statm.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(text.get(..len)?).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// What processes use together, of the resident and the proportional bytes of each. One of which the kernel does not
/// tell, be it another user's or one that hides its memory, counts with everything.
fn counted_once(members: impl Iterator<Item = (u64, Option<u64>)>) -> u64 {
    members.map(|(resident, proportional)| proportional.unwrap_or(resident)).fold(0, u64::saturating_add)
}

/// A process's memory with each shared page divided by those who share it, in bytes, where that is told.
fn proportional(pid: u32) -> Option<u64> {
    proportional_of(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn proportional_of(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_tree_is_who_descends_from_the_root() {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "sleep 1000 & sleep 1000 & echo; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let mut tree = Tree::below(std::process::id());
        let memory = tree.memory(Duration::ZERO, None);
        let pids = tree.pids();
        assert!(pids.contains(&shell.id()) && memory > 0);
        assert!(descendants(shell.id()).len() >= 2, "both children");
        assert!(descendants(shell.id()).iter().all(|pid| parent(*pid) == Some(shell.id())));
        let mut below = Tree::below(shell.id());
        below.signal(Signal::KILL);
        shell.wait().unwrap();
        assert_eq!(Tree::below(shell.id()).memory(Duration::ZERO, Some(0)), 0);
    }

    /// It is not taken for memory that others share, which would not count.
    #[test]
    fn a_process_that_does_not_tell_what_it_shares_counts_with_everything() {
        let rollup = "5000-7000 ---p 00000000 00:00 0 [rollup]\nRss: 300 kB\nPss:  100 kB\nPss_Anon: 7 kB\n";
        assert_eq!(proportional_of(rollup), Some(100 << 10));
        assert_eq!(proportional_of(""), None);
        assert_eq!(counted_once([(300, Some(100)), (500, None)].into_iter()), 600);
        assert_eq!(counted_once([(300, None), (500, None)].into_iter()), 800);
    }
}
