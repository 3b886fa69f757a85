//! The settings of learning from the log alone, each with its bound.

use serde::{Deserialize, Serialize};

/// Settings of the objectives `dr`, `ips` and `snips`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoggedConfig {
    /// Fewest answered decisions for an update.
    pub answered_min: usize,
    /// Fewest gradient steps of an update.
    pub steps: usize,
    /// Passes over the decisions where that is more steps: what an update takes grows with them.
    pub passes: f64,
    /// Decisions a step.
    pub batch: usize,
    /// Peak learning rate; warmed up over a tenth of the steps, then falls to 0.
    pub learning_rate: f64,
    /// Selections drawn from the policy under training for each decision: the states at which the
    /// reward model speaks.
    pub draws: usize,
    /// Weights π/π0 above this are cut, and their rows give no gradient.
    pub clip: f64,
    /// Smallest effective sample size of the weights over a tenth of the steps: where it falls below,
    /// training goes back to where it was before and ends.
    pub ess_min: f64,
    /// Weight β of the KL to the champion at `kl_answers` answered decisions, in units of reward a
    /// nat; it falls in proportion to their number, not below a twentieth.
    pub kl_weight: f64,
    /// Answered decisions at which β is `kl_weight`.
    pub kl_answers: f64,
    /// Answered decisions at which the correction by importance weights counts half; with fewer the
    /// reward model leads (`dr`). 0: always in whole.
    pub correction_answers: f64,
    /// Weight λ of the standard error of the correction: pessimism.
    pub variance_weight: f64,
    /// Weighs answered decisions by the inverse of their chance to be answered.
    pub weigh_by_answering: bool,
    /// Least chance of an answer that is believed.
    pub answer_chance_min: f64,
    /// Age at which a decision weighs half, hours.
    pub half_life_hours: f64,
    /// The model of the reward (`dr`).
    pub reward_model: RewardModelConfig,
}

/// Settings of the reward model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardModelConfig {
    /// Parts that queries are dealt into; the model of a part has seen no reward of it.
    pub folds: usize,
    /// Fewest answered decisions for a model; below, `dr` is `ips`.
    pub rows_min: usize,
    /// Width of its hidden layer.
    pub hidden: usize,
    /// Most passes over the answered decisions; the pass that predicts the latest best is kept.
    pub epochs: usize,
    /// Decisions a step.
    pub batch: usize,
    /// Learning rate.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Share of the encoder's columns hidden at random in a step, in [0, 1).
    pub dropout: f64,
    /// Weight of the likelihood of cited documents among the chosen.
    pub citation_weight: f64,
}

impl Default for LoggedConfig {
    fn default() -> Self {
        Self {
            answered_min: 100,
            steps: 300,
            passes: 2.0,
            batch: 32,
            learning_rate: 3e-3,
            draws: 2,
            clip: 10.0,
            ess_min: 15.0,
            kl_weight: 0.005,
            kl_answers: 1_000.0,
            correction_answers: 100_000.0,
            variance_weight: 0.5,
            weigh_by_answering: true,
            answer_chance_min: 0.02,
            half_life_hours: 24.0 * 60.0,
            reward_model: RewardModelConfig::default(),
        }
    }
}

impl Default for RewardModelConfig {
    fn default() -> Self {
        Self {
            folds: 3,
            rows_min: 100,
            hidden: 32,
            epochs: 10,
            batch: 64,
            learning_rate: 2e-3,
            weight_decay: 0.05,
            dropout: 0.5,
            citation_weight: 0.3,
        }
    }
}

impl LoggedConfig {
    /// Names the first field that is out of its range, and the range.
    ///
    /// # Errors
    /// `(field, what is expected)`.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let range = |field: &str, ok: bool, expected: &str| {
            if ok { Ok(()) } else { Err((field.to_owned(), expected.to_owned())) }
        };
        let positive = |v: f64| v > 0.0 && v.is_finite();
        let weight = |v: f64| v >= 0.0 && v.is_finite();
        range("answered_min", self.answered_min >= 2, "at least 2")?;
        range("steps", (1..=100_000).contains(&self.steps), "1 to 100000")?;
        range("batch", (2..=4_096).contains(&self.batch), "2 to 4096")?;
        range("passes", weight(self.passes) && self.passes <= 1_000.0, "0 to 1000")?;
        let rate = positive(self.learning_rate) && self.learning_rate < 1.0;
        range("learning_rate", rate, "above 0 and below 1")?;
        range("draws", (1..=256).contains(&self.draws), "1 to 256")?;
        range("clip", positive(self.clip), "above 0")?;
        range("ess_min", weight(self.ess_min), "at least 0")?;
        range("kl_weight", weight(self.kl_weight), "at least 0")?;
        range("kl_answers", positive(self.kl_answers), "above 0")?;
        range("correction_answers", weight(self.correction_answers), "at least 0")?;
        range("variance_weight", weight(self.variance_weight), "at least 0")?;
        let chance = self.answer_chance_min > 0.0 && self.answer_chance_min <= 1.0;
        range("answer_chance_min", chance, "above 0 and at most 1")?;
        range("half_life_hours", positive(self.half_life_hours), "above 0")?;
        let model = self.reward_model.validate();
        model.map_err(|(field, expected)| (format!("reward_model.{field}"), expected))
    }
}

impl RewardModelConfig {
    fn validate(&self) -> Result<(), (String, String)> {
        let range = |field: &str, ok: bool, expected: &str| {
            if ok { Ok(()) } else { Err((field.to_owned(), expected.to_owned())) }
        };
        range("folds", (2..=20).contains(&self.folds), "2 to 20")?;
        range("rows_min", self.rows_min >= 10, "at least 10")?;
        range("hidden", (1..=1_024).contains(&self.hidden), "1 to 1024")?;
        range("epochs", (1..=1_000).contains(&self.epochs), "1 to 1000")?;
        range("batch", (1..=4_096).contains(&self.batch), "1 to 4096")?;
        let rate = self.learning_rate > 0.0 && self.learning_rate < 1.0;
        range("learning_rate", rate, "above 0 and below 1")?;
        range("weight_decay", (0.0..=1.0).contains(&self.weight_decay), "0 to 1")?;
        range("dropout", (0.0..1.0).contains(&self.dropout), "0 to below 1")?;
        let citation = self.citation_weight >= 0.0 && self.citation_weight.is_finite();
        range("citation_weight", citation, "at least 0")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_a_bad_field_is_named() {
        LoggedConfig::default().validate().unwrap();
        let field = |config: LoggedConfig| config.validate().unwrap_err().0;
        let base = LoggedConfig::default;
        assert_eq!(field(LoggedConfig { draws: 0, ..base() }), "draws");
        assert_eq!(field(LoggedConfig { clip: f64::NAN, ..base() }), "clip");
        assert_eq!(field(LoggedConfig { answer_chance_min: 0.0, ..base() }), "answer_chance_min");
        let reward_model = RewardModelConfig { folds: 1, ..RewardModelConfig::default() };
        assert_eq!(field(LoggedConfig { reward_model, ..base() }), "reward_model.folds");
    }
}
