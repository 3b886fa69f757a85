//! The mixture sequential probability ratio test: an always-valid p-value.
//!
//! Johari, Pekelis and Walsh, "Always valid inference: continuous monitoring of A/B tests",
//! Operations Research 70(3), 2022, with a normal mixture.

use super::Moments;
use super::confidence::Estimate;
use serde::{Deserialize, Serialize};

/// Tests "the quantity is `null`" against a normal prior `N(null, tau²)`, look after look.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Msprt {
    null: f64,
    /// Standard deviation of the prior over effects.
    tau: f64,
    /// The smallest p-value so far.
    p: f64,
    /// Evidence at the last look.
    e: f64,
}

impl Msprt {
    /// A test that has seen nothing. `tau` (> 0) is the size of effects looked for, in the units of
    /// the metric; it sets the power, not the error rate. Fix it before the first look.
    pub fn new(null: f64, tau: f64) -> Self {
        Self { null, tau, p: 1.0, e: 1.0 }
    }

    /// Looks at a mean. Nothing changes below two observations.
    pub fn look(&mut self, m: &Moments) -> f64 {
        self.weigh(Estimate::mean(m))
    }

    /// Looks at treatment's mean less control's. Nothing changes below two observations of an arm.
    pub fn look_difference(&mut self, treatment: &Moments, control: &Moments) -> f64 {
        self.weigh(Estimate::difference(treatment, control))
    }

    /// The p-value so far, `min` over the looks of `1/Lambda_n`: valid at any look, never grows.
    pub fn p_value(&self) -> f64 {
        self.p
    }

    /// The likelihood ratio `Lambda_n` of the last look, an e-value.
    pub fn e_value(&self) -> f64 {
        self.e
    }

    fn weigh(&mut self, estimate: Option<Estimate>) -> f64 {
        if let Some(estimate) = estimate {
            self.e = likelihood_ratio(&estimate, self.null, self.tau);
            // `min` would pass over a NaN; so does this.
            if self.e > 1.0 / self.p {
                self.p = 1.0 / self.e;
            }
        }
        self.p
    }
}

/// `Lambda_n = sqrt(V / (V + n tau²)) exp(n² tau² (mean - null)² / (2 V (V + n tau²)))`, with `V`
/// the variance of one observation and `n` their number.
pub fn likelihood_ratio(estimate: &Estimate, null: f64, tau: f64) -> f64 {
    let Estimate { value, count, variance } = *estimate;
    let prior = tau * tau;
    let spread = variance + count * prior;
    let sum = count * (value - null);
    let ratio = (variance / spread).sqrt() * (prior * sum * sum / (2.0 * variance * spread)).exp();
    // Finite, so that it can be written as JSON.
    ratio.clamp(0.0, f64::MAX)
}
