//! Policies of this program as targets of off-policy estimates: what a head would do on logged
//! decisions.
//!
//! Owns how a policy serves when it is judged: as the log explored, by an exploration of its own,
//! or without chance. Knows contenders; what is estimated is `evaluate::off_policy`'s.

use super::online::{Contender, list_logits};
use crate::evaluate::off_policy::{self, Conduct, Logged, OffPolicyConfig, Unusable};
use crate::policy::selection::{Masks, SelectionLogits, select};
use actors::ports::LearnError;
use actors::types::{Decision, Exploration, Sample};
use candle_core::Device;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Weighs logged samples for a policy.
///
/// exploration: how the policy would serve; `None` as each decision was served.
///
/// # Errors
/// An encoder or a head that fails.
pub fn rows(
    samples: &[Sample],
    target: Contender<'_>,
    exploration: Option<Exploration>,
    config: &OffPolicyConfig,
    device: &Device,
) -> Result<Logged, LearnError> {
    let mut conduct = |sample: &Sample| conduct(sample, target, exploration, device);
    off_policy::rows(samples, &mut conduct, config)
}

/// What a policy does with one sample, or why it cannot say.
///
/// # Errors
/// An encoder or a head that fails.
pub fn conduct(
    sample: &Sample,
    target: Contender<'_>,
    exploration: Option<Exploration>,
    device: &Device,
) -> Result<Result<Conduct, Unusable>, LearnError> {
    let Some(decision) = &sample.episode.decision else { return Ok(Err(Unusable::Undecided)) };
    let Some(states) = target.states(sample)? else { return Ok(Err(Unusable::ForeignWidth)) };
    let logits = list_logits(target.head, &states, device)
        .map_err(|error| LearnError::Model(error.to_string()))?;
    Ok(match exploration.unwrap_or(decision.exploration) {
        Exploration::Greedy => greedy(&logits, decision),
        exploration => Ok(Conduct::Draws { logits, exploration }),
    })
}

/// The selection of these logits without chance.
fn greedy(logits: &SelectionLogits, decision: &Decision) -> Result<Conduct, Unusable> {
    let masks = Masks { tokens: &decision.candidate_tokens, limits: decision.limits };
    // Nothing is drawn where nothing is left to chance.
    let mut rng = StdRng::seed_from_u64(0);
    select(logits, masks, Exploration::Greedy, &mut rng)
        .map(|selection| Conduct::Always { order: selection.order })
        .map_err(|_| Unusable::Inconsistent)
}

#[cfg(test)]
mod tests;
