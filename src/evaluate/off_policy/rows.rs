//! Samples become rows: which logged decisions say something of a target, and with what weight.
//!
//! Owns the reasons why a record cannot be used, and the reward model's view of it. Does not know
//! how a target makes its logits.

use super::config::OffPolicyConfig;
use super::features;
use super::reward_model::{self, Example};
use super::row::Row;
use crate::policy::selection::{Masks, SelectionLogits, behaviour_log_probs, select};
use actors::types::{Decision, Exploration, Gate, Sample};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a record says nothing of another policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unusable {
    /// Decided without chance.
    Greedy,
    /// Answered without the documents that the index should have given.
    Degraded,
    /// Nothing was retrieved, so nothing was selected.
    Direct,
    /// The features of the decision are not on the log.
    NoStates,
    /// No step was a choice.
    Forced,
    /// The target takes features of another width, or cannot read the texts.
    ForeignWidth,
    /// No verdict (yet).
    NoReward,
    /// The judge abstained.
    Abstained,
    /// The judge failed, or waited in vain.
    JudgeFailed,
    /// There is no decision: the query failed before it.
    Undecided,
    /// The record contradicts itself: a probability that is none, a selection that its masks
    /// forbid.
    Inconsistent,
    /// The weights that the target is made of are not to be had.
    UnknownPolicy,
    /// Before, after, or older than the newest that were asked for.
    OutsideWindow,
    /// Not JSON of a record.
    Unreadable,
}

/// What a target does with one logged query.
#[derive(Debug, Clone, PartialEq)]
pub enum Conduct {
    /// It draws by these logits.
    Draws {
        /// Over the logged candidates.
        logits: SelectionLogits,
        /// How.
        exploration: Exploration,
    },
    /// It always selects these candidates in this order.
    Always {
        /// Indices of candidates.
        order: Vec<u32>,
    },
}

/// Rows of a log for one target, and what became of the rest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Logged {
    /// The rows, in the order of the samples.
    pub rows: Vec<Row>,
    /// Samples that are none, by reason.
    pub unusable: BTreeMap<Unusable, u64>,
    /// Share of the rewards' variance that the reward model explains out of fold; `None` without a
    /// model.
    pub r_squared: Option<f64>,
}

/// The decision of a sample, if another policy can be judged by it.
///
/// # Errors
/// Why not.
pub fn check(sample: &Sample) -> Result<&Decision, Unusable> {
    let decision = sample.episode.decision.as_ref().ok_or(Unusable::Undecided)?;
    if sample.episode.degraded.is_some() {
        return Err(Unusable::Degraded);
    }
    if decision.gate == Gate::Direct {
        return Err(Unusable::Direct);
    }
    if !decision.is_explored() {
        return Err(Unusable::Greedy);
    }
    let (n, steps) = (decision.candidate_tokens.len(), decision.step_log_probs.len());
    if decision.states.rows() == 0 {
        return Err(Unusable::NoStates);
    }
    if decision.states.rows() != n || !sample.reward.total.is_finite() {
        return Err(Unusable::Inconsistent);
    }
    if decision.step_log_probs.iter().all(|p| *p == 0.0) {
        return Err(Unusable::Forced);
    }
    // A document is a step each, and the stop one where it was a choice.
    let k = decision.order.len();
    let valid = decision.step_log_probs.iter().all(|p| p.is_finite() && *p <= 1e-9);
    if !valid || (steps != k && steps != k + 1) {
        return Err(Unusable::Inconsistent);
    }
    Ok(decision)
}

/// Weighs each sample for a target. Rows of one query text are one group.
///
/// target: what it does with a sample, or why it cannot say.
///
/// # Errors
/// What `target` fails with.
pub fn rows<E>(
    samples: &[Sample],
    target: &mut dyn FnMut(&Sample) -> Result<Result<Conduct, Unusable>, E>,
    config: &OffPolicyConfig,
) -> Result<Logged, E> {
    let mut logged = Logged::default();
    let mut examples = Vec::new();
    for sample in samples {
        let row = match check(sample) {
            Err(reason) => Err(reason),
            Ok(decision) => target(sample)?.and_then(|conduct| {
                let row = row(sample, decision, &conduct)?;
                if config.reward_model.enabled {
                    examples.push(example(sample, decision, &conduct, config)?);
                }
                Ok(row)
            }),
        };
        match row {
            Ok(row) => logged.rows.push(row),
            Err(reason) => *logged.unusable.entry(reason).or_default() += 1,
        }
    }
    if let Some(predictions) = reward_model::predict(&examples, &config.reward_model) {
        let pairs = predictions.iter().zip(&examples).map(|(p, e)| (p.logged, e.reward));
        logged.r_squared = reward_model::r_squared(pairs);
        for (row, prediction) in logged.rows.iter_mut().zip(predictions) {
            row.prediction = Some(prediction);
        }
    }
    Ok(logged)
}

fn row(sample: &Sample, decision: &Decision, conduct: &Conduct) -> Result<Row, Unusable> {
    let masks = Masks { tokens: &decision.candidate_tokens, limits: decision.limits };
    let target = match conduct {
        Conduct::Draws { logits, exploration } => {
            behaviour_log_probs(logits, masks, &decision.order, *exploration)
                .map_err(|_| Unusable::Inconsistent)?
        }
        Conduct::Always { order } => certain(decision, order),
    };
    let (id, query) = (decision.id.as_str(), sample.episode.query.text.as_str());
    Row::new(id, query, &decision.step_log_probs, &target, sample.reward.total)
        .map_err(|_| Unusable::Inconsistent)
}

/// Step log-probabilities of the logged selection under one that is certain: 0 as long as both
/// agree, -∞ from where they part.
fn certain(decision: &Decision, order: &[u32]) -> Vec<f64> {
    let logged = &decision.order;
    // Past its last document a selection has stopped.
    let agrees = |step: usize| logged.get(step) == order.get(step);
    let same = (0..decision.step_log_probs.len()).take_while(|step| agrees(*step)).count();
    // An end that was forced on the log is no step, and the target may not go on behind it either.
    (0..decision.step_log_probs.len())
        .map(|step| if step < same { 0.0 } else { f64::NEG_INFINITY })
        .collect()
}

/// What the reward model learns from a sample, and where it is asked for the target.
fn example(
    sample: &Sample,
    decision: &Decision,
    conduct: &Conduct,
    config: &OffPolicyConfig,
) -> Result<Example, Unusable> {
    let target = match conduct {
        Conduct::Always { order } => features::of(decision, order),
        Conduct::Draws { logits, exploration } => {
            let masks = Masks { tokens: &decision.candidate_tokens, limits: decision.limits };
            let seed = config.seed ^ reward_model::fnv(decision.id.as_str());
            let mut rng = StdRng::seed_from_u64(seed);
            let draws = config.reward_model.draws;
            let mut sum = Vec::new();
            for _ in 0..draws {
                let selection = select(logits, masks, *exploration, &mut rng)
                    .map_err(|_| Unusable::Inconsistent)?;
                let features = features::of(decision, &selection.order);
                sum.resize(features.len(), 0.0);
                sum.iter_mut().zip(&features).for_each(|(sum, f)| *sum += f / draws as f64);
            }
            sum
        }
    };
    Ok(Example {
        group: sample.episode.query.text.clone(),
        logged: features::of(decision, &decision.order),
        target,
        reward: sample.reward.total,
    })
}

#[cfg(test)]
pub(super) mod tests;
