//! The settings of the recipe, each with its bound and where it comes from.

use crate::algorithms::kl_control::KlControl;
use crate::algorithms::ppo::Terms;
use crate::policy::optimizer::OptimizerArgs;
use crate::recipes::fit::RecipeError;
use actors::types::{Exploration, SelectionLimits};
use serde::{Deserialize, Serialize};

/// Settings of the recipe; the table in `smart_rag.rs` says which are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmartRagConfig {
    /// Seed of weights, batches and rollouts.
    pub seed: u64,
    /// Most retrievals for one question, 0 to 6; at the quota only answering is open.
    pub retrievals_max: u32,
    /// What one retrieval costs, in reward, ≥ 0.
    pub retrieval_cost: f64,
    /// What a move that is not open costs in replayed data, in reward, ≥ 0.
    pub format_penalty: f64,
    /// Questions, observations and lists kept in memory, each; see `World::new`.
    pub observations_max: usize,
    /// Width of either network of the turn head.
    pub hidden: usize,
    /// Single documents tried for each list when samples are made, besides short prefixes.
    pub tries: usize,
    /// Passes of the warm-up over its samples.
    pub warmup_epochs: u64,
    /// Questions a step of the warm-up.
    pub warmup_questions: usize,
    /// Step size of the warm-up.
    pub warmup_rate: f32,
    /// Iterations of PPO: rollouts, then passes over them.
    pub iterations: u64,
    /// Questions an iteration.
    pub questions: usize,
    /// Episodes a question and iteration.
    pub rollouts: usize,
    /// Passes over the episodes of an iteration.
    pub epochs: u64,
    /// Parts that one pass is cut into, one optimiser step each.
    pub minibatches: usize,
    /// Step size of PPO.
    pub rate: f32,
    /// Gradients are scaled down to this global norm.
    pub gradient_norm_max: f64,
    /// Discount a turn, in [0, 1].
    pub gamma: f64,
    /// GAE's mixture, in [0, 1].
    pub lambda: f64,
    /// Width of the clip, in (0, 1).
    pub clip: f64,
    /// Weight of the value loss, ≥ 0.
    pub value_coefficient: f64,
    /// Weight of the entropy bonus over moves, ≥ 0.
    pub entropy_coefficient: f64,
    /// Penalty for leaving the warmed-up policy.
    pub kl: KlControl,
    /// Iterations between two looks at the validation questions, ≥ 1.
    pub validate_every: u64,
}

impl Default for SmartRagConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            retrievals_max: 2,
            retrieval_cost: 0.2,
            format_penalty: 1.0,
            observations_max: 8_000,
            hidden: 64,
            tries: 6,
            warmup_epochs: 20,
            warmup_questions: 16,
            warmup_rate: 2e-3,
            iterations: 60,
            questions: 64,
            rollouts: 4,
            epochs: 2,
            minibatches: 4,
            rate: 3e-4,
            gradient_norm_max: 0.5,
            gamma: 0.99,
            lambda: 0.95,
            clip: 0.2,
            value_coefficient: 0.5,
            entropy_coefficient: 0.0,
            kl: KlControl::default(),
            validate_every: 5,
        }
    }
}

