//! A process that dies in the middle: what it acknowledged is there when it comes back.

use crate::tiny::{Tiny, command, query, start, until};
use actors::ports::{EventLog, Stream};
use actors::service::Overrides;
use actors::types::{DecisionId, Episode, Feedback, PolicySnapshot, PolicyVersion, RewardRecord};
use candle_core::Device;
use regrade::config::Config;
use regrade::policy::serving;
use regrade::wiring;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Everything a stream holds.
async fn read<T: serde::de::DeserializeOwned>(log: &dyn EventLog, stream: Stream) -> Vec<T> {
    let mut consumer = log.consumer("test", &[stream]).await.unwrap();
    let records = consumer.poll(1_000, Duration::ZERO).await.unwrap();
    records.iter().map(|record| serde_json::from_slice(&record.payload).unwrap()).collect()
}

async fn make_champion(tiny: &Tiny, config: &Config) {
    let first = wiring::first_policy(config).unwrap();
    let weights = serving::first_snapshot(
        serving::from_snapshot(&first, &Device::Cpu).unwrap().head.config().embedding,
        99,
        &Device::Cpu,
    )
    .unwrap()
    .weights;
    let one =
        PolicySnapshot::new(PolicyVersion(1), Some(PolicyVersion(0)), "test", weights.to_vec());
    wiring::snapshots(config).unwrap().put(&one).await.unwrap();
    let mut words = ["policy", "promote", "1", "--because", "a test"].map(str::to_owned).to_vec();
    words.extend(tiny.flags());
    command(&words).await.unwrap();
}

/// First life: six answers, three of which can be judged at once. It ends without a drain.
async fn first_life(config: &Config) -> Vec<DecisionId> {
    let service = start(config).await;
    assert_eq!(service.policy().version, PolicyVersion(1), "the promoted version serves");
    let mut waiting = Vec::new();
    for n in 0..6 {
        let references: &[&str] = if n < 3 { &["ada"] } else { &[] };
        let served = service.answer(query(n, references), Overrides::default()).await.unwrap();
        assert_eq!(served.policy.version, PolicyVersion(1));
        if n >= 3 {
            waiting.push(served.decision_id);
        }
    }
    until("judged", async || service.observe().await.judge.is_some_and(|j| j.judged == 3)).await;
    waiting
}

/// Second life: feedback on what the first one answered.
async fn second_life(config: &Config, waiting: &[DecisionId]) {
    let service = start(config).await;
    assert_eq!(service.policy().version, PolicyVersion(1), "the last champion serves again");
    for (n, decision_id) in waiting.iter().enumerate() {
        let feedback = Feedback {
            id: format!("f{n}"),
            decision_id: decision_id.clone(),
            value: None,
            references: vec!["dan".to_owned()],
            source: "application".to_owned(),
            ..Feedback::default()
        };
        until("known", async || service.feedback(feedback.clone()).await.is_ok()).await;
    }
    until("heard", async || {
        service.observe().await.judge.is_some_and(|j| j.pending == 0 && j.joined + j.revised >= 3)
    })
    .await;
    until("kept", async || {
        service.observe().await.replay_buffer.is_some_and(|buffer| buffer.samples == 6)
    })
    .await;
    let observed = service.observe().await;
    assert!(observed.door.is_conserved());
    assert!(observed.judge.unwrap().is_conserved(), "{:?}", observed.judge);
    assert!(service.drain(crate::tiny::PATIENCE).await.clean);
}

#[test]
fn a_service_that_is_dropped_without_a_drain_loses_nothing() {
    let tiny = Tiny::new();
    let config = tiny.config();
    let waiting = {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(make_champion(&tiny, &config));
        runtime.block_on(first_life(&config))
        // The runtime goes here with every actor in whatever it was doing.
    };
    Runtime::new().unwrap().block_on(second_life(&config, &waiting));
    Runtime::new().unwrap().block_on(async {
        let log = wiring::log(&config).await.unwrap();
        let episodes: Vec<Episode> = read(&*log, Stream::Episodes).await;
        let rewards: Vec<RewardRecord> = read(&*log, Stream::Rewards).await;
        let decided: BTreeSet<DecisionId> =
            episodes.iter().filter_map(|e| e.decision_id().cloned()).collect();
        let judged: BTreeSet<DecisionId> = rewards.iter().map(|r| r.decision_id.clone()).collect();
        assert_eq!((episodes.len(), rewards.len()), (6, 6), "each once");
        assert_eq!(decided, judged, "every episode has its verdict");
        let feedback: Vec<Feedback> = read(&*log, Stream::Feedback).await;
        assert_eq!(feedback.len(), 3);
    });
}
