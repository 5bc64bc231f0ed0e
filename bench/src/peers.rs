//! Peers that keep values on disk, behind one small trait: databases and a cache as their documentation sets them up for
//! speed, and the least that spilling can be.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;
use overspill::MutableMapping;
use overspill::presets::Disk;
use parking_lot::Mutex;
use redb::ReadableDatabase as _;

/// Something that keeps values by number.
pub trait Store: Send + Sync {
    fn insert(&self, key: u64, value: &Bytes);
    /// The length of the value, or `None` when it was lost.
    fn read(&self, key: u64) -> Option<usize>;
}

impl Store for Disk<u64, Bytes> {
    fn insert(&self, key: u64, value: &Bytes) {
        MutableMapping::insert(self, key, value.clone()).unwrap();
    }
    fn read(&self, key: u64) -> Option<usize> {
        self.get(&key).unwrap().map(|value| value.len())
    }
}

/// The `lru` crate behind a mutex. What it evicts goes, without that lock, to a file of `bytes` that is written over again
/// and again, and is not read back: no less can be done by who spills.
pub struct Locked {
    cache: Mutex<LruCache<u64, Bytes>>,
    evicted: Mutex<(BufWriter<File>, u64)>,
    bytes: u64,
}

impl Locked {
    pub fn open(folder: &Path, values: usize, bytes: u64) -> Self {
        let file = File::create_new(folder.join("evicted")).unwrap();
        Locked {
            cache: Mutex::new(LruCache::new(NonZeroUsize::new(values).unwrap())),
            evicted: Mutex::new((BufWriter::with_capacity(1 << 20, file), 0)),
            bytes,
        }
    }
}

impl Store for Locked {
    fn insert(&self, key: u64, value: &Bytes) {
        let evicted = self.cache.lock().push(key, value.clone());
        if let Some((_, value)) = evicted.filter(|(other, _)| *other != key) {
            let (file, at) = &mut *self.evicted.lock();
            file.write_all(&value).unwrap();
            *at += value.len() as u64;
            if *at >= self.bytes {
                file.rewind().unwrap();
                *at = 0;
            }
        }
    }
    fn read(&self, key: u64) -> Option<usize> {
        let value = self.cache.lock().get(&key).cloned();
        value.map(|value| value.len())
    }
}

const TABLE: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("values");

/// Without durability. Inserts are committed by the hundred, which favours it.
pub struct Redb {
    database: redb::Database,
    pending: Mutex<Vec<(u64, Bytes)>>,
}

impl Redb {
    pub fn open(folder: &Path, cache: usize) -> Self {
        let database = redb::Builder::new().set_cache_size(cache).create(folder.join("redb")).unwrap();
        let store = Redb { database, pending: Mutex::default() };
        store.commit(&mut vec![(u64::MAX, Bytes::new())]);
        store
    }

    fn commit(&self, pending: &mut Vec<(u64, Bytes)>) {
        let mut transaction = self.database.begin_write().unwrap();
        transaction.set_durability(redb::Durability::None).unwrap();
        {
            let mut table = transaction.open_table(TABLE).unwrap();
            for (key, value) in pending.drain(..) {
                table.insert(key, value.as_ref()).unwrap();
            }
        }
        transaction.commit().unwrap();
    }
}

impl Store for Redb {
    fn insert(&self, key: u64, value: &Bytes) {
        let mut pending = self.pending.lock();
        pending.push((key, value.clone()));
        if pending.len() == 100 {
            self.commit(&mut pending);
        }
    }
    fn read(&self, key: u64) -> Option<usize> {
        let table = self.database.begin_read().unwrap().open_table(TABLE).unwrap();
        let found = table.get(key).unwrap().map(|value| value.value().to_vec());
        found.map(|value| value.len()).or_else(|| {
            let pending = self.pending.lock();
            pending.iter().rev().find(|(other, _)| *other == key).map(|(_, value)| value.len())
        })
    }
}

/// Without fsync.
pub struct Fjall {
    _database: fjall::Database,
    tree: fjall::Keyspace,
}

impl Fjall {
    pub fn open(folder: &Path, cache: u64) -> Self {
        let builder = fjall::Database::builder(folder).cache_size(cache);
        let database = builder.manual_journal_persist(true).open().unwrap();
        let tree = database.keyspace("values", fjall::KeyspaceCreateOptions::default).unwrap();
        Fjall { _database: database, tree }
    }
}

impl Store for Fjall {
    fn insert(&self, key: u64, value: &Bytes) {
        self.tree.insert(key.to_be_bytes(), value.as_ref()).unwrap();
    }
    fn read(&self, key: u64) -> Option<usize> {
        self.tree.get(key.to_be_bytes()).unwrap().map(|value| value.to_vec().len())
    }
}

/// A hybrid cache, which may drop what it was given.
pub struct Foyer {
    cache: foyer::HybridCache<u64, Vec<u8>>,
    runtime: tokio::runtime::Runtime,
}

impl Foyer {
    pub fn open(folder: &Path, memory: usize, disk: usize) -> Self {
        use foyer::DeviceBuilder as _;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let device: Arc<dyn foyer::Device> =
            foyer::FsDeviceBuilder::new(folder).with_capacity(disk).build().unwrap();
        let cache = runtime.block_on(async {
            let built = foyer::HybridCacheBuilder::new()
                .with_policy(foyer::HybridCachePolicy::WriteOnEviction)
                .memory(memory)
                .with_weighter(|_, value: &Vec<u8>| value.len())
                .storage()
                .with_engine_config(foyer::BlockEngineConfig::new(device));
            built.build().await.unwrap()
        });
        Foyer { cache, runtime }
    }
}

impl Store for Foyer {
    fn insert(&self, key: u64, value: &Bytes) {
        let _context = self.runtime.enter();
        self.cache.insert(key, value.to_vec());
    }
    fn read(&self, key: u64) -> Option<usize> {
        let found = self.runtime.block_on(async { self.cache.get(&key).await.unwrap() });
        found.map(|entry| entry.value().len())
    }
}
