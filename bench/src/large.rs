//! 1 MiB values. The peer moves the same values: cold ones, that nobody touched since they were made.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use overspill::MutableMapping;

use crate::chain::{disk, values};
use crate::fresh::{Order, pread_fresh};
use crate::harness::{Better, Row, Run, Unit, pair, settle, timed};

const LEN: usize = 1 << 20;
const TARGET: u64 = 256 << 20;
const COUNT: usize = 1024;

/// Values on disk that are replaced again and again.
const REPLACED: usize = 256;

pub fn run(rounds: usize) -> Vec<Row> {
    let values = values(COUNT + 256, LEN);
    let bytes = (COUNT * LEN) as u64;
    let home = tempfile::tempdir().unwrap();

    let spill = || -> Run {
        settle(home.path(), COUNT * LEN);
        let map = disk(TARGET, home.path());
        let fast = (map.target() / LEN as u64) as usize;
        for (n, value) in values[..fast].iter().enumerate() {
            map.insert(n as u64, value.clone()).unwrap();
        }
        // each insert now spills the value that came `fast` inserts before
        let run = timed(|| {
            for (n, value) in values[fast..fast + COUNT].iter().enumerate() {
                map.insert((fast + n) as u64, value.clone()).unwrap();
            }
        });
        assert!(map.usage().spilled.memory >= bytes - LEN as u64);
        run
    };
    let write = || -> Run {
        settle(home.path(), COUNT * LEN);
        let path = home.path().join("plain");
        let mut file = File::create_new(&path).unwrap();
        let run = timed(|| values[..COUNT].iter().for_each(|value| file.write_all(value).unwrap()));
        std::fs::remove_file(path).unwrap();
        run
    };
    let unit = Unit::GibPerSecond(bytes);
    // into segments that were never written before: the checksum is on top of what the peer does
    let spilling = pair(
        "1 MiB: spill, beside plain write to a fresh file",
        unit,
        Some((Better::MoreSpeed, 0.75)),
        rounds,
        spill,
        write,
    );
    // a program that replaces its values: segments of which nothing lives are written again
    let replace = || -> Run {
        settle(home.path(), COUNT * LEN);
        let map = disk(TARGET, home.path());
        let live = (map.target() / LEN as u64) as usize + REPLACED;
        let insert = |n: usize| map.insert((n % live) as u64, values[n % values.len()].clone()).unwrap();
        (0..live + REPLACED).for_each(insert);
        let files = || segments(home.path());
        let before = files();
        let run = timed(|| (live + REPLACED..live + REPLACED + COUNT).for_each(insert));
        assert_eq!(
            (map.len(), files()),
            (live, before),
            "each segment is written into the file of one before"
        );
        run
    };
    let replacing = pair(
        "1 MiB: spill into recycled segments, beside plain write to a fresh file",
        unit,
        Some((Better::MoreSpeed, 0.9)),
        rounds,
        replace,
        write,
    );

    let map = disk(TARGET, home.path());
    let path = home.path().join("plain");
    let mut file = File::create_new(&path).unwrap();
    for (n, value) in values[..COUNT].iter().enumerate() {
        map.insert(n as u64, value.clone()).unwrap();
        file.write_all(value).unwrap();
    }
    map.flush().unwrap(); // all values have a copy on disk
    let read_back = || {
        timed(|| {
            for n in 0..COUNT as u64 {
                assert_eq!(map.get(&n).unwrap().unwrap().len(), LEN);
            }
        })
    };
    let reading = pair(
        "1 MiB: read back with promotion and eviction, beside pread into fresh kept vectors",
        unit,
        Some((Better::MoreSpeed, 2.0)),
        rounds,
        read_back,
        || pread_fresh(&path, LEN, COUNT, Order::Written),
    )
    .stretch(3.0);
    vec![spilling, replacing, reading]
}

/// The files in the directories of `home`.
fn segments(home: &Path) -> BTreeSet<PathBuf> {
    let entries = |path: &Path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries(home).filter(|path| path.is_dir()).flat_map(|path| entries(&path).collect::<Vec<_>>()).collect()
}
