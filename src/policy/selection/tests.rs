//! Sums to one, equals brute force, matches its frequencies, keeps its masks.

//! Probabilities, masks and limits of selections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::{
    Exploration, Masks, SelectionError, SelectionLimits, SelectionLogits, behaviour_log_probs,
    greedy_completions, greedy_steps, log_probs, open_actions, select,
};
use proptest::prelude::*;
use rand::Rng as _;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::HashMap;

pub(super) fn random_logits(n: usize, rng: &mut StdRng) -> SelectionLogits {
    let mut value = || rng.random_range(-2.0..2.0);
    SelectionLogits {
        scores: (0..n).map(|_| value()).collect(),
        interaction: (0..n * n).map(|_| value()).collect(),
        evidence: (0..n).map(|_| value()).collect(),
        stop: value(),
        stop_per_document: value(),
        ensemble: Vec::new(),
    }
}

pub(super) fn limits(k_min: u32, k_max: u32, token_budget: u32) -> SelectionLimits {
    SelectionLimits { k_min, k_max, token_budget }
}

/// Every ordered list without repeats of up to n documents.
pub(super) fn ordered_lists(n: u32) -> Vec<Vec<u32>> {
    let mut lists = vec![vec![]];
    let mut from = 0;
    while from < lists.len() {
        for j in 0..n {
            if !lists[from].contains(&j) {
                let mut longer = lists[from].clone();
                longer.push(j);
                lists.push(longer);
            }
        }
        from += 1;
    }
    lists
}

#[test]
fn probabilities_of_all_decisions_sum_to_one() {
    let mut rng = StdRng::seed_from_u64(7);
    for n in 1..=6usize {
        for (k_min, k_max, budget) in
            [(0, 6, 10_000), (1, 3, 10_000), (2, 6, 10_000), (0, 6, 25), (3, 5, 12), (1, 1, 9)]
        {
            for (temperature, epsilon) in [(1.0, 0.0), (0.5, 0.1), (2.0, 1.0)] {
                let logits = random_logits(n, &mut rng);
                let tokens: Vec<u32> = (0..n).map(|_| rng.random_range(1..12)).collect();
                let masks = Masks { tokens: &tokens, limits: limits(k_min, k_max, budget) };
                let total: f64 = ordered_lists(n as u32)
                    .iter()
                    .filter_map(|order| log_probs(&logits, masks, order, temperature, epsilon).ok())
                    .map(|steps| steps.iter().sum::<f64>().exp())
                    .sum();
                assert!((total - 1.0).abs() < 1e-9, "n {n}, k {k_min}..{k_max}: {total}");
            }
        }
    }
}

/// The definition written a second time, as plainly as possible.
fn brute_force(logits: &SelectionLogits, order: &[usize], tau: f64, eps: f64) -> f64 {
    let n = logits.scores.len();
    let mut log_prob = 0.0;
    for t in 0..=order.len() {
        let chosen = &order[..t];
        if chosen.len() == n {
            break;
        }
        let mut weights = HashMap::new();
        for j in (0..n).filter(|j| !chosen.contains(j)) {
            let shift: f64 = chosen.iter().map(|i| logits.interaction[j * n + i]).sum();
            let mean = if t == 0 { 0.0 } else { shift / t as f64 };
            weights.insert(j, ((logits.scores[j] + mean) / tau).exp());
        }
        let evidence: f64 = chosen.iter().map(|&i| logits.evidence[i]).sum();
        let stop = logits.stop + evidence + logits.stop_per_document * t as f64;
        weights.insert(n, (stop / tau).exp());
        let action = order.get(t).copied().unwrap_or(n);
        let sum: f64 = weights.values().sum();
        let p = (1.0 - eps) * weights[&action] / sum + eps / weights.len() as f64;
        log_prob += p.ln();
    }
    log_prob
}

