//! The exact interval of a share of experiments.

use actors::sequential::Interval;
use statrs::distribution::{Beta, ContinuousCDF as _};

/// The interval of Clopper and Pearson (1934) for `hits` of `total`, at confidence `1 - alpha`.
///
/// # Errors
/// More hits than experiments.
pub fn clopper_pearson(hits: u64, total: u64, alpha: f64) -> anyhow::Result<Interval> {
    anyhow::ensure!(hits <= total, "computing an interval: {hits} hits of {total} experiments");
    let (ones, zeros) = (hits as f64, (total - hits) as f64);
    let low = match hits {
        0 => 0.0,
        _ => Beta::new(ones, zeros + 1.0)?.inverse_cdf(alpha / 2.0),
    };
    let high = match total - hits {
        0 => 1.0,
        _ => Beta::new(ones + 1.0, zeros)?.inverse_cdf(1.0 - alpha / 2.0),
    };
    Ok(Interval { low, high })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_interval_is_that_of_scipy() {
        // scipy.stats.binomtest(hits, total).proportion_ci(method="exact").
        for (hits, total, low, high) in [
            (3, 100, 0.006_229_971_538_306, 0.085_176_053_028_974),
            (0, 100, 0.0, 0.036_216_692_645_191),
            (450, 10_000, 0.041_019_957_677_336, 0.049_247_657_115_304),
        ] {
            let found = clopper_pearson(hits, total, 0.05).unwrap();
            assert!((found.low - low).abs() < 1e-9, "{hits} of {total}: {found:?}");
            assert!((found.high - high).abs() < 1e-9, "{hits} of {total}: {found:?}");
        }
        assert!(clopper_pearson(2, 1, 0.05).is_err());
    }
}
