//! Process memory against what the system says elsewhere.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use spill_worker::{MemorySource, ProcessMemory};

const MIB: u64 = 1 << 20;

/// `VmRSS` of `/proc/self/status`, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

/// S20: a reading is the resident memory that the system shows, and follows what the process touches.
#[test]
fn a_reading_is_the_resident_memory_of_the_process() {
    let process = ProcessMemory::open().unwrap();
    let close = || {
        let (ours, theirs) = (process.read().unwrap(), resident());
        assert!(ours.abs_diff(theirs) <= MIB, "{ours} and {theirs}");
        ours
    };
    let before = close();
    let touched = vec![1_u8; 64 << 20];
    let after = close();
    assert!((60 * MIB..70 * MIB).contains(&(after - before)), "{before} then {after}");
    drop(touched);
    assert!(close() < after - 60 * MIB, "memory given back is seen");
}
