//! `regrade ope` as an operator runs it: a log, candidates and rules in, a report out.

use crate::tiny::{Tiny, command};
use actors::ports::{NewRecord, Stream};
use actors::types::{
    Candidate, CandidateStates, Decision, Degraded, Document, Episode, Exploration, Gate, Outcome,
    PolicySnapshot, PolicyStamp, Query, Reward, RewardRecord, SelectionLimits, Verdict,
};
use candle_core::{DType, Device, Tensor};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use regrade::policy::features::SCALARS;
use regrade::policy::policy_folder;
use regrade::policy::selection::{Masks, SelectionLogits, select};
use regrade::policy::serving::{first_snapshot, from_snapshot};
use regrade::wiring::{self, OperatorLog};
use serde_json::Value;

const N: usize = 4;
const LIMITS: SelectionLimits = SelectionLimits { k_min: 1, k_max: 2, token_budget: 100 };
const EXPLORED: Exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.3 };
/// Decisions with a verdict that were left to chance.
const USABLE: usize = 600;

/// A log of explored decisions, each worth 1 where the first document as retrieved is chosen, with
/// some records that say nothing.
struct World {
    tiny: Tiny,
    embedding: usize,
    served: PolicySnapshot,
    rng: StdRng,
}

impl World {
    async fn new() -> Self {
        let tiny = Tiny::new();
        let config = tiny.config();
        let embedding = wiring::policy_reader(&config).unwrap().width();
        let served = wiring::first_policy(&config).unwrap();
        let mut world = Self { tiny, embedding, served, rng: StdRng::seed_from_u64(3) };
        let (mut episodes, mut rewards) = (Vec::new(), Vec::new());
        for n in 0..USABLE {
            let episode = world.episode(n, EXPLORED);
            let is_hit = episode.decision.as_ref().unwrap().order.contains(&0);
            let total = f64::from(u8::from(is_hit));
            let reward = Reward { total, parts: Vec::new() };
            rewards.push(reward_of(&episode, Verdict::Scored { reward }));
            episodes.push(episode);
        }
        let zero = || Verdict::Scored { reward: Reward { total: 0.0, parts: Vec::new() } };
        let greedy = world.episode(USABLE, Exploration::Greedy);
        let mut degraded = world.episode(USABLE + 1, EXPLORED);
        let reason = "away".to_owned();
        degraded.degraded = Some(Degraded { stage: "retrieve".to_owned(), reason });
        let mut direct = world.episode(USABLE + 2, EXPLORED);
        direct.decision.as_mut().unwrap().gate = Gate::Direct;
        rewards.extend([&greedy, &degraded, &direct].map(|e| reward_of(e, zero())));
        let abstained = world.episode(USABLE + 3, EXPLORED);
        rewards.push(reward_of(&abstained, Verdict::Abstained { reason: "?".to_owned() }));
        let silent = world.episode(USABLE + 4, EXPLORED);
        episodes.extend([greedy, degraded, direct, abstained, silent]);
        let log = OperatorLog::open(&config).await.unwrap();
        log.append(Stream::Episodes, episodes.iter().map(record).collect()).await.unwrap();
        log.append(Stream::Rewards, rewards.iter().map(record).collect()).await.unwrap();
        world
    }

    fn logits(&self, states: &CandidateStates) -> SelectionLogits {
        let head = from_snapshot(&self.served, &Device::Cpu).unwrap().head;
        let shape = (1, N, states.width());
        let input = Tensor::from_slice(states.values(), shape, &Device::Cpu).unwrap();
        let present = Tensor::ones((1, N), DType::F32, &Device::Cpu).unwrap();
        head.forward(&input, &present).unwrap().logits(0, N).unwrap()
    }

    fn episode(&mut self, n: usize, exploration: Exploration) -> Episode {
        let width = self.embedding + SCALARS.len();
        let mut values = vec![0.0; N * width];
        values.fill_with(|| self.rng.random_range(-0.5_f32..0.5));
        let states = CandidateStates::new(width, values).unwrap();
        let tokens = vec![10; N];
        let masks = Masks { tokens: &tokens, limits: LIMITS };
        let drawn = select(&self.logits(&states), masks, exploration, &mut self.rng).unwrap();
        let stamp =
            PolicyStamp { version: self.served.version, digest: self.served.digest.clone() };
        let candidate = |rank: u32| Candidate {
            document: Document { id: format!("d{rank}").as_str().into(), ..Document::default() },
            score: 1.0,
            rank,
        };
        Episode {
            assignment: None,
            interleaved: None,
            unusable_for_ope: None,
            schema: Episode::SCHEMA,
            query: Query { text: format!("question {n}"), ..Query::default() },
            rewrites: Vec::new(),
            candidates: (0..N as u32).map(candidate).collect(),
            decision: Some(Decision {
                id: format!("d{n}").as_str().into(),
                gate: Gate::Retrieve,
                rewrite: 0,
                order: drawn.order,
                step_log_probs: drawn.step_log_probs,
                scores: vec![0.0, 1.0, 2.0, 3.0],
                exploration,
                limits: LIMITS,
                deviates: None,
                candidate_tokens: tokens,
                states,
                policy: stamp,
            }),
            outcome: Outcome::Reranked,
            degraded: None,
            finished_ms: 1_000 + n as u64,
            duration_ms: 1,
        }
    }

