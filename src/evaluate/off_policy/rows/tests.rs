//! Samples made by hand, and the rows that they give.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::super::{Estimator, evaluate};
use super::*;
use crate::policy::features::SCALARS;
use actors::types::{
    Candidate, CandidateStates, Degraded, Document, Episode, Outcome, PolicyStamp, Query, Reward,
    SelectionLimits,
};
use std::convert::Infallible;

/// A decision over three candidates of one token each, k 0 to 3.
pub(crate) fn decision(id: &str, order: &[u32], steps: &[f64]) -> Decision {
    Decision {
        id: id.into(),
        gate: Gate::Retrieve,
        rewrite: 0,
        order: order.to_vec(),
        step_log_probs: steps.to_vec(),
        scores: vec![0.0; 3],
        exploration: Exploration::Sample { temperature: 1.0, epsilon: 0.0 },
        limits: SelectionLimits { k_min: 0, k_max: 3, token_budget: 100 },
        deviates: None,
        candidate_tokens: vec![1; 3],
        states: CandidateStates::new(SCALARS.len(), vec![0.0; 3 * SCALARS.len()]).unwrap(),
        policy: PolicyStamp::default(),
    }
}

/// A judged episode of `query`.
pub(crate) fn sample(query: &str, decision: Decision, reward: f64) -> Sample {
    let candidate = |rank: u32| Candidate {
        document: Document { id: format!("d{rank}").as_str().into(), ..Document::default() },
        score: 1.0,
        rank,
    };
    Sample {
        episode: Episode {
            assignment: None,
            interleaved: None,
            unusable_for_ope: None,
            schema: Episode::SCHEMA,
            query: Query { text: query.to_owned(), ..Query::default() },
            rewrites: Vec::new(),
            candidates: (0..3).map(candidate).collect(),
            decision: Some(decision),
            outcome: Outcome::Reranked,
            degraded: None,
            finished_ms: 0,
            duration_ms: 0,
        },
        reward: Reward { total: reward, parts: Vec::new() },
        references: Vec::new(),
    }
}

type Target<'a> = &'a mut dyn FnMut(&Sample) -> Result<Result<Conduct, Unusable>, Infallible>;

fn made(samples: &[Sample], target: Target<'_>) -> Logged {
    let Ok(logged) = rows(samples, target, &OffPolicyConfig::default());
    logged
}

#[test]
fn a_rule_without_chance_weighs_only_what_it_would_have_done() {
    let (third, half) = ((1.0_f64 / 3.0).ln(), 0.5_f64.ln());
    let samples = [
        sample("a", decision("same", &[0, 1], &[third, third, half]), 1.0),
        sample("b", decision("longer", &[0, 1, 2], &[third, third, half]), 1.0),
        sample("c", decision("shorter", &[0], &[third, half]), 1.0),
        sample("d", decision("other", &[2, 1], &[third, third, half]), 1.0),
    ];
    let logged = made(&samples, &mut |_| Ok(Ok(Conduct::Always { order: vec![0, 1] })));
    let weights: Vec<Vec<f64>> = logged.rows.iter().map(|r| r.weights.clone()).collect();
    let near = |found: &[f64], expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-9), "{found:?}");
    };
    near(&weights[0], &[3.0, 9.0, 18.0]);
    near(&weights[1], &[3.0, 9.0, 0.0]);
    near(&weights[2], &[3.0, 0.0]);
    near(&weights[3], &[0.0, 0.0, 0.0]);
}

#[test]
fn the_logged_policy_weighs_one_by_its_own_logits() {
    let logits = SelectionLogits::from_scores(vec![1.0, 0.5, -0.5], 0.2);
    let mut rng = StdRng::seed_from_u64(5);
    let exploration = Exploration::Sample { temperature: 0.8, epsilon: 0.1 };
    let samples: Vec<Sample> = (0..20)
        .map(|n| {
            let mut decision = decision(&format!("d{n}"), &[], &[]);
            let masks = Masks { tokens: &decision.candidate_tokens, limits: decision.limits };
            let drawn = select(&logits, masks, exploration, &mut rng).unwrap();
            (decision.order, decision.step_log_probs) = (drawn.order, drawn.step_log_probs);
            sample(&format!("q{n}"), decision, f64::from(n))
        })
        .collect();
    let mut target = |_: &Sample| Ok(Ok(Conduct::Draws { logits: logits.clone(), exploration }));
    let logged = made(&samples, &mut target);
    assert_eq!((logged.rows.len(), logged.unusable.len()), (20, 0));
    assert!(logged.rows.iter().all(|row| (row.weight() - 1.0).abs() < 1e-12));
    assert!(logged.rows.iter().all(|row| row.prediction.is_some()));
    let again = made(&samples, &mut target);
    assert_eq!(logged, again, "draws are seeded");
    let config =
        OffPolicyConfig { rows_min: 5, queries_min: 5, ess_min: 5.0, ..OffPolicyConfig::default() };
    let found = evaluate(&logged.rows, &config).unwrap();
    let of = |estimator| found.estimate(estimator).unwrap();
    assert!((of(Estimator::Ips).reward.value - 9.5).abs() < 1e-9);
    assert!(of(Estimator::Snips).difference.value.abs() < 1e-9);
}

#[test]
fn what_says_nothing_is_counted_by_reason() {
    let good = || decision("d", &[0], &[-1.0, -0.5]);
    let of = |change: &dyn Fn(&mut Decision)| {
        let mut decision = good();
        change(&mut decision);
        sample("q", decision, 0.0)
    };
    let mut degraded = of(&|_| {});
    let reason = "away".to_owned();
    degraded.episode.degraded = Some(Degraded { stage: "retrieve".to_owned(), reason });
    let mut undecided = of(&|_| {});
    undecided.episode.decision = None;
    let cases = [
        (of(&|d| d.exploration = Exploration::Greedy), Unusable::Greedy),
        (degraded, Unusable::Degraded),
        (of(&|d| d.gate = Gate::Direct), Unusable::Direct),
        (of(&|d| d.states = CandidateStates::default()), Unusable::NoStates),
        (of(&|d| d.step_log_probs = vec![0.0, 0.0]), Unusable::Forced),
        (of(&|d| d.step_log_probs = vec![0.5, -0.5]), Unusable::Inconsistent),
        (of(&|d| d.step_log_probs = vec![-0.5; 3]), Unusable::Inconsistent),
        (of(&|d| d.candidate_tokens = vec![1; 2]), Unusable::Inconsistent),
        (undecided, Unusable::Undecided),
    ];
    for (sample, expected) in &cases {
        assert_eq!(check(sample).unwrap_err(), *expected);
        let logged = made(std::slice::from_ref(sample), &mut |_| Ok(Err(Unusable::ForeignWidth)));
        assert_eq!(logged.unusable, BTreeMap::from([(*expected, 1)]));
    }
    let logged = made(&[of(&|_| {})], &mut |_| Ok(Err(Unusable::ForeignWidth)));
    assert_eq!(logged.unusable, BTreeMap::from([(Unusable::ForeignWidth, 1)]));
    // A selection of a document that does not fit has no probability under any target.
    let wide = of(&|d| d.candidate_tokens = vec![1_000, 1, 1]);
    let logits = SelectionLogits::from_scores(vec![0.0; 3], 0.0);
    let exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.0 };
    let draws = Conduct::Draws { logits, exploration };
    let logged = made(&[wide], &mut |_| Ok(Ok(draws.clone())));
    assert_eq!(logged.unusable, BTreeMap::from([(Unusable::Inconsistent, 1)]));
}
