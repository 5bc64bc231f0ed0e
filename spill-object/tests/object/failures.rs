//! Each way in which a store fails: what is tried again, what the caller is told, and that no value is lost.

use std::sync::Arc;
use std::time::Duration;

use spill_core::{AsyncMutableMapping, Error, ErrorKind};
use spill_object::object_store;
use tokio::time::Instant;

use crate::support::{Op, Strike, Unreliable, answer, assert_filled, config, fill, objects, value};

pub(crate) fn internal_error() -> object_store::Error {
    answer("500 Internal Server Error", "InternalError")
}

pub(crate) fn slow_down() -> object_store::Error {
    answer("503 Service Unavailable", "SlowDown")
}

pub(crate) fn forbidden() -> object_store::Error {
    object_store::Error::PermissionDenied { path: "p".to_owned(), source: "AccessDenied".into() }
}

pub(crate) fn not_found() -> object_store::Error {
    object_store::Error::NotFound { path: "p".to_owned(), source: "NoSuchBucket".into() }
}

pub(crate) fn reset() -> object_store::Error {
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    object_store::Error::Generic { store: "S3", source: Box::new(reset) }
}

/// The status of a `Backend` error that names store and object.
fn status(error: &Error) -> (String, bool) {
    match error.kind() {
        ErrorKind::Backend { location, status, transient, .. } => {
            assert!(location.starts_with("test://bucket/overspill-"), "{location}");
            (status.clone(), *transient)
        }
        kind => panic!("{kind:?}"),
    }
}

const WRITES: [Strike; 8] = [
    Strike::Before(internal_error),
    Strike::After(internal_error),
    Strike::Before(slow_down),
    Strike::After(slow_down),
    Strike::Before(reset),
    Strike::After(reset),
    Strike::Hang,
    Strike::HangAfter,
];

#[tokio::test(start_paused = true)]
async fn writes_that_fail_for_a_while_are_repeated_and_lose_and_double_nothing() {
    for strike in WRITES {
        let store = Arc::new(Unreliable::default());
        let objects = objects(config(&store));
        store.next(Op::Put, 2, strike);
        fill(&objects, 20, 1000).await;
        objects.flush().await.unwrap();
        assert_eq!((store.struck(), store.count(Op::Put)), (2, 4), "{strike:?}");
        assert_filled(&objects, 20, 1000).await;
        let contents = store.contents().await;
        assert_eq!(contents.len(), 2, "one object and the lease: {contents:?}");
        objects.close().await.unwrap();
        assert_eq!(store.contents().await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn reads_that_fail_for_a_while_are_repeated() {
    let reads = [
        Strike::Before(internal_error),
        Strike::Before(slow_down),
        Strike::Before(reset),
        Strike::Hang,
        Strike::Truncate(500),
        Strike::Truncate(0),
        Strike::Stall(1200),
    ];
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store));
    fill(&objects, 20, 1500).await;
    objects.flush().await.unwrap();
    for (n, strike) in reads.into_iter().enumerate() {
        store.next(Op::Get, 2, strike);
        assert_eq!(objects.get(&3).await.unwrap(), Some(value(3, 1500)), "{strike:?}");
        store.next(Op::Get, 2, strike);
        let many = objects.get_many(&[1, 9, 5]).await;
        assert_eq!(
            many.into_iter().map(|v| v.unwrap().unwrap()).collect::<Vec<_>>(),
            [1, 9, 5].map(|n| value(n, 1500))
        );
        assert_eq!(store.struck(), 4 * (n as u64 + 1), "{strike:?}");
    }
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reads_that_keep_failing_end_at_the_deadline_and_say_why() {
    let store = Arc::new(Unreliable::default());
    let limits = config(&store).deadline(Duration::from_secs(30)).try_timeout(Duration::from_secs(5));
    let objects = objects(limits);
    fill(&objects, 20, 1500).await;
    objects.flush().await.unwrap();
    for (strike, said) in [
        (Strike::Before(slow_down), "503 Service Unavailable: SlowDown: words (tried "),
        (Strike::Before(reset), "connection reset (tried "),
        (Strike::Hang, "no answer within 5s (tried "),
        (Strike::Stall(700), "no answer within 5s (tried "),
        (Strike::Truncate(700), "a body that ended 8"),
    ] {
        store.always(Op::Get, strike);
        let start = Instant::now();
        let (status, transient) = status(&objects.get(&3).await.unwrap_err());
        assert!(status.starts_with(said) && transient, "{strike:?}: {status}");
        assert!(start.elapsed() <= Duration::from_secs(35), "{:?}", start.elapsed());
        assert!(objects.contains_key(&3));
    }
    store.heal();
    assert_filled(&objects, 20, 1500).await;
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_will_not_pass_is_told_at_once() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store));
    fill(&objects, 20, 1500).await;
    objects.flush().await.unwrap();
    for (error, said) in [
        (forbidden as fn() -> object_store::Error, "permission denied"),
        (not_found, "not found"),
        (|| answer("400 Bad Request", "InvalidArgument"), "400 Bad Request: InvalidArgument: words"),
    ] {
        store.always(Op::Get, Strike::Before(error));
        let before = store.count(Op::Get);
        assert_eq!(status(&objects.get(&3).await.unwrap_err()), (said.to_owned(), false));
        assert_eq!(store.count(Op::Get) - before, 1);
        let many = objects.get_many(&[3, 4]).await;
        assert!(many.iter().all(|result| status(result.as_ref().unwrap_err()).0 == said));
        assert!(objects.take(&3).await.is_err() && objects.contains_key(&3));
    }
    store.heal();
    assert_filled(&objects, 20, 1500).await;
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn damage_is_never_a_value() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store));
    fill(&objects, 20, 1500).await;
    objects.flush().await.unwrap();
    store.always(Op::Get, Strike::Damage);
    let error = objects.get(&3).await.unwrap_err();
    let ErrorKind::Corrupt { location, expected, .. } = error.kind() else { panic!("{error:?}") };
    assert!(
        location.starts_with("test://bucket/overspill-") && location.ends_with("bytes 4596 to 6128"),
        "{location}"
    );
    assert!(expected.starts_with("checksum"), "{expected}");
    store.always(Op::Get, Strike::Replace);
    let (said, transient) = status(&objects.get(&3).await.unwrap_err());
    assert!(said.starts_with("the object has another ETag") && !transient, "{said}");
    assert_eq!(objects.stats().failures, 2);
    store.heal();
    assert_filled(&objects, 20, 1500).await;
    objects.close().await.unwrap();
}

