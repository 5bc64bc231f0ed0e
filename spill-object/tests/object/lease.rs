//! What dead processes left is told from what the living use.

use std::sync::Arc;
use std::time::Duration;

use spill_core::AsyncMutableMapping;
use spill_object::object_store::ObjectStoreExt;
use spill_object::object_store::path::Path;
use spill_object::{Objects, ObjectsConfig, Store, leftovers, purge};

use crate::support::{Op, Strike, TokioClock, Unreliable, answer, assert_filled, fill, objects};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn at(store: &Arc<Unreliable>, prefix: &str) -> Store {
    Store::with_parts(Arc::clone(store), "test://bucket").under(Path::from(prefix))
}

async fn filled(store: &Store) -> Objects<u64> {
    let objects = objects(ObjectsConfig::new(store.clone()).clock(TokioClock::new()).pack_bytes(10_000));
    fill(&objects, 50, 1000).await;
    objects.flush().await.unwrap();
    objects
}

/// The folder of the only mapping below `prefix`.
async fn folder(store: &Unreliable, known: &[String]) -> String {
    let mut folders: Vec<String> = store
        .contents()
        .await
        .into_iter()
        .map(|(path, _)| path.split('/').nth(1).unwrap().to_owned())
        .collect();
    folders.retain(|folder| folder.starts_with("overspill-") && !known.contains(folder));
    folders.dedup();
    assert_eq!(folders.len(), 1, "{folders:?}");
    folders.remove(0)
}

#[tokio::test(start_paused = true)]
async fn leftovers_are_shown_first_and_purged_without_the_living() {
    let store = Arc::new(Unreliable::default());
    let prefix = at(&store, "data");
    let dead = filled(&prefix).await;
    let dead_folder = folder(&store, &[]).await;
    drop(dead);
    let living = filled(&prefix).await;
    store.inner.put(&Path::from("data/of/somebody"), "else".into()).await.unwrap();
    store.inner.put(&Path::from("data/overspill-notes/of/somebody"), "else".into()).await.unwrap();
    assert_eq!(leftovers(&prefix, DAY).await.unwrap(), []);

    store.age(&format!("data/{dead_folder}"), DAY + Duration::from_secs(60));
    store.age("data/of", 2 * DAY);
    store.age("data/overspill-notes", 2 * DAY);
    let before = store.contents().await;
    let found = leftovers(&prefix, DAY).await.unwrap();
    assert_eq!(store.contents().await, before, "looking deletes nothing and leaves nothing");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].folder(), dead_folder);
    assert!(found[0].silent > DAY && found[0].bytes > 50_000, "{found:?}");
    let objects = before.iter().filter(|(path, _)| path.contains(&dead_folder)).count() as u64;
    assert_eq!(found[0].objects, objects);

    assert_eq!(purge(&prefix, &found).await.unwrap(), objects);
    assert_eq!(leftovers(&prefix, DAY).await.unwrap(), []);
    assert_eq!(purge(&prefix, &found).await.unwrap(), 0, "nothing is left of it");
    assert_filled(&living, 50, 1000).await;
    living.close().await.unwrap();
    let rest: Vec<_> = store.contents().await.into_iter().map(|(path, _)| path).collect();
    assert_eq!(rest, ["data/of/somebody", "data/overspill-notes/of/somebody"]);
}

#[tokio::test(start_paused = true)]
async fn who_writes_its_lease_after_all_keeps_everything() {
    let store = Arc::new(Unreliable::default());
    let prefix = at(&store, "data");
    let slept = filled(&prefix).await;
    let name = folder(&store, &[]).await;
    store.age(&format!("data/{name}"), 2 * DAY);
    let found = leftovers(&prefix, DAY).await.unwrap();
    assert_eq!(found.len(), 1);
    store.forget_ages();
    assert_eq!(purge(&prefix, &found).await.unwrap(), 0);
    assert_filled(&slept, 50, 1000).await;
    slept.close().await.unwrap();
}

/// A purge that was cut short, or a deletion at the end of a process: data without a lease is judged by its own age.
#[tokio::test(start_paused = true)]
async fn objects_without_a_lease_are_leftovers_too() {
    let store = Arc::new(Unreliable::default());
    let prefix = at(&store, "data");
    drop(filled(&prefix).await);
    let name = folder(&store, &[]).await;
    store.inner.delete(&Path::from(format!("data/{name}/lease"))).await.unwrap();
    assert_eq!(leftovers(&prefix, DAY).await.unwrap(), []);
    store.age(&format!("data/{name}"), DAY * 2);
    let found = leftovers(&prefix, DAY).await.unwrap();
    assert!(purge(&prefix, &found).await.unwrap() > 5);
    assert_eq!(store.contents().await, []);
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_and_outlives_failures() {
    let store = Arc::new(Unreliable::default());
    let prefix = at(&store, "data");
    let objects = filled(&prefix).await;
    let before = store.count(Op::Put);
    store.always(Op::Put, Strike::Before(|| answer("403 Forbidden", "AccessDenied")));
    tokio::time::sleep(Duration::from_secs(901)).await;
    assert_eq!(store.count(Op::Put) - before, 3);
    store.heal();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(store.count(Op::Put) - before, 5);
    objects.close().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(store.count(Op::Put) - before, 5, "not after it was closed");
}
