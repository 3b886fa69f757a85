//! Laws of the replay buffer, whatever arrives in whatever order.

use actors::replay::{Bounds, Dropped, Ended, Inserted, ReplayBuffer};
use actors::types::{
    CandidateStates, Decision, DecisionId, Episode, Exploration, Gate, Outcome, PolicyStamp,
    PolicyVersion, Query, Reward, Sample, SelectionLimits,
};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::BTreeSet;

const CAPACITY: usize = 12;

/// One thing that happens to a buffer.
#[derive(Debug, Clone)]
enum Event {
    Offer { id: u8, lag: u64, is_trainable: bool },
    Promote,
}

fn event() -> impl Strategy<Value = Event> {
    let offer = (0..40u8, 0..5u64, any::<u8>());
    prop_oneof![
        9 => offer.prop_map(|(id, lag, luck)| Event::Offer {
            id,
            lag,
            is_trainable: luck % 8 != 0,
        }),
        1 => Just(Event::Promote),
    ]
}

fn sample(id: u8, query: Query, version: PolicyVersion, log_prob: f64) -> Ended {
    let decision = Decision {
        id: DecisionId(id.to_string()),
        gate: Gate::Retrieve,
        rewrite: 0,
        order: vec![0],
        step_log_probs: vec![log_prob],
        scores: vec![0.0],
        exploration: Exploration::Sample { temperature: 1.0, epsilon: 0.1 },
        deviates: None,
        limits: SelectionLimits { k_min: 1, k_max: 1, token_budget: 10 },
        candidate_tokens: vec![1],
        states: CandidateStates::default(),
        policy: PolicyStamp { version, ..PolicyStamp::default() },
    };
    let episode = Episode {
        schema: Episode::SCHEMA,
        query,
        rewrites: Vec::new(),
        candidates: Vec::new(),
        decision: Some(decision),
        outcome: Outcome::Reranked,
        degraded: None,
        assignment: None,
        interleaved: None,
        unusable_for_ope: None,
        // Some end in one millisecond.
        finished_ms: u64::from(id / 3),
        duration_ms: 0,
    };
    let evidence = Some((Reward { total: 1.0, parts: Vec::new() }, Vec::new()));
    Ended { episode, evidence, revision: 0 }
}

fn buffer(holdout_fraction: f64) -> ReplayBuffer {
    ReplayBuffer::new(Bounds { capacity: CAPACITY, staleness_max: 2, holdout_fraction })
}

/// What the split goes by: the time, and the name where times are the same.
fn split_key(sample: &Sample) -> (u64, Option<&DecisionId>) {
    (sample.episode.finished_ms, sample.episode.decision_id())
}

fn ids(samples: &[Sample]) -> Vec<&DecisionId> {
    samples.iter().filter_map(|sample| sample.episode.decision_id()).collect()
}

fn total(dropped: Dropped) -> u64 {
    dropped.duplicate + dropped.stale + dropped.overflow + dropped.untrainable + dropped.degraded
}

proptest! {
    #[test]
    fn the_buffer_is_bounded_never_holds_a_decision_twice_and_accounts_for_everything(
        events in proptest::collection::vec(event(), 0..200),
        holdout_fraction in 0.0..0.99f64,
        seed in any::<u64>(),
    ) {
        let mut buffer = buffer(holdout_fraction);
        let mut serving = PolicyVersion(5);
        let mut offered = 0;
        for event in events {
            let (id, lag, is_trainable) = match event {
                Event::Promote => {
                    serving.0 += 1;
                    buffer.expire(serving);
                    prop_assert!(buffer.staleness_max(serving) <= 2);
                    continue;
                }
                Event::Offer { id, lag, is_trainable } => (id, lag, is_trainable),
            };
            let query = Query { text: format!("question {id}"), ..Query::default() };
            let version = PolicyVersion(serving.0 - lag);
            let log_prob = if is_trainable { -0.5 } else { f64::NAN };
            let name = DecisionId(id.to_string());
            let was_there = buffer.contains(&name);
            let (inserted, gone) = buffer.insert(sample(id, query, version, log_prob), serving);
            offered += 1;
            if inserted == Inserted::Kept {
                prop_assert!(!was_there && is_trainable && lag <= 2);
                prop_assert!(buffer.contains(&name));
            }
            prop_assert!(gone.iter().all(|id| !buffer.contains(id)));
            prop_assert!(buffer.len() <= CAPACITY);
            prop_assert_eq!(offered, buffer.len() as u64 + total(buffer.dropped()));
        }
        let all = buffer.sample(usize::MAX, usize::MAX, &mut StdRng::seed_from_u64(seed));
        prop_assert_eq!(all.train.len() + all.holdout.len(), buffer.len());
        let names = ids(&all.train).into_iter().chain(ids(&all.holdout));
        prop_assert_eq!(names.collect::<BTreeSet<_>>().len(), buffer.len());
        let last = all.train.iter().map(split_key).max();
        let first = all.holdout.iter().map(split_key).min();
        prop_assert!(first.is_none() || last < first, "{:?} is held out, {:?} is not", first, last);
    }

    #[test]
    fn a_batch_is_no_larger_than_asked_and_draws_nothing_twice(
        train_max in 0..8usize,
        holdout_max in 0..8usize,
        seed in any::<u64>(),
    ) {
        let mut buffer = buffer(0.5);
        for id in 0..CAPACITY as u8 {
            let query = Query { text: format!("question {id}"), ..Query::default() };
            buffer.insert(sample(id, query, PolicyVersion(0), -0.1), PolicyVersion(0));
        }
        let batch = buffer.sample(train_max, holdout_max, &mut StdRng::seed_from_u64(seed));
        prop_assert!(batch.train.len() <= train_max && batch.holdout.len() <= holdout_max);
        let drawn = ids(&batch.train).into_iter().chain(ids(&batch.holdout));
        let distinct: BTreeSet<_> = drawn.collect();
        prop_assert_eq!(distinct.len(), batch.train.len() + batch.holdout.len());
    }
}
