//! Ten million values of 100 bytes come in, are churned and go. Prints the most memory that the process took, in MiB,
//! and the seconds of each part.

use std::time::Instant;

use bytes::Bytes;
use overspill::{MutableMapping, presets};

const COUNT: u64 = 10_000_000;

fn main() {
    let home = tempfile::tempdir().unwrap();
    let map = presets::disk::<u64, Bytes>(64 << 20, Some(home.path())).unwrap();
    let value = |n: u64| Bytes::from(vec![n as u8; 100]);
    let mut random = fastrand::Rng::with_seed(1);
    let mut seconds = Vec::new();
    let mut timed = |part: &mut dyn FnMut()| {
        let start = Instant::now();
        part();
        seconds.push(format!("{:.0}", start.elapsed().as_secs_f64()));
    };
    timed(&mut || (0..COUNT).for_each(|key| map.insert(key, value(key)).unwrap()));
    timed(&mut || {
        for n in 0..COUNT {
            let key = random.u64(..COUNT);
            match n % 4 {
                0 => assert!(map.remove(&key).is_ok()),
                1 => drop(map.get(&key).unwrap()),
                _ => map.insert(key, value(n)).unwrap(),
            }
        }
    });
    assert!(map.len() as u64 > COUNT * 8 / 10);
    timed(&mut || map.close().unwrap());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{}\t{}", kib >> 10, seconds.join(" + "));
}
