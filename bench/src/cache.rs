//! Writing with the page cache kept within a limit: our way (`posix_fadvise` begins write-back, and forgets what
//! `sync_file_range` brought to the device) beside the bare calls, direct I/O, and no limit at all. The same bytes, in the
//! same order, on the same file system.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;
use overspill::{Frames, MutableMapping, Segments, SegmentsConfig, Workspace};

use crate::chain::values;
use crate::harness::{Better, Row, Run, Unit, pair, settle, timed};

const LEN: usize = 1 << 20;
const COUNT: usize = 1536;
const LIMIT: u64 = 256 << 20;
/// Bytes that are brought to the device together.
const TOGETHER: u64 = 8 << 20;
/// Of what was written last, what is read: it fits the limit.
const LAST: usize = 128;

pub fn run(rounds: usize) -> Vec<Row> {
    let values = values(COUNT, LEN);
    let home = tempfile::tempdir().unwrap();
    let rounds = rounds.min(5);
    let mut rows = Vec::new();
    let mut compare = |what: &str, peer: &dyn Fn() -> Run| {
        rows.push(pair(
            what,
            Unit::GibPerSecond((COUNT * LEN) as u64),
            None,
            rounds,
            || {
                settle(home.path(), COUNT * LEN);
                let segments = bounded(home.path());
                timed(|| insert(&segments, &values))
            },
            peer,
        ));
    };
    compare("1.5 GiB within 256 MiB of page cache: write, beside sync_file_range", &|| {
        plain(home.path(), &values, Some(sync_file_range))
    });
    compare("the same, beside direct I/O", &|| {
        settle(home.path(), COUNT * LEN);
        let (file, path) = direct(home.path());
        let run = timed(|| write_direct(&file, &values));
        std::fs::remove_file(path).unwrap();
        run
    });
    compare("the same, beside writing without a limit", &|| plain(home.path(), &values, None));

    let segments = bounded(home.path());
    insert(&segments, &values);
    let (file, path) = direct(home.path());
    write_direct(&file, &values);
    rows.push(pair(
        "1 MiB values written last: read, beside direct I/O",
        Unit::GibPerSecond((LAST * LEN) as u64),
        Some((Better::MoreSpeed, 1.0)),
        rounds,
        || {
            timed(|| {
                for key in COUNT - LAST..COUNT {
                    assert_eq!(segments.get(&(key as u64)).unwrap().unwrap().byte_len(), LEN as u64);
                }
            })
        },
        || {
            let mut buffer = Aligned::new();
            timed(|| {
                for n in COUNT - LAST..COUNT {
                    file.read_exact_at(buffer.bytes(), (n * LEN) as u64).unwrap();
                }
            })
        },
    ));
    std::fs::remove_file(path).unwrap();
    rows
}

fn bounded(home: &Path) -> Segments<u64> {
    let workspace = Workspace::open(Some(home)).unwrap();
    Segments::open(SegmentsConfig::new(workspace).page_cache_bytes(LIMIT)).unwrap()
}

fn insert(segments: &Segments<u64>, values: &[Bytes]) {
    for (key, value) in (0..).zip(values) {
        segments.insert(key, Frames::from(value.clone())).unwrap();
    }
}

/// Writes all values to one file. Where there is a `sync`, each range that is complete is begun to be written back, and
/// what is beyond the limit is waited for and forgotten.
fn plain(home: &Path, values: &[Bytes], sync: Option<fn(&File, u64, bool)>) -> Run {
    settle(home, COUNT * LEN);
    let path = home.join("plain");
    let mut file = File::create_new(&path).unwrap();
    let mut ranges = VecDeque::new();
    let run = timed(|| {
        let mut written = 0;
        for value in values {
            file.write_all(value).unwrap();
            written += value.len() as u64;
            let Some(sync) = sync.filter(|_| written.is_multiple_of(TOGETHER)) else { continue };
            let from = written - TOGETHER;
            ranges.push_back(from);
            if ranges.len() as u64 * TOGETHER > LIMIT / 2 {
                sync(&file, from, false);
            }
            while ranges.len() as u64 * TOGETHER > LIMIT
                && let Some(oldest) = ranges.pop_front()
            {
                sync(&file, oldest, true);
                let length = std::num::NonZeroU64::new(TOGETHER);
                rustix::fs::fadvise(&file, oldest, length, rustix::fs::Advice::DontNeed).unwrap();
            }
        }
    });
    std::fs::remove_file(path).unwrap();
    run
}

/// Begins to write a range back, and waits for the end of that if asked to.
fn sync_file_range(file: &File, from: u64, wait: bool) {
    use std::os::fd::AsRawFd;
    let waiting = libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let flags = libc::SYNC_FILE_RANGE_WRITE | if wait { waiting } else { 0 };
    // SAFETY: the descriptor is open, and the call touches no memory of ours.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), from as i64, TOGETHER as i64, flags) };
    assert_eq!(result, 0, "sync_file_range: {}", std::io::Error::last_os_error());
}

fn direct(home: &Path) -> (File, std::path::PathBuf) {
    let path = home.join("direct");
    let options =
        OpenOptions::new().read(true).write(true).create_new(true).custom_flags(libc::O_DIRECT).open(&path);
    (options.unwrap(), path)
}

/// Direct I/O takes only aligned memory, so each value is copied, as it would have to be.
fn write_direct(file: &File, values: &[Bytes]) {
    let mut buffer = Aligned::new();
    for (n, value) in values.iter().enumerate() {
        buffer.bytes().copy_from_slice(value);
        file.write_all_at(buffer.bytes(), (n * LEN) as u64).unwrap();
    }
}

/// Memory for one value that begins at a multiple of a page.
struct Aligned {
    memory: Vec<u8>,
    from: usize,
}

impl Aligned {
    const PAGE: usize = 4096;

    fn new() -> Self {
        let memory = vec![0; LEN + Self::PAGE];
        let from = memory.as_ptr().align_offset(Self::PAGE);
        Aligned { memory, from }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.from..self.from + LEN]
    }
}