impl SmartRagConfig {
    /// Checks every bound; `Err` names the first setting that is wrong and what it may be.
    ///
    /// # Errors
    /// `(setting, what was expected)`.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let cost = |value: f64| value.is_finite() && value >= 0.0;
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let bounds = [
            ("retrievals_max", self.retrievals_max <= 6, "a number from 0 to 6"),
            ("retrieval_cost", cost(self.retrieval_cost), "a number of at least 0"),
            ("format_penalty", cost(self.format_penalty), "a number of at least 0"),
            ("hidden", (1..=4_096).contains(&self.hidden), "a number from 1 to 4096"),
            ("warmup_questions", self.warmup_questions > 0, "a number above 0"),
            ("warmup_rate", self.warmup_rate > 0.0, "a number above 0"),
            ("questions", self.questions > 0, "a number above 0"),
            ("rollouts", self.rollouts > 0, "a number above 0"),
            ("epochs", self.epochs > 0, "a number above 0"),
            ("minibatches", self.minibatches > 0, "a number above 0"),
            ("rate", self.rate > 0.0, "a number above 0"),
            ("gradient_norm_max", self.gradient_norm_max > 0.0, "a number above 0"),
            ("gamma", share(self.gamma), "a number from 0 to 1"),
            ("lambda", share(self.lambda), "a number from 0 to 1"),
            ("clip", self.clip > 0.0 && self.clip < 1.0, "a number between 0 and 1"),
            ("value_coefficient", cost(self.value_coefficient), "a number of at least 0"),
            ("entropy_coefficient", cost(self.entropy_coefficient), "a number of at least 0"),
            ("validate_every", self.validate_every > 0, "a number above 0"),
        ];
        if let Some((field, _, expected)) = bounds.into_iter().find(|(_, holds, _)| !holds) {
            return Err((field.to_owned(), expected.to_owned()));
        }
        self.kl.validate().map_err(|(field, said)| (format!("kl.{field}"), said.to_owned()))
    }

    pub(super) fn check(&self) -> Result<(), RecipeError> {
        self.validate().map_err(|(field, expected)| RecipeError::Setting {
            setting: format!("smart_rag.{field}"),
            expected,
        })
    }

    pub(super) fn terms(&self) -> Terms {
        Terms { clip: self.clip, value: self.value_coefficient, entropy: self.entropy_coefficient }
    }

    /// Optimiser settings of a phase of `steps` steps.
    pub(super) fn optimizer(&self, rate: f32, steps: u64) -> OptimizerArgs {
        OptimizerArgs {
            rate,
            clip_norm: self.gradient_norm_max,
            warmup_steps: steps / 20,
            total_steps: steps,
            ..OptimizerArgs::default()
        }
    }
}

/// How an episode is played.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Most retrievals.
    pub quota: u32,
    /// Masks of the selection.
    pub limits: SelectionLimits,
    /// How moves and documents are drawn.
    pub exploration: Exploration,
    /// Who decides about retrieving.
    pub gate: Gate,
}

/// Who decides about retrieving.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Gate {
    /// The policy, with this many nats added to every retrieval at the first turn: 0 for the policy
    /// as trained, more to retrieve more. See [`super::calibrate_rate`].
    Policy {
        /// The offset, finite.
        retrieve_bias: f64,
    },
    /// Nobody: one search with the question as asked, then an answer.
    Always,
    /// Nobody: an answer without documents.
    Never,
}

impl Rules {
    /// The policy as trained, at its most probable.
    pub fn greedy(quota: u32, limits: SelectionLimits) -> Self {
        let gate = Gate::Policy { retrieve_bias: 0.0 };
        Self { quota, limits, exploration: Exploration::Greedy, gate }
    }

    /// The same with another gate.
    pub fn with_gate(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_bounds_are_named() {
        assert_eq!(SmartRagConfig::default().validate(), Ok(()));
        let named = |config: SmartRagConfig| config.validate().map_err(|(field, _)| field);
        let at = SmartRagConfig::default;
        assert_eq!(named(SmartRagConfig { clip: 1.0, ..at() }), Err("clip".into()));
        assert_eq!(
            named(SmartRagConfig { retrievals_max: 7, ..at() }),
            Err("retrievals_max".into())
        );
        let kl = KlControl { target: -1.0, ..KlControl::default() };
        assert_eq!(named(SmartRagConfig { kl, ..at() }), Err("kl.target".into()));
        assert_eq!(
            named(SmartRagConfig { retrieval_cost: f64::NAN, ..at() }),
            Err("retrieval_cost".into())
        );
    }
}
