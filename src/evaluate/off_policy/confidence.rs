//! A confidence sequence of a policy's mean reward: an interval that holds at every sample size at
//! once, however long one looks and whenever one stops.
//!
//! Empirical Bernstein, one side at a time (Waudby-Smith & Ramdas, "Estimating means of bounded
//! random variables by betting", 2024, theorem 2; Karampatziakis, Mineiro & Ramdas, "Off-policy
//! confidence sequences", 2021). The lower side needs values that are ≥ 0 with a mean up to 1 and
//! no bound above, so weights need none either: `w (r - r_min) / (r_max - r_min)` is such a value,
//! and with the range turned round it gives the upper side. Knows weighted values only.

/// Most that is bet on one value; below 1.
const BET_MAX: f64 = 0.5;

/// A number that lies below the mean of `values` with probability `1 - alpha`, at every length of
/// the sequence at once.
///
/// values: each ≥ 0, independent, in the order they came in, with a common mean up to 1. 0 of none.
pub(super) fn lower_bound(values: &[f64], alpha: f64) -> f64 {
    let threshold = (1.0 / alpha).ln();
    let (mut bet_sum, mut won, mut cost) = (0.0, 0.0, 0.0);
    // Estimates before anything is seen are of one value of 1/2 with variance 1/4.
    let (mut sum, mut squares, mut bound) = (0.5_f64, 0.25_f64, 0.0_f64);
    for (t, &value) in values.iter().enumerate() {
        let seen = t as f64 + 1.0;
        let mean = (sum / seen).clamp(0.0, 1.0);
        let variance = squares / seen;
        let bet = (2.0 * threshold / (variance * seen * (seen + 1.0).ln())).sqrt().min(BET_MAX);
        bet_sum += bet;
        won += bet * value;
        // ψ(λ) = -ln(1 - λ) - λ.
        cost += (value - mean).powi(2) * (-(1.0 - bet).ln() - bet);
        bound = bound.max((won - cost - threshold) / bet_sum);
        sum += value;
        let mean = (sum / (seen + 1.0)).clamp(0.0, 1.0);
        squares += (value - mean).powi(2);
    }
    bound
}

/// An interval of the mean reward of the target at every sample size at once, with probability
/// `1 - alpha`; `None` of no rows, or where a reward lies outside `range`.
///
/// rows: `(weight, reward)` in the order they came in.
pub(super) fn interval(rows: &[(f64, f64)], range: [f64; 2], alpha: f64) -> Option<(f64, f64)> {
    let [low, high] = range;
    if rows.is_empty() || rows.iter().any(|(_, r)| *r < low || *r > high) {
        return None;
    }
    let width = high - low;
    let above: Vec<f64> = rows.iter().map(|(w, r)| w * (r - low) / width).collect();
    let below: Vec<f64> = rows.iter().map(|(w, r)| w * (high - r) / width).collect();
    let (bottom, top) = (lower_bound(&above, alpha / 2.0), lower_bound(&below, alpha / 2.0));
    Some((low + width * bottom, high - width * top))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    #[test]
    fn the_first_bound_worked_by_hand() {
        // One value of 1, α = 0.1: bet min(sqrt(2 ln 10 / (0.25 ln 2)), 1/2) = 1/2, cost
        // (1 - 1/2)² (ln 2 - 1/2); the bound (0.5 - 0.0483 - 2.3026) / 0.5 is below 0.
        assert_eq!(lower_bound(&[1.0], 0.1), 0.0);
        // Two thousand ones: it closes in on 1.
        let bound = lower_bound(&[1.0; 2_000], 0.1);
        assert!(bound > 0.97 && bound < 1.0, "{bound}");
        assert_eq!(lower_bound(&[], 0.1), 0.0);
    }

    #[test]
    fn it_covers_at_every_length_at_once() {
        // Behaviour takes action 1 with probability 0.5 and the target with 0.8; rewards 0.7 and
        // 0.2 of being 1: the target's mean is 0.6.
        let missed = (0..400).filter(|seed| {
            let mut rng = StdRng::seed_from_u64(*seed);
            let rows: Vec<(f64, f64)> = (0..400)
                .map(|_| {
                    let (weight, mean) = if rng.random_bool(0.5) { (1.6, 0.7) } else { (0.4, 0.2) };
                    (weight, f64::from(u8::from(rng.random_bool(mean))))
                })
                .collect();
            let (low, high) = interval(&rows, [0.0, 1.0], 0.1).unwrap();
            // Each side is the best of all its lengths, so this looks at every one of them.
            !(low..=high).contains(&0.6)
        });
        let missed = missed.count();
        assert!(missed <= 40, "{missed} of 400 missed at a nominal 10%");
    }

    #[test]
    fn a_reward_outside_its_range_gives_none() {
        assert_eq!(interval(&[(1.0, 1.2)], [0.0, 1.0], 0.05), None);
        assert_eq!(interval(&[], [0.0, 1.0], 0.05), None);
    }
}
