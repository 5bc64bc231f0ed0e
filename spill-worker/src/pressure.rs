//! What the system says about memory running short: processes that its watchdog killed, and time spent waiting.

use std::fs;
use std::path::{Path, PathBuf};

use crate::system::own_groups;

/// Looks at the control group of this process: how many processes the system killed there for want of memory, and
/// how much of the time somebody waits for it. Answers `None` where the system does not tell.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// let pressure = spill_worker::Pressure::find();
/// if let Some(share) = pressure.stalled() {
///     println!("{:.0}% of the last ten seconds somebody waited for memory", share * 100.0);
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Files with a line `oom_kill N`.
    kills: Vec<PathBuf>,
    /// Files of pressure stall information, the nearest first.
    stalls: Vec<PathBuf>,
}

impl Pressure {
    /// Finds the control group of this process, in both versions. Some small files; do it once.
    #[must_use]
    pub fn find() -> Self {
        Self::find_under(Path::new("/"))
    }

    /// As [`find`](Self::find), for a copy of `/proc` and `/sys` that lies under `root`.
    #[must_use]
    pub fn find_under(root: &Path) -> Self {
        let mut pressure = Pressure::default();
        for (unified, directory) in own_groups(root) {
            if unified {
                pressure.kills.push(directory.join("memory.events"));
                pressure.stalls.push(directory.join("memory.pressure"));
            } else {
                pressure.kills.push(directory.join("memory.oom_control"));
            }
        }
        pressure.stalls.push(root.join("proc/pressure/memory"));
        pressure
    }

    /// Processes of the control group that the system killed so far because it was out of memory.
    #[must_use]
    pub fn kills(&self) -> Option<u64> {
        let counts = self.kills.iter().filter_map(|file| {
            let text = fs::read_to_string(file).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
        });
        counts.reduce(u64::saturating_add)
    }

    /// The share of the last ten seconds in which some task of the control group, else of the machine, waited for
    /// memory: 0 to 1.
    #[must_use]
    pub fn stalled(&self) -> Option<f64> {
        self.stalls.iter().find_map(|file| {
            let text = fs::read_to_string(file).ok()?;
            let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
            let percent: f64 = some.split(' ').find_map(|word| word.strip_prefix("avg10="))?.parse().ok()?;
            (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
        })
    }
}
