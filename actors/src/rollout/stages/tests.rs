//! Stages by figures made up for the purpose.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use crate::rollout::{ArmFigures, GuardConfig, Ledger};
use crate::types::PolicyVersion;

fn arm(units: u64, rewards: impl Fn(u64) -> f64) -> ArmFigures {
    ArmFigures {
        queries: units,
        units,
        reward: Moments::of((0..units).map(rewards)),
        failures: Moments::of((0..units).map(|_| 0.0)),
        abstentions: Moments::of((0..units).map(|_| 0.0)),
        tokens: Moments::of((0..units).map(|n| 100.0 + (n % 7) as f64)),
        durations: (0..units).map(|n| 50.0 + (n % 10) as f64).collect(),
    }
}

/// 0 or 1, with this share of ones, the same for every arm but for its offset.
fn coin(share: f64) -> impl Fn(u64) -> f64 {
    move |n| f64::from(u8::from((n % 100) as f64 * 0.01 < share))
}

fn seen(treatment: ArmFigures, control: ArmFigures) -> Comparison {
    let fresh = (treatment.reward.count, control.reward.count);
    Comparison { treatment, control, fresh, ..Comparison::default() }
}

fn word(step: &Step) -> &str {
    match step {
        Step::Stay(_) => "stay",
        Step::Pass(_) => "pass",
        Step::Retire(_) => "retire",
    }
}

fn reason(step: &Step) -> &str {
    match step {
        Step::Stay(reason) => reason,
        Step::Pass(evidence) | Step::Retire(evidence) => &evidence.reason,
    }
}

#[test]
fn early_shares_ask_for_units_without_harm_and_the_last_for_a_win() {
    let config = CanaryConfig::default();
    let look = |n, share, treatment: f64| {
        let seen = seen(arm(n, coin(treatment)), arm(n, coin(0.5)));
        canary_step(&config, (share, true), &seen, 0)
    };
    assert_eq!(word(&look(49, 0.01, 0.5)), "stay");
    assert_eq!(word(&look(200, 0.01, 0.5)), "pass");
    assert_eq!(word(&look(200, 0.5, 0.5)), "stay", "not yet surely within the margin");
    assert_eq!(word(&look(200_000, 0.5, 0.5)), "pass", "non-inferior");
    assert_eq!(word(&look(2_000, 0.5, 0.6)), "pass", "better");
    let harmed = look(2_000, 0.05, 0.3);
    assert_eq!(word(&harmed), "retire");
    assert!(reason(&harmed).starts_with("harm: reward -0.2000 ["), "{}", reason(&harmed));
}

#[test]
fn a_win_beside_other_canaries_waits_for_its_discovery() {
    let config = CanaryConfig::default();
    let seen = seen(arm(2_000, coin(0.6)), arm(2_000, coin(0.5)));
    assert_eq!(word(&canary_step(&config, (0.5, false), &seen, 0)), "stay");
    assert_eq!(word(&canary_step(&config, (0.5, true), &seen, 0)), "pass");
}

#[test]
fn each_guard_rail_retires_a_candidate_whose_reward_is_better() {
    let config = CanaryConfig { guards: GuardConfig::default(), ..CanaryConfig::default() };
    let good = || arm(3_000, coin(0.6));
    let rarely = |share: f64| Moments::of((0..3_000).map(coin(share)));
    let cases: [(&str, ArmFigures); 4] = [
        ("errors", ArmFigures { failures: rarely(0.1), ..good() }),
        ("abstentions", ArmFigures { abstentions: rarely(0.2), ..good() }),
        (
            "latency",
            ArmFigures { durations: (0..3_000).map(|n| 60.0 + n as f64).collect(), ..good() },
        ),
        (
            "tokens",
            ArmFigures {
                tokens: Moments::of((0..3_000).map(|n| 300.0 + (n % 9) as f64)),
                ..good()
            },
        ),
    ];
    for (name, treatment) in cases {
        let step = canary_step(&config, (0.05, true), &seen(treatment, arm(3_000, coin(0.5))), 0);
        assert_eq!(word(&step), "retire", "{name}");
        assert!(reason(&step).contains(&format!("guard-rail {name}")), "{}", reason(&step));
    }
    let step = canary_step(&config, (0.05, true), &seen(good(), arm(3_000, coin(0.5))), 0);
    assert_eq!(word(&step), "pass");
}

#[test]
fn an_undecided_canary_ends_with_its_time_or_its_queries() {
    let config = CanaryConfig { queries_max: 500, ..CanaryConfig::default() };
    let even = |n| seen(arm(n, coin(0.5)), arm(n, coin(0.5)));
    assert_eq!(word(&canary_step(&config, (0.5, true), &even(100), 0)), "stay");
    assert_eq!(word(&canary_step(&config, (0.5, true), &even(100), config.timeout_ms)), "retire");
    assert_eq!(word(&canary_step(&config, (0.5, true), &even(500), 0)), "retire");
}

#[test]
fn a_split_of_the_units_that_nobody_asked_for_ends_the_experiment() {
    let config = CanaryConfig::default();
    let mut seen = seen(arm(500, coin(0.6)), arm(500, coin(0.5)));
    seen.split = (500, 500);
    assert_eq!(word(&canary_step(&config, (0.5, false), &seen, 0)), "stay");
    seen.split = (300, 500);
    let step = canary_step(&config, (0.5, false), &seen, 0);
    assert!(reason(&step).contains("not the split"), "{}", reason(&step));
}

#[test]
fn a_shadow_needs_its_decisions_and_few_failures() {
    let config = ShadowConfig { decisions_min: 10, ..ShadowConfig::default() };
    let of = |decisions, failures, tokens_ratio| ShadowFigures {
        decisions,
        failures,
        tokens_ratio,
        overlap: Moments::of([0.5]),
        ..ShadowFigures::default()
    };
    assert_eq!(word(&shadow_step(&config, &of(9, 0, 1.0), 0)), "stay");
    assert_eq!(word(&shadow_step(&config, &of(9, 0, 1.0), config.timeout_ms)), "retire");
    assert_eq!(word(&shadow_step(&config, &of(10, 0, 1.0), 0)), "pass");
    assert_eq!(word(&shadow_step(&config, &of(10, 1, 1.0), 0)), "retire");
    assert_eq!(word(&shadow_step(&config, &of(10, 0, 3.0), 0)), "retire");
    let worse = ShadowFigures {
        difference: Moments::of((0..500).map(|n| -0.3 - (n % 3) as f64 * 0.01)),
        ..of(500, 0, 1.0)
    };
    assert_eq!(word(&shadow_step(&config, &worse, 0)), "retire");
}

#[test]
fn equal_ledgers_give_equal_bits_whatever_the_order_of_their_partitions() {
    assert_eq!(
        Comparison::of(&Ledger::default(), PolicyVersion(1), &[]),
        Comparison::of(&Ledger::default(), PolicyVersion(1), &[]),
    );
}
