//! A whole service over the wire while its index server is away, hangs, and comes back.

use super::script::Fault;
use super::{config, filled, passages};
use crate::gateway::{Server, json};
use crate::tiny::until;
use actors::clock::Clock;
use actors::episode::OnRetrievalFailure;
use actors::fakes::World;
use actors::ports::{SearchIndex as _, Stream};
use actors::service::{Ports, Service, ServiceConfig, ServiceHandle};
use actors::types::{Episode, Gate};
use regrade::adapters::index_qdrant::QdrantConfig;
use regrade::adapters::resilience::BreakerConfig;
use regrade::config::ServerConfig;
use serde_json::json as body;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

struct Bench {
    world: World,
    qdrant: super::TestServer,
    service: ServiceHandle,
    server: Server,
}

impl Bench {
    async fn start(on_retrieval_failure: OnRetrievalFailure) -> Self {
        let (qdrant, index) = filled(|config: &mut QdrantConfig| {
            config.search_timeout_ms = 300;
            config.search_deadline_ms = 500;
            config.breaker = BreakerConfig { failures_max: 4, cooldown_ms: 100, probes: 1 };
        })
        .await;
        let world = World::default();
        let ports = Ports { index: Arc::new(index), ..world.ports(Clock::System) };
        let mut config = ServiceConfig::default();
        config.promotion.path = actors::rollout::Path::HeldOut;
        config.episode.on_retrieval_failure = on_retrieval_failure;
        let service = Service::start(ports, config).await.unwrap();
        until("ready", async || service.ready().await.ready).await;
        let server = Server::over(Arc::new(service.clone()), ServerConfig::default()).await;
        Self { world, qdrant, service, server }
    }

    async fn ask(&self) -> reqwest::Response {
        let request = body!({ "query": "which zebra?", "references": ["zebra 0"] });
        self.server.post("/v1/answer", request.to_string()).await
    }

    fn last_episode(&self) -> Episode {
        let episodes: Vec<Episode> = self.world.log.read(Stream::Episodes);
        episodes.into_iter().next_back().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_a_503_with_retry_after_until_it_is_back() {
    let mut bench = Bench::start(OnRetrievalFailure::Fail).await;
    assert_eq!(bench.ask().await.status(), 200);
    bench.qdrant.kill();
    for _ in 0..6 {
        let reply = bench.ask().await;
        assert_eq!(reply.status(), 503);
        assert_eq!(reply.headers()["retry-after"], "1");
        let error = json(reply).await["error"].clone();
        assert_eq!(error["code"], "unavailable");
        let message = error["message"].as_str().unwrap();
        assert!(message.starts_with("stage `retrieve` is unavailable: "), "{message}");
    }
    bench.qdrant.revive();
    until("back", async || bench.ask().await.status() == 200).await;
    assert!(bench.service.observe().await.door.is_conserved());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_configuration_it_is_an_answer_without_documents_that_is_never_learnt_from() {
    let mut bench = Bench::start(OnRetrievalFailure::Answer).await;
    bench.qdrant.kill();
    let reply = bench.ask().await;
    assert_eq!(reply.status(), 200);
    let reply = json(reply).await;
    assert_eq!((reply["k"].clone(), reply["gate"].clone()), (body!(0), body!("direct")));
    assert_eq!(reply["degraded"]["stage"], "retrieve");
    let reason = reply["degraded"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("search index is unavailable: qdrant: "), "{reason}");
    let episode = bench.last_episode();
    assert_eq!(episode.degraded.unwrap().reason, reason);
    assert_eq!(episode.decision.unwrap().gate, Gate::Direct);

    bench.qdrant.revive();
    until("back", async || json(bench.ask().await).await["degraded"].is_null()).await;
    assert_eq!(bench.last_episode().degraded, None);
    let episodes: Vec<Episode> = bench.world.log.read(Stream::Episodes);
    let degraded = episodes.iter().filter(|episode| episode.degraded.is_some()).count() as u64;
    let whole = episodes.len() as u64 - degraded;
    until("kept or dropped", async || {
        let buffer = bench.service.observe().await.replay_buffer;
        buffer.is_some_and(|buffer| buffer.samples + buffer.dropped.degraded == degraded + whole)
    })
    .await;
    let buffer = bench.service.observe().await.replay_buffer.unwrap();
    assert_eq!((buffer.samples, buffer.dropped.degraded), (whole, degraded));
    let metrics = bench.server.get("/metrics").await.text().await.unwrap();
    for line in [
        "regrade_episodes_degraded_total{reason=\"unavailable\"}",
        "regrade_remote_requests_total{target=\"qdrant\",outcome=\"ok\"}",
        "regrade_remote_requests_total{target=\"qdrant\",outcome=\"unavailable\"}",
        "regrade_remote_retries_total{target=\"qdrant\"}",
        "regrade_remote_request_duration_seconds",
        "regrade_breaker_state{target=\"qdrant\"}",
        "regrade_index_passages_written_total",
    ] {
        assert!(metrics.contains(line), "no {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_delays_nobody_beyond_the_deadline_of_the_stage() {
    let bench = Bench::start(OnRetrievalFailure::Answer).await;
    bench.qdrant.shared.always(Some(("query_batch", Fault::Hang)));
    for _ in 0..8 {
        let began = Instant::now();
        let reply = json(bench.ask().await).await;
        let took = began.elapsed();
        assert_eq!(reply["degraded"]["stage"], "retrieve", "{reply}");
        assert!(took < Duration::from_millis(1_500), "{took:?}");
    }
    assert!(bench.service.observe().await.door.is_conserved());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_cannot_be_is_the_callers_mistake_even_then() {
    let bench = Bench::start(OnRetrievalFailure::Answer).await;
    let request = body!({ "query": "zebra", "filter": { "colour": ["red"] } });
    let reply = bench.server.post("/v1/answer", request.to_string()).await;
    assert_eq!(reply.status(), 422);
    let message = json(reply).await["error"]["message"].to_string();
    assert!(message.contains("cannot filter by `colour`"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_reaches_the_server() {
    let bench = Bench::start(OnRetrievalFailure::Fail).await;
    let mut tagged = passages(3);
    tagged[1].metadata.insert("topic".to_owned(), "stripes".to_owned());
    super::open(config(&bench.qdrant.url())).await.upsert(&tagged).await.unwrap();
    let request = body!({ "query": "zebra", "filter": { "topic": ["stripes", "dots"] } });
    let reply = json(bench.server.post("/v1/answer", request.to_string()).await).await;
    assert_eq!(reply["k"], 1);
    assert_eq!(reply["documents"][0]["id"], "p1");
    assert_eq!(reply["documents"][0]["metadata"], body!({ "topic": "stripes" }));
}
