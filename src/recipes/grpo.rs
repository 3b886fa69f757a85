//! GRPO: the control for the other recipes. Selections of a question are compared with each other.
//!
//! Source: "DeepSeekMath" (arXiv 2402.03300) §4.1: `A_i = (r_i − mean(r)) / std(r)` over the group of
//! a question, the same for every step of the selection; clipped ratio to the policy that drew it;
//! KL to the reference beside it.
//!
//! | constant | value | source |
//! |---|---|---|
//! | group | 16 | the paper has 64 |
//! | ε | 0.2 | PPO |
//! | β | 0.04 | the paper |
//!
//! Changed, and why. KL is the exact one of the categorical and not the k3 estimate. A group without
//! spread teaches nothing and is left out. Everything else (draws, batches, the clipped objective) is
//! RRPO's, so that the two differ in their credit alone.

use super::fit::RecipeError;
use super::instance::Instance;
use super::lists::{RecipeReport, Schedule, Tools, over_steps};
use super::optimise::{better, optimise, taken};
use super::rollout::Rollout;
use super::rrpo::{Credited, Group, RrpoConfig, course, loss, rollouts};
use super::utilities;
use crate::algorithms::advantage;
use crate::policy::head::Head;
use actors::types::SelectionLimits;
use serde::{Deserialize, Serialize};

/// Settings of GRPO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpoConfig {
    /// Seed of batches and draws.
    pub seed: u64,
    /// How many documents may be chosen.
    pub limits: SelectionLimits,
    /// Warm-up on single documents; 0 epochs: none.
    pub utilities: Schedule,
    /// Passes over the drawn selections in each round.
    pub optimise: Schedule,
    /// Times that selections are drawn anew from the policy as it is then.
    pub rounds: u64,
    /// Selections of a group.
    pub trajectories: usize,
    /// Softmax temperature of draws and of the trained policy.
    pub temperature: f64,
    /// ε: half-width of the ratio's free range.
    pub clip: f64,
    /// β: weight of the exact KL to the reference.
    pub kl_weight: f64,
}

impl Default for GrpoConfig {
    fn default() -> Self {
        let rrpo = RrpoConfig::default();
        Self {
            seed: 0,
            limits: SelectionLimits { k_min: 1, k_max: 10, token_budget: 4096 },
            utilities: rrpo.utilities,
            optimise: rrpo.optimise,
            rounds: rrpo.rounds,
            trajectories: 16,
            temperature: 1.0,
            clip: 0.2,
            kl_weight: 0.04,
        }
    }
}

impl GrpoConfig {
    /// Names the first setting out of its range.
    ///
    /// # Errors
    /// [`RecipeError::Setting`].
    pub fn validate(&self) -> Result<(), RecipeError> {
        self.shared().validate()
    }

    /// What it has in common with RRPO: draws, batches and the clipped objective.
    fn shared(&self) -> RrpoConfig {
        let Self { seed, limits, utilities, optimise, rounds, trajectories, .. } = self.clone();
        RrpoConfig {
            seed,
            limits,
            utilities,
            optimise,
            rounds,
            trajectories,
            temperature: self.temperature,
            clip: self.clip,
            kl_weight: self.kl_weight,
            ..RrpoConfig::default()
        }
    }
}

/// Trains a head; returns it with the report. The reference is the head after the warm-up.
///
/// # Errors
/// A setting out of range, nothing to learn from, a loss that is no number, or a checkpoint of
/// another run.
pub fn train(
    config: &GrpoConfig,
    start: &Head,
    instances: &[&Instance],
    validation: &[&Instance],
    tools: &mut Tools<'_>,
) -> Result<(Head, RecipeReport), RecipeError> {
    config.validate()?;
    let config = &config.shared();
    let mut report = RecipeReport { recipe: "grpo".to_owned(), phases: Vec::new(), trials: 0 };
    let mut head = start.snapshot()?;
    if config.utilities.epochs > 0 {
        let how = (config.seed, &config.utilities);
        let on = (validation, config.limits, &mut report.trials);
        let (warmed, phases) = utilities::warm_up(how, &head, instances, on, tools)?;
        head = warmed;
        report.phases.extend(phases);
    }
    let reference = head.snapshot()?;
    let mut chosen = None;
    for round in 1..=config.rounds {
        let drawn = rollouts(config, &head, instances, (round, &mut report.trials), tools)?;
        let groups = credited(instances, &drawn);
        if groups.is_empty() && round > 1 {
            // The policy has made up its mind: nothing is left to compare.
            break;
        }
        let phase = format!("group-{round}");
        if groups.is_empty() {
            let reason = "no question has selections whose rewards differ".to_owned();
            return Err(RecipeError::Nothing { phase, reason });
        }
        let course = course(config, &phase, groups.len(), (round, validation));
        let (next, phase) = optimise(&course, &head, tools, &mut |head, (chosen, _), tools| {
            let picked: Vec<&Group<'_>> = chosen.iter().map(|&i| &groups[i]).collect();
            loss(config, (head, &reference), &picked, tools)
        })?;
        head = next.last;
        report.phases.push(phase);
        chosen = better(chosen, next.best);
    }
    Ok((taken(chosen, head)?, report))
}

/// Every selection of a group has its reward, whitened within the group, on every step.
fn credited<'a>(instances: &[&'a Instance], drawn: &[(usize, Rollout)]) -> Vec<Group<'a>> {
    let mut groups = Vec::new();
    for group in drawn.chunk_by(|a, b| a.0 == b.0) {
        let mut credits: Vec<f64> = group.iter().map(|(_, r)| r.reward()).collect();
        advantage::whiten(&mut credits);
        if credits.iter().all(|credit| *credit == 0.0) {
            continue;
        }
        let credit = |((_, rollout), credit): (&(usize, Rollout), f64)| {
            let steps = rollout.step_log_probs.len();
            let advantages = over_steps(&[credit], rollout.order.len(), steps);
            Credited { rollout: rollout.clone(), advantages }
        };
        let selections = group.iter().zip(credits).map(credit).collect();
        groups.push(Group { instance: instances[group[0].0], selections });
    }
    groups
}

#[cfg(test)]
mod tests;
