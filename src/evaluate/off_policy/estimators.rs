//! The estimators, each as a sum of ratios of sums over rows.
//!
//! Every estimator here is `Σ_j (Σ_i N_ij) / (Σ_i D_ij)`: a plain mean has D = 1, a self-normalised
//! one divides by its weights, a cascade has a ratio for each step. So one table of sums serves the
//! estimate, the bootstrap and the paired difference. Knows no interval.

use super::config::OffPolicyConfig;
use super::diagnostics::Refusal;
use super::row::{Prediction, Row};
use serde::{Deserialize, Serialize};

/// An estimator of a policy's mean reward. `w` is the weight of the whole decision, `w(1:l)` that
/// of its first l steps, `q̂` the reward model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Estimator {
    /// The logged policy's own mean reward: no weights at all.
    Logged,
    /// Direct method: mean q̂(x, π_e). As biased as the model.
    Dm,
    /// Inverse propensity scores (Horvitz–Thompson): mean w r. Unbiased.
    Ips,
    /// Self-normalised IPS (Swaminathan & Joachims 2015): Σ w r / Σ w. Consistent, bounded.
    Snips,
    /// IPS with min(w, clip).
    ClippedIps,
    /// Doubly robust (Dudík, Langford, Li 2011): mean q̂(x, π_e) + w (r - q̂(x, a)).
    Dr,
    /// DR with w / mean w.
    Sndr,
    /// DR whose correction is left out where w > switch (Wang, Agarwal, Dudík 2017).
    SwitchDr,
    /// DR with λw / (w² + λ) (Su et al. 2020).
    DrOs,
    /// IPS with w / (1 - λ + λw) (Metelli, Russo, Restelli 2021).
    SgIps,
    /// Whole-list IPS over step rewards: mean w Σ_l r_l (McInerney et al. 2020).
    SlateIps,
    /// The same with w / mean w.
    SnSlateIps,
    /// Positions apart: mean Σ_l w(l) r_l, w(l) the ratio of the marginals at l (Li et al. 2018).
    Iips,
    /// The same with w(l) / mean w(l).
    SnIips,
    /// Cascade: mean Σ_l w(1:l) r_l (McInerney et al. 2020).
    Rips,
    /// The same with w(1:l) / mean w(1:l).
    SnRips,
    /// mean Σ_l w(1:l) (r_l - Q̂_l) + w(1:l-1) Q̂_l(π_e) (Kiyohara et al. 2022).
    CascadeDr,
    /// The same with w(1:l) / mean w(1:l).
    SnCascadeDr,
}

/// One ratio's share of a row: numerator and denominator.
pub(super) type Term = (f64, f64);

