//! An S3 server 20 ms away, beside the plain client of `object_store` with as many requests in flight.

#[path = "../../../examples/tiers/server.rs"]
mod server;

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use overspill::object::object_store::aws::{AmazonS3, AmazonS3Builder};
use overspill::object::object_store::path::Path;
use overspill::object::object_store::{ObjectStoreExt, PutPayload};
use overspill::object::{Objects, ObjectsConfig, Requests, Store};
use overspill::{AsyncMutableMapping, Frames};
use tokio::runtime::{Builder, Runtime};

use crate::chain::values;
use crate::harness::{Better, Row, Run, Unit, pair, settle, timed};
use server::Server;

/// Requests in flight at once, of either.
const WIDTH: usize = 16;

/// What each request waits.
const LATENCY: Duration = Duration::from_millis(20);

const LARGE: usize = 8 << 20;
const LARGE_COUNT: usize = 32;

const SMALL: usize = 4096;
/// What ours stores in one run, and what the peer does: at one object a value it needs as long for the thirtieth part.
const SMALL_COUNT: usize = 32_768;
const SINGLE_COUNT: usize = 1_000;

struct Bench {
    server: Server,
    runtime: Runtime,
    plain: AmazonS3,
}

impl Bench {
    fn objects(&self) -> Objects<u64> {
        let url = format!("s3://{}/ours", Server::BUCKET);
        let store = Store::open_with(&url, &self.server.options()).unwrap();
        let stage = (WIDTH * LARGE) as u64 + (1 << 20);
        Objects::new(ObjectsConfig::new(store).requests(WIDTH).stage_bytes(stage)).unwrap()
    }

    fn timed<T>(&self, work: impl Future<Output = T>) -> (Run, T) {
        let mut done = None;
        let run = timed(|| done = Some(self.runtime.block_on(work)));
        (run, done.unwrap())
    }

    /// The values, put into a new mapping.
    fn insert(&self, values: &[Bytes]) -> (Run, Objects<u64>) {
        let objects = self.objects();
        let (run, ()) = self.timed(async {
            for (n, value) in values.iter().enumerate() {
                objects.insert(n as u64, Frames::from(value.clone())).await.unwrap();
            }
            objects.flush().await.unwrap();
        });
        (run, objects)
    }

    fn close(&self, objects: Objects<u64>) {
        self.runtime.block_on(objects.close()).unwrap();
    }

    /// The same values as one object each, by the plain client.
    fn put(&self, values: &[Bytes]) -> Run {
        let put = async |(n, value): (usize, &Bytes)| {
            self.plain.put(&path(n), PutPayload::from(value.clone())).await.unwrap();
        };
        self.timed(stream::iter(values.iter().enumerate()).map(put).buffer_unordered(WIDTH).count()).0
    }

    fn get(&self, count: usize, len: usize) -> Run {
        let get = async |n| {
            let body = self.plain.get(&path(n)).await.unwrap().bytes().await.unwrap();
            assert_eq!(body.len(), len);
        };
        self.timed(stream::iter(0..count).map(get).buffer_unordered(WIDTH).count()).0
    }

    fn remove(&self, count: usize) {
        let remove = async |n| self.plain.delete(&path(n)).await.unwrap();
        self.runtime.block_on(stream::iter(0..count).map(remove).buffer_unordered(WIDTH).count());
    }
}

/// The plain client, as a program without us sets it up.
fn plain(server: &Server) -> AmazonS3 {
    let builder = AmazonS3Builder::new().with_bucket_name(Server::BUCKET).with_allow_http(true);
    let set = |builder: AmazonS3Builder, (key, value): (&str, &str)| {
        builder.with_config(key.parse().unwrap(), value)
    };
    server.options().into_iter().fold(builder, set).build().unwrap()
}

fn path(n: usize) -> Path {
    Path::from(format!("plain/{n:06}"))
}

pub fn run(rounds: usize) -> Vec<Row> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let server = Server::start(LATENCY).unwrap();
    let plain = plain(&server);
    let bench = Bench { server, runtime, plain };
    let mut rows = large(&bench, rounds);
    rows.extend(small(&bench, rounds));
    assert!(bench.server.objects().unwrap().is_empty());
    rows
}

