//! Observations of units that send more than one: their moments with the variance between units.
//!
//! A user's queries share the user, so ten of them tell less than ten queries of ten users. Here the
//! mean is over observations and the variance over units, by the delta method for a ratio of sums
//! (Deng, Knoblich and Lu, "Applying the delta method in metric analytics", KDD 2018).

use super::Moments;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// One arm's observations by unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Units {
    /// Units that are told apart at most.
    limit: usize,
    /// Sum and number of a unit's observations, by a hash of the unit.
    seen: HashMap<u64, (f64, u64)>,
    /// The first observation, from which all are counted, so that squares stay small.
    origin: f64,
    observations: u64,
    sum: f64,
    noise: f64,
    /// Sums over units of sum², sum × number and number².
    sums_squared: f64,
    sums_numbers: f64,
    numbers_squared: f64,
}

impl Units {
    /// No observations. At most `limit` units are told apart (≥ 1); an observation of another one is
    /// refused, which leaves a sample of those that came first.
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Adds an observation of the unit with this hash, known to carry the variance `noise` (see
    /// [`Moments::push`]). False, and nothing added, for a new unit beyond the limit.
    pub fn push(&mut self, unit: u64, value: f64, noise: f64) -> bool {
        if self.seen.len() >= self.limit && !self.seen.contains_key(&unit) {
            return false;
        }
        if self.observations == 0 {
            self.origin = value;
        }
        let value = value - self.origin;
        let (sum, number) = self.seen.entry(unit).or_default();
        let before = *number as f64;
        self.sums_squared += value * (2.0 * *sum + value);
        self.sums_numbers += *sum + value * (before + 1.0);
        self.numbers_squared += 2.0 * before + 1.0;
        *sum += value;
        *number += 1;
        self.observations += 1;
        self.sum += value;
        self.noise += noise;
        true
    }

    /// Units seen.
    pub fn count(&self) -> usize {
        self.seen.len()
    }

    /// Observations counted.
    pub fn observations(&self) -> u64 {
        self.observations
    }

    /// The mean over observations as that of `count()` independent units: what every bound of
    /// [`super`] takes. The same as pushing one by one where every unit sent one.
    pub fn moments(&self) -> Moments {
        let (units, observations) = (self.seen.len() as f64, self.observations as f64);
        if self.observations == 0 {
            return Moments::default();
        }
        let mean = self.sum / observations;
        // Sum over units of (sum - mean × number)².
        let residual =
            self.sums_squared - 2.0 * mean * self.sums_numbers + mean * mean * self.numbers_squared;
        let per_unit = observations / units;
        Moments {
            count: self.seen.len() as u64,
            mean: self.origin + mean,
            m2: residual.max(0.0) / (per_unit * per_unit),
            noise: self.noise / (observations * per_unit),
        }
    }
}
