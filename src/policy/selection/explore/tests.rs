//! One explored step: sums to one, equals the definition, matches its frequencies, and never more
//! than one step from the greedy list.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::super::tests::{limits, ordered_lists, random_logits};
use super::super::{Exploration, Masks, SelectionLogits, behaviour_log_probs, select};
use super::{Action, Walk, best, probabilities};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::collections::HashMap;

const SHARE: f64 = 0.3;
const EXPLORE: Exploration = Exploration::Explore { share: SHARE, temperature: 0.8, epsilon: 0.1 };

/// Small worlds: whole scores tie, budgets mask, `k_max` forces the end.
fn worlds() -> Vec<(SelectionLogits, Vec<u32>, super::super::SelectionLimits)> {
    let mut rng = StdRng::seed_from_u64(17);
    let mut worlds = Vec::new();
    for n in 3..=4usize {
        for (k_min, k_max, budget) in [(0, 2, 100), (1, 3, 100), (0, 3, 9), (2, 3, 8), (1, 1, 6)] {
            let tokens: Vec<u32> = (0..n as u32).map(|j| 3 + j % 3).collect();
            let plain = random_logits(n, &mut rng);
            let tied = SelectionLogits::from_scores(vec![0.5; n], 0.5);
            let mut voted = random_logits(n, &mut rng);
            voted.ensemble = (0..5).map(|_| random_logits(n, &mut rng).scores).collect();
            for logits in [plain, tied, voted] {
                worlds.push((logits, tokens.clone(), limits(k_min, k_max, budget)));
            }
        }
    }
    worlds
}

/// The greedy list behind some first steps, as actions, without one that was passed over as long as
/// there is another; written a second time.
fn greedy_behind(
    logits: &SelectionLogits,
    masks: Masks<'_>,
    first: &[Action],
    passed_over: Option<Action>,
) -> Vec<Action> {
    let mut list = first.to_vec();
    loop {
        let mut walk = Walk::new(logits, masks).unwrap();
        for action in &list {
            match action {
                Action::Document(j) => walk.take(*j),
                Action::Stop => return list,
            }
        }
        let mut actions = walk.actions();
        if actions.is_empty() {
            return list;
        }
        if actions.len() > 1 && passed_over != Some(Action::Stop) {
            actions.retain(|(action, _)| Some(*action) != passed_over);
        }
        list.push(best(&actions));
    }
}

/// P of every list by the definition: each coin, each step, each action.
fn definition(logits: &SelectionLogits, masks: Masks<'_>) -> HashMap<Vec<u32>, f64> {
    let order = |list: &[Action]| list.iter().filter_map(|a| a.document()).collect::<Vec<u32>>();
    let greedy = greedy_behind(logits, masks, &[], None);
    let mut all = HashMap::from([(order(&greedy), 1.0 - SHARE)]);
    for step in 0..greedy.len() {
        let mut walk = Walk::new(logits, masks).unwrap();
        greedy[..step].iter().for_each(|action| walk.take(action.document().unwrap() as usize));
        let actions = walk.actions();
        let uniform = 0.1 / actions.len() as f64;
        let p: Vec<f64> = if logits.ensemble.is_empty() {
            probabilities(&actions, 0.8, 0.1)
        } else {
            let votes: Vec<Action> =
                logits.ensemble.iter().map(|scores| best(&walk.actions_by(scores))).collect();
            let share = |action| votes.iter().filter(|vote| **vote == action).count() as f64 / 5.0;
            actions.iter().map(|(action, _)| 0.9 * share(*action) + uniform).collect()
        };
        for ((action, _), p) in actions.iter().zip(p) {
            let passed_over = Some(greedy[step]).filter(|greedy| greedy != action);
            let first = [&greedy[..step], &[*action]].concat();
            let list = greedy_behind(logits, masks, &first, passed_over);
            *all.entry(order(&list)).or_default() += SHARE / greedy.len() as f64 * p;
        }
    }
    all
}

fn log_prob(logits: &SelectionLogits, masks: Masks<'_>, order: &[u32]) -> Option<f64> {
    Some(behaviour_log_probs(logits, masks, order, EXPLORE).ok()?.iter().sum())
}

