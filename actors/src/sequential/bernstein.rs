//! The empirical-Bernstein confidence sequence of bounded observations, one at a time.
//!
//! Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B
//! 86(1), 2024, theorem 2: predictable plug-in bets, valid at every sample size for any
//! distribution on the range, also for means that are the same given the past without independence.

use super::Interval;

/// The largest bet, the `c` of the paper.
const BET_MAX: f64 = 0.5;

/// Bounds of a mean that hold at all sample sizes at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmpiricalBernstein {
    low: f64,
    span: f64,
    /// `ln(1 / error of one side)`.
    price: f64,
    count: f64,
    sum: f64,
    /// Sum of squared deviations, each from the mean that includes its observation.
    deviations: f64,
    bets: f64,
    gains: f64,
    cost: f64,
    /// Running intersection, on the unit scale.
    within: Interval,
}

impl EmpiricalBernstein {
    /// Both bounds at once miss with probability at most `alpha`.
    ///
    /// `None` for a range that is empty or not finite, or an `alpha` out of (0, 1).
    pub fn two_sided(range: (f64, f64), alpha: f64) -> Option<Self> {
        Self::one_sided(range, alpha / 2.0)
    }

    /// Each bound by itself misses with probability at most `alpha`; use one. `None` as above.
    pub fn one_sided(range: (f64, f64), alpha: f64) -> Option<Self> {
        let (low, span) = (range.0, range.1 - range.0);
        let usable = span > 0.0 && low.is_finite() && span.is_finite();
        (usable && alpha > 0.0 && alpha < 1.0).then(|| Self {
            low,
            span,
            price: -alpha.ln(),
            count: 0.0,
            sum: 0.0,
            deviations: 0.0,
            bets: 0.0,
            gains: 0.0,
            cost: 0.0,
            within: Interval { low: 0.0, high: 1.0 },
        })
    }

    /// Adds an observation; `None`, and nothing added, if it is out of the range.
    pub fn push(&mut self, value: f64) -> Option<()> {
        let scaled = (value - self.low) / self.span;
        if !(0.0..=1.0).contains(&scaled) {
            return None;
        }
        // The bet and the centre know only the observations before this one, with one made up.
        let centre = (0.5 + self.sum) / (self.count + 1.0);
        let variance = (0.25 + self.deviations) / (self.count + 1.0);
        self.count += 1.0;
        let horizon = variance * self.count * (1.0 + self.count).ln();
        let bet = (2.0 * self.price / horizon).sqrt().min(BET_MAX);
        self.bets += bet;
        self.gains += bet * scaled;
        // `v psi_E(bet)`: four times the squared deviation, a quarter of the cumulant.
        self.cost += (scaled - centre).powi(2) * (-(-bet).ln_1p() - bet);
        self.sum += scaled;
        let mean = (0.5 + self.sum) / (self.count + 1.0);
        self.deviations += (scaled - mean).powi(2);
        let now = Interval::around(self.gains / self.bets, (self.price + self.cost) / self.bets);
        self.within = self.within.intersection(&now);
        Some(())
    }

    /// Everything that no look so far has excluded; the whole range before the first observation.
    pub fn interval(&self) -> Interval {
        let scale = |unit: f64| self.low + self.span * unit;
        Interval { low: scale(self.within.low), high: scale(self.within.high) }
    }
}
