//! Every bad day of a server: calls are repeated as often as told and no more, never beyond their
//! time, and nobody asks a server that is away again and again.

use super::script::Fault;
use super::server::TestServer;
use super::{config, filled, open, open_with, passages};
use crate::tiny::until;
use actors::ports::{Search, SearchError, SearchIndex};
use actors::types::Filter;
use regrade::adapters::index_qdrant::{QdrantConfig, QdrantIndex};
use regrade::adapters::resilience::BreakerConfig;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;

const PASS: Fault = Fault::Slow(Duration::ZERO);

fn zebra() -> Search {
    Search::new("zebra", 10)
}

async fn failure(index: &QdrantIndex) -> String {
    let error = index.search(&zebra()).await.unwrap_err();
    assert!(matches!(error, SearchError::Unavailable(_)), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_passing_failure_is_tried_again_whatever_its_code() {
    let (server, index) = filled(|_| {}).await;
    for code in [
        Code::Unavailable,
        Code::Internal,
        Code::Cancelled,
        Code::Unknown,
        Code::Aborted,
        Code::DeadlineExceeded,
    ] {
        let before = server.shared.calls("query_batch");
        server.shared.next("query_batch", &[Fault::Status(code); 2]);
        assert_eq!(index.search(&zebra()).await.unwrap().len(), 3);
        assert_eq!(server.shared.calls("query_batch") - before, 3, "{code:?}");
    }
}

#[tokio::test]
async fn attempts_end_with_their_number_and_the_reason_is_told() {
    let (server, index) = filled(|_| {}).await;
    server.shared.always(Some(("query_batch", Fault::Status(Code::Unavailable))));
    insta::assert_snapshot!(failure(&index).await, @"search index is unavailable: qdrant: scripted");
    assert_eq!(server.shared.calls("query_batch"), 3);
}

#[tokio::test]
async fn a_refusal_is_not_tried_again() {
    let (server, index) = filled(|_| {}).await;
    server.shared.next("query_batch", &[Fault::Status(Code::InvalidArgument)]);
    let error = index.search(&zebra()).await.unwrap_err();
    insta::assert_snapshot!(error, @"search index refused the request: scripted");
    assert_eq!(server.shared.calls("query_batch"), 1);
    server.shared.next("query_batch", &[Fault::Status(Code::NotFound)]);
    insta::assert_snapshot!(failure(&index).await, @"search index is unavailable: qdrant: scripted: the collection was removed; start again to make it, and index again");
    assert_eq!(server.shared.calls("query_batch"), 2);
}

#[tokio::test]
async fn a_limit_of_rate_is_waited_for_if_there_is_time() {
    let (server, index) = filled(|_| {}).await;
    server.shared.next("query_batch", &[Fault::Exhausted(1)]);
    let began = Instant::now();
    assert_eq!(index.search(&zebra()).await.unwrap().len(), 3);
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(server.shared.calls("query_batch"), 2);
    // An hour is longer than any search: the answer is given at once.
    server.shared.next("query_batch", &[Fault::Exhausted(3_600)]);
    insta::assert_snapshot!(failure(&index).await, @"search index is unavailable: qdrant: the server limits the rate of calls: scripted limit");
    assert_eq!(server.shared.calls("query_batch"), 3);
}

#[tokio::test]
async fn a_server_that_hangs_costs_the_deadline_and_no_more() {
    let (server, index) = filled(|config| {
        config.search_timeout_ms = 150;
        config.search_deadline_ms = 400;
    })
    .await;
    server.shared.always(Some(("query_batch", Fault::Hang)));
    let began = Instant::now();
    let error = failure(&index).await;
    let took = began.elapsed();
    assert!(error.contains("no reply within"), "{error}");
    assert!(took < Duration::from_millis(900), "{took:?}");
    assert!((2..=3).contains(&server.shared.calls("query_batch")));
    server.shared.always(None);
    assert_eq!(index.search(&zebra()).await.unwrap().len(), 3, "the connection still works");
}

#[tokio::test]
async fn a_breaker_opens_spares_the_server_and_closes_again() {
    let (server, index) = filled(|config| {
        config.retry.attempts_max = 1;
        config.breaker = BreakerConfig { failures_max: 3, cooldown_ms: 300, probes: 2 };
    })
    .await;
    server.shared.always(Some(("query_batch", Fault::Status(Code::Unavailable))));
    for _ in 0..3 {
        assert!(failure(&index).await.ends_with("scripted"));
    }
    for _ in 0..20 {
        let error = failure(&index).await;
        assert!(error.contains("qdrant: circuit breaker is open for another"), "{error}");
    }
    assert_eq!(server.shared.calls("query_batch"), 3, "twenty searches never left the process");
    // One call on trial fails and opens it for another while.
    until("tried again", async || failure(&index).await.ends_with("scripted")).await;
    assert_eq!(server.shared.calls("query_batch"), 4);
    assert!(failure(&index).await.contains("circuit breaker"));
    server.shared.always(None);
    until("closed", async || index.search(&zebra()).await.is_ok()).await;
    for _ in 0..5 {
        assert_eq!(index.search(&zebra()).await.unwrap().len(), 3);
    }
    assert_eq!(server.shared.calls("query_batch"), 10);
}

#[tokio::test]
async fn refusals_and_limits_do_not_open_the_breaker() {
    let (server, index) = filled(|config| {
        config.retry.attempts_max = 1;
        config.breaker.failures_max = 1;
    })
    .await;
    let faults = [Fault::Status(Code::InvalidArgument), Fault::Exhausted(1)];
    server.shared.next("query_batch", &faults);
    for _ in faults {
        index.search(&zebra()).await.unwrap_err();
    }
    assert_eq!(index.search(&zebra()).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_server_that_was_killed_is_found_again() {
    let (mut server, index) = filled(|_| {}).await;
    server.kill();
    let error = failure(&index).await;
    assert!(error.starts_with("search index is unavailable: qdrant: "), "{error}");
    assert!(failure(&index).await.contains("refused"), "the cause is told");
    server.revive();
    assert_eq!(index.search(&zebra()).await.unwrap().len(), 3);
    assert_eq!(index.count().await.unwrap(), 3);
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_looked_for_at_each_call() {
    let mut server = TestServer::start();
    server.kill();
    let index = open(config(&server.url())).await;
    failure(&index).await;
    index.count().await.unwrap_err();
    server.revive();
    assert!(index.search(&zebra()).await.unwrap().is_empty());
    index.upsert(&passages(3)).await.unwrap();
    assert_eq!(index.search(&zebra()).await.unwrap().len(), 3);
    assert_eq!(server.shared.calls("create_collection"), 1);
}

#[tokio::test]
async fn writes_go_in_batches_and_go_on_after_they_were_broken_off() {
    let server = TestServer::start();
    let index = open(QdrantConfig { batch: 2, ..config(&server.url()) }).await;
    let mut faults = vec![PASS; 2];
    faults.extend([Fault::Status(Code::Unavailable); 3]);
    server.shared.next("upsert", &faults);
    let error = index.upsert(&passages(7)).await.unwrap_err();
    insta::assert_snapshot!(error, @"search index is unavailable: qdrant: scripted; 4 of 7 passages are written: send them again, those that are there are replaced, not doubled");
    assert_eq!(index.count().await.unwrap(), 4);
    index.upsert(&passages(7)).await.unwrap();
    assert_eq!(index.count().await.unwrap(), 7);
    assert_eq!(*server.shared.upserts.lock().unwrap(), [2, 2, 2, 2, 2, 1]);
}

#[tokio::test]
async fn a_write_whose_reply_is_lost_or_late_is_sent_again_and_stands_once() {
    let server = TestServer::start();
    let index = open(config(&server.url())).await;
    server.shared.next("upsert", &[Fault::Afterwards(Code::Unavailable), Fault::Unapplied]);
    index.upsert(&passages(3)).await.unwrap();
    assert_eq!(server.shared.calls("upsert"), 3);
    assert_eq!(index.count().await.unwrap(), 3);
    server.shared.next("delete", &[Fault::Afterwards(Code::Internal)]);
    index.delete(&["p0".into(), "unknown".into()]).await.unwrap();
    assert_eq!(index.count().await.unwrap(), 2);
}

#[tokio::test]
async fn what_is_found_twice_or_not_at_all_is_no_error() {
    let (server, index) = filled(|_| {}).await;
    server.shared.next("query_batch", &[Fault::Twice, Fault::Empty]);
    let found = index.search(&zebra()).await.unwrap();
    let ids: Vec<&str> = found.iter().map(|c| c.document.id.as_str()).collect();
    assert_eq!(ids, ["p0", "p1", "p2"]);
    assert!(index.search(&zebra()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_filter_that_the_server_keeps_no_index_of_is_refused_here() {
    let (server, index) = filled(|_| {}).await;
    let filter = Filter::from([("colour".to_owned(), vec!["red".to_owned()])]);
    let error = index.search(&Search { filter, ..zebra() }).await.unwrap_err();
    insta::assert_snapshot!(error, @r#"search index refused the request: cannot filter by `colour`: `index.qdrant.filter_fields` has ["topic", "place"]"#);
    assert_eq!(server.shared.calls("query_batch"), 0);
}

#[tokio::test]
async fn the_key_comes_from_the_environment_and_a_wrong_one_is_told() {
    let server = TestServer::start();
    // The one variable that every test runner sets and nobody has to.
    let name = "CARGO_PKG_NAME";
    server.shared.ask_for_key(&std::env::var(name).unwrap());
    let with = |name: &str| {
        let api_key_env = Some(name.to_owned());
        open_with(QdrantConfig { api_key_env, ..config(&server.url()) }, None)
    };
    with(name).await.unwrap();
    let error = open_with(config(&server.url()), None).await.map(drop).unwrap_err();
    insta::assert_snapshot!(error, @"search index refused the request: qdrant: the server refuses the API key: put the right one into the environment variable that `index.qdrant.api_key_env` names (Must provide an API key)");
    let error = with("REGRADE_NO_SUCH_KEY").await.map(drop).unwrap_err();
    insta::assert_snapshot!(error, @"search index refused the request: qdrant: the environment variable `REGRADE_NO_SUCH_KEY` of `index.qdrant.api_key_env` is not set");
}

#[tokio::test]
async fn a_port_that_speaks_http_and_no_grpc_is_told_apart() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let rest = axum::Router::new().fallback(async || "{\"title\":\"qdrant\"}");
    let serving = tokio::spawn(async move { axum::serve(listener, rest).await });
    let error = open_with(config(&url), None).await.map(drop).unwrap_err();
    assert!(error.contains("use the gRPC port, 6334 unless changed"), "{error}");
    assert!(error.contains("`index.qdrant.url`"), "{error}");
    serving.abort();
}

#[tokio::test]
async fn an_address_that_is_none_is_refused() {
    let error = open_with(config("localhost:6334"), None).await.map(drop).unwrap_err();
    insta::assert_snapshot!(error, @"search index refused the request: `index.qdrant.url`: expected `http://host:6334`, or `https://…` for TLS");
    let error = open_with(config("http://[half"), None).await.map(drop).unwrap_err();
    assert!(error.contains("cannot use `index.qdrant.url` `http://[half`"), "{error}");
}

#[tokio::test]
async fn tls_towards_a_server_without_it_is_an_error_like_any_other() {
    let server = TestServer::start();
    let index = open(config(&server.url().replace("http:", "https:"))).await;
    let error = failure(&index).await;
    assert!(error.starts_with("search index is unavailable: qdrant: "), "{error}");
    assert_eq!(server.shared.calls("health_check"), 0);
}
