//! How much a log says of a policy: the spread of its weights, and the refusal where it is too
//! little.
//!
//! Knows weights; does not know what is estimated with them.

use super::config::OffPolicyConfig;
use super::row::Row;
use serde::Serialize;
use std::collections::BTreeSet;

/// What the weights of some rows are like.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Diagnostics {
    /// Rows.
    pub rows: usize,
    /// Distinct queries among them.
    pub queries: usize,
    /// Effective sample size (Σ w)² / Σ w²: how many rows of equal weight would say as much.
    pub ess: f64,
    /// Largest weight.
    pub weight_max: f64,
    /// The share of all weight that the heaviest row has.
    pub weight_share_max: f64,
    /// Mean weight. It is 1 but for chance, whatever the policies: elsewhere the logged
    /// propensities are wrong, or the largest weights are too rare to have come up.
    pub weight_mean: f64,
    /// Standard error of `weight_mean`.
    pub weight_mean_error: f64,
    /// Share of rows whose weight is above `clip`.
    pub clipped_share: f64,
    /// Share of rows of weight 0: what the target never does.
    pub zero_share: f64,
}

impl Diagnostics {
    /// Of the weights of whole decisions.
    pub fn of(rows: &[Row], clip: f64) -> Self {
        let n = rows.len() as f64;
        if rows.is_empty() {
            return Self::default();
        }
        let weights = || rows.iter().map(Row::weight);
        let (sum, squares) = weights().fold((0.0, 0.0), |(s, q), w| (s + w, q + w * w));
        let largest = weights().fold(0.0, f64::max);
        let share = |of: &dyn Fn(f64) -> bool| weights().filter(|w| of(*w)).count() as f64 / n;
        let mean = sum / n;
        let variance = weights().map(|w| (w - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Self {
            rows: rows.len(),
            queries: rows.iter().map(|row| row.group.as_str()).collect::<BTreeSet<_>>().len(),
            ess: if squares > 0.0 { sum * sum / squares } else { 0.0 },
            weight_max: largest,
            weight_share_max: if sum > 0.0 { largest / sum } else { 0.0 },
            weight_mean: mean,
            weight_mean_error: (variance / n).sqrt(),
            clipped_share: share(&|w| w > clip),
            zero_share: share(&|w| w == 0.0),
        }
    }

    /// Whether there is enough to give an interval.
    ///
    /// # Errors
    /// The first thing that is too little.
    pub fn check(&self, config: &OffPolicyConfig) -> Result<(), Refusal> {
        let (rows, queries) = (self.rows, self.queries);
        if rows < config.rows_min {
            return Err(Refusal::Rows { rows, needed: config.rows_min });
        }
        if queries < config.queries_min {
            return Err(Refusal::Queries { queries, needed: config.queries_min });
        }
        if self.weight_max <= 0.0 {
            return Err(Refusal::NoWeight);
        }
        // One row of nearly all the weight also leaves few effective ones; the sample size is the
        // more general reason.
        if self.ess < config.ess_min {
            return Err(Refusal::Ess { ess: self.ess, rows, needed: config.ess_min });
        }
        if self.weight_share_max > config.weight_share_max {
            let (share, allowed) = (self.weight_share_max, config.weight_share_max);
            return Err(Refusal::Concentrated { share, allowed });
        }
        Ok(())
    }
}

/// Why there is no interval.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Too few rows.
    #[error("not enough support: {rows} usable decisions, {needed} needed")]
    Rows {
        /// There are.
        rows: usize,
        /// There must be.
        needed: usize,
    },
    /// Too few distinct queries to resample.
    #[error("not enough support: {queries} distinct queries, {needed} needed")]
    Queries {
        /// There are.
        queries: usize,
        /// There must be.
        needed: usize,
    },
    /// Too small an effective sample.
    #[error(
        "not enough support: {rows} decisions are worth {ess:.1} effective ones, {needed:.0} \
         needed; the target does what the log seldom tried"
    )]
    Ess {
        /// Effective sample size.
        ess: f64,
        /// Of so many rows.
        rows: usize,
        /// There must be.
        needed: f64,
    },
    /// One decision outweighs the rest.
    #[error(
        "not enough support: one decision carries {:.1}% of the weight, {:.1}% allowed",
        100.0 * .share,
        100.0 * .allowed
    )]
    Concentrated {
        /// Its share.
        share: f64,
        /// Allowed.
        allowed: f64,
    },
    /// The target does nothing that was logged.
    #[error("not enough support: the target never does what was logged")]
    NoWeight,
    /// Most of the traffic was decided without chance.
    #[error(
        "not enough support: {:.1}% of the decisions were not left to chance, {:.1}% allowed",
        100.0 * .share,
        100.0 * .allowed
    )]
    Unexplored {
        /// Share of greedy decisions.
        share: f64,
        /// Allowed.
        allowed: f64,
    },
    /// The rows lack what an estimator needs.
    #[error("the log has no {what}")]
    Missing {
        /// What.
        what: &'static str,
    },
    /// The rule asks for a choice that the log never left to chance.
    #[error("{what} was never random")]
    NeverRandom {
        /// The choice.
        what: &'static str,
    },
    /// Every replicate of the bootstrap has the same value.
    #[error(
        "not enough support: every reward behind the estimate is the same, so nothing says how \
         far it may be off"
    )]
    NoSpread,
    /// Too many replicates of the bootstrap had no value.
    #[error("not enough support: {share:.3} of the bootstrap's replicates have no value")]
    Degenerate {
        /// Their share.
        share: f64,
    },
}

