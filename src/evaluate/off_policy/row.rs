//! One logged decision as estimators see it: weights, rewards and, where there is one, what a model
//! says of the reward.
//!
//! Owns what weights are and that every number in a row is one. Knows no decision and no policy.

/// What a reward model says of one decision.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prediction {
    /// q̂(x, a) of the decision that was logged.
    pub logged: f64,
    /// The mean of q̂(x, a) with a drawn from the target.
    pub target: f64,
    /// The same by step; empty where the model has no steps.
    pub steps: Vec<StepPrediction>,
}

/// What a reward model says of one step.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StepPrediction {
    /// Q̂_l(a_1:l): the rewards from step l on, after the logged action.
    pub logged: f64,
    /// The mean of Q̂_l(a_1:l-1, a) with a drawn from the target.
    pub target: f64,
}

/// One logged decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Names the decision; two policies' rows of one log are matched by it.
    pub decision: String,
    /// What the bootstrap draws as one: the query.
    pub group: String,
    /// π_e(a_1:l) / π_b(a_1:l) of each prefix; the last is that of the whole decision. Finite, ≥ 0,
    /// never empty.
    pub weights: Vec<f64>,
    /// What the whole decision was worth.
    pub reward: f64,
    /// What each step was worth, as many as `weights`; empty where only the whole is judged.
    pub step_rewards: Vec<f64>,
    /// Ratio of the marginal probabilities of what stands at each position, for IIPS; empty where
    /// they are not known. The same number in every row: a decision that had ended before a
    /// position has there the ratio of the probabilities of having ended.
    pub slot_weights: Vec<f64>,
    /// What a reward model says.
    pub prediction: Option<Prediction>,
}

/// Why something is no row.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RowError {
    /// Target and behaviour do not have the same steps.
    #[error("the behaviour has {behaviour} steps and the target {target}")]
    Steps {
        /// Steps of the behaviour.
        behaviour: usize,
        /// Steps of the target.
        target: usize,
    },
    /// A log-probability that is none: above 0, not a number, or -∞ for what was done.
    #[error(
        "step {step} has the {whose} log-probability {value}, expected a finite number up to 0"
    )]
    LogProb {
        /// Step, from 0.
        step: usize,
        /// `behaviour` or `target`.
        whose: &'static str,
        /// The number.
        value: f64,
    },
    /// A reward, a weight or a prediction is not finite.
    #[error("{what} is {value}, expected a finite number")]
    NotFinite {
        /// Which.
        what: &'static str,
        /// The number.
        value: f64,
    },
}

/// How far above 0 rounding may lift a log-probability.
const ROUNDING: f64 = 1e-9;

impl Row {
    /// The row of a decision whose steps had the natural log-probabilities `behaviour` when they
    /// were drawn and have `target` under the policy in question (-∞ where it never does so). A
    /// decision without any step was forced: its weight is 1.
    ///
    /// # Errors
    /// Step counts that differ, or a number that is none; a weight too large for f64 is one.
    pub fn new(
        decision: impl Into<String>,
        group: impl Into<String>,
        behaviour: &[f64],
        target: &[f64],
        reward: f64,
    ) -> Result<Self, RowError> {
        if behaviour.len() != target.len() {
            let (behaviour, target) = (behaviour.len(), target.len());
            return Err(RowError::Steps { behaviour, target });
        }
        if !reward.is_finite() {
            return Err(RowError::NotFinite { what: "the reward", value: reward });
        }
        let mut log_ratio = 0.0;
        let mut weights = Vec::with_capacity(behaviour.len().max(1));
        for (step, (&b, &e)) in behaviour.iter().zip(target).enumerate() {
            let bad = |whose, value| Err(RowError::LogProb { step, whose, value });
            if !(b.is_finite() && b <= ROUNDING) {
                return bad("behaviour", b);
            }
            if e.is_nan() || e > ROUNDING {
                return bad("target", e);
            }
            log_ratio += e - b;
            let weight = log_ratio.exp();
            if !weight.is_finite() {
                return Err(RowError::NotFinite { what: "the weight", value: weight });
            }
            weights.push(weight);
        }
        if weights.is_empty() {
            weights.push(1.0);
        }
        Ok(Self {
            decision: decision.into(),
            group: group.into(),
            weights,
            reward,
            step_rewards: Vec::new(),
            slot_weights: Vec::new(),
            prediction: None,
        })
    }

    /// π_e / π_b of the whole decision.
    pub fn weight(&self) -> f64 {
        self.weights.last().copied().unwrap_or(1.0)
    }

    /// The weight up to and with step `l`, counted from 1; 1 before the first, and after the last
    /// step that of the whole: what has ended stays ended.
    pub(super) fn prefix_weight(&self, l: usize) -> f64 {
        match l {
            0 => 1.0,
            l => self.weights.get(l - 1).copied().unwrap_or_else(|| self.weight()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn weights_are_the_ratios_of_prefixes() {
        let (half, quarter) = (0.5_f64.ln(), 0.25_f64.ln());
        let row = Row::new("d", "q", &[half, quarter], &[quarter, half], 1.0).unwrap();
        assert!((row.weights[0] - 0.5).abs() < 1e-15 && (row.weight() - 1.0).abs() < 1e-15);
        let prefixes = [0, 1, 2, 3].map(|l| (row.prefix_weight(l) * 1e9).round() / 1e9);
        assert_eq!(prefixes, [1.0, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn what_the_target_never_does_weighs_nothing_and_what_is_forced_weighs_one() {
        let never = [f64::NEG_INFINITY, 0.0];
        let row = Row::new("d", "q", &[-1.0, -1.0], &never, 1.0).unwrap();
        assert_eq!(row.weights, [0.0, 0.0]);
        assert_eq!(Row::new("d", "q", &[], &[], 0.5).unwrap().weights, [1.0]);
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let of = |b: &[f64], e: &[f64], r| Row::new("d", "q", b, e, r).unwrap_err();
        assert_eq!(of(&[-1.0], &[], 0.0), RowError::Steps { behaviour: 1, target: 0 });
        for b in [0.1, f64::NAN, f64::NEG_INFINITY] {
            assert!(matches!(of(&[b], &[-1.0], 0.0), RowError::LogProb { whose: "behaviour", .. }));
        }
        assert!(matches!(of(&[-1.0], &[0.1], 0.0), RowError::LogProb { whose: "target", .. }));
        assert!(matches!(of(&[-1.0], &[-1.0], f64::NAN), RowError::NotFinite { .. }));
        assert!(matches!(of(&[-1e4], &[0.0], 1.0), RowError::NotFinite { what: "the weight", .. }));
    }
}
