//! Stores of objects: the contract on each kind that needs no server, damage, and places refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::adapters::contract::check_snapshot_store;
use std::sync::Mutex;

fn snapshot(weights: &[u8]) -> PolicySnapshot {
    PolicySnapshot::new(PolicyVersion(1), None, "test", weights.to_vec())
}

#[tokio::test]
async fn a_folder_keeps_the_contract() {
    let folders = Mutex::new(Vec::new());
    check_snapshot_store(async || {
        let folder = tempfile::tempdir().unwrap();
        let store = ObjectSnapshots::in_folder(&folder.path().join("made as needed")).unwrap();
        folders.lock().unwrap().push(folder);
        Arc::new(store) as Arc<dyn SnapshotStore>
    })
    .await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    check_snapshot_store(async || Arc::new(ObjectSnapshots::in_memory()) as Arc<dyn SnapshotStore>)
        .await;
}

#[tokio::test]
async fn changed_torn_and_missing_weights_are_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = ObjectSnapshots::in_folder(folder.path()).unwrap();
    let uri = store.put(&snapshot(b"weights")).await.unwrap();
    let file = Url::parse(&uri).unwrap().to_file_path().unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"weights", "the URI names the weights");
    for bytes in [&b"weight5"[..], b"weig"] {
        std::fs::write(&file, bytes).unwrap();
        let read = store.get(PolicyVersion(1)).await;
        assert!(matches!(read, Err(SnapshotError::Damaged { .. })), "{read:?}");
    }
    std::fs::remove_file(&file).unwrap();
    let error = store.get(PolicyVersion(1)).await.unwrap_err().to_string();
    assert!(error.contains("is missing"), "{error}");
    let manifest = file.with_file_name(MANIFEST);
    std::fs::write(&manifest, "{").unwrap();
    let error = store.get(PolicyVersion(1)).await.unwrap_err().to_string();
    assert!(error.contains("manifest cannot be read"), "{error}");
}

#[tokio::test]
async fn weights_without_a_manifest_are_not_a_version() {
    let folder = tempfile::tempdir().unwrap();
    let store = ObjectSnapshots::in_folder(folder.path()).unwrap();
    let uri = store.put(&snapshot(b"weights")).await.unwrap();
    let file = Url::parse(&uri).unwrap().to_file_path().unwrap();
    std::fs::remove_file(file.with_file_name(MANIFEST)).unwrap();
    assert!(store.list().await.unwrap().is_empty());
    assert!(matches!(store.get(PolicyVersion(1)).await, Err(SnapshotError::Missing(_))));
    // A later writer of the version is not held up by what the torn one left.
    store.put(&snapshot(b"others")).await.unwrap();
    assert_eq!(store.get(PolicyVersion(1)).await.unwrap().weights[..], *b"others");
    store.delete(PolicyVersion(1)).await.unwrap();
    assert!(!file.exists(), "what a torn write left goes with the version");
}

#[test]
fn a_url_that_cannot_be_opened_says_what_was_expected() {
    for url in ["folder", "gopher://x/y"] {
        let error = ObjectSnapshots::open(url).unwrap_err().to_string();
        assert!(error.contains(url), "{error}");
    }
}

