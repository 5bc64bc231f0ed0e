//! Over HTTP, against two servers that speak S3.

use std::sync::Arc;

use spill_core::conformance::Ready;
use spill_core::conformance::contract::check_all;
use spill_core::{AsyncMutableMapping, Blocking, Frames, ManualClock, MutableMapping, conformance_tests};
use spill_object::{Objects, ObjectsConfig, leftovers, purge};

use crate::conformance::small;
use crate::support::server::{BUCKET, KEY, Moto, SECRET, Server, store};
use crate::support::{Kept, value};

type Mapping = Blocking<Objects<u64>>;

fn over_http(set: fn(ObjectsConfig) -> ObjectsConfig) -> Kept<Mapping, Server> {
    let server = Server::start();
    let config = set(ObjectsConfig::new(store(&server.endpoint, "some/prefix")));
    Kept::new(Objects::blocking(config).unwrap(), server)
}

conformance_tests!(s3s_defaults, || over_http(|config| config));
conformance_tests!(s3s_small, || over_http(small));

/// Packs, ranges, parts, deletions, leases: everything that is asked of a server, once.
fn exercise(config: ObjectsConfig) {
    let place = config.store().clone();
    let objects = Objects::blocking(config.pack_bytes(200_000).part_bytes(5 << 20)).unwrap();
    let parts = (11 << 20) + 7;
    for n in 0..500 {
        objects.insert(n, value(n, 2000)).unwrap();
    }
    objects.insert(1000, value(1000, parts)).unwrap();
    objects.flush().unwrap();
    let get = |key: u64, len| assert_eq!(objects.get(&key).unwrap(), Some(value(key, len)));
    get(7, 2000);
    get(1000, parts);
    let keys: Vec<u64> = (0..500).collect();
    let many = objects.get_many(&keys).into_iter().map(|found| found.unwrap().unwrap());
    assert!(many.zip(0..).all(|(found, n)| found == value(n, 2000)));
    let requests = objects.inner().requests();
    assert!(requests.puts <= 6 + 5 + 2 && requests.gets <= 15, "{requests:?}");

    // most die, and the rest is compacted
    for n in (0..500).filter(|n| n % 7 != 0).chain([1000]) {
        objects.remove(&n).unwrap();
    }
    let settled = tokio::runtime::Builder::new_current_thread().build().unwrap();
    settled.block_on(objects.inner().settle());
    objects.flush().unwrap();
    for n in (0..500).step_by(7) {
        get(n, 2000);
    }
    assert!(objects.usage().physical <= 500_000, "{:?}", objects.usage());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let found = leftovers(&place, std::time::Duration::from_secs(3600)).await.unwrap();
        assert_eq!(found, [], "the living is none");
    });
    objects.close().unwrap();

    // one that dies without closing is found again; no hour is waited for
    let dead = Objects::blocking(ObjectsConfig::new(place.clone())).unwrap();
    dead.insert(1, value(1, 2000)).unwrap();
    dead.flush().unwrap();
    drop(dead);
    runtime.block_on(async {
        let mut found = Vec::new();
        while found.is_empty() {
            found = leftovers(&place, std::time::Duration::ZERO).await.unwrap();
        }
        assert_eq!((found.len(), found[0].objects), (1, 2));
        assert_eq!(purge(&place, &found).await.unwrap(), 2);
        assert_eq!(leftovers(&place, std::time::Duration::ZERO).await.unwrap(), []);
    });
}

#[test]
fn a_server_in_process_serves_everything_and_keeps_nothing() {
    let server = Server::start();
    exercise(ObjectsConfig::new(store(&server.endpoint, "a/prefix")));
    let mut left = server.files();
    left.retain(|file| file.starts_with(&format!("{BUCKET}/")));
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_server_of_another_make_keeps_the_suites_promises() {
    let moto = Arc::new(Moto::start());
    exercise(ObjectsConfig::new(store(&moto.endpoint, "a/prefix")));
    check_all(
        || {
            let config = small(ObjectsConfig::new(store(&moto.endpoint, "suite")));
            Kept::new(Objects::<u64>::blocking(config).unwrap(), Arc::clone(&moto))
        },
        &Ready,
    );
}

#[test]
fn wrong_credentials_are_told_without_any_secret() {
    let server = Server::start();
    let options = [
        ("aws_access_key_id", "somebody"),
        ("aws_secret_access_key", SECRET),
        ("aws_session_token", "token-secret"),
        ("aws_endpoint", server.endpoint.as_str()),
        ("aws_region", "us-east-1"),
    ];
    let place = spill_object::Store::open_with(&format!("s3://{BUCKET}/p"), &options).unwrap();
    let objects: Mapping = Objects::blocking(ObjectsConfig::new(place)).unwrap();
    objects.insert(1, Frames::from(bytes::Bytes::from_static(b"value"))).unwrap();
    let error = objects.flush().unwrap_err();
    assert!(!error.is_transient(), "{error}");
    let texts = [error.to_string(), format!("{error:?}"), format!("{:?}", objects.inner())];
    assert!(texts[0].starts_with(&format!("object store failed at s3://{BUCKET}/p/overspill-")), "{error}");
    for text in texts {
        assert!(!text.contains(SECRET) && !text.contains("token-secret"), "{text}");
    }
    assert_eq!(objects.get(&1).unwrap().unwrap().byte_len(), 5, "it is still served");
}

/// What is logged, all of it in one place.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// At the finest level, by us and by S3's client, whether requests succeed, are refused, or find nobody.
#[test]
fn nothing_that_is_logged_holds_a_secret() {
    const SECRETS: [&str; 3] = [SECRET, "another-secret", "token-secret"];
    let server = Server::start();
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone());
    let work = async |endpoint: &str, secret: &str| {
        let options = [
            ("aws_access_key_id", KEY),
            ("aws_secret_access_key", secret),
            ("aws_session_token", SECRETS[2]),
            ("aws_endpoint", endpoint),
            ("aws_region", "us-east-1"),
        ];
        let place = spill_object::Store::open_with(&format!("s3://{BUCKET}/p"), &options).unwrap();
        // a clock that stands still: a first try that takes long is not the last
        let config = ObjectsConfig::new(place).clock(Arc::new(ManualClock::new()));
        let config = config.deadline(std::time::Duration::from_millis(300));
        let objects: Objects<u64> = Objects::new(config.part_bytes(5 << 20)).unwrap();
        objects.insert(1, value(1, 1000)).await.unwrap();
        objects.insert(2, value(2, 6 << 20)).await.unwrap();
        let stored = objects.flush().await;
        let read = objects.get(&1).await;
        assert_eq!(read.unwrap(), Some(value(1, 1000)));
        (stored, objects.close().await)
    };
    tracing::subscriber::with_default(subscriber.finish(), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (stored, closed) = work(&server.endpoint, SECRET).await;
            stored.and(closed).unwrap();
            let (refused, _) = work(&server.endpoint, SECRETS[1]).await;
            assert!(!refused.unwrap_err().is_transient());
            let (nobody, _) = work("http://127.0.0.1:9", SECRET).await;
            assert!(nobody.unwrap_err().is_transient());
        });
    });
    let text = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    for said in ["a request is tried again", "could not be uploaded", "SignatureDoesNotMatch"] {
        assert!(text.contains(said), "{said} in {text}");
    }
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret}");
    }
}
