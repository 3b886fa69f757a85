//! The check every candidate passes before it may serve: better on judged queries that no update
//! has trained on, by a paired comparison through the environment.
//!
//! Knows policies as samples see them and the environment; does not know how a candidate was trained.

use crate::evaluate::interval::paired_bootstrap;
use crate::policy::selection::{Masks, select};
use actors::ports::{Environment, Examination, LearnError, Trial};
use actors::types::{Exploration, Sample};
use candle_core::Device;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use super::online::{Contender, list_logits};

/// What a candidate must show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Fewest held-out queries; with fewer every candidate is refused.
    pub queries_min: usize,
    /// Least gain in mean reward over the champion.
    pub gain_min: f64,
    /// How far below 0 the interval of the difference may reach.
    pub tolerance: f64,
    /// Chance that any of all successive looks at logged rewards is wrong; 0.05 gives 95%.
    pub alpha: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self { queries_min: 16, gain_min: 0.0, tolerance: 0.02, alpha: 0.05 }
    }
}

impl GateConfig {
    /// Names the first field out of range, and the range.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let bad = |field: &str, expected: &str| Err((field.to_owned(), expected.to_owned()));
        if self.queries_min == 0 {
            return bad("queries_min", "at least 1");
        }
        if !self.gain_min.is_finite() {
            return bad("gain_min", "a finite number");
        }
        if !(self.tolerance >= 0.0 && self.tolerance.is_finite()) {
            return bad("tolerance", "at least 0");
        }
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            return bad("alpha", "above 0 and below 0.5");
        }
        Ok(())
    }
}

/// Serves each held-out query greedily by both policies and compares the rewards.
pub fn examine(
    config: &GateConfig,
    champion: Contender<'_>,
    candidate: Contender<'_>,
    holdout: &[Sample],
    environment: &dyn Environment,
    device: &Device,
) -> Result<Examination, LearnError> {
    let before = rewards(champion, holdout, environment, device)?;
    let after = rewards(candidate, holdout, environment, device)?;
    let pairs: Vec<(f64, f64)> =
        before.into_iter().zip(after).filter_map(|(b, a)| Some((b?, a?))).collect();
    let queries = pairs.len();
    let mean =
        |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / queries.max(1) as f64;
    let (old, new) = (mean(|p| p.0), mean(|p| p.1));
    let differences: Vec<f64> = pairs.iter().map(|(b, a)| a - b).collect();
    let difference = paired_bootstrap(&differences, 1000, 0);
    let (low, high) = difference;
    let (accepted, verdict) = if queries < config.queries_min {
        (false, format!("not enough held-out queries: {queries} of {}", config.queries_min))
    } else if new - old <= config.gain_min {
        (false, format!("no gain above {}", config.gain_min))
    } else if low < -config.tolerance {
        (false, format!("may be worse by more than {}", config.tolerance))
    } else {
        (true, "better".to_owned())
    };
    let reason = format!(
        "{verdict}: mean reward {new:.4} against {old:.4} on {queries} held-out queries, \
         difference {:+.4} [{low:+.4}, {high:+.4}]",
        new - old
    );
    Ok(Examination {
        accepted,
        reason,
        queries: queries as u64,
        champion: old,
        candidate: new,
        difference,
    })
}

/// Reward of the greedy selection of each sample; `None` where it cannot be made or scored.
fn rewards(
    policy: Contender<'_>,
    samples: &[Sample],
    environment: &dyn Environment,
    device: &Device,
) -> Result<Vec<Option<f64>>, LearnError> {
    let mut rng = StdRng::seed_from_u64(0);
    let mut trials = Vec::new();
    let mut asked = Vec::with_capacity(samples.len());
    for sample in samples {
        let Some(decision) = &sample.episode.decision else {
            asked.push(false);
            continue;
        };
        let Some(states) = policy.states(sample)? else {
            asked.push(false);
            continue;
        };
        let logits = list_logits(policy.head, &states, device)
            .map_err(|error| LearnError::Model(error.to_string()))?;
        let masks = Masks { tokens: &decision.candidate_tokens, limits: decision.limits };
        let Ok(selection) = select(&logits, masks, Exploration::Greedy, &mut rng) else {
            asked.push(false);
            continue;
        };
        let mut query = sample.episode.query.clone();
        query.references.clone_from(&sample.references);
        let documents = selection
            .order
            .iter()
            .filter_map(|&j| sample.episode.candidates.get(j as usize))
            .map(|c| c.document.clone())
            .collect();
        trials.push(Trial { query, documents });
        asked.push(true);
    }
    let mut scored = environment.rewards(&trials).into_iter();
    let reward = |was_asked: bool| {
        if was_asked { scored.next().and_then(Result::ok).map(|r| r.total) } else { None }
    };
    Ok(asked.into_iter().map(reward).collect())
}
