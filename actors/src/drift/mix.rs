//! Shifts of the query mix: does the newest query look like those of some time ago?
//!
//! A two-sample test by betting (Shekhar, Ramdas 2023; Podkopaev, Ramdas 2023; Lhéritier, Cazals
//! 2018). Each query goes, by a coin, to a bank of queries that nothing has looked at, or is
//! tested: paired with the oldest of the bank, each of which serves once. While both come from one
//! law, to swap the two changes nothing, so for any direction w chosen before, `2σ(w · (new −
//! old))` has mean 1 given the past, exactly: an e-value for [`super::detector`]. The direction is
//! learned from the pairs before: the difference of their means by the variance of each place, a
//! linear discriminant.
//!
//! So the reference is a window that slides, `bank` queries long and as many unlooked-at ones away,
//! its false alarms are bounded for ever, and a shift must show itself within that time.

use super::detector::EDetector;
use rand::Rng;
use std::collections::VecDeque;

/// The discriminant is trusted at these shares: early on it is mostly noise.
const TRUST: [f64; 4] = [0.1, 0.3, 0.6, 1.0];
/// Share of the newest pair in the means.
const FORGET: f64 = 1.0 / 80.0;
/// Variance that every place has at least, relative to the mean variance of all.
const VARIANCE_MIN: f64 = 0.1;
/// Log-odds of one pair are cut off here.
const ODDS_MAX: f64 = 6.0;

/// Watches vectors of one length.
#[derive(Debug, Clone)]
pub(super) struct MixWatch {
    bank_max: usize,
    threshold: f64,
    bank: VecDeque<Vec<f32>>,
    is_filled: bool,
    mean: Vec<f64>,
    square: Vec<f64>,
    pairs: u64,
    seen: u64,
    detector: EDetector,
}

impl MixWatch {
    /// The bank's length (≥ 1) and the alarm's threshold in queries.
    pub(super) fn new(bank_max: usize, threshold: f64) -> Self {
        Self {
            bank_max: bank_max.max(1),
            threshold,
            bank: VecDeque::new(),
            is_filled: false,
            mean: Vec::new(),
            square: Vec::new(),
            pairs: 0,
            seen: 0,
            // Half of the queries are tested, and the threshold counts tests.
            detector: EDetector::new(TRUST.len(), threshold / 2.0),
        }
    }

    /// Takes the vector of one query; `true` at the alarm. Vectors of another length than before
    /// begin a new reference: they are of another embedder.
    pub(super) fn absorb(&mut self, vector: Vec<f32>, rng: &mut impl Rng) -> bool {
        if vector.iter().any(|v| !v.is_finite()) {
            return false;
        }
        if self.bank.back().is_some_and(|known| known.len() != vector.len()) {
            self.rebase();
        }
        self.seen += 1;
        // The coin is thrown every time, so that what is banked depends on nothing else.
        let is_banked = rng.random::<bool>() || !self.is_filled;
        let old = if is_banked { None } else { self.bank.pop_front() };
        let Some(old) = old else {
            self.bank.push_back(vector);
            self.is_filled |= self.bank.len() >= self.bank_max;
            if self.bank.len() > self.bank_max * 2 {
                self.bank.pop_front();
            }
            return false;
        };
        let difference: Vec<f64> =
            vector.iter().zip(&old).map(|(new, old)| f64::from(*new) - f64::from(*old)).collect();
        let odds = self.odds(&difference);
        let alarm = self.detector.absorb(TRUST.iter().map(|trust| pair(trust * odds)));
        self.learn(&difference);
        alarm
    }

    /// Log-odds that the first of the pair is the newer, by what the pairs before have taught.
    fn odds(&self, difference: &[f64]) -> f64 {
        if self.pairs == 0 {
            return 0.0;
        }
        let variances: Vec<f64> =
            self.square.iter().zip(&self.mean).map(|(s, m)| (s - m * m).max(0.0)).collect();
        let typical = variances.iter().sum::<f64>() / variances.len().max(1) as f64;
        if typical <= 0.0 {
            return 0.0;
        }
        let terms = difference.iter().zip(&self.mean).zip(&variances);
        // The variance of a difference is twice that of one side.
        let odds: f64 = terms.map(|((d, m), v)| d * m / ((v + VARIANCE_MIN * typical) / 2.0)).sum();
        odds.clamp(-ODDS_MAX, ODDS_MAX)
    }

    fn learn(&mut self, difference: &[f64]) {
        self.mean.resize(difference.len(), 0.0);
        self.square.resize(difference.len(), 0.0);
        self.pairs += 1;
        let share = FORGET.max(1.0 / self.pairs as f64);
        for ((mean, square), d) in self.mean.iter_mut().zip(&mut self.square).zip(difference) {
            *mean += share * (d - *mean);
            *square += share * (d * d - *square);
        }
    }

    /// Forgets everything: what comes is the new reference.
    pub(super) fn rebase(&mut self) {
        *self = Self::new(self.bank_max, self.threshold);
    }

    /// Queries taken.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    pub(super) fn detector(&self) -> &EDetector {
        &self.detector
    }
}

/// `2σ(odds)`: with the two of a pair swapped the odds change their sign, and the two e-values add
/// up to 2.
fn pair(odds: f64) -> f64 {
    2.0 / (1.0 + (-odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn vector(rng: &mut StdRng, shift: f32) -> Vec<f32> {
        (0..8).map(|i| rng.random_range(-1.0..1.0) + if i < 4 { shift } else { 0.0 }).collect()
    }

    #[test]
    fn the_e_values_of_a_pair_and_its_swap_have_mean_one() {
        for odds in [0.0, 0.3, -2.0, 6.0] {
            assert!((f64::midpoint(pair(odds), pair(-odds)) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn a_shift_is_found_before_the_bank_has_been_used_up() {
        let (mut rng, mut watch) = (StdRng::seed_from_u64(5), MixWatch::new(200, 100_000.0));
        let quiet = (0..1_000).all(|_| {
            let vector = vector(&mut rng, 0.0);
            !watch.absorb(vector, &mut rng)
        });
        assert!(quiet, "a false alarm");
        let delay = (1..=400).find(|_| {
            let vector = vector(&mut rng, 0.5);
            watch.absorb(vector, &mut rng)
        });
        assert!(delay.is_some_and(|d| d < 200), "{delay:?}");
    }

    #[test]
    fn false_alarms_stay_below_their_bound() {
        let mut alarms = 0;
        for seed in 0..100 {
            let (mut rng, mut watch) = (StdRng::seed_from_u64(seed), MixWatch::new(50, 4_000.0));
            alarms += u32::from((0..1_000).any(|_| {
                let vector = vector(&mut rng, 0.0);
                watch.absorb(vector, &mut rng)
            }));
        }
        // At most 1,000 of 4,000 by the bound; four binomial deviations above it.
        assert!(alarms <= 25 + 18, "{alarms} of 100");
    }

    #[test]
    fn another_embedder_is_another_reference() {
        let (mut rng, mut watch) = (StdRng::seed_from_u64(5), MixWatch::new(10, 100.0));
        assert!((0..50).all(|_| !watch.absorb(vec![0.0; 4], &mut rng)));
        assert!(!watch.absorb(vec![9.0; 6], &mut rng));
        assert_eq!(watch.seen(), 1);
    }
}