#[test]
fn every_list_has_the_probability_of_the_definition_and_they_sum_to_one() {
    for (logits, tokens, limits) in worlds() {
        let masks = Masks { tokens: &tokens, limits };
        let expected = definition(&logits, masks);
        let mut total = 0.0;
        for order in ordered_lists(tokens.len() as u32) {
            let Some(log_prob) = log_prob(&logits, masks, &order) else {
                assert!(!expected.contains_key(&order));
                continue;
            };
            let expected = expected.get(&order).copied().unwrap_or(0.0);
            assert!((log_prob.exp() - expected).abs() < 1e-12, "{order:?}: {limits:?}");
            total += log_prob.exp();
        }
        assert!((total - 1.0).abs() < 1e-12, "{total}");
    }
}

#[test]
fn a_prefix_has_the_sum_of_its_lists() {
    for (logits, tokens, limits) in worlds() {
        let masks = Masks { tokens: &tokens, limits };
        let lists = definition(&logits, masks);
        for order in lists.keys() {
            let steps = behaviour_log_probs(&logits, masks, order, EXPLORE).unwrap();
            for t in 1..=order.len() {
                let with = lists.iter().filter(|(list, _)| list.starts_with(&order[..t]));
                let expected: f64 = with.map(|(_, p)| p).sum();
                let found = steps[..t].iter().sum::<f64>().exp();
                assert!((found - expected).abs() < 1e-12, "{order:?} up to {t}");
            }
        }
    }
}

#[test]
fn frequencies_of_200_000_draws_match_the_probabilities() {
    let mut rng = StdRng::seed_from_u64(23);
    // One world of each kind with three documents and three steps.
    for (logits, tokens, limits) in worlds().into_iter().skip(3).take(3) {
        let masks = Masks { tokens: &tokens, limits };
        let draws = 200_000;
        let mut counts: HashMap<Vec<u32>, f64> = HashMap::new();
        for _ in 0..draws {
            let drawn = select(&logits, masks, EXPLORE, &mut rng).unwrap();
            *counts.entry(drawn.order).or_default() += 1.0;
        }
        let expected = definition(&logits, masks);
        assert!(counts.keys().all(|order| expected.contains_key(order)));
        // Pearson's statistic; its 99.99% quantile lies below 45 for up to 15 cells.
        let cells = expected.iter().filter(|(_, p)| **p > 0.0);
        let statistic: f64 = cells
            .map(|(order, p)| {
                let expected = p * f64::from(draws);
                (counts.get(order).copied().unwrap_or(0.0) - expected).powi(2) / expected
            })
            .sum();
        assert!(statistic < 45.0, "{statistic}");
    }
}

#[test]
fn a_list_one_step_from_the_greedy_one_has_the_probability_worked_by_hand() {
    // Odds 2 : 1 : 1 of both documents and the stop; greedy is document 0, then the stop on a tie.
    let logits = SelectionLogits::from_scores(vec![2f64.ln(), 0.0], 0.0);
    let masks = Masks { tokens: &[5, 5], limits: limits(0, 2, 100) };
    let explore = Exploration::Explore { share: 0.2, temperature: 1.0, epsilon: 0.0 };
    let of = |order: &[u32]| {
        let steps = behaviour_log_probs(&logits, masks, order, explore).unwrap();
        steps.iter().sum::<f64>().exp()
    };
    // Two steps, each explored in a tenth: 0.8 + 0.1 · 1/2 + 0.1 · 1/2.
    assert!((of(&[0]) - 0.9).abs() < 1e-12);
    assert!((of(&[0, 1]) - 0.05).abs() < 1e-12, "the stop is explored");
    // Document 1 in the place of document 0, which was passed over and stays away.
    assert!((of(&[1]) - 0.025).abs() < 1e-12);
    assert!((of(&[]) - 0.025).abs() < 1e-12);
    assert_eq!(of(&[1, 0]), 0.0, "another order of greedy documents");
}

