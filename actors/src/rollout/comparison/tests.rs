//! What a log shows of an experiment, whatever the order its partitions are read in.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::rollout::{Recent, Routing, Shadows};
use crate::types::{
    Agreement, Assignment, Candidate, CandidateStates, Decision, DecisionId, Document, Episode,
    Exploration, Gate, Outcome as Ending, PolicyStamp, Query, Reward, RewardPart, RewardRecord,
    SelectionLimits, ShadowRecord, Verdict, Votes,
};
use proptest::prelude::*;

const V: PolicyVersion = PolicyVersion(7);

/// A decision of `unit`, by whoever its routing says.
fn episode(n: u64, unit: &str, share: f64) -> Episode {
    let routing = Routing { canaries: vec![(V, share)], ..Routing::default() };
    let assignment = routing.assign(unit.to_owned());
    let served = if assignment.arm == (Arm::Candidate { version: V }) { V } else { 0.into() };
    let document = Document { id: "a".into(), ..Document::default() };
    Episode {
        schema: Episode::SCHEMA,
        query: Query { id: format!("q{n}").as_str().into(), ..Query::default() },
        rewrites: Vec::new(),
        candidates: vec![Candidate { document, score: 1.0, rank: 0 }],
        decision: Some(Decision {
            id: DecisionId(format!("d{n}")),
            gate: Gate::Retrieve,
            rewrite: 0,
            order: vec![0],
            step_log_probs: vec![0.0],
            scores: vec![1.0],
            exploration: Exploration::Greedy,
            limits: SelectionLimits { k_min: 1, k_max: 1, token_budget: 9 },
            deviates: None,
            candidate_tokens: vec![u32::try_from(1 + n % 3).unwrap()],
            states: CandidateStates::new(1, vec![0.0]).unwrap(),
            policy: PolicyStamp { version: served, ..PolicyStamp::default() },
        }),
        outcome: Ending::Reranked,
        degraded: None,
        assignment: Some(assignment),
        interleaved: None,
        unusable_for_ope: None,
        finished_ms: 1_000 + n,
        duration_ms: 10 + n % 7,
    }
}

fn reward(n: u64, value: f64) -> RewardRecord {
    let votes = Some(Votes { count: 2, spread: 0.1 });
    let part = RewardPart { name: "t".to_owned(), value, weight: 1.0, votes };
    let reward = Reward::from_parts(vec![part]).unwrap();
    RewardRecord {
        schema: 1,
        decision_id: DecisionId(format!("d{n}")),
        revision: 0,
        verdict: Verdict::Scored { reward },
        references: Vec::new(),
        judge: "t".to_owned(),
        judged_ms: 0,
    }
}

/// What stands at one place of the log.
#[derive(Debug, Clone)]
enum Line {
    Episode(Box<Episode>),
    Reward(RewardRecord),
    Shadow(ShadowRecord),
}

fn shadow(n: u64) -> ShadowRecord {
    ShadowRecord {
        schema: ShadowRecord::SCHEMA,
        decision_id: DecisionId(format!("d{n}")),
        policy: PolicyStamp { version: V, ..PolicyStamp::default() },
        served: PolicyStamp::default(),
        order: vec![0],
        context_tokens: 1 + n % 3,
        served_tokens: 2,
        agreement: Some(Agreement { kendall_tau: 0.1 * n as f64, overlap: 0.3, k_difference: 1 }),
        decide_ms: n as f64 / 3.0,
        error: None,
        reward: None,
        time_ms: n,
    }
}

/// Partitions: two of episodes, one of rewards, one of shadow decisions; repeats included.
fn log(queries: u64) -> Vec<(&'static str, u32, Vec<Line>)> {
    let unit = |n: u64| format!("{:016x}", n % 23);
    let of = |n: u64| Line::Episode(Box::new(episode(n, &unit(n), 0.25)));
    let half = |odd: u64| -> Vec<Line> {
        let own = (0..queries).filter(|n| n % 2 == odd);
        own.flat_map(|n| vec![of(n); if n % 5 == 0 { 2 } else { 1 }]).collect()
    };
    let value = |n: u64| (n % 11) as f64 / 11.0;
    let judged = (0..queries).filter(|n| n % 7 != 3).map(|n| Line::Reward(reward(n, value(n))));
    let shadows = (0..queries).map(|n| Line::Shadow(shadow(n)));
    vec![
        ("regrade.episodes", 0, half(0)),
        ("regrade.episodes", 1, half(1)),
        ("regrade.rewards", 0, judged.collect()),
        ("regrade.shadows", 0, shadows.collect()),
    ]
}

/// Reads the partitions in turns by this schedule, each in its order.
fn read(queries: u64, schedule: &[usize]) -> (Ledger, Shadows, Recent) {
    let (mut ledger, mut shadows) = (Ledger::default(), Shadows::default());
    let mut recent = Recent::new(16);
    let partitions = log(queries);
    let mut next = vec![0_usize; partitions.len()];
    let mut turns = schedule.iter().copied().chain((0..partitions.len()).cycle());
    while next.iter().zip(&partitions).any(|(at, (.., lines))| *at < lines.len()) {
        let turn = turns.next().unwrap() % partitions.len();
        let (topic, partition, lines) = &partitions[turn];
        let Some(line) = lines.get(next[turn]) else { continue };
        let offset = next[turn] as u64;
        match line {
            Line::Episode(episode) => {
                ledger.episode((*partition, offset), episode);
                recent.episode(episode);
            }
            Line::Reward(reward) => {
                ledger.reward(reward);
                shadows.reward(reward);
                recent.reward(reward);
            }
            Line::Shadow(record) => shadows.decision(record),
        }
        ledger.read_to(topic, *partition, offset + 1);
        next[turn] += 1;
    }
    (ledger, shadows, recent)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn partitions_read_in_any_order_give_equal_bits(
        schedule in prop::collection::vec(0_usize..4, 0..300),
        queries in 1_u64..90,
    ) {
        let (ledger, shadows, recent) = read(queries, &schedule);
        let (plain, plain_shadows, plain_recent) = read(queries, &[]);
        prop_assert_eq!(ledger.positions(), plain.positions());
        let since = [LogPosition { topic: "regrade.episodes".to_owned(), partition: 0, next: 9 }];
        for since in [&since[..], &[]] {
            let seen = Comparison::of(&ledger, V, since);
            prop_assert_eq!(&seen, &Comparison::of(&plain, V, since));
            let bits = |m: &Moments| (m.mean.to_bits(), m.m2.to_bits(), m.noise.to_bits());
            let other = Comparison::of(&plain, V, since);
            prop_assert_eq!(bits(&seen.control.reward), bits(&other.control.reward));
        }
        prop_assert_eq!(shadows.of(V), plain_shadows.of(V));
        prop_assert_eq!(recent.samples(), plain_recent.samples());
    }
}

