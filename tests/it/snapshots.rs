//! Snapshots in a bucket: the contract on a real S3 server, faults on a scripted one.

use crate::services;
use actors::ports::{SnapshotError, SnapshotStore};
use actors::types::{PolicySnapshot, PolicyVersion};
use axum::Router;
use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use regrade::adapters::contract::check_snapshot_store;
use regrade::adapters::snapshots_object::{ObjectSnapshots, SnapshotLimits, StoreOptions};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const BUCKET: &str = "regrade-test";

fn open(endpoint: &str, prefix: &str, limits: &SnapshotLimits) -> ObjectSnapshots {
    let options = [("endpoint", endpoint), ("region", "us-east-1"), ("allow_http", "true")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let environment = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        .map(|name| (name.to_owned(), "test".to_owned()));
    let url = format!("s3://{BUCKET}/{prefix}");
    let options = StoreOptions(BTreeMap::from(options));
    ObjectSnapshots::open_with(&url, &options, limits, &environment).unwrap()
}

fn snapshot(weights: &[u8]) -> PolicySnapshot {
    PolicySnapshot::new(PolicyVersion(1), None, "test", weights.to_vec())
}

#[tokio::test]
async fn a_bucket_on_a_real_s3_server_keeps_the_contract() {
    let Some(endpoint) = services::s3() else { return };
    let made = AtomicUsize::new(0);
    // A prefix of this run: the server may be older than the test.
    let run = std::process::id();
    check_snapshot_store(async || {
        let prefix = format!("{run}/{}", made.fetch_add(1, Ordering::Relaxed));
        Arc::new(open(endpoint, &prefix, &SnapshotLimits::default())) as Arc<dyn SnapshotStore>
    })
    .await;
}

#[tokio::test]
async fn two_nodes_on_one_bucket_see_one_version_and_refuse_other_weights() {
    let Some(endpoint) = services::s3() else { return };
    let prefix = format!("{}/two", std::process::id());
    let nodes = [(); 2].map(|()| open(endpoint, &prefix, &SnapshotLimits::default()));
    let uri = nodes[0].put(&snapshot(b"first")).await.unwrap();
    assert_eq!(nodes[1].put(&snapshot(b"first")).await.unwrap(), uri);
    assert!(uri.starts_with("s3://regrade-test/"), "{uri}");
    let error = nodes[1].put(&snapshot(b"second")).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Conflict(PolicyVersion(1))), "{error}");
    assert_eq!(nodes[1].get(PolicyVersion(1)).await.unwrap(), snapshot(b"first"));
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named() {
    let Some(endpoint) = services::s3() else { return };
    let environment = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
        .map(|name| (name.to_owned(), "test".to_owned()));
    let options = [("endpoint", endpoint), ("allow_http", "true")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let options = StoreOptions(BTreeMap::from(options));
    let limits = SnapshotLimits::default();
    let store =
        ObjectSnapshots::open_with("s3://nobody/x", &options, &limits, &environment).unwrap();
    let error = store.put(&snapshot(b"weights")).await.unwrap_err().to_string();
    assert!(error.contains("nobody") || error.contains("NoSuchBucket"), "{error}");
}

/// A bucket that does as a test says; keeps what was put.
#[derive(Clone, Default)]
struct Script {
    objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    requests: Arc<AtomicUsize>,
    /// Answers 503 to so many requests first.
    refuses: usize,
    /// Gives weights back with one byte changed.
    corrupts: bool,
    /// Never answers.
    hangs: bool,
}

impl Script {
    async fn answer(self, method: Method, uri: Uri, body: Bytes) -> Response {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        if self.requests.fetch_add(1, Ordering::Relaxed) < self.refuses {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let mut objects = self.objects.lock().unwrap();
        match method {
            Method::PUT => {
                objects.insert(uri.path().to_owned(), body);
                ([("etag", "\"1\"")], "").into_response()
            }
            Method::GET => match objects.get(uri.path()) {
                None => StatusCode::NOT_FOUND.into_response(),
                Some(bytes) => {
                    let mut bytes = bytes.to_vec();
                    if self.corrupts && uri.path().ends_with(".safetensors") {
                        bytes[0] ^= 1;
                    }
                    let modified = "Sat, 01 Jan 2000 00:00:00 GMT";
                    ([("etag", "\"1\""), ("last-modified", modified)], bytes).into_response()
                }
            },
            _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        }
    }

    async fn serve(&self) -> String {
        let script = self.clone();
        let routes = Router::new().fallback(move |method: Method, uri: Uri, body: Bytes| {
            script.clone().answer(method, uri, body)
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        endpoint
    }
}

fn quick() -> SnapshotLimits {
    SnapshotLimits { backoff_ms: 1, backoff_max_ms: 5, retries_max: 3, ..SnapshotLimits::default() }
}

#[tokio::test]
async fn weights_that_come_back_changed_never_become_a_version() {
    let script = Script { corrupts: true, ..Script::default() };
    let store = open(&script.serve().await, "x", &quick());
    let error = store.put(&snapshot(b"weights")).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
    let stored: Vec<String> = script.objects.lock().unwrap().keys().cloned().collect();
    assert!(stored.iter().all(|path| !path.ends_with("manifest.json")), "{stored:?}");
    assert!(matches!(store.get(PolicyVersion(1)).await, Err(SnapshotError::Missing(_))));
}

#[tokio::test]
async fn a_bucket_that_refuses_in_passing_is_asked_again() {
    let script = Script { refuses: 3, ..Script::default() };
    let store = open(&script.serve().await, "x", &quick());
    store.put(&snapshot(b"weights")).await.unwrap();
    assert_eq!(store.get(PolicyVersion(1)).await.unwrap(), snapshot(b"weights"));
    let script = Script { refuses: 4, ..Script::default() };
    let store = open(&script.serve().await, "x", &quick());
    let error = store.put(&snapshot(b"weights")).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Unavailable(_)), "{error}");
    assert_eq!(script.requests.load(Ordering::Relaxed), 4, "one try and three repetitions");
}

#[tokio::test]
async fn a_bucket_that_never_answers_is_given_up() {
    let script = Script { hangs: true, ..Script::default() };
    let limits = SnapshotLimits { request_timeout_ms: 50, retries_max: 1, ..quick() };
    let store = open(&script.serve().await, "x", &limits);
    let error = store.get(PolicyVersion(1)).await.unwrap_err();
    assert!(matches!(error, SnapshotError::Unavailable(_)), "{error}");
}
