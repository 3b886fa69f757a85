//! Shifts of one number a query: of its level, of its spread, or of a share.
//!
//! Bets on the ranks of [`super::ranks`]: with z the normal score of a uniform rank, the likelihood
//! ratios `N(μ, 1) / N(0, 1)` and `N(0, s²) / N(0, 1)` at z have mean 1 exactly, so they are
//! e-values for [`super::detector`]. Normal scores lose nothing against the t-test for normal
//! numbers and gain elsewhere (Chernoff, Savage 1958), and they are blind to the scale.

use super::detector::EDetector;
use super::ranks::{Ranks, normal_quantile};
use rand::Rng;

/// Shifts of the level bet on, in standard deviations of the normal scores.
const SHIFTS: [f64; 8] = [-1.6, -0.8, -0.4, -0.2, 0.2, 0.4, 0.8, 1.6];
/// Factors of the odds of a number above the mean of those before: the sharper bet where numbers
/// are few values (right or wrong), whose normal scores are mostly ties.
const ODDS: [f64; 4] = [0.5, 0.7, 1.4, 2.0];
/// Factors of the spread bet on.
const SPREADS: [f64; 3] = [1.3, 1.7, 2.5];
/// Factors of a share bet on.
const FACTORS: [f64; 4] = [1.5, 2.0, 4.0, 8.0];

/// What is bet on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shift {
    /// The level, up or down.
    Level,
    /// The level, or more spread.
    LevelOrSpread,
    /// More ones among zeros and ones.
    Share,
}

/// Watches one stream of numbers.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    shift: Shift,
    reference: usize,
    ranks: Ranks,
    ones: u64,
    seen: u64,
    sum: f64,
    detector: EDetector,
    settings: (usize, f64),
}

impl Watch {
    /// Bets once it has seen `reference` numbers; `history_max` are kept; alarms at `threshold`.
    pub(super) fn new(
        shift: Shift,
        (reference, history_max): (usize, usize),
        threshold: f64,
    ) -> Self {
        let alternatives = match shift {
            Shift::Level => SHIFTS.len() + ODDS.len(),
            Shift::LevelOrSpread => SHIFTS.len() + SPREADS.len(),
            Shift::Share => FACTORS.len(),
        };
        Self {
            shift,
            reference,
            ranks: Ranks::new(history_max),
            ones: 0,
            seen: 0,
            sum: 0.0,
            detector: EDetector::new(alternatives, threshold),
            settings: (history_max, threshold),
        }
    }

    /// Takes a number; those that are not finite are passed over. `true` at the alarm.
    pub(super) fn absorb(&mut self, value: f64, rng: &mut impl Rng) -> bool {
        if !value.is_finite() {
            return false;
        }
        let known = self.ranks.len();
        // The share that the bet rests on is that of the numbers before this one.
        let share = (self.ones as f64 + 0.5) / (self.seen as f64 + 1.0);
        let above = self.ranks.share_above(self.sum / self.seen.max(1) as f64);
        let place = self.ranks.place(value, rng);
        self.seen += 1;
        self.ones += u64::from(value > 0.5);
        self.sum += value;
        if place.is_restart {
            self.detector.restart();
        }
        if known < self.reference {
            return false;
        }
        let z = normal_quantile(place.p);
        match self.shift {
            Shift::Level => {
                let odds = ODDS.iter().map(|factor| split(place.p, above, *factor));
                self.detector.absorb(SHIFTS.iter().map(|mu| level(z, *mu)).chain(odds))
            }
            Shift::LevelOrSpread => {
                let spreads = SPREADS.iter().map(|s| spread(z, *s));
                self.detector.absorb(SHIFTS.iter().map(|mu| level(z, *mu)).chain(spreads))
            }
            Shift::Share => {
                self.detector.absorb(FACTORS.iter().map(|f| more_ones(place.p, share, *f)))
            }
        }
    }

    /// Forgets everything: what comes is the new reference.
    pub(super) fn rebase(&mut self) {
        let (history_max, threshold) = self.settings;
        *self = Self::new(self.shift, (self.reference, history_max), threshold);
    }

    /// Numbers taken.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    pub(super) fn detector(&self) -> &EDetector {
        &self.detector
    }
}

/// `N(μ, 1) / N(0, 1)` at z.
fn level(z: f64, mu: f64) -> f64 {
    (mu * z - mu * mu / 2.0).exp()
}

/// `N(0, s²) / N(0, 1)` at z.
fn spread(z: f64, s: f64) -> f64 {
    (z * z / 2.0 * (1.0 - 1.0 / (s * s))).exp() / s
}

/// The density that multiplies the odds of the uppermost `share` of the ranks by `factor`.
fn split(p: f64, share: f64, factor: f64) -> f64 {
    let scale = 1.0 - share + factor * share;
    if p > 1.0 - share { factor / scale } else { 1.0 / scale }
}

