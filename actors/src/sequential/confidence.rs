//! Confidence sequences: intervals that cover the mean at every sample size at once.
//!
//! The asymptotic ones are those of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform
//! central limit theory and asymptotic confidence sequences", Annals of Statistics 52(6), 2024:
//! Robbins' normal mixture around the running mean, its width from the running variance. The
//! non-asymptotic one is [`empirical_bernstein`]. `alpha` is in (0, 1/2); `tuned_for` is the number
//! of observations at which the interval is tightest (the error rate
//! does not depend on it) and must be fixed before the first look.
//!
//! # The difference of two arms
//! Treatment and control are compared by the difference of their means, whose squared standard
//! error is `e = s_t/n_t + s_c/n_c`, of the arms' variances and counts. Time inversion makes the
//! error of a running mean, `W(n)/n`, a Brownian motion run backwards at time `1/n`; the two arms'
//! motions are independent, so their difference is again one, at time `e`. Hence the difference at
//! a look is distributed as the running mean of `n = v/e` observations of variance `v`, for any
//! constant `v` and however unequal the arms are or however their shares change on the way, as long
//! as the shares do not follow the rewards. (Group-sequential tests rest on the same fact: the
//! joint law of the looks depends on the allocation through the information `1/e` alone; Jennison
//! and Turnbull, "Group Sequential Methods", §3.1.) With `v = s_t + s_c` the number `n` counts
//! *pairs*: for equal arms it is the count of one of them, in general about the harmonic mean of
//! both, hardly more than twice the smaller. `tuned_for` counts these pairs too.
//!
//! The variance of an arm is taken to be no less than that of both arms' observations together. A
//! small arm whose outcomes are rare has often seen none of them, and with its own variance of
//! nearly 0 a canary of 1% with one failure in 500 raises a false alarm in most experiments. Where
//! the arms do not differ this is the right variance, where they do it errs to the safe side.

use super::bernstein::EmpiricalBernstein;
use super::{Interval, Moments};

/// The two-sided confidence sequence of a mean at this sample size, theorem 2.2 of the paper:
/// `mean ± sd sqrt((n r² + 1) / (n² r²) ln((n r² + 1) / alpha²))`.
///
/// `None` below two observations, without any variance, or for an `alpha` out of range.
pub fn asymptotic(m: &Moments, alpha: f64, tuned_for: f64) -> Option<Interval> {
    Estimate::mean(m)?.two_sided(alpha, tuned_for)
}

/// The lower confidence sequence of a mean: below it at any look with probability at least
/// `1 - alpha`. `None` as for [`asymptotic`].
pub fn asymptotic_low(m: &Moments, alpha: f64, tuned_for: f64) -> Option<f64> {
    Estimate::mean(m)?.low(alpha, tuned_for)
}

/// The upper confidence sequence of a mean. `None` as for [`asymptotic`].
pub fn asymptotic_high(m: &Moments, alpha: f64, tuned_for: f64) -> Option<f64> {
    Estimate::mean(m)?.high(alpha, tuned_for)
}

/// The two-sided confidence sequence of treatment's mean less control's, built as the module says.
///
/// `None` if an arm has fewer than two observations, or neither has any variance.
pub fn difference(
    treatment: &Moments,
    control: &Moments,
    alpha: f64,
    tuned_for: f64,
) -> Option<Interval> {
    Estimate::difference(treatment, control)?.two_sided(alpha, tuned_for)
}

/// The lower confidence sequence of the difference. `None` as for [`difference`].
pub fn difference_low(
    treatment: &Moments,
    control: &Moments,
    alpha: f64,
    tuned_for: f64,
) -> Option<f64> {
    Estimate::difference(treatment, control)?.low(alpha, tuned_for)
}

/// The upper confidence sequence of the difference. `None` as for [`difference`].
pub fn difference_high(
    treatment: &Moments,
    control: &Moments,
    alpha: f64,
    tuned_for: f64,
) -> Option<f64> {
    Estimate::difference(treatment, control)?.high(alpha, tuned_for)
}

/// The empirical-Bernstein confidence sequence after all of `values`, in order, each in `range`:
/// predictable plug-in, running intersection ([`EmpiricalBernstein`]). Valid at every sample size,
/// with no limit theorem; wider than [`asymptotic`].
///
/// `None` without values, for an empty `range`, an `alpha` out of (0, 1), or a value out of range.
pub fn empirical_bernstein(values: &[f64], range: (f64, f64), alpha: f64) -> Option<Interval> {
    let mut sequence = EmpiricalBernstein::two_sided(range, alpha)?;
    for value in values {
        sequence.push(*value)?;
    }
    (!values.is_empty()).then(|| sequence.interval())
}

/// An estimate that errs like the mean of `count` observations of variance `variance`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// What is estimated.
    pub value: f64,
    /// Observations, or pairs of them; at least 1, not always whole.
    pub count: f64,
    /// Variance of one of them, above 0.
    pub variance: f64,
}

