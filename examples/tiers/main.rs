//! More than the disk may hold: RAM over a disk's quota over S3, each value where it was last used.
//!
//! Run: cargo run --release --features aws --example tiers [s3://bucket/prefix]
//!
//! With a URL the store is the one that the `AWS_` variables of the environment lead to. Without, it is a server in
//! this process that answers 20 ms late.

pub(crate) mod server;

use std::error::Error;
use std::io::{self, Write};
use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use overspill::object::Store;
use overspill::presets::{self, Tiers};
use overspill::{ManualEvict, MutableMapping};

use server::Server;

/// What values may take in RAM, and their files on disk.
const RAM: u64 = 16 << 20;
const DISK: u64 = 48 << 20;

/// 98 MB of them.
const TILES: u64 = 1_500;
const TILE: usize = 64 << 10;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run(std::env::args().nth(1).as_deref(), &mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tiers: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) fn run(url: Option<&str>, out: &mut impl Write) -> Result {
    if let Some(url) = url {
        return fill_and_use(Store::open(url)?, out);
    }
    let server = Server::start(Duration::from_millis(20))?;
    let url = format!("s3://{}/tiles", Server::BUCKET);
    fill_and_use(Store::open_with(&url, &server.options())?, out)?;
    writeln!(out, "the bucket holds {} objects", server.objects()?.len())?;
    Ok(())
}

/// A value that tells its number.
fn tile(n: u64) -> Bytes {
    let mut state = n;
    let mut tile = Vec::with_capacity(TILE);
    while tile.len() < TILE {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tile.extend_from_slice(&state.to_le_bytes());
    }
    tile.into()
}

fn fill_and_use(store: Store, out: &mut impl Write) -> Result {
    writeln!(out, "RAM {} MiB, disk {} MiB, then {store}", RAM >> 20, DISK >> 20)?;
    let map = presets::tiers::<u64, Bytes>(RAM, None, DISK, store)?;
    for n in 0..TILES {
        map.insert(n, tile(n))?;
    }
    map.flush()?;
    show("written", &map, out)?;

    // what is used often is near: the second round asks the store for nothing
    let gets = || map.slow().inner().slow().inner().requests().gets;
    for round in ["first", "second"] {
        let before = gets();
        verify(&map, 0..300)?;
        writeln!(out, "{round} round over 300 tiles: {} from the store", gets() - before)?;
    }
    show("in use", &map, out)?;

    // each level evicts by hand, as a memory monitor does
    let moved = (map.evict(), map.slow().inner().evict());
    writeln!(out, "evict() moved {} bytes to disk, and {} to the store", moved.0, moved.1)?;

    verify(&map, 0..TILES)?;
    writeln!(out, "{TILES} tiles verified")?;

    for n in 100..TILES {
        map.remove(&n)?;
    }
    show("100 left", &map, out)?;
    Ok(map.close()?)
}

/// Reads some at a time, so that the store is asked for those together.
fn verify(map: &Tiers<u64, Bytes>, tiles: Range<u64>) -> Result {
    let tiles: Vec<u64> = tiles.collect();
    for some in tiles.chunks(50) {
        for (n, found) in some.iter().zip(map.get_many(some)) {
            if found? != Some(tile(*n)) {
                return Err(format!("tile {n} is not what was written").into());
            }
        }
    }
    Ok(())
}

fn show(when: &str, map: &Tiers<u64, Bytes>, out: &mut impl Write) -> Result {
    let below = map.slow().inner();
    let (ram, disk, store) = (map.stats(), below.stored().usage(), below.slow().usage());
    writeln!(out, "{when}:")?;
    writeln!(out, "  RAM    {:>5} tiles {:>4} MiB", ram.fast_count, ram.fast_bytes >> 20)?;
    writeln!(out, "  disk   {:>5} tiles {:>4} MiB of files", disk.count, disk.physical >> 20)?;
    writeln!(out, "  store  {:>5} tiles {:>4} MiB of objects", store.count, store.physical >> 20)?;
    Ok(())
}
