//! The logarithms of the gamma and beta functions.

/// Stirling's series is good to 1e-15 from here on.
const STIRLING_FROM: f64 = 12.0;

/// `ln Gamma(x)` for `x > 0`, to about 1e-14 relative: the recurrence up to [`STIRLING_FROM`], then
/// Stirling's series (Abramowitz and Stegun 6.1.41).
pub(super) fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 1.0);
    while x < STIRLING_FROM {
        below *= x;
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = [1.0 / 1188.0, -1.0 / 1680.0, 1.0 / 1260.0, -1.0 / 360.0, 1.0 / 12.0]
        .iter()
        .fold(-691.0 / 360_360.0, |sum, coefficient| sum * square + coefficient);
    let half_ln_tau = 0.5 * std::f64::consts::TAU.ln();
    (x - 0.5) * x.ln() - x + half_ln_tau + inverse * series - f64::ln(below)
}

/// `ln B(a, b)` for `a, b > 0`.
pub(super) fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}
