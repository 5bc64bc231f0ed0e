//! The backend of the example `task_cache`: what the suite asks of every mapping, and what is its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use overspill::conformance::contract::{self, Trial};
use overspill::conformance::{Ready, SampleValue};
use overspill::{BufferBuilder, ErrorKind, Frames, MappingExt, MutableMapping};
use rusqlite::Connection;
use sqlite::SqliteTable;
use tempfile::TempDir;

#[path = "../examples/task_cache/sqlite.rs"]
mod sqlite;

/// Makes tables, each in a file of its own.
struct Folder {
    folder: TempDir,
    made: AtomicU32,
}

impl Folder {
    fn new() -> Self {
        Folder { folder: TempDir::new().unwrap(), made: AtomicU32::new(0) }
    }
    fn file(&self) -> PathBuf {
        self.folder.path().join(format!("{}.db", self.made.fetch_add(1, Ordering::Relaxed)))
    }
    fn table(&self) -> SqliteTable {
        SqliteTable::open(&self.file()).unwrap()
    }
}

#[test]
fn it_keeps_every_promise_of_a_mapping() {
    let folder = Folder::new();
    contract::check_all(|| folder.table(), &Ready);
}

#[test]
fn it_keeps_them_below_a_buffer() {
    let folder = Folder::new();
    let buffer = || BufferBuilder::<String, Frames>::new().target(4 << 10).over(folder.table()).unwrap();
    contract::check_all(buffer, &Ready);
}

#[test]
fn failed_calls_change_nothing() {
    let folder = Folder::new();
    let file = folder.file();
    let table = SqliteTable::open(&file).unwrap();
    // Somebody else's trigger makes SQLite refuse every write.
    let other = Connection::open(&file).unwrap();
    let set_failing = |failing: bool| {
        for change in ["INSERT", "DELETE"] {
            let trigger = format!(
                "CREATE TRIGGER IF NOT EXISTS no_{change} BEFORE {change} ON frames \
                 BEGIN SELECT RAISE(ABORT, 'refused'); END"
            );
            let heal = format!("DROP TRIGGER IF EXISTS no_{change}");
            other.execute_batch(if failing { &trigger } else { &heal }).unwrap();
        }
    };
    contract::failed_calls_change_nothing(&Trial::new(&table, &Ready), &set_failing);
}

#[test]
fn a_new_run_finds_what_the_last_one_left() {
    let folder = Folder::new();
    let file = folder.file();
    let table = SqliteTable::open(&file).unwrap();
    let value = Frames::sample(3).with_weight(1 << 40);
    table.insert("kept".to_owned(), value.clone()).unwrap();
    table.insert("gone".to_owned(), value.clone()).unwrap();
    table.remove(&"gone".to_owned()).unwrap();
    let sizes = (table.stored_size(&"kept".to_owned()), table.usage());
    drop(table); // not closed: as a process that was killed

    let table = SqliteTable::open(&file).unwrap();
    assert_eq!(table.keys(), ["kept"]);
    assert_eq!((table.stored_size(&"kept".to_owned()), table.usage()), sizes);
    assert!(table.get(&"kept".to_owned()).unwrap().unwrap().same(&value));
}

#[test]
fn a_row_that_others_damaged_is_an_error_and_stays() {
    let folder = Folder::new();
    let file = folder.file();
    let table = SqliteTable::open(&file).unwrap();
    let key = "key".to_owned();
    let other = Connection::open(&file).unwrap();
    for damage in ["content = x'00'", "lengths = x'0000'", "lengths = x'ffffffffffffffffffffffffffffffff'"] {
        table.insert(key.clone(), Bytes::from_static(b"content").into()).unwrap();
        other.execute(&format!("UPDATE frames SET {damage}"), ()).unwrap();
        for result in [table.get(&key), table.take(&key)] {
            let error = result.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
        }
        assert!(table.contains_key(&key), "after {damage}");
    }
    assert!(table.remove(&key).unwrap(), "removing reads no value");
}

#[test]
fn a_file_that_is_no_database_is_an_error_that_names_it() {
    let folder = Folder::new();
    let file = folder.file();
    std::fs::write(&file, "this is a text, and no database at all. ".repeat(100)).unwrap();
    let error = SqliteTable::open(&file).err().unwrap();
    assert!(error.to_string().contains("0.db") && !error.is_transient(), "{error}");
}
