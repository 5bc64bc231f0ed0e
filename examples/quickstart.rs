//! A map of 400 MB that keeps 64 MiB of them in memory. Run: cargo run --release --example quickstart

use bytes::Bytes;
use overspill::{Lz4, MutableMapping, Result, presets};

fn main() -> Result<()> {
    // RAM up to the target, then lz4, then segment files in a private temporary directory.
    let map = presets::compressed_disk::<u32, Bytes>(64 << 20, None, Lz4)?;

    for n in 0..4_000_u32 {
        let text = format!("value {n}, again and again; ").repeat(4_000);
        map.insert(n, Bytes::from(text))?; // above the target the least recently used value is spilled
    }

    let early = map.get(&7)?.unwrap_or_default(); // read back from disk, and kept in RAM again
    assert!(early.starts_with(b"value 7, "));

    let usage = map.usage();
    println!("{} values", usage.count);
    println!("{:>6} MiB in RAM", usage.managed() >> 20);
    println!("{:>6} MiB spilled, {} MiB of it on disk", usage.spilled.memory >> 20, usage.spilled.disk >> 20);
    map.close() // removes the files; dropping the map does it too
}
