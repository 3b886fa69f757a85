//! Bootstrap intervals over questions.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// 95% percentile interval of the mean, resampling questions `resamples` times with this seed.
///
/// Given differences of two policies on the same questions it is the paired interval. Empty input
/// gives (0, 0); one value gives that value twice.
pub fn paired_bootstrap(values: &[f64], resamples: usize, seed: u64) -> (f64, f64) {
    if values.is_empty() || resamples == 0 {
        return (0.0, 0.0);
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let n = values.len();
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| (0..n).map(|_| values[rng.random_range(0..n)]).sum::<f64>() / n as f64)
        .collect();
    central(&mut means)
}

/// The central 95% of some replicates, which it sorts; (0, 0) of none.
pub(super) fn central(replicates: &mut [f64]) -> (f64, f64) {
    let n = replicates.len();
    if n == 0 {
        return (0.0, 0.0);
    }
    replicates.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| replicates[((share * n as f64) as usize).min(n - 1)];
    (at(0.025), at(0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_of_a_known_spread() {
        // 400 values of mean 0 and deviation 1: standard error 0.05, interval about ±0.098.
        let values: Vec<f64> = (0..400).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let (low, high) = paired_bootstrap(&values, 4000, 1);
        assert!((low + 0.098).abs() < 0.012 && (high - 0.098).abs() < 0.012, "{low} {high}");
        assert_eq!(paired_bootstrap(&[0.3], 10, 1), (0.3, 0.3));
        assert_eq!(paired_bootstrap(&[], 10, 1), (0.0, 0.0));
    }
}