impl Estimate {
    /// A mean. `None` below two observations or without variance.
    pub fn mean(m: &Moments) -> Option<Self> {
        let estimate = Self { value: m.mean, count: m.count as f64, variance: m.variance() };
        (m.count >= 2 && estimate.variance > 0.0).then_some(estimate)
    }

    /// Treatment's mean less control's. `None` below two observations of an arm or without
    /// variance.
    pub fn difference(treatment: &Moments, control: &Moments) -> Option<Self> {
        if treatment.count < 2 || control.count < 2 {
            return None;
        }
        let mut both = *treatment;
        both.merge(control);
        let floor = both.variance();
        let floored = |arm: &Moments| {
            let own = arm.variance();
            // Not `f64::max`, which would hide a NaN.
            if own < floor { floor } else { own }
        };
        let (treated, held) = (floored(treatment), floored(control));
        let variance = treated + held;
        let error = treated / treatment.count as f64 + held / control.count as f64;
        let value = treatment.mean - control.mean;
        (error > 0.0).then(|| Self { value, count: variance / error, variance })
    }

    /// Theorem 2.2: the estimate and its width to both sides. `None` for an `alpha` out of
    /// (0, 1/2) or a `tuned_for` below 1.
    pub fn two_sided(&self, alpha: f64, tuned_for: f64) -> Option<Interval> {
        let mixture = mixture(alpha, tuned_for)?;
        let grown = self.count * mixture + 1.0;
        let squared = grown / (self.count * self.count * mixture) * (grown / (alpha * alpha)).ln();
        Some(Interval::around(self.value, (self.variance * squared).sqrt()))
    }

    /// The lower bound. `None` as for [`Self::two_sided`].
    pub fn low(&self, alpha: f64, tuned_for: f64) -> Option<f64> {
        Some(self.value - self.one_sided_width(alpha, tuned_for)?)
    }

    /// The upper bound. `None` as for [`Self::two_sided`].
    pub fn high(&self, alpha: f64, tuned_for: f64) -> Option<f64> {
        Some(self.value + self.one_sided_width(alpha, tuned_for)?)
    }

    /// The one-sided confidence sequence of the paper's appendix, a mixture over half a normal:
    /// `sd sqrt(2 (n r² + 1) / (n² r²) ln(1 + sqrt(n r² + 1) / (2 alpha)))`.
    fn one_sided_width(&self, alpha: f64, tuned_for: f64) -> Option<f64> {
        let mixture = half_mixture(alpha, tuned_for)?;
        let grown = self.count * mixture + 1.0;
        let squared = 2.0 * grown / (self.count * self.count * mixture)
            * (1.0 + grown.sqrt() / (2.0 * alpha)).ln();
        Some((self.variance * squared).sqrt())
    }

    /// Evidence against "the estimated quantity is at most `null`", an e-value: at least `1/alpha`
    /// exactly when [`Self::low`] at that `alpha` is above `null`. `alpha` only sets where it is
    /// strongest. `None` as for [`Self::two_sided`].
    ///
    /// It is `2 / sqrt(n r² + 1) (exp(x²/2) - 1)` with `x² = r² S² / (n r² + 1)`, a lower bound of
    /// the mixture's `2 / sqrt(n r² + 1) exp(x²/2) Phi(x)`; 0 for an estimate not above `null`.
    pub fn evidence_above(&self, null: f64, alpha: f64, tuned_for: f64) -> Option<f64> {
        let mixture = half_mixture(alpha, tuned_for)?;
        let grown = self.count * mixture + 1.0;
        let sum = self.count * (self.value - null);
        if sum <= 0.0 {
            return Some(0.0);
        }
        let exponent = mixture * sum * sum / (2.0 * self.variance * grown);
        // Finite, so that it can be written as JSON.
        Some((2.0 / grown.sqrt() * exponent.exp_m1()).clamp(0.0, f64::MAX))
    }

    /// Evidence against "the estimated quantity is at least `null`", as [`Self::evidence_above`].
    pub fn evidence_below(&self, null: f64, alpha: f64, tuned_for: f64) -> Option<f64> {
        let turned = Self { value: -self.value, ..*self };
        turned.evidence_above(-null, alpha, tuned_for)
    }
}

/// The mixture's variance `r²` that makes the two-sided sequence tightest at `tuned_for`
/// observations: `(-2 ln alpha + ln(1 - 2 ln alpha)) / tuned_for`, the expansion that the paper
/// gives for its Lambert-W optimum.
fn mixture(alpha: f64, tuned_for: f64) -> Option<f64> {
    let usable = alpha > 0.0 && alpha < 1.0 && tuned_for >= 1.0 && tuned_for.is_finite();
    let errors = -2.0 * alpha.ln();
    usable.then(|| (errors + (1.0 + errors).ln()) / tuned_for)
}

/// The one-sided optimum is near the two-sided one of twice the error.
fn half_mixture(alpha: f64, tuned_for: f64) -> Option<f64> {
    mixture(2.0 * alpha, tuned_for)
}
