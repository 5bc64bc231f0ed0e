//! 4 KiB values: many of them, so that what each costs beside its bytes counts.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use overspill::MutableMapping;
use redb::ReadableDatabase as _;

use crate::chain::{disk, mapped, values};
use crate::fresh::{Order, pread_fresh};
use crate::harness::{Better, Row, Run, Unit, pair, settle, timed};

const LEN: usize = 4096;
const TARGET: u64 = 64 << 20;
const COUNT: usize = 200_000;

pub fn run(rounds: usize) -> Vec<Row> {
    let values = values(COUNT + 16_384, LEN);
    let home = tempfile::tempdir().unwrap();
    let spill = || spill(&values, home.path());
    let unit = Unit::ThousandsPerSecond(COUNT as u64);
    let mut rows = vec![pair(
        "4 KiB: spill, beside a bare buffered append",
        unit,
        Some((Better::MoreSpeed, 0.8)),
        rounds,
        spill,
        || append(&values, home.path()),
    )];
    let fewer = rounds.min(3);
    let goal = Some((Better::MoreSpeed, 4.0));
    rows.push(pair("4 KiB: spill, beside fjall without fsync", unit, goal, fewer, spill, || {
        fjall(&values, home.path())
    }));
    rows.push(pair("4 KiB: spill, beside redb without durability", unit, goal, fewer, spill, || {
        redb(&values, home.path())
    }));

    let plain = home.path().join("plain");
    append_all(&values[..COUNT], &plain);
    for (how, map) in [
        ("", disk(TARGET, home.path())),
        (", segments mapped", mapped(TARGET, 2 * (COUNT * LEN) as u64, home.path())),
    ] {
        for (n, value) in values[..COUNT].iter().enumerate() {
            map.insert(n as u64, value.clone()).unwrap();
        }
        map.flush().unwrap();
        rows.extend(read_back(how, &map, &plain, rounds));
    }
    rows
}

/// Random reads of all values, beside those of a plain file.
fn read_back(how: &str, map: &impl MutableMapping<u64, Bytes>, plain: &Path, rounds: usize) -> [Row; 2] {
    let unit = Unit::ThousandsPerSecond(COUNT as u64);
    let order = Order::Random.of(COUNT);
    let file = File::open(plain).unwrap();
    let ours = || {
        timed(|| {
            for n in &order {
                assert_eq!(map.get(n).unwrap().unwrap().len(), LEN);
            }
        })
    };
    let ring = || {
        let mut ring = vec![0; TARGET as usize];
        let mut places = ring.chunks_exact_mut(LEN);
        // Touched once before: what counts is reading into memory that is there and not in the cache.
        places.by_ref().for_each(|place| place.fill(1));
        let slots = TARGET as usize / LEN;
        timed(|| {
            for (turn, &n) in order.iter().enumerate() {
                let at = turn % slots * LEN;
                file.read_exact_at(&mut ring[at..at + LEN], n * LEN as u64).unwrap();
            }
        })
    };
    [
        pair(
            &format!(
                "4 KiB: random read back with promotion and eviction{how}, beside pread into a ring as large as fast memory"
            ),
            unit,
            Some((Better::MoreSpeed, 0.6)),
            rounds,
            ours,
            ring,
        )
        .stretch(0.8),
        pair(
            &format!("4 KiB: the same{how}, beside pread into fresh kept vectors"),
            unit,
            Some((Better::MoreSpeed, 1.1)),
            rounds,
            ours,
            || pread_fresh(plain, LEN, COUNT, Order::Random),
        ),
    ]
}

fn append_all(values: &[Bytes], path: &Path) {
    let mut file = BufWriter::with_capacity(1 << 20, File::create_new(path).unwrap());
    values.iter().for_each(|value| file.write_all(value).unwrap());
    file.flush().unwrap();
}

fn spill(values: &[Bytes], home: &Path) -> Run {
    settle(home, COUNT * LEN);
    let map = disk(TARGET, home);
    let fast = (map.target() / LEN as u64) as usize;
    for (n, value) in values[..fast].iter().enumerate() {
        map.insert(n as u64, value.clone()).unwrap();
    }
    timed(|| {
        for (n, value) in values[fast..fast + COUNT].iter().enumerate() {
            map.insert((fast + n) as u64, value.clone()).unwrap();
        }
    })
}

fn append(values: &[Bytes], home: &Path) -> Run {
    settle(home, COUNT * LEN);
    let path = home.join("append");
    let run = timed(|| append_all(&values[..COUNT], &path));
    std::fs::remove_file(path).unwrap();
    run
}

fn fjall(values: &[Bytes], home: &Path) -> Run {
    settle(home, COUNT * LEN);
    let folder = tempfile::tempdir_in(home).unwrap();
    let database = fjall::Database::builder(folder.path()).manual_journal_persist(true).open().unwrap();
    let tree = database.keyspace("values", fjall::KeyspaceCreateOptions::default).unwrap();
    timed(|| {
        for (n, value) in values[..COUNT].iter().enumerate() {
            tree.insert((n as u64).to_be_bytes(), value.as_ref()).unwrap();
        }
    })
}

fn redb(values: &[Bytes], home: &Path) -> Run {
    const TABLE: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("values");
    settle(home, COUNT * LEN);
    let folder = tempfile::tempdir_in(home).unwrap();
    let database = redb::Database::create(folder.path().join("redb")).unwrap();
    let run = timed(|| {
        // a thousand inserts a transaction, which favours it
        for (batch, some) in values[..COUNT].chunks(1000).enumerate() {
            let mut transaction = database.begin_write().unwrap();
            transaction.set_durability(redb::Durability::None).unwrap();
            {
                let mut table = transaction.open_table(TABLE).unwrap();
                for (n, value) in some.iter().enumerate() {
                    table.insert((batch * 1000 + n) as u64, value.as_ref()).unwrap();
                }
            }
            transaction.commit().unwrap();
        }
    });
    assert!(database.begin_read().is_ok());
    run
}
