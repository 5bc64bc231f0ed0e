//! The peer that reads into fresh vectors and keeps them, as a program of its own: in one that freed memory before, as this
//! one does with each peer and each round, a new vector gets what others left behind.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Run, timed};
use crate::process::{number, this, warm_up};

/// In which order records are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Written,
    Random,
}

impl Order {
    /// The numbers of so many records.
    pub fn of(self, count: usize) -> Vec<u64> {
        let mut order: Vec<u64> = (0..count as u64).collect();
        if self == Order::Random {
            fastrand::Rng::with_seed(11).shuffle(&mut order);
        }
        order
    }
}

/// Reads all of the `count` records of `len` bytes in a file into fresh vectors that are kept.
pub fn pread_fresh(path: &Path, len: usize, count: usize, order: Order) -> Run {
    warm_up((len * count) as u64);
    let numbers = [len, count, usize::from(order == Order::Random)].map(|n| n.to_string());
    let output = this("fresh").arg(path).args(numbers).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut nanos = text.split_whitespace().map(|n| Duration::from_nanos(n.parse().unwrap()));
    Run { wall: nanos.next().unwrap(), cpu: nanos.next().unwrap() }
}

/// The peer: prints the nanoseconds it took, by the wall and of the processor.
pub fn read(args: &[OsString]) {
    let file = File::open(&args[0]).unwrap();
    let [len, count, random] = [1, 2, 3].map(|n: usize| number(&args[n]) as usize);
    let order = if random == 1 { Order::Random } else { Order::Written }.of(count);
    let mut kept = Vec::with_capacity(count);
    let run = timed(|| {
        for n in order {
            let mut fresh = vec![0; len];
            file.read_exact_at(&mut fresh, n * len as u64).unwrap();
            kept.push(fresh);
        }
    });
    println!("{} {}", run.wall.as_nanos(), run.cpu.as_nanos());
}
