//! Which of two policies is preferred, over the queries so far: an anytime-valid sign test.

use crate::sequential::Interval;
use crate::sequential::confidence::Estimate;
use crate::sequential::ratio::mismatch;
use serde::{Deserialize, Serialize};

/// Who won a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A's picks were worth more.
    AWins,
    /// B's picks were worth more.
    BWins,
    /// Neither's.
    Tie,
}

/// Counts of outcomes of independent queries, and what they prove.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preference {
    /// Queries that A won.
    pub wins_a: u64,
    /// Queries that B won.
    pub wins_b: u64,
    /// Queries that neither won.
    pub ties: u64,
    /// The smallest p-value of the looks so far.
    p: f64,
}

impl Default for Preference {
    fn default() -> Self {
        Self { wins_a: 0, wins_b: 0, ties: 0, p: 1.0 }
    }
}

impl Preference {
    /// Counts a query.
    pub fn push(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::AWins => self.wins_a += 1,
            Outcome::BWins => self.wins_b += 1,
            Outcome::Tie => self.ties += 1,
        }
        if outcome != Outcome::Tie {
            self.p = self.p.min(1.0 / self.e_value());
        }
    }

    /// Queries so far.
    pub fn count(&self) -> u64 {
        self.wins_a + self.wins_b + self.ties
    }

    /// `(wins_b + ties/2) / n - 1/2`, in [-1/2, 1/2]: above 0, B is preferred. 0 without queries.
    pub fn statistic(&self) -> f64 {
        let count = self.count().max(1) as f64;
        (self.wins_b as f64 - self.wins_a as f64) / (2.0 * count)
    }

    /// Evidence against "a query that does not tie is B's with probability 1/2": the likelihood
    /// ratio of a Beta-Binomial mixture to the fair coin ([`mismatch`]). An e-value at any look.
    pub fn e_value(&self) -> f64 {
        mismatch((self.wins_b, self.wins_a), 0.5)
    }

    /// The always-valid p-value of that test: smallest over the looks, two-sided, exact for every
    /// number of queries.
    pub fn p_value(&self) -> f64 {
        self.p
    }

    /// The winner at error `alpha` over all looks, or `Tie` while there is none.
    pub fn winner(&self, alpha: f64) -> Outcome {
        match self.wins_a.cmp(&self.wins_b) {
            _ if self.p > alpha => Outcome::Tie,
            std::cmp::Ordering::Greater => Outcome::AWins,
            std::cmp::Ordering::Less => Outcome::BWins,
            std::cmp::Ordering::Equal => Outcome::Tie,
        }
    }

    /// The confidence sequence of the statistic's mean at error `alpha`, tightest at `tuned_for`
    /// queries. Robbins' normal mixture with variance 1/4, which no outcome on [-1/2, 1/2] exceeds
    /// (Hoeffding), so it is valid at every number of queries, the first included.
    ///
    /// `None` without queries, for an `alpha` out of (0, 1) or a `tuned_for` below 1.
    pub fn interval(&self, alpha: f64, tuned_for: f64) -> Option<Interval> {
        let count = self.count();
        let estimate = Estimate { value: self.statistic(), count: count as f64, variance: 0.25 };
        (count > 0).then(|| estimate.two_sided(alpha, tuned_for))?
    }
}
