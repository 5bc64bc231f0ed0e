//! How far beyond its limit a program gets before something holds it back, beside looking at fixed intervals.
//!
//! Each run is a process of its own, this program under another argument (`process.rs`): one that inserts values as fast
//! as asked, and one that takes memory beside the mapping until somebody ends it. Ours are admission at `insert` and the
//! nanny; the peers look every 200 ms (the page's figure) or every 100 ms (what Dask ships).

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use overspill::presets::Preset;
use overspill::worker::nanny::{GuardProgram, Nanny, run_guard};
use overspill::worker::{Data, MemoryLimit, Settings, SystemMemory, Worker};
use overspill::{ManualEvict, MutableMapping, Raw};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Better, Row};
use crate::process::{PROCESS, number, this, warm_up};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Memory that is taken at a time, of which the allocator keeps a page.
const STEP: u64 = 256 << 10;

/// A process of a run.
pub fn run_process(kind: &str, args: &[OsString]) {
    match kind {
        "guard" => guard(args),
        "insert" => insert(number(&args[0]), number(&args[1]), number(&args[2]), args[3] == "ours"),
        "take" => take(number(&args[0]), Path::new(&args[1])),
        other => panic!("no process {other:?}"),
    }
}

/// `--directory DIR ... -- COMMAND`.
fn guard(args: &[OsString]) {
    let end = args.iter().position(|arg| arg == "--").unwrap();
    let directories: Vec<PathBuf> = args[..end].iter().skip(1).step_by(2).map(PathBuf::from).collect();
    run_guard(&directories, &args[end + 1..]).unwrap();
}

/// Waits without giving up the processor, which would make the pace uneven.
struct Pace(Instant, u64);

impl Pace {
    fn keep(&self, done: u64) {
        let due = Duration::from_secs_f64(done as f64 / self.1 as f64);
        while self.0.elapsed() < due {
            std::hint::spin_loop();
        }
    }
}

fn resident(pid: &str) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    Some(statm.split(' ').nth(1)?.parse::<u64>().ok()? * rustix::param::page_size() as u64)
}

fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

fn settings(limit: u64) -> Settings {
    let system = SystemMemory::read().unwrap();
    Settings { memory_limit: MemoryLimit::from_bytes(limit, &system).unwrap(), ..Settings::default() }
}

/// Inserts `total` bytes of 1 MiB values at `rate`, and prints the peak of this process.
fn insert(limit: u64, total: u64, rate: u64, ours: bool) {
    let target = if ours { limit * 6 / 10 } else { u64::MAX };
    let map = Arc::new(Preset::<u64, Bytes>::new(target).writers(usize::from(ours)).disk(Raw).unwrap());
    let worker =
        ours.then(|| Worker::builder(settings(limit)).data(Data::evictable(&map)).unwrap().start().unwrap());
    let run = || {
        let pace = Pace(Instant::now(), rate);
        for key in 0..total / MIB {
            map.insert(key, Bytes::from(vec![key as u8; MIB as usize])).unwrap();
            pace.keep((key + 1) * MIB);
        }
    };
    if ours {
        run();
    } else {
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(200));
                    let above = |share: u64| resident("self").unwrap() > limit / 100 * share;
                    if above(70) {
                        while above(60) && map.evict() >= 0 {}
                    }
                }
            });
            run();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
    println!("{}", peak());
    drop(worker);
}

/// Takes memory at `rate` until it is ended, and notes in a file how much this process has.
fn take(rate: u64, progress: &Path) {
    let file = File::create(progress).unwrap();
    let before = resident("self").unwrap();
    let (pace, mut taken) = (Pace(Instant::now(), rate), Vec::new());
    loop {
        taken.push(vec![1_u8; STEP as usize - 4096]);
        let done = taken.len() as u64 * STEP;
        file.write_all_at(&(before + done).to_ne_bytes(), 0).unwrap();
        pace.keep(done);
        assert!(done < 8 * GIB, "nobody ends it");
    }
}

fn inserted(limit: u64, ours: bool) -> f64 {
    warm_up(2 * limit);
    let sizes = [limit, 4 * limit, GIB].map(|n| n.to_string());
    let output = this("insert").args(sizes).arg(if ours { "ours" } else { "peer" }).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse::<f64>().unwrap()
}

