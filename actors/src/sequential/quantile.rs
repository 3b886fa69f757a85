//! Quantiles under continuous looks: the p95 of a latency as a guard-rail.
//!
//! A quantile is compared as a share: the threshold is control's p95 over a reference period
//! *before* the comparison, and each arm counts how many of its observations lie above. Under no
//! change both shares are the same, whatever the threshold; a treatment whose tail is heavier has a
//! larger one. Where values are kept, [`interval`] bounds the quantile itself without any limit
//! theorem.

use super::confidence::Estimate;
use super::ratio::{WEIGHT, mixture_ratio};
use super::{Interval, Moments};
use serde::{Deserialize, Serialize};

/// How many of an arm's observations lie above a threshold that is the same for both arms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exceedance {
    /// Observations above the threshold.
    pub above: u64,
    /// All observations.
    pub total: u64,
}

impl Exceedance {
    /// Counts an observation.
    pub fn push(&mut self, value: f64, threshold: f64) {
        self.above += u64::from(value > threshold);
        self.total += 1;
    }

    /// Takes in another set of observations against the same threshold.
    pub fn merge(&mut self, other: &Self) {
        self.above += other.above;
        self.total += other.total;
    }

    /// The share above the threshold, 0 without observations.
    pub fn share(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.above as f64 / self.total as f64 }
    }

    /// Moments whose variance is that of the share with one observation more on each side (after
    /// Agresti and Caffo 2000): a rare event not yet seen is not a certainty.
    pub fn moments(&self) -> Moments {
        let smoothed = (self.above + 1) as f64 / (self.total + 2) as f64;
        let spread = smoothed * (1.0 - smoothed);
        let m2 = self.total.saturating_sub(1) as f64 * spread;
        Moments { count: self.total, mean: self.share(), m2, noise: 0.0 }
    }
}

/// The lower confidence sequence of treatment's share above the threshold less control's: above 0,
/// treatment's tail is heavier, at error `alpha` over all looks. `None` below two observations.
pub fn excess_low(
    treatment: &Exceedance,
    control: &Exceedance,
    alpha: f64,
    tuned_for: f64,
) -> Option<f64> {
    Estimate::difference(&treatment.moments(), &control.moments())?.low(alpha, tuned_for)
}

/// The upper confidence sequence of the same difference. `None` as for [`excess_low`].
pub fn excess_high(
    treatment: &Exceedance,
    control: &Exceedance,
    alpha: f64,
    tuned_for: f64,
) -> Option<f64> {
    Estimate::difference(&treatment.moments(), &control.moments())?.high(alpha, tuned_for)
}

/// The empirical quantile `level` (in (0, 1)) of `sorted` ascending values, by nearest rank; `None`
/// without values or for a level out of range.
pub fn nearest_rank(sorted: &[f64], level: f64) -> Option<f64> {
    if !(level > 0.0 && level < 1.0) {
        return None;
    }
    let rank = (level * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// The confidence sequence of the quantile `level` at this sample size, from `sorted` ascending
/// values of a continuous distribution: the values at which the count below is one that the
/// Beta-Binomial mixture of [`super::ratio`] does not exclude at `alpha`. Valid at every sample
/// size (Howard and Ramdas, "Sequential estimation of quantiles", Bernoulli 28(3), 2022, bound the
/// same counts). An end is infinite while there are too few values to bound it.
///
/// `None` without values, or for a `level` or `alpha` out of (0, 1).
pub fn interval(sorted: &[f64], level: f64, alpha: f64) -> Option<Interval> {
    let in_unit = |value: f64| value > 0.0 && value < 1.0;
    if sorted.is_empty() || !in_unit(level) || !in_unit(alpha) {
        return None;
    }
    let count = sorted.len();
    let limit = -alpha.ln();
    let excluded = |below: usize| {
        mixture_ratio((below as u64, (count - below) as u64), level, WEIGHT) >= limit
    };
    // The ratio falls and then rises in the count, so what is not excluded is one run of counts
    // around the expected one.
    let middle = ((level * count as f64).round() as usize).min(count);
    let fewest =
        partition(0, middle, |below| excluded(middle - below)).map_or(0, |b| middle - b + 1);
    let most = partition(0, count - middle, |more| excluded(middle + more))
        .map_or(count, |more| middle + more - 1);
    // `fewest` to `most` values lie at or below the quantile.
    let low = fewest.checked_sub(1).map_or(f64::NEG_INFINITY, |at| sorted[at]);
    let high = sorted.get(most).copied().unwrap_or(f64::INFINITY);
    Some(Interval { low, high })
}

/// The confidence sequence of treatment's quantile less control's: each arm's at half of `alpha`.
/// `None` as for [`interval`].
pub fn difference(treatment: &[f64], control: &[f64], level: f64, alpha: f64) -> Option<Interval> {
    let treated = interval(treatment, level, alpha / 2.0)?;
    let held = interval(control, level, alpha / 2.0)?;
    Some(Interval { low: treated.low - held.high, high: treated.high - held.low })
}

/// The first number in `from..=to` for which `is` holds, if it holds from there on.
fn partition(from: usize, to: usize, is: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (from, to);
    if !is(to) {
        return None;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if is(middle) { high = middle } else { low = middle + 1 }
    }
    Some(low)
}
