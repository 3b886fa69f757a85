//! The recipe on a planted task whose best selection is known.

//! The online recipe on a planted environment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod full;
mod updates;

use super::*;
use crate::policy::features::SCALARS;
use crate::policy::selection::{Masks, log_probs, select};
use actors::ports::{EnvironmentError, Trial};
use actors::types::{
    Answer, Candidate, CandidateStates, Decision, DecisionId, Document, Episode, Exploration, Gate,
    Outcome, Query, Reward, RewardPart, SelectionLimits,
};
use rand::Rng;

/// Rewards selections that hold the document called `good`, less a price for each document.
struct Planted;

fn planted(documents: &[&str]) -> f64 {
    let found = documents.contains(&"good");
    f64::from(u8::from(found)) - 0.05 * documents.len() as f64
}

impl Environment for Planted {
    fn rewards(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>> {
        trials
            .iter()
            .map(|trial| {
                let ids: Vec<&str> = trial.documents.iter().map(|d| d.id.as_str()).collect();
                Ok(reward(planted(&ids)))
            })
            .collect()
    }
}

fn reward(value: f64) -> Reward {
    let part = RewardPart::new("planted", value, 1.0);
    Reward::from_parts(vec![part]).unwrap()
}

const EMBEDDING: usize = 4;
const N: usize = 5;
const LIMITS: SelectionLimits = SelectionLimits { k_min: 1, k_max: 3, token_budget: 1000 };

/// Lists in which the good document is told by the first embedding column, somewhere in the list.
fn samples(first: &PolicySnapshot, count: usize, seed: u64) -> Vec<Sample> {
    let mut rng = StdRng::seed_from_u64(seed);
    let weights = serving::from_snapshot(first, &Device::Cpu).unwrap();
    let exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.2 };
    (0..count)
        .map(|index| {
            let good = rng.random_range(0..N);
            let width = EMBEDDING + SCALARS.len();
            let mut values = vec![0.0; N * width];
            for (j, row) in values.chunks_mut(width).enumerate() {
                row[..EMBEDDING].fill_with(|| rng.random_range(-1.0..1.0));
                row[0] = if j == good { 3.0 } else { -1.0 };
            }
            let states = CandidateStates::new(width, values).unwrap();
            let logits = list_logits(&weights.head, &states, &Device::Cpu).unwrap();
            let tokens = vec![10; N];
            let masks = Masks { tokens: &tokens, limits: LIMITS };
            let selection = select(&logits, masks, exploration, &mut rng).unwrap();
            let name = |j: usize| if j == good { "good".to_owned() } else { format!("d{j}") };
            let chosen: Vec<String> = selection.order.iter().map(|&j| name(j as usize)).collect();
            let chosen: Vec<&str> = chosen.iter().map(String::as_str).collect();
            let candidates = (0..N).map(|j| Candidate {
                document: Document { id: name(j).as_str().into(), ..Default::default() },
                score: 0.0,
                rank: j as u32,
            });
            let decision = Decision {
                id: DecisionId(format!("{index}")),
                gate: Gate::Retrieve,
                rewrite: 0,
                order: selection.order.clone(),
                step_log_probs: selection.step_log_probs,
                scores: vec![0.0; N],
                exploration,
                limits: LIMITS,
                deviates: None,
                candidate_tokens: tokens.clone(),
                states,
                policy: PolicyStamp::default(),
            };
            let episode = Episode {
                schema: Episode::SCHEMA,
                query: Query { text: format!("q{index}"), ..Default::default() },
                rewrites: Vec::new(),
                candidates: candidates.collect(),
                decision: Some(decision),
                outcome: Outcome::Answered { answer: Answer::default() },
                degraded: None,
                assignment: None,
                interleaved: None,
                unusable_for_ope: None,
                finished_ms: 0,
                duration_ms: 0,
            };
            Sample { episode, reward: reward(planted(&chosen)), references: vec![] }
        })
        .collect()
}

fn config(objective: Objective) -> OnlineConfig {
    // The dense term is off: each objective has to learn alone.
    OnlineConfig {
        objective,
        utility_weight: 0.0,
        singles: 0,
        rollouts: 8,
        epochs: 12,
        learning_rate: 3e-3,
        dropout: 0.0,
        beta: 0.5,
        ..Default::default()
    }
}

fn learner(config: OnlineConfig) -> (OnlineLearner, PolicySnapshot) {
    let first = serving::first_snapshot(EMBEDDING, 1, &Device::Cpu).unwrap();
    let learner = OnlineLearner::new(config, &first, Arc::new(Planted), Device::Cpu).unwrap();
    (learner, first)
}

