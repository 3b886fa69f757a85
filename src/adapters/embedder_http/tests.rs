//! Against a scripted server over real sockets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use rand::SeedableRng as _;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the server does with one request.
#[derive(Debug, Clone)]
enum Act {
    /// Vectors of width 2: the length of the text and 1.
    Good,
    /// The same in reverse order, as base64.
    Reversed,
    /// A status with this `Retry-After`.
    Status(u16, Option<&'static str>),
    /// A body as it stands.
    Raw(String),
    /// Half of a good answer.
    CutOff,
    /// Says nothing for ever.
    Hang,
    /// Answers when another request is there too.
    InPairs,
}

struct Script {
    acts: Mutex<VecDeque<Act>>,
    seen: Mutex<Vec<(Value, Option<String>)>>,
    pair: tokio::sync::Barrier,
    inside: AtomicUsize,
    most: AtomicUsize,
}

fn good(request: &Value, is_reversed: bool) -> String {
    let vector = |text: &Value| [text.as_str().unwrap().len() as f32, 1.0];
    let entry = |(index, text): (usize, &Value)| {
        let bytes: Vec<u8> = vector(text).iter().flat_map(|x| x.to_le_bytes()).collect();
        let base64 = base64::engine::general_purpose::STANDARD.encode(bytes);
        let embedding = if is_reversed { json!(base64) } else { json!(vector(text)) };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    };
    let mut data: Vec<Value> =
        request["input"].as_array().unwrap().iter().enumerate().map(entry).collect();
    if is_reversed {
        data.reverse();
    }
    json!({ "object": "list", "data": data, "usage": { "total_tokens": 1 } }).to_string()
}

async fn answer(
    State(script): State<Arc<Script>>,
    headers: HeaderMap,
    Json(request): Json<Value>,
) -> Response {
    let key = headers.get(header::AUTHORIZATION).map(|key| key.to_str().unwrap().to_owned());
    script.seen.lock().unwrap().push((request.clone(), key));
    let act = script.acts.lock().unwrap().pop_front().unwrap_or(Act::Good);
    let text = match act {
        Act::Good => good(&request, false),
        Act::Reversed => good(&request, true),
        Act::Raw(text) => text,
        Act::CutOff => good(&request, false)[..30].to_owned(),
        Act::Hang => std::future::pending().await,
        Act::InPairs => {
            let inside = script.inside.fetch_add(1, Ordering::SeqCst) + 1;
            script.most.fetch_max(inside, Ordering::SeqCst);
            script.pair.wait().await;
            script.inside.fetch_sub(1, Ordering::SeqCst);
            good(&request, false)
        }
        Act::Status(status, wait) => {
            let mut response = Response::new(Body::from("try later"));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some(wait) = wait {
                response.headers_mut().insert(header::RETRY_AFTER, wait.parse().unwrap());
            }
            return response;
        }
    };
    Response::new(Body::from(text))
}

async fn server(acts: &[Act]) -> (HttpEmbedderConfig, Arc<Script>) {
    let script = Arc::new(Script {
        acts: Mutex::new(acts.iter().cloned().collect()),
        seen: Mutex::default(),
        pair: tokio::sync::Barrier::new(2),
        inside: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let router =
        Router::new().route("/v1/embeddings", post(answer)).with_state(Arc::clone(&script));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = HttpEmbedderConfig {
        url: format!("http://{address}/v1"),
        model: "scripted".to_owned(),
        dimension: 2,
        retries: 2,
        backoff_ms: 1,
        backoff_max_ms: 2_000,
        ..HttpEmbedderConfig::default()
    };
    (config, script)
}

fn client(config: HttpEmbedderConfig) -> HttpEmbedder {
    HttpEmbedder::new(config, |_| None, StdRng::seed_from_u64(1)).unwrap()
}

async fn embed(config: HttpEmbedderConfig, texts: &[&str]) -> Result<Vec<Vec<f32>>, EmbedError> {
    let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    client(config).embed(&texts, Purpose::Passage).await
}

/// `[n, 1]` at unit length.
fn vector(n: f32) -> Vec<f32> {
    let norm = (n * n + 1.0).sqrt();
    vec![n / norm, 1.0 / norm]
}

fn assert_close(found: &[Vec<f32>], lengths: &[f32]) {
    assert_eq!(found.len(), lengths.len());
    for (found, length) in found.iter().zip(lengths) {
        for (a, b) in found.iter().zip(vector(*length)) {
            assert!((a - b).abs() < 1e-6, "{found:?} for {length}");
        }
    }
}

#[tokio::test]
async fn texts_go_in_batches_and_unit_vectors_come_back_in_order() {
    let (config, script) = server(&[]).await;
    let config = HttpEmbedderConfig { batch_texts: 2, text_bytes_max: 4, ..config };
    let found = embed(config, &["a", "bb", "ccc", "dddd", "eeeeeeee"]).await.unwrap();
    assert_close(&found, &[1.0, 2.0, 3.0, 4.0, 4.0]);
    let seen = script.seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|(request, _)| request["encoding_format"] == "float"));
    assert!(seen.iter().all(|(request, _)| request.get("dimensions").is_none()));
}

#[tokio::test]
async fn as_many_requests_run_at_once_as_are_allowed_and_no_more() {
    let (config, script) = server(&vec![Act::InPairs; 6]).await;
    let config = HttpEmbedderConfig { batch_texts: 1, concurrency: 2, ..config };
    let found = embed(config, &["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]).await.unwrap();
    assert_close(&found, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(script.most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn answers_out_of_order_and_in_base64_are_put_right() {
    let (config, script) = server(&[Act::Reversed]).await;
    let config = HttpEmbedderConfig { encoding: Encoding::Base64, send_dimension: true, ..config };
    assert_close(&embed(config, &["a", "bb", "ccc"]).await.unwrap(), &[1.0, 2.0, 3.0]);
    let seen = script.seen.lock().unwrap();
    assert_eq!(seen[0].0["encoding_format"], "base64");
    assert_eq!(seen[0].0["dimensions"], 2);
}

#[tokio::test]
async fn a_busy_or_broken_server_is_asked_again() {
    let waits = [Act::Status(429, Some("0.01")), Act::Status(503, None)];
    for acts in [&waits[..], &[Act::CutOff], &[Act::Raw("<html>".to_owned()), Act::CutOff]] {
        let (config, script) = server(acts).await;
        assert_close(&embed(config, &["a"]).await.unwrap(), &[1.0]);
        assert_eq!(script.seen.lock().unwrap().len(), acts.len() + 1, "{acts:?}");
    }
}

#[tokio::test]
async fn a_server_that_stays_down_is_given_up_with_what_it_said() {
    let (config, script) = server(&vec![Act::Status(500, None); 9]).await;
    let error = embed(config, &["a"]).await.unwrap_err();
    assert!(matches!(error, EmbedError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("status 500: try later (tried 3 times)"), "{error}");
    assert_eq!(script.seen.lock().unwrap().len(), 3, "one request and two repetitions");
    // A pause longer than we would ever make is an answer too.
    let (config, script) = server(&[Act::Status(429, Some("3600"))]).await;
    assert!(matches!(embed(config, &["a"]).await, Err(EmbedError::Unavailable(_))));
    assert_eq!(script.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_server_that_hangs_or_is_gone_is_unavailable_in_bounded_time() {
    let (config, _) = server(&[Act::Hang, Act::Hang]).await;
    let config = HttpEmbedderConfig { timeout_ms: 50, retries: 1, ..config };
    let error = embed(config.clone(), &["a"]).await.unwrap_err();
    assert!(error.to_string().contains("no answer in time"), "{error}");
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let error = embed(HttpEmbedderConfig { url, ..config }, &["a"]).await.unwrap_err();
    assert!(matches!(error, EmbedError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn what_no_retry_can_mend_is_refused_at_once_and_told() {
    let entry = |index: usize, vector: Value| json!({ "index": index, "embedding": vector });
    let data = |entries: Vec<Value>| Act::Raw(json!({ "data": entries }).to_string());
    let cases = [
        (Act::Status(401, None), "status 401 Unauthorized: try later"),
        (data(vec![entry(0, json!([1, 2, 3]))]), "vector 0 has 3 values, expected 2"),
        (data(vec![]), "0 vectors for 1 texts"),
        (data(vec![entry(1, json!([1, 2]))]), "index 1 of entry 0 is out of range"),
        (data(vec![entry(0, json!([0, 0]))]), "vector 0 is zero"),
        (data(vec![entry(0, json!([1, null]))]), "cannot understand the answer"),
        (data(vec![entry(0, json!("AAAAAAA="))]), "5 bytes are no whole numbers"),
        // Two little-endian f32: NaN and 1.
        (data(vec![entry(0, json!("AADAfwAAgD8="))]), "vector 0 is not finite"),
    ];
    for (act, told) in cases {
        let (config, script) = server(std::slice::from_ref(&act)).await;
        let error = embed(config, &["a"]).await.unwrap_err();
        assert!(matches!(error, EmbedError::Refused(_)), "{act:?}: {error}");
        assert!(error.to_string().contains(told), "{told} not in: {error}");
        assert_eq!(script.seen.lock().unwrap().len(), 1, "{act:?}");
    }
}

#[tokio::test]
async fn the_key_comes_from_the_environment_and_goes_into_the_header_alone() {
    let (config, script) = server(&[]).await;
    let config = HttpEmbedderConfig { api_key_env: "SOME_KEY".to_owned(), ..config };
    let rng = || StdRng::seed_from_u64(1);
    let error = HttpEmbedder::new(config.clone(), |_| None, rng()).unwrap_err().to_string();
    assert!(error.contains("`SOME_KEY`, which is not set"), "{error}");
    let variable = |name: &str| (name == "SOME_KEY").then(|| "secret".to_owned());
    let client = HttpEmbedder::new(config, variable, rng()).unwrap();
    client.embed(&["a".to_owned()], Purpose::Query).await.unwrap();
    assert_eq!(script.seen.lock().unwrap()[0].1.as_deref(), Some("Bearer secret"));
    assert!(!format!("{client:?}").contains("secret"), "the key is never shown");
}

#[test]
fn settings_out_of_bounds_are_named() {
    let good = HttpEmbedderConfig {
        url: "http://localhost:1/v1".to_owned(),
        model: "m".to_owned(),
        dimension: 2,
        ..HttpEmbedderConfig::default()
    };
    assert_eq!(good.validate(), Ok(()));
    let field = |config: HttpEmbedderConfig| config.validate().unwrap_err().0;
    assert_eq!(field(HttpEmbedderConfig { url: "localhost".to_owned(), ..good.clone() }), "url");
    assert_eq!(field(HttpEmbedderConfig { model: " ".to_owned(), ..good.clone() }), "model");
    assert_eq!(field(HttpEmbedderConfig { dimension: 0, ..good.clone() }), "dimension");
    assert_eq!(field(HttpEmbedderConfig { concurrency: 0, ..good.clone() }), "concurrency");
    let short = HttpEmbedderConfig { backoff_max_ms: 1, ..good };
    assert_eq!(field(short), "backoff_max_ms");
}
