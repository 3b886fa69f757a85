//! What an update that tries selections may cost: asked before it starts.

use super::config::{Advantage, OnlineConfig};
use actors::ports::{Batch, Environment, EnvironmentError, LearnError};
use actors::types::Sample;

/// Refuses an update that may cost more than what is left.
///
/// # Errors
/// [`LearnError::Unaffordable`], with the figures.
pub(super) fn check(
    config: &OnlineConfig,
    environment: &dyn Environment,
    batch: &Batch,
) -> Result<(), LearnError> {
    if !config.objective.simulates() {
        return Ok(());
    }
    let needs_references = environment.needs_references();
    let can_score = |sample: &&Sample| !needs_references || !sample.references.is_empty();
    let of = |sample: &Sample| {
        let decision = sample.episode.decision.as_ref();
        let n = decision.map_or(0, |decision| decision.states.rows());
        // The champion's list, each candidate alone, and what is drawn.
        let selections = 1 + config.singles.min(n) + config.rollouts;
        let longest =
            decision.map_or(1, |decision| decision.limits.k_max as usize).clamp(1, n.max(1));
        match config.advantage {
            Advantage::Terminal => selections,
            Advantage::SelfCritical | Advantage::Printed => selections * longest,
        }
    };
    let trained: usize = batch.train.iter().filter(can_score).map(of).sum();
    // The examination serves each by champion and candidate.
    let examined = 2 * batch.holdout.iter().filter(can_score).count();
    environment.afford((trained + examined) as u64).map_err(|error| match error {
        EnvironmentError::Unaffordable(reason) => LearnError::Unaffordable(reason),
        EnvironmentError::Unscored(reason) => LearnError::Model(reason),
    })
}

/// How many samples can teach nothing because nothing scores what is tried for them; empty where
/// that is none's trouble.
pub(super) fn unscorable(environment: &dyn Environment, samples: &[Sample]) -> String {
    let count = samples.iter().filter(|sample| sample.references.is_empty()).count();
    if count == 0 || !environment.needs_references() {
        return String::new();
    }
    format!(
        "; {count} have no references, and no judge scores what is tried: set \
         `judge.llm.judges_trials`, or learn from the log alone"
    )
}
