//! What costs a request, and what does not.

use std::sync::Arc;
use std::time::Duration;

use spill_core::AsyncMutableMapping;

use crate::support::{Op, Strike, Unreliable, assert_filled, config, fill, objects, value};

#[tokio::test(start_paused = true)]
async fn ten_thousand_small_values_cost_few_puts() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store));
    fill(&objects, 10_000, 4096).await;
    objects.flush().await.unwrap();
    let puts = store.count(Op::Put);
    assert!(puts <= 20, "{puts}");
    assert_eq!((store.total(), objects.requests().puts), (puts, puts));
    assert_filled(&objects, 10_000, 4096).await;
    assert_eq!(store.count(Op::Get), 10_000, "a read is one ranged get");
    objects.close().await.unwrap();
    assert_eq!(store.contents().await, []);
}

#[tokio::test(start_paused = true)]
async fn an_idle_mapping_requests_nothing_but_its_lease() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store).lease_interval(Duration::from_secs(300)));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(store.total(), 0, "nothing before the first value");
    fill(&objects, 100, 1000).await;
    objects.flush().await.unwrap();
    let before = store.total();
    tokio::time::sleep(Duration::from_secs(3600 + 1)).await;
    assert_eq!(store.total() - before, 12);
    assert_eq!(store.count(Op::Put) - 2, 12, "all of them the lease");
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pack_is_uploaded_when_it_is_old() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store).pack_age(Duration::from_secs(10)));
    fill(&objects, 3, 1000).await;
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(store.count(Op::Put), 0);
    assert!(objects.usage().staged > 3000);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(store.count(Op::Put), 2, "lease and pack");
    assert_eq!(objects.usage().staged, 0);
    assert_filled(&objects, 3, 1000).await;
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_value_that_is_being_uploaded_is_served_from_memory() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store));
    store.always(Op::Put, Strike::Hang);
    fill(&objects, 10, 1000).await;
    objects.insert(100, value(100, 3 << 20)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(store.struck() > 0, "its upload has begun");
    for n in 0..10 {
        assert_eq!(objects.get(&n).await.unwrap(), Some(value(n, 1000)));
    }
    assert_eq!(objects.get(&100).await.unwrap(), Some(value(100, 3 << 20)));
    assert_eq!(store.count(Op::Get), 0);
    assert!(objects.usage().staged > 3 << 20);
    store.heal();
    objects.flush().await.unwrap();
    assert_eq!(objects.usage().staged, 0);
    assert_eq!(objects.take(&100).await.unwrap(), Some(value(100, 3 << 20)));
    assert_filled(&objects, 10, 1000).await;
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn neighbours_are_read_with_one_request() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store));
    fill(&objects, 2000, 4096).await;
    objects.insert(5000, value(5000, 2 << 20)).await.unwrap();
    objects.flush().await.unwrap();
    let keys: Vec<u64> = (0..1000).map(|n| (n * 7) % 2000).chain([5000, 9999]).collect();
    let values = objects.get_many(&keys).await;
    for (key, found) in keys.iter().zip(values) {
        let len = if *key == 5000 { 2 << 20 } else { 4096 };
        let expected = (*key != 9999).then(|| value(*key, len));
        assert_eq!(found.unwrap(), expected, "{key}");
    }
    let gets = store.count(Op::Get);
    assert!(gets <= 4, "{gets}");
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_staged_is_bounded() {
    let store = Arc::new(Unreliable::default());
    let objects = Arc::new(objects(config(&store).pack_bytes(100_000).stage_bytes(200_000)));
    store.always(Op::Put, Strike::Hang);
    let filling = tokio::spawn({
        let objects = Arc::clone(&objects);
        async move { fill(&objects, 1000, 1000).await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let staged = objects.usage().staged;
    assert!((200_000..=300_000).contains(&staged), "{staged}");
    assert!(!filling.is_finished(), "the rest waits");
    store.heal();
    filling.await.unwrap();
    assert_filled(&objects, 1000, 1000).await;
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_large_value_is_uploaded_in_parts() {
    let store = Arc::new(Unreliable::default());
    let objects = objects(config(&store).part_bytes(5 << 20));
    let len = (12 << 20) + 12_345;
    objects.insert(1, value(1, len)).await.unwrap();
    objects.flush().await.unwrap();
    let counts = [Op::Create, Op::Part, Op::Complete, Op::Put].map(|op| store.count(op));
    assert_eq!(counts, [1, 3, 1, 1], "begun, three parts, ended, and the lease");
    assert_eq!(objects.get(&1).await.unwrap(), Some(value(1, len)));
    objects.close().await.unwrap();
    assert_eq!(store.open_uploads(), 0);
}