#[test]
fn log_probabilities_equal_the_brute_force_reference() {
    let mut rng = StdRng::seed_from_u64(11);
    for n in 1..=5usize {
        let logits = random_logits(n, &mut rng);
        let tokens = vec![1; n];
        let masks = Masks { tokens: &tokens, limits: limits(0, 10, 1000) };
        for order in ordered_lists(n as u32) {
            let steps = log_probs(&logits, masks, &order, 0.7, 0.05).unwrap();
            let wide: Vec<usize> = order.iter().map(|&j| j as usize).collect();
            let expected = brute_force(&logits, &wide, 0.7, 0.05);
            assert!((steps.iter().sum::<f64>() - expected).abs() < 1e-10, "{order:?}");
        }
    }
}

#[test]
fn a_two_document_list_has_the_probability_worked_by_hand() {
    // Scores ln 2 and 0, stop 0: first step weights 2, 1, 1; then 1, 1 without document 0.
    let logits = SelectionLogits::from_scores(vec![2f64.ln(), 0.0], 0.0);
    let masks = Masks { tokens: &[5, 5], limits: limits(0, 2, 100) };
    let steps = log_probs(&logits, masks, &[0], 1.0, 0.0).unwrap();
    assert_eq!(steps.len(), 2);
    assert!((steps[0] - 0.5f64.ln()).abs() < 1e-12);
    assert!((steps[1] - 0.5f64.ln()).abs() < 1e-12);
}

#[test]
fn sampled_frequencies_match_the_probabilities() {
    let mut rng = StdRng::seed_from_u64(3);
    let logits = random_logits(3, &mut rng);
    let masks = Masks { tokens: &[3, 4, 5], limits: limits(0, 3, 8) };
    let exploration = Exploration::Sample { temperature: 0.8, epsilon: 0.1 };
    let draws = 60_000;
    let mut counts: HashMap<Vec<u32>, f64> = HashMap::new();
    for _ in 0..draws {
        let selection = select(&logits, masks, exploration, &mut rng).unwrap();
        let again = log_probs(&logits, masks, &selection.order, 0.8, 0.1).unwrap();
        assert_eq!(again, selection.step_log_probs);
        *counts.entry(selection.order).or_default() += 1.0;
    }
    // Pearson's statistic over the lists; 99.99% quantiles lie below 45 for up to 15 cells.
    let mut statistic = 0.0;
    for order in ordered_lists(3) {
        if let Ok(steps) = log_probs(&logits, masks, &order, 0.8, 0.1) {
            let expected = steps.iter().sum::<f64>().exp() * f64::from(draws);
            let seen = counts.get(&order).copied().unwrap_or(0.0);
            statistic += (seen - expected).powi(2) / expected;
        }
    }
    assert!(statistic < 45.0, "{statistic}");
}

#[test]
fn masks_are_hard() {
    let logits = SelectionLogits::from_scores(vec![1.0, 2.0, 3.0], 100.0);
    let masks = Masks { tokens: &[10, 10, 50], limits: limits(2, 3, 25) };
    let greedy =
        select(&logits, masks, Exploration::Greedy, &mut StdRng::seed_from_u64(0)).unwrap();
    // Document 2 does not fit, the stop is masked until two are chosen, then nothing fits.
    assert_eq!(greedy.order, [1, 0]);
    assert_eq!(greedy.step_log_probs, [0.0, 0.0]);
    assert_eq!(
        log_probs(&logits, masks, &[2], 1.0, 0.0),
        Err(SelectionError::Masked { step: 0, action: "document 2".into() })
    );
    assert_eq!(
        log_probs(&logits, masks, &[1], 1.0, 0.0),
        Err(SelectionError::Masked { step: 1, action: "stop".into() })
    );
}

