//! Sample ratio mismatch: do the arms hold the share of units that they were given?
//!
//! An experiment whose arms do not is broken (units lost, counted twice, or assigned by something
//! that follows the outcome), whatever its rewards say.

use super::special::ln_beta;

/// How many units' worth of belief the mixture puts on shares near the intended one. 100 units
/// look for a share that is off by some hundredths.
pub const WEIGHT: f64 = 100.0;

/// Evidence, as an e-value, that units do not go to treatment with probability `share`.
///
/// The likelihood ratio of a Beta-Binomial with prior `Beta(w share, w (1 - share))`, `w` =
/// [`WEIGHT`], to the Binomial with `share`: the two-armed case of Lindon and Malek, "Anytime-valid
/// inference for multinomial count data", NeurIPS 2022. At least `1/alpha` at any look with
/// probability at most `alpha` if all is well. `observed` counts units: treatment's, control's.
/// Where the share was changed on the way, the product over the stages is an e-value again.
/// 1, which is no evidence, for a `share` out of (0, 1).
pub fn mismatch(observed: (u64, u64), share: f64) -> f64 {
    // Finite, so that it can be written as JSON.
    mixture_ratio(observed, share, WEIGHT).exp().clamp(0.0, f64::MAX)
}

/// Logarithm of the likelihood ratio of [`mismatch`] with a mixture worth `weight` (> 0) units.
pub(crate) fn mixture_ratio(observed: (u64, u64), share: f64, weight: f64) -> f64 {
    if !(share > 0.0 && share < 1.0) {
        return 0.0;
    }
    let (ones, zeros) = (observed.0 as f64, observed.1 as f64);
    let (a, b) = (weight * share, weight * (1.0 - share));
    ln_beta(a + ones, b + zeros) - ln_beta(a, b) - ones * share.ln() - zeros * (-share).ln_1p()
}

/// The always-valid p-value of one look: `min(1, 1/e)`.
pub fn p_value(observed: (u64, u64), share: f64) -> f64 {
    (1.0 / mismatch(observed, share)).min(1.0)
}
