//! Each estimator against numbers worked by hand, and its expectation over a world that can be
//! written out in full.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::super::row::StepPrediction;
use super::*;
use crate::policy::selection::{Masks, SelectionLogits, log_probs};
use actors::types::SelectionLimits;

/// A row of one step with weight `w`, reward `r`, q̂ of what was logged and of the target.
fn row(w: f64, r: f64, q: (f64, f64)) -> Row {
    let mut row = Row::new(format!("{w} {r}"), format!("{w} {r}"), &[], &[], r).unwrap();
    row.weights = vec![w];
    row.prediction = Some(Prediction { logged: q.0, target: q.1, steps: Vec::new() });
    row
}

fn config() -> OffPolicyConfig {
    OffPolicyConfig {
        clip: 2.0,
        switch: 2.0,
        shrinkage: 4.0,
        smoothing: 0.5,
        ..OffPolicyConfig::default()
    }
}

fn near(estimator: Estimator, rows: &[Row], expected: f64) {
    let found = point(estimator, rows, &config()).unwrap();
    assert!((found - expected).abs() < 1e-12, "{}: {found}, not {expected}", estimator.name());
}

#[test]
fn whole_decisions_worked_by_hand() {
    let rows = [row(0.0, 1.0, (0.5, 0.5)), row(1.0, 0.0, (0.5, 1.0)), row(4.0, 1.0, (0.75, 0.25))];
    near(Estimator::Logged, &rows, 2.0 / 3.0);
    near(Estimator::Dm, &rows, 1.75 / 3.0);
    near(Estimator::Ips, &rows, 4.0 / 3.0);
    near(Estimator::Snips, &rows, 4.0 / 5.0);
    near(Estimator::ClippedIps, &rows, 2.0 / 3.0);
    // Corrections w (r - q̂): 0, -0.5, 4 · 0.25 = 1.
    near(Estimator::Dr, &rows, (1.75 + 0.5) / 3.0);
    near(Estimator::Sndr, &rows, 1.75 / 3.0 + 0.5 / 5.0);
    // The weight of 4 is above the switch.
    near(Estimator::SwitchDr, &rows, (1.75 - 0.5) / 3.0);
    // 4w / (w² + 4): 0, 0.8, 0.8.
    near(Estimator::DrOs, &rows, (1.75 - 0.4 + 0.2) / 3.0);
    // w / (0.5 + 0.5 w): 0, 1, 1.6.
    near(Estimator::SgIps, &rows, 1.6 / 3.0);
}

/// Two rows of two steps and one of a single step.
fn cascades() -> [Row; 3] {
    let of = |weights: &[f64], rewards: &[f64], slots: &[f64], steps: &[(f64, f64)]| {
        let mut row = row(0.0, 0.0, (0.0, 0.0));
        row.weights = weights.to_vec();
        row.step_rewards = rewards.to_vec();
        row.slot_weights = slots.to_vec();
        let steps = steps.iter().map(|&(logged, target)| StepPrediction { logged, target });
        row.prediction = Some(Prediction { steps: steps.collect(), ..Prediction::default() });
        row
    };
    [
        of(&[2.0, 4.0], &[1.0, 0.5], &[2.0, 1.0], &[(1.0, 0.5), (0.5, 0.25)]),
        of(&[0.5, 0.0], &[1.0, 1.0], &[0.5, 0.5], &[(1.0, 1.0), (0.0, 1.0)]),
        of(&[1.0], &[0.5], &[1.0, 0.5], &[(0.0, 0.0)]),
    ]
}

#[test]
fn steps_worked_by_hand() {
    let rows = cascades();
    near(Estimator::SlateIps, &rows, (4.0 * 1.5 + 0.0 + 0.5) / 3.0);
    near(Estimator::SnSlateIps, &rows, 6.5 / 5.0);
    near(Estimator::Iips, &rows, (2.0 + 0.5 + 0.5 + 0.5 + 0.5) / 3.0);
    // Position 1: (2 + 0.5 + 0.5) / 3.5; position 2: (0.5 + 0.5 + 0) / 2.
    near(Estimator::SnIips, &rows, 3.0 / 3.5 + 1.0 / 2.0);
    near(Estimator::Rips, &rows, (2.0 + 2.0 + 0.5 + 0.0 + 0.5) / 3.0);
    // Step 1: 3 / 3.5; step 2: 2 / (4 + 0 + 1), the ended row keeping its weight.
    near(Estimator::SnRips, &rows, 3.0 / 3.5 + 2.0 / 5.0);
    // Row 1: 2·0 + 0.5 + 4·0 + 2·0.25 = 1; row 2: 0 + 1 + 0 + 0.5 = 1.5; row 3: 0.5.
    near(Estimator::CascadeDr, &rows, 3.0 / 3.0);
    // Step 1: (0 + 0 + 0.5) / 3.5 + 1.5 / 3; step 2: 0 / 5 + (2·0.25 + 0.5·1) / 3.5.
    near(Estimator::SnCascadeDr, &rows, 0.5 / 3.5 + 0.5 + 1.0 / 3.5);
}

