//! Quantiles of the distributions that intervals rest on, to the last digits.
//!
//! Found by halving an interval until it holds no other number: the incomplete beta function is
//! exact enough, and no starting value can mislead it.

use statrs::function::beta::beta_reg;
use statrs::function::erf::erfc_inv;

/// Quantile of the standard normal distribution.
pub(super) fn normal_quantile(p: f64) -> f64 {
    -std::f64::consts::SQRT_2 * erfc_inv(2.0 * p)
}

/// Quantile of the beta distribution; a, b > 0.
pub(super) fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    bisect((0.0, 1.0), |x| beta_reg(a, b, x) < p)
}

/// Quantile of the F distribution with 1 and `d` degrees of freedom.
pub(super) fn f_quantile(p: f64, d: f64) -> f64 {
    // P(F ≤ x) = I_{x / (x + d)}(1/2, d/2).
    let share = bisect((0.0, 1.0), |x| beta_reg(0.5, d / 2.0, x) < p);
    d * share / (1.0 - share)
}

/// Where `is_below` turns false between two ends.
pub(super) fn bisect((mut low, mut high): (f64, f64), is_below: impl Fn(f64) -> bool) -> f64 {
    // An f64 has fewer than 1,100 halvings in it from 1 to the least number.
    for _ in 0..1_100 {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            break;
        }
        if is_below(middle) { low = middle } else { high = middle }
    }
    low + (high - low) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_known_from_tables() {
        let near = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-10 * expected.abs().max(1.0), "{found}");
        };
        near(normal_quantile(0.975), 1.959_963_984_540_054);
        // Beta(1, b): 1 - (1 - p)^(1 / b); Beta(2, 1): √p.
        near(beta_quantile(0.3, 1.0, 4.0), 1.0 - 0.7_f64.powf(0.25));
        near(beta_quantile(0.36, 2.0, 1.0), 0.6);
        // F(1, 1) is the square of a Cauchy variable: tan²(π p / 2).
        let tangent = (std::f64::consts::PI * 0.95 / 2.0).tan();
        near(f_quantile(0.95, 1.0), tangent * tangent);
    }
}