/// Two units of either arm at half of the places, by their hashes.
fn units(treated: bool, count: usize) -> Vec<String> {
    let all = (0..).map(|n: u64| format!("{n:016x}"));
    all.filter(|unit| (bucket(unit, V) < 0.5) == treated).take(count).collect()
}

#[test]
fn a_unit_is_one_observation_the_mean_of_its_queries() {
    let (own, other) = (units(true, 2), units(false, 1));
    let mut ledger = Ledger::default();
    let rewards =
        [(&own[0], 1.0), (&own[0], 0.0), (&own[0], 0.5), (&own[1], 1.0), (&other[0], 0.25)];
    for (n, (unit, value)) in (0..).zip(rewards) {
        ledger.episode((0, n), &episode(n, unit, 0.5));
        ledger.reward(&reward(n, value));
    }
    let seen = Comparison::of(&ledger, V, &[]);
    assert_eq!((seen.treatment.units, seen.treatment.queries, seen.control.units), (2, 4, 1));
    assert_eq!(seen.treatment.reward.count, 2);
    assert!((seen.treatment.reward.mean - 0.75).abs() < 1e-12, "of 0.5 and 1");
    assert!((seen.control.reward.mean - 0.25).abs() < 1e-12);
    // Each reward carries 0.1 squared over 2 votes; the mean of three of them a third, of one all.
    let noise = (0.005 / 3.0 + 0.005) / 2.0;
    assert!((seen.treatment.reward.noise - noise).abs() < 1e-12);
    assert_eq!((seen.split, seen.fresh), ((2, 1), (2, 1)));
}

#[test]
fn mixed_units_and_those_served_by_others_count_for_neither_arm() {
    let (own, other) = (units(true, 3), units(false, 2));
    let mut ledger = Ledger::default();
    let mut add = |n: u64, episode: Episode| {
        ledger.episode((0, n), &episode);
        ledger.reward(&reward(n, 1.0));
    };
    add(0, episode(0, &own[0], 0.5));
    // Fell back once: the whole unit is out, and a failure of the candidate.
    add(1, episode(1, &own[1], 0.5));
    let mut fallen = episode(2, &own[1], 0.5);
    fallen.assignment.as_mut().unwrap().fell_back = Some("gone".to_owned());
    fallen.decision.as_mut().unwrap().policy.version = 0.into();
    add(2, fallen);
    // Served by other weights than assigned.
    let mut mismatch = episode(3, &own[2], 0.5);
    mismatch.decision.as_mut().unwrap().policy.version = 5.into();
    add(3, mismatch);
    add(4, episode(4, &other[0], 0.5));
    // Seen in both arms.
    add(5, episode(5, &other[1], 0.5));
    let mut treated = episode(6, &other[1], 0.5);
    treated.assignment.as_mut().unwrap().arm = Arm::Candidate { version: V };
    treated.decision.as_mut().unwrap().policy.version = V;
    add(6, treated);
    // Of no experiment, degraded, or never decided: nothing.
    let unrelated = Assignment {
        unit: own[0].clone(),
        arm: Arm::Champion,
        experiments: Vec::new(),
        fell_back: None,
    };
    add(7, Episode { assignment: Some(unrelated), ..episode(7, &own[0], 0.5) });
    let seen = Comparison::of(&ledger, V, &[]);
    assert_eq!((seen.treatment.units, seen.control.units), (1, 1));
    assert_eq!((seen.mixed, seen.mismatched), (1, 2));
    assert_eq!(seen.fresh, (1, 1));
    assert_eq!(seen.treatment.failures.count, 3, "the unit that fell back is one of them");
    assert!((seen.treatment.failures.mean - 0.5 / 3.0).abs() < 1e-12);
}

#[test]
fn a_node_that_follows_late_is_no_mismatch_of_the_split() {
    let mut ledger = Ledger::default();
    let unit = |n: u64| format!("{:016x}", n);
    for n in 0..2_000 {
        // The share grew at 1,000; one node followed at 1,500.
        ledger.episode((0, n), &episode(n, &unit(n % 700), if n < 1_500 { 0.05 } else { 0.25 }));
    }
    let since = [LogPosition { topic: "regrade.episodes".to_owned(), partition: 0, next: 1_000 }];
    let seen = Comparison::of(&ledger, V, &since);
    let settled = seen.settled.unwrap();
    assert!(settled < 0.05 && settled > 0.03, "{settled}");
    let (own, other) = seen.split;
    let found = own as f64 / (own + other) as f64;
    assert!((found - settled / (settled + 0.5)).abs() < 0.03, "{found}");
    assert!(seen.treatment.units as f64 > 3.0 * own as f64, "all of them count");
}
