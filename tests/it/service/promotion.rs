//! A candidate earns its place on the real service, its certificate is derived again from the log,
//! and it is taken back over HTTP.

use crate::gateway::{Server, json};
use crate::tiny::{PATIENCE, Tiny, command, query, start, until};
use actors::ports::{NewRecord, Stream};
use actors::rollout::Path;
use actors::service::{Overrides, ServiceHandle};
use actors::types::{Arm, PolicyRecord, PolicySnapshot, PolicyState, PolicyVersion, StageEvidence};
use candle_core::Device;
use regrade::config::{Config, ServerConfig};
use regrade::policy::serving::first_snapshot;
use regrade::wiring::{self, OperatorLog};
use serde_json::json as body;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::runtime::Runtime;

/// Stages that a few hundred questions are enough for.
fn config(tiny: &Tiny) -> Config {
    let mut config = tiny.config();
    let rules = &mut config.service.promotion;
    rules.path = Path::Staged;
    rules.tick_ms = 20;
    (rules.parity.queries, rules.offline.samples_min) = (8, 20);
    (rules.shadow.share, rules.shadow.decisions_min) = (1.0, 10);
    rules.shadow.load_max = 1.0;
    rules.canary.shares = vec![0.25, 0.5];
    (rules.canary.units_min, rules.canary.tuned_for) = (20, 40.0);
    rules.canary.margin = 0.9;
    rules.canary.guards.latency_ratio = 100.0;
    config.service.drift.enabled = false;
    config
}

/// A candidate that scores as the first policy does, of other bytes, as the learner proposes one.
async fn propose(config: &Config, version: u64) -> PolicySnapshot {
    let parts = wiring::parts(config).await.unwrap();
    let seeded = first_snapshot(parts.reader.width(), 40 + version, &Device::Cpu).unwrap();
    let snapshot = PolicySnapshot::new(
        PolicyVersion(version),
        Some(PolicyVersion(0)),
        "test",
        seeded.weights.to_vec(),
    );
    let uri = parts.ports.snapshots.put(&snapshot).await.unwrap();
    let evidence = vec![StageEvidence {
        passed: true,
        reason: "held out".to_owned(),
        is_rederivable: false,
        ..StageEvidence::new(PolicyState::Candidate, 1)
    }];
    let record = PolicyRecord {
        uri,
        evidence,
        step: Some(1),
        ..PolicyRecord::of(&snapshot, PolicyState::Candidate, "held out", 0)
    };
    let payload = serde_json::to_vec(&record).unwrap();
    let record = NewRecord { key: version.to_string(), payload, ..NewRecord::default() };
    parts.ports.log.append(Stream::Policies, vec![record]).await.unwrap();
    snapshot
}

/// Asks as many users do until it is so; gives the answers.
async fn ask_until(
    service: &ServiceHandle,
    mut is_so: impl AsyncFnMut() -> bool,
) -> Vec<actors::service::Served> {
    let mut served = Vec::new();
    for n in 0..20_000_usize {
        let mut query = query(n % 8, &["dan"]);
        query.id = format!("q{n}").as_str().into();
        query.metadata.insert("user".to_owned(), format!("user {}", n % 900));
        // A failed request fails the test right here.
        served.push(service.answer(query, Overrides::default()).await.unwrap());
        if n % 16 == 0 && is_so().await {
            return served;
        }
    }
    panic!("never: {:#?}", service.observe().await);
}

/// One life of a process: what it leaves running ends with it.
fn life<T>(life: impl Future<Output = T>) -> T {
    Runtime::new().unwrap().block_on(life)
}

#[test]
fn a_candidate_earns_its_place_is_verified_bit_for_bit_and_taken_back_at_once() {
    let tiny = Tiny::new();
    let config = config(&tiny);
    let snapshot = life(propose(&config, 1));
    life(earns(&config));
    let file = tiny.file("config.toml", &config.to_toml().unwrap());
    life(command(&["policy", "verify", "1", "--config", &file])).unwrap();
    life(nobody_was_mixed(&config, &snapshot));
    let mut other = config.clone();
    other.service.promotion.canary.margin = 0.8;
    let file = tiny.file("other.toml", &other.to_toml().unwrap());
    let said = life(command(&["policy", "verify", "1", "--config", &file])).unwrap_err();
    assert!(said.0 == 1 && said.1.contains("under other rules"), "{said:?}");
    life(taken_back(&config));
}

/// Under traffic, through every stage.
async fn earns(config: &Config) {
    let service = start(config).await;
    let served = ask_until(&service, async || service.policy().version == PolicyVersion(1)).await;
    let by: BTreeSet<u64> = served.iter().map(|served| served.policy.version.0).collect();
    assert_eq!(by, [0, 1].into(), "a canary served before the promotion");
    let board = service.board().await.unwrap();
    let standing = board.standing(PolicyVersion(1)).unwrap();
    let stages: Vec<(PolicyState, Option<f64>)> =
        standing.record.evidence.iter().map(|stage| (stage.stage, stage.share)).collect();
    let expected = [
        (PolicyState::Candidate, None),
        (PolicyState::Parity, None),
        (PolicyState::Offline, None),
        (PolicyState::Shadow, None),
        (PolicyState::Canary, Some(0.25)),
        (PolicyState::Canary, Some(0.5)),
    ];
    assert_eq!(stages, expected);
    assert!(service.drain(PATIENCE).await.clean);
}