fn large(bench: &Bench, rounds: usize) -> Vec<Row> {
    let values = values(LARGE_COUNT, LARGE);
    let unit = Unit::GibPerSecond((LARGE_COUNT * LARGE) as u64);
    let goal = Some((Better::MoreSpeed, 0.9));
    let writing = pair(
        "8 MiB to S3: insert and flush, beside put",
        unit,
        goal,
        rounds,
        || {
            settle(&bench.server.folder(), LARGE_COUNT * LARGE);
            let (run, objects) = bench.insert(&values);
            bench.close(objects);
            run
        },
        || {
            settle(&bench.server.folder(), LARGE_COUNT * LARGE);
            let run = bench.put(&values);
            bench.remove(LARGE_COUNT);
            run
        },
    );
    let (_, objects) = bench.insert(&values);
    bench.put(&values);
    let keys: Vec<u64> = (0..LARGE_COUNT as u64).collect();
    let reading = pair(
        "8 MiB from S3: get_many, beside get",
        unit,
        goal,
        rounds,
        || {
            let (run, found) = bench.timed(objects.get_many(&keys));
            assert!(found.into_iter().all(|value| value.unwrap().unwrap().byte_len() == LARGE as u64));
            run
        },
        || bench.get(LARGE_COUNT, LARGE),
    );
    bench.close(objects);
    bench.remove(LARGE_COUNT);
    vec![writing, reading]
}

fn small(bench: &Bench, rounds: usize) -> Vec<Row> {
    let values = values(SMALL_COUNT, SMALL);
    let share = SMALL_COUNT as f64 / SINGLE_COUNT as f64;
    let row = pair(
        "4 KiB to S3: insert and flush, beside one object a value (time for a thousand)",
        Unit::MillisEach(1),
        Some((Better::MoreSpeed, 50.0)),
        rounds,
        || {
            settle(&bench.server.folder(), SMALL_COUNT * SMALL);
            let (run, objects) = bench.insert(&values);
            bench.close(objects);
            Run { wall: run.wall.div_f64(share), cpu: run.cpu.div_f64(share) }
        },
        || {
            let run = bench.put(&values[..SINGLE_COUNT]);
            bench.remove(SINGLE_COUNT);
            run
        },
    );

    let (_, objects) = bench.insert(&values);
    let written = objects.requests();
    let mut order: Vec<u64> = (0..SMALL_COUNT as u64).collect();
    let neighbours = order[10_000..11_000].to_vec();
    fastrand::Rng::with_seed(11).shuffle(&mut order);
    // those drawn at random lie in all packs: 4 MiB of values among 128 MiB that are fetched
    let goal = Some((Better::LessTime, 0.1));
    let reads = [
        ("4 KiB from S3: get_many of 1,000 written together, beside 1,000 gets", neighbours, goal),
        ("4 KiB from S3: get_many of 1,000 of 32,768, beside 1,000 gets", order[..1000].to_vec(), None),
    ];
    let mut rows = vec![row];
    for (what, keys, goal) in reads {
        rows.push(read(bench, &objects, rounds, what, &keys, goal));
    }
    let price = price(bench, &objects, written);
    bench.close(objects);
    rows.push(price);
    rows
}

/// Values asked for together, beside the same asked for one by one with as many requests in flight. Without a goal it is
/// the ratio of times all the same.
fn read(
    bench: &Bench,
    objects: &Objects<u64>,
    rounds: usize,
    what: &str,
    keys: &[u64],
    goal: Option<(Better, f64)>,
) -> Row {
    let mut row = pair(
        what,
        Unit::MillisEach(1),
        Some((Better::LessTime, 0.1)),
        rounds,
        || {
            let (run, found) = bench.timed(objects.get_many(keys));
            assert!(found.into_iter().all(|value| value.unwrap().unwrap().byte_len() == SMALL as u64));
            run
        },
        || {
            let get = async |key: &u64| {
                assert_eq!(objects.get(key).await.unwrap().unwrap().byte_len(), SMALL as u64);
            };
            bench.timed(stream::iter(keys).map(get).buffer_unordered(WIDTH).count()).0
        },
    );
    row.goal = goal;
    row
}

/// Dollars for a request on S3 Standard in us-east-1, by its public price list of 2026.
const PUT: f64 = 0.005 / 1000.0;
const GET: f64 = 0.0004 / 1000.0;

/// What writing a million small values and reading them back, a thousand at a time, asks of the store.
fn price(bench: &Bench, objects: &Objects<u64>, written: Requests) -> Row {
    let before = objects.requests().gets;
    let keys: Vec<u64> = (0..SMALL_COUNT as u64).collect();
    bench.runtime.block_on(async {
        for some in keys.chunks(1000) {
            assert!(objects.get_many(some).await.iter().all(Result::is_ok));
        }
    });
    let million = |requests: u64| requests as f64 * 1e6 / SMALL_COUNT as f64;
    let (puts, gets) = (million(written.puts), million(objects.requests().gets - before));
    let (ours, peer) = (puts * PUT + gets * GET, 1e6 * (PUT + GET));
    Row {
        what: "a million values of 4 KiB, written, and read in order: price".to_owned(),
        ours: format!("${ours:.4}"),
        peer: format!("${peer:.2}"),
        ratio: ours / peer,
        spread: (ours / peer, ours / peer),
        goal: Some((Better::LessTime, 0.02)),
        note: format!("{puts:.0} puts and {gets:.0} gets; peer a million of each"),
    }
}
