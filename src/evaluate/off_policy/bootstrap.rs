//! The bootstrap over queries: replicates of every figure from one set of draws.
//!
//! Rows of one group are drawn together. All figures share each draw, so that the difference of two
//! is paired. Knows sums of terms; not what they estimate.

use super::estimators::{Term, value};
use rand::Rng;
use std::ops::Range;

/// Sums of terms by group, row-major: groups by columns.
#[derive(Debug, Default)]
pub(super) struct Table {
    columns: usize,
    sums: Vec<Term>,
}

impl Table {
    /// Adds up the rows of each group; `groups[i]` in 0..count is the group of the i-th row, whose
    /// terms are the i-th `columns` of `terms`.
    pub(super) fn new(columns: usize, terms: &[Term], (groups, count): (&[usize], usize)) -> Self {
        let mut sums = vec![(0.0, 0.0); count * columns];
        for (row, &group) in terms.chunks_exact(columns.max(1)).zip(groups) {
            let to = &mut sums[group * columns..][..columns];
            for (sum, term) in to.iter_mut().zip(row) {
                sum.0 += term.0;
                sum.1 += term.1;
            }
        }
        Self { columns, sums }
    }

    /// The sums over everything.
    pub(super) fn total(&self) -> Vec<Term> {
        let mut total = vec![(0.0, 0.0); self.columns];
        self.sums.chunks_exact(self.columns.max(1)).for_each(|group| add(&mut total, group));
        total
    }

    /// `figures[f]` are the columns of one figure; gives its value in each of `draws` replicates,
    /// not a number where a replicate has none.
    pub(super) fn replicates(
        &self,
        figures: &[Range<usize>],
        draws: usize,
        rng: &mut impl Rng,
    ) -> Vec<Vec<f64>> {
        let groups = self.sums.len() / self.columns.max(1);
        let mut found = vec![Vec::with_capacity(draws); figures.len()];
        let mut sums = vec![(0.0, 0.0); self.columns];
        for _ in 0..draws {
            sums.fill((0.0, 0.0));
            for _ in 0..groups {
                let group = rng.random_range(0..groups);
                add(&mut sums, &self.sums[group * self.columns..][..self.columns]);
            }
            for (values, columns) in found.iter_mut().zip(figures) {
                values.push(value(&sums[columns.clone()]));
            }
        }
        found
    }
}

fn add(sums: &mut [Term], terms: &[Term]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        sum.0 += term.0;
        sum.1 += term.1;
    }
}

/// The central `1 - alpha` of some replicates and their standard deviation, those that have no
/// value left out; `None` where that is more than one in a hundred.
pub(super) fn spread(replicates: &[f64], alpha: f64) -> Option<(f64, f64, f64)> {
    let mut values: Vec<f64> = replicates.iter().copied().filter(|v| v.is_finite()).collect();
    let n = values.len();
    if n < 2 || (replicates.len() - n) * 100 > replicates.len() {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (n - 1) as f64;
        let (below, part) = (place.floor() as usize, place.fract());
        values[below] + part * (values[(below + 1).min(n - 1)] - values[below])
    };
    let mean = values.iter().sum::<f64>() / n as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    Some((at(alpha / 2.0), at(1.0 - alpha / 2.0), variance.sqrt()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn rows_of_one_group_add_up_and_are_drawn_together() {
        // Two columns; rows 0 and 2 are of group 0.
        let terms = [(1.0, 1.0), (0.0, 1.0), (5.0, 1.0), (1.0, 1.0), (2.0, 1.0), (2.0, 1.0)];
        let table = Table::new(2, &terms, (&[0, 1, 0], 2));
        assert_eq!(table.total(), [(8.0, 3.0), (3.0, 3.0)]);
        let mut rng = StdRng::seed_from_u64(1);
        let found = table.replicates(&[0..1, 1..2], 400, &mut rng);
        // Either group twice or both once: means of (3, 2), (5, 1) in the two columns.
        let allowed = [(1.5, 1.0), (5.0, 1.0), (8.0 / 3.0, 1.0)];
        assert!(found[0].iter().zip(&found[1]).all(|(a, b)| allowed.contains(&(*a, *b))));
        assert!(allowed.iter().all(|(a, _)| found[0].contains(a)));
    }

    #[test]
    fn the_interval_of_a_known_spread() {
        let terms: Vec<Term> = (0..400).map(|i| (f64::from(i % 2) * 2.0 - 1.0, 1.0)).collect();
        let groups: Vec<usize> = (0..400).collect();
        let table = Table::new(1, &terms, (&groups, 400));
        let figure = 0..1;
        let all = std::slice::from_ref(&figure);
        let found = table.replicates(all, 4_000, &mut StdRng::seed_from_u64(1));
        let (low, high, error) = spread(&found[0], 0.05).unwrap();
        assert!((low + 0.098).abs() < 0.01 && (high - 0.098).abs() < 0.01, "{low} {high}");
        assert!((error - 0.05).abs() < 0.003, "{error}");
    }

    #[test]
    fn replicates_without_a_value_are_few_or_there_is_no_interval() {
        let mut values = vec![1.0; 200];
        values[0] = f64::NAN;
        assert_eq!(spread(&values, 0.05), Some((1.0, 1.0, 0.0)));
        values[1..10].fill(f64::NAN);
        assert_eq!(spread(&values, 0.05), None);
        assert_eq!(spread(&[], 0.05), None);
    }
}
