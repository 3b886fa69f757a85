//! Tests that stay valid however often they are looked at, as functions of a few running moments.
//!
//! Floor 0, plain `f64`: knows no policy, no event, no clock. Every bound here holds at all sample
//! sizes at once ("anytime-valid"), so a promotion may be decided at any look, and stopping because
//! the figures look good costs nothing. Reading order: [`Moments`], [`confidence`], [`rule`].
//!
//! An observation is that of one independent unit. Where a unit (a user, a session) sends several
//! queries, count them by [`units`]: pushed one by one they make every variance here too small.

use serde::{Deserialize, Serialize};

pub mod bernstein;
pub mod confidence;
pub mod discovery;
pub mod msprt;
pub mod quantile;
pub mod ratio;
pub mod rule;
mod special;
pub mod units;

/// Count, mean and sum of squared deviations of one arm, one observation at a time (Welford 1962).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Observations.
    pub count: u64,
    /// Their mean, 0 before the first.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub m2: f64,
    /// Mean of the variances that the observations are known to carry: for a reward that is the
    /// mean of `votes` judgements, their spread squared over `votes`.
    pub noise: f64,
}

impl Moments {
    /// Adds an observation known to carry the variance `noise` (≥ 0; 0 if nothing is known).
    ///
    /// Both must be finite: one NaN makes every later bound a NaN, and so every later look
    /// undecided.
    pub fn push(&mut self, value: f64, noise: f64) {
        self.count += 1;
        let count = self.count as f64;
        let deviation = value - self.mean;
        self.mean += deviation / count;
        self.m2 += deviation * (value - self.mean);
        self.noise += (noise - self.noise) / count;
    }

    /// Takes in another set of observations, as if each had been pushed here (Chan et al. 1979).
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let (own, theirs) = (self.count as f64, other.count as f64);
        let count = own + theirs;
        let apart = other.mean - self.mean;
        self.mean += apart * theirs / count;
        self.m2 += other.m2 + apart * apart * own * theirs / count;
        self.noise += (other.noise - self.noise) * theirs / count;
        self.count += other.count;
    }

    /// The moments of values without known noise.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut moments = Self::default();
        values.into_iter().for_each(|value| moments.push(value, 0.0));
        moments
    }

    /// The moments of `total` values of which `ones` are 1 and the others 0.
    ///
    /// More ones than values count as all.
    pub fn of_share(ones: u64, total: u64) -> Self {
        if total == 0 {
            return Self::default();
        }
        let mean = ones.min(total) as f64 / total as f64;
        Self { count: total, mean, m2: total as f64 * mean * (1.0 - mean), noise: 0.0 }
    }

    /// Variance of one observation: the sample's (n - 1), and no less than the noise that the
    /// observations are known to carry. The noise is part of what is observed, so the sample's
    /// variance holds it already; it is the floor that keeps a handful of equal rewards from
    /// passing for certainty.
    pub fn variance(&self) -> f64 {
        let sample = if self.count < 2 { 0.0 } else { self.m2 / (self.count - 1) as f64 };
        // Not `f64::max`, which would hide a NaN.
        if sample < self.noise { self.noise } else { sample }
    }
}

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end, no less than `low` except where two intervals that were intersected are disjoint.
    pub high: f64,
}

impl Interval {
    /// The interval of `width` to both sides of `middle`.
    pub(crate) fn around(middle: f64, width: f64) -> Self {
        Self { low: middle - width, high: middle + width }
    }

    /// Whether `value` lies inside, the ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// From end to end.
    pub fn width(&self) -> f64 {
        self.high - self.low
    }

    /// What both contain.
    pub fn intersection(&self, other: &Self) -> Self {
        Self { low: self.low.max(other.low), high: self.high.min(other.high) }
    }
}

#[cfg(test)]
mod tests;
