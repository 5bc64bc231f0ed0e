//! Half reads and half writes of 4 KiB values, five times as many as fast memory holds, beside embedded databases and
//! a hybrid cache with as much memory.

use std::path::Path;

use bytes::Bytes;

use crate::chain::{disk, values};
use crate::harness::{Better, Row, Run, Unit, pair, settle, timed};
use crate::peers::{Fjall, Foyer, Redb, Store};

const LEN: usize = 4096;
const MEMORY: usize = 64 << 20;
const KEYS: u64 = 80_000;
const OPERATIONS: u64 = 100_000;

pub fn run(rounds: usize) -> Vec<Row> {
    let values = values(4096, LEN);
    let home = tempfile::tempdir().unwrap();
    let unit = Unit::ThousandsPerSecond(OPERATIONS);
    let rounds = rounds.min(3);
    let ours = || mixed(home.path(), &values, |folder| disk(MEMORY as u64, folder)).0;
    let goal = Some((Better::MoreSpeed, 3.0));
    let beside_redb = pair("4 KiB, half reads half writes, beside redb", unit, goal, rounds, ours, || {
        mixed(home.path(), &values, |folder| Redb::open(folder, MEMORY)).0
    });
    let beside_fjall = pair("4 KiB, half reads half writes, beside fjall", unit, goal, rounds, ours, || {
        mixed(home.path(), &values, |folder| Fjall::open(folder, MEMORY as u64)).0
    });
    let mut lost = 0;
    let mut beside_foyer =
        pair("4 KiB, half reads half writes, beside foyer", unit, None, rounds, ours, || {
            let (run, missing) = mixed(home.path(), &values, |folder| Foyer::open(folder, MEMORY, 2 << 30));
            lost = missing;
            run
        });
    beside_foyer.note = format!(
        "foyer had lost {:.0}% of what was read; {}",
        100.0 * lost as f64 / (OPERATIONS / 2) as f64,
        beside_foyer.note
    );
    vec![beside_redb, beside_fjall, beside_foyer]
}

/// Fills a store, then times the mix. Tells how many reads found nothing.
fn mixed<S: Store>(home: &Path, values: &[Bytes], open: impl Fn(&Path) -> S) -> (Run, u64) {
    settle(home, KEYS as usize * LEN);
    let folder = tempfile::tempdir_in(home).unwrap();
    let store = open(folder.path());
    for key in 0..KEYS {
        store.insert(key, &values[key as usize % values.len()]);
    }
    let mut random = fastrand::Rng::with_seed(3);
    let mut lost = 0;
    let run = timed(|| {
        for n in 0..OPERATIONS {
            let key = random.u64(..KEYS);
            if n % 2 == 0 {
                store.insert(key, &values[(key + n) as usize % values.len()]);
            } else {
                match store.read(key) {
                    Some(length) => assert_eq!(length, LEN),
                    None => lost += 1,
                }
            }
        }
    });
    (run, lost)
}