#[test]
fn a_greedy_policy_has_one_list_and_it_is_certain() {
    let logits = SelectionLogits::from_scores(vec![1.0, 2.0, 0.5], 1.5);
    let masks = Masks { tokens: &[10, 10, 50], limits: limits(0, 3, 25) };
    let of = |order: &[u32]| behaviour_log_probs(&logits, masks, order, Exploration::Greedy);
    assert_eq!(of(&[1]), Ok(vec![0.0, 0.0]));
    let never = f64::NEG_INFINITY;
    assert_eq!(of(&[1, 0]), Ok(vec![0.0, never]), "the end behind it is forced");
    assert_eq!(of(&[0]), Ok(vec![never, never]), "all behind a step that is never taken");
    assert!(of(&[2]).is_err(), "a masked action is an error, not a chance of 0");
}

#[test]
fn open_actions_are_those_with_probability() {
    let masks = Masks { tokens: &[10, 10, 50], limits: limits(1, 3, 60) };
    let rows = open_actions(3, masks, &[2, 0]).unwrap();
    // After documents 2 and 0 nothing fits: the end is forced and is no step.
    assert_eq!(rows, [vec![true, true, true, false], vec![true, true, false, true]]);
}

#[test]
fn logits_that_are_not_finite_are_refused() {
    let logits = SelectionLogits::from_scores(vec![f64::NAN, 0.0], 0.0);
    let masks = Masks { tokens: &[1, 1], limits: limits(0, 2, 10) };
    let result = select(&logits, masks, Exploration::Greedy, &mut StdRng::seed_from_u64(0));
    assert_eq!(result, Err(SelectionError::NotFinite));
}

proptest! {
    #[test]
    fn a_selection_never_breaks_its_limits(
        seed in 0u64..500, n in 0usize..30, k_min in 0u32..4, extra in 0u32..6, budget in 0u32..200,
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        let logits = random_logits(n, &mut rng);
        let tokens: Vec<u32> = (0..n).map(|_| rng.random_range(1..40)).collect();
        let masks = Masks { tokens: &tokens, limits: limits(k_min, k_min + extra, budget) };
        let exploration = Exploration::Sample { temperature: 1.0, epsilon: 0.2 };
        let selection = select(&logits, masks, exploration, &mut rng).unwrap();
        let spent: u32 = selection.order.iter().map(|&j| tokens[j as usize]).sum();
        prop_assert!(spent <= budget);
        prop_assert!(selection.order.len() as u32 <= k_min + extra);
        let mut seen = selection.order.clone();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), selection.order.len());
        prop_assert!(selection.step_log_probs.iter().all(|p| *p <= 0.0));
    }
}

#[test]
fn a_greedy_completion_begins_as_asked_and_goes_on_as_the_greedy_policy_would() {
    let mut rng = StdRng::seed_from_u64(11);
    for case in 0..40 {
        let n = 2 + case % 4;
        let logits = random_logits(n, &mut rng);
        let tokens: Vec<u32> = (0..n).map(|_| rng.random_range(1..12)).collect();
        let masks = Masks { tokens: &tokens, limits: limits(1, 3, 25) };
        let sampled = Exploration::Sample { temperature: 1.0, epsilon: 0.5 };
        let order = select(&logits, masks, sampled, &mut rng).unwrap().order;
        let steps = greedy_completions(&logits, masks, &order).unwrap();
        let open = open_actions(n, masks, &order).unwrap();
        assert_eq!(steps.len(), open.len());
        for (step, (lists, open)) in steps.iter().zip(&open).enumerate() {
            assert_eq!(lists.len(), n + 1);
            for (action, (list, open)) in lists.iter().zip(open).enumerate() {
                assert_eq!(list.is_some(), *open, "step {step}, action {action}");
                let Some(list) = list else { continue };
                assert_eq!(list[..step], order[..step]);
                if action == n {
                    assert_eq!(list.len(), step, "the stop ends the list");
                    continue;
                }
                assert_eq!(list[step], action as u32);
                // Whatever comes after the asked action is the greedy choice.
                let greedy = greedy_steps(&logits, masks, list).unwrap();
                assert!(greedy[step + 1..].iter().all(|follows| *follows), "{list:?}");
            }
        }
    }
}
