//! Seven kinds of data: three of numbers, noise, and three made of what lies about on the machine of a Rust programmer.

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
    let text = files(&home.join("registry/src"), "rs", len);
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
        kind("SQLite file", Width::One, database(&text, len)),
        kind("source text", Width::One, text),
        kind("JSON lines", Width::One, json_lines(&home.join("registry/index"), len)),
    ]
}

/// What cargo keeps: sources and an index of JSON lines.
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

/// A file of SQLite of at least `len` bytes: a row for each line of `text`, and an index over their lengths. The same for
/// the same text.
fn database(text: &[u8], len: usize) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines.sqlite");
    let mut connection = rusqlite::Connection::open(&path).unwrap();
    let tables = "CREATE TABLE line (number INTEGER PRIMARY KEY, length INTEGER, indent INTEGER, text TEXT);
                  CREATE INDEX by_length ON line (length);";
    connection.execute_batch(tables).unwrap();
    let transaction = connection.transaction().unwrap();
    let mut insert = transaction.prepare("INSERT INTO line VALUES (?1, ?2, ?3, ?4)").unwrap();
    let mut size = transaction
        .prepare("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        .unwrap();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let indent = line.iter().take_while(|byte| **byte == b' ').count();
        insert
            .execute((number as i64, line.len() as i64, indent as i64, String::from_utf8_lossy(line)))
            .unwrap();
        if number % 10_000 == 0 && size.query_one((), |row| row.get::<_, i64>(0)).unwrap() >= len as i64 {
            break;
        }
    }
    drop((insert, size));
    transaction.commit().unwrap();
    drop(connection);
    std::fs::read(path).unwrap()
}

/// As much as is wanted: again and again where there is less. What repeats within the window of a compressor (zstd's is
/// megabytes) then shrinks more than it would by itself: read such a ratio beside others of the same compressor only.
fn repeated(bytes: Vec<u8>, len: usize) -> Vec<u8> {
    assert!(!bytes.is_empty(), "cargo keeps nothing here that could be measured");
    if bytes.len() >= len { bytes } else { bytes.iter().copied().cycle().take(len).collect() }
}
