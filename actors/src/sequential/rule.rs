//! The one rule by which a look at two arms is found a win, a harm, or neither.
//!
//! Harm and win are two one-sided tests on the same confidence sequences. Both may be looked at
//! after every observation.

use super::confidence::Estimate;
use super::{Interval, Moments};
use serde::{Deserialize, Serialize};

/// What is asked of a difference of means, treatment less control.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Probability, over all looks together, of a win for a treatment that is none; in (0, 1/2).
    pub alpha_win: f64,
    /// Probability, over all looks together, of a harm found in a treatment that does none; in
    /// (0, 1/2).
    pub alpha_harm: f64,
    /// How much worse a winner may be, in units of the metric, ≥ 0. 0 asks for superiority: a win
    /// is a difference above 0; above 0 it asks for non-inferiority: a difference above `-margin`.
    pub margin: f64,
    /// A harm is a difference below `-harm_margin`, ≥ 0.
    pub harm_margin: f64,
    /// Pairs of observations ([`super::confidence`]) at which the bounds are tightest, ≥ 1. It
    /// moves power between early and late looks, never the error; fix it before the first look.
    pub tuned_for: f64,
    /// Observations that each arm needs before anything is found, ≥ 2. The bounds rest on a limit
    /// theorem, so this should be tens for a reward on [0, 1], more for one that is rarely not 0.
    pub minimum: u64,
}

impl Default for Rule {
    /// Superiority at 5%, harm at 5%, tightest at 5,000 pairs, from 100 observations an arm.
    fn default() -> Self {
        Self {
            alpha_win: 0.05,
            alpha_harm: 0.05,
            margin: 0.0,
            harm_margin: 0.0,
            tuned_for: 5_000.0,
            minimum: 100,
        }
    }
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// Neither, so far.
    Undecided,
    /// Worse than control by more than the harm margin.
    Harm,
    /// Better than control less the margin.
    Win,
}

/// A look at two arms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// What it found.
    pub finding: Finding,
    /// Treatment's mean less control's.
    pub estimate: f64,
    /// The lower bound at `alpha_win` and the upper bound at `alpha_harm`, each one-sided. `None`
    /// below two observations of an arm, or while neither arm shows any variance.
    pub difference: Option<Interval>,
    /// Evidence for a win, an e-value: at least `1/alpha_win` when the lower bound is above
    /// `-margin`, 0 below the minimum. For several candidates at once see [`super::discovery`].
    pub evidence_win: f64,
    /// Evidence for a harm, an e-value: at least `1/alpha_harm` when the upper bound is below
    /// `-harm_margin`, 0 below the minimum.
    pub evidence_harm: f64,
}

impl Rule {
    /// Refuses a rule that cannot be applied, naming the field.
    pub fn check(&self) -> Result<(), String> {
        for (field, alpha) in [("alpha_win", self.alpha_win), ("alpha_harm", self.alpha_harm)] {
            if !(alpha > 0.0 && alpha < 0.5) {
                return Err(format!("{field}: must lie in (0, 0.5), is {alpha}"));
            }
        }
        for (field, margin) in [("margin", self.margin), ("harm_margin", self.harm_margin)] {
            if !(margin >= 0.0 && margin.is_finite()) {
                return Err(format!("{field}: must be at least 0 and finite, is {margin}"));
            }
        }
        if !(self.tuned_for >= 1.0 && self.tuned_for.is_finite()) {
            return Err(format!("tuned_for: must be at least 1 and finite, is {}", self.tuned_for));
        }
        if self.minimum < 2 {
            return Err(format!("minimum: must be at least 2, is {}", self.minimum));
        }
        Ok(())
    }

    /// Looks at both arms. Harm is asked first: a treatment that is proven worse is a harm, even if
    /// it is proven to be within the margin too. Undecided while an arm is below the minimum, or if
    /// the rule cannot be applied ([`Self::check`]).
    pub fn look(&self, treatment: &Moments, control: &Moments) -> Look {
        let estimate = treatment.mean - control.mean;
        let bounds = Estimate::difference(treatment, control).and_then(|seen| self.bounds(&seen));
        let undecided = Look {
            finding: Finding::Undecided,
            estimate,
            difference: bounds.map(|(difference, ..)| difference),
            evidence_win: 0.0,
            evidence_harm: 0.0,
        };
        let Some((difference, evidence_win, evidence_harm)) = bounds else { return undecided };
        if treatment.count.min(control.count) < self.minimum {
            return undecided;
        }
        let finding = if difference.high < -self.harm_margin {
            Finding::Harm
        } else if difference.low > -self.margin {
            Finding::Win
        } else {
            Finding::Undecided
        };
        Look { finding, evidence_win, evidence_harm, ..undecided }
    }

    fn bounds(&self, seen: &Estimate) -> Option<(Interval, f64, f64)> {
        let Self { alpha_win, alpha_harm, tuned_for, .. } = *self;
        let low = seen.low(alpha_win, tuned_for)?;
        let high = seen.high(alpha_harm, tuned_for)?;
        let win = seen.evidence_above(-self.margin, alpha_win, tuned_for)?;
        let harm = seen.evidence_below(-self.harm_margin, alpha_harm, tuned_for)?;
        Some((Interval { low, high }, win, harm))
    }
}
