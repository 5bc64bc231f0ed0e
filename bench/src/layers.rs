//! What a layer adds to a hit, beside the bare mapping below it.

use std::sync::Arc;

use bytes::Bytes;
use overspill::{
    AsyncBuffer, AsyncMutableMapping, Buffer, BufferBuilder, Compose, Compress, Frames, Lru, MutableMapping,
    NoCompression, Raw,
};

use crate::harness::{Row, Run, difference, timed};

const HITS: u64 = 2_000_000;
const KEYS: u64 = 1_000;

/// What a layer may add, and what a task's buffer may, in nanoseconds.
const LAYER: f64 = 15.0;
const ASYNC: f64 = 30.0;

pub fn run(rounds: usize) -> Vec<Row> {
    let bare = bare();
    let dynamic: Arc<dyn MutableMapping<u64, Frames>> = Arc::new(self::bare());
    let func = self::bare().coded::<Bytes, _>(Raw);
    let plain = Compress::new(NoCompression, self::bare());
    let keyed = self::bare().keyed(|key: &u32| u64::from(*key), |key: &u64| Ok(*key as u32)).unwrap();
    for key in 0..KEYS {
        // through the layer, whose stored form is its own
        plain.insert(key, value(key)).unwrap();
    }
    let mut rows = Vec::new();
    let mut compare = |name: &str, layer: &dyn Fn() -> Run| {
        rows.push(difference(name, HITS, LAYER, rounds, layer, || {
            hits(|key| bare.get(&key).unwrap().unwrap())
        }));
    };
    compare("a hit through Func(Raw)", &|| hits(|key| func.get(&key).unwrap().unwrap()));
    compare("a hit through Compress(none)", &|| hits(|key| plain.get(&key).unwrap().unwrap()));
    compare("a hit through KeyMap", &|| hits(|key| keyed.get(&(key as u32)).unwrap().unwrap()));
    compare("a hit through dyn", &|| hits(|key| dynamic.get(&key).unwrap().unwrap()));
    rows.push(asynchronous(rounds));
    rows
}

/// A hit awaited in a task, beside the same buffer asked by a thread.
fn asynchronous(rounds: usize) -> Row {
    let storage: Lru<u64, Frames> = BufferBuilder::new().alone().unwrap();
    let buffer: Buffer<u64, Frames, _> = BufferBuilder::new().target(1 << 30).over(storage).unwrap();
    (0..KEYS).for_each(|key| buffer.insert(key, value(key)).unwrap());
    let buffer = Arc::new(buffer);
    let tasks = AsyncBuffer::new(Arc::clone(&buffer), 1).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    difference(
        "a hit awaited from AsyncBuffer",
        HITS,
        ASYNC,
        rounds,
        || {
            timed(|| {
                runtime.block_on(async {
                    for n in 0..HITS {
                        std::hint::black_box(tasks.get(&key(n)).await.unwrap().unwrap());
                    }
                });
            })
        },
        || hits(|key| buffer.get(&key).unwrap().unwrap()),
    )
}

fn bare() -> Lru<u64, Frames> {
    let bare = BufferBuilder::new().alone().unwrap();
    (0..KEYS).for_each(|key| bare.insert(key, value(key)).unwrap());
    bare
}

fn value(key: u64) -> Frames {
    Bytes::from(vec![key as u8; 64]).into()
}

/// The key of the `n`th hit: all in turn, far apart.
fn key(n: u64) -> u64 {
    n * 389 % KEYS
}

fn hits<R>(get: impl Fn(u64) -> R) -> Run {
    timed(|| (0..HITS).for_each(|n| drop(std::hint::black_box(get(key(n))))))
}
