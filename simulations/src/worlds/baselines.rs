//! Policies that learn nothing, for worlds whose documents are known by their states.
//!
//! What a recipe has to beat in a world: the best fixed k, documents by lot, and a threshold on one
//! column of the states, fitted on other cases than it is measured on. Knows a world only as
//! [`Case`]s.

use super::planted::Puzzle;
use actors::types::CandidateStates;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use regrade::policy::baselines::{FitThresholdError, fit_threshold};
use regrade::policy::pointwise::ranking;

/// One question of a world, with everything that could be chosen.
pub trait Case {
    /// (n, width) states of the candidates, in retrieval order.
    fn states(&self) -> &CandidateStates;

    /// What an ordered selection of candidates is worth.
    fn worth(&self, chosen: &[usize]) -> f64;
}

impl Case for Puzzle {
    fn states(&self) -> &CandidateStates {
        &self.states
    }

    fn worth(&self, chosen: &[usize]) -> f64 {
        Self::worth(self, chosen.iter().filter_map(|place| self.documents.get(*place)))
    }
}

/// A policy that learns nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Baseline {
    /// The first k in retrieval order.
    FixedK(usize),
    /// k by a lot of the seed and the case's number.
    Random {
        /// How many.
        k: usize,
        /// Decides the lots.
        seed: u64,
    },
    /// By falling value of one column of the states, all that reach the cut.
    Threshold {
        /// The column, from 0.
        column: usize,
        /// The least value that is taken.
        cut: f32,
    },
}

impl Baseline {
    /// What it selects from case `number` of a series.
    pub fn select(self, number: u64, states: &CandidateStates) -> Vec<usize> {
        let n = states.rows();
        match self {
            Self::FixedK(k) => (0..n.min(k)).collect(),
            Self::Random { k, seed } => {
                let stream = seed ^ (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let mut places: Vec<usize> = (0..n).collect();
                places.shuffle(&mut StdRng::seed_from_u64(stream));
                places.truncate(k);
                places
            }
            Self::Threshold { column: at, cut } => {
                let values = column(states, at);
                ranking(&values).into_iter().filter(|place| values[*place] >= cut).collect()
            }
        }
    }

    /// Mean worth over a series of cases; 0 over none.
    pub fn mean_worth<C: Case>(self, cases: &[C]) -> f64 {
        let worth =
            |(number, case): (usize, &C)| case.worth(&self.select(number as u64, case.states()));
        let sum: f64 = cases.iter().enumerate().map(worth).sum();
        sum / cases.len().max(1) as f64
    }
}

/// The fixed k with the highest mean worth over some cases, from 0 to `k_max`; of equal ones the
/// smallest.
pub fn best_fixed_k(cases: &[impl Case], k_max: usize) -> Baseline {
    let mut best = (0, f64::NEG_INFINITY);
    for k in 0..=k_max {
        let worth = Baseline::FixedK(k).mean_worth(cases);
        if worth > best.1 + 1e-12 {
            best = (k, worth);
        }
    }
    Baseline::FixedK(best.0)
}

/// The threshold on a column with the highest mean worth over training cases.
///
/// # Errors
/// No cases, or a worth that is no number.
pub fn fitted_threshold(training: &[impl Case], at: usize) -> Result<Baseline, FitThresholdError> {
    let values: Vec<Vec<f32>> = training.iter().map(|case| column(case.states(), at)).collect();
    let orders: Vec<Vec<usize>> = values.iter().map(|values| ranking(values)).collect();
    let worth = |case: usize, kept: usize| training[case].worth(&orders[case][..kept]);
    Ok(Baseline::Threshold { column: at, cut: fit_threshold(&values, worth)?.cut })
}

/// (n) one feature of every candidate.
fn column(states: &CandidateStates, at: usize) -> Vec<f32> {
    let width = states.width().max(1);
    states.values().chunks(width).filter_map(|row| row.get(at).copied()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use crate::worlds::planted::Planted;

    fn puzzles(price: f64, numbers: std::ops::Range<u64>) -> Vec<Puzzle> {
        let planted = Planted { price, ..Planted::new(3) };
        numbers.map(|number| planted.puzzle(number).unwrap()).collect()
    }

    fn best(cases: &[Puzzle]) -> f64 {
        cases.iter().map(Puzzle::best).sum::<f64>() / cases.len() as f64
    }

    #[test]
    fn fixed_and_random_k_earn_what_chance_gives_them() {
        let cases = puzzles(0.1, 0..600);
        // Good documents stand anywhere: k of 6 find k/6 of them, 0.4 + 0.1 k - 0.1 k.
        for k in 0..=6 {
            let fixed = Baseline::FixedK(k).mean_worth(&cases);
            let random = Baseline::Random { k, seed: 8 }.mean_worth(&cases);
            assert!((fixed - 0.4).abs() < 0.04, "k = {k}: {fixed}");
            assert!((random - 0.4).abs() < 0.04, "k = {k}: {random}");
        }
        let cheap = puzzles(0.05, 0..600);
        assert_eq!(best_fixed_k(&cheap, 6), Baseline::FixedK(6), "0.4 + 0.05 k");
        assert!((Baseline::FixedK(6).mean_worth(&cheap) - 0.7).abs() < 1e-9);
    }

    #[test]
    fn a_threshold_on_the_telling_column_is_the_best_there_is_and_on_another_is_not() {
        let (training, held_out) = (puzzles(0.05, 0..60), puzzles(0.05, 1_000..1_200));
        let telling = fitted_threshold(&training, 0).unwrap();
        let Baseline::Threshold { cut, .. } = telling else { panic!("{telling:?}") };
        assert!(cut > -0.1 && cut < 2.1, "good ones begin at 2, the others end at 0: {cut}");
        assert!((telling.mean_worth(&held_out) - best(&held_out)).abs() < 0.01);
        let blind = fitted_threshold(&training, 1).unwrap().mean_worth(&held_out);
        assert!(blind < best(&held_out) - 0.1, "{blind}");
        assert!(fitted_threshold(&[] as &[Puzzle], 0).is_err());
    }

    #[test]
    fn lots_repeat_with_their_seed_and_draw_each_document_once() {
        let case = &puzzles(0.05, 0..1)[0];
        let lot = |seed, number| Baseline::Random { k: 4, seed }.select(number, case.states());
        assert_eq!(lot(1, 2), lot(1, 2));
        assert_ne!((0..9).map(|n| lot(1, n)).collect::<Vec<_>>(), vec![lot(1, 0); 9]);
        let mut distinct = lot(1, 2);
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 4);
        assert_eq!(Baseline::FixedK(99).select(0, case.states()).len(), 6);
        assert_eq!(Baseline::FixedK(1).mean_worth(&[] as &[Puzzle]), 0.0);
    }
}