#[test]
fn what_rows_lack_is_named() {
    let mut plain = row(1.0, 1.0, (0.0, 0.0));
    plain.prediction = None;
    let lacks = |estimator: Estimator| match point(estimator, &[plain.clone()], &config()) {
        Err(Refusal::Missing { what }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(lacks(Estimator::Dr), "a reward model");
    assert_eq!(lacks(Estimator::Rips), "rewards of single steps");
    let mut steps = cascades();
    steps[0].slot_weights.pop();
    let found = point(Estimator::Iips, &steps, &config());
    assert_eq!(found, Err(Refusal::Missing { what: "marginal probabilities of positions" }));
    let zero = [row(0.0, 1.0, (0.0, 0.0))];
    assert_eq!(point(Estimator::Snips, &zero, &config()), Err(Refusal::NoWeight));
}

/// Every selection from n documents, with its step log-probabilities under both policies.
fn world(n: usize) -> Vec<(Vec<u32>, Vec<f64>, Vec<f64>)> {
    let tokens = vec![1; n];
    let limits = SelectionLimits { k_min: 0, k_max: 3, token_budget: 100 };
    let masks = Masks { tokens: &tokens, limits };
    let scores = |scale: f64| (0..n).map(|j| scale * (j as f64 - 1.0)).collect();
    let behaviour = SelectionLogits::from_scores(scores(0.5), -0.3);
    let mut target = SelectionLogits::from_scores(scores(-0.8), 0.4);
    target.interaction = (0..n * n).map(|at| 0.3 * ((at * 7 % 5) as f64 - 2.0)).collect();
    target.stop_per_document = 0.5;
    let mut orders: Vec<Vec<u32>> = vec![Vec::new()];
    let mut at = 0;
    while at < orders.len() {
        let order = orders[at].clone();
        at += 1;
        if order.len() < 3 {
            let next = (0..n as u32).filter(|j| !order.contains(j));
            orders.extend(next.map(|j| [order.clone(), vec![j]].concat()));
        }
    }
    orders
        .into_iter()
        .map(|order| {
            let b = log_probs(&behaviour, masks, &order, 1.0, 0.1).unwrap();
            let e = log_probs(&target, masks, &order, 0.7, 0.0).unwrap();
            (order, b, e)
        })
        .collect()
}

/// The reward of each step: it depends on the documents up to there.
fn step_reward(order: &[u32], l: usize) -> f64 {
    match order.get(l) {
        Some(j) => 0.3 * f64::from(*j) - 0.1 * l as f64 + 0.2 * f64::from(order[0]),
        // The stop itself: no document.
        None => 0.0,
    }
}

#[test]
fn unbiased_estimators_have_the_targets_mean_as_expectation_over_all_selections() {
    let unbiased = [Estimator::Ips, Estimator::Dr, Estimator::SlateIps, Estimator::Rips];
    for n in 1..=4 {
        let world = world(n);
        let share = |steps: &[f64]| steps.iter().sum::<f64>().exp();
        let total: f64 = world.iter().map(|(_, b, _)| share(b)).sum();
        assert!((total - 1.0).abs() < 1e-12, "probabilities sum to {total}");
        let rows: Vec<(f64, f64, Row)> = world
            .iter()
            .map(|(order, b, e)| {
                let rewards: Vec<f64> = (0..b.len()).map(|l| step_reward(order, l)).collect();
                let reward = rewards.iter().sum();
                let mut row = Row::new("d", "q", b, e, reward).unwrap();
                row.step_rewards = rewards;
                // A model that is wrong, whose mean over the target is right for what it says.
                let model = |order: &[u32]| 0.4 * order.len() as f64 - 0.2;
                let target = world.iter().map(|(o, _, e)| share(e) * model(o)).sum();
                row.prediction =
                    Some(Prediction { logged: model(order), target, steps: Vec::new() });
                (share(b), share(e), row)
            })
            .collect();
        let truth: f64 = rows.iter().map(|(_, e, row)| e * row.reward).sum();
        let mean_weight: f64 = rows.iter().map(|(b, _, row)| b * row.weight()).sum();
        assert!((mean_weight - 1.0).abs() < 1e-12);
        for estimator in unbiased {
            let expected: f64 = rows
                .iter()
                .map(|(b, _, row)| {
                    b * point(estimator, std::slice::from_ref(row), &config()).unwrap()
                })
                .sum();
            let gap = (expected - truth).abs();
            assert!(gap < 1e-12, "{} over n = {n}: {expected}, not {truth}", estimator.name());
        }
    }
}

#[test]
fn doubly_robust_is_right_where_the_model_is_right_or_the_weights_are() {
    let world = world(3);
    let share = |steps: &[f64]| steps.iter().sum::<f64>().exp();
    let reward = |order: &[u32]| (0..order.len()).map(|l| step_reward(order, l)).sum::<f64>();
    let truth: f64 = world.iter().map(|(o, _, e)| share(e) * reward(o)).sum();
    let expectation = |weight_error: f64, model: &dyn Fn(&[u32]) -> f64| -> f64 {
        let target: f64 = world.iter().map(|(o, _, e)| share(e) * model(o)).sum();
        let of = |(order, b, e): &(Vec<u32>, Vec<f64>, Vec<f64>)| {
            let mut row = Row::new("d", "q", b, e, reward(order)).unwrap();
            row.weights.iter_mut().for_each(|w| *w *= weight_error);
            let logged = model(order);
            row.prediction = Some(Prediction { logged, target, steps: Vec::new() });
            share(b) * point(Estimator::Dr, &[row], &config()).unwrap()
        };
        world.iter().map(of).sum()
    };
    let wrong = |order: &[u32]| 0.9 - 0.1 * order.len() as f64;
    assert!((expectation(1.0, &wrong) - truth).abs() < 1e-12, "right weights");
    assert!((expectation(3.0, &|o| reward(o)) - truth).abs() < 1e-12, "right model");
    assert!((expectation(3.0, &wrong) - truth).abs() > 0.05, "neither");
}

#[test]
fn cascade_dr_is_unbiased_with_any_model_of_the_steps() {
    let world = world(3);
    let share = |steps: &[f64]| steps.iter().sum::<f64>().exp();
    // Any function of a prefix and the action after it; the stop is action 9.
    let q = |prefix: &[u32], action: u32| {
        0.1 * f64::from(action) + 0.3 * prefix.len() as f64
            - 0.2 * f64::from(*prefix.first().unwrap_or(&2))
    };
    let rows = world.iter().map(|(order, b, e)| {
        let rewards: Vec<f64> = (0..b.len()).map(|l| step_reward(order, l)).collect();
        let action = |order: &[u32], l: usize| order.get(l).copied().unwrap_or(9);
        let steps = (0..b.len()).map(|l| {
            let prefix = &order[..l.min(order.len())];
            // All selections with this prefix, by their probability given it.
            let (mut mean, mut mass) = (0.0, 0.0);
            for (other, _, e) in world.iter().filter(|(o, _, _)| o.starts_with(prefix)) {
                if other.len() == l && e.len() == l {
                    continue;
                }
                mean += share(e) * q(prefix, action(other, l));
                mass += share(e);
            }
            StepPrediction { logged: q(prefix, action(order, l)), target: mean / mass }
        });
        let mut row = Row::new("d", "q", b, e, rewards.iter().sum()).unwrap();
        row.prediction = Some(Prediction { steps: steps.collect(), ..Prediction::default() });
        row.step_rewards = rewards;
        (share(b), share(e), row)
    });
    let rows: Vec<_> = rows.collect();
    let truth: f64 = rows.iter().map(|(_, e, row)| e * row.reward).sum();
    let found: f64 = rows
        .iter()
        .map(|(b, _, row)| {
            b * point(Estimator::CascadeDr, std::slice::from_ref(row), &config()).unwrap()
        })
        .sum();
    assert!((found - truth).abs() < 1e-12, "{found}, not {truth}");
}