impl Refusal {
    /// Whether most of the traffic of `rows` usable decisions and `greedy` ones was without chance.
    ///
    /// # Errors
    /// [`Refusal::Unexplored`].
    pub fn unexplored(rows: u64, greedy: u64, config: &OffPolicyConfig) -> Result<(), Self> {
        let share = greedy as f64 / (rows + greedy).max(1) as f64;
        let allowed = config.unexplored_share_max;
        if share > allowed { Err(Self::Unexplored { share, allowed }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    fn rows(weights: &[f64]) -> Vec<Row> {
        let row = |(n, w): (usize, &f64)| {
            let mut row = Row::new(format!("d{n}"), format!("q{}", n / 2), &[], &[], 0.0).unwrap();
            row.weights = vec![*w];
            row
        };
        weights.iter().enumerate().map(row).collect()
    }

    #[test]
    fn figures_of_four_weights_worked_by_hand() {
        let found = Diagnostics::of(&rows(&[0.0, 1.0, 1.0, 4.0]), 2.0);
        // (0 + 1 + 1 + 4)² / (0 + 1 + 1 + 16) = 36 / 18.
        assert_eq!((found.ess, found.weight_max, found.weight_mean), (2.0, 4.0, 1.5));
        assert_eq!((found.clipped_share, found.zero_share), (0.25, 0.25));
        assert_eq!((found.rows, found.queries), (4, 2));
        assert!((found.weight_share_max - 4.0 / 6.0).abs() < 1e-15);
        // Deviations -1.5, -0.5, -0.5, 2.5: variance 9/3, error sqrt(3/4).
        assert!((found.weight_mean_error - 0.75_f64.sqrt()).abs() < 1e-15);
    }

    #[test]
    fn each_lack_of_support_is_refused_with_its_reason() {
        let config = OffPolicyConfig {
            rows_min: 4,
            queries_min: 2,
            ess_min: 3.0,
            weight_share_max: 0.4,
            ..OffPolicyConfig::default()
        };
        let refusal = |weights: &[f64]| {
            Diagnostics::of(&rows(weights), 10.0).check(&config).err().map(|e| e.to_string())
        };
        assert_eq!(refusal(&[1.0; 4]), None);
        assert!(refusal(&[1.0; 3]).unwrap().contains("3 usable decisions, 4 needed"));
        assert!(refusal(&[0.0; 4]).unwrap().contains("never does"));
        assert!(refusal(&[9.0, 1.0, 1.0, 1.0]).unwrap().contains("effective"));
        assert!(refusal(&[2.2, 1.0, 1.0, 1.0]).unwrap().contains("42.3%"));
        let few = OffPolicyConfig { queries_min: 3, ..config.clone() };
        let refused = Diagnostics::of(&rows(&[1.0; 4]), 10.0).check(&few).unwrap_err();
        assert_eq!(refused, Refusal::Queries { queries: 2, needed: 3 });
        let refused = Refusal::unexplored(1, 99, &config).unwrap_err();
        assert!(refused.to_string().contains("99.0% of the decisions"));
        Refusal::unexplored(10, 90, &config).unwrap();
    }
}
