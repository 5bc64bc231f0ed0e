//! A backend: a table of SQLite that holds frames. `docs/backends.md` goes through it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use overspill::{Error, ErrorKind, Frames, MutableMapping, Result, SpilledSize, Usage};
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

/// Frames by name in one file, which outlives the program. Safe to be killed at any time; a value accepted
/// just before the power fails may be lost.
pub(crate) struct SqliteTable {
    path: PathBuf,
    /// `None` once closed. Held while SQLite works.
    database: Mutex<Option<Connection>>,
    /// What the table holds. Held for a moment only, never while SQLite works, so that what is answered from
    /// it waits for no disk. It changes while `database` is held, once SQLite has agreed.
    index: Mutex<Index>,
}

/// The keys with the sizes of their values, and the sum of those.
#[derive(Default)]
struct Index {
    sizes: BTreeMap<String, SpilledSize>,
    sum: SpilledSize,
}

impl Index {
    fn insert(&mut self, key: String, size: SpilledSize) {
        self.sum += size;
        self.sum -= self.sizes.insert(key, size).unwrap_or_default();
    }
    fn remove(&mut self, key: &str) {
        self.sum -= self.sizes.remove(key).unwrap_or_default();
    }
}

impl SqliteTable {
    /// Opens the file, or makes it, and learns which keys it holds.
    ///
    /// # Errors
    /// [`Backend`](ErrorKind::Backend) with what SQLite says.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let open = || {
            let database = Connection::open(path)?;
            database.pragma_update(None, "journal_mode", "wal")?;
            database.pragma_update(None, "synchronous", "normal")?;
            database.execute_batch(
                "CREATE TABLE IF NOT EXISTS frames (key TEXT PRIMARY KEY, weight INTEGER NOT NULL,
                 lengths BLOB NOT NULL, content BLOB NOT NULL)",
            )?;
            let mut index = Index::default();
            let mut select =
                database.prepare("SELECT key, weight, length(lengths) + length(content) FROM frames")?;
            let mut rows = select.query(())?;
            while let Some(row) = rows.next()? {
                index.insert(row.get(0)?, size(row.get(1)?, row.get(2)?));
            }
            drop(rows);
            drop(select);
            Ok((database, index))
        };
        let (database, index) = open().map_err(|error| failed(path, &error))?;
        Ok(SqliteTable {
            path: path.to_owned(),
            database: Mutex::new(Some(database)),
            index: Mutex::new(index),
        })
    }

    /// Runs `work` on the open database.
    fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let database = self.database.lock();
        let Some(database) = &*database else {
            return Err(ErrorKind::Closed { what: "the SQLite table" }.into());
        };
        work(database).map_err(|error| failed(&self.path, &error))
    }

    fn read(&self, database: &Connection, key: &str) -> rusqlite::Result<Option<Result<Frames>>> {
        let mut select =
            database.prepare_cached("SELECT weight, lengths, content FROM frames WHERE key = ?")?;
        select.query_row([key], |row| self.frames(key, row)).optional()
    }

    fn delete(&self, database: &Connection, key: &str) -> rusqlite::Result<bool> {
        let deleted = database.prepare_cached("DELETE FROM frames WHERE key = ?")?.execute([key])?;
        self.index.lock().remove(key);
        Ok(deleted > 0)
    }

    /// What a row holds; the file may have been changed by others, so nothing in it is trusted.
    fn frames(&self, key: &str, row: &Row<'_>) -> rusqlite::Result<Result<Frames>> {
        let (weight, lengths, content): (i64, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let lengths: Vec<usize> = lengths
            .chunks(8)
            .map(|length| length.try_into().map_or(u64::MAX, u64::from_le_bytes))
            .map(|length| usize::try_from(length).unwrap_or(usize::MAX))
            .collect();
        let mut content = Bytes::from(content);
        if lengths.iter().try_fold(0_usize, |sum, length| sum.checked_add(*length)) != Some(content.len()) {
            return Ok(Err(ErrorKind::Corrupt {
                location: format!("{}, key {key:?}", self.path.display()),
                expected: format!("frames of {lengths:?} bytes"),
                found: format!("{} bytes", content.len()),
            }
            .into()));
        }
        let frames: Frames = lengths.into_iter().map(|length| content.split_to(length)).collect();
        Ok(Ok(frames.with_weight(weight.cast_unsigned())))
    }
}

impl MutableMapping<String, Frames> for SqliteTable {
    fn get(&self, key: &String) -> Result<Option<Frames>> {
        self.with(|database| self.read(database, key))?.transpose()
    }
    fn insert(&self, key: String, value: Frames) -> Result<()> {
        let lengths: Vec<u8> = value.iter().flat_map(|frame| (frame.len() as u64).to_le_bytes()).collect();
        let content: Vec<u8> = value.iter().flatten().copied().collect();
        let weight = value.weight().cast_signed();
        self.with(|database| {
            database
                .prepare_cached("REPLACE INTO frames VALUES (?, ?, ?, ?)")?
                .execute(params![key, weight, lengths, content])?;
            self.index.lock().insert(key, size(weight, (lengths.len() + content.len()) as i64));
            Ok(())
        })
    }
    fn remove(&self, key: &String) -> Result<bool> {
        self.with(|database| self.delete(database, key))
    }
    fn take(&self, key: &String) -> Result<Option<Frames>> {
        // One hold of the database for both, and the row is deleted only once its value is known to be good.
        self.with(|database| match self.read(database, key)? {
            Some(Ok(frames)) => self.delete(database, key).map(|_| Some(Ok(frames))),
            unreadable => Ok(unreadable),
        })?
        .transpose()
    }
    fn contains_key(&self, key: &String) -> bool {
        self.index.lock().sizes.contains_key(key)
    }
    fn len(&self) -> usize {
        self.index.lock().sizes.len()
    }
    fn for_each_key(&self, f: &mut dyn FnMut(&String)) {
        let keys: Vec<String> = self.index.lock().sizes.keys().cloned().collect();
        keys.iter().for_each(f);
    }

    // What follows is provided by the trait; this table can say more.

    fn stored_size(&self, key: &String) -> Option<SpilledSize> {
        self.index.lock().sizes.get(key).copied()
    }
    fn usage(&self) -> Usage {
        let index = self.index.lock();
        Usage { count: index.sizes.len(), spilled: index.sum, ..Usage::default() }
    }
    fn close(&self) -> Result<()> {
        let database = self.database.lock().take();
        database.map_or(Ok(()), Connection::close).map_err(|(_, error)| failed(&self.path, &error))
    }
}

/// The sizes of a row: its weight, and the bytes of its frames and their lengths.
fn size(weight: i64, bytes: i64) -> SpilledSize {
    SpilledSize { memory: weight.cast_unsigned(), disk: bytes.cast_unsigned() }
}

/// SQLite's errors in the words of every layer; whether trying again may help is what others act on.
fn failed(path: &Path, error: &rusqlite::Error) -> Error {
    let passes = [ErrorCode::DatabaseBusy, ErrorCode::DatabaseLocked, ErrorCode::DiskFull];
    ErrorKind::Backend {
        name: "sqlite",
        location: path.display().to_string(),
        status: error.to_string(),
        transient: error.sqlite_error_code().is_some_and(|code| passes.contains(&code)),
    }
    .into()
}