fn batch(first: &PolicySnapshot) -> Batch {
    Batch { train: samples(first, 96, 1), holdout: samples(first, 48, 2), ..Batch::default() }
}

#[test]
fn both_objectives_find_the_planted_document_and_stop() {
    for objective in [Objective::Rrpo, Objective::Dpo] {
        let (mut learner, first) = learner(config(objective));
        let batch = batch(&first);
        let (candidate, report) = learner.update(&batch, PolicyVersion(1)).unwrap();
        assert_eq!(candidate.parent, Some(PolicyVersion(0)));
        assert!(report.steps > 0 && report.kl > 0.0);
        let examination = learner.examine(&candidate, &batch.holdout).unwrap();
        assert!(examination.accepted, "{objective:?}: {}", examination.reason);
        // The best selection is the good document alone: 0.95.
        assert!(examination.candidate > 0.85, "{objective:?}: {}", examination.reason);
    }
}

#[test]
fn prefix_advantages_learn_too() {
    for advantage in [Advantage::SelfCritical, Advantage::Printed] {
        let (mut learner, first) = learner(OnlineConfig { advantage, ..config(Objective::Rrpo) });
        let batch = batch(&first);
        let (candidate, _) = learner.update(&batch, PolicyVersion(1)).unwrap();
        let examination = learner.examine(&candidate, &batch.holdout).unwrap();
        let gain = examination.candidate - examination.champion;
        assert!(gain > 0.1, "{advantage:?}: {}", examination.reason);
    }
}

#[test]
fn the_dense_term_learns_alone() {
    let settings =
        OnlineConfig { utility_weight: 1.0, singles: N, rollouts: 0, ..Default::default() }
            .with_trials();
    let (mut learner, first) = learner(settings);
    let batch = batch(&first);
    let (candidate, _) = learner.update(&batch, PolicyVersion(1)).unwrap();
    let examination = learner.examine(&candidate, &batch.holdout).unwrap();
    assert!(examination.accepted, "{}", examination.reason);
}

/// Every document called `good` is worth 0.4, each document costs 0.02: two that are good belong
/// together, and none of the others is worth its price.
struct Together;

impl Environment for Together {
    fn rewards(&self, trials: &[Trial]) -> Vec<Result<Reward, EnvironmentError>> {
        let worth = |trial: &Trial| {
            let good = trial.documents.iter().filter(|d| d.title == "good").count() as f64;
            Ok(reward(0.1 + 0.4 * good - 0.02 * trial.documents.len() as f64))
        };
        trials.iter().map(worth).collect()
    }
}

/// Lists with `good` good documents each, told by the first column.
fn with_good(first: &PolicySnapshot, good: usize) -> Vec<Sample> {
    let mut samples = samples(first, 96, 1);
    for sample in &mut samples {
        let decision = sample.episode.decision.as_mut().unwrap();
        let (width, mut values) = (decision.states.width(), decision.states.values().to_vec());
        let is_first = |c: &Candidate| c.document.id.as_str() == "good";
        let at = sample.episode.candidates.iter().position(is_first).unwrap();
        for (j, candidate) in sample.episode.candidates.iter_mut().enumerate() {
            let is_good = (0..good).any(|i| j == (at + 2 * i) % N);
            candidate.document.title = if is_good { "good" } else { "other" }.to_owned();
            values[j * width] = if is_good { 3.0 } else { -1.0 };
        }
        decision.states = CandidateStates::new(width, values).unwrap();
    }
    samples
}

/// Chance of stopping after the best document, and how many documents the greedy rule takes: means
/// over lists.
fn stopping(snapshot: &PolicySnapshot, samples: &[Sample]) -> (f64, f64) {
    let weights = serving::from_snapshot(snapshot, &Device::Cpu).unwrap();
    let (mut stop, mut length) = (0.0, 0.0);
    for sample in samples {
        let decision = sample.episode.decision.as_ref().unwrap();
        let logits = list_logits(&weights.head, &decision.states, &Device::Cpu).unwrap();
        let masks = Masks { tokens: &decision.candidate_tokens, limits: LIMITS };
        let rng = &mut StdRng::seed_from_u64(0);
        let order = select(&logits, masks, Exploration::Greedy, rng).unwrap().order;
        let steps = log_probs(&logits, masks, &order[..1], 1.0, 0.0).unwrap();
        stop += steps[1].exp() / samples.len() as f64;
        length += order.len() as f64 / samples.len() as f64;
    }
    (stop, length)
}

