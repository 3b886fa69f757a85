//! The world every test begins with, and the laws every test ends with.

use actors::clock::Clock;
use actors::compute::ComputeMode;
use actors::fakes::World;
use actors::ports::{SearchIndex, Stream};
use actors::rollout::Path;
use actors::service::{Observed, Overrides, Service, ServiceConfig, ServiceHandle};
use actors::types::{Document, Episode, Exploration, Query, RewardRecord};
use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn config() -> ServiceConfig {
    let mut config =
        ServiceConfig { seed: Some(7), compute: ComputeMode::Inline, ..Default::default() };
    // Chance is what the tests of it ask for.
    config.exploration = Exploration::Greedy;
    config.promotion.path = Path::HeldOut;
    config.learner.interval_ms = 0;
    config.learner.min_new_rewards = 0;
    config
}

pub(crate) async fn world() -> World {
    let world = World::default();
    let document = |id: &str, text: &str| Document {
        id: id.into(),
        text: text.to_owned(),
        ..Document::default()
    };
    let documents = [document("a", "paris is in france"), document("b", "rome is in italy")];
    world.index.upsert(&documents).await.unwrap();
    world
}

pub(crate) async fn start(world: &World, config: ServiceConfig) -> ServiceHandle {
    let service = Service::start(world.ports(Clock::simulated(1_000_000)), config).await.unwrap();
    until(&service, "ready", |service| async move { service.ready().await.ready }).await;
    service
}

pub(crate) fn query(n: usize) -> Query {
    let references = vec!["paris is in france".to_owned()];
    Query { text: format!("is paris in france {n}"), references, ..Query::default() }
}

pub(crate) async fn ask(service: &ServiceHandle, n: usize) -> actors::types::Served {
    service.answer(query(n), Overrides::default()).await.unwrap()
}

/// Waits in simulated time until a condition holds.
pub(crate) async fn until<F, Fut>(service: &ServiceHandle, what: &str, holds: F)
where
    F: Fn(ServiceHandle) -> Fut,
    Fut: Future<Output = bool>,
{
    for _ in 0..2_000 {
        if holds(service.clone()).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}: {:#?}", service.observe().await);
}

pub(crate) async fn until_judged(service: &ServiceHandle, n: u64) {
    until(service, "judged", move |service| async move {
        service.observe().await.judge.is_some_and(|judge| judge.judged >= n)
    })
    .await;
}

pub(crate) async fn until_kept(service: &ServiceHandle, n: u64) {
    until(service, "kept", move |service| async move {
        service.observe().await.replay_buffer.is_some_and(|buffer| buffer.samples >= n)
    })
    .await;
}

/// The conservation laws over the counters and over the log itself.
pub(crate) async fn assert_laws(world: &World, service: &ServiceHandle) -> Observed {
    let observed = service.observe().await;
    assert!(observed.door.is_conserved(), "queries: {observed:#?}");
    let episodes: Vec<Episode> = world.log.read(Stream::Episodes);
    let decisions: BTreeSet<_> = episodes.iter().filter_map(|e| e.decision_id().cloned()).collect();
    if let Some(judge) = observed.judge {
        assert!(judge.is_conserved(), "episodes or feedback: {judge:#?}");
    }
    let rewards: Vec<RewardRecord> = world.log.read(Stream::Rewards);
    let numbers: BTreeSet<_> = rewards.iter().map(|r| (&r.decision_id, r.revision)).collect();
    assert_eq!(numbers.len(), rewards.len(), "a decision has two verdicts of one number");
    let rewarded: BTreeSet<_> = rewards.iter().map(|r| r.decision_id.clone()).collect();
    assert!(rewarded.is_subset(&decisions), "a verdict names no logged decision");
    observed
}
