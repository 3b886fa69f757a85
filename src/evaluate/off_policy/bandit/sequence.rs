//! The confidence sequence of `vw-estimators`: an interval that holds at every sample size at once
//! (Karampatziakis, Mineiro, Ramdas, "Off-policy confidence sequences", 2021).
//!
//! A gamma-mixture of exponential supermartingales is the wealth of a bettor against a mean; what
//! would have made it richer than 1/α is no longer believed. Knows weights and rewards.

use super::Weighted;
use super::quantiles::bisect;
use statrs::function::gamma::{gamma_lr, ln_gamma};

/// Shape of the mixture.
const RHO: f64 = 1.0;

/// The interval after these rows; `None` of none. Rewards are held within `range`.
///
/// rows: `(weight, reward)` in the order they were logged; the order matters.
pub fn confidence_sequence(rows: &[Weighted], range: [f64; 2], alpha: f64) -> Option<(f64, f64)> {
    let [low, high] = range;
    if rows.is_empty() || low >= high {
        return None;
    }
    let width = high - low;
    let of = |scale: &dyn Fn(f64) -> f64| -> Vec<f64> {
        rows.iter().map(|(w, r)| w * scale(r.clamp(low, high))).collect()
    };
    let above = bound(&of(&|r| (r - low) / width), alpha / 2.0);
    let below = bound(&of(&|r| (high - r) / width), alpha / 2.0);
    Some((low + above * width, low + (1.0 - below) * width))
}

/// What the mean of some values ≥ 0 is above of, at level `alpha`; in [0, 1].
fn bound(values: &[f64], alpha: f64) -> f64 {
    let (mut total, mut variation) = (0.0, 0.0);
    for (t, &value) in values.iter().enumerate() {
        // The mean so far, from half a success before anything is seen.
        let expected = (total + 0.5) / (t as f64 + 1.0);
        variation += (value - expected).powi(2);
        total += value;
    }
    let n = values.len() as f64;
    let threshold = -alpha.ln();
    let wealth = |mean: f64| log_wealth(total - n * mean, variation);
    if wealth(0.0) <= threshold {
        return 0.0;
    }
    let most = (total / n).min(1.0);
    if wealth(most) >= threshold {
        return most;
    }
    bisect((0.0, most), |mean| wealth(mean) > threshold)
}

/// Logarithm of the mixture's wealth after a sum `s` of deviations with variation `v`.
fn log_wealth(s: f64, v: f64) -> f64 {
    let all = s + v + RHO;
    s + v + RHO * RHO.ln() - (v + RHO) * all.ln() + ln_lower_gamma(v + RHO, all)
        - ln_lower_gamma(RHO, RHO)
}

/// Logarithm of the lower incomplete gamma function.
fn ln_lower_gamma(a: f64, x: f64) -> f64 {
    gamma_lr(a, x).ln() + ln_gamma(a)
}