fn options(pairs: &[(&str, &str)]) -> StoreOptions {
    StoreOptions(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
}

#[test]
fn each_kind_of_store_takes_its_own_options() {
    for (url, key) in [
        ("s3://bucket/prefix", "endpoint"),
        ("s3://bucket", "aws_region"),
        ("https://s3.eu-west-1.amazonaws.com/bucket/prefix", "allow_http"),
        ("gs://bucket/prefix", "google_service_account"),
        ("az://container/prefix", "azure_storage_account_name"),
        ("https://account.blob.core.windows.net/container", "timeout"),
    ] {
        check(url, &options(&[(key, "x")])).unwrap_or_else(|e| panic!("{url} {key}: {e}"));
        let error = check(url, &options(&[("colour", "x")])).unwrap_err();
        assert!(matches!(error, PlaceError::Option { .. }), "{error}");
    }
    let error = check("folder", &options(&[("region", "x")])).unwrap_err();
    assert_eq!(error.to_string(), "a folder has no option `region`");
    assert_eq!(check(".regrade/policies", &options(&[])), Ok(()));
}

#[test]
fn a_credential_among_the_options_is_refused_without_repeating_it() {
    for (url, key, variable) in [
        ("s3://b", "secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ("s3://b", "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
        ("s3://b", "token", "AWS_SESSION_TOKEN"),
        ("s3://b", "aws_sse_customer_key_base64", "AWS_SSE_CUSTOMER_KEY_BASE64"),
        ("gs://b", "service_account_key", "GOOGLE_SERVICE_ACCOUNT_KEY"),
        ("az://c", "sas_token", "AZURE_STORAGE_SAS_KEY"),
        ("az://c", "account_key", "AZURE_STORAGE_ACCOUNT_KEY"),
    ] {
        let error = check(url, &options(&[(key, "hunter2")])).unwrap_err().to_string();
        assert!(error.contains(variable), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    for url in ["s3://key:hunter2@bucket/x", "https://a.blob.core.windows.net/c?sig=hunter2"] {
        let error = check(url, &options(&[])).unwrap_err().to_string();
        assert!(error.contains("`url` is a credential") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_store_takes_its_place_from_the_environment_and_options_win() {
    let environment = [
        ("AWS_ACCESS_KEY_ID".to_owned(), "id".to_owned()),
        ("AWS_SECRET_ACCESS_KEY".to_owned(), "secret".to_owned()),
        ("AWS_ENDPOINT".to_owned(), "http://127.0.0.1:1".to_owned()),
        ("AWS_PROFILE_NOBODY_KNOWS".to_owned(), "x".to_owned()),
    ];
    let limits = SnapshotLimits::default();
    let open = |options: &StoreOptions| {
        ObjectSnapshots::open_with("s3://b/p", options, &limits, &environment)
    };
    let shown = format!("{:?}", open(&options(&[])).unwrap());
    assert!(shown.contains("127.0.0.1:1"), "{shown}");
    let other = options(&[("endpoint", "http://127.0.0.1:2"), ("allow_http", "true")]);
    let shown = format!("{:?}", open(&other).unwrap());
    assert!(shown.contains("127.0.0.1:2") && !shown.contains("127.0.0.1:1\""), "{shown}");
}

#[tokio::test]
async fn a_store_that_is_away_is_given_up_within_its_limits() {
    // A listener that is dropped at once leaves a port that refuses.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let limits = SnapshotLimits {
        retries_max: 2,
        backoff_ms: 1,
        backoff_max_ms: 2,
        ..SnapshotLimits::default()
    };
    let access = options(&[("endpoint", &endpoint), ("allow_http", "true")]);
    let environment = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        .map(|name| (name.to_owned(), "x".to_owned()));
    let store = ObjectSnapshots::open_with("s3://b/p", &access, &limits, &environment).unwrap();
    let error = store.list().await.unwrap_err();
    assert!(matches!(error, SnapshotError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("max_retries: 2"), "{error}");
    let error = store.put(&snapshot(b"weights")).await.unwrap_err().to_string();
    assert!(!error.contains("AWS_SECRET"), "{error}");
}

#[test]
fn limits_name_the_field_that_is_wrong() {
    let check = |limits: SnapshotLimits| limits.validate().unwrap_err().0;
    let default = SnapshotLimits::default;
    assert_eq!(default().validate(), Ok(()));
    assert_eq!(check(SnapshotLimits { backoff_ms: 0, ..default() }), "backoff_ms");
    assert_eq!(check(SnapshotLimits { backoff_max_ms: 1, ..default() }), "backoff_max_ms");
    assert_eq!(
        check(SnapshotLimits { retry_timeout_ms: 300_001, ..default() }),
        "retry_timeout_ms"
    );
    assert_eq!(check(SnapshotLimits { request_timeout_ms: 0, ..default() }), "request_timeout_ms");
}