/// Of an object that was put twice, because the first answer was lost, the ETag may differ though the bytes do not.
#[tokio::test(start_paused = true)]
async fn an_etag_alone_condemns_nothing() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store));
    fill(&objects, 20, 1500).await;
    objects.flush().await.unwrap();
    for (path, _) in store.contents().await {
        let path = object_store::path::Path::from(path);
        let bytes =
            object_store::ObjectStoreExt::get(&store.inner, &path).await.unwrap().bytes().await.unwrap();
        object_store::ObjectStoreExt::put(&store.inner, &path, bytes.into()).await.unwrap();
    }
    assert_filled(&objects, 20, 1500).await;
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_written_refuses_and_keeps_what_it_accepted() {
    for strike in [Strike::Before(forbidden), Strike::Before(slow_down), Strike::HangAfter] {
        let store = Arc::new(Unreliable::default());
        let objects = objects(config(&store).pack_bytes(10_000).stage_bytes(20_000));
        store.always(Op::Put, strike);
        let mut accepted = 0;
        let refused = loop {
            match objects.insert(accepted, value(accepted, 1000)).await {
                Ok(()) => accepted += 1,
                Err(error) => break error,
            }
        };
        status(&refused);
        assert!((10..=30).contains(&accepted), "{accepted}");
        assert!(!objects.contains_key(&accepted), "what was refused is not there");
        assert!(objects.flush().await.is_err());
        let failed = objects.insert_many(vec![(500, value(500, 10)), (501, value(501, 10))]).await;
        assert!(failed.iter().all(Result::is_err));
        assert_filled(&objects, accepted, 1000).await;
        store.heal();
        // tries that hung before may still be on their way to failing, one for each upload
        while objects.flush().await.is_err() {}
        objects.insert(accepted, value(accepted, 1000)).await.unwrap();
        objects.flush().await.unwrap();
        assert_eq!(objects.usage().staged, 0);
        assert_filled(&objects, accepted + 1, 1000).await;
        objects.close().await.unwrap();
        assert_eq!(store.contents().await, []);
    }
}

/// A probe of a failing store is one request, not a whole deadline of them.
#[tokio::test(start_paused = true)]
async fn a_failing_store_is_asked_once_for_each_insert() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store));
    store.always(Op::Put, Strike::Before(slow_down));
    objects.insert(1, value(1, 1000)).await.unwrap();
    assert!(objects.upload_error().is_none());
    assert!(objects.flush().await.is_err());
    let (before, start) = (store.total(), Instant::now());
    assert_eq!(status(&objects.upload_error().unwrap()).0.split(':').next(), Some("503 Service Unavailable"));
    for n in 2..12 {
        assert!(objects.insert(n, value(n, 1000)).await.is_err());
    }
    assert_eq!((store.total() - before, start.elapsed()), (10, Duration::ZERO));
    assert!(objects.upload_error().is_some());
    store.heal();
    objects.flush().await.unwrap();
    assert!(objects.upload_error().is_none(), "it takes values again");
    objects.close().await.unwrap();
}