/// The density that puts `factor` times their share (half of all at most) on the ones, which are
/// the uppermost ranks.
fn more_ones(p: f64, share: f64, factor: f64) -> f64 {
    let share = share.clamp(1e-6, 0.999);
    let raised = (share * factor).min(0.5_f64.max(f64::midpoint(share, 1.0)));
    if p > 1.0 - share { raised / share } else { (1.0 - raised) / (1.0 - share) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    /// Mean over a fine grid of uniform p-values.
    fn mean(e_value: impl Fn(f64) -> f64) -> f64 {
        let n = 200_000;
        (0..n).map(|i| e_value((f64::from(i) + 0.5) / f64::from(n))).sum::<f64>() / f64::from(n)
    }

    #[test]
    fn every_bet_is_fair_on_uniform_ranks() {
        for mu in SHIFTS {
            let mean = mean(|p| level(normal_quantile(p), mu));
            assert!((mean - 1.0).abs() < 2e-3, "level {mu}: {mean}");
        }
        for s in SPREADS {
            // A tail of its own: what lies beyond the grid, and beyond the edge, is missing.
            let mean = mean(|p| spread(normal_quantile(p), s));
            assert!((0.9..1.001).contains(&mean), "spread {s}: {mean}");
        }
        for (share, factor) in [(0.0, 2.0), (0.3, 0.5), (0.6, 1.4), (1.0, 2.0)] {
            let mean = mean(|p| split(p, share, factor));
            assert!((mean - 1.0).abs() < 1e-3, "odds {share}: {mean}");
        }
        for (share, factor) in [(0.01, 4.0), (0.3, 8.0), (0.9, 2.0), (0.5, 1.5)] {
            let mean = mean(|p| more_ones(p, share, factor));
            assert!((mean - 1.0).abs() < 1e-3, "share {share}: {mean}");
        }
    }

    /// Observations until the alarm after `before` unchanged ones; `None` within `most`.
    fn delay(
        shift: Shift,
        (before, most): (u32, u32),
        draw: impl Fn(&mut StdRng, bool) -> f64,
    ) -> Option<u32> {
        let mut rng = StdRng::seed_from_u64(11);
        let mut watch = Watch::new(shift, (100, 10_000), 10_000.0);
        for _ in 0..before {
            let value = draw(&mut rng, false);
            assert!(!watch.absorb(value, &mut rng), "a false alarm");
        }
        (1..=most).find(|_| {
            let value = draw(&mut rng, true);
            watch.absorb(value, &mut rng)
        })
    }

    #[test]
    fn a_shift_of_one_deviation_is_found_within_fifty_on_any_scale() {
        for (scale, sign) in [(1.0, 1.0), (1e6, -1.0)] {
            let draw = |rng: &mut StdRng, is_changed: bool| {
                let z = normal_quantile(rng.random_range(1e-9..1.0));
                scale * (z + if is_changed { sign } else { 0.0 })
            };
            let delay = delay(Shift::Level, (500, 50), draw);
            assert!(delay.is_some(), "scale {scale}");
        }
    }

    #[test]
    fn more_spread_about_the_same_level_is_found() {
        let draw = |rng: &mut StdRng, is_changed: bool| {
            let z = normal_quantile(rng.random_range(1e-9..1.0));
            if is_changed { 2.0 * z } else { z }
        };
        assert!(delay(Shift::LevelOrSpread, (500, 120), draw).is_some());
    }

    #[test]
    fn a_share_of_one_in_a_hundred_that_becomes_one_in_ten_is_found() {
        let draw = |rng: &mut StdRng, is_changed: bool| {
            let share = if is_changed { 0.1 } else { 0.01 };
            f64::from(u8::from(rng.random::<f64>() < share))
        };
        let delay = delay(Shift::Share, (1_000, 200), draw);
        assert!(delay.is_some(), "{delay:?}");
    }

    #[test]
    fn right_answers_that_become_fewer_are_found() {
        let draw = |rng: &mut StdRng, is_changed: bool| {
            let share = if is_changed { 0.4 } else { 0.6 };
            f64::from(u8::from(rng.random::<f64>() < share))
        };
        let delay = delay(Shift::Level, (1_000, 400), draw);
        assert!(delay.is_some(), "{delay:?}");
    }

    #[test]
    fn numbers_that_are_none_are_passed_over() {
        let (mut rng, mut watch) =
            (StdRng::seed_from_u64(0), Watch::new(Shift::Level, (1, 10), 10.0));
        assert!(!watch.absorb(f64::NAN, &mut rng) && !watch.absorb(f64::INFINITY, &mut rng));
        assert_eq!(watch.seen(), 0);
    }
}
