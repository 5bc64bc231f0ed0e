//! Process memory against what the system says elsewhere.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use spill_worker::{Allocator, MemorySource, ProcessMemory, trim};

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

/// Blocks that the allocator takes from its heap, not from the system one by one: of each eight in a row one stays,
/// so that plain freeing can hand next to nothing back.
fn fragment(blocks: usize) -> (Vec<Box<[u8]>>, u64) {
    const BLOCK: usize = 32 << 10;
    let all: Vec<Box<[u8]>> = (0..blocks).map(|n| vec![n as u8; BLOCK].into_boxed_slice()).collect();
    let mut kept = Vec::new();
    let mut free_pages = 0;
    let mut run = 0;
    for (n, block) in all.into_iter().enumerate() {
        if n % 8 == 7 {
            kept.push(block);
            // The pages at both ends of a run are shared with what stays.
            free_pages += (run / 4096_u64).saturating_sub(2);
            run = 0;
        } else {
            run += BLOCK as u64;
        }
    }
    (kept, free_pages * 4096)
}

/// S28: a call hands at least 80% of the wholly free pages of a fragmented heap back, which plain freeing keeps, and
/// says that it did. Where nothing is left to hand back it says that.
#[test]
fn trimming_hands_back_the_free_pages_of_a_fragmented_heap() {
    if Allocator::in_use() != Some(Allocator::Glibc) {
        return; // another allocator is preloaded, whose call says nothing
    }
    let process = ProcessMemory::open().unwrap();
    let before = process.read().unwrap();
    let (kept, free) = fragment(4096);
    let freed = process.read().unwrap();
    assert!(freed - before > 120 * MIB, "plain freeing kept it: {before} then {freed}");
    let trimmed = trim().unwrap();
    assert_eq!((trimmed.allocator, trimmed.released), (Some(Allocator::Glibc), Some(true)));
    let handed_back = freed.saturating_sub(process.read().unwrap());
    assert!(handed_back * 100 >= free * 80, "{handed_back} of {free}");
    assert!(kept.iter().enumerate().all(|(n, block)| block.iter().all(|byte| *byte == (8 * n + 7) as u8)));
}