#[test]
fn the_warm_up_goes_on_while_one_more_document_is_worth_its_price() {
    let settings = OnlineConfig { singles: N, rollouts: 0, epochs: 1, ..Default::default() };
    let settings = settings.with_trials();
    let mut found = Vec::new();
    for good in [1, 2] {
        let first = serving::first_snapshot(EMBEDDING, 1, &Device::Cpu).unwrap();
        let mut learner =
            OnlineLearner::new(settings.clone(), &first, Arc::new(Together), Device::Cpu).unwrap();
        let train = with_good(&first, good);
        let batch = Batch { train: train.clone(), ..Batch::default() };
        let (candidate, _) = learner.update(&batch, PolicyVersion(1)).unwrap();
        found.push(stopping(&candidate, &train));
    }
    let [(one, one_long), (two, two_long)] = found[..] else { panic!("{found:?}") };
    assert!(two < 0.1 && two_long > 1.9, "two that belong together: {found:?}");
    // The stop is held against the best of the others, which are four.
    assert!(one > 0.2 && one_long < 1.1, "one is enough: {found:?}");
}

#[test]
fn the_optimiser_remembers_the_update_before() {
    let (mut learner, first) = learner(config(Objective::Rrpo));
    let batch = batch(&first);
    let mut again = || learner.update(&batch, PolicyVersion(1)).unwrap().0.digest;
    // Same weights to start from, same data, same seed: only the moments differ.
    assert_ne!(again(), again());
}

#[test]
fn a_seed_repeats_its_weights_bit_for_bit() {
    let digest = |seed: u64| {
        let (mut learner, first) = learner(OnlineConfig { seed, ..config(Objective::Rrpo) });
        learner.update(&batch(&first), PolicyVersion(1)).unwrap().0.digest
    };
    assert_eq!(digest(5), digest(5));
    assert_ne!(digest(5), digest(6));
}

#[test]
fn a_worse_candidate_is_refused_with_the_figures() {
    let (mut learner, first) = learner(config(Objective::Rrpo));
    let batch = batch(&first);
    let (better, _) = learner.update(&batch, PolicyVersion(1)).unwrap();
    learner.adopt(&better).unwrap();
    let examination = learner.examine(&first, &batch.holdout).unwrap();
    assert!(!examination.accepted);
    assert!(examination.reason.starts_with("no gain"), "{}", examination.reason);
    let few = learner.examine(&better, &batch.holdout[..3]).unwrap();
    assert!(!few.accepted && few.reason.starts_with("not enough held-out"), "{}", few.reason);
}

#[test]
fn too_few_samples_give_no_candidate() {
    let (mut learner, first) = learner(config(Objective::Rrpo));
    let batch = Batch { train: samples(&first, 3, 1), ..Batch::default() };
    let error = learner.update(&batch, PolicyVersion(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not enough to learn from: 3 usable samples, 16 needed (0 refused)"
    );
}

#[test]
fn a_diverging_update_names_its_step() {
    let (mut learner, first) = learner(OnlineConfig {
        learning_rate: 0.99,
        weight_decay: 0.0,
        gradient_norm_max: 1e30,
        epochs: 200,
        ..config(Objective::Rrpo)
    });
    let mut batch = batch(&first);
    for sample in &mut batch.train {
        // A logged propensity that cannot be: the ratio is held, the loss must still not be NaN.
        if let Some(decision) = &mut sample.episode.decision {
            decision.step_log_probs.fill(-1e4);
        }
    }
    match learner.update(&batch, PolicyVersion(1)) {
        Ok((candidate, _)) => assert!(serving::from_snapshot(&candidate, &Device::Cpu).is_ok()),
        Err(LearnError::Diverged { .. } | LearnError::Model(_)) => {}
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn samples_that_contradict_their_masks_are_refused() {
    let (mut learner, first) = learner(config(Objective::Rrpo));
    let mut batch = batch(&first);
    if let Some(decision) = &mut batch.train[0].episode.decision {
        decision.order = vec![0, 0];
    }
    let (_, report) = learner.update(&batch, PolicyVersion(1)).unwrap();
    assert_eq!((report.refused, report.samples), (1, 95));
}

#[test]
fn logged_propensities_are_those_of_the_behaviour() {
    let (_, first) = learner(config(Objective::Rrpo));
    let weights = serving::from_snapshot(&first, &Device::Cpu).unwrap();
    for sample in samples(&first, 10, 3) {
        let decision = sample.episode.decision.unwrap();
        let logits = list_logits(&weights.head, &decision.states, &Device::Cpu).unwrap();
        let masks = Masks { tokens: &decision.candidate_tokens, limits: LIMITS };
        let steps = log_probs(&logits, masks, &decision.order, 1.0, 0.2).unwrap();
        assert_eq!(steps, decision.step_log_probs);
    }
}
