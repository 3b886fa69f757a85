//! The promises of `ports::SnapshotStore`.

use actors::ports::{SnapshotError, SnapshotStore};
use actors::types::{PolicySnapshot, PolicyVersion};
use std::sync::Arc;

/// Checks a snapshot store; `make()` gives an empty one.
pub async fn check_snapshot_store(make: impl AsyncFn() -> Arc<dyn SnapshotStore>) {
    an_empty_store_has_nothing(&*make().await).await;
    what_was_put_comes_back(&*make().await).await;
    versions_are_listed_in_order(&*make().await).await;
    a_version_is_written_once(&*make().await).await;
    a_broken_snapshot_is_not_stored(&*make().await).await;
    puts_at_the_same_time_leave_one_winner(make().await).await;
}

fn snapshot(version: u64, weights: &[u8]) -> PolicySnapshot {
    let parent = version.checked_sub(1).map(PolicyVersion);
    PolicySnapshot::new(PolicyVersion(version), parent, "test", weights.to_vec())
}

async fn an_empty_store_has_nothing(store: &dyn SnapshotStore) {
    assert!(store.list().await.unwrap().is_empty());
    match store.get(PolicyVersion(3)).await {
        Err(SnapshotError::Missing(PolicyVersion(3))) => {}
        other => panic!("a missing snapshot gave {other:?}"),
    }
    store.delete(PolicyVersion(3)).await.unwrap();
}

async fn what_was_put_comes_back(store: &dyn SnapshotStore) {
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    for snapshot in [snapshot(0, b""), snapshot(1, b"weights"), snapshot(2, &large)] {
        let uri = store.put(&snapshot).await.unwrap();
        assert!(!uri.is_empty());
        assert_eq!(store.get(snapshot.version).await.unwrap(), snapshot);
    }
}

async fn versions_are_listed_in_order(store: &dyn SnapshotStore) {
    for version in [10, 2, 1, 100] {
        store.put(&snapshot(version, b"w")).await.unwrap();
    }
    assert_eq!(store.list().await.unwrap(), [1, 2, 10, 100].map(PolicyVersion));
    store.delete(PolicyVersion(10)).await.unwrap();
    assert_eq!(store.list().await.unwrap(), [1, 2, 100].map(PolicyVersion));
    assert!(matches!(store.get(PolicyVersion(10)).await, Err(SnapshotError::Missing(_))));
}

async fn a_version_is_written_once(store: &dyn SnapshotStore) {
    let first = snapshot(5, b"first");
    let uri = store.put(&first).await.unwrap();
    assert_eq!(store.put(&first).await.unwrap(), uri, "the same again is no error");
    match store.put(&snapshot(5, b"other")).await {
        Err(SnapshotError::Conflict(PolicyVersion(5))) => {}
        other => panic!("other weights under a version gave {other:?}"),
    }
    assert_eq!(store.get(PolicyVersion(5)).await.unwrap(), first);
    // A deleted version is free again.
    store.delete(PolicyVersion(5)).await.unwrap();
    store.put(&snapshot(5, b"other")).await.unwrap();
    assert_eq!(store.get(PolicyVersion(5)).await.unwrap().weights[..], *b"other");
}

async fn a_broken_snapshot_is_not_stored(store: &dyn SnapshotStore) {
    let mut broken = snapshot(7, b"weights");
    broken.weights = b"torn".to_vec().into();
    assert!(matches!(store.put(&broken).await, Err(SnapshotError::Damaged { .. })));
    assert!(store.list().await.unwrap().is_empty());
}

async fn puts_at_the_same_time_leave_one_winner(store: Arc<dyn SnapshotStore>) {
    let puts = (0..6_u8).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.put(&snapshot(1, &[n; 64])).await.is_ok() })
    });
    let mut winners = 0;
    for put in puts.collect::<Vec<_>>() {
        winners += usize::from(put.await.unwrap());
    }
    assert_eq!(winners, 1, "one of six writers of a version wins");
    assert!(store.get(PolicyVersion(1)).await.unwrap().is_intact());
}
