//! The hierarchical bootstrap: how much a figure would move with other questions and other seeds.
//!
//! Owns intervals, paired differences with their p-values, and Holm's correction. Knows numbers
//! only. One replicate draws runs (seeds) of a contender with replacement and, once for everybody,
//! questions with replacement within each stratum; a figure is the mean over strata of the mean
//! over runs and questions. With one run and one stratum it is [`super::interval`]'s bootstrap.

use super::interval::central;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Values of one contender: `[run][stratum][question]`; the same questions in every run. No stratum
/// is empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Values {
    runs: Vec<Vec<Vec<f64>>>,
}

impl Values {
    /// Takes the values of each run; strata without questions are left out.
    pub fn new(mut runs: Vec<Vec<Vec<f64>>>) -> Self {
        runs.iter_mut().for_each(|run| run.retain(|stratum| !stratum.is_empty()));
        Self { runs }
    }

    /// Whether there is nothing to average.
    pub fn is_empty(&self) -> bool {
        self.runs.iter().all(Vec::is_empty)
    }

    /// Mean over strata of the mean over runs and questions; 0 of nothing.
    pub fn mean(&self) -> f64 {
        let runs: Vec<usize> = (0..self.runs.len()).collect();
        let drawn: Vec<Vec<usize>> = match self.runs.first() {
            Some(run) => run.iter().map(|stratum| (0..stratum.len()).collect()).collect(),
            None => Vec::new(),
        };
        self.of(&runs, &drawn)
    }

    /// The figure of each run alone.
    pub fn by_run(&self) -> Vec<f64> {
        if self.is_empty() {
            return Vec::new();
        }
        let alone = |run: &Vec<Vec<f64>>| Self { runs: vec![run.clone()] }.mean();
        self.runs.iter().map(alone).collect()
    }

    /// Questions of one run.
    pub fn questions(&self) -> usize {
        self.runs.first().map_or(0, |run| run.iter().map(Vec::len).sum())
    }

    /// The figure over these runs and, stratum by stratum, these questions.
    fn of(&self, runs: &[usize], drawn: &[Vec<usize>]) -> f64 {
        let mut figure = 0.0;
        for (stratum, questions) in drawn.iter().enumerate() {
            let mut sum = 0.0;
            for &run in runs {
                let values = &self.runs[run][stratum];
                sum += questions.iter().map(|&at| values[at]).sum::<f64>();
            }
            figure += sum / (runs.len() * questions.len()) as f64;
        }
        figure / drawn.len().max(1) as f64
    }

    fn draw_runs(&self, rng: &mut StdRng) -> Vec<usize> {
        let n = self.runs.len();
        if n == 1 { vec![0] } else { (0..n).map(|_| rng.random_range(0..n)).collect() }
    }

    fn draw_questions(&self, rng: &mut StdRng) -> Vec<Vec<usize>> {
        let strata = self.runs.first().into_iter().flatten();
        let draw = |n: usize| (0..n).map(|_| rng.random_range(0..n)).collect();
        strata.map(Vec::len).map(draw).collect()
    }
}

/// 95% percentile interval of the figure; (0, 0) of nothing.
pub fn interval(values: &Values, resamples: usize, seed: u64) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let mut figures: Vec<f64> = (0..resamples)
        .map(|_| {
            let runs = values.draw_runs(&mut rng);
            values.of(&runs, &values.draw_questions(&mut rng))
        })
        .collect();
    central(&mut figures)
}

/// One contender less another on the same questions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired {
    /// Difference of the figures.
    pub mean: f64,
    /// 95% percentile interval.
    pub interval: (f64, f64),
    /// Two-sided p-value, in (0, 1]: how often the difference, were there none, would come out at
    /// least as large. Of the replicates shifted to mean 0, the observed one counted in, as in
    /// Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 16.4.
    pub p: f64,
}

