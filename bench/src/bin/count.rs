//! Counts bytes: RAM for each spilled value while a million of them come in, and what evicting values that
//! were read back and not changed writes. Prints a figure and its goal a line, for the bench to read.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use bytes::Bytes;
use overspill::{BufferBuilder, Compose, MutableMapping, Raw, Segments, SegmentsConfig, Workspace};

/// Bytes allocated and not freed.
static LIVE: AtomicI64 = AtomicI64::new(0);
/// The most there were since it was last set.
static PEAK: AtomicI64 = AtomicI64::new(0);

fn grow(bytes: i64) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(live, Relaxed);
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; only sizes are added up beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size() as i64);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // a reallocation may hold both for a moment
        grow(size as i64);
        LIVE.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const KEYS: u64 = 1_000_000;

fn main() {
    let home = tempfile::tempdir().unwrap();
    // fast memory and stage so small that they do not count beside a million records
    let workspace = Workspace::open(Some(home.path())).unwrap();
    let segments = Segments::open(SegmentsConfig::new(workspace).stage_bytes(64 << 10)).unwrap();
    let map = segments.coded(Raw).buffered(BufferBuilder::<u64, Bytes>::new().target(64 << 10)).unwrap();
    let before = LIVE.load(Relaxed);
    let mut worst = 0.0f64;
    for n in 0..KEYS {
        PEAK.store(LIVE.load(Relaxed), Relaxed);
        map.insert(n, Bytes::from(vec![n as u8; 64])).unwrap();
        if n >= 100_000 {
            worst = worst.max(per_value(PEAK.load(Relaxed) - before, n + 1));
        }
    }
    println!(
        "RAM a spilled value beyond its key, 1 million keys, worst moment from 100 thousand on\t{worst}\t48"
    );
    println!(
        "RAM a spilled value beyond its key, 1 million keys, in the end\t{}\t48",
        per_value(LIVE.load(Relaxed) - before, KEYS)
    );

    map.flush().unwrap();
    for n in 0..200 {
        map.get(&n).unwrap().unwrap();
    }
    let written = map.stats().write.bytes;
    map.evict_until_below(0);
    println!("bytes written by evicting 200 unchanged values\t{}\t0", map.stats().write.bytes - written);
}

/// Bytes of RAM for each of `count` values, beyond its key of 8 bytes.
fn per_value(bytes: i64, count: u64) -> f64 {
    bytes as f64 / count as f64 - size_of::<u64>() as f64
}
