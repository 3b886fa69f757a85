//! The buffer by example; its properties are in the integration tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::types::{
    CandidateStates, Decision, Episode, Exploration, Gate, Outcome, PolicyStamp, Query, Reward,
    SelectionLimits,
};
use rand::SeedableRng;

fn bounds() -> Bounds {
    Bounds { capacity: 3, staleness_max: 2, holdout_fraction: 0.5 }
}

fn sample(id: &str, text: &str, version: u64) -> Ended {
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
    Ended { episode, evidence: worth(1.0), revision: 0 }
}

fn worth(total: f64) -> Evidence {
    Some((Reward { total, parts: Vec::new() }, Vec::new()))
}

fn at(id: &str, finished_ms: u64, evidence: Evidence) -> Ended {
    let mut ended = sample(id, id, 0);
    ended.episode.finished_ms = finished_ms;
    Ended { evidence, ..ended }
}

fn ids<'a>(episodes: impl Iterator<Item = &'a Episode>) -> Vec<&'a str> {
    episodes.filter_map(|episode| episode.decision_id().map(DecisionId::as_str)).collect()
}

fn all(buffer: &ReplayBuffer) -> Batch {
    buffer.sample(usize::MAX, usize::MAX, &mut StdRng::seed_from_u64(1))
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
fn the_newest_are_held_out_and_those_of_one_time_by_their_names() {
    let mut buffer = ReplayBuffer::new(Bounds { capacity: 9, holdout_fraction: 0.4, ..bounds() });
    for (id, time) in [("late", 9), ("b", 5), ("a", 5), ("c", 5), ("old", 1)] {
        buffer.insert(at(id, time, worth(1.0)), PolicyVersion(0));
    }
    let batch = all(&buffer);
    assert_eq!(ids(batch.train.iter().map(|s| &s.episode)), ["old", "a", "b"]);
    assert_eq!(ids(batch.holdout.iter().map(|s| &s.episode)), ["c", "late"]);
    let mut one = ReplayBuffer::new(bounds());
    one.insert(at("a", 1, worth(1.0)), PolicyVersion(0));
    assert_eq!((all(&one).train.len(), all(&one).holdout.len()), (1, 0), "one is trained on");
}

#[test]
fn an_unanswered_decision_is_kept_until_its_reward_comes() {
    let mut buffer = ReplayBuffer::new(bounds());
    for id in ["a", "b", "c", "d"] {
        assert_eq!(buffer.insert(at(id, 1, None), PolicyVersion(0)).0, Inserted::Kept);
    }
    assert_eq!((buffer.len(), buffer.unanswered()), (0, 3), "bounded like the samples");
    assert_eq!(buffer.revise(&"a".into(), worth(0.5), 1).0, Inserted::Refused, "it left");
    assert_eq!(buffer.revise(&"c".into(), worth(0.5), 1).0, Inserted::Kept);
    let batch = all(&buffer);
    assert_eq!(ids(batch.unanswered.iter()), ["b", "d"]);
    assert_eq!(ids(batch.train.iter().map(|s| &s.episode)), ["c"]);
    assert_eq!(buffer.dropped(), Dropped::default());
}

#[test]
fn a_later_reward_replaces_an_earlier_one_and_never_the_other_way_round() {
    let mut buffer = ReplayBuffer::new(bounds());
    buffer.insert(at("a", 1, worth(0.25)), PolicyVersion(0));
    let revised = |buffer: &mut ReplayBuffer, total, revision| {
        let (revised, gone) = buffer.revise(&"a".into(), worth(total), revision);
        assert!(gone.is_empty());
        (revised, all(buffer).train.iter().map(|s| s.reward.total).collect::<Vec<_>>())
    };
    assert_eq!(revised(&mut buffer, 1.0, 2), (Inserted::Kept, vec![1.0]));
    assert_eq!(revised(&mut buffer, 0.5, 1), (Inserted::Refused, vec![1.0]), "it came before");
    assert_eq!(revised(&mut buffer, 0.5, 2), (Inserted::Refused, vec![1.0]), "a repeat");
    assert_eq!((buffer.len(), buffer.revision(&"a".into())), (1, Some(2)));
}

#[test]
fn the_share_of_answers_in_a_batch_is_that_of_the_traffic() {
    let mut buffer = ReplayBuffer::new(Bounds { capacity: 400, ..bounds() });
    for n in 0..400_u64 {
        let evidence = if n % 4 == 0 { worth(1.0) } else { None };
        buffer.insert(at(&format!("{n:03}"), n, evidence), PolicyVersion(0));
    }
    let batch = buffer.sample(25, 10, &mut StdRng::seed_from_u64(1));
    assert_eq!((batch.train.len(), batch.holdout.len()), (25, 10));
    let newest = batch.unanswered.iter().filter(|episode| episode.finished_ms >= 200).count();
    assert_eq!((batch.unanswered.len() - newest, newest), (75, 30), "three for one, on both sides");
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
