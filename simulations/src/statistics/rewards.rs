//! Rewards as judged answers have them: many 0, many 1, and the rest in between.

use actors::sequential::Moments;
use rand::{Rng, RngCore};

/// Share of answers worth nothing.
const ZERO: f64 = 0.35;
/// Share of answers worth everything; the rest is uniform between.
const ONE: f64 = 0.30;
/// Mean reward of the policy in service, `0.30 + 0.35 / 2`.
pub const MEAN: f64 = ONE + (1.0 - ZERO - ONE) / 2.0;

/// The rewards of a policy whose mean is that of the policy in service times `1 + effect`: answers
/// go from worth everything to worth nothing, or back.
#[derive(Clone, Copy, Debug)]
pub struct Rewards {
    zero: u32,
    one: u32,
    scale: f64,
}

impl Rewards {
    /// `effect` is relative: -0.02 is 2% worse. Within [-0.5, 0.5].
    pub fn with_effect(effect: f64) -> Self {
        let moved = (effect * MEAN).clamp(-ONE, ZERO);
        let bound = |share: f64| (share * f64::from(u32::MAX)) as u32;
        let (zero, one) = (bound(ZERO - moved), bound(1.0 - ONE - moved));
        Self { zero, one, scale: 1.0 / f64::from(one - zero) }
    }

    /// The reward of an answer whose luck is `luck`.
    pub fn at(&self, luck: u32) -> f64 {
        if luck < self.zero {
            0.0
        } else if luck >= self.one {
            1.0
        } else {
            f64::from(luck - self.zero) * self.scale
        }
    }

    /// One reward.
    pub fn draw(&self, rng: &mut impl RngCore) -> f64 {
        self.at(rng.next_u32())
    }

    /// The moments of `count` rewards. The sums are short and start at 0, so no precision is lost.
    pub fn batch(&self, count: u64, rng: &mut impl Rng) -> Moments {
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..count {
            let reward = self.draw(rng);
            sum += reward;
            squares += reward * reward;
        }
        let mean = sum / count.max(1) as f64;
        Moments { count, mean, m2: (squares - sum * mean).max(0.0), noise: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    #[test]
    fn an_effect_is_a_share_of_the_mean() {
        let mut rng = SmallRng::seed_from_u64(1);
        for effect in [-0.05, 0.0, 0.02] {
            let seen = Rewards::with_effect(effect).batch(1_000_000, &mut rng);
            // Standard error 0.00044.
            assert!((seen.mean - MEAN * (1.0 + effect)).abs() < 0.002, "{effect}: {seen:?}");
            // E x² - mean² = 0.30 + 0.35/3 - 0.475².
            assert!((seen.variance() - 0.191).abs() < 0.005, "{effect}: {seen:?}");
        }
    }
}
