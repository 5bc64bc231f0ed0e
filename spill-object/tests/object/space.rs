//! Objects that die are deleted, and what is mostly dead is compacted.

use std::sync::Arc;
use std::time::Duration;

use spill_core::AsyncMutableMapping;
use spill_object::Objects;

use crate::support::{Op, Strike, Unreliable, answer, config, fill, objects, value};

const PACK: u64 = 100_000;
const LEN: usize = 1000;

/// Bytes of all objects but the lease.
async fn stored(store: &Unreliable) -> u64 {
    let data = store.contents().await.into_iter().filter(|(path, _)| !path.ends_with("lease"));
    data.map(|(_, size)| size).sum()
}

fn small(store: &Arc<Unreliable>) -> Objects<u64> {
    objects(config(store).pack_bytes(PACK).stage_bytes(2 * PACK))
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_churn_stores_at_most_twice_what_lives() {
    let store = Arc::new(Unreliable::default());
    let objects = small(&store);
    let count = 3000;
    fill(&objects, count, LEN).await;
    let mut random = 7_u64;
    let mut draw = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    let mut version = vec![0; count as usize];
    for minute in 0..60 {
        for _ in 0..count / 4 {
            // some keys are written far more often than others
            let key = draw() % (1 + draw() % count);
            version[key as usize] += 1;
            let changed = value(key + count * version[key as usize], LEN);
            objects.insert(key, changed).await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        let live = objects.usage().spilled.disk;
        let stored = stored(&store).await;
        assert!(stored <= 2 * live, "minute {minute}: {stored} bytes for {live}");
        assert_eq!(stored, objects.usage().physical);
    }
    objects.settle().await;
    for key in 0..count {
        let expected = value(key + count * version[key as usize], LEN);
        assert_eq!(objects.get(&key).await.unwrap(), Some(expected), "{key}");
    }
    objects.close().await.unwrap();
    assert_eq!(store.contents().await, []);
}

/// The bound that holds at every moment, while nothing rests.
#[tokio::test(start_paused = true)]
async fn inserts_wait_for_compaction_rather_than_pass_the_bound() {
    let store = Arc::new(Unreliable::default());
    let objects = small(&store);
    let count = 3000;
    fill(&objects, count, LEN).await;
    for n in 0..5 * count {
        let key = (n * 7919) % count;
        objects.insert(key, value(n, LEN)).await.unwrap();
        let usage = objects.usage();
        // packs that are being uploaded are not physical yet, so they count on neither side
        let most = 2 * usage.spilled.disk + 3 * PACK + 2 * PACK;
        assert!(usage.physical <= most, "{n}: {usage:?}");
    }
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_is_deleted_with_few_requests() {
    let store = Arc::new(Unreliable::default());
    let objects = small(&store);
    fill(&objects, 5000, LEN).await;
    objects.flush().await.unwrap();
    let gets = store.count(Op::Get);
    objects.clear().await.unwrap();
    objects.settle().await;
    assert_eq!((stored(&store).await, objects.usage().physical), (0, 0));
    assert!(store.count(Op::Delete) <= 2 && store.count(Op::Get) == gets, "nothing is read");
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_fails_is_made_up_for() {
    let store = Arc::new(Unreliable::default());
    let objects = small(&store);
    fill(&objects, 500, LEN).await;
    objects.flush().await.unwrap();
    store.always(Op::Delete, Strike::Before(|| answer("403 Forbidden", "AccessDenied")));
    objects.clear().await.unwrap();
    objects.settle().await;
    assert!(objects.usage().physical > 400_000 && store.struck() > 0);
    store.heal();
    tokio::time::sleep(Duration::from_secs(301)).await;
    assert_eq!(objects.usage().physical, 0, "with the next lease");
    objects.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn damage_does_not_stop_compaction_nor_is_it_carried_on() {
    let store = Arc::new(Unreliable::default());
    let objects = small(&store);
    fill(&objects, 1000, LEN).await;
    objects.flush().await.unwrap();
    store.always(Op::Get, Strike::Damage);
    for key in (0..1000).filter(|key| key % 5 != 0) {
        objects.remove(&key).await.unwrap();
    }
    objects.settle().await;
    assert!(store.struck() > 0);
    store.heal();
    // the damage was on the way, so all can still be read
    for key in (0..1000).step_by(5) {
        assert_eq!(objects.get(&key).await.unwrap(), Some(value(key, LEN)));
    }
    objects.close().await.unwrap();
}

/// Readers that looked a value up before it was moved find it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_read_while_they_move() {
    let store = Arc::new(Unreliable::default());
    let plain = spill_object::Store::with_parts(Arc::clone(&store), "test://bucket");
    let config = spill_object::ObjectsConfig::new(plain).pack_bytes(20_000).stage_bytes(40_000);
    let objects = Arc::new(objects(config));
    fill(&objects, 400, LEN).await;
    objects.flush().await.unwrap();
    let readers = [0, 1].map(|reader| {
        let objects = Arc::clone(&objects);
        tokio::spawn(async move {
            for n in 0..3000_u64 {
                // keys that nobody writes; the others around them die, so these are moved
                let key = (n * 7 + reader) % 40 * 10;
                assert_eq!(objects.get(&key).await.unwrap(), Some(value(key, LEN)));
                if n % 50 == 0 {
                    let keys: Vec<u64> = (0..40).map(|n| n * 10).collect();
                    let many = objects.get_many(&keys).await;
                    let many: Vec<_> = many.into_iter().map(|found| found.unwrap().unwrap()).collect();
                    assert_eq!(many, keys.iter().map(|key| value(*key, LEN)).collect::<Vec<_>>());
                }
            }
        })
    });
    for n in 0..8000_u64 {
        let key = n % 400;
        if key % 10 != 0 {
            objects.insert(key, value(n, LEN)).await.unwrap();
        }
    }
    for reader in readers {
        reader.await.unwrap();
    }
    objects.close().await.unwrap();
    assert_eq!(store.contents().await, []);
}