/// The paired bootstrap. Questions are drawn once for both; so are runs where both have as many,
/// else each has its own. Shapes must agree; nothing differs from nothing by 0, with p = 1.
pub fn difference(left: &Values, right: &Values, resamples: usize, seed: u64) -> Paired {
    if left.is_empty() || right.is_empty() {
        return Paired { mean: 0.0, interval: (0.0, 0.0), p: 1.0 };
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let mean = left.mean() - right.mean();
    let is_paired = left.runs.len() == right.runs.len();
    let mut differences: Vec<f64> = (0..resamples)
        .map(|_| {
            let runs = left.draw_runs(&mut rng);
            let others = if is_paired { runs.clone() } else { right.draw_runs(&mut rng) };
            let questions = left.draw_questions(&mut rng);
            left.of(&runs, &questions) - right.of(&others, &questions)
        })
        .collect();
    // Rounding must not make a difference of nothing look like one.
    let is_as_large = |d: &&f64| (**d - mean).abs() >= mean.abs() - 1e-12;
    let larger = differences.iter().filter(is_as_large).count();
    let p = (1 + larger) as f64 / (1 + resamples) as f64;
    Paired { mean, interval: central(&mut differences), p }
}

/// Holm's step-down correction: p-values, in the order given, such that refusing those below alpha
/// is wrong anywhere with probability alpha at most. Source: Holm (1979), A Simple Sequentially
/// Rejective Multiple Test Procedure.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = vec![1.0; p.len()];
    let mut least = 0.0_f64;
    for (place, &at) in order.iter().enumerate() {
        least = least.max(((p.len() - place) as f64 * p[at]).min(1.0));
        corrected[at] = least;
    }
    corrected
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::evaluate::interval::paired_bootstrap;
    use proptest::prelude::*;
    use rand::Rng;

    fn one(values: &[f64]) -> Values {
        Values::new(vec![vec![values.to_vec()]])
    }

    fn noise(n: usize, seed: u64) -> Vec<f64> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
    }

    #[test]
    fn one_run_and_one_stratum_are_the_plain_bootstrap() {
        let values = noise(50, 3);
        assert_eq!(interval(&one(&values), 500, 7), paired_bootstrap(&values, 500, 7));
        assert_eq!(interval(&Values::default(), 500, 7), (0.0, 0.0));
    }

    #[test]
    fn a_figure_is_the_mean_over_strata_whatever_their_size() {
        let values = Values::new(vec![
            vec![vec![1.0], vec![], vec![0.0, 0.0, 0.0]],
            vec![vec![0.0], vec![], vec![0.0, 0.0, 1.0]],
        ]);
        // Means over both runs 1/2 and 1/6.
        assert!((values.mean() - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn identical_contenders_differ_by_nothing() {
        let runs =
            Values::new((0..3).map(|run| vec![noise(40, run), noise(7, 10 + run)]).collect());
        let found = difference(&runs, &runs.clone(), 300, 1);
        assert_eq!(found, Paired { mean: 0.0, interval: (0.0, 0.0), p: 1.0 });
    }

    #[test]
    fn a_clear_difference_is_told_from_none() {
        let base = noise(200, 1);
        let better: Vec<f64> = base.iter().zip(noise(200, 2)).map(|(b, e)| b + 0.3 + e).collect();
        let found = difference(&one(&better), &one(&base), 2_000, 0);
        assert!(found.p < 0.001 && found.interval.0 > 0.15, "{found:?}");
        let same: Vec<f64> = base.iter().zip(noise(200, 4)).map(|(b, e)| b + e).collect();
        let found = difference(&one(&same), &one(&base), 2_000, 0);
        assert!(found.p > 0.05 && found.interval.0 < 0.0 && found.interval.1 > 0.0, "{found:?}");
    }

    #[test]
    fn the_p_value_of_a_known_spread_is_that_of_the_normal() {
        // Differences of mean 0.1 and deviation 1 over 400 questions: z = 2, p = 0.0455.
        let values: Vec<f64> = (0..400).map(|i| if i % 2 == 0 { 1.1 } else { -0.9 }).collect();
        let found = difference(&one(&values), &one(&[0.0; 400]), 20_000, 5);
        assert!((found.p - 0.0455).abs() < 0.008, "{found:?}");
    }

    #[test]
    fn seeds_that_disagree_widen_the_interval() {
        let level = |mean: f64| vec![vec![mean; 100]];
        let runs = Values::new(vec![level(0.2), level(0.5), level(0.8)]);
        let (low, high) = interval(&runs, 2_000, 0);
        // Questions are all alike: what is left is the draw of three seeds.
        assert!((runs.mean() - 0.5).abs() < 1e-12 && low < 0.35 && high > 0.65, "{low} {high}");
    }

    #[test]
    fn holm_by_hand() {
        // Sorted 0.01, 0.02, 0.04 times 3, 2, 1, and never falling.
        let found = holm(&[0.04, 0.01, 0.02]);
        for (found, expected) in found.iter().zip([0.04, 0.03, 0.04]) {
            assert!((found - expected).abs() < 1e-12, "{found}");
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn holm_keeps_the_order_and_is_never_below_the_raw_value(
            p in prop::collection::vec(0.0_f64..=1.0, 1..12)
        ) {
            let corrected = holm(&p);
            for (a, ca) in p.iter().zip(&corrected) {
                prop_assert!(ca >= a && *ca <= 1.0);
                for (b, cb) in p.iter().zip(&corrected) {
                    prop_assert!(a > b || ca <= cb);
                }
            }
        }

        #[test]
        fn an_interval_holds_its_figure_within_the_range_of_the_values(
            values in prop::collection::vec(-1.0_f64..1.0, 1..30), seed in 0_u64..50
        ) {
            let (low, high) = interval(&one(&values), 200, seed);
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(low <= high && low >= least - 1e-9 && high <= most + 1e-9);
        }
    }
}
