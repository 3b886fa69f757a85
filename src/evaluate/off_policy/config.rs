//! The settings of off-policy estimates: what tames weights, how intervals are made, and when there
//! is none.

use super::estimators::Estimator;
use super::reward_model::RewardModelConfig;
use serde::{Deserialize, Serialize};

/// Settings of [`super::evaluate()`] and [`super::compare()`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OffPolicyConfig {
    /// Fewest usable rows.
    pub rows_min: usize,
    /// Fewest distinct queries: what the bootstrap draws.
    pub queries_min: usize,
    /// Smallest effective sample size.
    pub ess_min: f64,
    /// Largest share of all weight that one row may carry, in (0, 1].
    pub weight_share_max: f64,
    /// Largest share of otherwise usable records that no chance decided (greedy), in [0, 1]. Beyond
    /// it the explored rest is too small a part of the traffic to speak for it.
    pub unexplored_share_max: f64,
    /// What a verdict goes by, chosen before the log is looked at; none for SNDR where there is a
    /// reward model, else SNIPS. Close to the logged policy SNIPS is the sharper one of a difference
    /// to it: weights near 1 cancel, a model's errors do not.
    pub estimator: Option<Estimator>,
    /// Where weights are cut by clipped IPS and counted as clipped.
    pub clip: f64,
    /// Weight above which Switch-DR trusts the reward model alone.
    pub switch: f64,
    /// λ of DRos: weights become λw / (w² + λ).
    pub shrinkage: f64,
    /// λ of SG-IPS in [0, 1]: weights become w / (1 - λ + λw), so none is above 1/λ.
    pub smoothing: f64,
    /// Replicates of the bootstrap over queries.
    pub bootstrap_draws: usize,
    /// What an interval may miss: 0.05 gives 95%.
    pub alpha: f64,
    /// Smallest and largest reward there can be: what the confidence sequence rests on.
    pub reward_range: [f64; 2],
    /// Seed of the bootstrap and of draws from the target.
    pub seed: u64,
    /// The model of the reward behind DM, DR and their kin.
    pub reward_model: RewardModelConfig,
}

impl Default for OffPolicyConfig {
    fn default() -> Self {
        Self {
            rows_min: 100,
            queries_min: 50,
            ess_min: 50.0,
            weight_share_max: 0.1,
            unexplored_share_max: 0.95,
            estimator: None,
            clip: 10.0,
            switch: 10.0,
            shrinkage: 100.0,
            smoothing: 0.1,
            bootstrap_draws: 1_000,
            alpha: 0.05,
            reward_range: [-1.0, 1.0],
            seed: 0,
            reward_model: RewardModelConfig::default(),
        }
    }
}

impl OffPolicyConfig {
    /// Names the first field out of range, and the range.
    ///
    /// # Errors
    /// `(field, what is expected)`.
    pub fn validate(&self) -> Result<(), (String, String)> {
        let bad = |field: &str, expected: &str| Err((field.to_owned(), expected.to_owned()));
        let is_positive = |value: f64| value > 0.0 && value.is_finite();
        if self.rows_min < 2 {
            return bad("rows_min", "at least 2");
        }
        if self.queries_min < 2 {
            return bad("queries_min", "at least 2");
        }
        if !(self.ess_min >= 2.0 && self.ess_min.is_finite()) {
            return bad("ess_min", "at least 2");
        }
        if !(self.weight_share_max > 0.0 && self.weight_share_max <= 1.0) {
            return bad("weight_share_max", "above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.unexplored_share_max) {
            return bad("unexplored_share_max", "0 to 1");
        }
        if self.estimator == Some(Estimator::Logged) {
            return bad("estimator", "an estimator of another policy than the logged one");
        }
        for (field, value) in
            [("clip", self.clip), ("switch", self.switch), ("shrinkage", self.shrinkage)]
        {
            if !is_positive(value) {
                return bad(field, "above 0");
            }
        }
        if !(0.0..=1.0).contains(&self.smoothing) {
            return bad("smoothing", "0 to 1");
        }
        if !(100..=100_000).contains(&self.bootstrap_draws) {
            return bad("bootstrap_draws", "100 to 100000");
        }
        if !(self.alpha > 0.0 && self.alpha < 0.5) {
            return bad("alpha", "above 0 and below 0.5");
        }
        let [low, high] = self.reward_range;
        if !(low.is_finite() && high.is_finite() && low < high) {
            return bad("reward_range", "two finite numbers, the smaller first");
        }
        self.reward_model
            .validate()
            .map_err(|(field, expected)| (format!("reward_model.{field}"), expected))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_a_bad_field_is_named() {
        OffPolicyConfig::default().validate().unwrap();
        let field = |config: OffPolicyConfig| config.validate().unwrap_err().0;
        let base = OffPolicyConfig::default;
        assert_eq!(field(OffPolicyConfig { alpha: 0.5, ..base() }), "alpha");
        assert_eq!(field(OffPolicyConfig { clip: f64::NAN, ..base() }), "clip");
        assert_eq!(field(OffPolicyConfig { ess_min: 0.0, ..base() }), "ess_min");
        assert_eq!(field(OffPolicyConfig { reward_range: [1.0, 1.0], ..base() }), "reward_range");
        let reward_model = RewardModelConfig { folds: 1, ..RewardModelConfig::default() };
        assert_eq!(field(OffPolicyConfig { reward_model, ..base() }), "reward_model.folds");
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let read = serde_json::from_str::<OffPolicyConfig>(r#"{ "clpi": 3 }"#);
        assert!(read.unwrap_err().to_string().contains("clpi"));
    }
}
