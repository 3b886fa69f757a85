//! How a policy does on questions: accuracy against retrievals, per data set, at any threshold.
//!
//! A question that fails stays in the denominator, with nothing earned, and is counted.

use super::config::{Gate, Rules, SmartRagConfig};
use super::episode::Episode;
use super::policy::{SmartPolicy, Trajectory, play};
use super::world::World;
use crate::recipes::fit::RecipeError;
use actors::types::Query;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::Serialize;
use std::collections::BTreeMap;

/// Figures over some questions; means over all of them, failed ones included as zeros.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Tally {
    /// Questions asked.
    pub questions: usize,
    /// Those that failed: a port gave an error.
    pub failed: usize,
    /// Exact match, in [0, 1].
    pub em: f64,
    /// Token F1, in [0, 1].
    pub f1: f64,
    /// Searches made, over all questions.
    pub retrievals: usize,
    /// Share of the questions that were searched for at all.
    pub retrieve_rate: f64,
    /// Documents put before the generator, a question.
    pub documents: f64,
    /// EM + F1 less the cost of retrievals.
    pub net_reward: f64,
}

impl Tally {
    fn add(&mut self, outcome: Option<&Trajectory>, config: &SmartRagConfig) {
        self.questions += 1;
        let Some(trajectory) = outcome else {
            self.failed += 1;
            return;
        };
        self.em += trajectory.em;
        self.f1 += trajectory.f1;
        self.retrievals += trajectory.retrievals();
        self.retrieve_rate += f64::from(u8::from(trajectory.retrievals() > 0));
        self.documents += trajectory.order.len() as f64;
        self.net_reward += trajectory.net_reward(config);
    }

    fn divided(mut self) -> Self {
        let n = self.questions.max(1) as f64;
        for sum in [
            &mut self.em,
            &mut self.f1,
            &mut self.retrieve_rate,
            &mut self.documents,
            &mut self.net_reward,
        ] {
            *sum /= n;
        }
        self
    }
}

/// Figures overall and for each data set.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Measured {
    /// All questions.
    pub overall: Tally,
    /// By the `dataset` of the question.
    pub datasets: BTreeMap<String, Tally>,
}

/// Greedy figures of a policy.
///
/// # Errors
/// Weights that are not finite. A port that fails is counted instead.
pub async fn measure(
    world: &World,
    policy: &SmartPolicy,
    queries: &[&Query],
    (rules, config): (&Rules, &SmartRagConfig),
) -> Result<Measured, RecipeError> {
    let mut measured = Measured::default();
    // Greedy episodes draw nothing; the generator only has to exist.
    let mut rng = StdRng::seed_from_u64(config.seed);
    for &query in queries {
        let outcome = match play(world, policy, query, rules, &mut rng).await {
            Ok(trajectory) => Some(trajectory),
            Err(RecipeError::Question { .. }) => None,
            Err(error) => return Err(error),
        };
        let name = query.metadata.get("dataset").cloned().unwrap_or_default();
        measured.overall.add(outcome.as_ref(), config);
        measured.datasets.entry(name).or_default().add(outcome.as_ref(), config);
    }
    measured.overall = measured.overall.divided();
    measured.datasets.values_mut().for_each(|tally| *tally = tally.divided());
    Ok(measured)
}

/// One threshold and what comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Nats added to every retrieval at the first turn.
    pub retrieve_bias: f64,
    /// The figures.
    pub tally: Tally,
}

/// Accuracy against retrieve rate over a grid of offsets.
///
/// # Errors
/// Weights that are not finite.
pub async fn curve(
    world: &World,
    policy: &SmartPolicy,
    queries: &[&Query],
    (rules, config): (&Rules, &SmartRagConfig),
    offsets: &[f64],
) -> Result<Vec<CurvePoint>, RecipeError> {
    let mut points = Vec::with_capacity(offsets.len());
    for &retrieve_bias in offsets {
        let rules = rules.with_gate(Gate::Policy { retrieve_bias });
        let tally = measure(world, policy, queries, (&rules, config)).await?.overall;
        points.push(CurvePoint { retrieve_bias, tally });
    }
    Ok(points)
}

/// ln odds of retrieving at the first turn, one a question; questions that fail are left out.
///
/// # Errors
/// Weights that are not finite.
pub async fn first_turn_log_odds(
    world: &World,
    policy: &SmartPolicy,
    queries: &[&Query],
    quota: u32,
) -> Result<Vec<f64>, RecipeError> {
    let mut odds = Vec::with_capacity(queries.len());
    for &query in queries {
        let Ok(episode) = Episode::start(world, query, quota).await else { continue };
        let (logits, _) = policy.turn_logits(&episode.state())?;
        odds.push(logits.retrieve_log_odds(&episode.open()));
    }
    Ok(odds)
}

/// The offset at which the wished share of questions is searched for at the first turn.
///
/// log_odds: of training questions, see [`first_turn_log_odds`]; those that are not finite count
/// as never searched for. `rate` in [0, 1]. The offset lies half-way between the last question that
/// shall be searched for and the first that shall not; equal odds cannot be told apart, so the rate
/// reached may differ by those. 0 without questions.
pub fn calibrate_rate(log_odds: &[f64], rate: f64) -> f64 {
    /// Beyond the last question on either side.
    const BEYOND: f64 = 1.0;
    let mut sorted: Vec<f64> = log_odds.iter().copied().filter(|odds| odds.is_finite()).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let wished = (rate.clamp(0.0, 1.0) * log_odds.len() as f64).round() as usize;
    let wished = wished.min(sorted.len());
    match (wished.checked_sub(1).map(|at| sorted[at]), sorted.get(wished)) {
        (None, None) => 0.0,
        (None, Some(first)) => -(first + BEYOND),
        (Some(last), None) => -(last - BEYOND),
        (Some(last), Some(next)) => -0.5 * (last + next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_wished_for_is_the_rate_reached() {
        let odds = [2.0, -1.0, 0.5, f64::NEG_INFINITY, -3.0];
        let reached = |bias: f64| odds.iter().filter(|o| *o + bias > 0.0).count();
        for (rate, expected) in [(0.0, 0), (0.2, 1), (0.4, 2), (0.6, 3), (0.8, 4), (1.0, 4)] {
            assert_eq!(reached(calibrate_rate(&odds, rate)), expected, "at {rate}");
        }
        assert_eq!(calibrate_rate(&odds, 0.4), -(0.5 - 1.0) / 2.0);
        assert_eq!(calibrate_rate(&[], 0.5), 0.0);
    }
}