/// Several uploads find the store down: an insert waits for one deadline, not for as many as there are uploads.
#[tokio::test(start_paused = true)]
async fn uploads_side_by_side_fail_within_one_deadline() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store).large_bytes(1000).pack_bytes(4000).requests(8));
    store.always(Op::Put, Strike::Before(reset));
    fill(&objects, 8, 1000).await;
    let start = Instant::now();
    assert!(objects.insert(8, value(8, 1000)).await.is_err());
    assert!(start.elapsed() <= Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(objects.flush().await.is_err());
    let (puts, tries) = (store.count(Op::Put), tries_in_a_deadline());
    // one upload tried for all; then the insert and the flush asked once each
    assert!(puts <= tries + 2, "{puts} of {tries}");
    assert_filled(&objects, 8, 1000).await;
    store.heal();
    objects.flush().await.unwrap();
    assert_filled(&objects, 8, 1000).await;
    objects.close().await.unwrap();
}

/// How many requests one upload makes until it gives up, at most.
fn tries_in_a_deadline() -> u64 {
    // waits of 50 ms to 100 ms and so on, of 5 s to 10 s at last
    let shortest: [f64; 7] = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2];
    let rest = 60.0 - shortest.iter().sum::<f64>();
    1 + shortest.len() as u64 + (rest / 5.0) as u64
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_failed_is_tried_again_when_the_lease_is_renewed() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store));
    fill(&objects, 1, 1000).await;
    objects.flush().await.unwrap();
    objects.insert(1, value(1, 1000)).await.unwrap();
    store.always(Op::Put, Strike::Before(forbidden));
    assert!(objects.flush().await.is_err());
    store.heal();
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(objects.usage().staged, 0);
    assert_filled(&objects, 2, 1000).await;
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn uploads_in_parts_survive_what_passes() {
    for op in [Op::Create, Op::Part, Op::Complete] {
        for strike in WRITES {
            let store = Arc::new(Unreliable::default());
            let objects = objects(config(&store).part_bytes(5 << 20));
            store.next(op, 2, strike);
            objects.insert(0, value(0, 11 << 20)).await.unwrap();
            objects.flush().await.unwrap_or_else(|error| panic!("{op:?} {strike:?}: {error}"));
            assert!(store.struck() > 0);
            assert_filled(&objects, 1, 11 << 20).await;
            assert!(store.count(Op::Part) <= 5, "only the part that failed is put again");
            objects.close().await.unwrap();
            // one whose beginning was applied though it failed is unknown to whoever began it
            let unknown = if op == Op::Create && matches!(strike, Strike::After(_) | Strike::HangAfter) {
                2
            } else {
                0
            };
            assert_eq!(store.open_uploads(), unknown, "{op:?} {strike:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn uploads_in_parts_that_fail_are_aborted() {
    for op in [Op::Part, Op::Complete] {
        for strike in [Strike::Before(forbidden), Strike::Before(slow_down), Strike::Hang] {
            let store = Arc::new(Unreliable::default());
            let objects = objects(config(&store).part_bytes(5 << 20));
            store.always(op, strike);
            objects.insert(0, value(0, 11 << 20)).await.unwrap();
            // once for the upload itself, once for the flush
            while objects.flush().await.is_ok() {}
            assert!(store.count(Op::Abort) > 0);
            assert_eq!(store.open_uploads(), 0, "{op:?} {strike:?}");
            assert_filled(&objects, 1, 11 << 20).await;
            store.heal();
            objects.flush().await.unwrap();
            assert_filled(&objects, 1, 11 << 20).await;
            objects.close().await.unwrap();
        }
    }
}

/// An abort that fails is made up for: with the next lease, or at the end.
#[tokio::test(start_paused = true)]
async fn an_abort_that_fails_is_tried_again() {
    for waits in [true, false] {
        let store = Arc::new(Unreliable::default());
        let objects = objects(config(&store).part_bytes(5 << 20));
        fill(&objects, 1, 1000).await;
        objects.flush().await.unwrap();
        store.plan(|op, _| match op {
            Op::Part => Some(Strike::Before(forbidden)),
            Op::Abort => Some(Strike::Before(slow_down)),
            _ => None,
        });
        objects.insert(1, value(1, 11 << 20)).await.unwrap();
        assert!(objects.flush().await.is_err());
        assert!(store.open_uploads() > 0);
        objects.remove(&1).await.unwrap();
        store.heal();
        if waits {
            tokio::time::sleep(Duration::from_secs(301)).await;
            assert_eq!(store.open_uploads(), 0);
        }
        assert_filled(&objects, 1, 1000).await;
        objects.close().await.unwrap();
        assert_eq!(store.open_uploads(), 0);
        assert_eq!(store.contents().await, []);
    }
}

/// Whatever fails on the way, no upload in parts stays behind that its beginner knew of.
#[tokio::test(start_paused = true)]
async fn uploads_in_parts_that_fail_at_random_leave_nothing_behind() {
    let long = std::env::var_os("OVERSPILL_TEST_LONG").is_some();
    let mut struck = 0;
    for seed in 0..if long { 2000 } else { 30 } {
        let store = Arc::new(Unreliable::default());
        let objects = objects(config(&store).part_bytes(5 << 20).stage_bytes(16 << 20));
        let mut random = seed;
        let mut draw = move || {
            random = random_after(random);
            random >> 33
        };
        let share = draw() % 70;
        store.plan(move |op, _| {
            let strike = WRITES[(draw() % WRITES.len() as u64) as usize];
            let forbids = draw() % 4 == 0;
            let applied = matches!(strike, Strike::After(_) | Strike::HangAfter);
            // the number of an upload whose beginning is not answered is known to nobody
            let strikes = draw() % 100 < share && !(op == Op::Create && applied);
            strikes.then_some(if forbids { Strike::Before(forbidden) } else { strike })
        });
        for n in 0..3 {
            _ = objects.insert(n, value(n, (5 << 20) + 1000 * n as usize)).await;
        }
        _ = objects.flush().await;
        struck += store.struck();
        if seed % 2 == 0 {
            store.heal();
            // tries that hung before may still be on their way to failing
            while objects.flush().await.is_err() {}
            let mut kept = 0;
            for n in 0..3 {
                let found = objects.get(&n).await.unwrap();
                kept += u64::from(found.is_some());
                assert!(found.is_none_or(|found| found == value(n, (5 << 20) + 1000 * n as usize)));
            }
            assert_eq!(kept, objects.len() as u64);
        }
        store.heal();
        objects.close().await.unwrap();
        assert_eq!(store.open_uploads(), 0, "seed {seed}");
        assert_eq!(store.contents().await, [], "seed {seed}");
    }
    assert!(struck > 50, "{struck}");
}

fn random_after(state: u64) -> u64 {
    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

#[tokio::test(start_paused = true)]
async fn closing_aborts_uploads_in_parts_and_ends_calls() {
    let store = Arc::new(Unreliable::default());
    let objects = Arc::new(objects(config(&store).part_bytes(5 << 20)));
    store.always(Op::Part, Strike::Hang);
    objects.insert(0, value(0, 11 << 20)).await.unwrap();
    let flushing = tokio::spawn({
        let objects = Arc::clone(&objects);
        async move { objects.flush().await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(store.open_uploads(), 1);
    objects.close().await.unwrap();
    assert!(matches!(flushing.await.unwrap().unwrap_err().kind(), ErrorKind::Closed { .. }));
    assert_eq!(store.open_uploads(), 0);
    assert_eq!(store.contents().await, []);
    let late = [
        objects.get(&0).await.map(drop),
        objects.insert(0, value(0, 1)).await,
        objects.remove(&0).await.map(drop),
        objects.take(&0).await.map(drop),
        objects.flush().await,
    ];
    for result in late {
        assert!(matches!(result.unwrap_err().kind(), ErrorKind::Closed { .. }));
    }
    objects.close().await.unwrap();
}

/// The caller's time-out takes nothing back, and later writes win.
#[tokio::test(start_paused = true)]
async fn an_insert_whose_future_is_dropped_does_no_harm() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store).stage_bytes(1));
    store.always(Op::Put, Strike::Hang);
    objects.insert(1, value(1, 2 << 20)).await.unwrap();
    let waits = objects.insert(2, value(2, 2 << 20));
    assert!(tokio::time::timeout(Duration::from_secs(1), waits).await.is_err());
    assert!(!objects.contains_key(&2), "it had not been accepted");
    store.heal();
    objects.insert(2, value(22, 2 << 20)).await.unwrap();
    objects.flush().await.unwrap();
    assert_eq!(objects.get(&2).await.unwrap(), Some(value(22, 2 << 20)));
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_says_when_objects_could_not_be_deleted() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store));
    fill(&objects, 10, 1000).await;
    objects.flush().await.unwrap();
    store.always(Op::Delete, Strike::Before(forbidden));
    assert_eq!(status(&objects.close().await.unwrap_err()), ("permission denied".to_owned(), false));
}

#[test]
fn a_call_outside_of_a_runtime_is_refused() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config_without_clock(&store));
    let refused = futures_util::FutureExt::now_or_never(objects.insert(1, value(1, 10))).unwrap();
    assert!(matches!(refused.unwrap_err().kind(), ErrorKind::Config { key, .. } if key == "runtime"));
}

fn config_without_clock(store: &Arc<Unreliable>) -> spill_object::ObjectsConfig {
    spill_object::ObjectsConfig::new(spill_object::Store::with_parts(Arc::clone(store), "test://bucket"))
}
