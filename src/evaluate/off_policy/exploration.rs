//! What exploration costs: the reward of the policies that served, had they done without it, less
//! what was earned.
//!
//! A decision that chance did not change shows what the greedy list is worth, and its logged
//! propensity how often it is shown; so no weights are needed, and no model.

use super::config::OffPolicyConfig;
use super::estimators::Estimator;
use super::finding::compare;
use super::row::Row;
use super::rows::check;
use actors::types::{Decision, Exploration, Sample};
use serde::Serialize;

/// The measured cost of exploration on a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExplorationCost {
    /// Judged decisions that chance had a part in.
    pub decisions: usize,
    /// Of these, those with another list than the greedy one.
    pub explored: usize,
    /// Mean reward of those; `null` of none.
    pub explored_reward: Option<f64>,
    /// Mean reward of the others.
    pub greedy_reward: Option<f64>,
    /// Mean share of the decisions that are explored, as configured; 1 where every step is drawn.
    pub share: Option<f64>,
    /// Greedy mean less logged mean in units of reward, `(low, value, high)`; `null` where the log
    /// says too little.
    pub cost: Option<(f64, f64, f64)>,
    /// Why there is no figure, or how it was made.
    pub reason: String,
}

/// Measures it on judged samples; decisions that do not say whether they deviate are left out.
pub fn exploration_cost(samples: &[Sample], config: &OffPolicyConfig) -> ExplorationCost {
    let mut rows = Vec::new();
    let (mut explored, mut greedy, mut shares) =
        (Mean::default(), Mean::default(), Mean::default());
    for sample in samples {
        let Ok(decision) = check(sample) else { continue };
        let Some(deviates) = decision.deviates else { continue };
        let Some(row) = row(sample, decision, deviates) else { continue };
        rows.push(row);
        if deviates { &mut explored } else { &mut greedy }.add(sample.reward.total);
        shares.add(match decision.exploration {
            Exploration::Explore { share, .. } => share,
            Exploration::Sample { .. } => 1.0,
            Exploration::Greedy => 0.0,
        });
    }
    let config = OffPolicyConfig { estimator: Some(Estimator::Snips), ..config.clone() };
    let finding = compare(&rows, None, &config);
    ExplorationCost {
        decisions: rows.len(),
        explored: explored.count,
        explored_reward: explored.value(),
        greedy_reward: greedy.value(),
        share: shares.value(),
        cost: finding.difference,
        reason: finding.reason,
    }
}

/// The decision as one of a policy that is certain to choose the greedy list.
fn row(sample: &Sample, decision: &Decision, deviates: bool) -> Option<Row> {
    let mut target = vec![0.0; decision.step_log_probs.len()];
    if deviates {
        *target.last_mut()? = f64::NEG_INFINITY;
    }
    let (id, query) = (decision.id.as_str(), sample.episode.query.text.as_str());
    Row::new(id, query, &decision.step_log_probs, &target, sample.reward.total).ok()
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::super::rows::tests::{decision, sample};
    use super::*;
    use crate::policy::selection::{Masks, SelectionLogits, select};
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    /// A log in which the greedy list is worth 0.7 and every other 0.2.
    fn log(exploration: Exploration, count: usize) -> Vec<Sample> {
        let logits = SelectionLogits::from_scores(vec![1.0, 0.5, -0.5], 0.7);
        let mut rng = StdRng::seed_from_u64(8);
        let made = (0..count).map(|n| {
            let mut decision = decision(&format!("d{n}"), &[], &[]);
            let masks = Masks { tokens: &decision.candidate_tokens, limits: decision.limits };
            let drawn = select(&logits, masks, exploration, &mut rng).unwrap();
            let greedy = select(&logits, masks, Exploration::Greedy, &mut rng).unwrap();
            let deviates = drawn.order != greedy.order;
            (decision.order, decision.step_log_probs) = (drawn.order, drawn.step_log_probs);
            (decision.exploration, decision.deviates) = (exploration, Some(deviates));
            let worth = if deviates { 0.2 } else { 0.7 };
            let reward = f64::from(u8::from(rng.random_bool(worth)));
            sample(&format!("q{n}"), decision, reward)
        });
        made.collect()
    }

    #[test]
    fn the_cost_is_what_deviating_loses_times_how_often_it_is_done() {
        let explore = Exploration::Explore { share: 0.4, temperature: 1.0, epsilon: 0.1 };
        let samples = log(explore, 4_000);
        let found = exploration_cost(&samples, &OffPolicyConfig::default());
        assert_eq!(found.decisions, 4_000);
        let deviating = found.explored as f64 / 4_000.0;
        assert!((0.1..0.35).contains(&deviating), "{deviating}");
        let (low, value, high) = found.cost.unwrap();
        assert!(low <= 0.5 * deviating && 0.5 * deviating <= high, "{low} {value} {high}");
        assert!(high - low < 0.05 && low > 0.0, "{low} {value} {high}");
        assert!((found.share.unwrap() - 0.4).abs() < 1e-9);
        assert!(found.explored_reward.unwrap() < 0.3 && found.greedy_reward.unwrap() > 0.65);
    }

    #[test]
    fn a_log_without_chance_says_nothing_of_its_cost() {
        let found = exploration_cost(&log(Exploration::Greedy, 200), &OffPolicyConfig::default());
        assert_eq!((found.decisions, found.cost), (0, None));
        assert!(!found.reason.is_empty());
    }
}