/// Every user saw one policy at a time, and each answer names the weights that made it.
async fn nobody_was_mixed(config: &Config, snapshot: &PolicySnapshot) {
    let log = OperatorLog::open(config).await.unwrap();
    let mut arms: BTreeMap<String, BTreeSet<Arm>> = BTreeMap::new();
    for record in log.read(Stream::Episodes).await.unwrap() {
        let episode: actors::types::Episode = serde_json::from_slice(&record.payload).unwrap();
        let (assignment, decision) = (episode.assignment.unwrap(), episode.decision.unwrap());
        if let Arm::Candidate { version } = assignment.arm {
            assert_eq!(decision.policy.version, version);
            assert_eq!(decision.policy.digest, snapshot.digest);
            arms.entry(assignment.unit).or_default().insert(assignment.arm);
        } else if actors::rollout::holds_control(&assignment, PolicyVersion(1)) {
            arms.entry(assignment.unit).or_default().insert(assignment.arm);
        }
    }
    // Each arm had to have as many units with a reward.
    let units = 2 * config.service.promotion.canary.units_min as usize;
    assert!(arms.len() >= units, "{} units", arms.len());
    let mixed: Vec<_> = arms.iter().filter(|(_, arms)| arms.len() > 1).collect();
    assert!(mixed.is_empty(), "{mixed:?}");
}

/// Over HTTP.
async fn taken_back(config: &Config) {
    let service = start(config).await;
    until("it serves again", async || service.policy().version == PolicyVersion(1)).await;
    let server = Server::over(Arc::new(service.clone()), ServerConfig::default()).await;
    let shown = json(server.get("/v1/policies").await).await;
    assert_eq!(shown["champion"], 1);
    let reply = server.post("/v1/policies/rollback", body!({ "reason": "x" }).to_string()).await;
    assert_eq!(reply.status(), 200);
    let reply = json(reply).await;
    println!("{reply}");
    assert_eq!((&reply["champion"], &reply["from"]), (&body!(0), &body!("champion")));
    assert_eq!(service.policy().version, PolicyVersion(0));
    let again = server.post("/v1/policies/rollback", "{}".to_owned()).await;
    assert_eq!(again.status(), 409, "nothing before the first weights");
    server.stop().await;
    assert!(service.drain(PATIENCE).await.clean);
}

#[test]
fn weights_without_a_certificate_serve_nobody_unless_that_is_allowed() {
    let tiny = Tiny::new();
    let mut config = config(&tiny);
    let weights = life(championed_by_hand(&config));
    let observed = life(serves(&config, 0));
    assert_eq!((observed.uncertified, observed.is_caught_up), (1, true));
    config.service.promotion.allow_uncertified = true;
    life(serves(&config, 1));

    // An operator's word is signed, and good enough for every node that trusts the key.
    config.service.promotion.allow_uncertified = false;
    let file = tiny.file("config.toml", &config.to_toml().unwrap());
    let parent = Some(PolicyVersion(0));
    let other = PolicySnapshot::new(PolicyVersion(2), parent, "test", weights);
    life(async { wiring::snapshots(&config).unwrap().put(&other).await.unwrap() });
    let promote = ["policy", "promote", "2", "--config", &file];
    let (code, said) = life(command(&promote)).unwrap_err();
    assert!(code == 1 && said.contains("--because REASON"), "{said}");
    let words: Vec<&str> = promote.into_iter().chain(["--because", "tried by hand"]).collect();
    life(command(&words)).unwrap();
    life(serves(&config, 2));
    life(command(&["policy", "verify", "2", "--config", &file])).unwrap();
}

/// Writes a champion's record as anybody could who reaches the log; gives its weights.
async fn championed_by_hand(config: &Config) -> Vec<u8> {
    let parts = wiring::parts(config).await.unwrap();
    let seeded = first_snapshot(parts.reader.width(), 41, &Device::Cpu).unwrap();
    let (parent, weights) = (Some(PolicyVersion(0)), seeded.weights.to_vec());
    let snapshot = PolicySnapshot::new(PolicyVersion(1), parent, "test", weights.clone());
    let uri = parts.ports.snapshots.put(&snapshot).await.unwrap();
    let record =
        PolicyRecord { uri, ..PolicyRecord::of(&snapshot, PolicyState::Champion, "mine", 0) };
    let payload = serde_json::to_vec(&record).unwrap();
    let record = NewRecord { key: "1".to_owned(), payload, ..NewRecord::default() };
    parts.ports.log.append(Stream::Policies, vec![record]).await.unwrap();
    weights
}

/// Starts, looks who serves, and stops.
async fn serves(config: &Config, version: u64) -> actors::policy_follower::Observed {
    let service = start(config).await;
    assert_eq!(service.policy().version, PolicyVersion(version));
    let observed = service.observe().await.policy_follower.unwrap();
    assert!(service.drain(PATIENCE).await.clean);
    observed
}
