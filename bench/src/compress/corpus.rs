//! Seven kinds of data: three of numbers, noise, and three that lie about on the machine of a Rust programmer.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use overspill::Width;

/// Bytes of a value.
pub const VALUE: usize = 1 << 20;

/// One kind of data, in values of [`VALUE`] bytes.
pub struct Data {
    pub name: &'static str,
    /// What its items are, as a peer that cannot tell must be told.
    pub width: Width,
    pub values: Vec<Bytes>,
}

/// All kinds, `len` bytes of each.
pub fn all(len: usize) -> Vec<Data> {
    let mut random = fastrand::Rng::with_seed(11);
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
    let ramp: Vec<u8> = (0..len / 8).flat_map(|n| (n as f64 * 0.1).to_le_bytes()).collect();
    let sensor: Vec<u8> = (0..len / 4)
        .flat_map(|n| {
            let drift = 20.0 + 5.0 * (n as f32 / 5000.0).sin();
            (drift + 0.05 * (random.f32() - 0.5)).to_le_bytes()
        })
        .collect();
    let mut id = 1 << 40;
    let ids: Vec<u8> = (0..len / 8)
        .flat_map(|_| {
            id += random.u64(1..50);
            id.to_le_bytes()
        })
        .collect();
    let home = cargo_home();
    let kind = |name, width, bytes: Vec<u8>| {
        let bytes = Bytes::from(repeated(bytes, len));
        let values = (0..len / VALUE).map(|n| bytes.slice(n * VALUE..(n + 1) * VALUE)).collect();
        Data { name, width, values }
    };
    vec![
        kind("random bytes", Width::One, noise),
        kind("float64 ramp", Width::Eight, ramp),
        kind("float32 sensor", Width::Four, sensor),
        kind("sorted int64 ids", Width::Eight, ids),
        kind("source text", Width::One, files(&home.join("registry/src"), "rs", len)),
        kind("SQLite file", Width::One, file(&home.join(".global-cache"))),
        kind("JSON lines", Width::One, json_lines(&home.join("registry/index"), len)),
    ]
}

/// What cargo keeps: sources, an index of JSON lines, and a database of SQLite.
fn cargo_home() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).expect("a home directory")
}

/// The files below `folder` whose name ends so, one after the other, until they are `len` bytes.
fn files(folder: &Path, extension: &str, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let listed =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut entries: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else if extension.is_empty() || path.extension().is_some_and(|found| found == extension) {
                bytes.extend(std::fs::read(path).unwrap());
                if bytes.len() >= len {
                    return bytes;
                }
            }
        }
    }
    bytes
}

/// Lines of cargo's index, one for each version of a crate. Its cache puts a version and a zero before each.
fn json_lines(folder: &Path, len: usize) -> Vec<u8> {
    let cache = files(folder, "", 2 * len);
    let mut lines: Vec<u8> = Vec::with_capacity(len);
    for line in cache.split(|byte| *byte == 0).filter(|line| line.starts_with(b"{")) {
        lines.extend(line);
        lines.push(b'\n');
    }
    lines
}

fn file(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// As much as is wanted: again and again where there is less. What repeats within the window of a compressor (zstd's is
/// megabytes) then shrinks more than it would by itself: read such a ratio beside others of the same compressor only.
fn repeated(bytes: Vec<u8>, len: usize) -> Vec<u8> {
    assert!(!bytes.is_empty(), "cargo keeps nothing here that could be measured");
    if bytes.len() >= len { bytes } else { bytes.iter().copied().cycle().take(len).collect() }
}
