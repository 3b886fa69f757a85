//! The buffer by example; its properties are in the integration tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::types::{
    CandidateStates, Decision, Episode, Exploration, Gate, Outcome, PolicyStamp, Reward,
    SelectionLimits,
};
use rand::SeedableRng;

fn bounds() -> Bounds {
    let holdout_key = "cluster".to_owned();
    Bounds { capacity: 3, staleness_max: 2, holdout_fraction: 0.5, holdout_key }
}

fn sample(id: &str, text: &str, version: u64) -> Sample {
    let decision = Decision {
        id: id.into(),
        gate: Gate::Retrieve,
        rewrite: 0,
        order: vec![0],
        step_log_probs: vec![-0.5],
        scores: vec![0.0],
        exploration: Exploration::Sample { temperature: 1.0, epsilon: 0.1 },
        deviates: None,
        limits: SelectionLimits { k_min: 1, k_max: 1, token_budget: 10 },
        candidate_tokens: vec![1],
        states: CandidateStates::default(),
        policy: PolicyStamp { version: PolicyVersion(version), ..PolicyStamp::default() },
    };
    let episode = Episode {
        schema: Episode::SCHEMA,
        query: Query { text: text.to_owned(), ..Query::default() },
        rewrites: Vec::new(),
        candidates: Vec::new(),
        decision: Some(decision),
        outcome: Outcome::Reranked,
        degraded: None,
        assignment: None,
        interleaved: None,
        unusable_for_ope: None,
        finished_ms: 0,
        duration_ms: 0,
    };
    let reward = Reward { total: 1.0, parts: Vec::new() };
    Sample { episode, reward, references: Vec::new() }
}

#[test]
fn the_oldest_leaves_when_the_buffer_is_full_and_a_repeat_is_dropped() {
    let mut buffer = ReplayBuffer::new(bounds());
    for id in ["a", "b", "b", "c", "d"] {
        buffer.insert(sample(id, id, 0), PolicyVersion(0));
    }
    assert_eq!(buffer.len(), 3);
    assert!(!buffer.contains(&"a".into()));
    let expected = Dropped { duplicate: 1, overflow: 1, ..Dropped::default() };
    assert_eq!(buffer.dropped(), expected);
}

#[test]
fn a_sample_too_stale_is_refused_and_one_that_becomes_so_leaves() {
    let mut buffer = ReplayBuffer::new(bounds());
    assert_eq!(buffer.insert(sample("a", "a", 0), PolicyVersion(3)).0, Inserted::Refused);
    assert_eq!(buffer.insert(sample("b", "b", 1), PolicyVersion(3)).0, Inserted::Kept);
    assert_eq!(buffer.staleness_max(PolicyVersion(3)), 2);
    assert_eq!(buffer.expire(PolicyVersion(4)), vec!["b".into()]);
    assert_eq!(buffer.dropped().stale, 2);
    assert!(buffer.is_empty());
}

#[test]
fn a_log_probability_that_is_none_cannot_be_trained_on() {
    let mut buffer = ReplayBuffer::new(bounds());
    for broken in [f64::NEG_INFINITY, f64::NAN, 0.5] {
        let mut sample = sample("a", "a", 0);
        sample.episode.decision.as_mut().unwrap().step_log_probs = vec![broken];
        assert_eq!(buffer.insert(sample, PolicyVersion(0)).0, Inserted::Refused);
    }
    assert_eq!(buffer.dropped().untrainable, 3);
}

#[test]
fn phrasings_never_straddle_the_split_and_both_sides_are_used() {
    let buffer = ReplayBuffer::new(bounds());
    let side = |text: &str, cluster: Option<&str>| {
        let metadata = cluster.map(|name| ("cluster".to_owned(), name.to_owned()));
        let metadata = metadata.into_iter().collect();
        buffer.is_holdout(&Query { text: text.to_owned(), metadata, ..Query::default() })
    };
    let mut held = 0;
    for n in 0..1_000 {
        let cluster = format!("c{n}");
        assert_eq!(side("who", Some(&cluster)), side("which one", Some(&cluster)));
        assert_eq!(side(&format!("Who is {n}?"), None), side(&format!("who  is {n}"), None));
        held += usize::from(side("who", Some(&cluster)));
    }
    assert!((400..600).contains(&held), "{held} of 1000 are held out");
}

#[test]
fn a_seed_draws_the_same_batch_and_no_sample_twice() {
    let mut buffer = ReplayBuffer::new(Bounds { capacity: 100, ..bounds() });
    for n in 0..100 {
        buffer.insert(sample(&n.to_string(), &format!("question {n}"), 0), PolicyVersion(0));
    }
    let draw = |seed| {
        let batch = buffer.sample(10, 5, &mut StdRng::seed_from_u64(seed));
        let ids = batch.train.iter().chain(&batch.holdout);
        ids.map(|s| s.episode.decision_id().unwrap().clone()).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    let distinct: std::collections::BTreeSet<_> = draw(1).into_iter().collect();
    assert_eq!(distinct.len(), 15);
}