#[test]
fn a_share_of_0_is_greedy_and_certain() {
    let none = Exploration::Explore { share: 0.0, temperature: 1.0, epsilon: 0.5 };
    let mut rng = StdRng::seed_from_u64(5);
    for (logits, tokens, limits) in worlds() {
        let masks = Masks { tokens: &tokens, limits };
        let drawn = select(&logits, masks, none, &mut rng).unwrap();
        assert_eq!(drawn, select(&logits, masks, Exploration::Greedy, &mut rng).unwrap());
        for order in ordered_lists(tokens.len() as u32) {
            let of = |exploration| behaviour_log_probs(&logits, masks, &order, exploration);
            assert_eq!(of(none), of(Exploration::Greedy), "{order:?}");
        }
    }
}

#[test]
fn members_that_agree_with_the_scores_only_explore_by_chance() {
    let mut rng = StdRng::seed_from_u64(9);
    let mut logits = random_logits(4, &mut rng);
    logits.ensemble = vec![logits.scores.clone(); 3];
    let masks = Masks { tokens: &[1; 4], limits: limits(1, 3, 10) };
    let sure = Exploration::Explore { share: 1.0, temperature: 1.0, epsilon: 0.0 };
    let greedy = select(&logits, masks, Exploration::Greedy, &mut rng).unwrap();
    assert_eq!(select(&logits, masks, sure, &mut rng).unwrap(), greedy);
    // One member that prefers another first document has a third of the explorations of step 0.
    logits.ensemble[0] = vec![-50.0; 4];
    let other = (0..4).find(|j| *j != greedy.order[0]).unwrap();
    logits.ensemble[0][other as usize] = 50.0;
    let first = behaviour_log_probs(&logits, masks, &[other], sure);
    let steps = greedy.step_log_probs.len() as f64;
    // The list may go on behind it; its first step is what counts.
    let first = first.map_or_else(|_| f64::NAN, |steps| steps[0]);
    assert!((first.exp() - 1.0 / 3.0 / steps).abs() < 1e-12, "{first}");
}

#[test]
fn an_ensemble_of_another_size_is_refused() {
    let mut logits = SelectionLogits::from_scores(vec![0.0; 3], 0.0);
    logits.ensemble = vec![vec![0.0; 2]];
    let masks = Masks { tokens: &[1; 3], limits: limits(0, 2, 10) };
    let error = select(&logits, masks, EXPLORE, &mut StdRng::seed_from_u64(0)).unwrap_err();
    let expected = "selection over 3 scores got 2 scores of a member of the ensemble";
    assert_eq!(error.to_string(), expected);
}

proptest! {
    #[test]
    fn a_drawn_list_is_greedy_but_for_a_step_and_has_support(
        seed in 0u64..2_000, n in 0usize..12, k_min in 0u32..3, extra in 0u32..4,
        budget in 0u32..60, members in 0usize..4, share in 0.0..=1.0, epsilon in 0.0..=1.0,
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut logits = random_logits(n, &mut rng);
        logits.ensemble = (0..members).map(|_| random_logits(n, &mut rng).scores).collect();
        let tokens: Vec<u32> = (0..n as u32).map(|j| 1 + (j * 7) % 13).collect();
        let masks = Masks { tokens: &tokens, limits: limits(k_min, k_min + extra, budget) };
        let explore = Exploration::Explore { share, temperature: 0.5, epsilon };
        let drawn = select(&logits, masks, explore, &mut rng).unwrap();
        let again = behaviour_log_probs(&logits, masks, &drawn.order, explore).unwrap();
        prop_assert_eq!(&again, &drawn.step_log_probs);
        prop_assert!(again.iter().all(|p| p.is_finite() && *p <= 0.0));
        let greedy = select(&logits, masks, Exploration::Greedy, &mut rng).unwrap();
        if drawn.order == greedy.order {
            prop_assert!(again.iter().sum::<f64>().exp() >= 1.0 - share - 1e-12);
        } else {
            // Behind the step that differs all is greedy: its chance is decided there.
            let same = drawn.order.iter().zip(&greedy.order).take_while(|(a, b)| a == b).count();
            prop_assert!(again[same + 1..].iter().all(|p| *p == 0.0));
        }
    }
}