/// The worker's command: it ignores SIGTERM, as one does that is busy.
fn taking(rate: u64, progress: &Path) -> Vec<OsString> {
    let program = std::env::current_exe().unwrap();
    let words = ["/bin/sh", "-c", "trap '' TERM; exec \"$0\" \"$@\""].map(OsString::from);
    let own = [program.into(), PROCESS.into(), "take".into(), rate.to_string().into(), progress.into()];
    words.into_iter().chain(own).collect()
}

fn noted(progress: &Path) -> f64 {
    let bytes = fs::read(progress).unwrap();
    u64::from_ne_bytes(bytes.try_into().unwrap()) as f64
}

fn under_nanny(limit: u64, rate: u64, folder: &Path) -> f64 {
    warm_up(2 * limit);
    let progress = folder.join("ours");
    let guard = GuardProgram {
        program: std::env::current_exe().unwrap(),
        arguments: vec![PROCESS.into(), "guard".into()],
    };
    let settings = Settings { local_directories: vec![folder.to_owned()], ..settings(limit) };
    let nanny = Nanny::builder(guard, settings, taking(rate, &progress)).once(true).start().unwrap();
    assert_eq!(nanny.wait(), 128 + 9);
    noted(&progress)
}

/// As Dask's nanny: a look at fixed intervals; above 95% SIGTERM at the first, SIGKILL at the next.
fn at_intervals(limit: u64, rate: u64, folder: &Path, interval: Duration) -> f64 {
    warm_up(2 * limit);
    let progress = folder.join("peer");
    let command = taking(rate, &progress);
    let mut child = Command::new(&command[0]).args(&command[1..]).stdin(Stdio::null()).spawn().unwrap();
    let mut asked = false;
    loop {
        std::thread::sleep(interval);
        let Some(memory) = resident(&child.id().to_string()) else { break };
        if memory > limit / 100 * 95 {
            signal(&child, if asked { Signal::KILL } else { Signal::TERM });
            if asked {
                break;
            }
            asked = true;
        }
    }
    child.wait().unwrap();
    noted(&progress)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
}

/// Ours and a peer in turn; figures are peaks as a share of the limit.
fn row(
    what: String,
    limit: u64,
    goal: Option<f64>,
    rounds: usize,
    ours: impl Fn() -> f64,
    peer: impl Fn() -> f64,
) -> Row {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        a.push(ours() / limit as f64);
        b.push(peer() / limit as f64);
        eprintln!("  {what}: round {}: ours {:.3} of the limit, peer {:.3}", round + 1, a[round], b[round]);
    }
    let spread = a.iter().fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
    let over = |shares: &[f64]| {
        let most = shares.iter().copied().fold(f64::MIN, f64::max);
        format!("{:+.0} MiB", (most - 1.0) * limit as f64 / MIB as f64)
    };
    // The worst round counts: a limit that holds mostly is none.
    Row {
        what,
        ours: over(&a),
        peer: over(&b),
        ratio: spread.1,
        spread,
        goal: goal.map(|goal| (Better::LessTime, goal)),
        note: "peaks beyond the limit, the worst round; the ratio is ours to the limit".to_owned(),
    }
}

pub fn run(rounds: usize) -> Vec<Row> {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = Vec::new();
    for limit in [512 * MIB, GIB] {
        let goal = 1.0 + 64.0 * MIB as f64 / limit as f64;
        let what = format!("values at 1 GiB/s, limit {} MiB; peer evicts every 200 ms", limit / MIB);
        rows.push(row(what, limit, Some(goal), rounds, || inserted(limit, true), || inserted(limit, false)));
    }
    for (limit, goal) in [(200 * MIB, None), (500 * MIB, Some(1.1)), (GIB, Some(1.1))] {
        for millis in [200, 100] {
            let what =
                format!("unmanaged at 2 GiB/s, limit {} MiB; peer looks every {millis} ms", limit / MIB);
            let ours = || under_nanny(limit, 2 * GIB, folder.path());
            let peer = || at_intervals(limit, 2 * GIB, folder.path(), Duration::from_millis(millis));
            rows.push(row(what, limit, goal, rounds, ours, peer));
        }
    }
    rows
}
