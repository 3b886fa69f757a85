//! Ranks of numbers among all that came before: the scale falls away, and what is left is known.
//!
//! While the numbers are exchangeable (nothing changed), the rank of each among those before it,
//! ties broken at random, is uniform and independent of the ranks before: smoothed conformal
//! p-values (Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", Theorem 8.2 of the
//! 2nd ed.). So bets on them are fair exactly, whatever the distribution and whatever the scale of
//! a score, and nothing has to be estimated. The price: numbers after a change join those before
//! and dull the comparison, so a reference should be longer than the delay that one hopes for.

use rand::Rng;
use std::collections::VecDeque;

/// P-values stay this far from 0 and 1, so that normal scores stay within ±4.8.
const EDGE: f64 = 1e-6;

/// The numbers so far.
#[derive(Debug, Clone)]
pub(super) struct Ranks {
    sorted: Vec<f64>,
    arrived: VecDeque<f64>,
    history_max: usize,
}

/// One number's place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    /// In (0, 1); uniform while nothing changes.
    pub(super) p: f64,
    /// Whether the older half of the history was forgotten before: ranks begin anew.
    pub(super) is_restart: bool,
}

impl Ranks {
    /// Keeps at most `history_max` numbers (≥ 2).
    pub(super) fn new(history_max: usize) -> Self {
        let history_max = history_max.max(2);
        Self { sorted: Vec::new(), arrived: VecDeque::new(), history_max }
    }

    /// Places a finite number among those before, then keeps it.
    pub(super) fn place(&mut self, value: f64, rng: &mut impl Rng) -> Place {
        let is_restart = self.arrived.len() >= self.history_max;
        if is_restart {
            self.arrived.drain(..self.history_max / 2);
            self.sorted = self.arrived.iter().copied().collect();
            self.sorted.sort_by(f64::total_cmp);
        }
        let below = self.sorted.partition_point(|known| *known < value);
        let up_to = self.sorted.partition_point(|known| *known <= value);
        let ties = (up_to - below) as f64;
        let rank = below as f64 + rng.random::<f64>() * (ties + 1.0);
        let p = (rank / (self.sorted.len() as f64 + 1.0)).clamp(EDGE, 1.0 - EDGE);
        self.sorted.insert(up_to, value);
        self.arrived.push_back(value);
        Place { p, is_restart }
    }

    /// Share of the numbers kept that lie above `value`; 0 of none.
    pub(super) fn share_above(&self, value: f64) -> f64 {
        let up_to = self.sorted.partition_point(|known| *known <= value);
        (self.sorted.len() - up_to) as f64 / self.sorted.len().max(1) as f64
    }

    /// Numbers kept.
    pub(super) fn len(&self) -> usize {
        self.arrived.len()
    }
}

/// Quantile of the standard normal distribution for `p` in (0, 1).
///
/// Source: Acklam's rational approximation; relative error below 1.2e-9.
pub(super) fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] = [
        7.784_695_709_041_462e-3,
        3.224_671_290_700_398e-1,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
        1.0,
    ];
    const TAIL: f64 = 0.024_25;
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / polynomial(&D, q)
    };
    if p < TAIL {
        tail(p)
    } else if p > 1.0 - TAIL {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        let r = q * q;
        q * polynomial(&A, r) / polynomial(&B, r)
    }
}

fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    #[test]
    fn quantiles_equal_the_tables() {
        for (p, z) in [
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_054),
            (0.841_344_746_068_543, 1.0),
            (0.001, -3.090_232_306_167_813),
            (0.999_999, 4.753_424_308_822_899),
        ] {
            assert!((normal_quantile(p) - z).abs() < 1e-7, "{p}: {}", normal_quantile(p));
        }
    }

    #[test]
    fn places_of_one_law_are_uniform_with_ties_too() {
        let mut rng = StdRng::seed_from_u64(3);
        // Three values only: two thirds of all comparisons are ties.
        let mut ranks = Ranks::new(50_000);
        let places: Vec<f64> = (0..20_000)
            .map(|_| {
                let value = f64::from(rng.random_range(0..3_u8));
                ranks.place(value, &mut rng).p
            })
            .collect();
        for tenth in 0..10 {
            let within = |p: &&f64| (**p * 10.0).floor() as i32 == tenth;
            let share = places.iter().filter(within).count() as f64 / 20_000.0;
            assert!((share - 0.1).abs() < 0.01, "tenth {tenth}: {share}");
        }
    }

    #[test]
    fn a_full_history_forgets_its_older_half() {
        let (mut rng, mut ranks) = (StdRng::seed_from_u64(1), Ranks::new(4));
        let starts: Vec<bool> =
            (0..8).map(|i| ranks.place(f64::from(i), &mut rng).is_restart).collect();
        assert_eq!(starts, [false, false, false, false, true, false, true, false]);
        assert_eq!(ranks.len(), 4);
        // Kept are 4, 5, 6 and 7.
        assert!((ranks.share_above(5.0) - 0.5).abs() < 1e-12);
        assert!(ranks.place(-1.0, &mut rng).p < 0.34, "the least of three");
    }
}