impl Estimator {
    /// All, in the order of a table.
    pub const ALL: [Self; 18] = [
        Self::Logged,
        Self::Dm,
        Self::Ips,
        Self::Snips,
        Self::ClippedIps,
        Self::Dr,
        Self::Sndr,
        Self::SwitchDr,
        Self::DrOs,
        Self::SgIps,
        Self::SlateIps,
        Self::SnSlateIps,
        Self::Iips,
        Self::SnIips,
        Self::Rips,
        Self::SnRips,
        Self::CascadeDr,
        Self::SnCascadeDr,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logged => "logged",
            Self::Dm => "dm",
            Self::Ips => "ips",
            Self::Snips => "snips",
            Self::ClippedIps => "clipped_ips",
            Self::Dr => "dr",
            Self::Sndr => "sndr",
            Self::SwitchDr => "switch_dr",
            Self::DrOs => "dr_os",
            Self::SgIps => "sg_ips",
            Self::SlateIps => "slate_ips",
            Self::SnSlateIps => "sn_slate_ips",
            Self::Iips => "iips",
            Self::SnIips => "sn_iips",
            Self::Rips => "rips",
            Self::SnRips => "sn_rips",
            Self::CascadeDr => "cascade_dr",
            Self::SnCascadeDr => "sn_cascade_dr",
        }
    }

    /// Whether every row has what this estimator needs.
    ///
    /// # Errors
    /// [`Refusal::Missing`] names what is not there.
    pub fn fits(self, rows: &[Row]) -> Result<(), Refusal> {
        let missing = |what| Err(Refusal::Missing { what });
        let needs_steps = matches!(
            self,
            Self::SlateIps
                | Self::SnSlateIps
                | Self::Iips
                | Self::SnIips
                | Self::Rips
                | Self::SnRips
                | Self::CascadeDr
                | Self::SnCascadeDr
        );
        let needs_model =
            matches!(self, Self::Dm | Self::Dr | Self::Sndr | Self::SwitchDr | Self::DrOs);
        if needs_steps && rows.iter().any(|row| row.step_rewards.len() != row.weights.len()) {
            return missing("rewards of single steps");
        }
        if matches!(self, Self::Iips | Self::SnIips) {
            let slots = slots(rows);
            if slots == 0 || rows.iter().any(|row| row.slot_weights.len() != slots) {
                return missing("marginal probabilities of positions");
            }
        }
        if needs_model && rows.iter().any(|row| row.prediction.is_none()) {
            return missing("a reward model");
        }
        let steps = |row: &Row| row.prediction.as_ref().map_or(0, |p| p.steps.len());
        if matches!(self, Self::CascadeDr | Self::SnCascadeDr)
            && rows.iter().any(|row| steps(row) != row.weights.len())
        {
            return missing("a reward model of single steps");
        }
        Ok(())
    }

    /// Ratios that this estimator sums over rows of up to `slots` steps.
    pub(super) fn ratios(self, slots: usize) -> usize {
        match self {
            Self::Sndr => 2,
            Self::SnIips | Self::SnRips => slots,
            Self::SnCascadeDr => 2 * slots,
            _ => 1,
        }
    }

    /// The row's terms, [`Estimator::ratios`] of them; the row has been found to fit.
    pub(super) fn terms(
        self,
        row: &Row,
        slots: usize,
        config: &OffPolicyConfig,
        out: &mut Vec<Term>,
    ) {
        let (w, r) = (row.weight(), row.reward);
        let none = Prediction::default();
        let q = row.prediction.as_ref().unwrap_or(&none);
        let total = || row.step_rewards.iter().sum::<f64>();
        let corrected = |weight: f64| (q.target + weight * (r - q.logged), 1.0);
        match self {
            Self::Logged => out.push((r, 1.0)),
            Self::Dm => out.push((q.target, 1.0)),
            Self::Ips => out.push((w * r, 1.0)),
            Self::Snips => out.push((w * r, w)),
            Self::ClippedIps => out.push((w.min(config.clip) * r, 1.0)),
            Self::Dr => out.push(corrected(w)),
            Self::Sndr => out.extend([(q.target, 1.0), (w * (r - q.logged), w)]),
            Self::SwitchDr => out.push(corrected(if w <= config.switch { w } else { 0.0 })),
            Self::DrOs => {
                out.push(corrected(config.shrinkage * w / (w * w + config.shrinkage)));
            }
            Self::SgIps => {
                let smooth = 1.0 - config.smoothing + config.smoothing * w;
                out.push((if w > 0.0 { w / smooth * r } else { 0.0 }, 1.0));
            }
            Self::SlateIps => out.push((w * total(), 1.0)),
            Self::SnSlateIps => out.push((w * total(), w)),
            Self::Iips => {
                let steps = row.step_rewards.iter().zip(&row.slot_weights);
                out.push((steps.map(|(r, w)| r * w).sum(), 1.0));
            }
            Self::SnIips => {
                out.extend(
                    (0..slots).map(|l| (row.slot_weights[l] * step(row, l), row.slot_weights[l])),
                );
            }
            Self::Rips => {
                let steps = row.step_rewards.iter().zip(&row.weights);
                out.push((steps.map(|(r, w)| r * w).sum(), 1.0));
            }
            Self::SnRips => out.extend((1..=slots).map(|l| {
                let weight = row.prefix_weight(l);
                (weight * step(row, l - 1), weight)
            })),
            Self::CascadeDr => out.push(((0..slots).map(|l| cascade(row, q, l)).sum(), 1.0)),
            Self::SnCascadeDr => out.extend((0..slots).flat_map(|l| {
                let (before, with) = (row.prefix_weight(l), row.prefix_weight(l + 1));
                let model = q.steps.get(l).copied().unwrap_or_default();
                [(with * (step(row, l) - model.logged), with), (before * model.target, before)]
            })),
        }
    }
}

/// Reward of step `l` from 0; nothing comes after the end.
fn step(row: &Row, l: usize) -> f64 {
    row.step_rewards.get(l).copied().unwrap_or(0.0)
}

fn cascade(row: &Row, q: &Prediction, l: usize) -> f64 {
    let model = q.steps.get(l).copied().unwrap_or_default();
    row.prefix_weight(l + 1) * (step(row, l) - model.logged) + row.prefix_weight(l) * model.target
}

/// The most positions of any row.
pub(super) fn slots(rows: &[Row]) -> usize {
    rows.iter().map(|row| row.weights.len().max(row.slot_weights.len())).max().unwrap_or(0)
}

/// `Σ_j N_j / D_j`; not a number where a denominator is 0.
pub(super) fn value(sums: &[Term]) -> f64 {
    sums.iter().map(|(numerator, denominator)| numerator / denominator).sum()
}

/// The estimate of `estimator` on `rows` alone.
///
/// # Errors
/// Rows that lack what it needs, none, or none of any weight.
pub fn point(estimator: Estimator, rows: &[Row], config: &OffPolicyConfig) -> Result<f64, Refusal> {
    estimator.fits(rows)?;
    let slots = slots(rows);
    let mut sums = vec![(0.0, 0.0); estimator.ratios(slots)];
    let mut terms = Vec::new();
    for row in rows {
        terms.clear();
        estimator.terms(row, slots, config, &mut terms);
        for (sum, term) in sums.iter_mut().zip(&terms) {
            sum.0 += term.0;
            sum.1 += term.1;
        }
    }
    let value = value(&sums);
    if value.is_finite() { Ok(value) } else { Err(Refusal::NoWeight) }
}

#[cfg(test)]
mod tests;
