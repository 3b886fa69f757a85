//! The adaptive weight of the penalty for leaving the reference policy.
//!
//! Source: Ziegler et al. 2019 (arXiv 1909.08593) §2.2, with the constants of SmartRAG's code:
//! `c ← c · (1 + 0.1 · clip((KL − 0.2) / 0.2, −0.2, 0.2))`, starting at 0.001.

use serde::{Deserialize, Serialize};

/// The constants of the controller.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KlControl {
    /// Weight at the start, ≥ 0; 0 stays 0.
    pub start: f64,
    /// Divergence aimed at, nats a step, > 0.
    pub target: f64,
    /// How strongly the weight follows, ≥ 0.
    pub gain: f64,
    /// Largest relative error that counts, ≥ 0; `gain · clip < 1` keeps the weight positive.
    pub clip: f64,
}

impl Default for KlControl {
    fn default() -> Self {
        Self { start: 0.001, target: 0.2, gain: 0.1, clip: 0.2 }
    }
}

impl KlControl {
    /// Checks the bounds; `Err` names the first field that is wrong and what it may be.
    ///
    /// # Errors
    /// `(field, what was expected)`.
    pub fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        let bounds = [
            ("start", self.start >= 0.0 && self.start.is_finite(), "a number of at least 0"),
            ("target", self.target > 0.0 && self.target.is_finite(), "a number above 0"),
            ("gain", (0.0..=10.0).contains(&self.gain), "a number from 0 to 10"),
            ("clip", self.clip >= 0.0 && self.gain * self.clip < 1.0, "below 1 / gain, at least 0"),
        ];
        match bounds.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, expected)) => Err((field, expected)),
            None => Ok(()),
        }
    }

    /// The weight after a divergence of `kl` nats a step was measured. The estimate from sampled
    /// actions may be negative; it then counts as too small.
    pub fn adapted(&self, weight: f64, kl: f64) -> f64 {
        let error = ((kl - self.target) / self.target).clamp(-self.clip, self.clip);
        weight * (1.0 + self.gain * error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_follows_the_divergence_by_hand() {
        let control = KlControl::default();
        let after = |kl: f64| control.adapted(0.001, kl);
        // Within the clip: (0.22 − 0.2) / 0.2 = 0.1, times 0.1.
        assert!((after(0.22) - 0.001 * 1.01).abs() < 1e-15);
        // Beyond it: ±0.2 · 0.1.
        assert!((after(5.0) - 0.001 * 1.02).abs() < 1e-15);
        assert!((after(0.0) - 0.001 * 0.98).abs() < 1e-15);
        assert!((after(-1.0) - 0.001 * 0.98).abs() < 1e-15);
        assert_eq!(after(0.2), 0.001);
    }

    #[test]
    fn constants_out_of_bounds_are_named() {
        assert_eq!(KlControl::default().validate(), Ok(()));
        let wrong = KlControl { target: 0.0, ..KlControl::default() };
        assert_eq!(wrong.validate(), Err(("target", "a number above 0")));
        let wrong = KlControl { gain: 8.0, ..KlControl::default() };
        assert_eq!(wrong.validate().map_err(|(field, _)| field), Err("clip"));
    }
}
