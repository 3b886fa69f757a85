//! Heads as targets, on logs that other heads drew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::evaluate::off_policy::{Estimator, compare, evaluate};
use crate::policy::features::SCALARS;
use crate::policy::head::Head;
use crate::policy::serving::PolicyWeights;
use crate::recipes::online::StateSource;
use actors::types::{
    Candidate, CandidateStates, Document, Episode, Gate, Outcome, PolicyStamp, Query, Reward,
    SelectionLimits,
};
use rand::Rng;

const EMBEDDING: usize = 4;
const N: usize = 4;
const LIMITS: SelectionLimits = SelectionLimits { k_min: 1, k_max: 2, token_budget: 1_000 };
const SERVED: Exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.2 };

fn head(seed: u64) -> Head {
    PolicyWeights::untrained(EMBEDDING, seed, &Device::Cpu).unwrap().head
}

fn contender(head: &Head) -> Contender<'_> {
    Contender { head, source: &StateSource::Logged }
}

/// Lists of which one document is worth 1 where it is chosen first.
fn log(behaviour: &Head, count: usize) -> Vec<Sample> {
    let mut rng = StdRng::seed_from_u64(7);
    let width = EMBEDDING + SCALARS.len();
    let candidate = |rank: u32| Candidate {
        document: Document { id: format!("d{rank}").as_str().into(), ..Document::default() },
        score: 0.0,
        rank,
    };
    (0..count)
        .map(|n| {
            let mut values: Vec<f32> = vec![0.0; N * width];
            values.fill_with(|| rng.random_range(-1.0..1.0));
            let states = CandidateStates::new(width, values).unwrap();
            let logits = list_logits(behaviour, &states, &Device::Cpu).unwrap();
            let masks = Masks { tokens: &[10; N], limits: LIMITS };
            let drawn = select(&logits, masks, SERVED, &mut rng).unwrap();
            let best = (0..N).max_by(|a, b| {
                let of = |j: usize| states.values()[j * width + EMBEDDING];
                of(*a).total_cmp(&of(*b))
            });
            let total = f64::from(u8::from(drawn.order.first().map(|j| *j as usize) == best));
            let decision = Decision {
                id: format!("d{n}").as_str().into(),
                gate: Gate::Retrieve,
                rewrite: 0,
                order: drawn.order,
                step_log_probs: drawn.step_log_probs,
                scores: vec![0.0; N],
                exploration: SERVED,
                limits: LIMITS,
                deviates: None,
                candidate_tokens: vec![10; N],
                states,
                policy: PolicyStamp::default(),
            };
            let episode = Episode {
                assignment: None,
                interleaved: None,
                unusable_for_ope: None,
                schema: Episode::SCHEMA,
                query: Query { text: format!("q{n}"), ..Query::default() },
                rewrites: Vec::new(),
                candidates: (0..N as u32).map(candidate).collect(),
                decision: Some(decision),
                outcome: Outcome::Reranked,
                degraded: None,
                finished_ms: 0,
                duration_ms: 0,
            };
            let reward = Reward { total, parts: Vec::new() };
            Sample { episode, reward, references: Vec::new() }
        })
        .collect()
}

#[test]
fn the_head_that_served_weighs_one_and_differs_from_itself_by_nothing() {
    let (served, config) = (head(1), OffPolicyConfig::default());
    let samples = log(&served, 200);
    let logged = rows(&samples, contender(&served), None, &config, &Device::Cpu).unwrap();
    assert_eq!((logged.rows.len(), logged.unusable.len()), (200, 0));
    assert!(logged.rows.iter().all(|row| (row.weight() - 1.0).abs() < 1e-9));
    let finding = compare(&logged.rows, Some(&logged.rows), &config);
    assert_eq!(finding.difference, Some((0.0, 0.0, 0.0)));
    let mean = samples.iter().map(|s| s.reward.total).sum::<f64>() / 200.0;
    let found = evaluate(&logged.rows, &config).unwrap();
    let ips = found.estimate(Estimator::Ips).unwrap().reward.value;
    assert!((ips - mean).abs() < 1e-9);
}

#[test]
fn greedy_service_of_the_head_agrees_with_what_it_would_then_earn() {
    let (served, config) = (head(1), OffPolicyConfig::default());
    let samples = log(&served, 3_000);
    let greedy = Some(Exploration::Greedy);
    let logged = rows(&samples, contender(&served), greedy, &config, &Device::Cpu).unwrap();
    // What it would earn is known here: the reward is that of the first document.
    let width = EMBEDDING + SCALARS.len();
    let truth: f64 = samples
        .iter()
        .map(|sample| {
            let conduct = conduct(sample, contender(&served), greedy, &Device::Cpu).unwrap();
            let Ok(Conduct::Always { order }) = conduct else { panic!("{conduct:?}") };
            let values = sample.episode.decision.as_ref().unwrap().states.values();
            let of = |j: usize| values[j * width + EMBEDDING];
            let best = (0..N).max_by(|a, b| of(*a).total_cmp(&of(*b))).unwrap();
            f64::from(u8::from(order[0] as usize == best))
        })
        .sum::<f64>()
        / 3_000.0;
    let found = evaluate(&logged.rows, &config).unwrap();
    for estimator in [Estimator::Snips, Estimator::Sndr] {
        let spread = found.estimate(estimator).unwrap().reward;
        assert!((spread.low - 0.02..=spread.high + 0.02).contains(&truth), "{truth}: {spread:?}");
    }
}

#[test]
fn a_head_of_another_width_says_so_for_every_sample() {
    let (served, config) = (head(1), OffPolicyConfig::default());
    let foreign = PolicyWeights::untrained(EMBEDDING + 1, 1, &Device::Cpu).unwrap().head;
    let samples = log(&served, 5);
    let logged = rows(&samples, contender(&foreign), None, &config, &Device::Cpu).unwrap();
    assert_eq!(logged.unusable.get(&Unusable::ForeignWidth), Some(&5));
}