    /// Runs the command with these policies; gives the report.
    async fn report(&self, policies: &[&str], more: &[&str]) -> Value {
        let out = self.tiny.text("ope.json");
        let mut words = vec!["ope".to_owned(), "--report".to_owned(), out.clone()];
        for policy in policies {
            words.extend(["--policy".to_owned(), (*policy).to_owned()]);
        }
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words.extend(self.tiny.flags());
        command(&words).await.unwrap();
        serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap()
    }
}

fn reward_of(episode: &Episode, verdict: Verdict) -> RewardRecord {
    RewardRecord {
        schema: 1,
        decision_id: episode.decision_id().unwrap().clone(),
        revision: 0,
        verdict,
        references: Vec::new(),
        judge: "test".to_owned(),
        judged_ms: 0,
    }
}

fn record(of: &impl serde::Serialize) -> NewRecord {
    NewRecord { payload: serde_json::to_vec(of).unwrap(), ..NewRecord::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn candidates_and_rules_are_scored_on_a_log_and_what_cannot_be_is_refused() {
    let world = World::new().await;
    let folder = world.tiny.at("other");
    let other = first_snapshot(world.embedding, 99, &Device::Cpu).unwrap();
    policy_folder::write(&folder, &other).unwrap();
    let folder = format!("other={}", folder.display());
    let policies = [folder.as_str(), "k=1", "threshold=2.5", "greedy", "uniform", "rewrite=on"];
    let report = world.report(&policies, &[]).await;

    let traffic = &report["traffic"];
    assert_eq!(traffic["judged"], USABLE + 3);
    assert_eq!(traffic["unusable"], serde_json::json!({ "no_reward": 1, "abstained": 1 }));
    let found = report["policies"].as_array().unwrap();
    let names: Vec<&str> = found.iter().map(|p| p["policy"].as_str().unwrap()).collect();
    assert_eq!(names, ["other", "k=1", "threshold=2.5", "greedy", "uniform", "rewrite=on"]);
    let unusable = serde_json::json!({ "greedy": 1, "degraded": 1, "direct": 1 });
    for policy in &found[..5] {
        assert_eq!(policy["unusable"], unusable, "{policy}");
        assert_eq!(policy["rows"], USABLE, "{policy}");
        assert!(policy["ess"].as_f64().unwrap() > 0.0);
    }
    // The rule that always takes the first document is worth 1 by construction, without a doubt.
    let first = &found[1];
    assert_eq!(first["verdict"], "better", "{first}");
    let reward = &first["estimates"]["sndr"]["reward"];
    assert!((reward["value"].as_f64().unwrap() - 1.0).abs() < 0.1, "{reward}");
    // Where it did what the log did it was paid 1 each time: no spread, so no interval.
    let refused = first["estimates"]["snips"]["refused"].as_str().unwrap();
    assert!(refused.contains("every reward behind the estimate is the same"), "{refused}");
    let last = &found[2];
    assert_eq!(last["verdict"], "worse", "the best logged score is the last document's: {last}");
    assert!(found[0]["weights"]["digest"].is_string() && found[1]["weights"].is_null());
    assert_eq!(found[5]["refused"], "rewrite was never random");
    assert!(found[5]["estimates"].is_null(), "no figure where it is refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_scores_itself_as_logged_and_a_short_window_is_refused() {
    let world = World::new().await;
    let folder = world.tiny.at("served");
    policy_folder::write(&folder, &world.served).unwrap();
    let folder = world.tiny.text("served");
    let report = world.report(&[&folder], &["--newest", "450", "--until", "1601"]).await;
    let itself = &report["policies"][0];
    assert_eq!(itself["verdict"], "no difference found");
    let logged = itself["estimates"]["logged"]["reward"]["value"].as_f64().unwrap();
    let ips = &itself["estimates"]["ips"];
    assert!((ips["reward"]["value"].as_f64().unwrap() - logged).abs() < 1e-5, "{ips}");
    assert!(ips["difference"]["high"].as_f64().unwrap().abs() < 1e-5, "{ips}");

    let report = world.report(&[&folder], &["--newest", "40"]).await;
    let itself = &report["policies"][0];
    assert_eq!(itself["verdict"], "refused");
    let reason = itself["refused"].as_str().unwrap();
    assert!(reason.contains("35 usable decisions, 100 needed"), "{reason}");
    assert!(itself["estimates"].is_null() && itself["ess"].is_number());
}

#[tokio::test]
async fn flags_that_make_no_sense_are_told_so() {
    let tiny = Tiny::new();
    let told = async |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let words = [vec!["ope".to_owned()], words, tiny.flags()].concat();
        command(&words).await.unwrap_err()
    };
    let (code, why) = told(&["--policy", "k=3", "--since", "yesterday"]).await;
    assert_eq!(code, 64);
    assert!(why.contains("--since `yesterday`") && why.contains("expected 7d"), "{why}");
    let (code, why) = told(&["--policy", "k=3", "--alpha", "0.7"]).await;
    assert_eq!(
        (code, why.as_str()),
        (64, "--alpha is out of range, expected above 0 and below 0.5")
    );
    let (code, why) = told(&["--policy", "k=3", "--log", "no/such/place"]).await;
    assert!(code == 64 && why.contains("neither a folder nor a configuration"), "{why}");
    let (code, why) = told(&["--policy", "k=3", "--estimator", "best"]).await;
    assert!(code == 64 && why.contains("there are dm, ips, snips"), "{why}");
    let (code, why) = told(&["--policy", "k=3", "--temperature", "0"]).await;
    assert!(code == 64 && why.contains("--temperature 0"), "{why}");
}
